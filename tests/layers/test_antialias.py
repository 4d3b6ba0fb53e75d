"""BlurPool, MaxBlurPool, polyphase sampling: C-31, C-32, C-45, C-46, and what shifts do."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.layers import (
    AdaptivePolyphaseSampling,
    AdaptivePolyphaseUpsampling,
    BlurPool,
    MaxBlurPool,
    binomial,
    blur,
    phases,
)

STEPS = torch.tensor([[[0.0, 0, 1, 1, 0, 0, 1, 1]]])


def test_plain_max_pooling_aliases():
    assert F.max_pool1d(STEPS, 2).tolist() == [[[0, 1, 0, 1]]]
    assert F.max_pool1d(STEPS.roll(1, 2), 2).tolist() == [[[1, 1, 1, 1]]]


def test_max_blur_pooling_hardly_does():
    pool = MaxBlurPool(2, 3, 2, "circular")
    assert pool(STEPS).tolist() == [[[0.5, 1, 0.5, 1]]]
    assert pool(STEPS.roll(1, 2)).tolist() == [[[0.75, 0.75, 0.75, 0.75]]]


@pytest.mark.parametrize(
    ("taps", "line"),
    [(1, [1]), (2, [1, 1]), (3, [1, 2, 1]), (4, [1, 3, 3, 1]), (5, [1, 4, 6, 4, 1])],
)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_binomial_filters(taps, line, axes):
    line = torch.tensor(line, dtype=torch.float64)
    line = line / line.sum()
    wanted = line
    for _ in range(axes - 1):
        wanted = wanted[..., None] * line
    torch.testing.assert_close(binomial(taps, axes), wanted)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5])
def test_a_constant_stays_and_channels_do_not_mix(taps, axes):
    x = torch.arange(3.0).view(1, 3, *[1] * axes).expand(1, 3, *[8] * axes)
    y = BlurPool(taps)(x)
    assert y.shape == (1, 3, *[4] * axes)
    torch.testing.assert_close(y, x[(..., *[slice(0, 4)] * axes)])


def test_blurring_at_stride_1_commutes_with_shifts():
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    pool = BlurPool(3, 1, "circular")
    torch.testing.assert_close(pool(x.roll((3, 5), (2, 3))), pool(x).roll((3, 5), (2, 3)))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("stride", [2, 3])
def test_phases_hold_every_sample_once(axes, stride):
    x = torch.arange(2 * 6**axes).view(1, 2, *[6] * axes)
    grids = phases(x, stride)
    assert grids.shape == (1, stride**axes, 2, *[6 // stride] * axes)
    assert sorted(grids.flatten().tolist()) == sorted(x.flatten().tolist())


def test_an_odd_size_is_said():
    with pytest.raises(ValueError, match=r"multiples of stride 2; got \(8, 7\)"):
        AdaptivePolyphaseSampling()(torch.zeros(1, 1, 8, 7))


class Block(nn.Module):
    """A residual block whose shortcut is sampled on the trunk's grid."""

    def __init__(self, channels):
        super().__init__()
        how = {"padding": 1, "padding_mode": "circular"}
        self.trunk = nn.Conv2d(channels, channels, 3, **how)
        self.sampling = AdaptivePolyphaseSampling()

    def forward(self, x):
        y, index = self.sampling(self.trunk(x).relu())
        return y + self.sampling(x, index)[0]


def test_a_net_of_polyphase_sampling_and_global_pooling_ignores_every_shift():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"), Block(8), Block(8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).double()  # fmt: skip
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    shifts = [x.roll((a, b), (2, 3)) for a in range(16) for b in range(16)]
    with torch.no_grad():
        answers = net(torch.cat(shifts))
        assert (answers - answers[:1]).abs().max() <= 1e-10
        plain = F.conv2d(torch.cat(shifts), torch.randn(8, 3, 3, 3).double(), stride=2, padding=1)
        plain = plain.relu().mean((2, 3))
    assert (plain - plain[:1]).abs().max() > 1e-3


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_sampling_up_is_the_adjoint_of_sampling_down(axes):
    x = torch.randn(4, 2, *[6] * axes, dtype=torch.float64)
    y, index = AdaptivePolyphaseSampling()(x)
    other = torch.randn_like(y)
    up = AdaptivePolyphaseUpsampling()(other, index)
    torch.testing.assert_close((y * other).sum(), (x * up).sum())
    torch.testing.assert_close(AdaptivePolyphaseSampling()(up, index)[0], other)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ([7, 0], "index must be integers 0 to 3; got 7"),
        ([0, -1], "index must be integers 0 to 3; got -1"),
        ([1], r"index must be \(2,\) integers 0 to 3; got \(1,\) of torch.int64"),
        ([0.0, 1.0], r"got \(2,\) of torch.float32"),
    ],
)
def test_grids_that_are_not_there_are_named(index, said):
    for layer in (AdaptivePolyphaseSampling(), AdaptivePolyphaseUpsampling()):
        with pytest.raises(ValueError, match=said):
            layer(torch.ones(2, 1, 2, 2), torch.tensor(index))


def test_the_norm_of_order_inf_is_the_largest_magnitude():
    x = torch.tensor([[[3.0, -4.0, 3.0, 0.0]]])
    assert AdaptivePolyphaseSampling(order=float("inf"))(x)[1].item() == 1
    assert AdaptivePolyphaseSampling(order=1)(x)[1].item() == 0


def test_of_equal_norms_the_first_grid_wins_so_a_tie_depends_on_the_shift():
    x = torch.tensor([[[3.0, 5.0, 4.0, 0.0]]])  # (3, 4) and (5, 0) are both of norm 5
    assert AdaptivePolyphaseSampling()(x)[0].tolist() == [[[3, 4]]]
    assert AdaptivePolyphaseSampling()(x.roll(1, 2))[0].tolist() == [[[0, 5]]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        *[
            (lambda order=order: AdaptivePolyphaseSampling(order=order), rf"order .* got {order}")
            for order in (0, -1, 0.5, float("nan"))
        ],
        *[
            (lambda kind=kind, stride=stride: kind(stride=stride), rf"stride .* 1; got {stride}")
            for kind in (AdaptivePolyphaseSampling, AdaptivePolyphaseUpsampling, BlurPool)
            for stride in (0, -2)
        ],
        (lambda: phases(torch.zeros(1, 1, 4), 0), "stride must be at least 1; got 0"),
        (lambda: BlurPool(0), "taps must be at least 1; got 0"),
        (lambda: BlurPool(2.5), "taps must be a whole number; got 2.5"),
        (lambda: AdaptivePolyphaseSampling(1.5), "stride must be a whole number; got 1.5"),
        (
            lambda: AdaptivePolyphaseSampling()(torch.ones(1, 1, 4, 4), 1),
            r"index must be a tensor \(1,\) of integers; got 1",
        ),
        (
            lambda: MaxBlurPool(3)(torch.ones(1, 1, 2, 5)),
            "a window of 3 has no position in size 2 with padding 0",
        ),
        (
            lambda: MaxBlurPool(6, padding="circular")(torch.ones(1, 1, 4, 5)),
            r"kernel must be at most 5 on a circle of size \(4, 5\); got 6",
        ),
        (lambda: BlurPool(padding="mirror"), r"padding must be one of zero, .*; got 'mirror'"),
        (lambda: MaxBlurPool(0), "kernel must be at least 1; got 0"),
        (lambda: MaxBlurPool(2, 0), "taps must be at least 1; got 0"),
        (lambda: blur(torch.ones(1, 1, 4, 4).long()), r"x must hold floating .* got torch.int64"),
    ],
)
def test_impossible_arguments_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("layer", [BlurPool(3), BlurPool(4, 2, "circular"), MaxBlurPool()])
def test_gradients(layer):
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradcheck(lambda x: AdaptivePolyphaseSampling()(x)[0], x)
