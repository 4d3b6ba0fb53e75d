"""Normalisation is part of a convolution in inference, and nobody can tell."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize, prune

from striate.kernels import accelerate
from striate.kernels.compiled import backend


class Block(nn.Module):
    """A residual block, and what may be asked of it besides."""

    def __init__(self, inside=False):
        super().__init__()
        self.first, self.one = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.two = nn.Conv2d(6, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.inside = inside

    def forward(self, x):
        between = self.first(x)
        y = self.two(self.second(self.one(between).relu()))
        return (y + x).relu(), between if self.inside else x


@pytest.fixture
def counted(monkeypatch):
    """Return the list of the channels that normalisation has had to work on."""
    found, true = [], F.batch_norm

    def batch_norm(x, *args, **kwargs):
        found.append(x.shape[1])
        return true(x, *args, **kwargs)

    monkeypatch.setattr(F, "batch_norm", batch_norm)
    return found


def trained(net):
    """Give normalisation something to do."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.5, 2)
            for p in m.parameters():
                nn.init.normal_(p)
    return net.eval()


def pair(net):
    """Return an accelerated copy and the network itself."""
    plain = trained(net)
    return accelerate(copy.deepcopy(plain)), plain


def close(found, wanted):
    """Hold an answer to another one."""
    found, wanted = (t[0] if isinstance(t, tuple) else t for t in (found, wanted))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


X = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_inference_normalises_nothing_and_answers_the_same(counted):
    fast, plain = pair(Block())
    wanted = plain(X)
    counted.clear()
    close(fast(X), wanted)
    assert counted == []


@torch.no_grad()
def test_what_is_read_inside_is_left_as_it_is(counted):
    fast, plain = pair(Block(inside=True))
    wanted = plain(X)
    counted.clear()
    found = fast(X)
    close(found[0], wanted[0])
    close(found[1], wanted[1])
    assert counted == [6]


@torch.no_grad()
def test_a_layer_that_is_called_by_itself_is_a_convolution_alone():
    fast, plain = pair(Block())
    for _ in range(2):
        close(fast.first(X), plain.first(X))
        close(fast.one(fast.first(X)), plain.one(plain.first(X)))
        fast(X)  # leaves nothing behind
    with pytest.raises(RuntimeError):
        fast(X[:, :3])
    close(fast.first(X), plain.first(X))


@torch.no_grad()
def test_other_code_over_the_same_layers_gets_what_it_asks_for():
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    fast, plain = pair(Block())
    found = extraction.create_feature_extractor(fast, ["first", "two"])(X)
    close(found["first"], plain.first(X))
    parts = nn.Sequential(fast.first, fast.one.train(False))
    close(parts[:1](X), plain.first(X))


@pytest.mark.parametrize("name", ["first", "one"])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
@torch.no_grad()
def test_a_hook_sees_what_it_saw(name, kind):
    seen = {}
    nets = dict(zip(("fast", "plain"), pair(Block()), strict=True))
    nets["fast"](X)
    for who, net in nets.items():
        module = net.get_submodule(name)
        getattr(module, kind)(lambda m, *given, who=who: seen.__setitem__(who, given[-1]))
        close(net(X), nets["plain"](X))
    close(seen["fast"], seen["plain"])


@torch.no_grad()
def test_a_hook_on_everything_sees_what_it_saw(counted):
    fast, plain = pair(Block())
    wanted = plain(X)
    counted.clear()
    handle = nn.modules.module.register_module_forward_hook(lambda m, given, y: None)
    try:
        close(fast(X), wanted)
    finally:
        handle.remove()
    assert counted == [6, 4]


@torch.no_grad()
def test_it_answers_by_the_parameters_of_the_moment():
    fast, plain = pair(Block())
    changes = [
        lambda net: net.first.weight.mul_(2),
        lambda net: net.one.running_var.fill_(3),
        lambda net: net.two.weight.data.neg_(),
        lambda net: setattr(net.one, "eps", 0.3),
        lambda net: net.train()(X) and net.eval(),
        lambda net: setattr(net, "two", nn.Identity()),
        lambda net: setattr(net, "one", trained(nn.BatchNorm2d(6, affine=False))),
    ]
    fast(X)
    for change in changes:
        for net in (fast, plain):
            torch.manual_seed(3)
            change(net)
        close(fast(X), plain(X))


def test_training_and_gradients_in_inference_are_those_of_the_layers(counted):
    fast, plain = pair(Block())
    for mode in (True, False):
        counted.clear()
        grads = []
        for net in (fast.train(mode), plain.train(mode)):
            x = X.clone().requires_grad_()
            net.zero_grad()
            net(x)[0].square().sum().backward()
            grads.append([x.grad, *(p.grad for p in net.parameters())])
        assert counted == [6, 4, 6, 4]
        for found, wanted in zip(*grads, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_frozen_networks_are_folded_with_gradients_on(counted):
    fast, plain = pair(Block())
    wanted = plain(X)
    counted.clear()
    with torch.enable_grad():
        close(fast.requires_grad_(False)(X), wanted)
    assert counted == []


@pytest.mark.parametrize("how", ["deepcopy", "file"])
@torch.no_grad()
def test_copies_are_folded_and_their_own(counted, how):
    fast, plain = pair(Block())
    assert list(fast.state_dict()) == list(plain.state_dict())
    fast(X)
    if how == "deepcopy":
        other = copy.deepcopy(fast)
    else:
        file = io.BytesIO()
        torch.save(fast, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    other.one.weight.zero_()
    fast.one.bias.zero_()
    wanted = copy.deepcopy(plain)
    wanted.one.weight.zero_()
    plain.one.bias.zero_()
    expected = wanted(X), plain(X)
    counted.clear()
    close(other(X), expected[0])
    close(fast(X), expected[1])
    assert counted == []


class Choosy(nn.Module):
    """Code that cannot be traced."""

    def __init__(self):
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(5, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.part(x)
        return self.norm(self.conv(y if y.sum() > 0 else -y))


@torch.no_grad()
def test_code_that_cannot_be_traced_is_folded_part_by_part(counted):
    fast, plain = pair(Choosy())
    wanted = plain(X)
    counted.clear()
    close(fast(X), wanted)
    assert counted == [3]


class Twice(nn.Module):
    """A layer that is used twice."""

    def __init__(self, conv):
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.twice = conv

    def forward(self, x):
        x = self.norm(self.conv(x))
        return self.last(self.conv(x)) if self.twice else self.norm(self.other(x))


@pytest.mark.parametrize("conv", [True, False])
@torch.no_grad()
def test_layers_that_are_used_twice_are_left_as_they_are(counted, conv):
    fast, plain = pair(Twice(conv))
    wanted = plain(X)
    counted.clear()
    close(fast(X), wanted)
    assert counted == [4, 4]


@torch.no_grad()
def test_a_part_that_was_accelerated_before_is_folded_in_the_whole(counted):
    plain = trained(nn.Sequential(nn.Conv2d(4, 4, 1), Block()))
    fast = copy.deepcopy(plain)
    accelerate(fast[1])
    wanted = plain(X), plain[1](X)
    counted.clear()
    for change in (nn.Module.eval, accelerate):
        net = change(fast)
        close(net(X), wanted[0])
        close(net[1](X), wanted[1])
    assert counted == []


@pytest.mark.parametrize("kind", ["double", "autocast"])
@torch.no_grad()
def test_other_types_are_left_as_they_are(counted, kind):
    fast, plain = pair(Block())
    if kind == "double":
        torch.testing.assert_close(fast.double()(X.double())[0], plain.double()(X.double())[0])
    else:
        with torch.autocast("cpu"):
            assert torch.equal(fast(X)[0], plain(X)[0])
    assert counted == [6, 4, 6, 4]


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@torch.no_grad()
def test_compiled_and_recorded_it_is_the_network_that_it_was():
    fast, plain = pair(nn.Sequential(Block(), nn.Identity()))
    fast(X)
    for net in (torch.compile(fast, backend=backend), torch.compile(fast, backend="eager")):
        close(net(X)[0], plain(X)[0])
    recorded = torch.jit.trace(fast, X)
    assert "striate::" not in str(recorded.inlined_graph)
    close(recorded(2 * X)[0], plain(2 * X)[0])


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_functions_of_torch_func_see_what_they_would(always_ours):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()).eval()
    net[1].running_mean.normal_()
    fast, x = accelerate(copy.deepcopy(net)), torch.randn(4, 3, 9, 8)
    tensors = [dict(model.named_parameters()) for model in (net, fast)]

    def loss(parameters, model, x):
        return torch.func.functional_call(model, parameters, (x,)).square().mean()

    both = list(zip(tensors, (net, fast), strict=True))
    answers = [torch.func.vmap(lambda one, m=model: m(one[None])[0])(x) for _, model in both]
    gradients = [torch.func.grad(loss)(given, model, x)["0.weight"] for given, model in both]
    slopes = [
        torch.func.jvp(lambda x, g=given, m=model: loss(g, m, x), (x,), (x,))[1]
        for given, model in both
    ]
    for plain, ours in (answers, gradients, slopes):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert not always_ours


def nested():
    """Return a network in which containers stand between convolution and normalisation."""
    inner = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1)), nn.Sequential(nn.BatchNorm2d(4)))
    return nn.Sequential(inner, nn.ReLU())


@pytest.mark.parametrize("place", ["0.0", "0.1"])
@torch.no_grad()
def test_a_hook_on_a_container_sees_what_it_saw(counted, place):
    seen = []
    for net in pair(nested()):
        hook = lambda m, given, y: seen.append((given[0].clone(), y.clone()))  # noqa: E731
        net.get_submodule(place).register_forward_hook(hook)
        net(X)
    for found, wanted in zip(*seen, strict=True):
        close(found, wanted)


@torch.no_grad()
def test_a_hook_around_both_costs_nothing(counted):
    fast, plain = pair(nested())
    wanted, seen = plain(X), []
    fast[0].register_forward_hook(lambda m, given, y: seen.append(y.clone()))
    counted.clear()
    close(fast(X), wanted)
    close(seen[0].relu(), wanted)
    assert counted == []


@pytest.mark.parametrize("place", ["0.0.0", "0.1.0", "0.1", "0"])
@torch.no_grad()
def test_a_forward_that_was_put_in_is_called_as_it_is(place):
    answers = []
    for net in pair(nested()):
        net(X)
        module = net.get_submodule(place)
        module.forward = lambda x, old=module.forward: old(x) * 2
        answers.append(net(X))
    close(*answers)


def use_twice(net):
    net.second = net.first


def put_first(net):
    net.second, net.first = net.first, nn.Conv2d(4, 4, 1)


def put_another(net):
    net.two = nn.BatchNorm2d(4)
    trained(net)


@pytest.mark.parametrize("change", [use_twice, put_first, put_another])
@torch.no_grad()
def test_layers_may_change_places_afterwards(counted, change):
    class Two(Block):
        def __init__(self):
            super().__init__()
            self.first, self.one = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.second = nn.Conv2d(4, 4, 1)

    fast, plain = pair(Two())
    fast(X)
    for net in (fast, plain):
        torch.manual_seed(1)
        change(net)
    wanted = plain(X)
    for _ in range(2):
        close(fast(X), wanted)
        close(accelerate(fast)(X), wanted)


@torch.no_grad()
def test_a_head_may_be_changed_and_the_rest_stays_folded(counted):
    fast, plain = pair(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Flatten()))
    fast[2] = plain[2] = nn.Identity()
    wanted = plain(X)
    counted.clear()
    close(fast(X), wanted)
    assert counted == []


class Skips(nn.Module):
    """Code that goes another way when it is told to."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.skip = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), False

    def forward(self, x, *, by=1.0):
        y = self.conv(x)
        return y * by if self.skip else self.norm(y) * by


@torch.no_grad()
def test_code_that_goes_another_way_gets_what_it_asks_for():
    fast, plain = pair(Skips())
    close(fast(X, by=2.0), plain(X, by=2.0))
    fast.skip = plain.skip = True
    close(fast(X, by=3.0), plain(X, by=3.0))
    fast.skip = plain.skip = False
    close(fast(X), plain(X))


@torch.no_grad()
def test_an_answer_is_passed_on_once():
    fast, plain = pair(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    close(fast[1](fast(X)), plain[1](plain(X)))
    close(fast[1](fast(X).relu_()), plain[1](plain(X).relu_()))


@torch.no_grad()
def test_an_answer_holds_nothing_but_numbers():
    fast, _ = pair(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    y, file = fast(X), io.BytesIO()
    assert not y.__dict__
    torch.save(y, file)
    file.seek(0)
    assert torch.equal(torch.load(file), y)


@torch.no_grad()
def test_an_error_leaves_nothing_behind(counted):
    fast, plain = pair(Block())
    fast.two.register_forward_pre_hook(lambda m, given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fast(X)
    fast.two._forward_pre_hooks.clear()
    wanted = plain(X)
    counted.clear()
    close(fast(X), wanted)
    assert counted == []


@torch.no_grad()
def test_a_layer_is_saved_and_copied_alone():
    fast, _ = pair(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Linear(1000, 1000)))
    fast[:2](X)
    file = io.BytesIO()
    torch.save(fast[0], file)
    assert file.tell() < 10_000
    assert all("striate" not in key for key in copy.deepcopy(fast[0]).__dict__)


def prune_some(norm):
    prune.l1_unstructured(norm, "weight", 0.5)


def parametrise(norm):
    parametrize.register_parametrization(norm, "weight", nn.Softplus())


def hold(norm):
    weight = norm.weight.detach()
    del norm.weight
    norm.register_buffer("weight", weight)


@pytest.mark.parametrize("change", [prune_some, parametrise, hold])
@pytest.mark.parametrize("name", ["first", "one"])
@torch.no_grad()
def test_what_is_no_plain_parameter_is_left_alone(name, change):
    fast, plain = pair(Block())
    for net in (fast, plain):
        net(X)
        change(net.get_submodule(name))
    close(fast(X), plain(X))


def test_hooks_are_not_called_while_the_code_is_looked_at():
    net, seen = nested(), []
    for module in net.modules():
        module.register_forward_hook(lambda *given: seen.append(given))
        module.register_forward_pre_hook(lambda *given: seen.append(given))
    accelerate(net)
    assert seen == []
    net(X)
    assert len(seen) == 2 * len(list(net.modules()))
