"""The convolutional net of Simard, Steinkraus and Platt, whose lesson was elastic distortion."""

from math import prod

from torch import nn

from striate.layers import Convolution, ScaledTanh, measured_shape
from striate.models.lenet import uniform_by_fan_in
from striate.spec import Spec

__all__ = ["simard2003"]


def simard2003(spec: Spec) -> nn.Module:
    """Build the net: two convolutions of stride 2 take the place of subsampling.

    132,540 parameters on 1 x 29 x 29 with 10 classes: 130, 6,300, 125,100, 1,010 [certain; its
    error is from memory]. An even size gets one sample more after each axis, as the paper's 28
    became 29. The transfer function is reconstructed.

    Shape: (N, C, *S) -> (N, K)
    Raises:
        ValueError: an axis is shorter than 12 samples.

    Source: Simard, Steinkraus, Platt 2003, Best Practices for Convolutional Neural Networks
        Applied to Visual Document Analysis.
    """
    axes = spec.axes
    features = nn.Sequential(
        Convolution(axes, spec.channels, 5, 5, stride=2, tiling="ceil"), ScaledTanh(),
        Convolution(axes, 5, 50, 5, stride=2), ScaledTanh(), nn.Flatten(),
    )  # fmt: skip
    width = prod(measured_shape(features, spec.channels, spec.size))
    classifier = nn.Sequential(nn.Linear(width, 100), ScaledTanh())
    return uniform_by_fan_in(nn.Sequential(features, classifier, nn.Linear(100, len(spec.classes))))
