"""Training steps as graphs: the same losses, and a way on where a network cannot be traced."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from striate.device import place
from striate.errors import RecipeError
from striate.kernels import reason
from striate.models import build
from striate.recipe import Recipe
from striate.spec import Spec
from striate.train.compilation import check_compile, compiled, pays
from striate.train.loop import steps
from striate.train.losses import cross_entropy, loss_of

SPEC = Spec(channels=3, size=(12, 12), classes=("a", "b", "c"))
CPU = torch.device("cpu")
NET = SimpleNamespace(macs=1_000_000, layers=[None] * 10)


class Batches:
    """Two sizes of batches in turn, as loaders cut them."""

    def __init__(self, shape=SPEC.shape):
        self.shape = shape

    def __iter__(self):
        draw = torch.Generator().manual_seed(0)
        for count in (8, 7, 8):
            x = torch.randn(count, *self.shape, generator=draw)
            yield x, torch.randint(0, 3, (count,), generator=draw)

    def __len__(self):
        return 3


def learnt(net, loss, shape=SPEC.shape):
    """Return the losses of two epochs; between updates the network is asked, as a run does."""
    found = []
    for step in steps(net, Batches(shape), Recipe(epochs=2), loss=loss):
        found.append(float(step.loss))
        net.eval()(torch.zeros(2, *shape))
    return found


class Own(nn.Module):
    """A network with a loss of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(800, 3)

    def forward(self, x):
        return self.linear(self.conv(x).tanh().flatten(1))

    def criterion(self, answer, y, *, weights=None):
        return (answer - nn.functional.one_hot(y, 3)).square().mean()


SIGNAL = Spec(channels=8, size=(64,), classes=("a", "b", "c"))
NETS = {
    "fastnet": lambda: build("fastnet", SPEC),
    "resnet20": lambda: build("resnet20", SPEC),
    "own": Own,
    "series": lambda: build("fastnet", SIGNAL),
    "eegnet": lambda: build("eegnet", SIGNAL, dropout=0.0),  # which projects its weights first
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(k, marks=[pytest.mark.slow] * (k in ("resnet20", "eegnet"))) for k in NETS],
)
def test_a_network_learns_the_same(name):
    torch.manual_seed(0)
    spec = SIGNAL if name in ("series", "eegnet") else SPEC
    net, said = NETS[name](), []
    twin = copy.deepcopy(net)
    net, twin = place(net, CPU, spec.axes), place(twin, CPU, spec.axes)
    alone = learnt(net, loss_of(net, 0.1), spec.shape)
    graphs = compiled(loss_of(twin, 0.1), twin, 8, said.append)
    assert learnt(twin, graphs, spec.shape) == pytest.approx(alone, rel=1e-3)
    assert said == []
    assert list(net.state_dict()) == list(twin.state_dict())


def test_only_whole_batches_are_traced():
    sizes = []

    class Noted(Own):
        def forward(self, x):
            if not torch.compiler.is_compiling():
                sizes.append(len(x))
            return super().forward(x)

    net = Noted()
    loss = compiled(loss_of(net), net, 8, print)
    for x, y in [*Batches(), *Batches()]:
        loss(net, x, y)
    assert sizes == [7, 7]


class Counting(nn.Module):
    """Another network in every step."""

    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(432, 3), 0

    def forward(self, x):
        self.calls += 1
        for _ in range(self.calls % 50):
            x = x * 1.01
        return self.linear(x.flatten(1))


def test_what_is_another_network_in_every_step_goes_on_without():
    torch.manual_seed(0)
    net, said = Counting(), []
    twin = copy.deepcopy(net)
    loss = compiled(cross_entropy(), net, 8, said.append)
    for x, y in list(Batches()) * 10:
        assert loss(net, x, y).item() == pytest.approx(cross_entropy()(twin, x, y).item(), rel=1e-5)
    assert len(said) == 1
    assert "traced anew in every step" in said[0]


def test_a_python_without_torch_compile_goes_on_without(monkeypatch):
    def refused(*_, **__):
        raise RuntimeError("torch.compile is not supported on Python 4\nat all")

    monkeypatch.setattr(torch, "compile", refused)
    net, said = nn.Sequential(nn.Flatten(), nn.Linear(432, 3)), []
    x, y = next(iter(Batches()))
    assert torch.equal(
        compiled(cross_entropy(), net, 8, said.append)(net, x, y), cross_entropy()(net, x, y)
    )
    assert said == [
        "training steps cannot be compiled and are taken as before: torch.compile is not supported "
        "on Python 4"
    ]


def test_a_networks_own_error_stays_its_own():
    net, said = nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), []
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        compiled(cross_entropy(), net, 8, said.append)(net, *next(iter(Batches())))


@pytest.mark.parametrize(
    ("words", "macs", "wanted"),
    [
        ({"seconds": 99}, 1e9, False),
        ({"seconds": 100}, 1e6, True),
        ({"seconds": 100}, 1e3, False),  # a network so small that calls are what takes time
        ({"epochs": 1}, 1e6, False),
        ({"epochs": 20}, 1e7, True),
        ({"epochs": 1, "seconds": 1000}, 1e6, False),  # whichever comes first
        ({"epochs": 20, "compile": "off"}, 1e7, False),
        ({"seconds": 1, "compile": "on"}, 1e3, True),
    ],
)
def test_it_pays_in_trainings_of_minutes(words, macs, wanted):
    net = SimpleNamespace(macs=macs, layers=NET.layers)
    assert pays(Recipe(batch=64, **words), True, 60_000, lambda: net) is wanted
    if words.get("compile") != "on":
        assert not pays(Recipe(batch=64, **words), False, 60_000, lambda: net)


def test_what_cannot_be_counted_is_not_compiled():
    def uncounted():
        raise ValueError("layer 'head' gives no tensor")

    assert not pays(Recipe(batch=64, seconds=1000), True, 60_000, uncounted)


def test_to_insist_where_it_cannot_be_is_an_error():
    with pytest.raises(RecipeError, match="compile = on wants a CPU"):
        check_compile(Recipe(compile="on", device="cuda"), False)


@pytest.mark.skipif(bool(reason()), reason="Striate's kernels are not built here")
def test_same_seed_same_bits():
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        net = place(build("fastnet", SPEC, width=8), CPU, 2)
        learnt(net, compiled(loss_of(net, 0.1), net, 8, print))
        found.append(net.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
