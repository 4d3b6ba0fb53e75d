"""Scaled and folded tanh, maxout, Euclidean outputs."""

import pytest
import torch

from striate.layers import AbsTanh, Maxout, RBFOutput, ScaledTanh


def test_scaled_tanh_passes_through_1():
    """C-36."""
    y = ScaledTanh()(torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64))
    assert y.tolist() == pytest.approx([0.999997, -0.999997, 0], abs=1e-6)


def test_folded_tanh_forgets_the_sign():
    x = torch.randn(50)
    assert torch.equal(AbsTanh()(x), AbsTanh()(-x))
    assert torch.equal(AbsTanh()(x), x.tanh().abs())


@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_maxout_takes_neighbours(axes):
    x = torch.randn(2, 6, *[3] * axes)
    y = Maxout(3)(x)
    assert y.shape == (2, 2, *[3] * axes)
    assert torch.equal(y[:, 1], x[:, 3:].amax(1))
    with pytest.raises(ValueError, match="pieces must divide the 6 maps; got 4"):
        Maxout(4)(x)
    with pytest.raises(ValueError, match=r"pieces must be a whole number; got 1\.5"):
        Maxout(1.5)


def test_distances_to_centres():
    layer = RBFOutput(torch.tensor([[1.0, 1.0], [-1.0, 0.0]]))
    assert layer(torch.tensor([[1.0, 1.0], [0.0, 0.0]])).tolist() == [[0, 5], [2, 1]]
    assert list(layer.parameters()) == []
    assert len(list(RBFOutput(torch.zeros(2, 3), trainable=True).parameters())) == 1
    with pytest.raises(ValueError, match=r"x must be \(N, 2\); got \(1, 3\)"):
        layer(torch.zeros(1, 3))
    with pytest.raises(
        ValueError, match=r"centres must hold floating point numbers; got torch\.int"
    ):
        RBFOutput(torch.ones(2, 3).long(), trainable=True)


@pytest.mark.parametrize(
    "layer", [ScaledTanh(), AbsTanh(), Maxout(2), RBFOutput(torch.randn(3, 4).double())]
)
def test_gradients(layer):
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
