import gzip
import hashlib
import io
import logging
import pickle
import struct
import tarfile
from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest

from striate.data import named
from striate.data.named import NAMES, read_named
from striate.data.readers import read
from striate.errors import DataError


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data sets but those of a test."""
    for variable in ("STRIATE_DATA", "STRIATE_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(named, "_SHARED", tmp_path / "usr")


def packed_idx(values):
    shape = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(shape + values.tobytes())


def mnist_files():
    x = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2)
    pair = packed_idx(x), packed_idx(np.arange(10, dtype=np.uint8))
    names = [f"{s}-{k}-ubyte.gz" for s in ("train", "t10k") for k in ("images-idx3", "labels-idx1")]
    return dict(zip(names, pair * 2, strict=True))


def cifar_archive():
    """Return a tar.gz with the six batches, of two pictures each, and the names."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"):
            held = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
            meta = {b"label_names": [b"airplane", b"automobile"]}
            data = pickle.dumps(meta if name == "batches.meta" else held, 2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return {"cifar-10-python.tar.gz": file.getvalue()}


@pytest.fixture
def network(monkeypatch):
    """Return a function that lets `urlopen` answer with files, of which the checksums are known."""

    def serve(name, files, honest=True):
        asked = []

        def urlopen(url, timeout):
            asked.append(url)
            return io.BytesIO(files[url.rsplit("/", 1)[1]])

        sums = {key: hashlib.md5(data).hexdigest() for key, data in files.items()}
        if honest:
            monkeypatch.setitem(named._PUBLIC, name, replace(named._PUBLIC[name], files=sums))
        monkeypatch.setattr(named, "urlopen", urlopen)
        return asked

    return serve


def no_network(url, timeout):
    raise URLError("no route to host")


def test_digits_are_embedded():
    found = read("digits")
    assert found.arrays.shape == (1797, 1, 8, 8)
    assert np.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert found.arrays[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0 0 5 13 9 1 0 0
    assert found.names[17] == "digits.csv.gz#17"


@pytest.mark.slow
def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    wanted = datasets.load_digits()
    found = read("digits")
    assert np.array_equal(found.arrays[:, 0], np.rint(wanted.images * 255 / 16))
    assert np.array_equal(found.labels, wanted.target)
    assert found.classes == tuple("0123456789")
    assert (found.arrays.dtype, set(found.splits)) == (np.uint8, {""})
    assert read("digits", labelled=False).labels.max() == -1


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setattr(named, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        read_named("digits")


def test_a_local_copy_is_taken_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(named, "urlopen", no_network)
    for place in ("home/.cache/striate/data/mnist", "usr/MNIST", "own/MNIST/raw"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for name, data in mnist_files().items():
            (folder / name).write_bytes(data)
        monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "own"))
        assert read_named("mnist").root == folder


def test_fashion_mnist_has_its_published_classes(tmp_path, monkeypatch):
    folder = tmp_path / "usr" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name, data in mnist_files().items():
        (folder / name).write_bytes(data)
    for spelling in ("fashion-mnist", "fashion_mnist", "Fashion-MNIST"):
        found = read_named(spelling)
        assert found.classes[::9] == ("T-shirt/top", "Ankle boot")
        assert found.labels.tolist() == [*range(10), *range(10)]


@pytest.mark.parametrize(
    ("name", "files"), [("mnist", mnist_files()), ("cifar10", cifar_archive())]
)
def test_a_download_is_made_once_checked_and_said(name, files, tmp_path, network, caplog):
    asked = network(name, files)
    with caplog.at_level(logging.WARNING):
        first = read_named(name, home=tmp_path / "cache")
    assert len(asked) == len(files)
    assert f"{name}: no local copy; downloading https://" in caplog.text
    again = read_named(name, home=tmp_path / "cache")
    assert len(asked) == len(files)
    assert np.array_equal(first.arrays, again.arrays)
    kept = [path.name for path in (tmp_path / "cache" / "data").iterdir()]
    assert kept == [named._PUBLIC[name].folders[0]]


def test_another_checksum_is_refused_and_nothing_kept(tmp_path, network):
    network("mnist", mnist_files(), honest=False)
    with pytest.raises(DataError, match="wanted MD5 f68b3c2dcbeaaa9fbdd348bbdeb94873; got"):
        read_named("mnist", home=tmp_path)
    assert list((tmp_path / "data").iterdir()) == []


def test_without_network_the_places_for_a_copy_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(named, "urlopen", no_network)
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        DataError, match=r"no route to host.*put a copy into .*usr/cifar10 or .*cache/data"
    ):
        read_named("cifar-10")


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(named, "urlopen", no_network)
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(DataError, match="data/mnist: cannot be written"):
        read_named("mnist", home=tmp_path)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(DataError, match="did you mean 'cifar10'"):
        read_named("cifar")
    with pytest.raises(DataError, match=f"known: {', '.join(NAMES)}"):
        read_named("flowers/")
