import pytest
import torch

from striate.models import build, initialise
from striate.models.fastnet import FastNet, WhiteningConv, coarse_stride
from striate.spec import Spec


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_whitened_patches_are_uncorrelated_with_variance_one(axes):
    torch.manual_seed(0)
    size = {1: 240, 2: 24, 3: 12}[axes]
    x = torch.randn(64, 2, *[size] * axes).cumsum(2) / 4  # neighbours depend on each other
    layer = WhiteningConv(axes, 2, 3, 3, eps=0.0)
    layer.whiten(x)
    y = layer(x).movedim(1, -1).reshape(-1, 2 * layer.directions)[:, : layer.directions].double()
    covariance = (y - y.mean(0)).T @ (y - y.mean(0)) / len(y)
    assert (covariance - torch.eye(layer.directions)).abs().max() < 0.02


def test_every_direction_stands_with_both_signs():
    layer = WhiteningConv(2, 3, 2, 1)
    positive, negative = layer.weight.chunk(2)
    assert torch.equal(positive, -negative)


def test_whitening_weights_are_frozen_and_the_bias_is_not():
    layer = WhiteningConv(1, 1, 9, 1)
    assert not layer.weight.requires_grad
    assert layer.bias.requires_grad


def test_initialise_leaves_other_networks_alone():
    spec = Spec(channels=1, size=(28, 28), classes=("a", "b"))
    net = build("lenet5", spec)
    before = [p.clone() for p in net.parameters()]
    initialise(net, torch.randn(4, *spec.shape))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (28, 28), (33, 47), (96, 96), (224, 224)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_ends_in_one_vector(size, channels):
    spec = Spec(channels=channels, size=size, classes=("a", "b"))
    assert FastNet(spec, width=8).eval()(torch.zeros(1, *spec.shape)).shape == (1, 2)


def test_identity_filters_pass_their_channel_on():
    net = FastNet(Spec(channels=3, size=(32, 32), classes=("a", "b")), width=32)
    kernel = net.groups[1].down[0].weight
    x = torch.rand(1, 32, 6, 6)
    y = torch.nn.functional.conv2d(x, kernel, padding=1)
    assert torch.allclose(y[:, :32], x)


def test_depth_three_adds_a_shortcut():
    spec = Spec(channels=3, size=(32, 32), classes=("a", "b"))
    shallow, deep = FastNet(spec, 8, depth=1), FastNet(spec, 8, depth=3)
    assert len(shallow.groups[0].same) == 0
    assert deep(torch.zeros(2, 3, 32, 32)).shape == (2, 2)


@pytest.mark.parametrize(
    ("size", "channels", "stride"),
    [
        ((28, 28), 1, 2),
        ((32, 32), 3, 2),
        ((224, 224), 3, 16),
        ((64, 64, 64), 1, 4),
        ((16_000,), 1, 0),
        ((8, 8), 1, 0),
        ((27, 27), 1, 2),
        ((24, 24), 1, 0),
    ],
)
def test_a_coarse_stem_leaves_twelve_positions(size, channels, stride):
    spec = Spec(
        channels=channels,
        size=size,
        classes=("a", "b"),
        kind={1: "series", 2: "image", 3: "volume"}[len(size)],
    )
    assert coarse_stride(spec) == stride
    if stride:
        net = FastNet(spec, width=8, stride=stride)
        assert min(net.stem(torch.zeros(1, *spec.shape)).shape[2:]) >= 12
        assert net.eval()(torch.zeros(1, *spec.shape)).shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width, depth and widen must be at least 1; got 0, 2, 2"),
        ({"stride": 5}, "stride must be 0 to half of the shortest axis, 4; got 5"),
        ({"stride": -1}, "stride must be 0 to half of the shortest axis, 4; got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FastNet(Spec(channels=1, size=(8, 8), classes=("a", "b")), **options)


def test_a_sample_of_three_pixels_is_refused():
    with pytest.raises(ValueError, match="at least 4 samples"):
        FastNet(Spec(channels=1, size=(3, 8), classes=("a", "b")))
