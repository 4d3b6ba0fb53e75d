"""Sizes, borders, receptive fields: systems.md C-01 to C-08, and the laws behind them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.layers import (
    Convolution,
    effective_kernel,
    even_widths,
    pad,
    padding_for,
    participation,
    shape_after,
    stack_receptive_field,
)
from striate.layers.tiling import BORDERS


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ((32, 5, 1, 0), 28),
        ((227, 11, 4, 0), 55),
        ((28, 3, 1, 1), 28),
        ((28, 3, 1, 2), 30),
        ((7, 3, 2, 0), 3),
    ],
)
def test_positions_of_a_window(numbers, wanted):
    """C-01."""
    assert shape_after(*numbers) == shape_after(*numbers, tiling="strict") == wanted


@pytest.mark.parametrize(
    ("numbers", "exact", "floor"),
    [
        ((7, 3, 3, 0), "2.33333", 2),
        ((224, 11, 4, 0), "54.25", 54),
        ((224, 7, 2, 3), "112.5", 112),
        ((16, 5, 2, 2), "8.5", 8),
    ],
)
def test_strict_tiling_refuses_what_does_not_fit(numbers, exact, floor):
    """C-02; a convolution that is to be strict refuses alike."""
    with pytest.raises(ValueError, match=f"tile {exact} times"):
        shape_after(*numbers, tiling="strict")
    size, kernel, stride, padding = numbers
    layer = Convolution(2, 1, 1, kernel, stride=stride, padding=padding, tiling="strict")
    with pytest.raises(ValueError, match=f"tile {exact} times"):
        layer(torch.zeros(1, 1, size, size))
    assert shape_after(*numbers) == floor
    assert shape_after(*numbers, tiling="ceil") == floor + 1


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(0, 3), st.integers(1, 3)
)
def test_predicted_size_equals_executed_size(size, kernel, stride, padding, dilation):
    x, w = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    try:
        predicted = shape_after(size, kernel, stride, padding, dilation)
    except ValueError:
        with pytest.raises(RuntimeError):
            F.conv1d(x, w, None, stride, padding, dilation)
        return
    assert F.conv1d(x, w, None, stride, padding, dilation).shape[2] == predicted


def test_several_axes_at_once():
    assert shape_after((32, 30), 5, 2) == (14, 13)
    assert shape_after((32, 30), (5, 3), (2, 3), (0, 1), (1, 2)) == (14, 10)
    with pytest.raises(ValueError, match=r"stride must be one number, or one for each of 2 axes"):
        shape_after((32, 30), 5, (2, 2, 2))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"tiling": "round"}, "tiling must be one of strict, floor, ceil; got 'round'"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"padding": -1}, "padding must be at least 0; got -1"),
        ({"dilation": 0}, "dilation must be at least 1"),
        ({"dilation": 9}, "a window of 19 has no position in size 8"),
    ],
)
def test_impossible_windows_are_said(how, said):
    with pytest.raises(ValueError, match=said):
        shape_after(8, 3, **how)


def test_dilation_spans_5_7_9_and_keeps_9_taps():
    """C-06, C-80."""
    assert [effective_kernel(3, d) for d in (1, 2, 3, 4)] == [3, 5, 7, 9]
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4] = 1
    for d in (1, 2, 3, 4):
        assert F.conv2d(x, torch.ones(1, 1, 3, 3), dilation=d, padding=d).sum() == 9


def test_stacks_see_3_7_15():
    """C-06."""
    assert stack_receptive_field([(3, 1, 1), (3, 1, 2), (3, 1, 4)]) == [3, 7, 15]
    assert stack_receptive_field([(3, 1)] * 3) == [3, 5, 7]
    lenet = [(5, 1), (2, 2), (5, 1), (2, 2), (5, 1)]
    assert stack_receptive_field(lenet) == [5, 6, 14, 16, 32]


@pytest.mark.parametrize(("kernel", "amount"), [(1, 0), (3, 1), (5, 2), (7, 3)])
def test_same_padding_of_odd_kernels(kernel, amount):
    """C-03, C-80."""
    assert padding_for("same", kernel) == (amount, amount)


def test_paddings_by_name():
    assert padding_for("same", 4) == (1, 2)
    assert padding_for("full", 3) == (2, 2)
    assert padding_for("causal", 3, dilation=4) == (8, 0)
    assert padding_for("valid", 3) == (0, 0)
    with pytest.raises(ValueError, match="padding must be one of valid, same, full, causal"):
        padding_for("half", 3)


LINE = torch.tensor([[[1.0, 2.0, 6.0]]])


@pytest.mark.parametrize(
    ("border", "wanted"),
    [
        ("zero", [0, 0, 1, 2, 6, 0]),
        ("constant", [9, 9, 1, 2, 6, 9]),
        ("mean", [3, 3, 1, 2, 6, 3]),
        ("replicate", [1, 1, 1, 2, 6, 6]),
        ("reflect", [6, 2, 1, 2, 6, 2]),
        ("circular", [2, 6, 1, 2, 6, 1]),
    ],
)
def test_borders(border, wanted):
    assert pad(LINE, (2, 1), border, 9.0).tolist() == [[wanted]]


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_border_pads_every_axis_its_own_way(border, axes):
    x = torch.randn(2, 3, *(5, 6, 4)[:axes])
    ends = [(1, 2), (0, 3), (2, 0)][:axes]
    wide = pad(x, ends, border)
    sizes = zip(x.shape[2:], ends, strict=True)
    assert wide.shape[2:] == tuple(size + sum(end) for size, end in sizes)
    inner = [slice(low, low + size) for size, (low, _) in zip(x.shape[2:], ends, strict=True)]
    torch.testing.assert_close(wide[(..., *inner)], x)


@pytest.mark.parametrize(
    ("amounts", "border", "said"),
    [
        (1, "wrap", "border must be one of zero"),
        (-1, "zero", "amounts must be at least 0; got"),
        (3, "reflect", "at most 2 of 3 by reflect"),
        (4, "circular", "at most 3 of 3 by circular"),
        ([(1, 1), (1, 1)], "zero", "one number, a pair, or 1 pairs"),
    ],
)
def test_impossible_borders_are_said(amounts, border, said):
    with pytest.raises(ValueError, match=said):
        pad(LINE, amounts, border)


def test_the_corner_takes_part_once_and_the_inside_in_every_tap():
    counts = participation((6, 6), 3)
    assert (counts[0, 0], counts[2, 3]) == (1, 9)
    assert (participation((8, 8), 3, padding=2) == 9).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
def test_participation_is_the_gradient_of_a_sum(size, kernel, stride, padding):
    x = torch.zeros(1, 1, size, size, requires_grad=True)
    F.conv2d(x, torch.ones(1, 1, kernel, kernel), None, stride, padding).sum().backward()
    assert torch.equal(x.grad[0, 0].long(), participation((size, size), kernel, stride, padding))


def test_even_widths_keep_the_values_of_every_layer_within_twice_the_first():
    sizes = [(32, 32), (16, 16), (9, 7), (4, 4)]
    widths = even_widths(sizes, 16)
    assert widths == [16, 64, 260, 1024]
    values = [w * size[0] * size[1] for w, size in zip(widths, sizes, strict=True)]
    assert max(values) <= 2 * min(values)
    with pytest.raises(ValueError, match="first must be at least 1; got 0"):
        even_widths(sizes, 0)


@given(
    size=st.integers(1, 12), kernel=st.integers(1, 5), stride=st.integers(1, 5),
    padding=st.integers(0, 2), dilation=st.integers(1, 2),
)  # fmt: skip
def test_hanging_windows_are_as_many_as_torch_has(size, kernel, stride, padding, dilation):
    if 2 * padding > kernel:
        return  # torch refuses these
    layer = torch.nn.MaxPool1d(kernel, stride, padding, dilation, ceil_mode=True)
    try:
        wanted = layer(torch.zeros(1, 1, size)).shape[2]
    except RuntimeError:
        wanted = 0
    try:
        found = shape_after(size, kernel, stride, padding, dilation, "ceil")
    except ValueError:
        found = 0
    assert found == wanted


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_sizes_without_a_sample_are_named(size):
    with pytest.raises(ValueError, match=r"sizes must be at least 1; got \(") as said:
        even_widths([(4, 4), size], 3)
    assert str(said.value).endswith(f"got {size}")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: shape_after(7, 2.5), "kernel must be a whole number; got 2.5"),
        (lambda: shape_after(28.5, 5), "size must be a whole number; got 28.5"),
        (lambda: shape_after(-1, 1, 1, 1), "size must be at least 0; got -1"),
        (lambda: shape_after((28, 2.5), 5), r"size must be whole numbers; got \(28, 2.5\)"),
        (lambda: effective_kernel(2.5), "kernel must be a whole number; got 2.5"),
        (lambda: effective_kernel(3, 0), "dilation must be at least 1; got 0"),
        (lambda: padding_for("same", 3, 1.5), "stride must be a whole number; got 1.5"),
        (lambda: stack_receptive_field([(3, 1.5)]), "stride must be a whole number; got 1.5"),
        (lambda: even_widths([(4, 4)], 1.5), "first must be a whole number; got 1.5"),
        (lambda: pad(LINE, 1.5), r"amounts must be whole numbers; got \[1.5, 1.5\]"),
        (lambda: pad(LINE, None), r"amounts must be whole numbers; got \[None, None\]"),
        (lambda: pad(LINE, "same"), "amounts must be one number, a pair, or 1 pairs; got same"),
        (lambda: pad(LINE, [(1, 1), 1]), r"a pair, or 1 pairs; got \[\(1, 1\), 1\]"),
    ],
)
def test_numbers_that_are_not_whole_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_sizes_may_be_lists_and_a_number_is_one_axis():
    assert shape_after([28, 20], 5) == shape_after((28, 20), 5) == (24, 16)
    assert torch.equal(participation(8, 3), participation((8,), 3))
    assert torch.equal(pad(LINE, np.int64(1)), pad(LINE, 1))
