"""Where a network errs: the classes that it mixes up, and its most expensive wrong answers."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["confusion_pairs", "worst"]


def confusion_pairs(confusion: ArrayLike, count: int = 10) -> list[tuple[int, int, int]]:
    """Return (true class, predicted class, samples) of the most frequent mix-ups, most first.

    Equal ones stand in the order of their classes; pairs that never occurred are left out.

    Shape: (K, K) counts, rows the true classes -> at most `count` entries

    Raises:
        ValueError: the matrix is not square.
    """
    counts = np.array(confusion, np.int64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"confusion must have shape (K, K); got {counts.shape}")
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[: max(count, 0)]
    pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [(int(i), int(j), int(counts[i, j])) for i, j in pairs if counts[i, j]]


def worst(probabilities: ArrayLike, labels: ArrayLike, count: int = 24) -> NDArray[np.int64]:
    """Return the wrong answers with the highest loss, highest first, as indices of samples.

    Equal losses stand in the order of the samples.

    Shape: (N, K), (N,) -> (at most `count`,)
    Math:  loss = -log p[y]

    Raises:
        ValueError: the arrays do not fit each other.
    """
    p, y = np.asarray(probabilities), np.asarray(labels, np.int64)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise ValueError(
            f"wanted (N, K) probabilities with (N,) labels; got shapes {p.shape} and {y.shape}"
        )
    if not len(p):
        return np.empty(0, np.int64)
    wrong = np.flatnonzero(p.argmax(1) != y)
    order = np.argsort(p[wrong, y[wrong]], kind="stable")
    return wrong[order[: max(count, 0)]]
