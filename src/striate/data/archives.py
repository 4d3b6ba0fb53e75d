"""Array files -> Samples: NPZ, and IDX (MNIST's format)."""

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from striate.data.layout import KIND_OF_AXES, laid_out
from striate.data.samples import SPLITS, Fault, Samples, class_order, need_two_classes
from striate.errors import DataError
from striate.files import open_regular

__all__ = ["Part", "from_parts", "has_idx", "read_idx", "read_npz"]

# Names that the samples and the labels of an NPZ go by, alone or with a split word.
_PAIRS = (("x", "y"), ("images", "labels"), ("data", "target"), ("data", "labels"))
_CLASS_KEYS = ("classes", "class_names")

_IDX_IMAGES = re.compile(r"^(?P<stem>.*)images(?P<link>[-.])idx3-ubyte(?P<zip>\.gz)?$")
_IDX_SPLITS = {**SPLITS, "t10k": "test"}
_IDX_MAGIC = {3: 2051, 1: 2049}  # 0, 0, 8 (unsigned bytes), number of axes


@dataclass(frozen=True)
class Part:
    """Name, split, number of rows and raw labels of one array of samples."""

    name: str
    split: str
    rows: int
    labels: np.ndarray | None


def read_npz(path: Path, labelled: bool = True, axes: int = 0) -> Samples:
    """Read samples and labels from an NPZ.

    Keys: x and y (or images and labels, data and target, arr_0 and arr_1), alone or once a split
    as x_train or train_x; optionally `classes` or `class_names`. Booleans become 0 and 255, whole
    numbers the smaller of uint8 and uint16 that holds them, floats float32; so do numbers with a
    sign where they are no pictures.

    Shape: as `layout.laid_out` reads them; `doubts` says where they could be read in two ways.

    Args:
        axes: spatial axes of a sample: 1 series, 2 pictures, 3 volumes; 0: from the shape.

    Raises:
        DataError: no such keys, unequal lengths, another layout, labels that are NaN or no class.
    """
    held = _load_npz(path)
    keys = list(_npz_keys(held, labelled))
    if not keys:
        wanted = (
            "arrays x and y, or x_train, y_train, x_test and y_test" if labelled else "an array x"
        )
        raise DataError(
            f"{path}: wanted {wanted}; got {', '.join(held) or 'none'}{_unpaired(held, labelled)}"
        )
    arrays, parts, doubts = [], [], []
    for x, y, split in keys:
        samples, doubt = laid_out(held[x], axes, f"{path}: {x}")
        samples = _numbers(samples, f"{path}: {x}")
        labels = _label_column(held[y], f"{path}: {y}") if labelled else None
        if labels is not None and len(labels) != len(samples):
            raise DataError(
                f"{path}: wanted one label a sample; got {len(samples)} in {x} "
                f"and {len(labels)} in {y}"
            )
        arrays.append(samples)
        parts.append(Part(x, split, len(samples), labels))
        if doubt:
            doubts.append(Fault("ambiguous", x, doubt))
    if len({(array.shape[1:], array.dtype) for array in arrays}) > 1:
        got = ", ".join(f"{p.name} {a.dtype}{a.shape}" for p, a in zip(parts, arrays, strict=True))
        raise DataError(f"{path}: wanted samples of one size and type in every split; got {got}")
    named = next((key for key in _CLASS_KEYS if key in held), None)
    classes = None if named is None else [_text(name) for name in held[named].ravel().tolist()]
    used = {key for pair in keys for key in pair[:2]} | {named}
    skipped = [
        Fault("skipped", key, "neither samples nor labels") for key in held if key not in used
    ]
    joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    found = from_parts(path, joined, parts, classes, (path,), skipped)
    return replace(found, doubts=tuple(doubts[:1]))  # the splits are of one shape


def has_idx(folder: Path) -> bool:
    """Tell whether a folder holds IDX pictures, such as train-images-idx3-ubyte.gz."""
    return any(_IDX_IMAGES.match(path.name) for path in folder.iterdir())


def read_idx(folder: Path, labelled: bool = True, classes: Sequence[str] | None = None) -> Samples:
    """Read the IDX pairs of a folder: *images-idx3-ubyte with *labels-idx1-ubyte, .gz or not.

    Args:
        classes: what the labels 0, 1, ... are called.

    Raises:
        DataError: labels are missing, a file is truncated or not IDX, lengths are unequal.
    """
    pairs = _idx_pairs(folder)
    shapes = [_idx_shape(images, 3) for _, images, _ in pairs]
    if len({shape[1:] for shape in shapes}) > 1:
        raise DataError(f"{folder}: wanted pictures of one size in every split; got {shapes}")
    arrays = np.empty((sum(shape[0] for shape in shapes), 1, *shapes[0][1:]), np.uint8)
    parts, start, sources = [], 0, []
    for (split, images, labels), (rows, *_) in zip(pairs, shapes, strict=True):
        _fill_from_idx(images, 3, arrays[start : start + rows])
        start += rows
        sources.append(images)
        values = None
        if labelled:
            values = np.empty(_idx_shape(labels, 1), np.uint8)
            _fill_from_idx(labels, 1, values)
            sources.append(labels)
            if len(values) != rows:
                raise DataError(
                    f"{labels}: wanted one label a picture of {images.name}, {rows}; "
                    f"got {len(values)}"
                )
        parts.append(Part(images.name, split, rows, values))
    return from_parts(folder, arrays, parts, classes, sources)


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    """Return every array of an NPZ, running nothing."""
    try:
        with open_regular(path) as file:
            start = file.read(6)
            if start and not start.startswith((b"PK", b"\x93NUMPY")):
                raise DataError(
                    f"{path}: is not an NPZ file: begins with {start!r}; wanted what numpy.savez "
                    "writes"
                )
            file.seek(0)
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                raise DataError(f"{path}: wanted an NPZ with x and y; got a single array")
            return {key: _plain(held, key, path) for key in held.files}
    except ValueError as error:
        raise DataError(
            f"{path}: {error}; wanted plain arrays of numbers or strings, nothing pickled"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise DataError(f"{path}: is not a whole NPZ file: {error}") from error


def _plain(held: "np.lib.npyio.NpzFile", key: str, path: Path) -> np.ndarray:
    """Return one array, refusing Python objects, which only unpickling would give."""
    try:
        return held[key]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        raise DataError(
            f"{path}: {key}: wanted plain numbers or strings; got Python objects, which are "
            "pickled: cut or pad samples to one length, write labels with astype(str)"
        ) from error


def _unpaired(held: dict[str, np.ndarray], labelled: bool) -> str:
    """Say which samples lack their labels, else what names are known."""
    for x, y, _ in _npz_keys(held, labelled=False):
        return f": the labels {y} of {x} are missing"
    last = ", or images, data or arr_0 for x, labels, target or arr_1 for y" if labelled else ""
    return f": name them so{last}"


def _npz_keys(held: dict[str, np.ndarray], labelled: bool) -> Iterator[tuple[str, str, str]]:
    """Yield pictures' key, labels' key and split of each pair that is there."""
    for x, y in (*_PAIRS, ("arr_0", "arr_1")):
        pairs = [(x, y, "")]
        for word, split in SPLITS.items():
            pairs += [(f"{x}_{word}", f"{y}_{word}", split), (f"{word}_{x}", f"{word}_{y}", split)]
        there = [pair for pair in pairs if pair[0] in held and (pair[1] in held or not labelled)]
        if there:
            yield from there
            return


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    """Return (N, C, *S) of uint8, uint16 or float32."""
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype.kind == "f":
        return _finite(array.astype(np.float32, copy=False), where)
    low, high = (int(array.min()), int(array.max())) if array.dtype.kind in "iu" else (-1, -1)
    signed = array.dtype.kind == "i" and array.ndim != 4  # no grey levels: volts, Hounsfield units
    if signed and max(-low, high) <= 2**24:  # where float32 still holds every whole number
        return array.astype(np.float32)
    if not 0 <= low <= high <= 65535:
        got = f"{low} to {high}" if array.dtype.kind in "iu" else str(array.dtype)
        raise DataError(f"{where}: wanted floats, or whole numbers from 0 to 65535; got {got}")
    return array.astype(np.uint8 if high <= 255 else np.uint16)


def _finite(array: np.ndarray, where: str) -> np.ndarray:
    bad = [row for row in range(len(array)) if not np.isfinite(array[row]).all()]
    if bad:
        raise DataError(
            f"{where}: NaN or infinite values in {len(bad)} rows: {bad[:5]}; fill them in, or "
            "leave those rows out"
        )
    return array


def _label_column(array: np.ndarray, where: str) -> np.ndarray:
    """Return (N,) int64 or str."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{where}: wanted one label a sample, shape (N,) or (N, 1); got {array.shape}"
        )
    if array.dtype.kind == "S":
        array = np.array([_text(value) for value in array.tolist()], dtype=str)
    if array.dtype.kind == "f":
        _refuse_rows(np.isnan(array), f"{where}: labels are NaN")
        _refuse_rows(array != np.rint(array), f"{where}: labels are not whole numbers")
    elif array.dtype.kind == "U":
        _refuse_rows(array == "", f"{where}: labels are empty")
        return array
    elif array.dtype.kind not in "iub":
        raise DataError(f"{where}: wanted labels of whole numbers or strings; got {array.dtype}")
    if array.dtype.kind in "fu":
        _refuse_rows(abs(array) >= 2**63, f"{where}: labels are not below 2^63")
    return array.astype(np.int64)


def _refuse_rows(bad: np.ndarray, what: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise DataError(
            f"{what} in {len(rows)} rows: {rows[:5].tolist()}; name a class or cut them"
        )


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def from_parts(
    root: Path,
    arrays: np.ndarray,
    parts: Sequence[Part],
    classes: Sequence[str] | None,
    sources: Sequence[Path],
    skipped: Sequence[Fault] = (),
) -> Samples:
    """Join arrays to Samples; the classes are made once, over all parts.

    Args:
        root: what the user named.
        arrays: the samples of all parts, (n, C, *S).
        parts: in the order of `arrays`.
        classes: what the labels 0, 1, ... are called; None calls them by their values.
        sources: the files that all this came from.
        skipped: what was left out.

    Raises:
        DataError: labels that no class has, or fewer than two classes.
    """
    given = [part.labels for part in parts if part.labels is not None]
    if given:
        known, labels = _class_map(np.concatenate(given), classes, root)
        need_two_classes(root, known)
    else:
        known, labels = (), np.full(len(arrays), -1, np.int64)
    return Samples(
        root=root,
        kind=KIND_OF_AXES[arrays.ndim - 2],
        names=tuple(f"{part.name}#{row}" for part in parts for row in range(part.rows)),
        classes=known,
        labels=labels,
        splits=np.concatenate([np.full(part.rows, part.split, "U10") for part in parts]),
        arrays=arrays,
        sources=tuple(sources),
        skipped=tuple(skipped),
    )


def _class_map(
    raw: np.ndarray, classes: Sequence[str] | None, where: Path
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return class names in order, and (n,) int64 indices into them."""
    values, inverse = np.unique(raw, return_inverse=True)
    if classes is None:
        names = [str(value) for value in values]
        order = class_order(names)
    elif len(set(classes)) != len(classes):
        raise DataError(f"{where}: wanted class names that differ; got {list(classes)}")
    elif raw.dtype.kind == "U":
        names, order = [str(value) for value in values], tuple(classes)
    else:
        if values[0] < 0 or values[-1] >= len(classes):
            raise DataError(
                f"{where}: wanted labels from 0 to {len(classes) - 1}, as there are {len(classes)} "
                f"class names; got {values[0]} to {values[-1]}"
            )
        names, order = [classes[value] for value in values], tuple(classes)
    strange = sorted(set(names) - set(order))
    if strange:
        raise DataError(f"{where}: wanted labels among {list(order)}; got {strange[:5]}")
    index = {name: place for place, name in enumerate(order)}
    return order, np.array([index[name] for name in names], np.int64)[inverse.ravel()]


def _idx_pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """Return split, pictures and labels of each pair, training first; unpacked before packed."""
    found: dict[str, tuple[str, Path, Path]] = {}
    for images in sorted(folder.iterdir()):
        if not (match := _IDX_IMAGES.match(images.name)):
            continue
        stem = match["stem"]
        name = f"{stem}labels{match['link']}idx1-ubyte"
        places = [folder / (name + end) for end in (match["zip"] or "", ".gz", "")]
        labels = next((place for place in places if place.is_file()), places[0])
        words = re.split(r"[-_. ]", stem.lower())
        split = next((_IDX_SPLITS[word] for word in words if word in _IDX_SPLITS), "")
        before = found.setdefault(split, (stem, images, labels))
        if before[0] != stem:
            raise DataError(
                f"{folder}: wanted one IDX file of pictures a split; got {before[1].name} and "
                f"{images.name}: give each set a folder of its own"
            )
    order = ("", "train", "validation", "test")
    return [(split, *found[split][1:]) for split in order if split in found]


def _idx_open(path: Path) -> BinaryIO:
    file = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")  # noqa: SIM115
    return cast(BinaryIO, file)


def _idx_shape(path: Path, axes: int) -> tuple[int, ...]:
    """Return the shape that the header tells, after checking the header."""
    try:
        with _idx_open(path) as file:
            header = file.read(4 + 4 * axes)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    magic = int.from_bytes(header[:4])
    if len(header) < 4 + 4 * axes or magic != _IDX_MAGIC[axes]:
        raise DataError(
            f"{path}: is not an IDX file of {axes} axes: wanted magic number {_IDX_MAGIC[axes]}; "
            f"got {magic} in {len(header)} bytes of header"
        )
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4", axes, 4))
    size, values = path.stat().st_size, int(np.prod(shape, dtype=object))
    if values > 1100 * size:  # deflate packs 1032 to 1 at best
        raise DataError(f"{path}: truncated: wanted {values} values; got {size} bytes")
    if values == 0:
        raise DataError(f"{path}: wanted at least one value; got shape {shape}")
    return shape


def _fill_from_idx(path: Path, axes: int, values: np.ndarray) -> None:
    """Read what follows the header into contiguous `values`, to the end of the file."""
    view, got = memoryview(values.data).cast("B"), 0
    try:
        with _idx_open(path) as file:
            file.read(4 + 4 * axes)
            while got < len(view) and (step := file.readinto(view[got:])):  # type: ignore[attr-defined]
                got += step
            more = file.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: truncated or damaged: wanted {len(view)} values; got {got}: {error}"
        ) from error
    if got < len(view) or more:
        word = "has bytes after its end" if more else "truncated"
        raise DataError(f"{path}: {word}: wanted {len(view)} values; got {got}{'+' * bool(more)}")
