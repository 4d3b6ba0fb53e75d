"""Chains of convolutions as one operator, and its gradient, against float64."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from striate.kernels import lanes
from striate.kernels.lanes import CLIP, LOGISTIC, MAX, MEAN, NO_POOLING, STRAIGHT, TANH, Stage

INF = float("inf")


@dataclass(frozen=True)
class Layer:
    """A stage, its channels out and its kernel; a kernel of size 0 is a linear layer's."""

    out: int
    kernel: tuple[int, int]
    stage: Stage
    bias: bool = True
    up: bool = False  # whether pooling rounds up


def activated(stage, x):
    if stage.activation == CLIP:
        return x.clamp(stage.low, stage.high)
    if stage.activation == TANH:
        return stage.outer * (stage.inner * x).tanh()
    return x.sigmoid() if stage.activation == LOGISTIC else x


def pooled(layer, x):
    stage, how = layer.stage, (layer.stage.window, layer.stage.step, layer.stage.border)
    if stage.pooling == MEAN:
        divisor = stage.divisor or None
        return F.avg_pool2d(x, *how, layer.up, stage.counts_border, divisor)
    return F.max_pool2d(x, *how, ceil_mode=layer.up) if stage.pooling == MAX else x


def margin(layer, before, x):
    """Return how far the nearest number is from where its gradient would go elsewhere."""
    stage, found = layer.stage, torch.tensor(1.0, dtype=x.dtype)
    if stage.activation == CLIP:
        bounds = [b for b in (stage.low, stage.high) if abs(b) < INF]
        found = torch.stack([(before - b).abs().amin() for b in bounds]).amin()
    if stage.pooling == MAX:
        padding = [p for p in reversed(stage.border) for _ in range(2)]
        windows = F.pad(x, padding, value=-9e9).unfold(2, stage.window[0], stage.step[0])
        windows = windows.unfold(3, stage.window[1], stage.step[1]).flatten(4)
        if windows.shape[-1] > 1 and windows.numel():
            best = windows.topk(2, -1).values
            inside = (best[..., 0] > stage.low) & (best[..., 0] < stage.high)
            gaps = (best[..., 0] - best[..., 1])[inside]
            found = torch.minimum(found, gaps.amin()) if gaps.numel() else found
    return float(found)


def through(layers, x, weights, biases, moved=lambda before: before):
    """Return the answer, stages that know what pooling gives, and the margin.

    `moved` changes what comes out of each convolution.
    """
    known, least = [], INF
    for layer, weight, bias in zip(layers, weights, biases, strict=True):
        if layer.kernel == (0, 0):
            before = F.linear(x.flatten(1), weight, bias)
        else:
            how = (layer.stage.stride, layer.stage.padding, layer.stage.dilation)
            before = F.conv2d(x, weight, bias, *how, layer.stage.groups)
        before = moved(before)
        act = activated(layer.stage, before)
        least = min(least, margin(layer, before.detach(), act.detach()))
        x = pooled(layer, act) if layer.kernel != (0, 0) else act
        known.append(replace(layer.stage, pooled=tuple(x.shape[2:]) or (0, 0)))
    return x, known, least


def drawn(layers, shape, seed):
    """Return x and kernels that keep answers where tanh has a slope."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draw)
    weights, biases, seen = [], [], x[:1]
    for layer in layers:
        linear = layer.kernel == (0, 0)
        inputs = seen[0].numel() if linear else seen.shape[1] // layer.stage.groups
        size = (layer.out, inputs) if linear else (layer.out, inputs, *layer.kernel)
        weights.append(
            torch.randn(size, generator=draw) / (4 * torch.Size(size[1:]).numel()) ** 0.5
        )
        biases.append(torch.randn(layer.out, generator=draw) / 3 if layer.bias else None)
        seen, _, _ = through([layer], seen, weights[-1:], biases[-1:])
    return x, weights, biases


def distance(ours, exact, scale=0.0):
    """Return the largest error, of the largest number or of `scale` where sums cancel."""
    exact = exact.detach()
    error = (ours.double() - exact).abs().max()
    return float(error / exact.abs().max().clamp(min=max(scale, 1e-30)))


def numbers(stages):
    each = [stage.numbers for stage in stages]
    return [n for one in each for n in one[0]], [n for one in each for n in one[1]]


def run(x, weights, biases, stages, dy, back=True):
    how = numbers(stages)
    y, kept = torch.ops.striate.chain(x, weights, biases, *how, True)
    again, nothing = torch.ops.striate.chain(x, weights, biases, *how, False)
    torch.testing.assert_close(again, y, rtol=0, atol=0, equal_nan=True)
    assert nothing.numel() == 0
    wanted = [back, *[True] * len(weights), *(b is not None for b in biases)]
    return y, torch.ops.striate.chain_backward(dy, x, weights, kept, *how, wanted)


def step(layers, x, weights, biases, dy, seed):
    """Return PyTorch's answer and gradients of float32.

    But for seed 0 with sums that err as those of many numbers do: each one adds half of the last
    bit of what was summed before it.
    """
    draw = torch.Generator().manual_seed(seed)

    def moved(before):
        return before * (1 + torch.randn(before.shape, generator=draw) * (2.0**-21 * bool(seed)))

    # contiguous: channels last, oneDNN may write past its memory (docs/kernels.md)
    own = [t.clone(memory_format=torch.contiguous_format).requires_grad_() for t in (x, *weights)]
    shifts = [None if b is None else b.clone().requires_grad_() for b in biases]
    y = through(layers, own[0], own[1:], shifts, moved)[0]
    wanted = [*own, *(b for b in shifts if b is not None)]
    return [y.detach(), *torch.autograd.grad(y, wanted, dy.contiguous())]


def compare(layers, shape, seed=0, last=False, back=True, sure=True):
    x, weights, biases = drawn(layers, shape, seed)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
        weights = [w.contiguous(memory_format=torch.channels_last) if w.dim() == 4 else w
                   for w in weights]  # fmt: skip
    exact = [x.double().requires_grad_(), *(w.double().requires_grad_() for w in weights)]
    shifts = [None if b is None else b.double().requires_grad_() for b in biases]
    y, stages, least = through(layers, exact[0], exact[1:], shifts)
    if sure:
        assume(least > 2e-6)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed + 1))
    dy = dy.contiguous(memory_format=torch.channels_last) if last and dy.dim() == 4 else dy
    wanted = torch.autograd.grad(y, [*exact, *(b for b in shifts if b is not None)], dy.double())
    ours, found = run(x, weights, biases, stages, dy, back)
    kept = [g for g, b in zip(found, [1, *weights, *biases], strict=True) if b is not None]
    near = [step(layers, x, weights, biases, dy, k) for k in range(4)]
    scale = max(float(grad.abs().max()) for grad in wanted) / 10 if sure else 0.0
    scales = [0.0, *[scale] * len(kept)]
    each = list(zip([ours, *kept], [y, *wanted], scales, *near, strict=True))
    for one, other, least, *theirs in each if back else [each[0], *each[2:]]:
        assert one.shape == other.shape
        # Where sums cancel, or tanh is next to 1, float32 knows no more than PyTorch's does.
        assert distance(one, other, least) < max(1e-5, *(4 * distance(t, other) for t in theirs))


def pool(kind, window=(2, 2), step=None, **more):
    return {"pooling": kind, "window": window, "step": step or window, **more}


TANH_MEAN = Stage(activation=TANH, **pool(MEAN))
RELU = {"activation": CLIP, "low": 0.0}
LINEAR = (0, 0)
CHAINS = {
    "lenet5": (
        [
            Layer(6, (5, 5), replace(TANH_MEAN, padding=(2, 2))), Layer(16, (5, 5), TANH_MEAN),
            Layer(120, LINEAR, Stage(activation=TANH)), Layer(84, LINEAR, Stage(activation=TANH)),
            Layer(10, LINEAR, Stage()),
        ],
        (20, 1, 28, 28),
    ),
    "a pixel, then a border": (
        [
            Layer(2, (1, 1), Stage()), Layer(8, (1, 3), Stage(padding=(0, 2), activation=LOGISTIC)),
            Layer(5, LINEAR, Stage()),
        ],
        (9, 3, 1, 1),
    ),
    "lenet1": (
        [
            Layer(4, (5, 5), replace(TANH_MEAN, inner=2 / 3, outer=1.7159)),
            Layer(12, (5, 5), replace(TANH_MEAN, inner=2 / 3, outer=1.7159)),
            Layer(10, LINEAR, Stage()),
        ],
        (3, 1, 28, 28),
    ),
    "rectified": (
        [
            Layer(8, (3, 3), Stage(**RELU, **pool(MAX))),
            Layer(9, (3, 3), Stage(**RELU, **pool(MAX))),
            Layer(7, LINEAR, Stage(**RELU)),
            Layer(5, LINEAR, Stage(), bias=False),
        ],
        (17, 3, 15, 18),
    ),
    "plain": ([Layer(5, (3, 2), Stage(), bias=False), Layer(7, (1, 1), Stage())], (2, 2, 6, 9)),
    "strided": (
        [
            Layer(7, (3, 5), Stage(stride=(2, 3), padding=(1, 4), activation=LOGISTIC)),
            Layer(4, (2, 2), Stage(stride=(3, 1), dilation=(2, 3), activation=TANH), bias=False),
        ],
        (5, 3, 19, 23),
    ),
    "skipping": (
        [Layer(3, (1, 1), Stage(stride=(3, 2), activation=TANH)), Layer(4, (2, 2), Stage())],
        (4, 2, 10, 9),
    ),
    "grouped": (
        [
            Layer(8, (3, 3), Stage(groups=2, padding=(1, 1), **RELU)),
            Layer(16, (3, 3), Stage(groups=8, padding=(2, 2), dilation=(2, 2), activation=TANH)),
        ],
        (16, 4, 7, 7),
    ),
    "overlapping": (
        [
            Layer(6, (3, 3), Stage(**RELU, **pool(MAX, (3, 3), (2, 2), border=(1, 1)))),
            Layer(5, (3, 3), Stage(activation=TANH, **pool(MEAN, (3, 2), (1, 2), border=(1, 1)))),
        ],
        (9, 2, 14, 15),
    ),
    "borders": (
        [
            Layer(4, (2, 2), Stage(activation=TANH, **pool(
                MEAN, (3, 3), (2, 2), border=(1, 0), counts_border=False)), up=True),
            Layer(3, (2, 2), Stage(**pool(MEAN, divisor=3)), up=True),
            Layer(3, (1, 1), Stage(**pool(MAX)), up=True),
        ],
        (6, 1, 17, 16),
    ),
    "single": (
        [
            Layer(3, (3, 4), Stage(activation=TANH)),
            Layer(2, (1, 1), Stage(activation=TANH, **pool(MAX, (1, 1)))),
            Layer(4, (1, 1), Stage(stride=(3, 3), padding=(1, 1))),
        ],
        (5, 2, 3, 4),
    ),
    "clipped": (
        [
            Layer(6, (3, 3), Stage(activation=CLIP, low=-0.4, high=0.5, **pool(MAX, (3, 2)))),
            Layer(13, (1, 3), Stage(activation=CLIP, low=0.0, high=6.0)),
        ],
        (1, 1, 11, 12),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_answers_and_gradients_are_those_of_float64(level, name):
    layers, shape = CHAINS[name]
    for seed in range(9):  # until no number is next to a bound
        x, weights, biases = drawn(layers, shape, seed)
        if through(layers, x, weights, biases)[2] > 2e-6:
            break
    compare(layers, shape, seed, sure=False)
    compare(layers, shape, seed, last=True, sure=False)
    compare(layers, shape, seed, back=False, sure=False)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 64])
def test_any_batch(level, n):
    layers, (_, *rest) = CHAINS["lenet1"]
    compare(layers, (n, *rest), sure=False)


def test_no_images_give_no_answer():
    layers, (_, *rest) = CHAINS["lenet5"]
    x, weights, biases = drawn(layers, (1, *rest), 0)
    _, stages, _ = through(layers, x, weights, biases)
    y, found = run(x[:0], weights, biases, stages, torch.empty(0, 10))
    assert y.shape == (0, 10)
    assert all(not grad.any() for grad in found)


@st.composite
def stages(draw, c, size):
    """Return a layer that fits, and what it gives."""
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3) if c % g == 0]))
    out = groups * draw(st.integers(1, 14 // groups))
    kernel, stride, padding, dilation, pads = ([], [], [], [], [])
    for side in size:
        padding.append(draw(st.integers(0, 3)))
        dilation.append(draw(st.integers(1, 2)))
        room = (side + 2 * padding[-1] - 1) // dilation[-1] + 1
        kernel.append(draw(st.integers(1, min(6, room))))
        stride.append(draw(st.integers(1, 3)))
        seen = dilation[-1] * (kernel[-1] - 1) + 1
        pads.append((side + 2 * padding[-1] - seen) // stride[-1] + 1)
    kind = draw(st.sampled_from([NO_POOLING, MAX, MEAN]))
    window = tuple(draw(st.integers(1, min(3, side))) for side in pads)
    how = {
        "stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation),
        "groups": groups, "activation": draw(st.sampled_from([STRAIGHT, CLIP, TANH, LOGISTIC])),
    }  # fmt: skip
    if how["activation"] == CLIP:
        low, high = draw(st.sampled_from([(0.0, INF), (-0.5, 0.7), (-INF, 0.3)]))
        how |= {"low": low, "high": high}
    if how["activation"] == TANH:
        inner, outer = draw(st.sampled_from([(1.0, 1.0), (0.66, 1.7)]))
        how |= {"inner": inner, "outer": outer}
    if kind:
        how |= pool(kind, window, tuple(draw(st.integers(1, 3)) for _ in size))
        how["border"] = tuple(draw(st.integers(0, side // 2)) for side in window)
        how["counts_border"] = draw(st.booleans())
        pads = [(s + 2 * b - w) // t + 1 for s, b, w, t in
                zip(pads, how["border"], window, how["step"], strict=True)]  # fmt: skip
    return Layer(out, tuple(kernel), Stage(**how), draw(st.booleans())), out, pads


@st.composite
def chains(draw):
    shape = [draw(st.integers(1, most)) for most in (35, 6, 17, 17)]
    layers, c, size = [], shape[1], shape[2:]
    for _ in range(draw(st.integers(1, 3))):
        layer, c, size = draw(stages(c, size))
        layers.append(layer)
    for _ in range(draw(st.integers(0, 2))):
        act = draw(st.sampled_from([STRAIGHT, TANH, LOGISTIC]))
        layers.append(Layer(draw(st.integers(1, 40)), LINEAR, Stage(activation=act)))
    return layers, tuple(shape)


ANY = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=40, **ANY)
@given(chain=chains(), seed=st.integers(0, 99), last=st.booleans(), back=st.booleans())
def test_any_chain(chain, seed, last, back):
    compare(*chain, seed, last, back)


@pytest.mark.slow
@settings(max_examples=1000, **ANY)
@given(chain=chains(), seed=st.integers(0, 99), last=st.booleans(), back=st.booleans())
def test_any_chain_at_any_level(level, chain, seed, last, back):
    compare(*chain, seed, last, back)


# What nobody can be right about next to a bound: activations by themselves


def alone(x, **how):
    stage = Stage(**how)
    x, one = x.view(-1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    return torch.ops.striate.chain(x, [one], [None], *numbers([stage]), False)[0].flatten()


def spread():
    small = torch.logspace(-40, 2, 4000)
    return torch.cat([small, -small, torch.linspace(-12, 12, 20_000)])


def test_tanh_is_right_to_the_last_digits(level):
    x = spread()
    exact, found = x.double().tanh(), alone(x, activation=TANH).double()
    assert (found - exact).abs().max() < 2e-7
    normal = x.abs() > 1e-37
    assert ((found - exact)[normal] / exact[normal]).abs().max() < 1e-6


def test_the_logistic_function_is_right_to_the_last_digits(level):
    x = spread().clamp(-86)
    exact, found = x.double().sigmoid(), alone(x, activation=LOGISTIC).double()
    error = ((found - exact) / exact).abs()
    assert error[x > -20].max() < 1e-6
    assert error.max() < 4e-6  # what e^-86 makes of the last digit of 86 / ln 2


@pytest.mark.parametrize("activation", [STRAIGHT, CLIP, TANH, LOGISTIC])
def test_what_is_no_number_stays_none(level, activation):
    x = torch.tensor([float("nan"), INF, -INF, 0.0])
    found = alone(x, activation=activation, low=-2.0)
    exact = activated(Stage(activation=activation, low=-2.0), x)
    torch.testing.assert_close(found, exact, equal_nan=True, rtol=0, atol=1e-30)


def test_the_largest_is_the_first_one_and_no_number_wins(level):
    nan = float("nan")
    x = torch.tensor([[[[1.0, 1, 0, 2], [1, 0, nan, 2]]]], requires_grad=True)
    stage = Stage(**pool(MAX), pooled=(1, 2))
    y, grads = run(x.detach(), [torch.ones(1, 1, 1, 1)], [None], [stage], torch.ones(1, 1, 1, 2))
    exact = F.max_pool2d(x, 2)
    torch.testing.assert_close(y, exact.detach(), equal_nan=True)
    (wanted,) = torch.autograd.grad(exact.sum(), x)
    torch.testing.assert_close(grads[0], wanted)


def test_two_threads_answer_to_the_bit_alike_every_time(two_threads):
    layers, (_, *rest) = CHAINS["rectified"]
    x, weights, biases = drawn(layers, (70, *rest), 0)
    y, stages, _ = through(layers, x, weights, biases)
    dy = torch.randn(y.shape)
    first = run(x, weights, biases, stages, dy)
    for _ in range(5):
        again = run(x, weights, biases, stages, dy)
        assert torch.equal(first[0], again[0])
        assert all(torch.equal(a, b) for a, b in zip(first[1], again[1], strict=True))


def test_a_stage_survives_what_an_operator_is_told():
    stage = CHAINS["overlapping"][0][0].stage
    assert lanes._stages(*numbers([stage, TANH_MEAN])) == [stage, TANH_MEAN]
