import gzip

import numpy as np
import pytest

from striate.data.canon import read_fsdd, read_polarity, read_usps
from striate.data.named import read_named
from striate.errors import DataError


def digits(folder, part, rows):
    with gzip.open(folder / f"zip.{part}.gz", "wt") as file:
        for label, ink in rows:
            file.write(" ".join([f"{label:.4f}", *[f"{ink:.3f}"] * 256]) + "\n")


def test_usps_is_read_with_its_split(tmp_path, monkeypatch):
    (tmp_path / "usps-zip").mkdir()
    digits(tmp_path / "usps-zip", "train", [(3, -1.0), (5, 1.0)])
    digits(tmp_path / "usps-zip", "test", [(5, 0.0)])
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    samples = read_named("usps")
    assert samples.arrays.shape == (3, 1, 16, 16)
    assert samples.arrays[:, 0, 0, 0].tolist() == [0.0, 1.0, 0.5]
    assert [samples.classes[k] for k in samples.labels] == ["3", "5", "5"]
    assert samples.splits.tolist() == ["train", "train", "test"]


def test_damaged_digits_are_said(tmp_path):
    digits(tmp_path, "train", [(3, -1.0)])
    (tmp_path / "zip.test.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"zip.test.gz: wanted rows of a label and 256 numbers"):
        read_usps(tmp_path)


def test_spoken_digits_have_their_official_test(tmp_path):
    (tmp_path / "recordings").mkdir()
    for name in ("7_jackson_4", "7_jackson_5", "0_theo_49", "README"):
        (tmp_path / "recordings" / f"{name}.wav").write_bytes(b"")
    samples = read_fsdd(tmp_path)
    assert samples.kind == "sound"
    assert samples.names == ("0_theo_49.wav", "7_jackson_4.wav", "7_jackson_5.wav")
    assert samples.splits.tolist() == ["train", "test", "train"]
    assert np.array(samples.classes)[samples.labels].tolist() == ["0", "7", "7"]


def test_no_recordings_are_said(tmp_path):
    with pytest.raises(DataError, match=r"wanted recordings such as 7_jackson_32\.wav; got none"):
        read_fsdd(tmp_path)


@pytest.mark.parametrize("name", ["usps", "fsdd", "rt-polarity"])
def test_without_a_copy_the_place_for_one_is_named(name, tmp_path, monkeypatch):
    monkeypatch.delenv("STRIATE_DATA", raising=False)
    with pytest.raises(DataError, match=f"{name}: no local copy; put one into"):
        read_named(name, home=tmp_path)


def test_film_reviews_are_numbers_of_words(tmp_path):
    (tmp_path / "rt-polarity.neg").write_bytes("not good .\nvery bad , clichéd\n".encode("latin-1"))
    (tmp_path / "rt-polarity.pos").write_bytes(b"very good .\n\n")
    samples = read_polarity(tmp_path)
    assert samples.kind == "text"
    assert samples.words == (".", "good", "very")
    assert samples.labels.tolist() == [0, 0, 1]
    assert samples.arrays.shape == (3, 1, 8)
    assert samples.arrays[2, 0, :4].tolist() == [4, 3, 2, 0]
    assert samples.names[2] == "rt-polarity.pos#0"
