"""C-27: every layer and loss against central differences, in float64, for one to three axes."""

import inspect

import pytest
import torch
from torch import nn

from striate import layers
from striate.layers import (
    AbsTanh,
    AdaptivePolyphaseSampling,
    AdaptivePolyphaseUpsampling,
    BlurPool,
    Brightness,
    Capsules,
    ComplexCells,
    Convolution,
    DropConnect,
    FractionalMaxPool,
    GlobalPool,
    LocalContrastNorm,
    LocallyConnected,
    LocalResponseNorm,
    LpPool,
    MaxBlurPool,
    Maxout,
    PrimaryCapsules,
    RBFOutput,
    RecurrentConvolution,
    RoIAlign,
    RoIPool,
    ScaledTanh,
    SimpleCells,
    SpatialPyramidPool,
    SpatialTransformer,
    SquaredError,
    StochasticPool,
    TiledConvolution,
    avg_pool,
    batch_norm,
    conv,
    convolve,
    euclidean_loss,
    fft_convolve,
    hinge_loss,
    linear,
    map_loss,
    margin_loss,
    max_pool,
    nll_loss,
    sigmoid_loss,
    softmax_loss,
)

SIZE = (6, 4, 4)
BOXES = torch.tensor([[0, 0, 0, 2, 4], [0, 1, 2, 3, 5.0]])


def drawn(*shape, seed=0):
    values = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=values)


# Layers for any number of axes, made for 2 channels and maps of SIZE.
ANY_AXES = {
    "stride": lambda a: Convolution(a, 2, 2, 3, stride=2, padding="same"),
    "dilation": lambda a: Convolution(a, 2, 1, 2, dilation=2, padding=1, border="reflect"),
    "mean": lambda a: Convolution(a, 2, 1, 3, padding=1, border="mean"),
    "ring": lambda a: Convolution(a, 2, 1, 3, padding=1, border="circular", flip=True),
    "table": lambda a: Convolution(a, 2, 3, 2, table=[[0], [1], [0, 1]], bias="none"),
    "untied": lambda a: Convolution(a, 2, 2, 2, groups=2, bias="untied", size=SIZE[:a]),
    "causal": lambda a: Convolution(a, 2, 1, 2, padding="causal"),
    "hanging": lambda a: Convolution(a, 2, 1, 2, stride=3, tiling="ceil"),
    "torch's": lambda a: conv(a, 2, 2, 3, stride=2, pad=1),
    "local": lambda a: LocallyConnected(2, 1, SIZE[:a], 2, stride=2),
    "tiled": lambda a: TiledConvolution(2, 1, SIZE[:a], 2, 2),
    "lateral": lambda a: RecurrentConvolution(conv(a, 2, 1, 1), conv(a, 1, 1, 3, pad=1)),
    "max": lambda a: max_pool(a, 2),
    "average": lambda a: avg_pool(a, 2),
    "norm 2": lambda a: LpPool(2, 2),
    "norm 3": lambda a: LpPool(3, 3, 1),
    "chance": lambda a: StochasticPool(2),
    "fractions": lambda a: FractionalMaxPool(overlap=True),
    "pyramid": lambda a: SpatialPyramidPool((1, 2)),
    "global mean": lambda a: GlobalPool("mean"),
    "global max": lambda a: GlobalPool("max"),
    "global norm": lambda a: GlobalPool("norm"),
    "blur": lambda a: BlurPool(4, 3, "circular"),
    "max blur": lambda a: MaxBlurPool(),
    "polyphase": lambda a: First(AdaptivePolyphaseSampling()),
    "response": lambda a: LocalResponseNorm(alpha=0.3),
    "contrast": lambda a: LocalContrastNorm(3),
    "batch": lambda a: batch_norm(a, 2),
    "scaled tanh": lambda a: ScaledTanh(),
    "folded tanh": lambda a: AbsTanh(),
    "maxout": lambda a: Maxout(),
    "primary": lambda a: PrimaryCapsules(2),
    "light": lambda a: Brightness((0.5, 1.0), (0.5, 2.0)),
    "drawn out": lambda a: Back(),
}


class First(nn.Module):
    """The first of what a layer gives; the second is a choice."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Back(nn.Module):
    """Samples put back on the second grid of the larger map."""

    def __init__(self):
        super().__init__()
        self.layer = AdaptivePolyphaseUpsampling()

    def forward(self, x):
        return self.layer(x, torch.ones(len(x), dtype=torch.int64))


class Boxed(nn.Module):
    """A layer of regions, for the same boxes always."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, BOXES.to(x))


def bent(kind):
    """Return a transformer that warps already."""
    torch.manual_seed(0)
    localiser = nn.Sequential(nn.Flatten(), nn.Linear(2 * 6 * 4, 3))
    layer = SpatialTransformer(localiser, 3, kind, points=4)
    nn.init.normal_(layer.head.weight, 0, 0.05)
    return layer


MAPS = drawn(1, 2, 6, 4)
OTHERS = {
    "capsules": (Capsules(3, 2, 2, 3, rounds=1), drawn(2, 3, 2)),
    "centres": (RBFOutput(drawn(3, 4), trainable=True), drawn(2, 4)),
    "fixed bias": (linear(4, 3, "fixed", 0.5), drawn(2, 4)),
    "dropped connections": (DropConnect(4, 3), drawn(2, 4)),
    "cells": (nn.Sequential(SimpleCells(2, (4.0,), 5), ComplexCells()), MAPS[:, :1]),
    "regions": (Boxed(RoIPool((2, 3))), MAPS),
    "disjoint regions": (Boxed(RoIPool((3, 2), convention="disjoint")), MAPS),
    "regions between samples": (Boxed(RoIAlign((2, 2))), MAPS),
    "affine": (bent("affine"), MAPS),
    "perspective": (bent("projective"), MAPS),
    "thin plate": (bent("thin_plate"), MAPS),
}
# Losses of (N, K) and classes; `nll_loss` takes logarithms, two take what is never negative.
LOSSES = {
    "softmax": softmax_loss,
    "nll": lambda z, y: nll_loss(z.log_softmax(1), y),
    "sigmoid": sigmoid_loss,
    "squared": SquaredError(),
    "hinge": hinge_loss,
    "squared hinge": lambda z, y: hinge_loss(z, y, power=2),
    "margin": lambda z, y: margin_loss(z.abs(), y),
    "map": lambda z, y: map_loss(z.square(), y),
    "euclidean": lambda z, y: euclidean_loss(z, drawn(4, 3, seed=1)),
}


def agrees(layer, x):
    """Compare the gradients in the input and in every trained weight with differences."""
    layer = layer.double().eval()
    weights = {name: p.detach() for name, p in layer.named_parameters() if p.requires_grad}

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(weights, values, strict=True)), (x,))

    inputs = [value.clone().requires_grad_() for value in (x, *weights.values())]
    return torch.autograd.gradcheck(call, inputs, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ANY_AXES)
def test_layers_of_any_number_of_axes(name, axes):
    torch.manual_seed(0)
    assert agrees(ANY_AXES[name](axes), drawn(1, 2, *SIZE[:axes]))


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers(name):
    assert agrees(*OTHERS[name])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("y", [torch.tensor([2, 0, 1, 2]), drawn(4, 3).softmax(1)])
def test_losses_of_classes_and_of_shares(name, y):
    z = drawn(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, y), z, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_functions_of_maps_and_kernels(axes):
    x, w, b = drawn(1, 2, *SIZE[:axes]), drawn(2, 2, *(2, 3, 2)[:axes], seed=1), drawn(2, seed=2)
    values = [value.requires_grad_() for value in (x, w, b)]
    for function in (fft_convolve, lambda *v: convolve(*v, stride=2, flip=True)):
        assert torch.autograd.gradcheck(function, values, atol=1e-8, rtol=1e-6)


def test_no_layer_is_left_out():
    public = {
        value
        for value in (getattr(layers, name) for name in layers.__all__)
        if inspect.isclass(value) and issubclass(value, nn.Module)
    }
    made = [make(axes) for make in ANY_AXES.values() for axes in (2, 3)]
    made += [layer for layer, _ in OTHERS.values()]
    asked = {type(module) for layer in made for module in layer.modules()}
    assert public - asked == set()
    losses = {name for name in layers.__all__ if name.endswith("_loss")}
    assert losses == {f"{name}_loss" for name in LOSSES} - {"squared_loss", "squared hinge_loss"}
