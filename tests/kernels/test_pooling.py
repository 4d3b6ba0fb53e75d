"""Maximum pooling behind a convolution: answers, which of four they were, gradients, graphs."""

import copy
from math import inf

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.kernels import compiled
from striate.kernels.dispatch import DIRECT, TORCH

ours_ = torch.ops.striate
HOW = [1, 1], [1, 1], [1, 1], 1
SHAPES = [
    (2, 3, 19, 9, 14),
    (1, 16, 8, 4, 4),
    (3, 5, 33, 7, 2),
    (1, 1, 1, 2, 3),
    (2, 24, 40, 31, 31),
    (9, 8, 8, 6, 5),
    (2, 3, 5, 11, 15),
]


def drawn(shape):
    n, c, o, h, w = shape
    return torch.randn(n, c, h, w), torch.randn(o, c, 3, 3), torch.randn(o), torch.randn(o)


def last(behind, low, high, silu):
    return F.silu(behind) if silu else behind.clamp(low, high)


@pytest.mark.parametrize("algorithm", [TORCH, DIRECT, 2, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("low", "high", "silu"), [(-inf, inf, False), (0.0, inf, False), (-inf, inf, True)]
)
def test_answers_are_those_of_float64(level, ours, algorithm, shape, low, high, silu):
    ours(algorithm)
    x, weight, scale, bias = drawn(shape)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    each = [-1, 1, 1]
    for gain, shift in ((scale, bias), (None, bias), (None, None)):
        y, place = ours_.convolve_pooled(
            x, weight, gain, shift, low, high, silu, *HOW, keep=shift is None
        )
        wanted = F.max_pool2d(exact, 2)
        wanted = wanted if gain is None else wanted * gain.double().view(each)
        wanted = wanted if shift is None else wanted + shift.double().view(each)
        error = (y - last(wanted, low, high, silu)).abs().max()
        assert error < 5e-5 * exact.abs().max() * (1 if gain is None else gain.abs().max())
        assert place.numel() == (y.numel() if shift is None else 0)


@pytest.mark.parametrize("algorithm", [DIRECT, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_which_of_four_it_was_leads_gradients_back(level, ours, algorithm, shape):
    ours(algorithm)
    x, weight, *_ = drawn(shape)
    y, place = ours_.convolve_pooled(x, weight, None, None, -inf, inf, False, *HOW, keep=True)
    answers = ours_.convolve(x, weight, None, *HOW)
    dy = torch.randn(y.shape)
    dx = ours_.unpool(dy, place, list(answers.shape[2:]))
    assert dx.shape == answers.shape
    # each answer gave its gradient to one number, which is the largest of its four up to rounding
    torch.testing.assert_close(F.avg_pool2d(dx, 2, divisor_override=1), dy)
    assert (dx != 0).sum() == (dy != 0).sum()
    taken = F.max_pool2d(torch.where(dx != 0, answers, -inf), 2)
    torch.testing.assert_close(taken, F.max_pool2d(answers, 2), rtol=1e-4, atol=1e-4)


def test_the_first_of_equal_ones_is_taken_and_no_number_is_the_largest(level, ours):
    """As PyTorch does: kernels of one tap in the middle give back what they are given."""
    ours(DIRECT)
    nan = float("nan")
    x = torch.tensor([
        [[1.0, 1.0, 0.0, nan], [1.0, 1.0, 5.0, 7.0]],
        [[nan, 2.0, -1.0, -1.0], [nan, 3.0, -2.0, -1.0]],
    ])  # fmt: skip
    x = x.repeat(9, 1, 1)[None].contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(18, 18, 3, 3)
    weight[range(18), range(18), 1, 1] = 1
    wanted, indices = F.max_pool2d(x, 2, return_indices=True)
    from striate.kernels.pooling import _largest, _places

    place = _places(x, 1, 18, [2, 4], keep=True)
    torch.testing.assert_close(_largest(x, place), wanted, equal_nan=True)
    rows, columns = indices // 4 % 2, indices % 2
    assert torch.equal(place.long(), 2 * rows + columns)


def test_same_seed_same_bits_for_any_number_of_threads(two_threads, ours):
    ours(4)
    x, weight, *_ = drawn((4, 16, 24, 30, 30))
    told = (x, weight, None, None, -inf, inf, False, *HOW, True)
    first, again = ours_.convolve_pooled(*told), ours_.convolve_pooled(*told)
    torch.set_num_threads(1)
    alone = ours_.convolve_pooled(*told)
    for one, *others in zip(first, again, alone, strict=True):
        assert all(torch.equal(one, other) for other in others)


# ---- graphs


def step(net, x):
    """Return the loss and every parameter's gradient."""
    loss = net(x).square().sum()
    return loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))


def targets(graphs, net, x):
    """Return the targets of the graph after it is rewritten."""
    graphs.clear()
    answer = torch.compile(net, backend=compiled.backend)(x)
    if answer.requires_grad:
        answer.sum().backward()
    return graphs[0]


class Pooled(nn.Module):
    """Convolution, pooling, perhaps normalisation, an activation, in either order."""

    def __init__(self, norm, act, before=False, pool=None, bias=False):
        super().__init__()
        parts = [nn.Conv2d(20, 24, 3, padding=1, bias=bias)]
        tail = [pool or nn.MaxPool2d(2), *([nn.BatchNorm2d(24)] if norm else [])]
        acts = [act()] if act else []
        self.body = nn.Sequential(*parts, *(acts + tail if before else tail + acts))
        self.head = nn.Conv2d(24, 20, 3, padding=1)

    def forward(self, x):
        return self.head(self.body(x))


NETS = {
    "norm, silu": lambda: Pooled(True, nn.SiLU),
    "norm, relu": lambda: Pooled(True, nn.ReLU),
    "norm": lambda: Pooled(True, None),
    "relu": lambda: Pooled(False, nn.ReLU, bias=True),
    "relu before": lambda: Pooled(False, nn.ReLU, before=True, bias=True),
    "silu before": lambda: Pooled(False, nn.SiLU, before=True, bias=True),
    "relu before, norm": lambda: Pooled(True, nn.ReLU, before=True),
    "tanh": lambda: Pooled(False, nn.Tanh),
    "3 x 3": lambda: Pooled(True, nn.ReLU, pool=nn.MaxPool2d(3, 2, 1)),
    "rounded up": lambda: Pooled(True, nn.ReLU, pool=nn.MaxPool2d(2, ceil_mode=True)),
}
FUSED = [name for name in NETS if name not in ("silu before", "3 x 3", "rounded up")]


SIDES = [13, pytest.param(12, marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def anew():
    torch._dynamo.reset()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("side", SIDES)
def test_a_step_of_training_is_the_same(always_ours, name, side):
    plain = NETS[name]()
    x = torch.randn(3, 20, side, side)
    wanted = step(plain, x)
    found = step(torch.compile(copy.deepcopy(plain), backend=compiled.backend), x)
    largest = max(float(grad.norm()) for grad in wanted)
    for one, other in zip(found, wanted, strict=True):
        # an answer next to 0, or two that are the same, may fall to either side
        assert (one - other).norm() < 0.02 * other.norm() + 1e-4 * largest


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("side", SIDES)
@torch.no_grad()
def test_inference_is_the_same(always_ours, name, side):
    plain, x = NETS[name](), torch.randn(3, 20, side, side)
    plain(x)  # statistics
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)  # of either sign
            nn.init.normal_(module.bias)
    plain.eval()
    fast = torch.compile(copy.deepcopy(plain), backend=compiled.backend)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_training_has_it_where_windows_are_pairs(graphs, name):
    text = " ".join(targets(graphs, NETS[name](), torch.randn(2, 20, 13, 13)))
    fused = name in FUSED
    assert ("striate.convolve_pooled.default" in text) == fused
    assert ("striate.unpool.default" in text) == fused
    assert ("aten.max_pool2d" not in text) == fused


@pytest.mark.parametrize("name", FUSED)
def test_inference_has_normalisation_and_activation_in_it(graphs, name):
    net = NETS[name]().eval().requires_grad_(False)
    text = " ".join(targets(graphs, net, torch.randn(2, 20, 13, 13)))
    assert "striate.convolve_pooled.default" in text
    for word in ("max_pool2d", "aten.relu", "aten.silu"):
        assert word not in text
    assert ("batch_norm" in text) == (name == "relu before, norm")


@pytest.mark.parametrize("name", ["norm, silu", "relu before"])
def test_what_lies_between_may_be_read_elsewhere(graphs, name):
    """Then it is computed, and the answers are the same."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = NETS[name]()

        def forward(self, x):
            y = self.net.body[0](x)
            rest = self.net.head(self.net.body[1:](y))
            return rest.mean() + y.square().mean()

    plain, x = Twice(), torch.randn(2, 20, 12, 12)
    wanted = step(plain, x)
    found = step(torch.compile(copy.deepcopy(plain), backend=compiled.backend), x)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() < 0.02 * other.norm() + 1e-6
    torch._dynamo.reset()
    text = " ".join(targets(graphs, Twice(), x))
    assert "striate.convolve_pooled.default" not in text


def test_an_empty_batch_has_an_empty_answer():
    net = NETS["norm, silu"]().eval().requires_grad_(False)
    fast = torch.compile(net, backend=compiled.backend)
    for batch in (2, 0, 3):
        x = torch.randn(batch, 20, 12, 12)
        torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["norm, silu", "relu before"])
def test_training_goes_on_with_other_batches(always_ours, name):
    plain = NETS[name]()
    fast = torch.compile(copy.deepcopy(plain), backend=compiled.backend)
    for batch in (4, 3, 7):
        x = torch.randn(batch, 20, 12, 12)
        wanted, found = step(plain, x), step(fast, x)
        largest = max(float(grad.norm()) for grad in wanted)
        for one, other in zip(found, wanted, strict=True):
            assert (one - other).norm() < 0.02 * other.norm() + 1e-4 * largest


# ---- SiLU and biases that stand apart, without pooling


class Apart(nn.Module):
    """A bias that is added behind a convolution, and SiLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 9, 3, padding=1, bias=False)
        self.bias = nn.Parameter(torch.randn(9))

    def forward(self, x):
        return F.silu(self.conv(x) + self.bias.view(-1, 1, 1))


def test_a_bias_that_is_added_apart_becomes_the_convolutions(graphs):
    net, x = Apart(), torch.randn(2, 6, 40, 40)
    wanted = step(net, x)
    found = step(torch.compile(net, backend=compiled.backend), x)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-2)
    torch._dynamo.reset()
    net.requires_grad_(False)
    with torch.no_grad():
        fast = torch.compile(net, backend=compiled.backend)
        torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()
    text = " ".join(targets(graphs, net, x))
    assert "striate.convolve_clipped.default" in text
    assert "aten.silu" not in text
    assert "aten.add" not in text
