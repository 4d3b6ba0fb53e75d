"""DeepFace: aligned faces need no shared weights."""

from math import prod

from torch import nn

from striate.layers import LocallyConnected, conv, max_pool, measured_shape
from striate.spec import Spec

__all__ = ["deepface"]


def deepface(spec: Spec, dropout: float = 0.5) -> nn.Module:
    """Build DeepFace: two shared layers, three locally connected ones, two of units.

    118,923,774 parameters on 3 x 152 x 152 with 4,030 classes [sizes and result from memory,
    the count follows; the paper says more than 120 million].

    Shape: (N, C, *S) -> (N, K)
    Args:
        dropout: before the last layer.
    Raises:
        ValueError: an axis is shorter than 72 samples.

    Source: Taigman, Yang, Ranzato, Wolf 2014, DeepFace: Closing the Gap to Human-Level
        Performance in Face Verification.
    """
    if min(spec.size) < 72:  # which leave the last local layer the 5 x 5 of its window
        raise ValueError(f"DeepFace wants axes of at least 72 samples; got {spec.size}")
    axes = spec.axes
    layers: list[nn.Module] = [
        conv(axes, spec.channels, 32, 11), nn.ReLU(inplace=True),
        max_pool(axes, 3, 2, hanging=True), conv(axes, 32, 16, 9), nn.ReLU(inplace=True),
    ]  # fmt: skip
    channels = 16
    for kernel, stride in ((9, 1), (7, 2), (5, 1)):
        _, *size = measured_shape(nn.Sequential(*layers), spec.channels, spec.size)
        local = LocallyConnected(channels, 16, size, kernel, stride=stride)
        layers += [local, nn.ReLU(inplace=True)]
    layers.append(nn.Flatten())
    width = prod(measured_shape(nn.Sequential(*layers), spec.channels, spec.size))
    return nn.Sequential(
        *layers, nn.Linear(width, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout),
        nn.Linear(4096, len(spec.classes)),
    )  # fmt: skip
