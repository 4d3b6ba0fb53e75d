"""What the peers read, IDX and CIFAR files without Striate, and what they print."""

import gzip
import json
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["BEGUN", "Pictures", "find_folder", "print_result", "read_pictures"]

FOLDERS = {
    "mnist": ("mnist", "MNIST", "MNIST/raw"),
    "fashion-mnist": ("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("cifar-10-batches-py", "cifar10/cifar-10-batches-py", "cifar10"),
}


@dataclass(frozen=True)
class Pictures:
    """Hold a data set: uint8 pictures (n, C, H, W) and int64 labels (n,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def first(self, train: int, test: int) -> "Pictures":
        """Return the first samples of both splits; 0 is all."""
        a, b = train or None, test or None
        return Pictures(self.x_train[:a], self.y_train[:a], self.x_test[:b], self.y_test[:b])


# The monotonic time at which the contest started this process.
BEGUN = float(os.environ.get("CONTEST_BEGUN") or time.monotonic())


def print_result(accuracy: float, **more: float) -> None:
    """Print the line that the contest reads."""
    print(json.dumps({"accuracy": accuracy, "seconds": time.monotonic() - BEGUN, **more}))


def find_folder(name: str) -> Path | None:
    """Return where a named data set lies: a folder, below $STRIATE_DATA or /usr/share/datasets."""
    if Path(name).is_dir():
        return Path(name)
    places = [os.environ.get("STRIATE_DATA"), "/usr/share/datasets"]
    for place in filter(None, places):
        for folder in FOLDERS.get(name, ()):
            if Path(place, folder).is_dir():
                return Path(place, folder)
    return None


def read_pictures(name: str) -> Pictures:
    """Read a data set by its name or its folder."""
    folder = find_folder(name)
    if folder is None:
        raise SystemExit(f"{name}: no local copy; name a folder of data sets with STRIATE_DATA")
    if (folder / "test_batch").is_file():
        return _read_cifar(folder)
    arrays = []
    for split in ("train", "t10k"):
        arrays.append(_read_idx(folder, f"{split}-images-idx3-ubyte")[:, None])
        arrays.append(_read_idx(folder, f"{split}-labels-idx1-ubyte").astype(np.int64))
    return Pictures(*arrays)


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """Read one IDX file of unsigned bytes, packed or not."""
    plain = folder / name
    raw = plain.read_bytes() if plain.is_file() else gzip.decompress(_packed(plain))
    axes = raw[3]
    shape = np.frombuffer(raw, ">i4", axes, 4)
    return np.frombuffer(bytearray(raw), np.uint8, offset=4 + 4 * axes).reshape(shape)


def _packed(plain: Path) -> bytes:
    return plain.with_name(f"{plain.name}.gz").read_bytes()


def _read_cifar(folder: Path) -> Pictures:
    train = list(_batches(folder, [f"data_batch_{k}" for k in range(1, 6)]))
    test = list(_batches(folder, ["test_batch"]))
    x, y = (np.concatenate(some) for some in zip(*train, strict=True))
    return Pictures(x, y, *test[0])


def _batches(folder: Path, names: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read CIFAR's pickles as their authors' page says."""
    for name in names:
        with open(folder / name, "rb") as file:
            batch = pickle.load(file, encoding="bytes")
        yield batch[b"data"].reshape(-1, 3, 32, 32), np.array(batch[b"labels"], np.int64)
