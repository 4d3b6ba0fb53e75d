"""The networks of Ciresan and colleagues, which learnt plainly, on GPUs, and won: 2010 to 2012.

Their papers write a network in one line, such as 20C4-MP2-40C5-MP3-150N-10N: 20 maps by 4 x 4
kernels, maxima of 2 x 2, 40 maps by 5 x 5 kernels, maxima of 3 x 3, 150 units, 10 outputs.
CHAOS trained such networks on many cores.
"""

import re
from math import prod

from torch import nn

from striate.layers import ScaledTanh, conv, max_pool, measured_shape
from striate.spec import Spec

__all__ = [
    "chaos_large",
    "chaos_medium",
    "chaos_small",
    "ciresan_cifar",
    "ciresan_gtsrb",
    "ciresan_hwdb",
    "ciresan_mlp",
    "ciresan_mnist",
    "ciresan_norb",
    "written",
]

_PART = re.compile(r"(?P<maps>\d+)C(?P<kernel>\d+)|MP(?P<pool>\d+)|(?P<units>\d+)N")


def written(spec: Spec, text: str, *, hanging: bool = False) -> nn.Module:
    """Build the network that a line describes; the outputs for the classes are added.

    Every convolution is valid, of stride 1, and followed by a scaled tanh, as is every layer of
    units but the last.

    Shape: (N, C, *S) -> (N, K)

    Args:
        text: parts joined by "-": 20C4 maps and kernel, MP2 a maximum, 150N units.
        hanging: let the last window of a maximum hang over the end (ceil instead of floor).

    Raises:
        ValueError: a part is none of these, a number of it is 0, or a sample is too small.

    Source: Ciresan, Meier, Schmidhuber 2012, Multi-column Deep Neural Networks for Image
        Classification, arXiv:1202.2745, table 1.
    """
    layers: list[nn.Module] = []
    channels, flat = spec.channels, False
    for word in text.split("-"):
        part = _PART.fullmatch(word)
        if part is None:
            raise ValueError(f"{word!r} is no part such as 20C4, MP2 or 150N; got {text!r}")
        if not all(int(count) for count in part.groups() if count):
            raise ValueError(f"every number must be at least 1; got {word!r} in {text!r}")
        if part["maps"]:
            layers += [conv(spec.axes, channels, int(part["maps"]), int(part["kernel"]))]
            layers += [ScaledTanh()]
            channels = int(part["maps"])
        elif part["pool"]:
            pool = max_pool(spec.axes, int(part["pool"]), hanging=hanging)
            # tanh rises, so it may come after the maximum, where fewer values are left
            behind = layers and isinstance(layers[-1], ScaledTanh)
            layers.insert(len(layers) - 1 if behind else len(layers), pool)
        else:
            width = channels if flat else _width(layers, spec)
            layers += [] if flat else [nn.Flatten()]
            channels, flat = int(part["units"]), True
            layers += [nn.Linear(width, channels), ScaledTanh()]
    width = channels if flat else _width(layers, spec)
    layers += [] if flat else [nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, len(spec.classes)))


def _width(layers: list[nn.Module], spec: Spec) -> int:
    return prod(measured_shape(nn.Sequential(*layers), spec.channels, spec.size))


def ciresan_mlp(spec: Spec, units: str = "2500-2000-1500-1000-500") -> nn.Module:
    """Build the deep net without convolutions: 12,115,010 parameters on 1 x 29 x 29, 10 classes.

    Args:
        units: of each hidden layer; the paper also has 1000-500, 1500-1000-500 and
            2000-1500-1000-500.

    Source: Ciresan, Meier, Gambardella, Schmidhuber 2010, Deep, Big, Simple Neural Nets for
        Handwritten Digit Recognition, Neural Computation 22(12) [its table is from memory].
    """
    return written(spec, "-".join(f"{word}N" for word in units.split("-")))


def ciresan_mnist(spec: Spec) -> nn.Module:
    """Build a column of MNIST: 76,040 parameters on 1 x 29 x 29 with 10 classes [certain]."""
    return written(spec, "20C4-MP2-40C5-MP3-150N")


def ciresan_cifar(spec: Spec) -> nn.Module:
    """Build a column of CIFAR-10: 1,660,710 parameters on 3 x 32 x 32 with 10 classes.

    The maps shrink 5, 3, 2, 1 only if windows may hang over the end [reconstructed].
    """
    return written(spec, "300C3-MP2-300C2-MP2-300C3-MP2-300C2-MP2-300N-100N", hanging=True)


def ciresan_gtsrb(spec: Spec) -> nn.Module:
    """Build a column of the traffic signs: 1,543,443 parameters on 3 x 48 x 48, 43 classes."""
    return written(spec, "100C7-MP2-150C4-MP2-250C4-MP2-300N")


def ciresan_hwdb(spec: Spec) -> nn.Module:
    """Build a column of Chinese characters: 3,483,655 parameters on 1 x 48 x 48, 3,755 classes."""
    return written(spec, "100C3-MP2-200C2-MP2-300C2-MP2-400C2-MP2-500N")


def ciresan_norb(spec: Spec) -> nn.Module:
    """Build a column of NORB: 271,156 parameters on 2 x 48 x 48, 6 classes [widths rebuilt]."""
    return written(spec, "50C5-MP2-50C5-MP2-50C4-MP2-300N-100N")


def chaos_small(spec: Spec) -> nn.Module:
    """Build the small net of CHAOS: 6,405 parameters on 1 x 29 x 29 with 10 classes.

    Source: Viebke, Memeti, Pllana, Abraham 2017, CHAOS: a parallelization scheme for training
        convolutional neural networks on Intel Xeon Phi, arXiv:1702.07908 [tables from
        memory, the count follows].
    """
    return written(spec, "5C4-MP2-10C5-MP3-50N")


def chaos_medium(spec: Spec) -> nn.Module:
    """Build the medium net of CHAOS: 76,040 parameters on 1 x 29 x 29 with 10 classes."""
    return written(spec, "20C4-MP2-40C5-MP3-150N")


def chaos_large(spec: Spec) -> nn.Module:
    """Build the large net of CHAOS: 383,160 parameters on 1 x 29 x 29 with 10 classes."""
    return written(spec, "20C4-MP1-60C5-MP2-100C6-MP2-150N")
