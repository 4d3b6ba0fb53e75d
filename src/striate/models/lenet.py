"""LeNet: from the ZIP-code net of 1989 to LeNet-5, convolutions learnt by backpropagation."""

from math import prod

import torch
from torch import Tensor, nn

from striate.layers import (
    Convolution,
    RBFOutput,
    ScaledTanh,
    SquaredError,
    avg_pool,
    conv,
    measured_shape,
)
from striate.spec import Spec

__all__ = [
    "Subsampling",
    "codes",
    "lecun1989",
    "lenet1",
    "lenet5",
    "lenet5_1998",
    "uniform_by_fan_in",
]

# Which maps of S2 each map of C3 sees [certain: table I of the paper].
C3 = (
    *([(i + k) % 6 for k in range(3)] for i in range(6)),
    *([(i + k) % 6 for k in range(4)] for i in range(6)),
    *([0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5]),
)
# Eight of twelve maps each; the paper does not say which [reconstructed: overlapping blocks].
CONNECTIONS_1989 = (
    *[list(range(8))] * 4,
    *[list(range(4, 12))] * 4,
    *[[*range(4), *range(8, 12)]] * 4,
)

# Which maps of H2 each map of LeNet-1's H3 sees: 20 kernels [certain: the paper's table 1].
TABLE_1990 = ([0], [0, 1], [0, 1], [1], [0, 1], [0, 1], [2], [2, 3], [2, 3], [3], [2, 3], [2, 3])


def lecun1989(spec: Spec) -> nn.Module:
    """Build the net that read ZIP codes: weights shared within a map, biases not.

    9,760 parameters and 64,660 connections on 1 x 16 x 16 with 10 classes: H1 1,068, H2 2,592,
    H3 5,790, output 310 [certain]. It learns by squared errors against -1 and 1.

    Shape: (N, C, H, W) -> (N, K)
    Raises:
        ValueError: a side is shorter than 8 samples.

    Source: LeCun et al. 1989, Backpropagation Applied to Handwritten Zip Code Recognition, Neural
        Computation 1(4).
    """
    if min(spec.size) < 8:
        raise ValueError(f"the net of 1989 wants sides of at least 8 samples; got {spec.size}")
    border = {"stride": 2, "padding": 2, "border": "constant", "value": -1.0, "bias": "untied"}
    h1 = Convolution(spec.axes, spec.channels, 12, 5, size=spec.size, **border)  # type: ignore[arg-type]
    half = h1.shape_of(spec.size)
    h2 = Convolution(spec.axes, 12, 12, 5, table=CONNECTIONS_1989, size=half, **border)  # type: ignore[arg-type]
    values = 12 * prod(h2.shape_of(half))
    net = nn.Sequential(
        h1, ScaledTanh(), h2, ScaledTanh(), nn.Flatten(),
        nn.Linear(values, 30), ScaledTanh(), nn.Linear(30, len(spec.classes)), ScaledTanh(),
    )  # fmt: skip
    net.criterion = SquaredError(-1, 1)  # type: ignore[assignment]
    return uniform_by_fan_in(net)


def lenet1(spec: Spec) -> nn.Module:
    """Build LeNet-1: 2,578 parameters on 1 x 28 x 28 with 10 classes [certain].

    Shape: (N, C, *S) -> (N, K)
    Raises:
        ValueError: an axis is shorter than 16 samples.

    Source: LeCun et al. 1990, Handwritten Digit Recognition with a Back-Propagation Network,
        NIPS 2.
    """
    axes = spec.axes
    features = nn.Sequential(
        Convolution(axes, spec.channels, 4, 5), ScaledTanh(),
        Subsampling(axes, 4), ScaledTanh(),
        Convolution(axes, 4, 12, 5, table=TABLE_1990), ScaledTanh(),
        Subsampling(axes, 12), ScaledTanh(), nn.Flatten(),
    )  # fmt: skip
    width = prod(measured_shape(features, spec.channels, spec.size))
    return uniform_by_fan_in(nn.Sequential(features, nn.Linear(width, len(spec.classes))))


def lenet5(spec: Spec, table: bool = False) -> nn.Module:
    """Build LeNet-5 in its modern form: every map of C3 sees all of S2, linear outputs.

    Inputs of less than 32 samples an axis are padded by 2, so that 28 become the paper's 32.
    61,706 parameters on 1 x 32 x 32 with 10 classes, 60,806 with the paper's table; its trained
    subsampling and its outputs besides are in `lenet5_1998`.

    Shape: (N, C, *S) -> (N, K)
    Args:
        table: let each map of C3 see the maps of S2 that the paper's table names, not all.
    Raises:
        ValueError: an axis is shorter than 12 samples.

    Source: LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document
        Recognition, Proc. IEEE 86(11), section II.B.
    """
    axes, pad = spec.axes, 2 if min(spec.size) < 32 else 0
    features = nn.Sequential(
        conv(axes, spec.channels, 6, 5, pad=pad), nn.Tanh(), avg_pool(axes, 2),
        Convolution(axes, 6, 16, 5, table=C3) if table else conv(axes, 6, 16, 5),
        nn.Tanh(), avg_pool(axes, 2), nn.Flatten(),
    )  # fmt: skip
    width = prod(measured_shape(features, spec.channels, spec.size))
    classifier = nn.Sequential(
        nn.Linear(width, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, len(spec.classes)),
    )
    return nn.Sequential(features, classifier)


def lenet5_1998(spec: Spec, outputs: str = "fixed") -> nn.Module:
    """Build LeNet-5 as published: table of connections, trained subsampling, Euclidean outputs.

    60,000 trainable parameters and 340,908 connections on 1 x 32 x 32 with 10 classes: C1 156,
    S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164 [certain]; the 840 centres are fixed bitmaps.
    What it gives out are negative distances, so that the largest is the most alike. 60,840
    parameters where the centres learn too, 60,850 with linear outputs.

    Shape: (N, C, *S) -> (N, K)
    Args:
        outputs: "fixed" centres, "trained" ones, or "linear" units.
    Raises:
        ValueError: an axis is shorter than 12 samples, or the outputs are of an unknown kind.

    Source: LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document
        Recognition, Proc. IEEE 86(11), section II.B.
    """
    if outputs not in ("fixed", "trained", "linear"):
        raise ValueError(f"outputs must be fixed, trained or linear; got {outputs!r}")
    axes, pad = spec.axes, 2 if min(spec.size) < 32 else 0
    features = nn.Sequential(
        Convolution(axes, spec.channels, 6, 5, padding=pad), ScaledTanh(),
        Subsampling(axes, 6), ScaledTanh(),
        Convolution(axes, 6, 16, 5, table=C3), ScaledTanh(),
        Subsampling(axes, 16), ScaledTanh(), nn.Flatten(),
    )  # fmt: skip
    width, classes = prod(measured_shape(features, spec.channels, spec.size)), len(spec.classes)
    classifier = nn.Sequential(
        nn.Linear(width, 120), ScaledTanh(), nn.Linear(120, 84), ScaledTanh(),
        nn.Linear(84, classes) if outputs == "linear"
        else RBFOutput(codes(classes), trainable=outputs == "trained", sign=-1),
    )  # fmt: skip
    return uniform_by_fan_in(nn.Sequential(features, classifier))


class Subsampling(nn.Module):
    """Halve a map: the sum of each square, times a coefficient, plus a bias, one pair a map.

    Shape: (N, C, *S) -> (N, C, *floor(S / 2))
    Math:  y_c = coefficient_c sum of 2^axes values + bias_c

    Source: LeCun, Bottou, Bengio, Haffner 1998, section II.B, layer S2.
    """

    def __init__(self, axes: int, channels: int) -> None:
        super().__init__()
        self.mean, self.area = avg_pool(axes, 2), 2**axes
        self.coefficient = nn.Parameter(torch.full((channels, *[1] * axes), 1 / self.area))
        self.bias = nn.Parameter(torch.zeros(channels, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller map."""
        return self.coefficient * (self.area * self.mean(x)) + self.bias

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the links of one sample: each output sums a square and a bias."""
        return prod(y.shape[1:]) * (self.area + 1)


@torch.no_grad()
def uniform_by_fan_in(net: nn.Module) -> nn.Module:
    """Draw every weight from U(-2.4 / sqrt(F), 2.4 / sqrt(F)), F its unit's inputs; biases 0.

    The paper of 1989 divides by F itself, which learns slowly without its second-order steps.
    """
    for module in net.modules():
        if isinstance(module, Convolution | nn.Linear):
            whole = module.kernels() if isinstance(module, Convolution) else module.weight
            bounds = 2.4 * (whole != 0).flatten(1).sum(1).rsqrt()  # one for each unit or map
            if isinstance(module, Convolution) and module.sparse:
                bounds = bounds[module.links[0]]
            drawn = module.weight.uniform_(-1, 1)
            drawn.mul_(bounds.view(-1, *[1] * (drawn.dim() - 1)))
            if module.bias is not None:
                module.bias.zero_()
    return net


# Ten characters of 7 x 12 in the manner of the paper's figure 3 [reconstructed: drawn anew].
BITMAPS = """
.#####. ..###.. .#####. #####.. ##...## ####### .#####. ####### .#####. .#####.
##...## .####.. ##...## ....##. ##...## ##..... ##..... ##...## ##...## ##...##
##...## ...##.. .....## .....## ##...## ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## ##...## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ....##. ##...## #####.. ##.###. ....##. .#####. ##...##
##...## ...##.. ...##.. ..###.. .###### ....##. ###..## ...##.. .#####. ##..###
##...## ...##.. ..##... ....##. .....## .....## ##...## ...##.. ##...## .###.##
##...## ...##.. .##.... .....## .....## .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## .....## .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... ....##. .....## ....##. ##...## .##.... ##...## .....##
.#####. .###### ####### #####.. .....## #####.. .#####. .##.... .#####. .#####.
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def codes(classes: int) -> Tensor:
    """Return the fixed centres of Euclidean outputs: ten bitmaps, or random codes for other K.

    Shape: -> (K, 84), -1 and 1
    """
    if classes == 10:
        rows = [line.split() for line in BITMAPS.split("\n") if line]
        pictures = ["".join(row[k] for row in rows) for k in range(10)]
        return torch.tensor([[1.0 if c == "#" else -1.0 for c in text] for text in pictures])
    bits = torch.randint(2, (classes, 84), generator=torch.Generator().manual_seed(0))
    return bits.float() * 2 - 1
