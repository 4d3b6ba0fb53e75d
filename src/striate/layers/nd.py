"""PyTorch's own layers, chosen by the number of spatial axes.

Returning `nn.Conv2d` or a child of it keeps every exporter, counter and quantiser that knows it
working.
"""

from bisect import bisect_left
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from striate.layers.bounds import per_axis, whole
from striate.layers.pool import MaxPool2d, MaxPool3d

__all__ = ["avg_pool", "batch_norm", "conv", "max_pool", "measured_shape"]

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL = {1: nn.MaxPool1d, 2: MaxPool2d, 3: MaxPool3d}
AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def _check_axes(axes: int) -> None:
    """Refuse a number of axes that torch has no layer for."""
    if axes not in CONV:
        raise ValueError(f"axes must be 1 to 3; got {axes}")


def _numbers(axes: int, least: int = 1, **numbers: int | Sequence[int]) -> list[Any]:
    """Return checked numbers, one for all axes or a tuple: as torch takes and prints them."""
    each = per_axis(axes, least, **numbers)
    rows = zip(numbers.values(), each, strict=True)
    return [row if isinstance(value, Sequence) else row[0] for value, row in rows]


def conv(
    axes: int,
    channels: int,
    out: int,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    pad: int | Sequence[int] = 0,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """Return torch's convolution for `axes` spatial axes; numbers are for all or one an axis.

    Shape: (N, C, *S) -> (N, out, *floor((S + 2 pad - kernel) / stride + 1))

    Raises:
        ValueError: a number is out of range, or groups do not divide the channels.
    """
    _check_axes(axes)
    whole(1, channels=channels, out=out, groups=groups)
    taps, step = _numbers(axes, kernel=kernel, stride=stride)
    (ends,) = _numbers(axes, 0, pad=pad)
    if channels % groups or out % groups:
        raise ValueError(f"groups must divide channels and out; got {groups}, {channels}, {out}")
    return CONV[axes](channels, out, taps, stride=step, padding=ends, groups=groups, bias=bias)


def batch_norm(axes: int, channels: int, momentum: float = 0.1) -> nn.Module:
    """Return torch's batch normalisation: mean 0, variance 1 a channel, then weight and bias.

    Shape: (N, C, *S) -> (N, C, *S)

    Raises:
        ValueError: a number is out of range.
    """
    _check_axes(axes)
    whole(1, channels=channels)
    return BATCH_NORM[axes](channels, momentum=momentum)


def max_pool(
    axes: int,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    pad: int | Sequence[int] = 0,
    *,
    hanging: bool = False,
) -> nn.Module:
    """Return max pooling, without overlap unless `stride` says so; numbers as for `conv`.

    Shape: (N, C, *S) -> (N, C, *floor((S + 2 pad - kernel) / stride + 1)), ceil when `hanging`:
        the last window may hang over the end

    Raises:
        ValueError: a number is out of range, or `pad` above half of the kernel.
    """
    _check_axes(axes)
    taps, step = _numbers(axes, kernel=kernel, stride=kernel if stride is None else stride)
    (ends,) = _numbers(axes, 0, pad=pad)
    if any(2 * e > k for e, k in zip(*per_axis(axes, 0, pad=ends, kernel=taps), strict=True)):
        raise ValueError(f"pad must be at most half of the kernel {kernel}; got {pad}")
    return MAX_POOL[axes](taps, step, ends, ceil_mode=hanging)


def avg_pool(
    axes: int,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    *,
    hanging: bool = False,
) -> nn.Module:
    """Return torch's average pooling, without overlap unless `stride` says so; see `max_pool`.

    Shape: (N, C, *S) -> (N, C, *floor((S - kernel) / stride + 1)), ceil when `hanging`

    Raises:
        ValueError: a number is out of range.
    """
    _check_axes(axes)
    taps, step = _numbers(axes, kernel=kernel, stride=kernel if stride is None else stride)
    return AVG_POOL[axes](taps, step, ceil_mode=hanging)


def measured_shape(module: nn.Module, channels: int, size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one sample behind `module`, by running a copy of it on zeros.

    Raises:
        ValueError: some layer has no output position for a sample of this size. Named are the
            layer, what is left for it, and the least side that leaves enough.
    """
    probe = deepcopy(module).eval()
    reached: list[tuple[str, nn.Module, Tensor]] = []
    for name, layer in probe.named_modules():
        if not any(layer.children()):
            layer.register_forward_pre_hook(
                lambda layer, inputs, name=name: reached.append((name, layer, inputs[0]))
            )
    try:
        with torch.no_grad():  # on the CPU: torch's meta device would import its compiler
            return tuple(probe(torch.zeros(1, channels, *size)).shape[1:])
    except (RuntimeError, ValueError) as error:
        name, layer, left = reached[-1]
        shape, maps = (" x ".join(map(str, s)) for s in ((channels, *size), left.shape[2:]))
        where = f"layer {name!r}, {layer}, gets maps of {maps}"
        least = _least_side(module, channels, len(size))
        if least is None:
            raise ValueError(f"a sample of {shape} does not pass: {where}: {error}") from None
        raise ValueError(
            f"a sample of {shape} is too small: {where}; enlarge every side to at least {least}"
        ) from None


def _least_side(module: nn.Module, channels: int, axes: int, most: int = 1024) -> int | None:
    """Return the least side of a sample, equal along every axis, that `module` takes."""
    probe = deepcopy(module).eval()

    def passes(side: int) -> bool:
        try:
            with torch.no_grad():  # no sample at all: shapes are checked, nothing is computed
                probe(torch.zeros(0, channels, *[side] * axes))
        except (RuntimeError, ValueError):
            return False
        return True

    least = 1 + bisect_left(range(1, most + 1), True, key=passes)
    return least if least <= most else None
