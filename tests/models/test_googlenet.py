import torch

from striate.models import build
from striate.models.googlenet import GoogLeNet
from striate.spec import Spec


def test_helpers_answer_in_training_alone():
    net = build("googlenet", Spec(channels=3, size=(224, 224), classes=tuple("abc")), aux=True)
    assert isinstance(net, GoogLeNet)
    x = torch.randn(2, 3, 224, 224)
    assert [tuple(y.shape) for y in net.train()(x)] == [(2, 3)] * 3
    assert net.eval()(x).shape == (2, 3)


def test_modules_have_the_published_widths_and_counts():
    """C-22."""
    net = build("googlenet")
    widths = {name: block[-1].out for name, block in net.blocks.items()}
    assert list(widths.values()) == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    counts = {k: sum(p.numel() for p in block.parameters()) for k, block in net.blocks.items()}
    assert (counts["3a"], counts["5b"]) == (163_696, 1_444_080)
    others = [sum(p.numel() for p in part.parameters()) for part in (net.stem, net.head)]
    assert sum(counts.values()) + sum(others) == 6_998_552
