import pytest
import torch

from striate.analysis import profile
from striate.models import build
from striate.spec import Spec


@pytest.mark.parametrize("size", [(28, 28), (29, 29), (31, 40)])
def test_even_sizes_get_one_more(size):
    net = build("simard2003", Spec(channels=1, size=size, classes=tuple("abc")))
    assert net(torch.randn(2, 1, *size)).shape == (2, 3)


def test_layers_have_the_published_counts():
    """C-17; the perceptron of 800 units that it is compared to has 636,010."""
    layers = profile(build("simard2003"), fields=False).layers
    counts = [layer.parameters for layer in layers if layer.parameters]
    assert counts == [130, 6_300, 125_100, 1_010]
    spec = Spec(channels=1, size=(28, 28), classes=tuple("0123456789"))
    peer = build("ciresan_mlp", spec, units="800")
    assert sum(p.numel() for p in peer.parameters()) == 636_010


def test_28_and_29_are_one_net():
    shapes = [
        [
            p.shape
            for p in build(
                "simard2003", Spec(channels=1, size=(s, s), classes=("a", "b"))
            ).parameters()
        ]
        for s in (28, 29)
    ]
    assert shapes[0] == shapes[1]
