"""A166, A167: what a stride folds, against sums by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.analysis import folding
from striate.analysis.aliasing import above_nyquist
from striate.layers import (
    AdaptivePolyphaseSampling,
    AdaptivePolyphaseUpsampling,
    BlurPool,
    Convolution,
    LocallyConnected,
    LpPool,
    MaxBlurPool,
    TiledConvolution,
    max_pool,
)
from striate.models import build
from striate.spec import Spec


@given(size=st.sampled_from([8, 12, 24]), stride=st.integers(2, 4), period=st.integers(1, 12))
def test_a_wave_folds_exactly_where_it_is_too_fast(size, stride, period):
    frequency = min(period, size // 2) / size
    wave = torch.cos(2 * torch.pi * frequency * torch.arange(size))
    wanted = 0.0 if frequency < 0.5 / stride else 1.0
    wanted = 0.5 if abs(frequency - 0.5 / stride) < 1e-9 else wanted
    assert above_nyquist(wave, [stride]) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_white_noise_folds_all_but_one_in_the_product_of_strides(axes):
    noise = torch.randn(2000, *[16] * axes, generator=torch.Generator().manual_seed(0))
    assert above_nyquist(noise, [2] * axes) == pytest.approx(1 - 0.5**axes, abs=0.02)
    assert above_nyquist(noise, [1] * axes) == 0


def test_a_blur_lets_less_through_than_a_single_sample():
    single, blurred = torch.zeros(5, 5), torch.outer(*[torch.tensor([1.0, 4, 6, 4, 1])] * 2)
    single[2, 2] = 1
    assert above_nyquist(single, [2, 2], [64, 64]) == pytest.approx(0.75, abs=0.01)
    assert above_nyquist(blurred, [2, 2], [64, 64]) < 0.05


def test_nothing_folds_nothing():
    assert above_nyquist(torch.zeros(3, 8), [2]) == 0


def test_every_layer_with_a_stride_is_named_with_what_it_samples():
    torch.manual_seed(0)
    net = nn.Sequential(
        Convolution(2, 1, 4, 3, stride=2, padding="same"), nn.ReLU(), nn.MaxPool2d(2), LpPool(2, 2),
        nn.Conv2d(4, 4, 1),
    )  # fmt: skip
    before = net.training
    found = folding(net, torch.randn(8, 1, 32, 32))
    assert [(one.name, one.stride) for one in found] == [
        ("0", (2, 2)),
        ("2", (2, 2)),
        ("3", (2, 2)),
    ]
    assert [one.kernel is None for one in found] == [False, True, True]
    assert found[0].kernel == pytest.approx(0.75, abs=0.2)  # it has learnt nothing yet
    assert all(0 < one.signal < 1 and one.white == 0.75 for one in found)
    assert net.training == before
    assert net[0].stride != 1  # the layer itself is as it was


def test_blurred_maxima_fold_less_than_plain_ones():
    x = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, soft = (folding(nn.Sequential(p), x)[0] for p in (nn.MaxPool2d(2), MaxBlurPool(2)))
    assert soft.signal < plain.signal / 3
    assert folding(nn.Sequential(BlurPool(5)), x)[0].signal < 0.1


def test_different_strides_along_different_axes():
    layer = nn.Conv2d(1, 2, (1, 3), stride=(1, 2))
    found = folding(nn.Sequential(layer), torch.randn(2, 1, 8, 8))[0]
    assert found.stride == (1, 2)
    assert found.white == 0.5


@pytest.mark.parametrize("name", ["lenet1", "lenet5_1998"])
def test_a_stride_inside_of_a_layer_is_found(name):
    net = build(name)  # its subsampling layers are a mean with a stride, a coefficient and a bias
    found = folding(net, torch.randn(4, 1, *net.spec.size))
    assert [(one.stride, one.kernel) for one in found] == [((2, 2), None)] * 2
    assert [one.name.rpartition(".")[2] for one in found] == ["mean"] * 2


def test_nothing_is_said_of_what_keeps_every_position():
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    assert folding(net, torch.randn(2, 1, 8)) == []


NOISE = torch.randn(16, 2, 12, 12, generator=torch.Generator().manual_seed(0))


class Sampling(nn.Module):
    """Down and up again, on the grid of its own choice or on somebody else's."""

    def __init__(self, index):
        super().__init__()
        self.down, self.up = AdaptivePolyphaseSampling(2), AdaptivePolyphaseUpsampling(2)
        self.index = index

    def forward(self, x):
        return self.up(*self.down(x, self.index))


@pytest.mark.parametrize("index", [None, torch.full((16,), 3)])
def test_polyphase_sampling_folds_what_any_grid_of_its_map_folds(index):
    (found,) = folding(Sampling(index), NOISE)  # the way up folds nothing
    wanted = above_nyquist(NOISE - NOISE.mean((2, 3), keepdim=True), (2, 2))
    assert (found.name, found.signal, found.kernel) == ("down", wanted, None)


def test_an_untied_bias_hides_nothing_and_stays():
    layer = Convolution(2, 2, 4, 3, stride=2, padding="same", bias="untied", size=(12, 12))
    tied = Convolution(2, 2, 4, 3, stride=2, padding="same")
    tied.load_state_dict({**layer.state_dict(), "bias": torch.zeros(4, 1, 1)})
    nn.init.normal_(layer.bias)
    assert folding(nn.Sequential(layer), NOISE) == folding(nn.Sequential(tied), NOISE)
    assert layer.untied
    assert layer.bias.shape == (4, 6, 6)
    net = build("lecun1989", Spec(channels=1, size=(12, 12), classes=("a", "b")))
    assert [one.name for one in folding(net, NOISE[:, :1])] == ["0", "2"]


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("kind", [LocallyConnected, TiledConvolution])
def test_between_kernels_of_their_own_there_is_nothing_to_sample(axes, kind):
    layer = kind(2, 3, (12,) * axes, 3, stride=2)
    kernel = torch.randn(3, 2, *[3] * axes)
    layer.copy_kernel(kernel)
    (found,) = folding(
        nn.Sequential(layer), NOISE.flatten(2)[..., : 12**axes].view(16, 2, *[12] * axes)
    )
    assert found.signal is None
    assert found.kernel == pytest.approx(above_nyquist(kernel, [2] * axes, [64] * axes))


def test_the_kernels_of_a_table_are_seen():
    layer = Convolution(2, 2, 2, 3, stride=2, table=[[0], [0, 1]])
    wanted = above_nyquist(layer.kernels().detach(), [2, 2], [64, 64])
    assert folding(nn.Sequential(layer), NOISE)[0].kernel == wanted


def test_a_window_that_only_hangs_over_the_end_has_one_place():
    for layer in (max_pool(2, 2, hanging=True), Convolution(2, 2, 1, 2, stride=2, tiling="ceil")):
        (found,) = folding(nn.Sequential(layer), NOISE[..., :1, :1])
        assert found.signal is None


def test_strides_in_a_list_count():
    plain, listed = (folding(nn.Sequential(nn.MaxPool2d(k)), NOISE) for k in (2, [2, 2]))
    assert plain == listed


@pytest.mark.parametrize("stride", [(0,), (1.5,), (), (2, 2)])
def test_impossible_strides_are_named(stride):
    with pytest.raises(ValueError, match="stride must be "):
        above_nyquist(torch.ones(8), stride)
