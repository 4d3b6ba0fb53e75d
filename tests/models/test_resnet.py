import pytest
import torch

from striate.models import build
from striate.models.resnet import Block, Padding, ResNet
from striate.spec import Spec


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_shortcut_a_subsamples_and_pads_channels_with_zeros(axes):
    x = torch.arange(float(2 * 5**axes)).reshape(1, 2, *[5] * axes)
    y = Padding(axes, 2, 4, 2)(x)
    assert y.shape == (1, 4, *[3] * axes)
    assert torch.equal(y[:, 1:3], x[(slice(None), slice(None), *[slice(None, None, 2)] * axes)])
    assert y[:, [0, 3]].abs().sum() == 0


def test_a_block_without_residual_is_the_rectified_shortcut():
    block = Block(2, 4, 4, 1, False, Padding).eval()
    for p in block.residual.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(block(x), x.relu())


def test_torchvision_weights_would_fit():
    torchvision = pytest.importorskip("torchvision")
    ours = sorted(tuple(p.shape) for p in build("resnet18").parameters())
    theirs = sorted(tuple(p.shape) for p in torchvision.models.resnet18().parameters())
    assert ours == theirs


def test_an_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="stem must be 'imagenet' or 'cifar'; got 'x'"):
        ResNet(Spec(channels=1, size=(8, 8), classes=("a",)), (1,), (8,), stem="x")


def test_without_shortcuts_the_network_is_the_plain_one():
    block = Block(2, 4, 8, 2, False, None).eval()
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(block(x), block.residual(x).relu())
    pair = [
        dict(build("resnet20", shortcuts=shortcuts).named_parameters())
        for shortcuts in (True, False)
    ]
    assert pair[0].keys() == pair[1].keys()  # shortcuts A hold no weights
