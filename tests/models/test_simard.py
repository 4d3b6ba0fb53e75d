import pytest
import torch

from striate.models import build
from striate.spec import Spec


@pytest.mark.parametrize("size", [(28, 28), (29, 29), (31, 40)])
def test_even_sizes_get_one_more(size):
    net = build("simard2003", Spec(channels=1, size=size, classes=tuple("abc")))
    assert net(torch.randn(2, 1, *size)).shape == (2, 3)


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
