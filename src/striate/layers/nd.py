"""PyTorch's own layers, chosen by the number of spatial axes.

Returning `nn.Conv2d` or a child of it keeps every exporter, counter and quantiser that knows it
working.
"""

from copy import deepcopy

import torch
from torch import nn

from striate.layers.pool import MaxPool2d, MaxPool3d

__all__ = ["avg_pool", "batch_norm", "conv", "max_pool", "measured_shape"]

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL = {1: nn.MaxPool1d, 2: MaxPool2d, 3: MaxPool3d}
AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def conv(
    axes: int,
    channels: int,
    out: int,
    kernel: int,
    *,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """Return torch's convolution for `axes` spatial axes, equal along each of them.

    Shape: (N, C, *S) -> (N, out, *floor((S + 2 pad - kernel) / stride + 1))
    """
    return CONV[axes](channels, out, kernel, stride=stride, padding=pad, groups=groups, bias=bias)


def batch_norm(axes: int, channels: int, momentum: float = 0.1) -> nn.Module:
    """Return torch's batch normalisation: mean 0, variance 1 a channel, then weight and bias.

    Shape: (N, C, *S) -> (N, C, *S)
    """
    return BATCH_NORM[axes](channels, momentum=momentum)


def max_pool(
    axes: int,
    kernel: int | tuple[int, ...],
    stride: int | None = None,
    pad: int = 0,
    *,
    hanging: bool = False,
) -> nn.Module:
    """Return max pooling, without overlap unless `stride` says so.

    Shape: (N, C, *S) -> (N, C, *floor((S + 2 pad - kernel) / stride + 1)), ceil when `hanging`:
        the last window may hang over the end
    """
    return MAX_POOL[axes](kernel, stride, pad, ceil_mode=hanging)


def avg_pool(
    axes: int,
    kernel: int | tuple[int, ...],
    stride: int | None = None,
    *,
    hanging: bool = False,
) -> nn.Module:
    """Return torch's average pooling, without overlap unless `stride` says so.

    Shape: (N, C, *S) -> (N, C, *floor((S - kernel) / stride + 1)), ceil when `hanging`
    """
    return AVG_POOL[axes](kernel, stride, ceil_mode=hanging)


def measured_shape(module: nn.Module, channels: int, size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one sample behind `module`, by running a copy of it on zeros.

    Raises:
        ValueError: some layer has no output position for a sample of this size.
    """
    try:
        with torch.no_grad():  # on the CPU: torch's meta device would import its compiler
            return tuple(deepcopy(module).eval()(torch.zeros(1, channels, *size)).shape[1:])
    except RuntimeError as error:
        raise ValueError(f"a sample of {channels} x {size} is too small: {error}") from None
