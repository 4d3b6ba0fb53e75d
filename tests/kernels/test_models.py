"""Networks that know nothing of us, of every family: torchvision's, and timm's where it is there.

Every convolution goes to our kernels, whichever PyTorch's would be the faster one for.
"""

import copy
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models
from torchvision.ops import StochasticDepth

from striate.kernels.accelerated import report
from striate.kernels.compiled import backend
from striate.models.resnet import ResNet
from striate.spec import Spec

pytestmark = pytest.mark.slow

FAMILIES = {
    "plain": "vgg11_bn",
    "squeezed": "squeezenet1_1",
    "inception": "googlenet",
    "residual": "resnet18",
    "dense": "densenet121",
    "inverted residual": "mobilenet_v2",
    "squeeze-excite": "mobilenet_v3_small",
    "searched": "efficientnet_b0",
    "grouped": "resnext50_32x4d",
    "grouped, squeeze-excite": "regnet_y_400mf",
    "shuffled": "shufflenet_v2_x1_0",
    "dilated": "deeplabv3_mobilenet_v3_large",
    "7 x 7 depthwise": "convnext_tiny",
    "anti-aliased": "antialiased resnet18",
}
OPTIONS = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "deeplabv3_mobilenet_v3_large": {"weights_backbone": None},
}
TIMM = ("resnetblur18", "seresnet18", "convnext_atto", "resnest14d", "dla34", "repvgg_a0")
TRAINED = ("resnet18", "googlenet", "mobilenet_v2")
AXES = {
    1: (2, 3, 1500),
    3: (2, 3, 6, 40, 36),
}  # shapes that networks of one and three axes are given


class Blurred(nn.Sequential):
    """A convolution at every position, then every second of its blurred answers."""

    def forward(self, x):
        x = self[0](x)
        taps = torch.tensor([1.0, 2, 1], dtype=x.dtype) / 4
        kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, stride=2, groups=x.shape[1])


def antialiased(net):
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
            net.set_submodule(name, Blurred(module))
    return net


def network(name):
    """Return a network with random weights, every part of which shows in its answer."""
    torch.manual_seed(0)
    plain = name.removeprefix("antialiased ")
    if name in TIMM:
        import timm

        net = timm.create_model(name, num_classes=8)
    else:
        net = models.get_model(plain, weights=None, num_classes=8, **OPTIONS.get(name, {}))
    net = antialiased(net) if plain != name else net
    for module in net.modules():
        if isinstance(module, nn.Dropout | StochasticDepth):
            module.p = 0.0
    for path, parameter in net.named_parameters():
        if path.endswith(("layer_scale", "gamma")):  # of 1e-6, which would hide its branch
            nn.init.constant_(parameter, 0.5)
    return measured(net)


def of_axes(axes, stem="imagenet"):
    """Return a residual network of one or three axes, with the statistics of what it sees."""
    torch.manual_seed(0)
    shape = AXES[axes]
    spec = Spec(channels=3, size=shape[2:], classes=tuple("abcd"))
    net, x = ResNet(spec, (2, 1, 1), (16, 32, 48), stem=stem), torch.randn(shape)
    return measured(net, x), x


def measured(net, x=None):
    """Give batch normalisation the statistics of what it sees, so that answers stay moderate."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(8, 3, 96, 96) if x is None else x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net


def answer(net, x):
    y = net(x)
    return y["out"] if isinstance(y, dict) else y


def gradients(net, x):
    x = x.clone().requires_grad_()
    y = answer(net.train(), x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return torch.autograd.grad((y * weights).sum(), [x, *net.parameters()], materialize_grads=True)


def error(found, wanted):
    """Return the largest error, relative to the largest answer."""
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


def distance(found, wanted):
    """Return how far all gradients together are from those that are wanted."""
    apart = sum((a.double() - b).square().sum() for a, b in zip(found, wanted, strict=True))
    return float((apart / sum(b.square().sum() for b in wanted)).sqrt())


@pytest.fixture
def smooth(monkeypatch):
    """No corners and no maxima: next to one, an answer's rounding decides where a gradient goes."""

    def average(x, size, stride=None, padding=0, dilation=1, ceil_mode=False, **_):
        return F.avg_pool2d(x, size, stride, padding, ceil_mode)

    monkeypatch.setattr(F, "max_pool2d", average)
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.silu(x, inplace))
    monkeypatch.setattr(F, "hardtanh", lambda x, low, high, inplace=False: F.silu(x, inplace))
    monkeypatch.setattr(F, "hardswish", lambda x, inplace=False: F.silu(x, inplace))
    monkeypatch.setattr(F, "hardsigmoid", lambda x, inplace=False: x.sigmoid())


def same_answers_and_gradients(name, counts):
    net, x = network(name), torch.randn(2, 3, 96, 96)
    exact, changed = copy.deepcopy(net).double(), report(copy.deepcopy(net))
    fast, layers = changed.model, sum(isinstance(m, nn.Conv2d) for m in net.modules())
    kinds = nn.Conv2d, nn.BatchNorm2d
    known = [m for m in net.modules() if isinstance(m, kinds)]
    ours = sum(type(m) in kinds for m in known)  # timm's own normalise and rectify in one
    assert (len(changed.swapped), len(changed.left)) == (ours, len(known) - ours)
    with torch.no_grad():
        wanted = answer(exact.eval(), x.double())
        assert error(answer(fast.eval(), x), wanted) <= 1e-4
    assert counts["forward"] >= layers
    found, wanted = gradients(fast, x), gradients(exact, x.double())
    assert distance(found, wanted) <= 1e-4
    assert counts["weight"] >= layers
    assert counts["input"] >= layers


@pytest.mark.parametrize("name", FAMILIES.values(), ids=FAMILIES)
def test_accelerated_answers_and_gradients_are_the_same(name, always_ours, smooth):
    same_answers_and_gradients(name, always_ours)


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed: its networks wait")
def test_those_of_timm_are_the_same(name, always_ours, smooth):
    same_answers_and_gradients(name, always_ours)


@pytest.mark.parametrize("name", FAMILIES.values(), ids=FAMILIES)
def test_compiled_answers_are_the_same(name, always_ours):
    torch._dynamo.reset()
    net, x = network(name).eval(), torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        wanted = answer(copy.deepcopy(net).double(), x.double())
        found = answer(torch.compile(net, backend=backend), x)
    assert error(found, wanted) <= 1e-4
    assert always_ours["forward"] >= sum(isinstance(m, nn.Conv2d) for m in net.modules())


@pytest.mark.parametrize("name", TRAINED)
def test_compiled_gradients_are_the_same(name, always_ours):
    torch._dynamo.reset()
    net, x = network(name), torch.randn(2, 3, 96, 96)
    exact, layers = (
        copy.deepcopy(net).double(),
        sum(isinstance(m, nn.Conv2d) for m in net.modules()),
    )
    found = gradients(torch.compile(net, backend=backend), x)
    assert distance(found, gradients(exact, x.double())) <= 0.05  # rectifiers with a corner
    assert always_ours["weight"] >= layers
    assert always_ours["input"] >= layers


@pytest.mark.parametrize("axes", AXES)
def test_networks_of_other_axes_answer_the_same_compiled(axes, always_ours):
    torch._dynamo.reset()
    net, x = of_axes(axes)
    exact, fast = copy.deepcopy(net).double(), torch.compile(net, backend=backend)
    layers = sum(isinstance(m, nn.Conv1d | nn.Conv3d) for m in net.modules())
    with torch.no_grad():
        wanted = exact.eval()(x.double())
        net.eval()
        assert error(fast(x), wanted) <= 1e-4
    assert always_ours["forward"] >= layers
    found, wanted = gradients(fast, x), gradients(exact, x.double())
    assert distance(found, wanted) <= 0.02  # rectifiers with a corner
    assert always_ours["weight"] >= layers
    assert always_ours["input"] >= layers


@pytest.mark.parametrize("axes", AXES)
def test_gradients_of_other_axes_are_the_same_compiled(axes, always_ours, smooth):
    torch._dynamo.reset()
    net, x = of_axes(axes, "cifar")
    exact = copy.deepcopy(net).double()
    found = gradients(torch.compile(net, backend=backend), x)
    assert distance(found, gradients(exact, x.double())) <= 1e-4
    assert always_ours["weight"] == always_ours["input"] > 0
