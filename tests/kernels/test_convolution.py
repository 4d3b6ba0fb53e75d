"""Every algorithm against float64, over shapes that fit no vector, tile or thread."""

from itertools import product
from math import inf

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from striate.kernels.convolution import convolution, convolved
from striate.kernels.dispatch import DEPTHWISE, DIRECT, TORCH, WINOGRAD
from striate.kernels.geometry import last
from striate.kernels.library import run
from striate.kernels.prepared import Memo

SHAPES = [  # n, c, o, h, w, padding
    (2, 3, 5, 7, 9, (1, 1)),
    (1, 17, 33, 12, 11, (0, 0)),
    (3, 64, 64, 8, 8, (1, 1)),
    (2, 20, 40, 6, 5, (2, 0)),
    (1, 1, 1, 3, 3, (0, 0)),
    (1, 49, 1, 2, 2, (1, 1)),
    (5, 16, 18, 3, 30, (0, 2)),
]


def distance(ours, exact, scale=0.0):
    """Return the largest error, of the largest number or of `scale` where sums cancel."""
    exact = exact.detach()
    error = (ours.detach().double() - exact).abs().max()
    return float(error / exact.abs().max().clamp(min=max(float(scale), 1e-30)))


FUNCTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def both(n, c, o, size, kernel, how, *, groups=1, bias=True, seed=0):
    """Return inputs, the answer and gradients of float64."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, *size, generator=draw)
    weight = torch.randn(o, c // groups, *kernel, generator=draw)
    shift = torch.randn(o, generator=draw) if bias else None
    parts = [part.double().requires_grad_() for part in (x, weight, shift) if part is not None]
    shift_ = parts[2] if bias else None
    y = FUNCTIONS[x.dim()](*parts[:2], shift_, groups=groups, **how)
    dy = torch.randn(y.shape, generator=draw)
    return x, weight, shift, dy, y, torch.autograd.grad(y, parts, dy.double())


def compare(found, how, *, groups=1, limit=5e-5):
    x, weight, shift, dy, y, grads = found
    parts = [part.clone().requires_grad_() for part in (x, weight, shift) if part is not None]
    shift_ = parts[2] if shift is not None else None
    ours = convolution(*parts[:2], shift_, groups=groups, **how)
    answers = (ours, *torch.autograd.grad(ours, parts, dy))
    scales = sums_without_signs(x, weight, dy, how, groups)
    for one, exact, scale in zip(answers, (y, *grads), scales, strict=False):
        assert one.shape == exact.shape
        assert distance(one, exact, 0.1 * scale) < limit


def sums_without_signs(x, weight, dy, how, groups):
    """Return the largest sum of magnitudes in the answer and in each gradient."""
    parts = [part.detach().double().abs().requires_grad_() for part in (x, weight)]
    y = FUNCTIONS[x.dim()](*parts, None, groups=groups, **how)
    grads = torch.autograd.grad(y, parts, dy.double().abs())
    bias = dy.double().abs().sum([0, *range(2, dy.dim())])
    return [float(part.detach().max()) for part in (y, *grads, bias)]


def pictures(n, c, o, h, w, padding, **how):
    """Return what `both` gives of 3 x 3 kernels and stride 1, which Winograd's algorithm wants."""
    return both(n, c, o, (h, w), (3, 3), {"padding": padding}, **how)


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_answers_and_gradients_are_those_of_float64(level, ours, tile, shape):
    ours(tile)
    compare(pictures(*shape), {"padding": shape[-1]})


@pytest.mark.parametrize("algorithm", [DIRECT, *WINOGRAD])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_threads_answer_to_the_bit_alike_every_time(two_threads, ours, algorithm, shape):
    ours(algorithm)
    found = pictures(*shape)
    compare(found, {"padding": shape[-1]})
    first, again = (trained(found, shape[-1]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def trained(found, padding):
    """Return the answer and the gradients of what `both` gave."""
    x, weight, _, dy, _, _ = found
    parts = [part.clone().requires_grad_() for part in (x, weight)]
    answer = convolution(*parts, padding=padding)
    return answer, *torch.autograd.grad(answer, parts, dy)


@pytest.mark.slow
@pytest.mark.parametrize("tile", WINOGRAD)
@settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    n=st.integers(1, 5), c=st.integers(1, 70), o=st.integers(1, 70), h=st.integers(3, 23),
    w=st.integers(3, 23), padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_picture(ours, level, tile, n, c, o, h, w, padding, bias, seed):
    ours(tile)
    compare(pictures(n, c, o, h, w, padding, bias=bias, seed=seed), {"padding": padding})


BLOCKS = [  # n, c, o, size, kernel, padding: lines, and planes of three axes
    (2, 3, 5, (9,), (3,), (1,)),
    (3, 20, 40, (33,), (3,), (0,)),
    (1, 70, 17, (4,), (3,), (2,)),
    (40, 16, 18, (50,), (3,), (1,)),
    (1, 6, 7, (7, 9), (1, 3), (0, 1)),
    (2, 3, 5, (4, 7, 9), (3, 3, 3), (1, 1, 1)),
    (2, 40, 20, (2, 5, 6), (3, 3, 3), (2, 1, 0)),
    (1, 64, 130, (2, 4, 4), (3, 3, 3), (1, 1, 1)),
    (2, 20, 40, (6, 5, 6), (5, 3, 3), (4, 1, 2)),
    (2, 17, 33, (3, 6, 5), (2, 3, 3), (0, 1, 1)),
    (2, 5, 6, (5, 4, 7), (2, 1, 3), (1, 0, 1)),
    (4, 9, 70, (1, 8, 8), (3, 3, 3), (2, 1, 1)),
]


@pytest.mark.parametrize("tile", WINOGRAD)
@pytest.mark.parametrize("case", BLOCKS, ids=str)
def test_lines_and_planes_answer_as_float64_does(level, ours, tile, case):
    ours(tile)
    *numbers, padding = case
    compare(both(*numbers, {"padding": padding}), {"padding": padding})


@pytest.mark.parametrize("algorithm", WINOGRAD)
@pytest.mark.parametrize("case", BLOCKS[3:8], ids=str)
def test_two_threads_answer_to_the_bit_alike_on_lines_and_planes(
    two_threads, ours, algorithm, case
):
    ours(algorithm)
    *numbers, padding = case
    found = both(*numbers, {"padding": padding})
    compare(found, {"padding": padding})
    first, again = (trained(found, padding) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


STEPS = [  # n, c, o, size, padding: 3 x 3 kernels of stride 2, and 3 along a line
    (2, 3, 5, (7, 9), (1, 1)),
    (1, 17, 33, (12, 11), (0, 0)),
    (3, 64, 40, (8, 8), (1, 1)),  # two blocks of channels; all tiles full
    (2, 20, 70, (6, 5), (2, 0)),
    (1, 1, 1, (3, 3), (0, 0)),
    (1, 49, 1, (4, 3), (1, 1)),
    (9, 16, 18, (17, 30), (0, 2)),
    (1, 130, 150, (5, 6), (1, 1)),  # by outputs
    (2, 3, 5, (9,), (1,)),
    (3, 20, 40, (33,), (0,)),
    (1, 70, 17, (6,), (2,)),
    (40, 16, 18, (50,), (1,)),
    (2, 6, 7, (1, 9, 8), (0, 1, 1)),
]


@pytest.mark.parametrize("shape", STEPS, ids=str)
def test_steps_of_two_answer_as_float64_does(level, ours, shape):
    ours(4)
    *numbers, padding = shape
    axes = len(padding)
    kernel, stride = (1, 3, 3)[-axes:], (1, 2, 2)[-axes:]
    how = {"padding": padding, "stride": stride}
    compare(both(*numbers, kernel, how), how)


@pytest.mark.parametrize(("tile", "stride"), [(2, 1), (4, 1), (4, 2)])
@pytest.mark.parametrize("n", [1, 7])
def test_whatever_is_left_at_the_end_of_lines_and_columns(level, ours, tile, stride, n):
    """Tiles of fewer outputs stand there: any pair of rests, with whole tiles before or not."""
    ours(tile)
    hows = [{"padding": (1,) * axes, "stride": (stride,) * axes} for axes in (1, 2)]
    for h, w in product(range(2, 2 * tile + 2), repeat=2):
        side = (h * stride - (stride - 1), w * stride)  # odd and even, for as many answers
        compare(both(n, 9, 10, side, (3, 3), hows[1]), hows[1])
    for w in range(2, 2 * tile + 2):
        compare(both(n, 9, 10, (w * stride,), (3,), hows[0]), hows[0])


@pytest.mark.parametrize("shape", STEPS[2:8:5], ids=str)
def test_two_threads_step_to_the_bit_alike(two_threads, ours, shape):
    ours(4)
    *numbers, padding = shape
    how = {"padding": padding, "stride": (2, 2)}
    found = both(*numbers, (3, 3), how)
    compare(found, how)
    x, weight, _, dy, _, _ = found
    first, again = (stepped(x, weight, dy, how) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def stepped(x, weight, dy, how):
    parts = [part.clone().requires_grad_() for part in (x, weight)]
    answer = convolution(*parts, **how)
    return answer, *torch.autograd.grad(answer, parts, dy)


@pytest.mark.slow
@settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    n=st.integers(1, 5), c=st.integers(1, 70), o=st.integers(1, 70), line=st.booleans(),
    h=st.integers(3, 23), w=st.integers(3, 40), padding=st.tuples(*[st.integers(0, 2)] * 2),
    bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_steps(ours, level, n, c, o, line, h, w, padding, bias, seed):
    ours(4)
    axes = slice(1, 2) if line else slice(2)
    how = {"padding": padding[axes], "stride": (2, 2)[axes]}
    compare(both(n, c, o, (h, w)[axes], (3, 3)[axes], how, bias=bias, seed=seed), how)


STRAIGHT = [  # n, c, o, size, kernel, how, groups: what is known of rows, and how many there are
    (2, 130, 40, (21, 19), (3, 3), {"stride": 2, "padding": 1}, 1),  # two blocks of channels
    (1, 260, 33, (9, 8), (1, 1), {}, 1),  # three
    (3, 70, 24, (15, 12), (1, 1), {}, 1),  # as they lie, gradients in panels
    (3, 150, 24, (15, 12), (1, 1), {}, 1),  # few outputs: as they lie
    (3, 20, 48, (15, 12), (1, 1), {}, 1),  # few channels: gradients as they lie too
    (2, 7, 50, (40, 33), (7, 7), {"stride": 2, "padding": 3}, 1),  # all taps at once
    (2, 156, 60, (11, 13), (3, 3), {"padding": 1, "dilation": 2}, 2),
    (2, 80, 17, (130,), (5,), {"stride": 3, "padding": 4}, 1),
    (1, 66, 35, (5, 6, 7), (2, 3, 1), {"stride": (2, 1, 2), "padding": (1, 1, 0)}, 1),
]


@pytest.mark.parametrize("case", STRAIGHT, ids=str)
def test_rows_of_any_make_answer_as_float64_does(level, ours, case):
    ours(DIRECT)
    *numbers, how, groups = case
    axes = len(numbers[3])
    given = {
        key: (value,) * axes if isinstance(value, int) else value for key, value in how.items()
    }
    compare(both(*numbers, given, groups=groups), given, groups=groups, limit=1e-5)


@pytest.mark.parametrize("case", STRAIGHT[:6:2], ids=str)
def test_two_threads_sum_rows_to_the_bit_alike(two_threads, ours, case):
    ours(DIRECT)
    *numbers, how, _ = case
    x, weight, _, dy, *_ = both(*numbers, how)
    operator = torch.ops.striate.convolve_weight
    numbers = [[how.get(key, fill)] * 2 for key, fill in (("stride", 1), ("padding", 0))]
    kernel = list(weight.shape[2:])
    first, again = (operator(x, dy, kernel, *numbers, [1, 1], 1) for _ in range(2))
    assert torch.equal(first, again)


@st.composite
def blocks(draw):
    """Draw what Winograd's algorithm takes along a line, or on planes of three axes."""
    axes = draw(st.sampled_from([1, 3]))
    square = axes == 3 and draw(st.booleans())
    kernel = (draw(st.integers(1, 5)), 3 if square else 1, 3)[-axes:]
    each = zip(kernel, (9, 17, 60 if axes == 1 else 17)[-axes:], strict=True)
    size = tuple(draw(st.integers(k, most)) for k, most in each)
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    n, c, o = draw(st.integers(1, 4)), draw(st.integers(1, 70)), draw(st.integers(1, 70))
    return n, c, o, size, kernel, padding


@pytest.mark.slow
@pytest.mark.parametrize("tile", WINOGRAD)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(block=blocks(), bias=st.booleans(), seed=st.integers(0, 99))
def test_any_line_or_block(ours, level, tile, block, bias, seed):
    ours(tile)
    *numbers, padding = block
    compare(both(*numbers, {"padding": padding}, bias=bias, seed=seed), {"padding": padding})


@st.composite
def geometries(draw, depthwise=False):
    """Draw any convolution of one to three axes that has a position."""
    axes = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    how = {"stride": each(1, 3), "padding": each(0, 4), "dilation": each(1, 3)}
    kernel, groups = each(1, 4), draw(st.integers(1, 4))
    least = zip(kernel, how["dilation"], how["padding"], strict=True)
    size = [max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 6)) for k, d, p in least]
    most = draw(st.sampled_from([24, 24, 24, 150]))  # many channels are summed in blocks
    c, o = (groups * draw(st.integers(1, most)) for _ in range(2))
    if depthwise:  # lines so long that several neighbours are computed at once
        c = o = groups = draw(st.integers(1, 70))
        size[-1] += draw(st.integers(0, 150 if axes == 1 else 30))
    return (draw(st.integers(1, 4)), c, o, size, kernel, how), groups


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(geometry=geometries(), bias=st.booleans(), seed=st.integers(0, 99))
def test_any_geometry(ours, level, geometry, bias, seed):
    ours(DIRECT)
    numbers, groups = geometry
    found = both(*numbers, groups=groups, bias=bias, seed=seed)
    compare(found, numbers[-1], groups=groups, limit=1e-5)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(geometry=geometries(depthwise=True), bias=st.booleans(), seed=st.integers(0, 99))
def test_any_depthwise_geometry(ours, level, geometry, bias, seed):
    ours(DEPTHWISE)
    numbers, groups = geometry
    found = both(*numbers, groups=groups, bias=bias, seed=seed)
    compare(found, numbers[-1], groups=groups, limit=1e-5)


GEOMETRIES = [  # n, c, o, size, kernel, stride, padding, dilation, groups
    (2, 3, 17, (9,), (4,), (3,), (2,), (2,), 1),
    (2, 6, 9, (7, 5), (1, 1), (1, 1), (0, 0), (1, 1), 3),
    (1, 8, 8, (6, 9), (1, 1), (2, 3), (0, 0), (1, 1), 1),
    (3, 4, 33, (5, 8), (3, 2), (2, 1), (1, 4), (1, 3), 1),
    (2, 5, 5, (6, 7), (3, 3), (2, 2), (1, 1), (2, 2), 5),
    (1, 2, 3, (4, 5, 6), (3, 1, 2), (1, 2, 3), (1, 0, 2), (1, 2, 1), 1),
    (1, 64, 40, (8, 8), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (2, 9, 6, (1, 2, 5), (3, 3, 4), (1, 2, 2), (2, 1, 3), (1, 1, 2), 3),  # taps that see nothing
    # few channels, maps little larger than their kernels: the gradient to the input is scattered
    (3, 5, 20, (13, 12), (5, 5), (1, 1), (0, 0), (1, 1), 1),
    (5, 6, 16, (9, 8), (3, 4), (2, 1), (0, 1), (1, 2), 2),
    (2, 3, 9, (6, 5, 7), (3, 3, 3), (1, 2, 1), (0, 0, 1), (1, 1, 1), 1),
    (4, 4, 40, (30,), (9,), (3,), (2,), (2,), 1),
]


@pytest.mark.parametrize("case", GEOMETRIES, ids=str)
def test_direct_answers_and_gradients_are_those_of_float64(level, ours, case):
    ours(DIRECT)
    *numbers, stride, padding, dilation, groups = case
    how = {"stride": stride, "padding": padding, "dilation": dilation}
    compare(both(*numbers, how, groups=groups), how, groups=groups, limit=1e-5)


CHANNELS = [  # n, channels, size, kernel, stride, padding, dilation
    (2, 5, (300,), (4,), (1,), (2,), (3,)),
    (2, 32, (9, 30), (3, 3), (1, 1), (1, 1), (1, 1)),
    (2, 33, (12, 31), (3, 3), (2, 2), (1, 1), (1, 1)),
    (1, 70, (7, 7), (7, 7), (1, 1), (3, 3), (1, 1)),
    (1, 18, (5, 24), (2, 5), (3, 1), (0, 4), (1, 2)),
    (1, 16, (4, 5, 20), (3, 1, 2), (1, 2, 3), (1, 0, 2), (1, 2, 1)),
    (2, 18, (1, 2, 9), (3, 3, 3), (1, 2, 1), (1, 1, 2), (1, 1, 2)),  # taps that see nothing
]


@pytest.mark.parametrize("case", CHANNELS, ids=str)
def test_depthwise_answers_and_gradients_are_those_of_float64(level, ours, case):
    ours(DEPTHWISE)
    n, c, size, kernel, stride, padding, dilation = case
    how = {"stride": stride, "padding": padding, "dilation": dilation}
    compare(both(n, c, c, size, kernel, how, groups=c), how, groups=c, limit=1e-5)


@pytest.mark.parametrize("algorithm", [TORCH, DIRECT, DEPTHWISE, 2, 4])
@pytest.mark.parametrize(
    "bounds", [(0.0, float("inf")), (0.0, 6.0), (-1.5, 0.25), (float("-inf"), float("inf"))]
)
@pytest.mark.parametrize("added", [True, False])
def test_sums_and_bounds_behind_it(level, ours, algorithm, bounds, added):
    ours(algorithm)
    c, groups = (19, 19) if algorithm == DEPTHWISE else (19, 1)
    x, weight, shift = torch.randn(2, 19, 9, 14), torch.randn(c, 19 // groups, 3, 3), torch.randn(c)
    addend = 3 * torch.randn(2, c, 9, 14) if added else None
    how = [1, 1], [1, 1], [1, 1], groups
    y = torch.ops.striate.convolve_clipped(x, weight, shift, addend, *bounds, *how)
    exact = F.conv2d(*(t.double() for t in (x, weight, shift)), padding=1, groups=groups)
    wanted = exact + addend if added else exact
    assert distance(y, wanted.clamp(*bounds), float(exact.abs().max())) < 5e-5


@pytest.mark.parametrize("algorithm", [TORCH, DIRECT, DEPTHWISE, 2, 4])
@pytest.mark.parametrize("added", [True, False])
def test_silu_behind_it(level, ours, algorithm, added):
    ours(algorithm)
    c, groups = (19, 19) if algorithm == DEPTHWISE else (19, 1)
    x, weight, shift = torch.randn(2, 19, 9, 14), torch.randn(c, 19 // groups, 3, 3), torch.randn(c)
    addend = 3 * torch.randn(2, c, 9, 14) if added else None
    how = [1, 1], [1, 1], [1, 1], groups
    none = (float("-inf"), float("inf"))
    y = torch.ops.striate.convolve_clipped(x, weight, shift, addend, *none, *how, True)
    exact = F.conv2d(*(t.double() for t in (x, weight, shift)), padding=1, groups=groups)
    wanted = F.silu(exact + addend if added else exact)
    assert distance(y, wanted, float(exact.abs().max())) < 5e-5


@pytest.mark.parametrize("size", [(11,), (5, 6, 7)])
@pytest.mark.parametrize("added", [True, False])
def test_sums_and_bounds_behind_pytorchs_own_along_other_axes(ours, size, added):
    ours(TORCH)
    axes = len(size)
    x, weight = torch.randn(2, 3, *size), torch.randn(4, 3, *[3] * axes)
    addend = torch.randn(2, 4, *size) if added else None
    how = [1] * axes, [1] * axes, [1] * axes, 1
    y = torch.ops.striate.convolve_clipped(x, weight, None, addend, 0.0, float("inf"), *how)
    exact = torch.convolution(x.double(), weight.double(), None, *how[:3], False, [0] * axes, 1)
    wanted = exact + addend if added else exact
    assert distance(y, wanted.relu(), float(exact.abs().max())) < 1e-5


@pytest.mark.parametrize(
    ("algorithm", "groups", "stride"),
    [(TORCH, 1, 2), (DIRECT, 1, 1), (DIRECT, 2, 3), (4, 1, 1), (DEPTHWISE, 6, 2)],
)
def test_something_is_added_to_the_gradient_of_inputs(ours, level, algorithm, groups, stride):
    ours(algorithm)
    c = 6 if algorithm == DEPTHWISE else 20
    how = {"stride": [stride] * 2, "padding": [1, 1]}
    found = both(2, c, c, (11, 10), (3, 3), how, groups=groups, bias=False)
    x, weight, _, dy, _, (dx, _) = found
    given = ([11, 10], [stride] * 2, [1, 1], [1, 1], groups)
    for addend in (torch.randn_like(x), last(torch.randn_like(x))):
        kept = addend.clone()
        y = torch.ops.striate.convolve_input_added(dy, weight, addend, *given)
        assert distance(y, dx + addend, float(dx.abs().max())) < 5e-5
        assert torch.equal(addend, kept)


STAY = [  # n, c, o, size, kernel, pad; algorithms whose kernels are kept
    (1, 17, 70, (13, 14), (3, 3), (1, 1), (2, 4, DIRECT)),  # by outputs
    (2, 6, 5, (26, 19), (3, 3), (1, 0), (2, 4, DIRECT)),  # by tiles
    (1, 40, 33, (21,), (3,), (1,), (2, 4, DIRECT)),
    (1, 9, 20, (3, 6, 7), (3, 3, 3), (1, 1, 1), (2, 4, DIRECT)),
    (9, 6, 5, (30, 19), (3, 3), (1, 1), (2, 4)),  # many share what is made ready once
    (9, 200, 150, (24, 20), (3, 3), (1, 1), (2,)),  # and of 4 MB on it is not kept then
    (9, 260, 260, (24, 20), (3, 3), (1, 1), ()),
    (3, 6, 5, (30, 20), (3, 3), (1, 1), (2, 4, DIRECT)),
    (1, 17, 9, (1, 8, 9), (3, 3, 3), (1, 1, 1), (2, 4, DIRECT)),  # taps are left out
]


@pytest.mark.parametrize("algorithm", [*WINOGRAD, DIRECT])
@pytest.mark.parametrize("case", STAY, ids=str)
def test_kernels_that_stay_are_made_ready_once(level, ours, monkeypatch, case, algorithm):
    ours(algorithm)
    n, c, o, size, kernel, padding, keeps = case
    x, weight, shift = torch.randn(n, c, *size), torch.randn(o, c, *kernel), torch.randn(o)
    ones = [1] * len(size)
    exact = torch.convolution(
        x.double(), weight.double(), shift.double(), ones, padding, ones, False, [0] * len(size), 1
    )
    weight.striate_kept = {}
    calls = []

    def spied(name, *given):
        calls.append(name)
        run(name, *given)

    monkeypatch.setattr("striate.kernels.convolution.run", spied)
    for _ in range(2):
        y = torch.ops.striate.convolve(x, weight, shift, ones, list(padding), ones, 1)
        assert distance(y, exact, float(exact.abs().max())) < 5e-5
    assert calls.count("prepare") == len(weight.striate_kept) == (algorithm in keeps)


def test_kernels_made_ready_serve_every_size_of_pictures(ours):
    ours(DIRECT)
    weight = torch.randn(12, 5, 3, 3)
    weight.striate_kept = {}
    for size in ((6, 7), (1, 7), (9, 4), (1, 1), (6, 7)):  # the border hides some taps of some
        x = torch.randn(1, 5, *size)
        y = torch.ops.striate.convolve(x, weight, None, [1, 1], [1, 1], [1, 1], 1)
        exact = F.conv2d(x.double(), weight.double(), None, 1, 1)
        assert distance(y, exact) < 1e-5
    assert len(weight.striate_kept) == 3


def test_kernels_made_ready_are_of_one_count_of_groups(ours):
    ours(DIRECT)
    weight = torch.randn(12, 5, 3, 3)
    weight.striate_kept = {}
    for groups in (1, 2, 3, 1):
        x = torch.randn(1, 5 * groups, 6, 7)
        y = torch.ops.striate.convolve(x, weight, None, [1, 1], [1, 1], [1, 1], groups)
        assert distance(y, F.conv2d(x.double(), weight.double(), None, 1, 1, 1, groups)) < 1e-5


@pytest.mark.parametrize("algorithm", [DIRECT, 4])
def test_inputs_may_lie_in_any_order(level, ours, algorithm):
    ours(algorithm)
    x, weight, shift, dy, y, grads = pictures(2, 38, 35, 9, 8, (1, 1))
    strided = torch.stack([x, x], -1)[..., 0]
    for moved in (x, last(x), strided, x.transpose(2, 3).contiguous().transpose(2, 3)):
        first = weight.movedim(0, -1).contiguous().movedim(-1, 0)  # outputs side by side
        for kernels in (weight, last(weight), weight.mT.contiguous().mT, first):
            found = (moved, kernels, shift, last(dy), y, grads)
            compare(found, {"padding": (1, 1)})


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_what_is_transformed_or_recorded_goes_through_the_operator(ours):
    ours(4)
    x, weight, *_ = pictures(2, 6, 7, 9, 8, (1, 1))
    exact = F.conv2d(x.double(), weight.double(), None, padding=1)
    each = torch.func.vmap(lambda one: convolution(one[None], weight, padding=[1, 1])[0])
    assert distance(each(x), exact) < 5e-5
    with Recorded() as found:
        convolution(x, weight, padding=[1, 1])
    assert torch.ops.striate.convolve.default in found.operators


class Recorded(TorchDispatchMode):
    """Notes which operators are called."""

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators.append(func)
        return func(*args, **(kwargs or {}))


def test_the_gradient_of_an_expanded_answer(ours):
    ours(4)
    x, weight, *_ = pictures(2, 6, 7, 9, 8, (1, 1))
    parts = [part.clone().requires_grad_() for part in (x, weight)]
    exact = [part.double().requires_grad_() for part in (x, weight)]
    convolution(*parts, padding=(1, 1)).sum().backward()
    F.conv2d(*exact, None, padding=1).sum().backward()
    assert all(
        distance(a.grad, b.grad) < 5e-5 for a, b in zip(parts, exact, strict=True)
    )  # dy has stride 0 everywhere


@pytest.mark.parametrize("algorithm", [TORCH, DIRECT, 4])
def test_a_gradient_lies_as_its_kernels_do(ours, algorithm):
    ours(algorithm)
    x, _, _, dy, _, _ = pictures(2, 6, 7, 9, 8, (1, 1))
    how = [3, 3], [1, 1], [1, 1], [1, 1], 1
    plain, moved = (
        torch.ops.striate.convolve_weight(x, dy, *how, order) for order in (False, True)
    )
    assert plain.is_contiguous()
    assert moved.movedim(1, -1).is_contiguous()
    torch.testing.assert_close(plain, moved)
    torch.library.opcheck(torch.ops.striate.convolve_weight.default, (x, dy, *how, True))


@pytest.mark.parametrize("algorithm", [DIRECT, 4])
def test_gradients_of_gradients(ours, algorithm):
    """Of any order, since each operator is the gradient of the other two."""
    ours(algorithm)
    x, weight, _, dy, _, _ = pictures(2, 3, 4, 6, 5, (1, 1))

    def second(convolve, dtype):
        parts = [part.to(dtype).clone().requires_grad_() for part in (x, weight)]
        y = convolve(*parts)
        grads = torch.autograd.grad((y.sin() * dy.to(dtype)).sum(), parts, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in grads), parts)

    ours_ = second(lambda x, w: convolution(x, w, padding=(1, 1)), torch.float32)
    exact = second(lambda x, w: F.conv2d(x, w, padding=1), torch.float64)
    assert all(distance(a, b) < 1e-4 for a, b in zip(ours_, exact, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_what_torch_asks_of_them(ours):
    ours(4)
    x, weight, shift, _, _, _ = pictures(2, 3, 4, 6, 5, (1, 1))
    parts = [part.requires_grad_() for part in (x, weight, shift)]
    how = [1, 1], [1, 1], [1, 1], 1
    torch.library.opcheck(torch.ops.striate.convolve.default, (*parts, *how))
    given_ = (*(part.detach() for part in parts), torch.randn(2, 4, 6, 5), 0.0, 6.0, *how)
    torch.library.opcheck(torch.ops.striate.convolve_clipped.default, given_)


def test_numbers_that_are_none_stay_where_they_were_made(ours):
    """An infinity or a NaN reaches only the tiles that see it."""
    ours(4)
    x, weight = torch.zeros(1, 1, 40, 40), torch.ones(1, 1, 3, 3)
    x[0, 0, 0, 0] = float("nan")
    y = convolution(x, weight, padding=(1, 1))
    assert y[0, 0, 0, 0].isnan()
    assert (y[0, 0, 8:, 8:] == 0).all()


@pytest.mark.parametrize("algorithm", [DIRECT, 4])
def test_the_defaults_of_torch_decide_nothing(ours, other_defaults, algorithm):
    """Neither its type nor its device: what the library writes to is as large as it thinks."""
    ours(algorithm)
    x, weight, shift, dy, _, _ = pictures(2, 20, 40, 6, 5, (1, 1))
    how, memo = {"padding": (1, 1)}, Memo(lambda weight: [weight.clone()])
    with torch.no_grad():
        fixed = memo(weight)[0]

    def answers():
        parts = [part.detach().requires_grad_() for part in (x, weight, shift)]
        y = convolution(*parts, **how)
        one = [1, 1]
        with torch.no_grad():
            ready = convolved(x, fixed, shift, None, -inf, inf, one, one, one, 1)
        return y.detach(), ready, *torch.autograd.grad(y, parts, dy)

    wanted = answers()
    fixed.striate_kept.clear()
    with other_defaults:
        found = answers()
    for one, other in zip(found, wanted, strict=True):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert torch.equal(one, other)
