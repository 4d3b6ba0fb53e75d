"""Recurrent convolution: steps, ways in, and the loop it is."""

import pytest
import torch
from torch import nn

from striate.layers import RecurrentConvolution


def layer(steps, backward_=None):
    torch.manual_seed(0)
    first, beside = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, bias=False)
    return RecurrentConvolution(first, beside, backward_, steps=steps, transfer=torch.tanh)


def test_no_step_is_a_convolution():
    net, x = layer(0), torch.randn(1, 2, 6, 6)
    assert torch.equal(net(x), torch.tanh(net.forward_(x)))


def test_steps_are_the_written_loop():
    above = nn.ConvTranspose2d(4, 3, 2, 2)
    net, x, a = layer(2, above), torch.randn(1, 2, 6, 6), torch.randn(1, 4, 3, 3)
    drive = net.forward_(x) + above(a)
    y = torch.tanh(drive)
    for _ in range(2):
        y = torch.tanh(drive + net.lateral(y))
    assert torch.equal(net(x, a), y)
    assert torch.equal(net(x), layer(2)(x))


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_receptive_field_grows_with_every_step(steps):
    x = torch.zeros(1, 2, 15, 15, requires_grad=True)
    layer(steps)(x)[0, 0, 7, 7].backward()
    seen = x.grad.abs().sum((0, 1)) > 0
    assert int(seen.any(0).sum()) == 3 + 2 * steps


def test_gradients_and_refusal():
    net = layer(2).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, x)
    with pytest.raises(ValueError, match="steps must be at least 0; got -1"):
        layer(-1)


def test_a_map_above_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match=r"above must be None where backward_ is.*got \(1, 4, 6\)"):
        layer(1)(torch.zeros(1, 2, 6, 6), torch.zeros(1, 4, 6))


def test_maps_are_not_broadcast_to_each_other():
    net, x = layer(1, nn.Conv2d(4, 1, 1)), torch.zeros(2, 2, 6, 6)
    said = r"backward_ must give \(2, 3, 6, 6\) like forward_; got \(2, 1, 6, 6\)"
    with pytest.raises(ValueError, match=said):
        net(x, torch.zeros(2, 4, 6, 6))
    net.lateral = nn.Conv2d(3, 1, 1)
    with pytest.raises(ValueError, match=r"lateral must give \(2, 3, 6, 6\) .*got \(2, 1, 6, 6\)"):
        net(x)
