"""Stand-in data of the canon, made once from real sets into a folder: NPZ and CSV files.

    python benchmarks/canon_data.py NAME FILE

NAME is one of the names in MADE. The real sets are found as `striate train NAME` finds them.
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from striate.data.named import read_named
from striate.data.samples import Samples

__all__ = ["MADE", "main"]


def mnist(train: int, test: int, side: int = 0, each: int = 0) -> Callable[[Path], None]:
    """Return who writes the first `train` and `test` digits of MNIST, scaled to `side` pixels.

    `each`: that many of every class in both parts, in place of the first.
    """

    def make(path: Path) -> None:
        samples = read_named("mnist")
        arrays = {}
        for part, count in (("train", train), ("test", test)):
            rows = _rows(samples, part, count, each)
            x = np.asarray(samples.arrays)[rows][:, 0]
            if side:
                scaled = [
                    Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)
                    for one in x
                ]
                x = np.stack([np.asarray(one) for one in scaled])
            arrays |= {f"x_{part}": x, f"y_{part}": samples.labels[rows]}
        np.savez(path, **arrays)

    return make


def _rows(samples: Samples, part: str, count: int, each: int) -> np.ndarray:
    rows = np.flatnonzero(samples.splits == part)
    if not each:
        return rows[:count]
    labels = samples.labels[rows]
    return np.sort(np.concatenate([rows[labels == k][:each] for k in range(len(samples.classes))]))


def padded(path: Path) -> None:
    """Write all of MNIST with one border more, 29 x 29, as the nets of 2003 to 2012 want it."""
    samples = read_named("mnist")
    x = np.pad(np.asarray(samples.arrays)[:, 0], ((0, 0), (0, 1), (0, 1)))
    test = samples.splits == "test"
    y = samples.labels
    np.savez(path, x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test])


def spoken(digits: str) -> Callable[[Path], None]:
    """Return who writes a table of the recordings of some digits, with the official test split."""

    def make(path: Path) -> None:
        samples = read_named("fsdd")
        with open(path, "w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["path", "label", "split"])
            for name, label, split in zip(
                samples.files or (), samples.labels, samples.splits, strict=True
            ):
                if samples.classes[label] in digits:
                    out.writerow([name, samples.classes[label], split])

    return make


MADE: dict[str, Callable[[Path], None]] = {
    "mnist-16.npz": mnist(7291, 2007, side=16),
    "mnist-29.npz": padded,
    "mnist-3000.npz": mnist(3000, 3000, each=300),
    "mnist-3000-16.npz": mnist(3000, 3000, side=16, each=300),
    "mnist-3000-19.npz": mnist(3000, 3000, side=19, each=300),
    "mnist-200.npz": mnist(200, 2000, each=20),
    "fsdd-3.csv": spoken("012"),
}


def main() -> None:
    """Write one of them."""
    name, path = sys.argv[1], Path(sys.argv[2])
    MADE[name](path)


if __name__ == "__main__":
    main()
