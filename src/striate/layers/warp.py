"""Warps: look at a picture through a moved, tilted or bent grid, differentiably."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.bounds import whole

__all__ = [
    "SpatialTransformer",
    "affine_grid",
    "projective_grid",
    "sample",
    "thin_plate_grid",
]

# Places run from -1 to 1 between the outer edges of the first and the last sample
# (align_corners=False of torch), x before y; so a warp does not depend on the resolution.
_PARAMETERS = {"affine": 6, "projective": 8}


def _places(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return the place (x, y) of every sample of an upright map: (H W, 2)."""
    y, x = (((torch.arange(s).to(like) * 2 + 1) / s - 1) for s in size)
    return torch.stack([x.expand(size[0], -1), y[:, None].expand(-1, size[1])], 2).flatten(0, 1)


def affine_grid(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where each sample of the output looks.

    Shape: (N, 6) -> (N, H, W, 2)
    Math:  (x, y)_in = [[t0, t1, t2], [t3, t4, t5]] (x, y, 1)_out

    Source: Jaderberg, Simonyan, Zisserman, Kavukcuoglu 2015, Spatial Transformer Networks,
        arXiv:1506.02025, eq. 1.
    """
    matrix = theta.view(-1, 2, 3)
    places = _places(size, theta)
    return (places @ matrix[:, :, :2].mT + matrix[:, None, :, 2]).unflatten(1, size)


def projective_grid(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where each sample of the output looks, seen in perspective.

    Shape: (N, 8) -> (N, H, W, 2)
    Math:  (x, y, w)_in = [[t0, t1, t2], [t3, t4, t5], [t6, t7, 1]] (x, y, 1)_out, divided by w.
           A place on the horizon, |w| < 1e-6, is put far outside.
    """
    matrix = torch.cat([theta, torch.ones_like(theta[:, :1])], 1).view(-1, 3, 3)
    places = _places(size, theta)
    seen = places @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
    depth = seen[..., 2:]
    depth = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    return (seen[..., :2] / depth).unflatten(1, size)


def thin_plate_grid(moved: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the smoothest grid that looks at `moved` from the points of a regular square grid.

    Shape: (N, P, 2), P a square number of at least 4 -> (N, H, W, 2)
    Math:  f(p) = A (p, 1) + sum_k w_k U(|p - c_k|), U(r) = r^2 log r^2, f(c_k) = moved_k,
           sum w = sum w c = 0: of least bending energy

    Raises:
        ValueError: P is no square number of at least 4.

    Source: Bookstein 1989, Principal Warps.
    """
    side = round(moved.shape[1] ** 0.5)
    if side < 2 or side * side != moved.shape[1]:
        raise ValueError(
            f"moved must hold a square number of points, 4 at least; got {moved.shape[1]}"
        )
    centres = _square(side).to(moved)
    count = len(centres)
    system = moved.new_zeros(count + 3, count + 3)
    system[:count, :count] = _bend(centres, centres)
    system[:count, count:] = torch.cat([centres, torch.ones_like(centres[:, :1])], 1)
    system[count:, :count] = system[:count, count:].T
    targets = torch.cat([moved, moved.new_zeros(len(moved), 3, 2)], 1)
    weights = torch.linalg.solve(system, targets)
    places = _places(size, moved)
    basis = torch.cat([_bend(places, centres), places, torch.ones_like(places[:, :1])], 1)
    return (basis @ weights).unflatten(1, size)


def _square(side: int) -> Tensor:
    """Return the points of a regular square grid from -1 to 1: (side^2, 2) float64."""
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    return torch.stack([line.repeat(side), line.repeat_interleave(side)], 1)


def _identity(kind: str, points: int) -> Tensor:
    """Return the numbers that warp nothing."""
    if kind == "thin_plate":
        return _square(round(points**0.5)).flatten()
    return torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0], dtype=torch.float64)[: _PARAMETERS[kind]]


def _bend(a: Tensor, b: Tensor) -> Tensor:
    """Return U(|a_i - b_k|) = r^2 log r^2, 0 at 0."""
    square = (a[:, None] - b).square().sum(2)
    return square * torch.where(square > 0, square, 1).log()


def sample(
    x: Tensor, grid: Tensor, border: Literal["zeros", "border", "reflection"] = "zeros"
) -> Tensor:
    """Read x between its samples, at the places of a grid.

    Shape: (N, C, H, W), (N, H', W', 2) -> (N, C, H', W')
    Math:  bilinear, in the finer type of the two; differentiable in x and, except on the lines
           between samples, in the grid
    """
    fine = torch.promote_types(x.dtype, grid.dtype)
    seen = F.grid_sample(x.to(fine), grid.to(fine), "bilinear", border, align_corners=False)
    return seen.to(x.dtype)


class SpatialTransformer(nn.Module):
    """Let a network look at its input the way another, small one proposes.

    Shape: (N, C, H, W) -> (N, C, *size)

    Args:
        localiser: (N, C, H, W) -> (N, features).
        features: that it gives out.
        kind: "affine" (6 numbers), "projective" (8), or "thin_plate" (2 for each point).
        size: of the output; None: that of the input.
        points: of a thin plate; a square number.

    The last layer gives what differs from the identity and starts at zero: at first nothing is
    warped.

    Raises:
        ValueError: the kind is unknown, points are no square number, or the size is not of two
            axes of at least 1 sample; in the forward pass, x is no pictures.

    Source: Jaderberg, Simonyan, Zisserman, Kavukcuoglu 2015, arXiv:1506.02025.
    """

    def __init__(
        self,
        localiser: nn.Module,
        features: int,
        kind: str = "affine",
        size: Sequence[int] | None = None,
        points: int = 16,
    ) -> None:
        super().__init__()
        if kind not in (*_PARAMETERS, "thin_plate"):
            raise ValueError(f"kind must be affine, projective or thin_plate; got {kind!r}")
        whole(4, points=points)
        if round(points**0.5) ** 2 != points:
            raise ValueError(f"points must be a square number of at least 4; got {points}")
        if size is not None:
            whole(1, size=size)
            if not isinstance(size, Sequence) or len(size) != 2:
                raise ValueError(f"size must be two numbers; got {size}")
        self.localiser, self.kind = localiser, kind
        self.size = None if size is None else (size[0], size[1])
        self.points = points
        self.head = nn.Linear(features, _PARAMETERS.get(kind, 2 * points))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def theta(self, x: Tensor) -> Tensor:
        """Return the numbers of the warp, in float64 where there is one: (N, 6, 8 or 2 points).

        Places of float32 lie up to 1e-5 samples beside their own in a picture of 224.
        """
        moved = self.head(self.localiser(x))
        fine = moved if moved.device.type == "mps" else moved.double()
        return fine + _identity(self.kind, self.points).to(fine)

    def grid(self, x: Tensor) -> Tensor:
        """Return where each sample of the output looks: (N, H', W', 2)."""
        if x.dim() != 4:
            raise ValueError(f"x must be (N, C, H, W), pictures; got {tuple(x.shape)}")
        theta = self.theta(x)
        size = self.size or (x.shape[2], x.shape[3])
        if self.kind == "thin_plate":
            return thin_plate_grid(theta.view(-1, self.points, 2), size)
        return (affine_grid if self.kind == "affine" else projective_grid)(theta, size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the warped input."""
        return sample(x, self.grid(x))
