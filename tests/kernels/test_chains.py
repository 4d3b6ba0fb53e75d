"""Chains in anybody's networks, compiled: found where they are, and the same answers."""

import copy

import pytest
import torch
from torch import nn

from striate.kernels import chains
from striate.kernels.compiled import backend
from striate.models import build
from striate.spec import Spec

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own tracing warns


class Scaled(nn.Module):
    """A tanh with an amplitude and a slope."""

    def forward(self, x):
        return 1.7159 * torch.tanh(2 / 3 * x)


class Peeked(nn.Module):
    """What lies between two convolutions is read by somebody else, too."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x):
        y = self.first(x).relu()
        return self.second(y).tanh().flatten(1).sum(1) + y.square().flatten(1).sum(1)


class Shared(nn.Module):
    """The same kernels twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.conv(self.conv(x).tanh()).sigmoid()


def networks():
    torch.manual_seed(0)
    c, relu, tanh, most, mean = nn.Conv2d, nn.ReLU, nn.Tanh, nn.MaxPool2d, nn.AvgPool2d
    digits = Spec(channels=1, size=(28, 28), classes=tuple("0123456789"))
    return {
        "lenet5": build("lenet5", digits),
        "lenet1": nn.Sequential(
            c(1, 4, 5), Scaled(), mean(2), c(4, 12, 5), Scaled(), mean(2), nn.Flatten(),
            nn.Linear(192, 10),
        ),
        "tutorial": nn.Sequential(
            c(1, 8, 3), relu(), c(8, 12, 3), relu(), most(2), nn.Flatten(), nn.Linear(1728, 32),
            relu(), nn.Linear(32, 10, bias=False),
        ),
        "inplace": nn.Sequential(
            c(1, 6, 5, bias=False), relu(inplace=True), most(3, 2, 1), c(6, 7, 3, padding=1),
            nn.ReLU6(), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Flatten(), nn.Linear(252, 10),
        ),
        "odd": nn.Sequential(
            c(1, 4, (3, 2), stride=(2, 1), padding=(2, 1)), nn.Sigmoid(),
            c(4, 6, 3, dilation=2, groups=2), nn.Hardtanh(-0.2, 0.3), c(6, 5, 3, stride=3), tanh(),
        ),
        "dropped": nn.Sequential(
            c(1, 6, 5), relu(), most(2), c(6, 8, 5), relu(), most(2), nn.Dropout(0.0), nn.Flatten(),
            nn.Linear(128, 10),
        ),
        "peeked": Peeked(),
        "shared": Shared(),
    }  # fmt: skip


# What of each is one operator: how many of them, and what aten has left in the graph.
FOUND = {
    "lenet5": (1, ()), "lenet1": (1, ()), "tutorial": (1, ()), "inplace": (1, ()), "odd": (1, ()),
    "dropped": (1, ("addmm",)), "peeked": (2, ("tanh",)), "shared": (1, ()),
}  # fmt: skip
LEFT = ("addmm", "convolution", "tanh", "relu", "avg_pool2d", "max_pool2d_with_indices")


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    """Let every chain pay, however small; forget what was compiled."""
    torch._dynamo.reset()
    monkeypatch.setattr(chains, "_pays", lambda links: True)
    monkeypatch.setattr(chains, "_fits", lambda link: True)


def step(net, x, dy):
    y = net(x)
    return y.detach(), *torch.autograd.grad(y, [*net.parameters(), x], dy.to(y.dtype))


def compare(plain, x):
    """Compare a step with one in float64."""
    fast, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    dy = torch.randn(exact(x.double()).shape, generator=torch.Generator().manual_seed(1))
    wanted = step(exact, x.double().requires_grad_(), dy)
    found = step(torch.compile(fast, backend=backend), x.detach().requires_grad_(), dy)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert (one.double() - other).norm() < 1e-4 * other.norm()  # a rectifier's 0 is nobody's


@pytest.mark.parametrize("name", FOUND)
def test_a_step_of_training_is_that_of_float64(name, graphs):
    compare(networks()[name], torch.randn(5, 1, 28, 28))
    text = " ".join(graphs[0])
    operators, left = FOUND[name]
    assert graphs[0].count("striate.chain.default") == operators
    assert graphs[0].count("striate.chain_backward.default") == operators
    for word in set(LEFT) - set(left):
        assert f"aten.{word}" not in text


@pytest.mark.parametrize("name", FOUND)
def test_inference_is_that_of_float64(name, graphs):
    plain, x = networks()[name].eval(), torch.randn(5, 1, 28, 28)
    fast = torch.compile(copy.deepcopy(plain), backend=backend)
    with torch.no_grad():
        found, exact = fast(x), plain.double()(x.double())
    assert (found.double() - exact).abs().max() < 1e-5 * exact.abs().max()
    assert "striate.chain.default" in graphs[0]


@pytest.mark.parametrize("x", [
    torch.randn(3, 28, 28, 1).permute(0, 3, 1, 2), torch.randn(3, 1, 28, 56)[..., ::2],
    torch.randn(1, 28, 28).expand(3, 1, 28, 28), torch.randn(3, 1, 28, 28).flip(0),
], ids=["last", "every second", "the same", "flipped"])  # fmt: skip
def test_pictures_may_lie_in_any_order(x):
    compare(networks()["lenet1"], x)


def test_kernels_may_lie_channels_last():
    net = networks()["lenet5"].to(memory_format=torch.channels_last)
    compare(net, torch.randn(3, 1, 28, 28).contiguous(memory_format=torch.channels_last))


def test_a_batch_of_another_size_needs_no_other_network(graphs):
    plain = networks()["lenet5"]
    fast = torch.compile(copy.deepcopy(plain), backend=backend)
    for n in (16, 17, 20, 64, 33):
        x = torch.randn(n, 1, 28, 28)
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)
    assert len(graphs) == 2  # the second one for any batch
    assert all("striate.chain.default" in names for names in graphs)


def test_layers_that_learn_nothing_stay_as_they_are(graphs):
    plain, x = networks()["lenet5"], torch.randn(4, 1, 28, 28)
    plain[0][:3].requires_grad_(False)
    fast = torch.compile(copy.deepcopy(plain), backend=backend)
    fast(x).square().sum().backward()
    plain(x).square().sum().backward()
    assert graphs[0].count("striate.chain.default") == 2
    for one, other in zip(fast.parameters(), plain.parameters(), strict=True):
        if other.grad is None:
            assert one.grad is None
        else:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_a_normalisation_moves_into_the_chain_in_inference(graphs):
    plain = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3)
    )
    x = torch.randn(6, 1, 12, 12)
    plain(x)
    plain.eval().requires_grad_(False)
    fast = torch.compile(copy.deepcopy(plain), backend=backend)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)
    assert graphs[0].count("striate.chain.default") == 1
    assert "aten._native_batch_norm_legit_no_training.default" not in graphs[0]


def test_training_learns_what_it_learns_without():
    plain = networks()["lenet5"]
    losses = []
    for net in (copy.deepcopy(plain), torch.compile(copy.deepcopy(plain), backend=backend)):
        torch.manual_seed(0)
        rule, losses = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), [*losses, []]
        for _ in range(5):
            x, y = torch.randn(20, 1, 28, 28), torch.randint(0, 10, (20,))
            loss = nn.functional.cross_entropy(net(x), y)
            rule.zero_grad()
            loss.backward()
            rule.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != losses[0][1]


@pytest.mark.parametrize("kind", ["double", "axes", "transposed", "off"])
def test_what_we_do_not_know_is_left_to_others(kind, graphs, monkeypatch):
    net, x = networks()["lenet1"], torch.randn(2, 1, 28, 28)
    if kind == "double":
        net, x = net.double(), x.double()
    if kind == "axes":
        net, x = nn.Sequential(nn.Conv1d(1, 3, 3), nn.Tanh()), x[:, :, 0]
    if kind == "transposed":
        net = nn.Sequential(nn.ConvTranspose2d(1, 3, 3), nn.Tanh())
    if kind == "off":
        monkeypatch.setenv("STRIATE_KERNELS", "off")
    torch.compile(net, backend=backend)(x).sum().backward()
    assert "striate.chain.default" not in graphs[0]
