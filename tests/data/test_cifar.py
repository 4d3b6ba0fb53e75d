import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from striate.data.cifar import read_arrays
from striate.data.readers import read
from striate.errors import DataError

ROWS = 4


def pixels(seed, rows=ROWS):
    return np.random.default_rng(seed).integers(0, 256, (rows, 3072), np.uint8)


def write_python(folder, protocol=2):
    folder.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        held = {b"data": pixels(seed), b"labels": [0, 1, 2, seed % 3], b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(held, protocol))
    meta = {"label_names": ["plane", "car", "bird"], "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol))


@pytest.mark.parametrize("protocol", [0, 2, 3])
@pytest.mark.parametrize("inside", [True, False])
def test_the_python_layout_is_read(tmp_path, protocol, inside):
    folder = tmp_path / "cifar-10-batches-py"
    write_python(folder, protocol)
    found = read(folder if inside else tmp_path)
    assert found.arrays.shape == (6 * ROWS, 3, 32, 32)
    assert np.array_equal(found.arrays[ROWS : 2 * ROWS], pixels(1).reshape(-1, 3, 32, 32))
    assert found.classes == ("plane", "car", "bird")
    assert found.labels[:8].tolist() == [0, 1, 2, 0, 0, 1, 2, 1]
    assert found.splits.tolist() == ["train"] * 20 + ["test"] * 4
    assert found.names[-1] == "test_batch#3"
    assert read(folder, labelled=False).labels.max() == -1


def test_fine_labels_of_cifar_100_are_read(tmp_path):
    for seed, name in enumerate(("train", "test")):
        held = {b"data": pixels(seed), b"fine_labels": [0, 1, 2, 1], b"coarse_labels": [0] * 4}
        (tmp_path / name).write_bytes(pickle.dumps(held, 2))
    meta = {b"fine_label_names": [b"apple", b"bee", b"cup"], b"coarse_label_names": [b"thing"]}
    (tmp_path / "meta").write_bytes(pickle.dumps(meta, 2))
    found = read(tmp_path)
    assert (found.classes, found.labels.tolist()) == (("apple", "bee", "cup"), [0, 1, 2, 1] * 2)


@pytest.mark.parametrize("before", [1, 2])
def test_the_binary_layouts_are_read(tmp_path, before):
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] if before == 1 else ["train.bin"]
    names.append("test_batch.bin" if before == 1 else "test.bin")
    labels = np.array([[9, 1, 0, 2]] * before, np.uint8).T
    labels[:, :-1] = 77  # the coarse label
    labels[0, -1] = 0
    for seed, name in enumerate(names):
        (tmp_path / name).write_bytes(np.hstack([labels, pixels(seed)]).tobytes())
    meta = "batches.meta.txt" if before == 1 else "fine_label_names.txt"
    (tmp_path / meta).write_text("a\nb\nc\n\n")
    found = read(tmp_path)
    assert found.classes == ("a", "b", "c")
    assert found.labels[:4].tolist() == [0, 1, 0, 2]
    assert np.array_equal(found.arrays[:4], pixels(0).reshape(-1, 3, 32, 32))
    (tmp_path / names[0]).write_bytes(b"123")
    with pytest.raises(DataError, match=r"truncated: wanted a multiple of 307[34] bytes; got 3"):
        read(tmp_path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_pickle_that_names_anything_else_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Evil()}, 2))
    with pytest.raises(DataError, match=r"data_batch_1: names (posix|nt).system: refused, as"):
        read_arrays(path)
    assert not (tmp_path / "executed").exists()
    for evil in (b"cbuiltins\neval\n.", b"cnumpy\nload\n.", b"cnumpy.core.multiarray\nfromfile\n."):
        path.write_bytes(evil)
        with pytest.raises(DataError, match="refused"):
            read_arrays(path)


def test_one_pickle_cannot_alter_how_the_next_is_read(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(pickle.dumps({b"data": pixels(0)}, 2))
    # sets an attribute of the stand-in for numpy.ndarray
    bad.write_bytes(b"\x80\x02cnumpy\nndarray\n(N}U\x0c__setstate__Nstb.")
    with pytest.raises(DataError, match="bad: "):
        read_arrays(bad)
    assert np.array_equal(read_arrays(good)["data"], pixels(0))


@pytest.mark.parametrize(
    "data", [np.zeros((2, 3072)), np.zeros((2, 3072), ">u2"), np.zeros(5, object)]
)
def test_only_arrays_of_bytes_are_read(tmp_path, data):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": data}, 2))
    with pytest.raises(DataError, match="wanted an array of unsigned bytes; got"):
        read_arrays(path)


def test_broken_pickles_are_named(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_python(folder)
    path = folder / "data_batch_3"
    whole = path.read_bytes()
    for broken in (whole[:-100], whole[:50], b"", b"text", b"\x80\x02K\x01."):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"data_batch_3: (is not a whole pickle|wanted)"):
            read(folder)
    path.write_bytes(pickle.dumps({b"data": pixels(0), b"labels": [1, 2]}, 2))
    with pytest.raises(DataError, match=r"got data of shape \(4, 3072\) and 2 labels"):
        read(folder)
    path.write_bytes(pickle.dumps({b"data": pixels(0), b"labels": [1, 2, 0, 3]}, 2))
    with pytest.raises(DataError, match=r"wanted labels from 0 to 2.*got 0 to 3"):
        read(folder)
    path.write_bytes(pickle.dumps({b"labels": [1]}, 2))
    with pytest.raises(DataError, match="wanted data and labels; got labels"):
        read(folder)
    path.unlink()
    with pytest.raises(
        DataError, match=r"wanted every file of cifar-10-batches-py; \['data_batch_3'\]"
    ):
        read(folder)


@pytest.mark.slow
def test_the_official_files_are_read(tmp_path):
    home = Path(os.environ.get("STRIATE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    packed = home / "cifar-10-packed"
    if not packed.is_dir():
        pytest.skip("no cifar-10-packed in STRIATE_DATA or ../shared/data")
    subprocess.run([sys.executable, packed / "unpack.py", tmp_path], check=True)
    found = read(tmp_path)
    assert found.arrays.shape == (60_000, 3, 32, 32)
    assert np.bincount(found.labels).tolist() == [6000] * 10
    assert (found.classes[0], found.classes[6]) == ("airplane", "frog")
    assert found.labels[:3].tolist() == [6, 9, 9]
    assert np.array_equal(found.labels[50_000:], np.load(packed / "test_labels.npy"))
