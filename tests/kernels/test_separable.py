"""A depthwise convolution between two pointwise ones: the answers of three, by one operator."""

from collections import Counter
from math import inf

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.kernels import separable

ours = torch.ops.striate
OPEN = (-inf, inf)
SIX = (0.0, 6.0)

# channels, between, answers; size; kernel; stride; padding; dilation
SHAPES = [
    (24, 144, 24, (19, 31), (3, 3), (1, 1), (1, 1), (1, 1)),
    (16, 96, 24, (112, 112), (3, 3), (2, 2), (1, 1), (1, 1)),
    (0, 33, 17, (20, 23), (3, 3), (1, 1), (1, 1), (1, 1)),
    (7, 13, 5, (17, 9), (5, 5), (2, 1), (2, 2), (1, 1)),
    (8, 40, 8, (23, 40), (3, 3), (1, 1), (2, 2), (2, 2)),
    (4, 300, 100, (30, 21), (7, 5), (3, 2), (3, 0), (1, 2)),
    (3, 2, 1, (1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    (5, 21, 40, (2, 900), (1, 3), (1, 1), (2, 1), (1, 1)),  # lines that see nothing but the border
]


@pytest.fixture
def together(monkeypatch):
    """Let the one operator always compute at once, and count how often it does."""
    found = Counter()

    def quickest(key, able, attempt, numbers):
        found[key] += 1
        return attempt(able()[-1])

    monkeypatch.setattr(separable, "quickest", quickest)
    return found


def parts(c, wide, o, kernel):
    """Return weights and biases; the second bias is missing."""
    weights = [torch.randn(wide, c, 1, 1)] if c else []
    weights += [torch.randn(wide, 1, *kernel), torch.randn(o, wide, 1, 1) / wide**0.5]
    biases = [torch.randn(len(weight)) for weight in weights]
    biases[-2] = None
    return weights, biases


def one_by_one(x, weights, biases, addend, bounds, how):
    """Return what three convolutions give, in float64."""
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        depth = {**how, "groups": len(weight)} if k == len(weights) - 2 else {}
        x = F.conv2d(x, weight.double(), None if bias is None else bias.double(), **depth)
        if addend is not None and k == len(weights) - 1:
            x = x + addend
        x = x.clamp(*bounds[2 * k : 2 * k + 2])
    return x


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_answers_are_those_of_float64(level, together, request, shape, n, threads):
    if threads == 2:
        request.getfixturevalue("two_threads")
    c, wide, o, size, kernel, stride, padding, dilation = shape
    weights, biases = parts(c, wide, o, kernel)
    x, how = torch.randn(n, c or wide, *size), (list(stride), list(padding), list(dilation))
    named = dict(zip(("stride", "padding", "dilation"), how, strict=True))
    bounds = [*(SIX * (len(weights) - 2)), -0.5, 2.0, *OPEN]
    plain = one_by_one(x.double(), weights, biases, None, bounds, named)
    addend = torch.randn(plain.shape)
    for more, last in ((None, OPEN), (addend, (-1.0, 0.5))):
        bounds[-2:] = last
        exact = one_by_one(x.double(), weights, biases, more, bounds, named)
        ready = ours.arranged(weights, biases)
        y = ours.separable(x, weights, biases, more, bounds, *how, ready)
        assert y.shape == exact.shape
        if n:
            assert float((y - exact).abs().max()) < 1e-5 * float(plain.abs().max())
    assert together


def test_what_torch_compile_knows_of_them():
    weights, biases = parts(3, 40, 5, (3, 3))
    x, how = torch.randn(2, 3, 9, 7), ([2, 2], [1, 1], [1, 1])
    ready = ours.arranged(weights, biases)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(ours.arranged.default, (weights, biases), test_utils=tests)
    given = (x, weights, biases, None, [*SIX, *SIX, *OPEN], *how, ready)
    torch.library.opcheck(ours.separable.default, given, test_utils=tests)


def block(c, wide, o, stride=1, act=nn.ReLU6, norm=nn.BatchNorm2d, **last):
    """Return an inverted residual block's inside."""
    return nn.Sequential(
        nn.Conv2d(c, wide, 1), norm(wide), act(),
        nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide), norm(wide), act(),
        nn.Conv2d(wide, o, 1, **last), norm(o),
    )  # fmt: skip


class Sum(nn.Module):
    """What is added to what a block answers, or to what it reads in the middle."""

    def __init__(self, inner, cut=0):
        super().__init__()
        self.inner, self.cut = inner, cut

    def forward(self, x):
        if not self.cut:
            return x + self.inner(x)
        y = self.inner[: self.cut](x)
        return self.inner[self.cut :](y) + y.mean()


DEPTH = nn.Conv2d(8, 8, 3, padding=1, groups=8)
NETS = {  # a network, and how many operators are one in it
    "residual": (Sum(block(8, 40, 8)), 1),
    "two": (nn.Sequential(block(8, 48, 16, 2), Sum(block(16, 96, 16))), 2),
    "rectifier": (block(8, 24, 12, act=nn.ReLU), 1),
    "no norm": (block(8, 24, 12, norm=nn.Identity), 1),
    "smooth": (block(8, 24, 12, act=nn.SiLU), 0),
    "strided": (nn.Sequential(DEPTH, nn.ReLU(), nn.Conv2d(8, 12, 1, stride=2)), 0),
    "read twice": (Sum(block(8, 24, 12), 6), 0),
    "begin read twice": (Sum(block(8, 24, 12), 3), 1),
    "wide end": (block(8, 24, 12, groups=4), 0),
    "no begin": (block(8, 8, 12)[3:], 1),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETS)
def test_they_are_found_in_networks(together, name):
    torch.manual_seed(0)
    torch._dynamo.reset()
    net, count = NETS[name]
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    net.eval()
    x = torch.randn(2, 8, 14, 11)
    fast = torch.compile(net, backend="striate")
    with torch.no_grad():
        for _ in range(2):
            assert float((fast(x) - net(x)).abs().max()) < 1e-4
            next(net.parameters()).mul_(1.5)  # what was arranged before is no longer true
    assert len(together) == count


@pytest.mark.filterwarnings("ignore")
def test_gradients_are_never_asked_of_them(together):
    torch._dynamo.reset()
    net = Sum(block(8, 40, 8))
    torch.compile(net, backend="striate")(torch.randn(2, 8, 9, 9)).sum().backward()
    assert not together


@pytest.mark.parametrize("c", [0, 4])
def test_the_defaults_of_torch_decide_nothing(other_defaults, c):
    given = parts(c, 6, 5, (3, 3))
    wanted = ours.arranged(*given)
    with other_defaults:
        found = ours.arranged(*given)
    for one, other in zip(found, wanted, strict=True):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert torch.equal(one, other)
