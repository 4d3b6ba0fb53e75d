"""Pooling of every kind: C-29, torch as the oracle, laws of chance."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from striate.layers import (
    FractionalMaxPool,
    GlobalPool,
    LpPool,
    SpatialPyramidPool,
    StochasticPool,
)
from striate.layers.pooling import fractional_edges

SQUARE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def test_norm_of_1_2_3_4():
    """C-29."""
    assert LpPool(2, 2)(SQUARE).item() == pytest.approx(5.477226, abs=1e-6)
    assert LpPool(1, 2)(SQUARE).item() == 10
    assert LpPool(float("inf"), 2)(SQUARE).item() == 4


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_norms_are_torchs(axes, kernel, stride):
    x = torch.rand(2, 3, *[8] * axes, dtype=torch.float64) + 0.1
    wanted = (F.lp_pool1d, F.lp_pool2d)[axes - 1](x, 3.0, kernel, stride)
    torch.testing.assert_close(LpPool(3, kernel, stride)(x), wanted)


@pytest.mark.parametrize(("kernel", "stride"), [((2, 3), (1, 2)), ((3, 1), 0), (2, (2, 3))])
def test_windows_may_be_rectangles(kernel, stride):
    x = torch.rand(2, 3, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(
        LpPool(2, kernel, stride)(x), F.lp_pool2d(x, 2.0, kernel, stride or kernel)
    )
    drawn = StochasticPool(kernel, stride)(x)
    assert drawn.shape == LpPool(2, kernel, stride)(x).shape
    with pytest.raises(ValueError, match="kernel must be one number, or one for each of 1 axes"):
        LpPool(2, (2, 3))(x[0])


def test_norms_of_three_axes_and_at_zero():
    x = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    y = LpPool(2, 2)(x)
    y.sum().backward()
    assert y.shape == (1, 1, 2, 2, 2)
    assert (x.grad == 0).all()


def test_chance_is_in_proportion_and_its_mean_is_the_expectation():
    torch.manual_seed(0)
    x = torch.tensor([[[1.0, 3.0, -5.0, 4.0]]]).repeat(20_000, 1, 1)
    pool = StochasticPool(4)
    drawn = pool(x)
    shares = [(drawn == value).float().mean().item() for value in (1, 3, 4)]
    assert shares == pytest.approx([1 / 8, 3 / 8, 4 / 8], abs=0.02)
    assert pool.eval()(x)[0].item() == pytest.approx((1 + 9 + 16) / 8)


@pytest.mark.parametrize("least", [1e-300, 1e-60, 1e-30, 1.0])
def test_chance_knows_no_least_value(least):
    torch.manual_seed(0)
    x = torch.tensor([[[1.0, 3.0, 0.0, 4.0]]], dtype=torch.float64).repeat(20_000, 1, 1) * least
    drawn = StochasticPool(4)(x)
    shares = [(drawn == value * least).double().mean().item() for value in (1, 3, 4)]
    assert shares == pytest.approx([1 / 8, 3 / 8, 4 / 8], abs=0.02)
    expected = StochasticPool(4).eval()(x)[0].item()
    assert expected == pytest.approx(26 / 8 * least, rel=1e-12)


@pytest.mark.parametrize("value", [1e-40, 1e-30, 3e38])
@pytest.mark.parametrize("training", [True, False])
def test_chance_among_equals_gives_their_value(value, training):
    x = torch.full((1, 2, 4), value)
    torch.testing.assert_close(
        StochasticPool(2).train(training)(x), torch.full((1, 2, 2), value), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_window_without_a_positive_value_gives_0(training):
    x = -torch.ones(1, 1, 4, 4)
    assert (StochasticPool(2).train(training)(x) == 0).all()


@pytest.mark.parametrize("size", [2, 5, 8, 25])
def test_fractional_regions_cover_everything_once(size):
    for out in range(size // 2, size + 1):
        for start in (0.0, 0.3, 0.99):
            edges = fractional_edges(size, out, start)
            widths = {b - a for a, b in pairwise(edges)}
            assert edges[0] == 0
            assert edges[-1] == size
            assert widths <= ({1, 2} if 2 * out >= size else {2, 3})


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("overlap", [False, True])
def test_fractional_pooling_shrinks_by_its_ratio(axes, overlap):
    x = torch.randn(2, 3, *[25] * axes)
    pool = FractionalMaxPool(2**0.5, overlap=overlap)
    y = pool(x)
    assert y.shape == (2, 3, *[17] * axes)
    assert torch.isin(y, x).all()
    assert torch.equal(y.amax(), x.amax())
    assert torch.equal(pool.eval()(x), pool(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("size", "ratio", "out"), [(5, 2.0, 2), (7, 1.9, 3), (7, 1.5, 4), (3, 2.0, 1), (1, 2.0, 1)]
)
def test_fractional_pooling_gives_the_whole_part_of_its_quotient(size, ratio, out, training):
    x = torch.rand(2, 3, size)
    for overlap in (False, True):
        y = FractionalMaxPool(ratio, overlap=overlap).train(training)(x)
        assert y.shape == (2, 3, out)
        assert torch.equal(y.amax(2), x.amax(2))  # every sample is in a region


def test_an_impossible_number_of_regions_is_named():
    with pytest.raises(ValueError, match="out must lie in 2 to 5; got 1"):
        fractional_edges(5, 1, 0.5)


def test_ratio_2_is_plain_pooling():
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(FractionalMaxPool(2.0)(x), F.max_pool2d(x, 2))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_pyramid_has_one_length_for_every_size(axes):
    pool = SpatialPyramidPool((1, 2, 4))
    lengths = {pool(torch.randn(2, 3, *[size] * axes)).shape for size in (4, 7, 13)}
    assert lengths == {(2, 3 * (1 + 2**axes + 4**axes))}
    with pytest.raises(ValueError, match=r"must not exceed the size \(3"):
        pool(torch.randn(2, 3, *[3] * axes))


@pytest.mark.parametrize("kind", GlobalPool.KINDS)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_global_pooling_forgets_places(kind, axes):
    """C-48."""
    x = torch.randn(2, 3, *[4] * axes, dtype=torch.float64)
    order = torch.randperm(4**axes)
    mixed = x.flatten(2)[:, :, order].view_as(x)
    pool = GlobalPool(kind)
    assert pool(x).shape == (2, 3)
    torch.testing.assert_close(pool(mixed), pool(x))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LpPool(0.5, 2), "p must be at least 1; got 0.5"),
        (lambda: StochasticPool(0), "kernel must be at least 1"),
        (lambda: FractionalMaxPool(2.5), "ratio must lie in 1 to 2; got 2.5"),
        (lambda: SpatialPyramidPool(()), "levels must be numbers"),
        (lambda: SpatialPyramidPool(3), r"levels must be numbers .*, such as \(1, 2\); got 3"),
        (lambda: SpatialPyramidPool((1, 0)), r"levels must be at least 1; got \(1, 0\)"),
        (lambda: LpPool(2, 2.5), "kernel must be a whole number; got 2.5"),
        (lambda: LpPool(None, 2), "p must be at least 1; got None"),
        (lambda: GlobalPool()(torch.ones(2, 3)), r"x must be \(N, C, \*S\) .* got \(2, 3\)"),
        (lambda: GlobalPool()(torch.ones(2, 3, 0, 4)), r"a sample a map; got \(2, 3, 0, 4\)"),
        (lambda: GlobalPool("sum"), "kind must be one of mean, max, norm"),
        (lambda: LpPool(2, 3)(SQUARE), "a window of 3 has no position in size 2"),
    ],
)
def test_impossible_choices_are_said(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    "layer",
    [LpPool(2, 2), StochasticPool(2).eval(), FractionalMaxPool().eval(), SpatialPyramidPool((1, 2)),
     GlobalPool("norm")],
)  # fmt: skip
def test_gradients(layer):
    x = torch.rand(2, 2, 6, 6, dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(layer, x.requires_grad_())
