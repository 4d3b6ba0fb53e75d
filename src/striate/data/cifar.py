"""CIFAR-10 and CIFAR-100 in their four published layouts; pickles are read, never executed."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.archives import Part, from_parts
from striate.data.samples import Samples
from striate.errors import DataError

__all__ = ["Cifar", "find_cifar", "read_arrays", "read_cifar"]


@dataclass(frozen=True)
class Cifar:
    """Name the files of one published CIFAR layout.

    Args:
        folder: the name of the folder as published.
        train: the files of the training split, in order.
        test: the file of the test split.
        meta: the file of the class names.
        key: what the labels are called in the pickles; "" is the binary layout.
        label_bytes: bytes before each binary picture; the last of them is the label.
    """

    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    key: str = ""
    label_bytes: int = 0


_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))
_CIFAR = (
    Cifar("cifar-10-batches-py", _BATCHES, "test_batch", "batches.meta", "labels"),
    Cifar("cifar-100-python", ("train",), "test", "meta", "fine_labels"),
    Cifar(
        "cifar-10-batches-bin",
        tuple(f"{name}.bin" for name in _BATCHES),
        "test_batch.bin",
        "batches.meta.txt",
        label_bytes=1,
    ),
    Cifar("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", label_bytes=2),
)
_PIXELS = 3 * 32 * 32


def find_cifar(folder: Path) -> tuple[Path, Cifar] | None:
    """Return where in or just below `folder` a CIFAR layout lies, and which; None is nowhere."""
    for layout in _CIFAR:
        for place in (folder, folder / layout.folder):
            files = [place / name for name in (layout.train[0], layout.test, layout.meta)]
            if sum(file.is_file() for file in files) >= 2:
                return place, layout
    return None


def read_cifar(folder: Path, layout: Cifar, labelled: bool = True) -> Samples:
    """Read CIFAR-10 or CIFAR-100 (fine labels), in the python or the binary layout.

    Raises:
        DataError: a file is missing, truncated, or a pickle names anything but arrays.
    """
    files = [folder / name for name in (*layout.train, layout.test)]
    missing = [file.name for file in [*files, folder / layout.meta] if not file.is_file()]
    if missing:
        raise DataError(f"{folder}: wanted every file of {layout.folder}; {missing} are missing")
    # A file holds a little more than its pixels; the rows too many are cut off, never touched.
    most = sum(file.stat().st_size // _PIXELS for file in files)
    arrays = np.empty((most, 3, 32, 32), np.uint8)
    parts, start = [], 0
    for file in files:
        pixels, labels = _cifar_file(file, layout)
        arrays[start : start + len(pixels)] = pixels.reshape(-1, 3, 32, 32)
        start += len(pixels)
        split = "test" if file.name == layout.test else "train"
        parts.append(Part(file.name, split, len(pixels), labels if labelled else None))
    classes = _cifar_classes(folder / layout.meta, layout)
    return from_parts(folder, arrays[:start], parts, classes, [*files, folder / layout.meta])


def read_arrays(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of byte arrays, lists, numbers and strings.

    The four names that NumPy's arrays need stand for local code that only keeps values; a pickle
    that names anything else is refused before anything of it is called.

    Raises:
        DataError: the file is no such pickle, truncated, or names something else.
    """
    try:
        with open(path, "rb") as file:
            held = _Reader(file).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # broken pickles raise errors of any kind
        text = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: is not a whole pickle of arrays: {text}") from error
    if not isinstance(held, dict):
        raise DataError(f"{path}: wanted a pickled dictionary; got {type(held).__name__}")
    return {_text(key): _plain(value, path) for key, value in held.items()}


def _cifar_file(file: Path, layout: Cifar) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 3072) uint8 and (n,) int64."""
    if layout.key:
        held = read_arrays(file)
        pixels, labels = held.get("data"), held.get(layout.key)
        if not (isinstance(pixels, np.ndarray) and isinstance(labels, list)):
            raise DataError(f"{file}: wanted data and {layout.key}; got {', '.join(held)}")
        if pixels.shape != (len(labels), _PIXELS) or not all(type(y) is int for y in labels):
            raise DataError(
                f"{file}: wanted {_PIXELS} values and one label a picture; got data of shape "
                f"{pixels.shape} and {len(labels)} labels"
            )
        return pixels, np.array(labels, np.int64)
    row = layout.label_bytes + _PIXELS
    size = file.stat().st_size
    if size % row or not size:
        raise DataError(f"{file}: truncated: wanted a multiple of {row} bytes; got {size}")
    rows = np.fromfile(file, np.uint8).reshape(-1, row)
    return rows[:, layout.label_bytes :], rows[:, layout.label_bytes - 1].astype(np.int64)


def _cifar_classes(file: Path, layout: Cifar) -> list[str]:
    if not layout.key:
        return [name.strip() for name in file.read_text("utf-8").split("\n") if name.strip()]
    key = layout.key.replace("labels", "label_names")
    names = read_arrays(file).get(key)
    if not isinstance(names, list):
        raise DataError(f"{file}: wanted the class names as {key}; got none")
    return [_text(name) for name in names]


class _Reader(pickle.Unpickler):
    """Unpickler for which only the names of `_stand_ins` exist."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="bytes")
        self.known = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise DataError(f"names {module}.{name}: refused, as reading it could run any code")
        return self.known[module, name]


class _Kept:
    """Keep what a pickle says of an array or a dtype."""

    what: tuple[Any, ...] = ()
    state: Any = None


def _stand_ins() -> dict[tuple[str, str], Any]:
    """Return the allowed names, made anew for each file so that no file can alter another's."""

    class Kept(_Kept):
        def __init__(self, *what: Any) -> None:
            self.what = what

        def __setstate__(self, state: Any) -> None:
            self.state = state

    def reconstruct(*_: Any) -> _Kept:
        return Kept()

    def encode(text: str, codec: Any = "latin1") -> bytes:
        return text.encode("latin-1")

    stand_ins: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): Kept,
        ("numpy", "dtype"): Kept,
        ("_codecs", "encode"): encode,
    }
    for package in ("core", "_core"):
        stand_ins[f"numpy.{package}.multiarray", "_reconstruct"] = reconstruct
    return stand_ins


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _plain(value: Any, path: Path) -> Any:
    """Return the array that was kept; anything else as it is."""
    if not isinstance(value, _Kept):
        return value
    try:
        _, shape, dtype, by_column, content = value.state
        code = _text(dtype.what[0])
        if code not in ("u1", "|u1", "uint8"):
            raise DataError(f"{path}: wanted an array of unsigned bytes; got {code!r}")
        order = "F" if by_column else "C"
        return np.frombuffer(content, np.uint8).reshape(shape, order=order)  # type: ignore[call-overload]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path}: holds a broken array: {error}") from error
