import torch

from striate.models import build
from striate.spec import Spec

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


def test_size_of_the_paper():
    assert sum(p.numel() for p in build("eegnet").parameters()) < 3_500
    assert build("eegnet", SPEC)(torch.randn(3, 22, 256)).shape == (3, 4)
