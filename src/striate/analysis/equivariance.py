"""What a shift does to an answer: how far it moves along, and how often the class stays.

Shifts are circular, so that nothing enters at a border: what is measured is the network alone.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from math import ceil, floor, inf

import torch
from torch import Tensor, nn

from striate.analysis.receptive import evaluating
from striate.layers.bounds import per_axis

__all__ = ["equivariance_error", "shift_consistency"]


def equivariance_error(model: nn.Module, x: Tensor, shift: int | Sequence[int]) -> float:
    """Return how far the answer to a shifted sample is from the shifted answer.

    Shape: x (N, C, *S) -> 0 for an equivariant model, about 1.4 where the two have nothing in
        common; infinite where the answer to x is 0 everywhere and the other is not
    Math:  |f(T_s x) - T_(s / j) f(x)| / |f(x)|, T_s a circular shift by s samples, j = S / S' the
           samples of x a step of f(x); where s / j is no whole number the better of its two
           neighbours counts. An answer without axes stays: the error of its invariance.

    Args:
        model: any that gives one tensor; it is put into evaluation mode meanwhile.
        x: samples as the model wants them.
        shift: along every axis, or one number an axis, in samples.

    Raises:
        ValueError: there is another number of shifts than of axes, or one is not whole.
    """
    steps = _steps(x, shift)
    with evaluating(model):
        still, moved = model(x), model(_rolled(x, steps))
    sizes = zip(
        steps, x.shape[2:], still.shape[2:], strict=False
    )  # of an answer without axes: none
    exact = [step * left / size for step, size, left in sizes]
    whole = product(*({floor(step), ceil(step)} for step in exact))
    error = min(float((moved - _rolled(still, near)).norm()) for near in whole)
    size = float(still.norm())
    return error / size if size else (inf if error else 0.0)


def shift_consistency(model: nn.Module, x: Tensor, shifts: Iterable[int | Sequence[int]]) -> float:
    """Return the share of samples that keep their class when they are shifted, 0 to 1.

    Shape: x (N, C, *S), the model's answer (N, K)
    Math:  mean over samples and shifts of [argmax f(T_s x) = argmax f(x)]

    Args:
        model: any that gives logits; it is put into evaluation mode meanwhile.
        x: samples as the model wants them.
        shifts: each along every axis, or one number an axis, in samples.

    Raises:
        ValueError: there is no shift or no sample, another number of shifts than of axes, or the
            model gives no (N, K).

    Source: Zhang 2019, Making Convolutional Networks Shift-Invariant Again, arXiv:1904.11486,
        section 4.2 (which shifts at random).
    """
    if not isinstance(shifts, Iterable):
        raise ValueError(f"shifts must be several, such as (1, 2, 3); got {shifts}")
    moves = [_steps(x, shift) for shift in shifts]
    if not moves or not len(x):
        raise ValueError(f"wanted are samples and shifts; got {len(x)} and {len(moves)}")
    with evaluating(model):
        answer = model(x)
        if answer.dim() != 2:
            raise ValueError(f"the model must give logits (N, K); got {tuple(answer.shape)}")
        kept = [model(_rolled(x, steps)).argmax(1) == answer.argmax(1) for steps in moves]
    return float(torch.stack(kept).double().mean())


def _steps(x: Tensor, shift: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shift along each axis."""
    axes = x.dim() - 2
    if not axes:
        raise ValueError(f"shift must be one number, or one for each of {axes} axes; got {shift}")
    (steps,) = per_axis(axes, -inf, shift=shift)
    return steps


def _rolled(x: Tensor, steps: Sequence[int]) -> Tensor:
    return x.roll(tuple(steps), tuple(range(2, 2 + len(steps)))) if steps else x
