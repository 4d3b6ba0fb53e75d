import pytest
import torch
from torch import nn

from striate.models import build
from striate.models.ciresan import written
from striate.spec import Spec

SPEC = Spec(channels=1, size=(29, 29), classes=tuple("abc"))


def test_a_line_is_a_network():
    net = written(SPEC, "20C4-MP2-40C5-MP3-150N")
    shapes = []
    x = torch.zeros(1, 1, 29, 29)
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.Linear):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(20, 26, 26), (20, 13, 13), (40, 9, 9), (40, 3, 3), (150,), (3,)]


def test_tanh_behind_the_maximum_is_tanh_before_it():
    torch.manual_seed(0)
    net = written(SPEC, "3C4-MP2-4C5-MP3-5N")
    kinds = [type(layer).__name__ for layer in net]
    assert kinds[1:3] == kinds[4:6] == ["MaxPool2d", "ScaledTanh"]
    as_written = nn.Sequential(*[net[k] for k in (0, 2, 1, 3, 5, 4, *range(6, len(net)))])
    x = torch.randn(4, 1, 29, 29)
    assert torch.equal(net(x), as_written(x))


def test_a_line_may_begin_with_a_maximum():
    assert written(SPEC, "MP2-3C3-MP2")(torch.zeros(1, 1, 29, 29)).shape == (1, 3)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_any_axes(axes):
    spec = Spec(channels=2, size=(20,) * axes, classes=("a", "b"))
    assert written(spec, "4C3-MP2-5N")(torch.zeros(2, 2, *spec.size)).shape == (2, 2)


def test_windows_may_hang_over_the_end():
    spec = Spec(channels=1, size=(6, 6), classes=("a", "b"))
    floor, ceil = (written(spec, "1C2-MP2", hanging=h)[-1].in_features for h in (False, True))
    assert (floor, ceil) == (4, 9)


@pytest.mark.parametrize("text", ["20K4", "MP", "20C4--3N", ""])
def test_other_words_are_said(text):
    with pytest.raises(ValueError, match="is no part such as 20C4, MP2 or 150N"):
        written(SPEC, text)


def test_the_deep_net_has_the_published_weights_besides_its_biases():
    """C-18."""
    net = build("ciresan_mlp")
    weights = sum(p.numel() for p in net.parameters() if p.dim() == 2)
    biases = sum(p.numel() for p in net.parameters() if p.dim() == 1)
    assert (weights, biases) == (12_107_500, 7_510)
