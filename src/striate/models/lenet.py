"""LeNet: learned convolutions, subsampling, and a classifier on top."""

from math import prod

from torch import nn

from striate.layers import avg_pool, conv, shape_after
from striate.spec import Spec

__all__ = ["lenet5"]


def lenet5(spec: Spec) -> nn.Module:
    """Build LeNet-5 in its modern form: every map of C3 sees all of S2, linear outputs.

    Inputs of 28 samples an axis are padded to the paper's 32. 61,706 parameters on 1 x 32 x 32
    with 10 classes (the paper's connection table and RBF outputs make 60,000).

    Shape: (N, C, *S) -> (N, K)
    Raises:
        ValueError: an axis is shorter than 12 samples.

    Source: LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document
        Recognition, Proc. IEEE 86(11), section II.B.
    """
    axes, pad = spec.axes, 2 if min(spec.size) < 32 else 0
    features = nn.Sequential(
        conv(axes, spec.channels, 6, 5, pad=pad), nn.Tanh(), avg_pool(axes, 2),
        conv(axes, 6, 16, 5), nn.Tanh(), avg_pool(axes, 2), nn.Flatten(),
    )  # fmt: skip
    width = prod(shape_after(features, spec.channels, spec.size))
    classifier = nn.Sequential(
        nn.Linear(width, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, len(spec.classes)),
    )
    return nn.Sequential(features, classifier)
