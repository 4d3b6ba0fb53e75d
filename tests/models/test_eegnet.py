import torch
from torch import nn

from striate.models import build
from striate.recipe import Recipe
from striate.spec import Spec
from striate.train.loop import steps

SPEC = Spec(channels=22, size=(256,), classes=tuple("abcd"))


def test_norms_are_held():
    net = build("eegnet", SPEC).eval()
    with torch.no_grad():
        net.spatial.weight.mul_(100)
    x = torch.randn(2, 22, 256)
    first = net(x)
    with torch.no_grad():
        net.spatial.weight.mul_(10)
    torch.testing.assert_close(net(x), first)


def norms(net):
    weights = net.state_dict()
    return weights["spatial.weight"].flatten(1).norm(dim=1), weights["head.weight"].norm(dim=1)


def test_stored_weights_hold_the_norms_too():
    """A010: after updates that would make them long."""
    torch.manual_seed(0)
    net = build("eegnet", SPEC)
    optimizer = torch.optim.SGD(net.parameters(), lr=50)
    x, y = torch.randn(8, 22, 256), torch.arange(8) % 4
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    said = net.eval()(x)
    filters, rows = norms(net)
    assert filters.max() <= 1.00001
    assert rows.max() <= 0.2500025
    assert torch.equal(net.spatial.weight.flatten(1).norm(dim=1), filters)
    torch.testing.assert_close(net(x), said)


def test_a_training_holds_the_norms_before_each_update():
    """So that compiled ones, whose graphs project nothing, are the same."""
    torch.manual_seed(0)
    net, longest = build("eegnet", SPEC), []

    def loss(model, x, y):
        longest.append(float(model.head.weight.detach().norm(dim=1).max()))
        return nn.functional.cross_entropy(model(x), y)

    batches = [(torch.randn(8, 22, 256), torch.arange(8) % 4)] * 4
    for _ in steps(net, batches, Recipe(epochs=1, optimizer="sgd", lr=50), loss=loss):
        pass
    assert len(longest) == 4
    assert max(longest) <= 0.2500025


def test_two_passes_before_one_backward_pass_are_one_of_both():
    net, x = build("eegnet", SPEC, dropout=0.0), torch.randn(4, 22, 256)
    with torch.no_grad():
        net.spatial.weight.mul_(100)
    (net(x).sum() + net(x).sum()).backward()
    twice = net.spatial.weight.grad.clone()
    net.zero_grad()
    net(x).sum().backward()
    torch.testing.assert_close(twice, 2 * net.spatial.weight.grad, rtol=1e-4, atol=1e-4)


def test_size_of_the_paper():
    assert sum(p.numel() for p in build("eegnet").parameters()) < 3_500
    assert build("eegnet", SPEC)(torch.randn(3, 22, 256)).shape == (3, 4)
