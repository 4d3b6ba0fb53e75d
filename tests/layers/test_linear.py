"""A015, A143: connections that drop out, biases that are not learnt."""

import pytest
import torch
from torch import nn

from striate.layers import DropConnect, linear
from striate.recipe import Recipe
from striate.train.loop import fit


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_fixed_bias_gets_no_update_and_a_learnt_one_does(optimizer):
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    fixed, learnt = linear(3, 2, "fixed", -0.5), linear(3, 2)
    before = learnt.bias.detach().clone()
    for layer in (fixed, learnt):
        recipe = Recipe(optimizer=optimizer, epochs=3, weight_decay=0.1)
        fit(layer, [(x, y)], recipe)
    assert fixed.bias.tolist() == [-0.5, -0.5]
    assert not torch.equal(learnt.bias, before)


def test_an_affine_layer_multiplies_and_adds():
    layer = linear(2, 2, "fixed", 1.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert layer(torch.tensor([[1.0, 10.0]])).tolist() == [[22.0, 44.0]]
    assert linear(2, 2, "none").bias is None
    assert type(layer) is nn.Linear


def test_dropped_connections_leave_the_mean():
    """C-40."""
    torch.manual_seed(0)
    layer, x = DropConnect(50, 4, 0.5).double(), torch.randn(1, 50, dtype=torch.float64)
    with torch.no_grad():
        drawn = layer(x.expand(20_000, 50))
        wanted = layer.eval()(x)
        spread = ((layer.weight * x).square().sum(1) + layer.bias.square()).sqrt()
    assert torch.allclose(drawn.std(0), spread, rtol=0.05)  # share / (1 - share) is 1
    assert ((drawn.mean(0) - wanted[0]).abs() < 4 * spread / 20_000**0.5).all()


def test_every_sample_draws_connections_of_its_own_and_not_units():
    torch.manual_seed(0)
    layer, x = DropConnect(30, 5, 0.25, bias=False), torch.ones(40, 30)
    nn.init.ones_(layer.weight)
    count = layer(x) * 0.75
    torch.testing.assert_close(count, count.round())  # of connections that are left
    assert len(count.unique(dim=0)) > 35
    assert count.min() > 0
    assert count.max() < 30


def test_the_bias_drops_out_too():
    layer = DropConnect(1, 1, 0.5)
    nn.init.ones_(layer.bias)
    assert sorted(layer(torch.zeros(50, 1)).unique().tolist()) == [0, 2]


def test_in_evaluation_and_without_a_share_it_is_an_affine_layer():
    """C-40."""
    layer, x = DropConnect(6, 3), torch.randn(4, 6)
    same = nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer.eval()(x), same)
    none = DropConnect(6, 3, 0.0)
    assert torch.equal(none(x), nn.functional.linear(x, none.weight, none.bias))


def test_gradients_reach_the_connections_that_are_left():
    layer = DropConnect(4, 3).double()
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def drawn(x, weight, bias):
        torch.manual_seed(3)
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(drawn, (x, layer.weight, layer.bias))
    torch.manual_seed(3)
    layer(x[:1]).sum().backward()
    assert set((layer.weight.grad / (2 * x[0])).round().unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: linear(0, 2), "features must be at least 1; got 0"),
        (lambda: linear(3, 2, "learned"), "bias must be one of learnt, fixed, none; got 'learned'"),
        (lambda: DropConnect(3, 0), "out must be at least 1; got 0"),
        (lambda: DropConnect(3, 2, 1.0), "share must be 0 to below 1; got 1.0"),
        (lambda: DropConnect(3, 2, float("nan")), "share must be 0 to below 1; got nan"),
        (lambda: DropConnect(3, 2)(torch.zeros(2, 4)), r"x must be \(N, 3\); got \(2, 4\)"),
        (lambda: DropConnect(3, 2)(torch.zeros(3)), r"x must be \(N, 3\); got \(3,\)"),
    ],
)
def test_impossible_arguments_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
