"""choose_spec: what the headers say, what the user names, what most files have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data import choice as choice_module
from striate.data.choice import choose_spec
from striate.data.samples import Samples
from striate.errors import DataError
from striate.spec import Spec


def photo(path, size=(12, 10), mode="RGB", seed=0):
    """Save a smooth random picture; the suffix names the format."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size).convert(mode).save(path)
    return path


def samples_of(root, *files):
    n = len(files)
    return Samples(
        root=root,
        kind="image",
        names=tuple(path.relative_to(root).as_posix() for path in files),
        classes=("a", "b"),
        labels=np.arange(n) % 2,
        splits=np.full(n, ""),
        files=tuple(files),
    )


def arrays_of(x):
    n = len(x)
    names = tuple(f"x#{i}" for i in range(n))
    return Samples(
        Path("memory"), "image", names, ("a", "b"), np.arange(n) % 2, np.full(n, ""), arrays=x
    )


def test_series_and_volumes_keep_their_size_whatever_it_is():
    for kind, shape in (("series", (2, 3, 1000)), ("volume", (2, 1, 300, 5, 6))):
        samples = replace(arrays_of(np.zeros(shape, np.float32)), kind=kind)
        assert choose_spec(samples).shape == choose_spec(samples, max(shape)).shape == shape[1:]
        assert choose_spec(samples).kind == kind
        with pytest.raises(DataError, match=r"only pictures .* --size 64.*leave --size"):
            choose_spec(samples, 64)


def test_equal_small_pictures_keep_their_size(tmp_path):
    files = [photo(tmp_path / f"{i}.png", (20, 12), mode="L", seed=i) for i in range(3)]
    spec = choose_spec(samples_of(tmp_path, *files))
    assert spec == Spec(channels=1, size=(12, 20), classes=("a", "b"))


@pytest.mark.parametrize(
    ("sizes", "side"),
    [([(40, 70), (50, 60)], 32), ([(99, 100), (120, 99)], 96), ([(300, 300)] * 2, 128)],
)
def test_other_pictures_get_their_median_short_side(tmp_path, sizes, side):
    files = [photo(tmp_path / f"{i}.png", size) for i, size in enumerate(sizes)]
    assert choose_spec(samples_of(tmp_path, *files)).size == (side, side)


def test_a_given_size_and_rule_win(tmp_path):
    spec = choose_spec(samples_of(tmp_path, photo(tmp_path / "a.png")), 24, "crop")
    assert (spec.size, spec.resize) == ((24, 24), "crop")


@pytest.mark.parametrize(
    ("modes", "channels"),
    [("L L", 1), ("L RGB", 3), ("L P", 3), ("RGBA RGB", 3), ("RGBA RGBA RGB", 4), ("RGBA L L", 3)],
)
def test_channels_follow_the_files(tmp_path, modes, channels):
    files = [photo(tmp_path / f"{i}.png", mode=mode) for i, mode in enumerate(modes.split())]
    assert choose_spec(samples_of(tmp_path, *files)).channels == channels


def test_most_files_choose_the_dtype(tmp_path):
    deep = [tmp_path / f"{i}.png" for i in range(2)]
    for path in deep:
        Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(path)
    flat = photo(tmp_path / "c.png", mode="L")
    assert choose_spec(samples_of(tmp_path, *deep, flat)).dtype == "uint16"
    assert choose_spec(samples_of(tmp_path, deep[0], flat)).dtype == "uint8"


def test_arrays_keep_shape_and_dtype():
    x = np.zeros((3, 2, 5, 6), np.float32)
    assert choose_spec(arrays_of(x)) == Spec(
        channels=2, size=(5, 6), dtype="float32", classes=("a", "b")
    )


def test_unreadable_files_do_not_choose(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    good = photo(tmp_path / "a.png", (8, 8), mode="L")
    assert choose_spec(samples_of(tmp_path, bad, good)).size == (8, 8)
    with pytest.raises(DataError, match=r"none of 1 files .* bad.png: is not an image"):
        choose_spec(samples_of(tmp_path, bad))
    with pytest.raises(DataError, match=r"no samples in .*wanted at least one"):
        choose_spec(samples_of(tmp_path))


def test_headers_of_a_bounded_number_of_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(choice_module, "MOST_PROBED", 3)
    read = []
    probe = choice_module.probe
    monkeypatch.setattr(choice_module, "probe", lambda path: read.append(path) or probe(path))
    choose_spec(samples_of(tmp_path, *[photo(tmp_path / f"{i}.png") for i in range(6)]))
    assert len(read) == 3
