"""Probabilities that mean what they say: one temperature for all logits, and its check by bins."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Bin", "fit_temperature", "reliability", "softmax"]

Floats = NDArray[np.float64]

COLDEST, HOTTEST = 0.05, 20.0  # bounds of the temperature


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in (lower, upper].

    Args:
        lower: least confidence, left out.
        upper: greatest confidence, included.
        confidence: mean confidence, 0 to 1; None in an empty bin.
        accuracy: share of right answers, 0 to 1; None in an empty bin.
        n: answers in the bin.
    """

    lower: float
    upper: float
    confidence: float | None
    accuracy: float | None
    n: int


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Turn logits into probabilities, in float64 and without overflow.

    Shape: (..., K) -> (..., K)
    Math:  exp(z[k] / T) / sum_j exp(z[j] / T)

    Args:
        temperature: T, above 0; above 1 flattens, below 1 sharpens.

    Raises:
        ValueError: `temperature` is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; got {temperature}")
    z = np.asarray(logits, np.float64)
    powers = np.exp((z - z.max(-1, keepdims=True)) / temperature)
    return powers / powers.sum(-1, keepdims=True)


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Find the temperature under which held-out labels are most likely.

    Where every answer is right the likelihood has no maximum, only a limit of endless confidence.
    There one more mistake in n + 2 answers is assumed than was seen, as in Platt's method.
    Without samples, or with logits that do not differ, the answer is 1.

    Shape: (N, K), (N,) -> temperature in [0.05, 20], to a relative 1e-9
    Math:  argmin_T -mean log softmax(z / T)[y]: convex in 1 / T, so safeguarded Newton steps

    Args:
        logits: of samples that the network was not trained on.
        labels: index of the true class of each.

    Raises:
        ValueError: the arrays do not fit each other, or a logit is not finite.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599;
        Platt 1999, Probabilistic Outputs for Support Vector Machines.
    """
    z, y = _checked(logits, labels)
    if not z.size or np.ptp(z, axis=1).max() == 0:
        return 1.0
    z = z - z.max(1, keepdims=True)
    wanted = _target(z, y)
    beta, low, high = 1.0, 1 / HOTTEST, 1 / COLDEST
    for _ in range(100):
        p = softmax(z, 1 / beta)
        mean = (p * z).sum(1)
        slope = float((mean - wanted).mean())
        curve = float(((p * z * z).sum(1) - mean * mean).mean())
        low, high = (low, beta) if slope > 0 else (beta, high)
        step = beta - slope / curve if curve > 0 else 0.0
        if not low <= step <= high:
            step = sqrt(low * high)
        if abs(step - beta) <= 1e-9 * beta:
            break
        beta = step
    return float(np.clip(1 / beta, COLDEST, HOTTEST))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> list[Bin]:
    """Compare how sure the answers are with how often they are right, by bins of equal width.

    Shape: (N, K), (N,) -> `bins` records, from the least confident to the most

    Raises:
        ValueError: `bins` is below 1, or the arrays do not fit each other.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1; got {bins}")
    p, y = _checked(probabilities, labels)
    confidence = p.max(1) if len(p) else np.empty(0)
    right = p.argmax(1) == y if len(p) else np.empty(0, bool)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    sure = np.bincount(index, confidence, minlength=bins)
    hits = np.bincount(index, right, minlength=bins)
    return [
        Bin(
            lower=b / bins,
            upper=(b + 1) / bins,
            confidence=float(sure[b] / n) if n else None,
            accuracy=float(hits[b] / n) if n else None,
            n=int(n),
        )
        for b, n in enumerate(counts)
    ]


def _checked(values: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    z, y = np.asarray(values, np.float64), np.asarray(labels, np.int64)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise ValueError(
            f"wanted (N, K) values with (N,) labels; got shapes {z.shape} and {y.shape}"
        )
    if y.size and not 0 <= y.min() <= y.max() < z.shape[1]:
        raise ValueError(f"labels must be from 0 to {z.shape[1] - 1}; got {y.min()} to {y.max()}")
    if not np.isfinite(z).all():
        raise ValueError("values must be finite; got NaN or infinity among them")
    return z, y


def _target(z: Floats, y: NDArray[np.int64]) -> Floats:
    """Return the logit that the labels ask the softmax to have on average."""
    n, k = z.shape
    own = z[np.arange(n), y]
    if k == 1 or not (own >= z.max(1)).all():
        return own
    mistake = 1 / (n + 2)
    return (1 - mistake) * own + mistake * (z.sum(1) - own) / (k - 1)
