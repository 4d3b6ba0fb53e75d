"""Convolution: C-26, C-28, C-41 to C-43, tables, untied biases, and that all ways agree."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.layers import (
    Convolution,
    col2im,
    convolve,
    fft_convolve,
    im2col,
    pad,
)

SIZE = (9, 8, 7)
LENET = [*[[(i + k) % 6 for k in range(3)] for i in range(6)],
         *[[(i + k) % 6 for k in range(4)] for i in range(6)],
         [0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5]]  # fmt: skip


def case(axes, kernel=3, channels=2, out=3):
    x = torch.randn(2, channels, *SIZE[:axes], dtype=torch.float64)
    return x, torch.randn(out, channels, *[kernel] * axes, dtype=torch.float64)


def test_correlation_is_the_sum_over_the_patch():
    x, w = case(2)
    y = convolve(x, w)
    for i, j in ((0, 0), (3, 4), (6, 5)):
        wanted = (w[1] * x[0, :, i : i + 3, j : j + 3]).sum()
        torch.testing.assert_close(y[0, 1, i, j], wanted)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_true_convolution_is_correlation_with_the_kernel_turned(axes):
    """C-26."""
    x, w = case(axes)
    turned = w.flip(list(range(2, 2 + axes)))
    assert torch.equal(convolve(x, w, flip=True), convolve(x, turned))


@settings(deadline=None, max_examples=60)
@given(
    axes=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_matrix_product_and_its_adjoint(axes, kernel, stride, dilation):
    """C-26, C-28."""
    x, w = case(axes, kernel)
    taps = [kernel] * axes
    columns = im2col(x, taps, stride, dilation)
    direct = convolve(x, w, stride=stride, dilation=dilation)
    torch.testing.assert_close(
        (w.flatten(1) @ columns).view(direct.shape), direct, atol=1e-12, rtol=1e-12
    )
    other = torch.randn_like(columns)
    back = col2im(other, x.shape[2:], taps, stride, dilation)
    torch.testing.assert_close((columns * other).sum(), (x * back).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("stride", "dilation", "padding"),
    [((2, 1), 1, "same"), ((1, 3), (2, 1), "valid"), (2, (1, 3), "full"), ((3, 2), (2, 1), 1)],
)
def test_strides_and_dilations_may_differ_between_axes(stride, dilation, padding):
    layer = Convolution(2, 3, 4, (2, 3), stride=stride, dilation=dilation, padding=padding).double()
    x = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    wide = pad(x, layer.ends)
    wanted = F.conv2d(wide, layer.weight, layer.bias.flatten(), stride, 0, dilation)
    torch.testing.assert_close(layer(x), wanted, atol=1e-12, rtol=1e-12)
    assert layer.shape_of((9, 11)) == wanted.shape[2:]
    product = layer.weight.flatten(1) @ im2col(wide, (2, 3), stride, dilation)
    bias = layer.bias.flatten()[:, None]
    torch.testing.assert_close((product + bias).view(wanted.shape), wanted, atol=1e-12, rtol=1e-12)
    columns = torch.randn_like(im2col(x, (2, 3), stride, dilation))
    back = col2im(columns, (9, 11), (2, 3), stride, dilation)
    left = (im2col(x, (2, 3), stride, dilation) * columns).sum()
    torch.testing.assert_close(left, (x * back).sum(), rtol=1e-10, atol=1e-10)


def test_a_stride_of_another_number_of_axes_is_named():
    said = r"stride must be one number, or one for each of 2 axes; got \(2, 2, 2\)"
    with pytest.raises(ValueError, match=said):
        Convolution(2, 1, 1, 3, stride=(2, 2, 2))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_fourier_gives_the_same(axes):
    x, w = case(axes, 4)
    b = torch.randn(3, dtype=torch.float64)
    torch.testing.assert_close(fft_convolve(x, w, b), convolve(x, w, b))


def test_transposed_convolution_is_the_adjoint():
    """C-28."""
    x, w = case(2)
    y = torch.randn_like(convolve(x, w))
    back = F.conv_transpose2d(y, w)
    torch.testing.assert_close((convolve(x, w) * y).sum(), (x * back).sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("tiling", ["floor", "ceil"])
@settings(deadline=None, max_examples=15)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.sampled_from(["valid", "same", "full", "causal", 1, (0, 2)]),
)
def test_predicted_shape_equals_executed_shape(axes, tiling, kernel, stride, padding):
    layer = Convolution(axes, 2, 4, kernel, stride=stride, padding=padding, tiling=tiling)
    y = layer(torch.randn(2, 2, *SIZE[:axes]))
    assert y.shape == (2, 4, *layer.shape_of(SIZE[:axes]))


def test_same_keeps_full_widens_and_strict_refuses():
    x = torch.randn(1, 1, 28, 28)
    assert Convolution(2, 1, 1, 3, padding="same")(x).shape[2:] == (28, 28)
    assert Convolution(2, 1, 1, 4, padding="same")(x).shape[2:] == (28, 28)
    assert Convolution(2, 1, 1, 3, padding="full")(x).shape[2:] == (30, 30)
    with pytest.raises(ValueError, match="wanted a whole number"):
        Convolution(2, 1, 1, 3, stride=2, tiling="strict")(x)


def test_circular_convolution_commutes_with_every_shift():
    """C-41."""
    layer = Convolution(2, 3, 4, 3, padding="same", border="circular").double()
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    for shift in ((1, 0), (3, 5), (7, 7)):
        moved = layer(x.roll(shift, (2, 3)))
        assert (moved - layer(x).roll(shift, (2, 3))).abs().max() <= 1e-12


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "shift"), [(3, 1), (3, 3), (5, 1), (5, -2), (1, 1)])
def test_zero_border_breaks_it_only_near_the_border(axes, kernel, shift):
    """C-42: what differs saw the border, before the shift or after it; 0, 1, 15 for 3 and 1."""
    layer = Convolution(axes, 1, 1, kernel, padding="same", bias="none").double()
    x = torch.randn(1, 1, *[6, 7][: axes - 1], 16, dtype=torch.float64)
    wrong = (layer(x.roll(shift, -1)) - layer(x).roll(shift, -1)).abs() > 1e-12
    found = wrong.flatten(0, -2).any(0).nonzero().flatten().tolist()
    near = range(-(kernel // 2), kernel // 2)  # positions that the border reaches, around it
    assert found == sorted({p % 16 for p in near} | {(p + shift) % 16 for p in near})
    assert (kernel, shift) != (3, 1) or found == [0, 1, 15]


def test_stride_2_commutes_with_even_shifts_alone():
    """C-43."""
    layer = Convolution(1, 1, 1, 3, stride=2, padding=(1, 0), border="circular").double()
    x = torch.randn(1, 1, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x.roll(2, 2)), layer(x).roll(1, 2))
    assert (layer(x.roll(1, 2)) - layer(x)).abs().max() > 1e-2


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 2), (2, 1), (5, 1), (2, 4)])
def test_causal_convolution_does_not_see_the_future(axes, kernel, dilation):
    """C-49: no gradient from any time on, and one from every tap before."""
    layer = Convolution(axes, 1, 1, kernel, dilation=[1, 1, dilation][-axes:], padding="causal")
    x = torch.randn(1, 1, *[4, 5][: axes - 1], 12, requires_grad=True)
    y = layer(x)
    assert y.shape == x.shape
    for t in range(12):
        (slope,) = torch.autograd.grad(y[..., t].sum(), x, retain_graph=True)
        seen = slope.abs().flatten(0, -2).sum(0).nonzero().flatten().tolist()
        assert seen == [t - k * dilation for k in reversed(range(kernel)) if t >= k * dilation]


def test_untied_biases_of_the_1989_net():
    layer = Convolution(
        2,
        1,
        12,
        5,
        stride=2,
        padding=2,
        border="constant",
        value=-1.0,
        bias="untied",
        size=(16, 16),
    )
    assert sum(p.numel() for p in layer.parameters()) == 1068
    assert layer(torch.zeros(1, 1, 16, 16)).shape == (1, 12, 8, 8)
    with pytest.raises(ValueError, match="untied bias needs the size"):
        Convolution(2, 1, 12, 5, bias="untied")


def test_the_table_of_lenet_5():
    layer = Convolution(2, 6, 16, 5, table=LENET)
    assert sum(p.numel() for p in layer.parameters()) == 1516
    x = torch.randn(2, 6, 14, 14)
    y = layer(x)
    assert y.shape == (2, 16, 10, 10)
    changed = x.clone()
    changed[:, 3] += 1
    seen = ((layer(changed) - y).abs().amax((0, 2, 3)) > 0).tolist()
    assert seen == [3 in row for row in LENET]


def test_a_full_table_is_a_plain_convolution():
    torch.manual_seed(0)
    full = Convolution(2, 3, 4, 3, table=[range(3)] * 4)
    torch.manual_seed(0)
    plain = Convolution(2, 3, 4, 3)
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(full(x), plain(x))


@pytest.mark.parametrize("table", [[[0, 0]], [[2]], [[]], [[-1]], [[0], [1]]])
def test_impossible_tables_are_said(table):
    with pytest.raises(ValueError, match="must name different maps of 0 to 1 for each of 1 maps"):
        Convolution(2, 2, 1, 3, table=table)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"groups": 2}, "groups must divide"),
        ({"bias": "some"}, "bias must be one of shared, untied, none"),
        ({"padding": "half"}, "padding must be one of valid"),
        ({"padding": [1, 2, 3]}, "one number, a pair, or 2 pairs"),
        ({"axes": 4}, "axes must be 1 to 3; got 4"),
        ({"kernel": (3,)}, r"kernel must be one number, or one for each of 2 axes; got \(3,\)"),
        ({"kernel": 2.5}, "kernel must be a whole number; got 2.5"),
        ({"kernel": None}, "kernel must be a whole number; got None"),
        ({"padding": 1.5}, r"padding must be whole numbers; got \[1.5, 1.5\]"),
        ({"padding": None}, r"padding must be whole numbers; got \[None, None\]"),
        ({"padding": (1, 1, 2, 2)}, "padding must be one number, a pair, or 2 pairs; got"),
        ({"channels": 1.0}, "channels must be a whole number; got 1.0"),
        ({"bias": "untied", "size": (8,)}, r"size must be one number, or .* 2 axes; got \(8,\)"),
        ({"kernel": (3, 0)}, r"kernel must be at least 1; got \(3, 0\)"),
        ({"channels": -2}, "channels must be at least 1; got -2"),
        ({"channels": 0}, "channels must be at least 1; got 0"),
        ({"out": -4}, "out must be at least 1; got -4"),
        ({"out": 0}, "out must be at least 1; got 0"),
        ({"groups": 0}, "groups must be at least 1; got 0"),
        ({"stride": 0}, "stride must be at least 1; got 0"),
        ({"dilation": 0}, "dilation must be at least 1; got 0"),
        ({"padding": -1}, r"padding must be at least 0; got \[-1, -1\]"),
        ({"border": "mirror"}, r"border must be one of zero, .*; got 'mirror'"),
        ({"tiling": "round"}, "tiling must be one of strict, floor, ceil; got 'round'"),
    ],
)
def test_impossible_choices_are_said(how, said):
    with pytest.raises(ValueError, match=said):
        Convolution(**{"axes": 2, "channels": 3, "out": 4, "kernel": 3, **how})


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 3, 8), (3, 8, 8), (1, 3, 8, 8, 8)])
def test_maps_of_another_kind_are_named(shape):
    with pytest.raises(ValueError, match=r"x must be \(N, 3, \*S\) with 2 axes; got \(") as said:
        Convolution(2, 3, 4, 3)(torch.zeros(shape))
    assert str(said.value).endswith(f"got {shape}")


@pytest.mark.parametrize(
    ("shapes", "how", "said"),
    [
        (((1, 2, 4), (3, 2, 5)), {}, "a window of 5 has no position in size 4"),
        (((1, 2, 4), (3, 2, 3)), {"stride": 0}, "stride must be at least 1"),
        (((1, 2, 4), (3, 2, 2)), {"dilation": 0}, "dilation must be at least 1"),
        (((1, 2, 4), (3, 2, 2)), {"groups": 0}, "groups must be at least 1; got 0"),
        (((1, 2, 4), (3, 1, 2)), {"groups": 2}, "groups must divide the 3 kernels; got 2"),
        (((1, 2, 4), (3, 1, 2)), {}, r"got \(1, 2, 4\) and \(3, 1, 2\)"),
        (((1, 2, 4), (3, 2, 2, 2)), {}, r"weight \(O, C / 1 groups, \*K\) with 1 to 3 axes"),
        (((2, 4), (2, 4)), {}, "1 to 3 axes"),
        (((1, 2, 4), (3, 2, 2), (2,)), {}, r"bias must be \(3,\); got \(2,\)"),
    ],
)
def test_kernels_that_do_not_fit_are_said(shapes, how, said):
    with pytest.raises(ValueError, match=said):
        convolve(*map(torch.zeros, shapes), **how)


def test_fourier_and_matrices_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"got \(1, 2, 4\) and \(3, 1, 2\)"):
        fft_convolve(torch.zeros(1, 2, 4), torch.zeros(3, 1, 2))
    for kernel in ((3,), (3, 3, 3)):
        with pytest.raises(ValueError, match=r"kernel must be .* one for each of 2 axes; got "):
            im2col(torch.zeros(1, 1, 5, 5), kernel)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("border", ["circular", "reflect", "mean"])
def test_a_causal_border_is_not_made_of_the_future(axes, border):
    with pytest.raises(ValueError, match=rf"border of a causal padding .*; got '{border}'"):
        Convolution(axes, 1, 1, 3, padding="causal", border=border)


@pytest.mark.parametrize("border", ["zero", "constant", "replicate"])
def test_causal_borders_do_not_see_the_future(border):
    layer = Convolution(1, 1, 1, 3, padding="causal", border=border, value=2.0)
    x = torch.randn(1, 1, 8, requires_grad=True)
    layer(x)[0, 0, 1].backward()
    assert (x.grad[0, 0, 2:] == 0).all()


@pytest.mark.parametrize("size", [(3, 3), (8, 8)])
def test_an_untied_bias_of_another_size_is_said(size):
    layer = Convolution(2, 4, 4, 3, bias="untied", size=size)
    with pytest.raises(ValueError, match=r"of the untied bias; got .* which gives "):
        layer(torch.randn(1, 4, 9, 9))


def test_gradients():
    layer = Convolution(2, 2, 4, 3, stride=2, padding=1, border="mean", groups=2, flip=True)
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer.double(), x)
    table = Convolution(1, 2, 2, 2, table=[[0], [0, 1]]).double()
    line = torch.randn(2, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(table, line)


@pytest.mark.parametrize("padding", [0, 1, 2, "full"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_no_hanging_window_sees_padding_alone(padding, stride):
    layer = Convolution(1, 1, 1, 3, stride=stride, padding=padding, tiling="ceil", bias="none")
    torch.nn.init.ones_(layer.weight)
    for size in range(3, 12):
        assert (layer(torch.ones(1, 1, size)) > 0).all()


def test_one_number_stands_for_every_axis_wherever_numbers_are_asked_for():
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(im2col(x, 3), im2col(x, (3, 3)))
    assert torch.equal(col2im(im2col(x, 3), (8, 8), 3), col2im(im2col(x, 3), (8, 8), (3, 3)))
    bias = Convolution(2, 3, 4, 3, bias="untied", size=8).bias
    assert bias.shape == (4, 6, 6)


def test_numbers_of_numpy_are_numbers():
    one = Convolution(2, 3, 4, np.int64(3), stride=np.int64(2), padding=np.int64(1))
    assert str(one) == str(Convolution(2, 3, 4, 3, stride=2, padding=1))
    assert one(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 4, 4)


def test_no_sample_has_no_columns():
    empty = torch.zeros(0, 3, 8, 8)
    assert col2im(im2col(empty, 3), (8, 8), 3).shape == empty.shape
    assert col2im(torch.zeros(2, 0, 36), (8, 8), 3).shape == (2, 0, 8, 8)
    with pytest.raises(ValueError, match=r"columns must be \(N, C x 9, 36\) .* got \(9, 36\)"):
        col2im(torch.zeros(9, 36), (8, 8), 3)
