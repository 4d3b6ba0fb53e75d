"""The backend of torch.compile: the same answers, gradients and statistics; ours in the graph."""

import copy
from importlib.metadata import entry_points

import pytest
import torch
from torch import nn

from striate.kernels import compiled
from striate.kernels.compiled import backend

# torch's own tracing warns of what it does with .grad
pytestmark = pytest.mark.filterwarnings("ignore")


class Residual(nn.Module):
    """A rectifier behind a sum."""

    def __init__(self, c, conv=nn.Conv2d, norm=nn.BatchNorm2d):
        super().__init__()
        self.first = nn.Sequential(
            conv(c, c, 3, padding=1, bias=False), norm(c), nn.ReLU(inplace=True)
        )
        self.second = nn.Sequential(conv(c, c, 3, padding=1), norm(c))

    def forward(self, x):
        return (x + self.second(self.first(x))).relu()


class Kept(nn.Module):
    """Both sides of a rectifier are used."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return y.relu() + y.sigmoid()


class Inverted(nn.Module):
    """Depthwise kernels, ReLU6 and a sum with nothing behind it."""

    def __init__(self, c, act=nn.ReLU6):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(c, 3 * c, 1, bias=False), nn.BatchNorm2d(3 * c), act(),
            nn.Conv2d(3 * c, 3 * c, 3, padding=1, groups=3 * c), nn.BatchNorm2d(3 * c), act(),
            nn.Conv2d(3 * c, c, 1), nn.BatchNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        return x + self.inner(x)


class Plain(nn.Module):
    """No normalisation: a sum and bounds right behind convolutions; one answer read twice."""

    def __init__(self, c):
        super().__init__()
        self.first, self.second = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1)
        self.third = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x):
        y = nn.functional.hardtanh(self.first(x), -0.3, 0.4)
        z = self.second(y)
        return (self.third(y) + z).relu() + z.relu() + z.sum((2, 3), keepdim=True)


def networks():
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return {
        "plain": nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), *head
        ),
        "residual": nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), Residual(8), Residual(8), *head),
        "kept": nn.Sequential(Kept(), *head),
        "inverted": nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), Inverted(8), Inverted(8), *head),
        "without": nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(), Plain(8), Plain(8), *head),
        "odd": nn.Sequential(
            nn.Conv2d(3, 8, 3, groups=1, dilation=2), nn.ConvTranspose2d(8, 8, 2, stride=2),
            nn.BatchNorm2d(8, momentum=0.3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4),
            nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU(), *head,
        ),
        "line": nn.Sequential(
            nn.Flatten(2), nn.Conv1d(3, 8, 5, stride=2), nn.BatchNorm1d(8), nn.ReLU(),
            nn.MaxPool1d(3, 2, 1), Residual(8, nn.Conv1d, nn.BatchNorm1d), nn.AvgPool1d(2),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4),
        ),
        "block": nn.Sequential(
            nn.Unflatten(3, (3, 4)), nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(),
            nn.MaxPool3d(3, 2, 1), Residual(8, nn.Conv3d, nn.BatchNorm3d),
            nn.AvgPool3d(2, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 4),
        ),
    }  # fmt: skip


NAMES = list(networks())


@pytest.fixture(autouse=True)
def anew():
    torch._dynamo.reset()


def step(net, x):
    loss = net(x).square().sum()
    return loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_training_is_the_same(name):
    plain, x = networks()[name], torch.randn(6, 3, 12, 12)
    fast = copy.deepcopy(plain)
    wanted, found = step(plain, x), step(torch.compile(fast, backend=backend), x)
    largest = max(float(grad.norm()) for grad in wanted)
    for one, other in zip(found, wanted, strict=True):
        # an answer next to 0 may fall to either side of the rectifier: a gradient more or less
        assert (one - other).norm() < 0.02 * other.norm() + 1e-4 * largest
    for (name, one), (_, other) in zip(fast.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


BOTH = [(6, 12), (5, 16), (9, 14)]  # batch and height; a graph of symbols comes with the second
BATCHES = [(6, 12), (5, 12), (9, 12)]
SIZES = [*((name, BOTH) for name in NAMES), ("odd", BATCHES), ("plain", BATCHES)]
LONG = ("line", "block", "odd")  # to compile, at every size
TRAINED = [
    pytest.param(*case, marks=pytest.mark.slow) if case[0] in LONG else case for case in SIZES
]


@pytest.mark.parametrize(("name", "sizes"), TRAINED, ids=str)
def test_training_goes_on_with_other_sizes(name, sizes):
    plain = networks()[name]
    fast = copy.deepcopy(plain)
    compiled = torch.compile(fast, backend=backend)
    for batch, height in sizes:
        fast.load_state_dict(plain.state_dict())
        x = torch.randn(batch, 3, height, 12)
        wanted, found = step(plain, x), step(compiled, x)
        largest = max(float(grad.norm()) for grad in wanted)
        for one, other in zip(found, wanted, strict=True):
            assert (one - other).norm() < 0.02 * other.norm() + 1e-4 * largest
        for one, other in zip(fast.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "sizes"), SIZES, ids=str)
@torch.no_grad()
def test_inference_goes_on_with_other_sizes(name, sizes):
    plain = networks()[name]
    plain(torch.randn(6, 3, 12, 12))  # statistics
    fast = torch.compile(copy.deepcopy(plain.eval()), backend=backend)
    for batch, height in sizes:
        x = torch.randn(batch, 3, height, 12)
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "inverted"])
def test_sizes_that_change_cost_no_operator(monkeypatch, name):
    """A graph of symbols has as many of ours as one of numbers."""
    net, found = networks()[name], []
    for dynamic in (False, True):
        torch._dynamo.reset()
        x = torch.randn(4, 3, 12, 12)
        text = graphs(monkeypatch, torch.compile(net, backend=backend, dynamic=dynamic), x)
        found.append(sorted(target for target in text if "striate" in target))
        monkeypatch.undo()
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["residual", "inverted", "odd", "line"])
@torch.no_grad()
def test_an_empty_batch_has_an_empty_answer(name):
    net = networks()[name].eval()
    compiled = torch.compile(net, backend=backend)
    for batch in (2, 0, 3, 0):
        x = torch.randn(batch, 3, 12, 12)
        torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_inference_is_the_same(name):
    plain, x = networks()[name], torch.randn(6, 3, 12, 12)
    plain(x)  # statistics
    plain.eval()
    fast = torch.compile(copy.deepcopy(plain), backend=backend)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)


def graphs(monkeypatch, net, x):
    """Return the targets of the graph after it is rewritten, called once."""
    seen = []

    def spy(module):
        changed = rewrite(module)
        seen.append([str(node.target) for node in changed.graph.nodes])
        return changed

    rewrite = compiled.rewrite
    monkeypatch.setattr(compiled, "rewrite", spy)
    answer = torch.compile(net, backend=backend)(x)
    if answer.requires_grad:
        answer.sum().backward()
    return seen[0]


@pytest.mark.parametrize("name", ["plain", "line", "block"])
def test_training_has_our_operators(monkeypatch, name):
    names = graphs(monkeypatch, networks()[name], torch.randn(2, 3, 12, 12))
    text = " ".join(names)
    for word in ("convolve", "convolve_weight", "normalise", "normalise_backward"):
        assert f"striate.{word}.default" in text
    for word in ("aten.convolution", "batch_norm", "aten.relu", "threshold_backward"):
        assert word not in text


@pytest.mark.parametrize("name", ["plain", "line", "block"])
def test_inference_has_normalisation_in_the_kernels(monkeypatch, name):
    net = networks()[name].eval().requires_grad_(False)
    text = " ".join(graphs(monkeypatch, net, torch.randn(2, 3, 12, 12)))
    fused = "pooled" if name == "plain" else "clipped"
    assert f"striate.convolve_{fused}.default" in text
    for word in ("batch_norm", "aten.relu", "aten.convolution"):
        assert word not in text


@pytest.mark.parametrize("name", ["residual", "inverted", "line", "block"])
@pytest.mark.parametrize("train", [True, False])
def test_sums_and_bounds_move_into_what_is_before_them(monkeypatch, name, train):
    net = networks()[name].train(train).requires_grad_(train)
    text = " ".join(graphs(monkeypatch, net, torch.randn(2, 3, 12, 12)))
    for word in ("aten.relu", "aten.hardtanh", "threshold_backward", "batch_norm"):
        assert word not in text
    forward = text.partition("backward")[0]
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())
    assert forward.count("aten.add.Tensor") == norms  # of its counter, or to its variance: no sum


@pytest.mark.parametrize("name", ["residual", "inverted", "without", "line", "block"])
def test_gradients_of_two_branches_are_added_by_a_convolution(monkeypatch, name):
    net = networks()[name]
    text = " ".join(graphs(monkeypatch, net, torch.randn(2, 3, 12, 12)))
    blocks = sum(isinstance(module, Residual | Inverted | Plain) for module in net.modules())
    assert text.count("striate.convolve_input_added.default") == blocks


@pytest.mark.parametrize("end", [nn.Conv2d(8, 4, 3), nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU())])
def test_a_network_that_ends_in_our_operators_computes_nothing_twice(monkeypatch, end):
    parted, default = [], compiled.default_partition

    def spy(*args, **kwargs):
        parted.extend(default(*args, **kwargs))
        return parted

    monkeypatch.setattr(compiled, "default_partition", spy)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), copy.deepcopy(end))
    torch.compile(net, backend=backend)(torch.randn(20, 3, 12, 12)).sum().backward()
    forward, backward = ([str(node.target) for node in part.graph.nodes] for part in parted)
    assert sum("striate" in target for target in forward) == 3
    ours_ = [target for target in backward if "striate" in target]
    assert len(ours_) == 4  # two gradients to kernels, one to an input, one of normalisation


def test_what_another_reader_needs_stays(monkeypatch):
    text = " ".join(graphs(monkeypatch, networks()["kept"], torch.randn(2, 3, 12, 12)))
    assert "striate.normalise.default" in text
    assert "aten.relu" in text


def test_off_leaves_the_graph_alone(monkeypatch):
    monkeypatch.setenv("STRIATE_KERNELS", "off")
    text = " ".join(graphs(monkeypatch, networks()["plain"], torch.randn(2, 3, 12, 12)))
    assert "striate." not in text


def test_other_types_are_left_to_torch(monkeypatch):
    net, x = networks()["plain"].double(), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    assert "striate." not in " ".join(graphs(monkeypatch, net, x))


def test_an_installation_brings_the_name():
    points = entry_points(group="torch_dynamo_backends", name="striate")
    if not points:
        pytest.skip("Striate is not installed, only on the path")
    assert {point.load() for point in points} == {backend}


def test_what_was_a_view_may_lie_channels_last():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(800, 4))
    x = torch.randn(2, 3, 12, 12)
    fast = torch.compile(copy.deepcopy(net), backend=backend)
    torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)
