"""What the library is told: sizes as PyTorch has them, an order in memory that is one and only."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from striate.kernels.geometry import (
    geometry,
    last,
    lies_last,
    planned,
    shape_after,
    three,
    turned,
)

FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@given(data=st.data(), axes=st.integers(1, 3))
def test_sizes_are_those_of_pytorch(data, axes):
    def draw(least, most):
        return [data.draw(st.integers(least, most)) for _ in range(axes)]

    size, kernel, stride, padding, dilation = (
        draw(1, 9), draw(1, 4), draw(1, 3), draw(0, 2), draw(1, 3)
    )  # fmt: skip
    each = zip(size, kernel, padding, dilation, strict=True)
    assume(all(s + 2 * p > d * (k - 1) for s, k, p, d in each))
    weight = torch.randn(2, 3, *kernel)
    y = FUNCTIONS[axes](torch.randn(1, 3, *size), weight, None, stride, padding, dilation)
    assert shape_after(size, kernel, stride, padding, dilation) == list(y.shape[2:])
    own = geometry(1, size, weight, stride, padding, dilation, 1)
    assert list(own.out) == three(y.shape[2:], 1)
    assert (own.c, own.o) == (3, 2)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 6, 1), (2, 4, 1, 1), (3, 5, 7)])
def test_channels_are_last_whatever_the_sizes(shape):
    x = torch.randn(shape)
    y = last(x)
    assert torch.equal(x, y)
    assert y.movedim(1, -1).is_contiguous()
    assert last(y) is y


def test_only_what_lies_last_alone_does():
    plain = torch.randn(4, 3, 2, 2)
    assert not lies_last(plain)
    assert lies_last(plain.contiguous(memory_format=torch.channels_last))
    assert not lies_last(torch.randn(4, 3, 1, 1))  # both orders are one


def test_to_turn_twice_is_to_leave_it():
    own = geometry(2, (9, 7), torch.randn(5, 3, 3, 2), (1, 1), (1, 0), (1, 1), 1)
    back = turned(turned(own))
    for name in ("c", "o"):
        assert getattr(back, name) == getattr(own, name)
    for name in ("size", "out", "pad"):
        assert list(getattr(back, name)) == list(getattr(own, name))


def test_taps_that_see_only_the_border_are_trimmed():
    weight = torch.randn(4, 2, 3, 3)
    for _ in range(2):
        call, own, offset = planned("forward", 1, (1, 8), weight, (1, 1), (1, 1), (1, 1), 1)
        assert offset == 4 * weight.stride(2)
        assert list(own.kernel) == [1, 1, 3]
        assert list(own.pad) == [0, 0, 1]
        assert call.kernel == (1, 3, 3)  # as it is
        own.kernel[:] = own.pad[:] = [7, 7, 7]  # a copy, which nobody else has
