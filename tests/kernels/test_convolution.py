"""Winograd's convolution against float64, over shapes that fit no vector, tile or thread."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from striate.kernels.convolution import conv2d, last

SHAPES = [  # n, c, o, h, w, padding
    (2, 3, 5, 7, 9, (1, 1)),
    (1, 17, 33, 12, 11, (0, 0)),
    (3, 64, 64, 8, 8, (1, 1)),
    (2, 20, 40, 6, 5, (2, 0)),
    (1, 1, 1, 3, 3, (0, 0)),
    (1, 49, 1, 1, 1, (1, 1)),
    (5, 16, 18, 3, 30, (0, 2)),
]


def distance(ours, exact):
    exact = exact.detach()
    error = (ours.detach().double() - exact).abs().max() / exact.abs().max().clamp(min=1e-30)
    return error.item()


def both(n, c, o, h, w, padding, *, bias=True, seed=0):
    """Return inputs, and the answer and gradients of float64."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=draw)
    weight = torch.randn(o, c, 3, 3, generator=draw)
    shift = torch.randn(o, generator=draw) if bias else None
    parts = [part.double().requires_grad_() for part in (x, weight, shift) if part is not None]
    y = F.conv2d(parts[0], parts[1], parts[2] if bias else None, padding=padding)
    dy = torch.randn(y.shape, generator=draw)
    return x, weight, shift, dy, y, torch.autograd.grad(y, parts, dy.double())


def compare(x, weight, shift, dy, y, grads, padding):
    parts = [part.clone().requires_grad_() for part in (x, weight, shift) if part is not None]
    ours = conv2d(parts[0], parts[1], parts[2] if shift is not None else None, padding)
    found = torch.autograd.grad(ours, parts, dy)
    assert ours.shape == y.shape
    assert distance(ours, y) < 2e-5
    for one, exact in zip(found, grads, strict=True):
        assert one.shape == exact.shape
        assert distance(one, exact) < 5e-5


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_answers_and_gradients_are_those_of_float64(level, ours, tile, shape):
    ours(tile)
    compare(*both(*shape), shape[-1])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_threads_answer_to_the_bit_alike_every_time(two_threads, ours, shape):
    ours(4)
    x, weight, shift, dy, y, grads = both(*shape)
    compare(x, weight, shift, dy, y, grads, shape[-1])

    def step():
        parts = [part.clone().requires_grad_() for part in (x, weight)]
        answer = conv2d(*parts, None, shape[-1])
        return answer, *torch.autograd.grad(answer, parts, dy)

    for one, again in zip(step(), step(), strict=True):
        assert torch.equal(one, again)


@pytest.mark.slow
@pytest.mark.parametrize("tile", [2, 4])
@settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    n=st.integers(1, 5), c=st.integers(1, 70), o=st.integers(1, 70), h=st.integers(3, 23),
    w=st.integers(3, 23), pad_h=st.integers(0, 2), pad_w=st.integers(0, 2),
    bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape(ours, level, tile, n, c, o, h, w, pad_h, pad_w, bias, seed):
    ours(tile)
    compare(*both(n, c, o, h, w, (pad_h, pad_w), bias=bias, seed=seed), (pad_h, pad_w))


def test_inputs_may_lie_in_any_order(ours):
    ours(4)
    x, weight, shift, dy, y, grads = both(2, 6, 7, 9, 8, (1, 1))
    strided = torch.stack([x, x], -1)[..., 0]
    for moved in (x, last(x), strided, x.transpose(2, 3).contiguous().transpose(2, 3)):
        for kernels in (weight, last(weight), weight.flip(0).flip(0), weight.mT.contiguous().mT):
            compare(moved, kernels, shift, last(dy), y, grads, (1, 1))


def test_the_gradient_of_an_expanded_answer(ours):
    ours(4)
    x, weight, *_ = both(2, 6, 7, 9, 8, (1, 1))
    parts = [part.clone().requires_grad_() for part in (x, weight)]
    exact = [part.double().requires_grad_() for part in (x, weight)]
    conv2d(*parts, None, (1, 1)).sum().backward()
    F.conv2d(*exact, None, padding=1).sum().backward()
    assert all(
        distance(a.grad, b.grad) < 5e-5 for a, b in zip(parts, exact, strict=True)
    )  # dy has stride 0 everywhere


def test_gradients_of_gradients(ours):
    """Of any order, since each operator is the gradient of the other two."""
    ours(4)
    x, weight, _, dy, _, _ = both(2, 3, 4, 6, 5, (1, 1))

    def second(convolve, dtype):
        parts = [part.to(dtype).clone().requires_grad_() for part in (x, weight)]
        y = convolve(*parts)
        grads = torch.autograd.grad((y.sin() * dy.to(dtype)).sum(), parts, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in grads), parts)

    ours_ = second(lambda x, w: conv2d(x, w, None, (1, 1)), torch.float32)
    exact = second(lambda x, w: F.conv2d(x, w, padding=1), torch.float64)
    assert all(distance(a, b) < 1e-4 for a, b in zip(ours_, exact, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_what_torch_asks_of_them(ours):
    ours(4)
    x, weight, shift, _, _, _ = both(2, 3, 4, 6, 5, (1, 1))
    parts = [part.requires_grad_() for part in (x, weight, shift)]
    torch.library.opcheck(torch.ops.striate.convolve.default, (*parts, [1, 1]))


def test_numbers_that_are_none_stay_where_they_were_made(ours):
    """An infinity or a NaN reaches only the tiles that see it."""
    ours(4)
    x, weight = torch.zeros(1, 1, 40, 40), torch.ones(1, 1, 3, 3)
    x[0, 0, 0, 0] = float("nan")
    y = conv2d(x, weight, None, (1, 1))
    assert y[0, 0, 0, 0].isnan()
    assert (y[0, 0, 8:, 8:] == 0).all()
