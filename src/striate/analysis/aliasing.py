"""What strides fold: how much of a signal lies above the Nyquist frequency of what is kept of it.

A layer of stride s keeps every s-th sample. What varies faster than half a period in s samples is
not lost by that: it comes back as something slower. A layer may filter it away before; these
numbers say whether it does.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from striate.analysis.receptive import watched

__all__ = ["Sampled", "above_nyquist", "folding"]

FINE = 64  # frequencies along an axis, that a kernel's spectrum is read at


@dataclass(frozen=True)
class Sampled:
    """What a layer with a stride folds.

    Args:
        name: of the layer in the model.
        stride: along every axis.
        kernel: share of the energy of its learnt kernels above the new Nyquist frequency, 0 to 1;
            None: it has none. It is what the layer lets through of white noise.
        signal: share of the energy, the mean apart, of what it samples, 0 to 1.
        white: the share of white noise: 1 - prod(1 / stride). A kernel that has learnt nothing
            against aliasing is near it, one that filters is near 0.
    """

    name: str
    stride: tuple[int, ...]
    kernel: float | None
    signal: float
    white: float


def above_nyquist(x: Tensor, stride: Sequence[int], size: Sequence[int] | None = None) -> float:
    """Return the share of energy that sampling every `stride`-th value folds.

    Shape: (..., *S), as many last axes as strides -> 0 to 1; 0 where there is no energy
    Math:  sum of |X(f)|^2 over f with |f_a| > 1 / (2 stride_a) on some axis a, over the sum of all;
           half of what lies exactly at an end of that band, which is its own alias

    Args:
        stride: along every axis, in samples.
        size: pad with zeros up to it, to read the spectrum finer.
    """
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
    whole = power.sum()
    return float(1 - (power * kept).sum() / whole) if whole > 0 else 0.0


def folding(model: nn.Module, x: Tensor) -> list[Sampled]:
    """Return what every layer with a stride folds, in the order of running.

    A layer is asked for all positions instead of every stride-th, which are what it samples; a
    layer that blurs first is asked behind its blur.

    Args:
        model: any; it is put into evaluation mode meanwhile.
        x: (N, C, *S) samples as the model wants them; more give steadier numbers.
    """
    found = []

    def saw(name: str, module: nn.Module, inputs: Any, y: Any) -> None:
        stride = _stride(module, inputs)
        if max(stride, default=1) > 1:
            found.append(_sampled(name, module, inputs, stride))

    with watched(model, saw):
        model(x)
    return found


def _stride(module: nn.Module, inputs: Any) -> tuple[int, ...]:
    """Return the stride of a layer along the axes of its input; empty where it has none."""
    stride = getattr(module, "stride", None)
    if not inputs or not isinstance(inputs[0], Tensor) or getattr(module, "transposed", False):
        return ()
    axes = inputs[0].dim() - 2
    if isinstance(stride, int):
        return (stride,) * axes
    return tuple(stride) if isinstance(stride, tuple) and len(stride) == axes else ()


def _sampled(name: str, module: nn.Module, inputs: Any, stride: tuple[int, ...]) -> Sampled:
    everywhere = copy(module)
    once: Any = (1,) * len(stride) if isinstance(module.stride, tuple) else 1
    everywhere.stride = once
    y = everywhere(*inputs)
    axes = tuple(range(2, y.dim()))
    weight = getattr(module, "weight", None)
    kernel = None
    if isinstance(weight, Tensor) and weight.dim() == 2 + len(stride):
        kernel = above_nyquist(weight, stride, [FINE] * len(stride))
    white = 1.0
    for step in stride:
        white /= step
    signal = above_nyquist(y - y.mean(axes, keepdim=True), stride)
    return Sampled(name, stride, kernel, signal, 1 - white)
