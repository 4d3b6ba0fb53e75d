"""Losses: how wrong an answer is, the mean over a batch.

`y` is (N,) classes or (N, K) shares of each class, 0 to 1: one-hot rows, possibly mixed, or several
ones where classes do not exclude each other. `weights`, (N,) of at least 0, says how much the loss
of each sample counts in the mean over N; None: 1. The sum of a row cannot say it: two right classes
of weight 1 would be one of weight 2.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.layers.bounds import indices

__all__ = [
    "SquaredError",
    "euclidean_loss",
    "hinge_loss",
    "map_loss",
    "margin_loss",
    "nll_loss",
    "shares",
    "sigmoid_loss",
    "softmax_loss",
]


def shares(y: Tensor, answer: Tensor) -> Tensor:
    """Return the share of each class, (N, K) like `answer`: one-hot rows of (N,) classes.

    Raises:
        ValueError: `y` is neither (N,) integers 0 to K - 1 nor of the shape of `answer`, or the
            batch is empty.
    """
    _check_batch(y, answer)
    if y.shape == answer.shape:
        return y.to(answer)
    indices(len(answer), answer.shape[1], y=y)
    return F.one_hot(y.long(), answer.shape[1]).to(answer)


def _targets(y: Tensor, answer: Tensor) -> Tensor:
    """Return the shares of losses that are not linear in them: a share of 2 would be no weight."""
    share = shares(y, answer)
    low, high = torch.stack(share.aminmax()).tolist()
    if not (low >= 0 and high <= 1):  # nor nan
        raise ValueError(
            f"y must hold shares of 0 to 1, the weight of a sample stands in weights; "
            f"got {low:g} to {high:g}"
        )
    return share


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of (N,) losses times their weights; a weight of 0 counts 0, of infinity too.

    Raises:
        ValueError: there is another number of weights than of losses, or one below 0.
    """
    if weights is None:
        return losses.mean()
    if weights.shape != losses.shape or not bool((weights >= 0).all()):
        least = f" of at least {float(weights.min()):g}" if weights.numel() else ""
        raise ValueError(
            f"weights must be ({len(losses)},) numbers of at least 0; "
            f"got {tuple(weights.shape)}{least}"
        )
    return (losses.masked_fill(weights == 0, 0) * weights.to(losses)).mean()


def _check_batch(y: Tensor, answer: Tensor) -> None:
    """Refuse shapes that do not fit, and the mean over no sample."""
    classes = y.shape == answer.shape[:1] and answer.dim() == 2
    if answer.dim() < 2 or not (classes or y.shape == answer.shape):
        wanted = f"({len(answer)},) classes or {tuple(answer.shape)} shares"
        if answer.dim() < 2:
            wanted = "(N,) classes or (N, K) shares, the answer (N, K)"
        raise ValueError(
            f"y must be {wanted}; got {tuple(y.shape)} for an answer {tuple(answer.shape)}"
        )
    if not len(y):
        raise ValueError(f"y must have at least one sample; got {tuple(y.shape)}")


def _weighed(share: Tensor, values: Tensor) -> Tensor:
    """Return the sum over classes, in which a share of 0 counts 0, of infinity too."""
    return (share * values.masked_fill((share == 0) & ~values.isfinite(), 0)).sum(1)


def softmax_loss(logits: Tensor, y: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Ask for one of K exclusive classes, in nats.

    Shape: (N, K), (N,) or (N, K) -> ()
    Math:  -sum_k y_k log p_k, p = softmax(logits); finite for any logits
    """
    _check_batch(y, logits)
    return nll_loss(logits.log_softmax(1), y, weights=weights)


def nll_loss(chances: Tensor, y: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Negative log likelihood of the logarithms of probabilities, in nats.

    Shape: (N, K), (N,) or (N, K) -> ()
    Math:  -sum_k y_k log p_k, where 0 log 0 = 0
    """
    return -_mean(_weighed(shares(y, chances), chances), weights)


def sigmoid_loss(logits: Tensor, y: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Ask for K independent probabilities in [0, 1], in nats.

    Shape: (N, K), (N,) or (N, K) -> ()
    Math:  -sum_k y_k log s_k + (1 - y_k) log(1 - s_k), s = sigmoid(logits)
    """
    target = _targets(y, logits)
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    return _mean(losses, weights)


def euclidean_loss(answer: Tensor, target: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Ask for real numbers in (-inf, inf).

    Shape: (N, *), (N, *) -> ()
    Math:  1/2 |answer - target|^2

    Raises:
        ValueError: the shapes differ, there is no axis of samples, or the batch is empty.
    """
    if answer.dim() < 2:
        raise ValueError(f"answer must be (N, *), N samples; got {tuple(answer.shape)}")
    if answer.shape[:1] == (0,):
        raise ValueError(f"answer must have at least one sample; got {tuple(answer.shape)}")
    if answer.shape != target.shape:
        raise ValueError(
            f"target must be {tuple(answer.shape)} like the answer; got {tuple(target.shape)}"
        )
    return 0.5 * _mean((answer - target).square().flatten(1).sum(1), weights)


@dataclass(frozen=True)
class SquaredError:
    """The Euclidean loss against `high` for the right class and `low` for the others.

    Shape: (N, K), (N,) or (N, K) -> ()
    Math:  1/2 sum_k (answer_k - target_k)^2, target_k = low + (high - low) y_k

    Args:
        low: target of a wrong class.
        high: target of the right one.

    Source: LeCun et al. 1989, with -1 and 1; Waibel et al. 1989, with 0 and 1.
    """

    low: float = -1.0
    high: float = 1.0

    def __call__(self, answer: Tensor, y: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return the loss."""
        target = self.low + (self.high - self.low) * _targets(y, answer)
        return euclidean_loss(answer, target, weights=weights)


def hinge_loss(
    logits: Tensor,
    y: Tensor,
    margin: float = 1.0,
    power: int = 1,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Ask the right logit to be above `margin`, the others below its negative.

    Shape: (N, K), (N,) or (N, K) -> ()
    Math:  sum_k max(0, margin - s_k logit_k)^power, s_k = 2 y_k - 1

    Args:
        power: 1, or 2 for a slope that has no step.

    Raises:
        ValueError: `margin` is not above 0 or `power` is neither 1 nor 2.

    Source: Tang 2013, Deep Learning using Linear Support Vector Machines, arXiv:1306.0239.
    """
    if not margin > 0 or power not in (1, 2):
        raise ValueError(f"margin must be above 0, power 1 or 2; got {margin} and {power}")
    sign = 2 * _targets(y, logits) - 1
    return _mean((margin - sign * logits).clamp(min=0).pow(power).sum(1), weights)


def margin_loss(
    lengths: Tensor,
    y: Tensor,
    present: float = 0.9,
    absent: float = 0.1,
    weight: float = 0.5,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Ask the right capsule to be longer than `present`, the others shorter than `absent`.

    Shape: (N, K), (N,) or (N, K) -> ()
    Math:  sum_k y_k max(0, present - |v_k|)^2 + weight (1 - y_k) max(0, |v_k| - absent)^2

    Args:
        weight: of absent capsules; `weights` are those of samples.

    Source: Sabour, Frosst, Hinton 2017, Dynamic Routing Between Capsules, eq. 4.
    """
    right = _targets(y, lengths)
    miss = right * (present - lengths).clamp(min=0).square()
    false = (1 - right) * (lengths - absent).clamp(min=0).square()
    return _mean((miss + weight * false).sum(1), weights)


def map_loss(
    distances: Tensor, y: Tensor, rubbish: float = 1.0, *, weights: Tensor | None = None
) -> Tensor:
    """Maximum a posteriori: near to the right centre, far from the others and from rubbish.

    Shape: (N, K), (N,) or (N, K) -> ()
    Math:  sum_k y_k d_k + log(exp(-rubbish) + sum_k exp(-d_k)); without rubbish (inf) it is the
           softmax loss of -d

    Args:
        rubbish: distance of a class that stands for all that is no class; above 0.

    Raises:
        ValueError: `rubbish` is not above 0.

    Source: LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning, eq. 9.
    """
    if not rubbish > 0:
        raise ValueError(f"rubbish must be above 0; got {rubbish}")
    right = shares(y, distances)
    outside = distances.new_full((len(distances), 1), -rubbish)
    rest = torch.cat([-distances, outside], 1).logsumexp(1)
    return _mean(_weighed(right, distances) + right.sum(1) * rest, weights)
