"""What weights alone decide is computed once, and again whenever they change."""

import copy
import time
from math import inf
from threading import Event, Thread

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.kernels import accelerate, convolution
from striate.kernels.compiled import backend
from striate.kernels.library import Memory
from striate.kernels.prepared import Memo, kept


def mark(x):
    """Return the fingerprint of one tensor."""
    return Memory([(x.data_ptr(), x.numel())]).fingerprint()


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 255, 256, 257, 5000])
def test_the_fingerprint_sees_every_kilobyte(count):
    x = torch.randn(count)
    before = mark(x)
    assert mark(x) == before
    for first in range(0, count, 256):
        for place in {first, min(first + 15, count - 1)}:
            value = x[place].item()
            x[place] += 1e-3
            assert mark(x) != before
            x[place] = value
    assert mark(x) == before


@pytest.mark.parametrize("count", [1, 17, 300, 2**14])
def test_of_what_is_small_the_fingerprint_sees_all(count):
    x = torch.randn(count)
    before = mark(x)
    for place in {0, count // 2, count // 3, count - 1, *range(100, min(count, 400), 7)}:
        value = x[place].item()
        x[place] += 1e-3
        assert mark(x) != before
        x[place] = value
    assert mark(x) == before


@pytest.mark.parametrize(
    "shape", [(960, 160, 1, 1), (3000, 1, 3, 3), (300, 7, 5, 5), (70, 64, 3, 3)]
)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_change_of_one_kernel_behind_torchs_back_is_seen(memo, shape, order):
    held, calls = memo
    x = nn.Parameter(torch.randn(shape).to(memory_format=order))
    held(x)
    for k in range(0, shape[0], 37):
        x.data[k] = 0
        assert torch.equal(held(x)[0], x)
    assert len(calls) == 1 + len(range(0, shape[0], 37))


@torch.no_grad()
def test_channels_may_be_switched_off_behind_torchs_back():
    """As networks are slimmed: by .data of what normalises."""
    net = nn.Sequential(nn.Conv2d(3, 300, 1), nn.BatchNorm2d(300)).eval()
    fast, x = accelerate(copy.deepcopy(net)), torch.randn(2, 3, 40, 40)
    for place in (0, 20, 250, 299):
        for one in (net, fast):
            one(x)
            one[1].weight.data[place] = 0
        torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)


def test_the_fingerprint_sees_order():
    x, y = torch.randn(700), torch.randn(700)
    pair = [(t.data_ptr(), t.numel()) for t in (x, y)]
    assert Memory(pair).fingerprint() != Memory(pair[::-1]).fingerprint()
    assert mark(x) != mark(x.flip(0))


@pytest.fixture
def memo():
    """Return a memo of a sum, and how often it was computed."""
    calls = []

    def compute(*tensors):
        calls.append(tensors)
        return [sum(tensors)]

    return Memo(compute), calls


def test_it_is_computed_once_and_after_each_change(memo):
    held, calls = memo
    x, y = nn.Parameter(torch.randn(4, 500)), torch.randn(4, 500)
    assert held(x, y)[0] is held(x, y)[0]
    assert len(calls) == 1
    changes = [
        lambda: y.add_(1),
        lambda: x.data.mul_(0.5),  # its version stays as it is
        lambda: setattr(x, "data", torch.randn(4, 500)),
        lambda: y.t_().t_(),
    ]
    for k, change in enumerate(changes, 2):
        with torch.no_grad():
            change()
        assert torch.equal(held(x, y)[0], x + y)
        assert len(calls) == k
    assert torch.equal(held(x, y.clone())[0], x + y)
    assert len(calls) == len(changes) + 2


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_kernels_may_lie_channels_last(memo, axes):
    held, calls = memo
    x = torch.randn(8, *[3] * axes, 5).movedim(-1, 1)
    assert held(x)[0] is held(x)[0]
    x[0, 0] += 1
    assert torch.equal(held(x)[0], x)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["inference", "double", "strided", "meta"])
def test_what_cannot_be_watched_is_computed_every_time(memo, kind):
    held, calls = memo
    with torch.inference_mode(kind == "inference"):
        x = torch.randn(6, 8)
    kinds = {"double": x.double(), "strided": x[:, ::2], "meta": x.to("meta")}
    x = kinds.get(kind, x)
    held(x)
    held(x)
    assert len(calls) == 2


def test_what_is_kept_of_a_result_goes_with_it(memo):
    held, _ = memo
    x = torch.randn(8)
    first = held(x)[0]
    assert kept(first) == {}
    assert kept(x) is None
    x += 1
    assert held(x)[0] is not first


def test_threads_get_what_is_made_of_their_own_tensors():
    x, y, begun, done = torch.ones(8), torch.full((8,), 2.0), Event(), Event()

    def compute(one):
        if one is x:
            begun.set()
            assert done.wait(5)
        return [one + 0]

    held, found = Memo(compute), []
    thread = Thread(target=lambda: found.extend(held(x)))
    thread.start()
    assert begun.wait(5)
    assert torch.equal(held(y)[0], y)
    done.set()
    thread.join()
    assert torch.equal(found[0], x)
    assert torch.equal(held(y)[0], y)


@pytest.mark.parametrize("algorithm", [1, 4])
@torch.no_grad()
def test_kernels_are_made_ready_before_another_thread_reads_them(monkeypatch, ours, algorithm):
    ours(algorithm)
    weight = Memo(lambda one: [one + 0])(torch.randn(16, 16, 3, 3))[0]
    x, one, begun, true = torch.randn(1, 16, 8, 8), [1, 1], Event(), convolution.run

    def slowly(name, *given):
        if name == "prepare" and not begun.is_set():
            begun.set()
            time.sleep(0.2)
        true(name, *given)

    def answer(found):
        found.append(
            convolution.convolved(x, weight, None, None, -inf, inf, one, one, one, 1).clone()
        )

    monkeypatch.setattr(convolution, "run", slowly)
    found = [], []
    thread = Thread(target=answer, args=(found[0],))
    thread.start()
    assert begun.wait(5)
    answer(found[1])
    thread.join()
    wanted = F.conv2d(x, weight, padding=1)
    for (y,) in found:
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)


class Hyper(nn.Module):
    """Its second kernels come from the picture, its third ones from chance."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8).eval()
        self.kernels = nn.Parameter(torch.randn(8, 8, 3, 3))

    def forward(self, x):
        y = self.norm(self.first(x)).relu()
        y = F.conv2d(y, self.kernels * y.mean(), padding=1)
        return F.conv2d(y, F.dropout(self.kernels, 0.5, training=True), padding=1), y


@torch.no_grad()
def test_only_what_weights_decide_is_kept(ours):
    ours(1)
    net = Hyper().eval()
    compiled = torch.compile(net, backend=backend)
    for _ in range(2):
        x = torch.randn(2, 3, 9, 9)
        (first, steady), (second, again) = compiled(x), compiled(x)
        assert torch.allclose(steady, net(x)[1], rtol=1e-4, atol=1e-5)
        assert torch.equal(steady, again)
        assert not torch.equal(first, second)  # chance is drawn anew


KERNELS = np.ones((64, 64, 3, 3), "float32")


class Outer(nn.Module):
    """Kernels from the picture, and from tensors that are neither parameters nor buffers."""

    def __init__(self):
        super().__init__()
        self.lines = nn.Linear(64, 64 * 9)
        self.held = torch.from_numpy(KERNELS)

    def forward(self, x, given):
        own = self.lines(x.mean((2, 3))).sum(0).view(64, 1, 3, 3)
        first = F.conv2d(x, own, padding=1, groups=64)
        return first, F.conv2d(x, self.held * 2), F.conv2d(x, given * 2)


@torch.no_grad()
def test_kernels_that_no_weights_decide_are_never_kept():
    """Not even where a change of what they come from cannot be seen."""
    pixels = torch.randn(2, 64, 16, 16).numpy()
    net, x, given = Outer().eval(), torch.from_numpy(pixels), torch.from_numpy(KERNELS)
    compiled = torch.compile(net, backend=backend)
    for _ in range(2):
        for found, wanted in zip(compiled(x, given), net(x, given), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-2)
        pixels.reshape(-1, 256)[:, 100] = 50  # between the lines that a fingerprint reads
        KERNELS.reshape(-1, 256)[:, 100] = 50


@pytest.mark.parametrize("algorithm", [0, 1, 4])
@torch.no_grad()
def test_a_compiled_network_answers_by_the_weights_of_the_moment(ours, algorithm):
    ours(algorithm)
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    net = nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), conv, nn.Conv2d(4, 5, 3)).eval()
    compiled = torch.compile(net, backend=backend)
    x, wide = torch.randn(2, 4, 10, 12), torch.randn(2, 4, 14, 9)
    changes = [
        lambda: None,
        lambda: net[0].weight.mul_(2),
        lambda: net[1].running_var.fill_(3),
        lambda: net[4].weight.data.neg_(),
        lambda: net.load_state_dict({k: 0.5 * v for k, v in net.state_dict().items()}),
    ]
    for change in changes:
        change()
        for picture in (x, wide, x):
            wanted = net(picture)
            assert torch.allclose(compiled(picture), wanted, rtol=1e-4, atol=1e-5)
