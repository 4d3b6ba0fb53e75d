import pytest
import torch

from striate.errors import RecipeError
from striate.models import build
from striate.spec import Spec


@pytest.mark.parametrize(("axes", "least"), [(1, 4), (2, 4), (3, 6)])
def test_what_network_in_network_takes_it_runs(axes, least):
    for size in [(least,) * axes, (least, *[19] * (axes - 1)), (least + 1,) * axes]:
        net = build("nin", Spec(channels=1, size=size, classes=("a", "b"))).eval()
        assert net(torch.randn(1, 1, *size)).shape == (1, 2)
    for size in [(least - 1,) * axes, (*[19] * (axes - 1), least - 1)]:
        with pytest.raises(RecipeError, match=rf"of at least {least} along each axis; got \("):
            build("nin", Spec(channels=1, size=size, classes=("a", "b")))


@pytest.mark.parametrize("name", ["nin", "allcnn_c"])
@pytest.mark.parametrize("size", [(32, 32), (40, 28)])
def test_any_size_is_averaged(name, size):
    net = build(name, Spec(channels=3, size=size, classes=tuple("abc"))).eval()
    assert net(torch.randn(2, 3, *size)).shape == (2, 3)
