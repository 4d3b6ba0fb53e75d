"""A002: what a shift does to an answer, against laws and pooling by hand."""

from itertools import product
from math import inf

import pytest
import torch
from torch import nn

from striate.analysis import equivariance_error, shift_consistency
from striate.layers import (
    AdaptivePolyphaseSampling,
    Convolution,
    GlobalPool,
    MaxBlurPool,
    max_pool,
)


class Polyphase(nn.Module):
    """Adaptive sampling without the numbers of the phases."""

    def forward(self, x):
        return AdaptivePolyphaseSampling()(x)[0]


WAVE = torch.tensor([0.0, 0, 1, 1] * 2).view(1, 1, 8)


def samples(axes=2, side=8, count=3):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(count, 2, *[side] * axes, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_circular_convolution_of_stride_1_moves_along_with_every_shift(axes):
    """C-41."""
    layer = Convolution(axes, 2, 4, 3, padding="same", border="circular").double()
    for shift in (1, -3, tuple(range(1, axes + 1))):
        assert equivariance_error(layer, samples(axes), shift) <= 1e-12


@pytest.mark.parametrize("stride", [2, 4])
def test_a_stride_follows_its_multiples_alone(stride):
    """C-43."""
    x = samples()
    layer = Convolution(2, 2, 4, 3, stride=stride, padding=[1, 1], border="circular").double()
    for shift in product(range(stride + 1), repeat=2):
        error = equivariance_error(layer, x, shift)
        assert (error <= 1e-12) == (shift[0] % stride == shift[1] % stride == 0)
        assert error <= 1e-12 or error > 0.1


@pytest.mark.parametrize("size", [(16,), (9, 12), (4, 5, 6)])
@pytest.mark.parametrize("kind", ["mean", "max", "norm"])
def test_without_strides_a_global_answer_ignores_every_shift(size, kind):
    """C-44, on any number of axes, sides that are odd and kernels that are dilated."""
    axes = len(size)
    first = Convolution(axes, 2, 6, 3, padding="same", border="circular")
    second = Convolution(axes, 6, 4, 2, dilation=2, padding="same", border="circular")
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), GlobalPool(kind)).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    assert max(equivariance_error(net, x, s) for s in product(*map(range, size))) <= 1e-12
    assert shift_consistency(net, x, [1, 2, 3]) == 1


def test_a_wave_pooled_by_hand():
    assert equivariance_error(max_pool(1, 2), WAVE, 2) == 0
    # (0, 1, 0, 1) becomes (1, 1, 1, 1); the shifted answers are (0, 1, 0, 1) and (1, 0, 1, 0).
    assert equivariance_error(max_pool(1, 2), WAVE, 1) == pytest.approx(1)
    blurred = MaxBlurPool(padding="circular")  # (.5, 1, .5, 1) becomes (.75, .75, .75, .75)
    assert equivariance_error(blurred, WAVE, 1) == pytest.approx((4 / 16 / 2.5) ** 0.5)


def test_zeros_beyond_the_border_are_seen():
    layer = Convolution(2, 2, 4, 3, padding="same").double()
    assert 0.05 < equivariance_error(layer, samples(), 1) < 1


def test_an_answer_without_axes_has_to_stay():
    conv = Convolution(2, 2, 4, 3, padding="same", border="circular")
    pooled = nn.Sequential(conv, nn.ReLU(), GlobalPool("mean")).double()
    flat = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)).double()
    whole = nn.Sequential(conv, Polyphase(), nn.ReLU(), GlobalPool("mean")).double()
    for shift in ((1, 0), (3, 5)):
        assert equivariance_error(pooled, samples(), shift) <= 1e-12
        assert equivariance_error(whole, samples(), shift) <= 1e-10
        assert equivariance_error(flat, samples(), shift) > 0.1


def test_an_answer_of_nothing_is_off_by_infinity_or_not_at_all():
    assert equivariance_error(nn.Threshold(9, 0), samples(), 1) == 0
    corner = nn.Conv1d(1, 1, 1, bias=False)
    nn.init.ones_(corner.weight)
    hears = nn.Sequential(corner, nn.Flatten(), nn.Linear(8, 1, bias=False))
    with torch.no_grad():
        hears[2].weight.copy_(torch.eye(8)[:1])  # the first sample alone
    assert equivariance_error(hears, WAVE, 1) == inf


def test_the_share_of_classes_kept_is_counted():
    first = nn.Flatten()  # the class is where the sample is largest
    x = torch.eye(4).view(4, 1, 4)
    assert shift_consistency(first, x, [0]) == 1
    assert shift_consistency(first, x, [1, 2, 4]) == pytest.approx(1 / 3)


def test_polyphase_sampling_keeps_every_class_and_a_plain_stride_does_not():
    """C-46."""
    torch.manual_seed(0)
    ring = {"padding": [1, 1], "border": "circular"}
    x, shifts = samples(side=16, count=8), list(product(range(4), repeat=2))
    plain = nn.Sequential(Convolution(2, 2, 8, 3, stride=2, **ring), GlobalPool("max")).double()
    whole = nn.Sequential(Convolution(2, 2, 8, 3, **ring), Polyphase(), GlobalPool("max")).double()
    assert shift_consistency(plain, x, shifts) < 0.9
    assert shift_consistency(whole, x, shifts) == 1


def test_the_model_goes_on_as_it_was():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5)).double()
    model[1].eval()
    equivariance_error(model, samples(), 1)
    shift_consistency(nn.Sequential(model, GlobalPool("mean")), samples(), [1])
    assert [part.training for part in model.modules()] == [True, True, False]
    assert int(model[0].num_batches_tracked) == 0


def test_impossible_arguments_are_named():
    for measure in (equivariance_error, lambda model, x, s: shift_consistency(model, x, [s])):
        with pytest.raises(ValueError, match=r"one for each of 2 axes; got \(1, 2, 3\)"):
            measure(nn.Identity(), samples(), (1, 2, 3))
        with pytest.raises(ValueError, match=r"one for each of 0 axes; got 1"):
            measure(nn.Identity(), torch.zeros(3, 4), 1)
        with pytest.raises(ValueError, match=r"shift must be a whole number; got 1\.5"):
            measure(nn.Identity(), samples(), 1.5)
    with pytest.raises(ValueError, match=r"shifts must be several, such as \(1, 2, 3\); got 3"):
        shift_consistency(nn.Flatten(), samples(), 3)
    with pytest.raises(ValueError, match="wanted are samples and shifts; got 3 and 0"):
        shift_consistency(nn.Flatten(), samples(), [])
    with pytest.raises(ValueError, match=r"must give logits \(N, K\); got \(3, 2, 8, 8\)"):
        shift_consistency(nn.Identity(), samples(), [1])
