"""What strides fold: how much of a signal lies above the Nyquist frequency of what is kept of it.

A layer of stride s keeps every s-th sample. What varies faster than half a period in s samples is
not lost by that: it comes back as something slower. A layer may filter it away before; these
numbers say whether it does.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from striate.analysis.receptive import hides_parts, watched
from striate.layers import (
    AdaptivePolyphaseSampling,
    AdaptivePolyphaseUpsampling,
    Convolution,
    TiledConvolution,
)
from striate.layers.bounds import whole

__all__ = ["Sampled", "above_nyquist", "folding"]

FINE = 64  # frequencies along an axis, that a kernel's spectrum is read at
RAISING = (AdaptivePolyphaseUpsampling, nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d)


@dataclass(frozen=True)
class Sampled:
    """What a layer with a stride folds.

    Args:
        name: of the layer in the model.
        stride: along every axis.
        kernel: share of the energy of its learnt kernels above the new Nyquist frequency, 0 to 1;
            None: it has none. It is what the layer lets through of white noise.
        signal: share of the energy, the mean apart, of what it samples, 0 to 1; None: there is
            nothing between its positions, as each has kernels of its own or there is just one.
        white: the share of white noise: 1 - prod(1 / stride). A kernel that has learnt nothing
            against aliasing is near it, one that filters is near 0.
    """

    name: str
    stride: tuple[int, ...]
    kernel: float | None
    signal: float | None
    white: float


def above_nyquist(x: Tensor, stride: Sequence[int], size: Sequence[int] | None = None) -> float:
    """Return the share of energy that sampling every `stride`-th value folds.

    Shape: (..., *S), as many last axes as strides -> 0 to 1; 0 where there is no energy
    Math:  sum of |X(f)|^2 over f with |f_a| > 1 / (2 stride_a) on some axis a, over the sum of all;
           half of what lies exactly at an end of that band, which is its own alias

    Args:
        stride: along every axis, in samples.
        size: pad with zeros up to it, to read the spectrum finer.

    Raises:
        ValueError: a stride is below 1, or there are more than x has axes.
    """
    whole(1, stride=stride)
    if not 0 < len(stride) <= x.dim():
        raise ValueError(f"stride must be one number for each last axis of x; got {stride}")
    axes = tuple(range(-len(stride), 0))
    power = torch.fft.fftn(x.double(), size, axes).abs().square()
    power = power.reshape(-1, *power.shape[-len(stride) :]).sum(0)
    kept = power.new_ones(())
    for axis, step in enumerate(stride):
        frequency = torch.fft.fftfreq(power.shape[axis], dtype=power.dtype, device=x.device).abs()
        inside = (frequency < 0.5 / step - 1e-9).to(power)
        if step > 1:
            inside[(frequency - 0.5 / step).abs() <= 1e-9] = 0.5
        else:
            inside[:] = 1
        kept = kept[..., None] * inside
    total = power.sum()
    return float(1 - (power * kept).sum() / total) if total > 0 else 0.0


def folding(model: nn.Module, x: Tensor) -> list[Sampled]:
    """Return what every layer with a stride folds, in the order of running.

    A layer is asked for all positions instead of every stride-th, which are what it samples; a
    layer that blurs first is asked behind its blur. Untied biases, which stand at the positions
    alone, are left out; layers that raise the resolution sample nothing.

    Args:
        model: any; it is put into evaluation mode meanwhile.
        x: (N, C, *S) samples as the model wants them; more give steadier numbers.
    """
    found = []

    def saw(name: str, module: nn.Module, inputs: Any, y: Any) -> None:
        stride = _stride(module, inputs)
        if max(stride, default=1) > 1:
            found.append(_sampled(name, module, inputs, stride))

    with watched(model, saw, _samples):
        model(x)
    return found


def _samples(module: nn.Module) -> bool:
    """Tell whether a layer of parts has the stride itself; else one of its parts may have one."""
    return hides_parts(module) and hasattr(module, "stride")


def _stride(module: nn.Module, inputs: Any) -> tuple[int, ...]:
    """Return the stride of a layer along the axes of its input; empty where it has none."""
    stride = getattr(module, "stride", None)
    raises = getattr(module, "transposed", False) or isinstance(module, RAISING)
    if raises or not inputs or not isinstance(inputs[0], Tensor):
        return ()
    axes = inputs[0].dim() - 2
    if isinstance(stride, int):
        return (stride,) * axes
    return tuple(stride) if isinstance(stride, Sequence) and len(stride) == axes else ()


def _sampled(name: str, module: nn.Module, inputs: Any, stride: tuple[int, ...]) -> Sampled:
    kernels, y = _kernels(module), _everywhere(module, inputs)
    kernel = signal = None
    if kernels is not None and kernels.dim() == 2 + len(stride):
        kernel = above_nyquist(kernels, stride, [FINE] * len(stride))
    if y is not None:
        signal = above_nyquist(y - y.mean(tuple(range(2, y.dim())), keepdim=True), stride)
    return Sampled(name, stride, kernel, signal, 1 - 1 / prod(stride))


def _kernels(module: nn.Module) -> Tensor | None:
    """Return the kernels of a layer, (O, C, *K), where it has some."""
    if isinstance(module, Convolution):
        return module.kernels()
    weight = getattr(module, "weight", None)
    if isinstance(module, TiledConvolution):
        return module.weight.unflatten(2, (-1, *module.kernel)).flatten(0, 1)
    return weight if isinstance(weight, Tensor) else None


def _everywhere(module: nn.Module, inputs: Any) -> Tensor | None:
    """Return what a layer samples, at all positions; None where it has nothing between its own."""
    if isinstance(module, TiledConvolution):
        return None
    if isinstance(module, AdaptivePolyphaseSampling):
        x: Tensor = inputs[0]
        return x
    everywhere = copy(module)
    everywhere.stride = 1 if isinstance(module.stride, int) else (1,) * len(module.stride)  # type: ignore[arg-type,assignment]
    if isinstance(everywhere, Convolution) and everywhere.untied:
        everywhere._parameters = {**module._parameters, "bias": None}  # the copy shares the dict
        everywhere.untied = False
    try:
        y = everywhere.forward(*inputs)  # its hooks are those of the layer itself
    except (RuntimeError, ValueError):
        if getattr(module, "ceil_mode", False) or getattr(module, "tiling", "") == "ceil":
            return None  # a window larger than the map hangs over its end, and stands nowhere else
        raise
    return y[0] if isinstance(y, tuple) else y
