"""Data sets that go by a name: a local copy where there is one, else the public download."""

import gzip
import hashlib
import logging
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np

from striate.data.archives import Part, from_parts, has_idx, read_idx
from striate.data.canon import read_fsdd, read_polarity, read_usps
from striate.data.cifar import find_cifar, read_cifar
from striate.data.samples import Samples
from striate.errors import DataError, suggest
from striate.files import cache_folder

__all__ = ["NAMES", "read_named"]

# Python before 3.11.4 has no filter; what is unpacked is what its checksum says, either way.
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}

_SHARED = Path("/usr/share/datasets")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Public:
    """Say where a published data set lies.

    Args:
        folders: what its folder is called, below any folder of data sets.
        url: the folder of the download.
        files: file -> MD5 as published.
        classes: what the labels 0, 1, ... are called; () is by their numbers, or as the files say.
        layout: how the name of its CIFAR layout begins; "" is IDX files.
    """

    folders: tuple[str, ...]
    url: str
    files: dict[str, str]
    classes: tuple[str, ...] = ()
    layout: str = ""


_MNIST = _Public(
    ("mnist", "MNIST", "MNIST/raw"),
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)
_FASHION = _Public(
    ("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)
_CIFAR10 = _Public(
    ("cifar10", "cifar-10", "CIFAR10", "CIFAR-10", "cifar-10-batches-py", "cifar-10-batches-bin"),
    "https://www.cs.toronto.edu/~kriz/",
    {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    layout="cifar-10-",
)
_PUBLIC = {"mnist": _MNIST, "fashion-mnist": _FASHION, "cifar10": _CIFAR10}
_ALIASES = {
    "fashion_mnist": "fashion-mnist",
    "fashionmnist": "fashion-mnist",
    "cifar-10": "cifar10",
}

# Name -> what its folder may be called, a file that it holds, its reader: no download is known.
_LOCAL: dict[str, tuple[tuple[str, ...], str, Callable[[Path, bool], Samples]]] = {
    "usps": (("usps", "usps-zip"), "zip.train.gz", read_usps),
    "fsdd": (("fsdd", "free-spoken-digit-dataset"), "recordings", read_fsdd),
    "rt-polarity": (("rt-polarity", "rt-polaritydata"), "rt-polarity.pos", read_polarity),
}

NAMES = ("digits", *_PUBLIC, *_LOCAL)


def read_named(name: str, labelled: bool = True, home: Path | None = None) -> Samples:
    """Read a data set by its name.

    Looked for in the folder that STRIATE_DATA names, in /usr/share/datasets and below `home`;
    else downloaded to there, once, and compared with its published checksum. USPS, spoken
    digits and film reviews are not downloaded.

    Args:
        home: the cache folder; None is `files.cache_folder()`.

    Raises:
        DataError: no data set of this name, no copy and no network, or another checksum.
    """
    lower = name.lower()
    known = _ALIASES.get(lower, lower)
    if known == "digits":
        return _digits(labelled)
    if known in _LOCAL:
        return _read_local(known, labelled, home)
    if known not in _PUBLIC:
        raise DataError(
            f"{name}: no such file or folder, nor a named data set; {suggest(known, NAMES)}"
        )
    public = _PUBLIC[known]
    folder = next(_local(public, home), None) or _download(known, public, home)
    if found := find_cifar(folder):
        return read_cifar(*found, labelled)
    return read_idx(folder, labelled, public.classes or None)


def _read_local(name: str, labelled: bool, home: Path | None) -> Samples:
    folders, mark, reader = _LOCAL[name]
    places = [place / folder for place in _places(home) for folder in folders]
    for place in places:
        if (place / mark).exists():
            return reader(place, labelled)
    raise DataError(
        f"{name}: no local copy; put one into {places[-len(folders)]}, or name the folder that "
        f"holds {folders[0]}/ with STRIATE_DATA"
    )


def _digits(labelled: bool) -> Samples:
    """Read the 8x8 digits from scikit-learn's files; importing scikit-learn costs seconds."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("digits: wanted scikit-learn, which holds them; pip install scikit-learn")
    file = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    try:
        with gzip.open(file, "rt", encoding="ascii") as text:
            rows = np.array([line.split(",") for line in text], dtype=np.float64)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{file}: wanted scikit-learn's digits; got {error}") from error
    grey = np.rint(rows[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = rows[:, 64].astype(np.int64) if labelled else None
    return from_parts(file, grey, [Part(file.name, "", len(rows), labels)], None, (file,))


def _home(home: Path | None) -> Path:
    return (home or cache_folder()) / "data"


def _places(home: Path | None) -> list[Path]:
    """Return the folders that may hold data sets, in the order they are looked in."""
    own = os.environ.get("STRIATE_DATA")
    return [*([Path(own)] if own else []), _SHARED, _home(home)]


def _local(public: _Public, home: Path | None) -> Iterator[Path]:
    """Yield the folders that hold the data set in a published layout."""
    for place in _places(home):
        for name in public.folders:
            folder = place / name
            if not folder.is_dir():
                continue
            if public.layout:
                if (found := find_cifar(folder)) and found[1].folder.startswith(public.layout):
                    yield folder
            elif has_idx(folder):
                yield folder


def _download(name: str, public: _Public, home: Path | None) -> Path:
    """Fetch all files into a new folder, which appears when it is whole."""
    target = _home(home) / public.folders[0]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as temporary:
            folder = Path(temporary, "whole")
            folder.mkdir()
            for file, checksum in public.files.items():
                _fetch(public.url + file, folder / file, checksum, name, home)
                if file.endswith(".tar.gz"):
                    with tarfile.open(folder / file) as packed:
                        packed.extractall(folder, **SAFELY)
                    (folder / file).unlink()
            try:
                folder.rename(target)
            except OSError:
                if target not in _local(public, home):  # else another run was faster
                    raise
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def _fetch(url: str, path: Path, checksum: str, name: str, home: Path | None) -> None:
    """Fetch one file and compare its MD5."""
    _LOG.warning("%s: no local copy; downloading %s to %s", name, url, _home(home))
    try:
        with urlopen(url, timeout=60) as answer, open(path, "wb") as file:
            shutil.copyfileobj(answer, file)
    except (URLError, TimeoutError, ConnectionError) as error:
        places = " or ".join(str(place / name) for place in _places(home))
        raise DataError(
            f"{name}: no local copy, and {url} cannot be reached: {error}; put a copy into "
            f"{places}, name the folder that holds {name}/ with STRIATE_DATA, or give its own "
            "folder in place of the name"
        ) from error
    with open(path, "rb") as file:
        got = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != checksum:
        raise DataError(
            f"{url}: wanted MD5 {checksum}; got {got}: the download is damaged or was changed, "
            "and nothing of it was kept; try again"
        )
