"""How good a network is: each score with its 95 % interval, and how that was found.

Proportions have Wilson's interval, the other scores a seeded bootstrap over the samples; where
that is too narrow, macro scores have the intervals of their classes combined. The formulas are
scikit-learn's (the tests hold each to it); its import alone would cost 4 seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BINS", "Score", "confusion_matrix", "per_class", "score", "wilson"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15  # of the expected calibration error
Z95 = 1.959963984540054  # normal quantile of 0.975
RESAMPLES = 1000
CHUNK = 2**21  # numbers in a temporary array: 16 MiB of float64


@dataclass(frozen=True)
class Score:
    """One number with its 95 % interval.

    Args:
        value: the estimate; NaN where it is undefined, e.g. the recall of a class without samples.
        low: lower end of the interval.
        high: upper end of the interval.
        n: samples that it rests on.
        method: "wilson"; "bootstrap 1000", the number being that of the resamples; or with
            ", mover" the wider of this and the classes' own intervals combined.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints; what is undefined becomes null."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        numbers = {key: value if isfinite(value) else None for key, value in ends.items()}
        return {**numbers, "n": self.n, "method": self.method}


def score(
    probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str], seed: int = 0
) -> dict[str, Score]:
    """Score predicted probabilities against the true classes.

    Keys: accuracy, top5_accuracy (with more than 5 classes), balanced_accuracy, macro_f1,
    macro_precision, macro_recall, log_loss (nats), brier (0 to 2), ece (0 to 1). Balanced accuracy
    averages over the classes that occur in the labels; the macro scores over those that occur in
    labels or answers, where a share of nothing counts 0, as in scikit-learn.

    Shape: (N, K), (N,) -> one `Score` a key
    Math:  log_loss = -mean log max(p[y], eps),  brier = mean sum_k (p[k] - [k = y])^2,
           ece = sum_b |sum_{i in b} ([right] - confidence)| / N over 15 bins of equal width

    Args:
        probabilities: (N, K), rows that add up to 1.
        labels: (N,) index of the true class.
        classes: K names.
        seed: of the bootstrap.

    Raises:
        ValueError: no samples, or an argument that does not fit the others.

    Source: Wilson 1927; Efron 1979; Brier 1950; Guo et al. 2017, arXiv:1706.04599 (ECE).
    """
    p, y = _checked(probabilities, labels, classes)
    n, k = p.shape
    predicted, confidence, truth, rank, brier = _samples(p, y)
    right = predicted == y
    log_loss = -np.log(np.maximum(truth, np.finfo(np.float64).eps))
    rng = np.random.default_rng(seed)
    scores = {"accuracy": wilson(int(right.sum()), n)}
    if k > 5:
        scores["top5_accuracy"] = wilson(int((rank < 5).sum()), n)
    scores |= _macro_scores(confusion_matrix(y, predicted, k), rng)
    scores |= _mean_scores(log_loss, brier, right, confidence, rng)
    return scores


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, k: int) -> Ints:
    """Count samples by true class (rows) and predicted class (columns).

    Shape: (N,), (N,) -> (K, K)

    Raises:
        ValueError: the lists differ in length, or hold a class that is not in 0 to K - 1.
    """
    y, guess = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    if y.ndim != 1 or y.shape != guess.shape:
        raise ValueError(
            f"labels and predicted must be lists of one length; got {y.shape} and {guess.shape}"
        )
    for name, values in (("labels", y), ("predicted", guess)):
        if len(values) and not 0 <= values.min() <= values.max() < k:
            raise ValueError(
                f"{name} must be from 0 to {k - 1}; got {values.min()} to {values.max()}"
            )
    return np.bincount(y * k + guess, minlength=k * k).reshape(k, k)


def per_class(confusion: ArrayLike, classes: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return precision, recall and F1 of each class as `Score`, and `n`, its samples.

    All three have Wilson's interval: F1 = 2 J / (1 + J) rises with the proportion
    J = TP / (TP + FP + FN), so the ends of J's interval give those of F1.

    Shape: (K, K) counts, rows the true classes -> K entries

    Raises:
        ValueError: the matrix has not one row and one column a class.

    Source: Lam et al. 2023, Confidence Intervals for the F1 Score, arXiv:2309.14621.
    """
    counts = np.asarray(confusion, np.int64)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(
            f"confusion must have a row and a column for each of {len(classes)} classes; "
            f"got shape {counts.shape}"
        )
    table: dict[str, Mapping[str, Any]] = {}
    for i, name in enumerate(classes):
        hits, support, guessed = int(counts[i, i]), int(counts[i].sum()), int(counts[:, i].sum())
        table[name] = {
            "precision": wilson(hits, guessed),
            "recall": wilson(hits, support),
            "f1": _f1(wilson(hits, support + guessed - hits)),
            "n": support,
        }
    return table


def wilson(hits: int, n: int) -> Score:
    """Return the share hits / n with its 95 % interval; undefined (NaN) where n is 0.

    Math: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    if n == 0:
        return Score(nan, nan, nan, 0, "wilson")
    p, zz = hits / n, Z95 * Z95
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    reach = Z95 * sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    low = 0.0 if hits == 0 else centre - reach
    high = 1.0 if hits == n else centre + reach
    return Score(p, low, high, n, "wilson")


def _f1(share: Score) -> Score:
    value, low, high = (2 * j / (1 + j) for j in (share.value, share.low, share.high))
    return Score(value, low, high, share.n, share.method)


def _checked(
    probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]
) -> tuple[NDArray[Any], Ints]:
    p, y = np.asarray(probabilities), np.asarray(labels)
    if p.ndim != 2 or p.shape[1] != len(classes):
        raise ValueError(
            f"probabilities must have shape (N, {len(classes)}), a column a class; got {p.shape}"
        )
    if y.shape != p.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"labels must be {len(p)} integers; got {y.dtype} of shape {y.shape}")
    if not len(p):
        raise ValueError("labels must hold at least one sample to score; got none")
    if not 0 <= y.min() <= y.max() < len(classes):
        raise ValueError(f"labels must be from 0 to {len(classes) - 1}; got {y.min()} to {y.max()}")
    return p, y.astype(np.int64, copy=False)


def _samples(p: NDArray[Any], y: Ints) -> tuple[Ints, Floats, Floats, Ints, Floats]:
    """Return answer, its probability, that of the truth, the truth's rank, and Brier's loss."""
    n, k = p.shape
    predicted, rank = np.empty(n, np.int64), np.empty(n, np.int64)
    confidence, truth, brier = np.empty(n), np.empty(n), np.empty(n)
    rows = max(1, CHUNK // k)
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        block, label = p[part].astype(np.float64), y[part, None]
        # Written so that NaN fails it too.
        if not (block.min() >= 0 and np.abs(block.sum(1) - 1).max() <= 1e-2):
            raise ValueError(
                "probabilities must be at least 0 and add up to 1 in each row; "
                f"got values from {block.min()} to {block.max()} and sums from "
                f"{block.sum(1).min()} to {block.sum(1).max()}"
            )
        own = np.take_along_axis(block, label, 1)
        predicted[part], confidence[part], truth[part] = block.argmax(1), block.max(1), own[:, 0]
        # Among equal probabilities the first counts as the higher, as in argmax.
        ahead = (block > own) | ((block == own) & (np.arange(k) < label))
        rank[part] = ahead.sum(1)
        brier[part] = np.einsum("nk,nk->n", block, block) - 2 * truth[part] + 1
    return predicted, confidence, truth, rank, brier


def _bin(confidence: Floats) -> Ints:
    """Return the calibration bin, (b / 15, (b + 1) / 15], of each confidence."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _resamples(n: int) -> int:
    """Return how often to resample n samples: 1,000 times, fewer above 100,000 samples."""
    return max(200, min(RESAMPLES, 10**8 // n))


def _mean_scores(
    log_loss: Floats,
    brier: Floats,
    right: NDArray[np.bool_],
    confidence: Floats,
    rng: np.random.Generator,
) -> dict[str, Score]:
    """Resample what is a function of sums over samples: one product of counts and columns."""
    n, bins = len(right), _bin(confidence)
    columns = np.zeros((n, 2 + BINS))
    columns[:, 0], columns[:, 1] = log_loss, brier
    columns[np.arange(n), 2 + bins] = right - confidence
    times = _resamples(n)
    rows = max(1, CHUNK // n)
    means = np.empty((times, 2 + BINS))
    for start in range(0, times, rows):
        size = min(rows, times - start)
        drawn = rng.integers(0, n, (size, n), dtype=np.int32)
        weights = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(np.float64)
        means[start : start + size] = weights @ columns / n
    exact = columns.mean(0)
    spread = np.sqrt(np.bincount(bins, confidence * (1 - confidence), minlength=BINS)) / n
    return {
        "log_loss": _percentile(float(exact[0]), means[:, 0], n),
        "brier": _percentile(float(exact[1]), means[:, 1], n),
        "ece": _ece(exact[2:], means[:, 2:], spread * rng.standard_normal((times, BINS)), n),
    }


def _ece(gaps: Floats, drawn: Floats, calibrated: Floats, n: int) -> Score:
    """Return the sum of |gap|, which chance pushes up, with an interval that allows for that.

    The low end mirrors the bootstrap's high one, and is 0 where a perfectly calibrated network
    could show as large a value.
    """
    value, resampled, chance = (np.abs(x).sum(-1) for x in (gaps, drawn, calibrated))
    high = float(np.percentile(resampled, 97.5))
    low = 0.0 if value <= np.percentile(chance, 97.5) else max(0.0, 2 * float(value) - high)
    return Score(float(value), low, max(float(value), high), n, f"bootstrap {len(drawn)}")


def _macro_scores(confusion: Ints, rng: np.random.Generator) -> dict[str, Score]:
    """Resample what the confusion matrix decides: its cells are drawn, not the samples.

    A cell that is empty stays empty in every resample, as if it could never fill. So each end is
    the farther one of the bootstrap's and of `_mover`, which knows what no resample shows.
    """
    k, n = len(confusion), int(confusion.sum())
    truth, guess = np.nonzero(confusion)
    cells = confusion[truth, guess]
    times = _resamples(n)
    rows = max(1, CHUNK // max(len(cells), k))
    parts = [
        _macro(rng.multinomial(n, cells / n, min(rows, times - start)), truth, guess, k)
        for start in range(0, times, rows)
    ]
    return {
        name: _wider(score, np.concatenate([part[name] for part in parts]))
        for name, score in _mover(confusion).items()
    }


def _wider(score: Score, drawn: Floats) -> Score:
    """Return a score whose interval also holds that of the bootstrap."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    ends = min(score.low, float(low)), max(score.high, float(high))
    return Score(score.value, *ends, score.n, f"bootstrap {len(drawn)}, {score.method}")


def _mover(confusion: Ints) -> dict[str, Score]:
    """Combine Wilson's intervals of the classes to those of the macro scores.

    Recalls of different classes rest on different samples, and so do precisions. An error lowers
    the F1 of two classes: at most that doubles the variance of their sum.

    Math:  low = mean p - sqrt(m sum (p - l)^2) / K, high alike; m = 2 for F1, else 1
    Source: Zou and Donner 2008, Construction of confidence limits about effect measures (MOVER).
    """
    hits, support, guessed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    here = np.flatnonzero(support + guessed)
    recall = {k: _share(hits[k], support[k]) for k in here}
    precision = [_share(hits[k], guessed[k]) for k in here]
    f1 = [_f1(_share(hits[k], support[k] + guessed[k] - hits[k])) for k in here]
    n = int(confusion.sum())
    return {
        "balanced_accuracy": _mean([recall[k] for k in here if support[k]], n),
        "macro_f1": _mean(f1, n, 2.0),
        "macro_precision": _mean(precision, n),
        "macro_recall": _mean(list(recall.values()), n),
    }


def _share(hits: int, n: int) -> Score:
    """Return Wilson's interval; its limit for n = 0 is 0 to 1, where the share counts 0."""
    return wilson(int(hits), int(n)) if n else Score(0.0, 0.0, 1.0, 0, "wilson")


def _mean(parts: Sequence[Score], n: int, shared: float = 1.0) -> Score:
    """Return the mean of shares; `shared` is how much more it varies than if they did not meet."""
    value, low, high = np.array([(p.value, p.low, p.high) for p in parts]).T
    mean = float(value.mean())
    below, above = (
        sqrt(shared * float((gap**2).sum())) / len(parts) for gap in (value - low, high - value)
    )
    return Score(mean, max(0.0, mean - below), min(1.0, mean + above), n, "mover")


def _macro(cells: Ints, truth: Ints, guess: Ints, k: int) -> dict[str, Floats]:
    """Return the averages over classes of R confusion matrices given by their cells (R, cells)."""
    hits = _group(np.where(truth == guess, cells, 0), truth, k)
    support, guessed = _group(cells, truth, k), _group(cells, guess, k)
    present = np.maximum((support + guessed > 0).sum(1), 1)
    recall = hits / np.maximum(support, 1)
    return {
        "balanced_accuracy": recall.sum(1) / np.maximum((support > 0).sum(1), 1),
        "macro_f1": (2 * hits / np.maximum(support + guessed, 1)).sum(1) / present,
        "macro_precision": (hits / np.maximum(guessed, 1)).sum(1) / present,
        "macro_recall": recall.sum(1) / present,
    }


def _group(cells: Ints, keys: Ints, k: int) -> Ints:
    """Sum the columns that share a key: (R, cells) -> (R, K)."""
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    sums = np.zeros((len(cells), k), np.int64)
    sums[:, found] = np.add.reduceat(cells[:, order], starts, axis=1)
    return sums


def _percentile(value: float, drawn: Floats, n: int) -> Score:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Score(value, float(low), float(high), n, f"bootstrap {len(drawn)}")
