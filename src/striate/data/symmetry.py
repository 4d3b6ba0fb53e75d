"""Does a mirror image still belong to its class? Asked of the data, before they are mirrored.

A linear classifier learns small versions of one half of the samples and is then asked about the
other half, as they are and mirrored. Digits and letters lose most of their accuracy in the
mirror; photographs lose next to none.
"""

import numpy as np

__all__ = ["keeps_class_mirrored"]

MOST = 4000  # samples looked at
SIDE = 8  # of the small versions
KEPT = 0.85  # share of the accuracy that must survive


def keeps_class_mirrored(
    x: np.ndarray, y: np.ndarray, index: np.ndarray, seed: int = 0
) -> bool | None:
    """Return whether mirroring the last axis leaves the classes recognisable; None: unknown.

    Shape: x (n, C, *S), y (n,), index (m,) rows to look at -> ()
    Math:  W = argmin |X W - onehot(y)|^2 + 0.1 trace(X^T X) / d |W|^2 on one half; on the other,
           right(mirrored X) - 1/K >= 0.85 (right(X) - 1/K)

    Nothing is known where the linear classifier is no better than chance.
    """
    rows = np.random.default_rng(seed).permutation(index)[:MOST]
    if len(rows) < 20:
        return None
    small = _shrink(x[np.sort(rows)])
    classes, target = np.unique(y[np.sort(rows)], return_inverse=True)
    learn = np.random.default_rng(seed).permutation(len(rows)) % 2 == 0
    mean, scale = small[learn].mean(0), small[learn].std() + 1e-6
    views = [(v - mean).reshape(len(rows), -1) / scale for v in (small, small[..., ::-1])]
    gram = views[0][learn].T @ views[0][learn]
    gram[np.diag_indices_from(gram)] += 0.1 * np.trace(gram) / len(gram) + 1e-6
    shares = np.eye(len(classes))[target]
    weights = np.linalg.solve(gram, views[0][learn].T @ (shares[learn] - shares[learn].mean(0)))
    bias = shares[learn].mean(0)
    right, mirrored = (
        np.mean((v[~learn] @ weights + bias).argmax(1) == target[~learn]) for v in views
    )
    chance = np.bincount(target[learn]).max() / learn.sum()
    noise = 2 * np.sqrt(chance * (1 - chance) / (~learn).sum())
    if right <= chance + noise:
        return None
    return bool(mirrored - chance >= KEPT * (right - chance))


def _shrink(x: np.ndarray) -> np.ndarray:
    """Average blocks so that every axis keeps at most SIDE samples: (n, C, *s) float64."""
    small = x.astype(np.float64)
    for axis in range(2, x.ndim):
        size = small.shape[axis]
        count = min(size, SIDE)
        edges = np.linspace(0, size, count + 1).astype(int)[:-1]
        widths = np.diff(np.append(edges, size))
        sums = np.add.reduceat(small, edges, axis=axis)
        small = sums / widths.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return small
