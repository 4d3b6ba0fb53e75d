"""Samples: what a reader found, before anything is decoded. Fault: one finding about it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from striate.errors import DataError

__all__ = ["SPLITS", "Fault", "Samples", "class_order", "merged", "need_two_classes"]

# What a split is called by folders, tables and arrays, in lower case -> what it is called here.
SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "training": "train",
    "testing": "test",
}


@dataclass(frozen=True)
class Fault:
    """Say one thing that was found about one file.

    Args:
        kind: one word: "unreadable", "duplicate", "leak", "skipped", ...
        path: name of the sample or file, as in `Samples.names`.
        detail: one plain sentence.
    """

    kind: str
    path: str
    detail: str


@dataclass(frozen=True)
class Samples:
    """Hold n labelled samples as they lie on disk: files not yet decoded, or arrays.

    Args:
        root: what the user named.
        kind: what one sample is, as in `Spec.kind`.
        names: n names, unique: the path below `root` with "/", or "x_train#17" for an array's row.
        classes: class names in the order of the labels, made by name once over all splits.
        labels: (n,) int64, index into `classes`; -1 where unlabelled.
        splits: (n,) str: "train", "validation", "test", or "" where the data do not say.
        files: n absolute paths, where each sample is a file.
        arrays: (n, C, *S) uint8, uint16 or float32, where the samples are arrays.
        sources: the files that `arrays` came from.
        groups: (n,) str; samples of one group never part. "" belongs to no group.
        weights: (n,) float64 above 0.
        skipped: what was left out on purpose, kind "skipped".
        words: of texts that are arrays of numbers, as in `Spec.words`.
        doubts: arrays that could be read in two ways, kind "ambiguous".
    """

    root: Path
    kind: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    files: tuple[Path, ...] | None = None
    arrays: np.ndarray | None = None
    sources: tuple[Path, ...] = ()
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    skipped: tuple[Fault, ...] = ()
    words: tuple[str, ...] = ()
    doubts: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if (self.files is None) == (self.arrays is None):
            raise ValueError("exactly one of files and arrays must be given")
        for field in ("labels", "splits", "files", "arrays", "groups", "weights"):
            values = getattr(self, field)
            if values is not None and len(values) != len(self.names):
                raise ValueError(
                    f"{field} must have one value a sample, {len(self.names)}; got {len(values)}"
                )

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, index: np.ndarray) -> "Samples":
        """Return the samples at `index`, in that order; classes and `skipped` stay.

        Args:
            index: (m,) integers in 0..n-1, or (n,) booleans.
        """
        index = np.arange(len(self))[index]
        return replace(
            self,
            names=tuple(self.names[i] for i in index),
            labels=self.labels[index],
            splits=self.splits[index],
            files=None if self.files is None else tuple(self.files[i] for i in index),
            arrays=None if self.arrays is None else self.arrays[index],
            groups=None if self.groups is None else self.groups[index],
            weights=None if self.weights is None else self.weights[index],
        )


def merged(found: Iterable[Fault]) -> list[Fault]:
    """Merge findings whose sentences differ in numbers only into the first, with their count."""
    alike: dict[tuple[str, str], list[Fault]] = {}
    for fault in found:
        alike.setdefault((fault.kind, re.sub(r"\d+", "N", fault.detail)), []).append(fault)
    counts = ((some[0], f"{len(some)} files: " if len(some) > 1 else "") for some in alike.values())
    return [replace(fault, detail=f"{count}{fault.detail}") for fault, count in counts]


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the different names sorted; by value where all are whole numbers, so 10 follows 9."""
    different = set(names)
    if all(name.isascii() and name.removeprefix("-").isdigit() for name in different):
        return tuple(sorted(different, key=lambda name: (int(name), name)))
    return tuple(sorted(different))


def need_two_classes(root: Path, classes: Sequence[str]) -> None:
    """Refuse labelled data that leave nothing to tell apart.

    Raises:
        DataError: fewer than two classes.
    """
    if len(classes) < 2:
        got = f"only {classes[0]!r}" if classes else "none"
        raise DataError(f"{root}: wanted at least two classes; got {got}")
