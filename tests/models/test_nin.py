import pytest
import torch

from striate.models import build
from striate.spec import Spec


@pytest.mark.parametrize("name", ["nin", "allcnn_c"])
@pytest.mark.parametrize("size", [(32, 32), (40, 28)])
def test_any_size_is_averaged(name, size):
    net = build(name, Spec(channels=3, size=size, classes=tuple("abc"))).eval()
    assert net(torch.randn(2, 3, *size)).shape == (2, 3)
