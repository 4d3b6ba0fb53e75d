from math import prod

import pytest
import torch

from striate.analysis import profile
from striate.models import build
from striate.spec import Spec

SPEC = Spec(channels=16, size=(15,), classes=("b", "d", "g"))


@pytest.mark.parametrize("name", ["tdnn", "tdnn2d"])
def test_any_length_is_heard(name):
    net = build(name, SPEC)
    assert net(torch.randn(2, 16, 40)).shape == (2, 3)


@pytest.mark.parametrize(("name", "hidden"), [("tdnn", (8, 13)), ("tdnn2d", (8, 12, 13))])
def test_layers_have_the_published_sizes(name, hidden):
    """C-14: 16 x 15, 8 x 13, 3 x 9, 3."""
    found = profile(build(name, SPEC), fields=False).layers
    shapes = [layer.shape for layer in found if layer.parameters]
    assert shapes[0] == hidden
    assert prod(shapes[1]) == 3 * 9
    assert found[-1].shape == (3,)


@pytest.mark.parametrize("name", ["tdnn", "tdnn2d"])
def test_a_sound_may_come_at_any_time(name):
    """C-47."""
    net = build(name, SPEC).double()
    x = torch.zeros(1, 16, 40, dtype=torch.float64)
    x[..., 12:20] = torch.randn(16, 8)
    for shift in (-3, 2, 9):
        torch.testing.assert_close(net(x.roll(shift, 2)), net(x), rtol=0, atol=1e-9)


def test_shared_frequency_hears_moved_bands():
    torch.manual_seed(0)
    x = torch.zeros(1, 32, 15, dtype=torch.float64)
    x[:, 14:18, 5:10] = torch.randn(4, 5)
    spec = Spec(channels=32, size=(15,), classes=("b", "d", "g"))
    net = build("tdnn2d", spec, invariant=True).double()
    moved = (net(x.roll(1, 1)) - net(x)).abs().max()
    assert moved < 1e-9


@pytest.mark.parametrize("name", ["tdnn", "tdnn2d"])
def test_pictures_are_refused(name):
    with pytest.raises(Exception, match="wants series"):
        build(name, Spec(channels=1, size=(28, 28), classes=("a", "b")))


def test_events_are_heard_where_they_are_loudest():
    torch.manual_seed(0)
    net = build("yamaguchi1990", Spec(channels=16, size=(60,), classes=("yes", "no"))).double()
    x = torch.randn(1, 16, 40, dtype=torch.float64)
    heard = net.heard(net.events(x))
    longer = torch.cat([x, x[..., :1].expand(1, 16, 20)], 2)
    said = net.events(longer)[..., :34]
    torch.testing.assert_close(net.heard(said), heard, rtol=0, atol=1e-12)


def test_only_the_loudest_time_gets_a_gradient():
    torch.manual_seed(0)
    net = build("yamaguchi1990", Spec(channels=16, size=(60,), classes=("yes", "no")), events=1)
    x = torch.randn(1, 16, 60, requires_grad=True)
    net.heard(net.events(x))[0, 0].backward()
    times = x.grad.abs().sum((0, 1)).nonzero()[:, 0]
    assert times.max() - times.min() == 6  # 3 frames, then 5
