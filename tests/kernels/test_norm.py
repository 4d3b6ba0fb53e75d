"""Batch normalisation, a sum and a rectifier behind it, against float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from striate.kernels.norm import batch_norm

SHAPES = [(2, 3, 5), (4, 17, 6, 5), (3, 64, 8, 8), (2, 70, 3, 4, 2), (1, 1, 40, 40), (40, 8, 1, 1)]


def distance(ours, exact, scale=0.0):
    """Return the largest error, of the largest number or of `scale` where sums cancel."""
    exact = exact.detach()
    error = (ours.detach().double() - exact).abs().max()
    return float(error / exact.abs().max().clamp(min=max(scale, 1e-30)))


INF = float("inf")
BOUNDS = [(-INF, INF), (0.0, INF), (0.0, 0.7)]


def compare(shape, bounds, affine=True, added=False, centre=3.0, seed=0, silu=False):
    draw = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(shape, generator=draw) + centre
    c = shape[1]
    weight, bias = (torch.randn(c, generator=draw) for _ in range(2)) if affine else (None, None)
    addend = torch.randn(shape, generator=draw) if added else None
    given_ = (x, weight, bias, addend)
    exact = [None if t is None else t.double().requires_grad_() for t in given_]
    before = F.batch_norm(exact[0], None, None, *exact[1:3], True, 0, 1e-5)
    before = before + exact[3] if added else before
    # where an answer is a bound up to rounding, nobody can say whether a gradient passes
    near = torch.stack([(before.detach() - bound).abs() < 1e-4 for bound in bounds]).any(0)
    dy = torch.randn(shape, generator=draw) * ~near
    y = F.silu(before) if silu else before.clamp(*bounds)
    wanted = torch.autograd.grad(y, [t for t in exact if t is not None], dy.double())
    ours = [None if t is None else t.clone().requires_grad_() for t in given_]
    told = {"low": bounds[0], "high": bounds[1], "silu": silu}
    found, mean, variance = batch_norm(*ours, epsilon=1e-5, **told)
    axes = [0, *range(2, len(shape))]
    exact_variance = x.double().var(axes, correction=0)
    reach = float(x.abs().max())  # what a number is rounded at, before the mean is taken away
    slope = float((exact_variance + 1e-5).rsqrt().max())  # of y over x
    slope *= 1 if weight is None else float(weight.abs().max())
    assert distance(mean, x.double().mean(axes), reach) < 1e-6
    assert distance(variance, exact_variance, 0.1 * reach**2) < 1e-5
    assert distance(found, y, 0.1 * slope * reach) < 1e-5
    largest, total = float(dy.abs().max()), float(dy.abs().sum(axes).max())
    scales = {0: slope * largest * (1 + slope * reach), 1: total * (1 + slope * reach), 2: total}
    kinds = [k for k, t in enumerate(given_) if t is not None]
    grads = torch.autograd.grad(found, [ours[k] for k in kinds], dy)
    for kind, one, other in zip(kinds, grads, wanted, strict=True):
        assert distance(one, other, scales.get(kind, 0)) < 1e-5


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_answers_statistics_and_gradients_are_those_of_float64(level, shape, bounds, added, affine):
    compare(shape, bounds, affine, added)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_silu_behind_it(level, shape, affine):
    compare(shape, BOUNDS[0], affine, silu=True)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    n=st.integers(2, 40), c=st.integers(1, 150), size=st.integers(1, 12),
    bounds=st.sampled_from(BOUNDS), affine=st.booleans(), added=st.booleans(),
    centre=st.sampled_from([0.0, 3.0, -30.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape(level, n, c, size, bounds, affine, added, centre, seed):
    compare((n, c, size, size), bounds, affine, added, centre, seed)


def test_a_large_mean_costs_no_digits():
    x = torch.randn(64, 5, 16, 16, generator=torch.Generator().manual_seed(0)) + 10_000
    _, mean, variance = batch_norm(x, None, None, epsilon=1e-5)
    exact = x.double().var((0, 2, 3), correction=0)
    assert distance(variance, exact) < 5e-4  # numbers near 10,000 are 1e-3 apart
    assert distance(mean, x.double().mean((0, 2, 3))) < 1e-6


def test_two_threads_answer_to_the_bit_alike_every_time(two_threads):
    x = torch.randn(8, 33, 40, 40)
    first = batch_norm(x, None, None, epsilon=1e-5, low=0.0)
    for _ in range(5):
        again = batch_norm(x, None, None, epsilon=1e-5, low=0.0)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("low", "added", "silu"),
    [*((low, added, False) for low in (0.0, -INF) for added in (True, False)), (-INF, False, True)],
)
def test_gradients_of_gradients_are_those_of_torch(low, added, silu):
    x, addend = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)

    def second(normalise):
        parts = [t.clone().requires_grad_() for t in (x, torch.ones(4), addend)]
        y = normalise(*parts)
        parts = parts if added else parts[:2]
        grads = torch.autograd.grad(y.square().sum() + y.sin().sum(), parts, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in grads), parts)

    def theirs(x, w, addend):
        y = F.batch_norm(x, None, None, w, torch.zeros(4), True, 0, 1e-5)
        if silu:
            return F.silu(y)
        return (y + addend if added else y).clamp(min=low)

    def ours(x, w, addend):
        addend = addend if added else None
        return batch_norm(x, w, torch.zeros(4), addend, epsilon=1e-5, low=low, silu=silu)[0]

    for one, other in zip(second(ours), second(theirs), strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()  # sums of large ones cancel
