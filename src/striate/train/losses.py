"""Losses: functions (model, x, y) -> scalar in nats. Pass another to `steps` to change one update.

`y` is (N,) classes, or (N, K) shares: one-hot rows times the sample's weight, possibly mixed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Loss", "cross_entropy", "loss_of"]

HELP = 0.3  # weight of an auxiliary classifier (Szegedy et al. 2014, arXiv:1409.4842, section 5)

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def loss_of(model: nn.Module, smoothing: float = 0.0, autocast: torch.dtype | None = None) -> Loss:
    """Return the loss by which `model` learns: its own, or cross-entropy.

    A network has its own where it carries a function `criterion(answer, y)`. Rows of shares are
    handed to it as `criterion(answer, shares, weights=weights)`, their sums taken out of them: a
    criterion that is not linear in y cannot tell the weight of a sample from the shares.
    """
    if not hasattr(model, "criterion"):
        return cross_entropy(smoothing, autocast)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
            answer = model(x)
        if y.dim() != 2:
            return model.criterion(answer, y)  # type: ignore[operator]
        weights = y.sum(1)
        share = y / torch.where(weights > 0, weights, 1)[:, None]
        return model.criterion(answer, share, weights=weights)  # type: ignore[operator]

    return loss


def cross_entropy(smoothing: float = 0.0, autocast: torch.dtype | None = None) -> Loss:
    """Return the mean cross-entropy of the logits, the target smoothed over all classes.

    Shape: x (N, C, *S), y (N,) or (N, K) -> ()
    Math:  L = -1/N sum_n sum_k w_nk log p_nk, 0 log 0 = 0,
           w_n = (1 - smoothing) y_n + smoothing / K |y_n|, p = softmax(logits);
           where a network gives a list, + 0.3 L of each auxiliary classifier behind the first

    Args:
        smoothing: share of each sample's weight spread over all classes, 0 to 1.
        autocast: type of the forward pass where the hardware has it; the loss is float32.

    Raises:
        ValueError: from the loss, where y is of another shape than the logits ask for, or, on the
            CPU, names a class that is not there.

    Source: Szegedy et al. 2015, arXiv:1512.00567, section 7 (label smoothing).
    """

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
            answer = model(x)
        first, *helpers = answer if isinstance(answer, list) else [answer]
        total = one(first, y)
        for logits in helpers:
            total = total + HELP * one(logits, y)
        return total

    def one(logits: Tensor, y: Tensor) -> Tensor:
        if autocast is not None:
            logits = logits.float()
        _check(logits, y)
        if y.dim() == 1:
            return F.cross_entropy(logits, y, label_smoothing=smoothing)
        mass = y.sum(1, keepdim=True)
        target = (1 - smoothing) * y + smoothing / y.shape[1] * mass
        surprise = logits.log_softmax(1).masked_fill(target == 0, 0)  # 0 times -inf is no number
        return -(target * surprise).sum(1).mean()

    return loss


def _check(logits: Tensor, y: Tensor) -> None:
    """Refuse targets that do not fit the logits; a look at classes on a GPU would wait for it."""
    count = logits.shape[1]
    if y.shape not in (logits.shape, logits.shape[:1]) or not len(y):
        raise ValueError(
            f"y must be ({len(logits)},) classes or {tuple(logits.shape)} shares of at least one "
            f"sample; got {tuple(y.shape)}"
        )
    if y.dim() == 1 and y.device.type == "cpu":
        low, high = (int(end) for end in y.aminmax())
        if low < 0 or high >= count:
            raise ValueError(
                f"y must name {count} classes by 0 to {count - 1}; got {low if low < 0 else high}"
            )
