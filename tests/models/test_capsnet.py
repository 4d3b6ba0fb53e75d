import pytest
import torch

from striate.layers import margin_loss
from striate.models import build
from striate.spec import Spec

SPEC = Spec(channels=1, size=(28, 28), classes=tuple("abc"))


def test_lengths_are_answers_and_one_capsule_draws():
    net = build("capsnet", SPEC, maps=16, types=2, decoder=True).eval()
    x = torch.rand(2, 1, 28, 28)
    vectors = net.vectors(x)
    assert vectors.shape == (2, 3, 16)
    torch.testing.assert_close(net(x), vectors.norm(dim=2))
    y = torch.tensor([0, 2])
    drawn = net.draw(vectors, y)
    assert drawn.shape == (2, 784)
    others = vectors.clone()
    others[0, 1:] += 1
    assert torch.equal(net.draw(others, y), drawn)


def test_without_a_decoder_nothing_is_drawn():
    net = build("capsnet", SPEC, maps=16, types=2)
    with pytest.raises(ValueError, match="has no decoder; build it with decoder=True"):
        net.draw(torch.zeros(1, 3, 16), torch.tensor([0]))


def test_it_learns_by_the_margin_and_the_drawing():
    spec = Spec(channels=1, size=(20, 20), classes=("a", "b"), mean=(10.0,), std=(40.0,))
    x, y = torch.randn(3, 1, 20, 20), torch.tensor([0, 1, 1])
    plain = build("capsnet", spec, maps=8, types=2)
    assert torch.equal(plain.criterion(plain(x), y), margin_loss(plain(x), y))
    net = build("capsnet", spec, maps=8, types=2, decoder=True)
    lengths, vectors, light = net.train()(x)
    drawn = net.draw(vectors, y)
    wanted = margin_loss(lengths, y) + 0.0005 * (drawn - light).square().sum(1).mean()
    torch.testing.assert_close(net.criterion(net(x), y), wanted)
    weights = torch.tensor([1.0, 0, 0])  # the drawing of a sample counts as its lengths do
    alone = net.criterion(tuple(part[:1] for part in net(x)), y[:1])
    torch.testing.assert_close(net.criterion(net(x), y, weights=weights), alone / 3)
    torch.testing.assert_close(light, ((x * 40 + 10) / 255).clamp(min=0).flatten(1))
    assert net.eval()(x).shape == (3, 2)
