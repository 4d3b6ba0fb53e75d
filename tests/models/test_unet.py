import pytest
import torch

from striate.errors import RecipeError
from striate.models import build
from striate.spec import Spec


@pytest.mark.parametrize("size", [(32,), (30, 21), (16, 12, 9)])
def test_every_position_is_answered_for_any_size(size):
    spec = Spec(channels=2, size=size, classes=tuple("abc"))
    net = build("unet", spec, width=4, depth=3)
    assert net(torch.randn(2, 2, *size)).shape == (2, 3, *size)


def test_impossible_sizes_are_said():
    with pytest.raises(RecipeError, match="'depth' of network 'unet' must be at least 1; got 0"):
        build("unet", width=4, depth=0)
