"""Spatial transformers: C-50, B20, torch as the oracle, known moves."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.layers import SpatialTransformer
from striate.layers.warp import affine_grid, projective_grid, sample, thin_plate_grid


class Nothing(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4]


@pytest.mark.parametrize("kind", ["affine", "projective", "thin_plate"])
@pytest.mark.parametrize("size", [(8, 8), (7, 12), (224, 224)])
def test_the_identity_returns_its_input(kind, size):
    """C-50."""
    x = torch.randn(2, 3, *size)
    assert (SpatialTransformer(Nothing(), 4, kind)(x) - x).abs().max() <= 1e-6


@pytest.mark.parametrize("kind", ["affine", "projective", "thin_plate"])
def test_identity_in_float64_is_exact_to_1e_10(kind):
    x = torch.randn(2, 3, 50, 41, dtype=torch.float64)
    net = SpatialTransformer(Nothing(), 4, kind, points=25).double()
    assert (net(x) - x).abs().max() <= 1e-10


def test_affine_grids_are_torchs():
    theta = torch.randn(3, 6)
    wanted = F.affine_grid(theta.view(3, 2, 3), [3, 1, 5, 7], align_corners=False)
    torch.testing.assert_close(affine_grid(theta, (5, 7)), wanted)


def test_a_quarter_turn():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    turn = torch.tensor([[0.0, -1, 0, 1, 0, 0]])
    seen = sample(x, affine_grid(turn, (3, 3)))
    torch.testing.assert_close(seen, x.rot90(1, (2, 3)))


def test_perspective_without_depth_is_affine():
    theta = torch.randn(2, 6)
    flat = torch.cat([theta, torch.zeros(2, 2)], 1)
    torch.testing.assert_close(projective_grid(flat, (4, 5)), affine_grid(theta, (4, 5)))


def test_a_horizon_stays_finite():
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0, 4.0, 0]])
    x = torch.randn(1, 1, 8, 8)
    assert sample(x, projective_grid(theta, (8, 8))).isfinite().all()


def test_a_thin_plate_goes_through_its_points_and_bends_affine_moves_exactly():
    line = torch.linspace(-1, 1, 4, dtype=torch.float64)
    points = torch.stack([line.repeat(4), line.repeat_interleave(4)], 1)
    theta = torch.tensor([[0.9, 0.2, 0.1, -0.1, 1.1, -0.2]], dtype=torch.float64)
    moved = points @ theta.view(2, 3)[:, :2].T + theta.view(2, 3)[:, 2]
    torch.testing.assert_close(thin_plate_grid(moved[None], (6, 5)), affine_grid(theta, (6, 5)))
    bent = points + 0.1 * torch.randn_like(points)
    # Samples of a 5 x 5 map lie at -0.8, -0.4, 0, 0.4, 0.8: scale the points there to read them.
    grid = thin_plate_grid(bent[None], (400, 400))
    centres = (torch.arange(400, dtype=torch.float64) * 2 + 1) / 400 - 1
    for point, target in zip(points, bent, strict=True):
        column, row = ((centres - value).abs().argmin() for value in point)
        torch.testing.assert_close(grid[0, row, column], target, atol=0.01, rtol=0)


def test_the_localiser_learns_where_to_look():
    torch.manual_seed(0)
    localiser = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh())
    layer = SpatialTransformer(localiser, 16)
    x = torch.randn(4, 1, 8, 8)
    layer(x).square().sum().backward()
    assert layer.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["affine", "projective", "thin_plate"])
def test_gradients_in_picture_and_grid(kind):
    layer = SpatialTransformer(Nothing(), 4, kind, (3, 4), 4).double()
    with torch.no_grad():
        layer.head.weight.normal_(0, 0.05)
    x = torch.randn(1, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x, eps=1e-7, atol=1e-4)


def test_impossible_choices_are_said():
    with pytest.raises(
        ValueError, match="kind must be affine, projective or thin_plate; got 'bent'"
    ):
        SpatialTransformer(Nothing(), 4, "bent")
    for size in ((3,), (0, 4)):
        with pytest.raises(ValueError, match="size must be"):
            SpatialTransformer(Nothing(), 4, size=size)
    with pytest.raises(ValueError, match="points must be at least 4; got -4"):
        SpatialTransformer(Nothing(), 4, points=-4)
    with pytest.raises(ValueError, match="points must be a square number"):
        SpatialTransformer(Nothing(), 4, "thin_plate", points=5)
    with pytest.raises(ValueError, match="a square number of points"):
        thin_plate_grid(torch.zeros(1, 5, 2), (3, 3))


@pytest.mark.parametrize("kind", ["affine", "projective", "thin_plate"])
def test_no_sample_is_warped_to_none(kind):
    layer = SpatialTransformer(Nothing(), 4, kind, (3, 4))
    assert layer(torch.zeros(0, 2, 5, 6)).shape == (0, 2, 3, 4)


@pytest.mark.parametrize("shape", [(2, 1, 4), (2, 1, 4, 4, 4)])
def test_what_is_no_picture_is_named(shape):
    with pytest.raises(ValueError, match=r"x must be \(N, C, H, W\), pictures; got ") as said:
        SpatialTransformer(Nothing(), 4)(torch.zeros(shape))
    assert str(said.value).endswith(f"got {shape}")
