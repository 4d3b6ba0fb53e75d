"""Locally connected and tiled layers: C-38, and the family they are."""

import pytest
import torch
import torch.nn.functional as F

from striate.layers import LocallyConnected, TiledConvolution, local

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_tied_weights_are_a_convolution(axes, stride):
    size = (9, 8, 7)[:axes]
    layer = LocallyConnected(3, 4, size, 3, stride=stride).double()
    weight, bias = torch.randn(4, 3, *[3] * axes).double(), torch.randn(4).double()
    layer.copy_kernel(weight, bias)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), CONV[axes](x, weight, bias, stride))


def test_every_position_has_its_own_weights_and_bias():
    layer = LocallyConnected(3, 4, (10, 12), (3, 5))
    places = 8 * 8
    assert sum(p.numel() for p in layer.parameters()) == places * (3 * 5 * 3 + 1) * 4
    x = torch.randn(1, 3, 10, 12)
    y = layer(x)
    patch = x[0, :, 2:5, 3:8].flatten()
    wanted = layer.weight[2 * 8 + 3] @ patch + layer.bias[2 * 8 + 3]
    torch.testing.assert_close(y[0, :, 2, 3], wanted)


def test_one_tile_is_a_convolution_and_as_many_as_places_are_local():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    one = TiledConvolution(3, 4, (8, 8), 3, 1)
    weight = one.weight[0].view(4, 3, 3, 3)
    torch.testing.assert_close(one(x), F.conv2d(x, weight, one.bias[0]))
    many, own = TiledConvolution(3, 4, (8, 8), 3, 6), LocallyConnected(3, 4, (8, 8), 3)
    own.load_state_dict(many.state_dict())
    assert torch.equal(many(x), own(x))


def test_two_tiles_repeat():
    layer = TiledConvolution(1, 2, (9,), 2, 2)
    assert layer.weight.shape == (2, 2, 2)
    y = layer(torch.ones(1, 1, 9))
    torch.testing.assert_close(y[..., ::2], y[..., :1].expand(1, 2, 4))
    assert not torch.allclose(y[..., 0], y[..., 1])


def test_gradients():
    layer = TiledConvolution(2, 2, (5, 5), 3, 2).double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_wrong_sizes_are_said():
    with pytest.raises(ValueError, match=r"x must be \(N, 1, 5, 5\); got \(1, 1, 5, 6\)"):
        LocallyConnected(1, 1, (5, 5), 3)(torch.zeros(1, 1, 5, 6))
    with pytest.raises(ValueError, match="a window of 6 has no position in size 5"):
        LocallyConnected(1, 1, (5, 5), 6)


@pytest.mark.parametrize("shape", [(1, 3, 3, 3), (4, 1, 3, 3), (4, 3, 9), (4, 3, 3)])
def test_kernels_of_another_shape_are_not_copied(shape):
    layer = TiledConvolution(3, 4, (8, 8), 3, 2)
    with pytest.raises(ValueError, match=r"weight must be \(4, 3, 3, 3\); got \(") as said:
        layer.copy_kernel(torch.zeros(shape))
    assert str(said.value).endswith(f"got {shape}")
    with pytest.raises(ValueError, match=r"bias must be \(4,\); got \(1,\)"):
        layer.copy_kernel(torch.zeros(4, 3, 3, 3), torch.zeros(1))
    with pytest.raises(ValueError, match=r"kernel must be .* one for each of 2 axes; got \(3,\)"):
        TiledConvolution(3, 4, (8, 8), (3,))


def test_a_stride_an_axis_is_that_of_a_convolution():
    layer = LocallyConnected(3, 4, (9, 8), 3, stride=(1, 2))
    weight = torch.randn(4, 3, 3, 3)
    layer.copy_kernel(weight, torch.zeros(4))
    x = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(layer(x), F.conv2d(x, weight, None, (1, 2)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: LocallyConnected(3, 4, (8, 8), 3)(torch.zeros(1, 2, 8, 8)),
            r"x must be \(N, 3, 8, 8\); got \(1, 2, 8, 8\)",
        ),
        (
            lambda: local(torch.zeros(1, 3, 8, 8), torch.zeros(35, 4, 27), 3),
            r"weight must be \(36, O, 27\) for x \(1, 3, 8, 8\); got \(35, 4, 27\)",
        ),
        (lambda: local(torch.zeros(1, 3, 8), torch.zeros(6, 9), 3), r"weight must be \(6, O, 9\)"),
        (lambda: LocallyConnected(3, 4, 8, 3), "size must be one number an axis, .* got 8"),
        (lambda: LocallyConnected(3, 4, (8, 0), 1), r"size must be at least 1; got \(8, 0\)"),
        (
            lambda: LocallyConnected(3, 4, (8, 8), 3, stride=(1, 2, 3)),
            r"stride must be one number, or one for each of 2 axes; got \(1, 2, 3\)",
        ),
        (lambda: TiledConvolution(3, 4, (8, 8), 3, 1.5), "tile must be a whole number; got 1.5"),
        (lambda: TiledConvolution(0, 4, (8, 8), 3), "channels must be at least 1; got 0"),
    ],
)
def test_what_does_not_fit_is_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
