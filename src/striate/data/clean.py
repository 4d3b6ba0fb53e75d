"""Clean: the samples without faults as a table, so that nothing of the data itself is touched."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from striate.data.audit import same_pictures, split_names
from striate.data.cache import Cache
from striate.data.samples import Samples
from striate.errors import DataError, RecipeError
from striate.files import replacing

__all__ = ["keep", "write_clean"]

# Where the same picture stands in several splits, it stays in the first of these.
RANK = {"test": 0, "validation": 1, "train": 2}


def write_clean(path: Path, samples: Samples, cache: Cache) -> int:
    """Write the samples that `keep` keeps as a CSV that `read` reads; return their number.

    Columns: path, label, split, and group and weight where the samples have them. Paths are
    relative to the CSV's folder where they lie below it, else absolute.

    Args:
        path: of the CSV; nothing may stand there.
        cache: of the samples, for what is unreadable and what is equal.

    Raises:
        DataError: `path` exists or cannot be written, a file name fits in no CSV, or no sample is
            without fault.
        RecipeError: the samples are arrays, which no table can name.
    """
    if samples.files is None:
        raise RecipeError(
            f"only folders and tables can be cleaned, as the result is a table of files; "
            f"{samples.root} holds arrays: mend them where they were made"
        )
    if os.path.lexists(path):
        raise DataError(f"{path} exists and is never overwritten; name another file")
    kept = np.flatnonzero(keep(samples, cache))
    if not len(kept):
        raise DataError(f"none of the {len(samples)} samples of {samples.root} is without fault")
    home = Path(os.path.abspath(path.parent))
    try:
        with replacing(path, settle=True, newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_rows(samples, kept, home))
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; name another file"
        ) from error
    return len(kept)


def keep(samples: Samples, cache: Cache) -> np.ndarray:
    """Return which samples are without fault, and of equal ones which stay.

    Unreadable samples go. A picture that stands in two classes goes altogether: nobody knows
    which is right. Of the same picture in one class one stays, and of a group that stands in
    several splits the samples of one split: test before validation before train, so that it is
    training that loses.

    Shape: (n,) of bool
    """
    stays = cache.good.copy()
    rank = np.array([RANK[name] for name in split_names(samples).tolist()])
    for some in same_pictures(cache):
        stays[some] = False
        if len(set(samples.labels[some].tolist())) == 1:
            stays[some[rank[some].argmin()]] = True
    if samples.groups is not None:
        first: dict[str, int] = {}
        named = np.flatnonzero(stays & (samples.groups != "")).tolist()
        for i in named:
            group = str(samples.groups[i])
            first[group] = min(int(rank[i]), first.get(group, len(RANK)))
        for i in named:
            stays[i] = rank[i] == first[str(samples.groups[i])]
    return stays


def _rows(samples: Samples, kept: np.ndarray, home: Path) -> Iterator[Sequence[object]]:
    """Yield the header and one row a sample."""
    more = {"group": samples.groups, "weight": samples.weights}
    columns = {name: values for name, values in more.items() if values is not None}
    yield ["path", "label", "split", *columns]
    for i in kept.tolist():
        others = [values[i] for values in columns.values()]
        yield [_named(samples, i, home), samples.classes[samples.labels[i]], samples.splits[i],
               *others]  # fmt: skip


def _named(samples: Samples, i: int, home: Path) -> str:
    """Return how the CSV names a file."""
    assert samples.files is not None
    file = samples.files[i]
    name = str(file.relative_to(home) if file.is_relative_to(home) else file)
    fits = name == name.strip() and "\\" not in name
    try:
        name.encode()
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise DataError(
            f"a table cannot hold the file name {name!r}; wanted UTF-8 without backslashes and "
            "outer spaces: rename the file"
        )
    return name
