import pytest
import torch

from striate.models import build
from striate.spec import Spec

SPEC = Spec(channels=1, size=(28, 28), classes=tuple("abc"))


def test_lengths_are_answers_and_one_capsule_draws():
    net = build("capsnet", SPEC, maps=16, types=2, decoder=True)
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
