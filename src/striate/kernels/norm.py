"""Batch normalisation with what stands behind it, a sum and a rectifier or SiLU: an operator.

What they cost is memory read and written. Normalisation and a rectifier together read and write it
eight times in place of thirteen.
"""

from math import inf

import torch
from torch import Tensor

from striate.kernels.geometry import last
from striate.kernels.library import Norm, run
from striate.kernels.memory import empty
from striate.kernels.operators import as_operator, differentiate, shaped

__all__ = ["batch_norm"]


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, addend: Tensor | None = None, *,
    epsilon: float, low: float = -inf, high: float = inf, silu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Normalise every channel over the batch and all positions; the answer lies channels last.

    Shape: (N, C, *S), (C), (C), (N, C, *S) -> (N, C, *S), mean (C), biased variance (C)
    Math:  y = clip((x - mean) / sqrt(variance + epsilon) weight + bias + addend, low, high)

    Args:
        x: float32, on the CPU.
        addend: what a residual block adds.
        epsilon: above 0.
        low: least answer; a rectifier has 0.
        high: largest answer; ReLU6 has 6.
        silu: y is v / (1 + e^-v) of what is normalised, v; without addend and bounds.
    """
    return torch.ops.striate.normalise(x, weight, bias, addend, epsilon, low, high, silu)


def _geometry(x: Tensor, epsilon: float, low: float, high: float, silu: bool) -> Norm:
    c, threads = x.shape[1], torch.get_num_threads()
    return Norm(x.numel() // c, c, threads, silu, epsilon, low, high)


def _call(name: str, geometry: Norm, *tensors: Tensor | None) -> None:
    run(name, geometry, *(None if x is None else x.data_ptr() for x in tensors))


def _memory(x: Tensor) -> Tensor:
    return empty(x.shape[0], x.shape[1], x.shape[2:])


def _whole(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


@as_operator
def normalise(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, addend: Tensor | None,
    epsilon: float, low: float, high: float, silu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Normalise by the statistics of x."""
    x, weight, bias = last(x), _whole(weight), _whole(bias)
    addend = None if addend is None else last(addend)
    y, mean, variance = _memory(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
    geometry = _geometry(x, epsilon, low, high, silu)
    _call("norm_forward", geometry, x, weight, bias, addend, y, mean, variance)
    return y, mean, variance


@as_operator
def normalise_backward(
    x: Tensor, dy: Tensor, y: Tensor | None, weight: Tensor | None, bias: Tensor | None,
    mean: Tensor, variance: Tensor, epsilon: float, low: float, high: float, silu: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of sum(dy y) to x, weight, bias and, where y is given, the addend.

    y is wanted where there was an addend and the answers have bounds; else the last one is empty.
    """
    x, dy, weight, bias = last(x), last(dy), _whole(weight), _whole(bias)
    y = None if y is None else last(y)
    dx, dweight, dbias = _memory(x), torch.empty_like(mean), torch.empty_like(mean)
    dsum = mean.new_empty(0) if y is None else _memory(x)
    geometry, known = _geometry(x, epsilon, low, high, silu), (weight, bias, mean, variance)
    _call("norm_backward", geometry, x, dy, y, *known, dx, dweight, dbias, dsum)
    return dx, dweight, dbias, dsum


def _like(x: Tensor) -> Tensor:
    """Return what torch.compile knows of an answer: its shape, channels last."""
    return torch.empty_like(x.movedim(1, -1), memory_format=torch.contiguous_format).movedim(-1, 1)


@shaped("normalise")
def _(x, weight, bias, addend, epsilon, low, high, silu=False):  # type: ignore[no-untyped-def]
    return _like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


@shaped("normalise_backward")
def _(x, dy, y, weight, bias, mean, variance, epsilon, low, high, silu=False):  # type: ignore[no-untyped-def]
    dsum = mean.new_empty(0) if y is None else _like(x)
    return _like(x), torch.empty_like(mean), torch.empty_like(mean), dsum


def _keep(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, bias, addend, *ctx.how = inputs
    y, mean, variance = output
    ctx.mark_non_differentiable(mean, variance)
    bounded = ctx.how[1:3] != [-inf, inf]
    ctx.save_for_backward(x, weight, bias, mean, variance, y if bounded else None)
    ctx.added = addend is not None


def _backward(ctx, dy, dmean, dvariance):  # type: ignore[no-untyped-def]
    x, weight, bias, mean, variance, y = ctx.saved_tensors
    wanted, how = list(ctx.needs_input_grad[:4]), ctx.how
    if torch.is_grad_enabled():  # a gradient of this gradient is asked for: PyTorch has it
        dsum = dy if y is None else dy * ((y > how[1]) & (y < how[2]))
        if how[3]:
            v = torch.nn.functional.batch_norm(x, None, None, weight, bias, True, 0, how[0])
            share = v.sigmoid()
            dsum = dy * share * (1 + v * (1 - share))
        inverse = (variance + how[0]).rsqrt()
        grads = torch.ops.aten.native_batch_norm_backward(
            dsum, x, weight, None, None, mean, inverse, True, how[0], wanted[:3]
        )
    else:
        masked = y if ctx.added else None
        *grads, dsum = normalise_backward(x, dy, masked, weight, bias, mean, variance, *how)
        dsum = dy if masked is None else dsum
    found = (g if want else None for g, want in zip((*grads, dsum), wanted, strict=True))
    return *found, None, None, None, None


differentiate("normalise", _backward, _keep)
