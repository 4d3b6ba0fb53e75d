import torch
from torch import nn

from striate.models import build
from striate.spec import Spec


def test_layers_have_the_published_counts():
    """C-21."""
    weighted = [m for m in build("alexnet").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in weighted]
    assert counts == [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]


def test_two_groups_are_two_towers():
    torch.manual_seed(0)
    grouped = nn.Conv2d(8, 6, 3, groups=2)
    towers = [nn.Conv2d(4, 3, 3) for _ in range(2)]
    for k, tower in enumerate(towers):
        tower.weight.data, tower.bias.data = grouped.weight[3 * k :][:3], grouped.bias[3 * k :][:3]
    x = torch.randn(2, 8, 6, 6)
    joined = torch.cat([tower(part) for tower, part in zip(towers, x.chunk(2, 1), strict=True)], 1)
    torch.testing.assert_close(grouped(x), joined)


def test_small_pictures_are_answered():
    net = build("alexnet", Spec(channels=3, size=(67, 67), classes=("a", "b"))).eval()
    assert net(torch.randn(2, 3, 67, 67)).shape == (2, 2)
