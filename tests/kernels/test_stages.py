"""Convolutions between normalisations: the answers and gradients of each one by itself."""

import copy
from math import inf

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.kernels import library, stages
from striate.kernels.compiled import backend

ours = torch.ops.striate

# samples, channels, answers; size; kernel; stride; padding; dilation
SHAPES = [
    (2, 24, 144, (9, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    (3, 144, 24, (8, 8), (1, 1), (1, 1), (0, 0), (1, 1)),
    (2, 33, 5, (3, 3), (1, 1), (1, 1), (0, 0), (1, 1)),
    (16, 320, 160, (7, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    (2, 40, 40, (9, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    (3, 21, 21, (13, 12), (3, 3), (2, 2), (1, 1), (1, 1)),
    (2, 16, 16, (9, 9), (5, 5), (2, 1), (2, 2), (1, 1)),
    (2, 7, 7, (12, 11), (3, 3), (1, 1), (2, 2), (2, 2)),
    (2, 8, 8, (15, 14), (7, 4), (3, 3), (3, 0), (1, 2)),
    (9, 4, 4, (2, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    (2, 9, 9, (3, 40), (1, 3), (1, 4), (2, 1), (1, 1)),  # lines that see only the border; strides
]


FAST = (SHAPES[1], SHAPES[2], SHAPES[5], SHAPES[10])
CASES = [s if s in FAST else pytest.param(s, marks=pytest.mark.slow) for s in SHAPES]


def normed(x, weight, bias, mean, variance, epsilon):
    """Return normalised x, before and behind weight and bias."""
    each = [t.double().view(-1, 1, 1) for t in (weight, bias, mean, variance)]
    plain = (x.double() - each[2]) / (each[3] + epsilon).sqrt()
    return plain, plain * each[0] + each[1]


def off(x, known, bounds):
    """Return x without numbers of which rounding decides whether they lie within the bounds."""
    _, read = normed(x, *known, bounds[0])
    near = torch.stack([(read - bound).abs() < 1e-4 for bound in bounds[1:]]).any(0)
    return torch.where(near, x + 0.05, x)


def close(found, exact, bound=1e-5):
    """Say whether the largest error is small beside the largest number."""
    assert found.shape == exact.shape
    return (found.double() - exact).abs().max() <= bound * exact.abs().max() + 1e-12


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("before", "behind"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("shape", CASES, ids=str)
def test_answers_and_gradients_are_those_of_float64(level, request, shape, before, behind, threads):
    if threads == 2:
        request.getfixturevalue("two_threads")
    n, c, o, size, kernel, *each = shape
    how = (*map(list, each), c if c == o else 1)
    x = torch.randn(n, c, *size) * 2 + 1
    weight = torch.randn(o, c // how[3], *kernel)
    known, bounds = [], []
    plain, read = None, x.double()
    if before:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        known, bounds = [torch.rand(c) + 0.5, torch.randn(c) + 1, mean, variance], [1e-5, 0.0, 2.5]
        x = off(x, known, bounds)
        plain, read = normed(x, *known, 1e-5)
    read.requires_grad_()
    exact_weight = weight.double().requires_grad_()
    seen = read.clamp(*bounds[1:]) if before else read
    exact = F.conv2d(seen, exact_weight, None, *how)
    y, mean, variance = ours.stage(x, weight, *how, known, bounds)
    assert y.movedim(1, -1).is_contiguous()
    assert close(y, exact)
    assert close(mean, exact.mean((0, 2, 3)), 2e-5)
    assert close(variance, exact.var((0, 2, 3), correction=0), 2e-5)

    dy, answer = torch.randn_like(y), exact
    addend = None if before else torch.randn_like(x)
    kept, told, limits = None, [], []
    if behind:
        gain = torch.rand(o) + 0.5
        answer = F.batch_norm(exact, None, None, gain.double(), None, training=True, eps=1e-3)
        scaled = (exact - exact.mean((0, 2, 3), keepdim=True)) / (
            exact.var((0, 2, 3), correction=0, keepdim=True) + 1e-3
        ).sqrt()
        sums = [(dy * scaled).sum((0, 2, 3)).float().detach(), dy.sum((0, 2, 3))]
        kept, told, limits = y, [gain, mean, variance, *sums], [1e-3, -inf, inf]
    found = ours.stage_backward(dy, x, weight, addend, *how, known, bounds, kept, told, limits)
    dx, dweight = torch.autograd.grad((answer * dy).sum(), (read, exact_weight))
    dx = dx if addend is None else dx + addend
    assert close(found[0], dx, 3e-5)
    assert close(found[1], dweight, 3e-5)
    if before:
        assert close(found[2], (dx * plain).sum((0, 2, 3)), 3e-5)
        assert close(found[3], dx.sum((0, 2, 3)), 3e-5)
    else:
        assert not found[2].numel()


def test_normalisation_may_have_neither_weight_nor_bias(level):
    x, weight = torch.randn(2, 8, 6, 6), torch.randn(8, 1, 3, 3)
    how = ([1, 1], [1, 1], [1, 1], 8)
    mean, variance = torch.zeros(8), torch.ones(8)
    found = ours.stage(x, weight, *how, [None, None, mean, variance], [1e-5, -inf, inf])
    same = ours.stage(x, weight, *how, [mean + 1, mean, mean, variance], [1e-5, -inf, inf])
    assert all(torch.equal(a, b) for a, b in zip(found, same, strict=True))


@pytest.mark.parametrize("shape", [(6, 6, 1, 1), (6, 1, 3, 3)])
def test_kernels_may_lie_anyhow(shape):
    """Expanded, transposed, channels last: their gradient is that of contiguous ones."""
    one = torch.randn(1, 1, *shape[2:]).expand(shape)
    turned = torch.randn(shape[1], shape[0], *shape[2:]).transpose(0, 1)
    kernels = [one, turned, torch.randn(shape).contiguous(memory_format=torch.channels_last)]
    x, dy = torch.randn(2, 2, 6, 5, 5)
    how = ([1, 1], [shape[2] // 2] * 2, [1, 1], 6 // shape[1])
    for kernel in kernels:
        pair = kernel, kernel.contiguous()
        y = [ours.stage(x, weight, *how, [], [])[0] for weight in pair]
        assert torch.equal(*y)
        calls = [
            ours.stage_backward(dy, x, weight, None, *how, [], [], None, [], []) for weight in pair
        ]
        assert all(torch.equal(a, b) for a, b in zip(*calls, strict=True))


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[5]], ids=str)
def test_two_calls_give_the_same_bits(two_threads, shape):
    n, c, o, size, kernel, *each = shape
    how = (*map(list, each), c if c == o else 1)
    x, weight = torch.randn(n, c, *size), torch.randn(o, c // how[3], *kernel)
    y, *_ = ours.stage(x, weight, *how, [], [])
    calls = [ours.stage_backward(y, x, weight, None, *how, [], [], None, [], []) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*calls, strict=True))


def test_large_answers_are_written_past_the_caches(level):
    """The same numbers as of samples that are few enough to stay in them."""
    x, weight = torch.randn(5, 16, 128, 128), torch.randn(64, 16, 1, 1)  # 5.2 million answers
    how = ([1, 1], [0, 0], [1, 1], 1)
    y, *_ = ours.stage(x, weight, *how, [], [])
    for one, sample in zip(y, x, strict=True):
        assert torch.equal(one, ours.stage(sample[None], weight, *how, [], [])[0][0])


def test_torch_compile_knows_shapes_and_orders():
    weight = torch.randn(6, 4, 1, 1)
    given = (torch.randn(2, 4, 5, 5), weight, [1, 1], [0, 0], [1, 1], 1, [], [])
    torch.library.opcheck(ours.stage, given, test_utils=("test_schema", "test_faketensor"))
    back = (torch.randn(2, 6, 5, 5), *given[:2], None, *given[2:], None, [], [])
    torch.library.opcheck(ours.stage_backward, back, test_utils=("test_schema", "test_faketensor"))


# In a graph


class Inverted(nn.Module):
    """An inverted residual: pointwise, depthwise and pointwise again, each normalised."""

    def __init__(self, between: type[nn.Module] = nn.ReLU6) -> None:
        super().__init__()
        self.first, self.depth, self.last = (
            nn.Conv2d(6, 16, 1, bias=False),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
            nn.Conv2d(16, 6, 1, bias=False),
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(k) for k in (16, 16, 6))
        self.between = between()

    def forward(self, x):
        """Return x with what the block adds to it."""
        h = self.between(self.norms[0](self.first(x)))
        m = self.between(self.norms[1](self.depth(h)))
        return x + self.norms[2](self.last(m))


class Shown(Inverted):
    """The same, whose inside is read by somebody else, too."""

    def forward(self, x):
        """Return the answer, and the sum of what lies between."""
        h = self.between(self.norms[0](self.first(x)))
        m = self.between(self.norms[1](self.depth(h)))
        return x + self.norms[2](self.last(m)) + h.mean()


@pytest.fixture
def counted(monkeypatch):
    """Count the stages that are put into graphs."""
    if library.level() == "baseline":
        pytest.skip("this CPU has neither AVX2 nor AVX-512: no stages are put into graphs")
    found, put = [], stages._put_answers

    def putting(*args):
        found.append(args[0])
        return put(*args)

    monkeypatch.setattr(stages, "_put_answers", putting)
    torch._dynamo.reset()
    return found


def taught(net, x):
    """Return answers, gradients and running statistics of a step."""
    y = net(x)
    y.square().mean().backward()
    grads = [x.grad, *(p.grad for p in net.parameters() if p.grad is not None)]
    return [y.detach(), *grads, *(b.clone() for b in net.buffers())]


def assert_same(step, exact):
    """A gradient that is 0 is so up to rounding of what cancels."""
    for one, other in zip(step, exact, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (Inverted, 3),
        (lambda: Inverted(nn.Identity), 3),
        (lambda: Inverted(nn.SiLU), 0),  # we know only bounds
        (Shown, 2),  # what is read elsewhere has to be there
        pytest.param(lambda: nn.Sequential(Inverted(), Inverted()), 6, marks=pytest.mark.slow),
    ],
)
def test_step_is_that_of_float64(counted, build, count):
    torch.manual_seed(1)
    net = build()
    for name, p in net.named_parameters():
        if "norms" in name:
            nn.init.uniform_(p, 0.5, 1.5)
    exact, start = copy.deepcopy(net).double(), torch.randn(8, 6, 9, 10)
    step = taught(torch.compile(net, backend=backend), start.clone().requires_grad_())
    assert len(counted) == count
    same = taught(exact, start.double().requires_grad_())
    assert_same(step, same)


def test_cpu_that_we_do_not_know_gets_none(counted, monkeypatch):
    monkeypatch.setattr(stages, "level", lambda: "baseline")
    y = torch.compile(Inverted(), backend=backend)(torch.randn(2, 6, 5, 5))
    assert y.shape == (2, 6, 5, 5)
    assert not counted


def test_frozen_kernel_leaves_its_neighbours_alone(counted):
    net = Inverted()
    net.depth.weight.requires_grad_(False)
    exact, start = copy.deepcopy(net).double(), torch.randn(8, 6, 9, 10)
    step = taught(torch.compile(net, backend=backend), start.clone().requires_grad_())
    assert not counted
    same = taught(exact, start.double().requires_grad_())
    assert_same(step, same)


def test_normalisation_by_known_statistics_is_left_alone(counted):
    net = Inverted()
    net.norms[1].eval()
    exact, start = copy.deepcopy(net).double(), torch.randn(8, 6, 9, 10)
    step = taught(torch.compile(net, backend=backend), start.clone().requires_grad_())
    same = taught(exact, start.double().requires_grad_())
    assert len(counted) == 2
    assert_same(step, same)
