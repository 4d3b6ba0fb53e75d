"""Pooling of every kind but torch's own: by norm, by chance, by fractions, by pyramid, global."""

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.bounds import at_least, one_of, per_axis, whole
from striate.layers.tiling import shape_after

__all__ = [
    "FractionalMaxPool",
    "GlobalPool",
    "LpPool",
    "SpatialPyramidPool",
    "StochasticPool",
    "fractional_edges",
    "windows",
]


Taps = int | Sequence[int]


def windows(x: Tensor, kernel: Taps, stride: Taps) -> Tensor:
    """Return the values under each position of a window.

    Shape: (N, C, *S) -> (N, C, *floor((S - kernel) / stride + 1), prod(kernel)), a view's copy

    Raises:
        ValueError: the window has no position, or a number is below 1.
    """
    axes = x.dim() - 2
    kernels, strides = per_axis(axes, kernel=kernel, stride=stride)
    shape_after(tuple(x.shape[2:]), kernels, strides)
    for axis, (taps, step) in enumerate(zip(kernels, strides, strict=True), 2):
        x = x.unfold(axis, taps, step)
    return x.flatten(-axes) if axes > 1 else x


class LpPool(nn.Module):
    """The p-norm of each window; p = 1 adds magnitudes, p = 2 is energy, large p the maximum.

    Shape: (N, C, *S) -> (N, C, *floor((S - kernel) / stride + 1))
    Math:  y = (sum |x|^p)^(1/p), of gradient 0 where all of a window is 0

    Args:
        p: at least 1, or inf.
        kernel: side of the window, in samples, for all axes or one an axis.
        stride: distance of windows, as `kernel`; 0 is the kernel: no overlap.

    Raises:
        ValueError: `p` or `kernel` is below 1, or a window has no position.

    Source: Sermanet, Chintala, LeCun 2012, arXiv:1204.3968.
    """

    def __init__(self, p: float, kernel: Taps, stride: Taps = 0) -> None:
        super().__init__()
        at_least(1, p=p)
        whole(1, kernel=kernel, stride=stride or 1)
        self.p, self.kernel, self.stride = p, kernel, stride or kernel

    def forward(self, x: Tensor) -> Tensor:
        """Return the norms."""
        return torch.linalg.vector_norm(windows(x, self.kernel, self.stride), self.p, dim=-1)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"p={self.p}, kernel={self.kernel}, stride={self.stride}"


class StochasticPool(nn.Module):
    """In training one value of each window, drawn in proportion to it; else their expectation.

    Shape: (N, C, *S) -> (N, C, *floor((S - kernel) / stride + 1))
    Math:  P(i) = a_i / sum a, a = max(0, x);  outside training y = sum P(i) a_i. A window
           without a positive value gives 0.

    Args:
        kernel: side of the window, in samples, for all axes or one an axis.
        stride: distance of windows, as `kernel`; 0 is the kernel: no overlap.

    Raises:
        ValueError: `kernel` is below 1, or a window has no position.

    Source: Zeiler, Fergus 2013, Stochastic Pooling for Regularization of Deep Convolutional
        Neural Networks, arXiv:1301.3557.
    """

    def __init__(self, kernel: Taps, stride: Taps = 0) -> None:
        super().__init__()
        whole(1, kernel=kernel, stride=stride or 1)
        self.kernel, self.stride = kernel, stride or kernel

    def forward(self, x: Tensor) -> Tensor:
        """Return one value a window."""
        values = windows(x, self.kernel, self.stride).clamp(min=0)
        top = values.detach().amax(-1, keepdim=True)
        part = values / torch.where(top > 0, top, 1)  # squares do not vanish, sums not overflow
        if not self.training:
            total = part.sum(-1, keepdim=True)
            return (values * part / torch.where(top > 0, total, 1)).sum(-1)
        chances = torch.where(top > 0, part, 1).detach()
        drawn = torch.multinomial(chances.flatten(0, -2).float(), 1).view(top.shape)
        return values.gather(-1, drawn).squeeze(-1)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"kernel={self.kernel}, stride={self.stride}"


def fractional_edges(size: int, out: int, start: float) -> list[int]:
    """Return where `out` regions begin, of as even a width as there is, and the end of the last.

    Math: a_i = ceil(alpha (i + u)) - ceil(alpha u), alpha = size / out; the last edge is `size`.
          Regions take floor(alpha) or ceil(alpha) samples: one or two, or two or three where out is
          floor(size / 2) of an odd size

    Args:
        size: samples along the axis.
        out: regions, from floor(size / 2), at least 1, to size.
        start: u, 0 to 1; another one gives other regions.

    Raises:
        ValueError: `out` is out of range.

    Source: Graham 2014, Fractional Max-Pooling, arXiv:1412.6071, section 2 (pseudorandom).
    """
    least = max(1, size // 2)
    if not least <= out <= size:
        raise ValueError(f"out must lie in {least} to {size}; got {out}")
    alpha = size / out
    first = ceil(alpha * start)
    edges = [ceil(alpha * (i + start)) - first for i in range(out)]
    return [*edges, size]


class FractionalMaxPool(nn.Module):
    """The maximum of regions of one or two samples an axis: shrinks by 1 to 2.

    In training each pass draws other regions; else they are the same for one size. Together the
    regions hold every sample, so some are of three where floor(S / ratio) is less than half of S.

    Shape: (N, C, *S) -> (N, C, *floor(S / ratio)), but 1 where S is 1

    Args:
        ratio: 1 to 2, by which each axis shrinks.
        overlap: let each region take the first sample of the next as well.

    Raises:
        ValueError: `ratio` is out of range.

    Source: Graham 2014, arXiv:1412.6071.
    """

    def __init__(self, ratio: float = 2**0.5, *, overlap: bool = False) -> None:
        super().__init__()
        if not 1 <= ratio <= 2:
            raise ValueError(f"ratio must lie in 1 to 2; got {ratio}")
        self.ratio, self.overlap = ratio, overlap

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima."""
        for axis in range(2, x.dim()):
            size = x.shape[axis]
            out = max(1, int(size / self.ratio))
            start = float(torch.rand(())) if self.training else 0.5
            edges = torch.tensor(fractional_edges(size, out, start), device=x.device)
            last = edges[1:] - 1 + int(self.overlap)
            width = int((last - edges[:-1]).max()) + 1
            # Past the end of a region its last sample is taken again: the maximum is the same.
            places = edges[:-1, None] + torch.arange(width, device=x.device)
            places = torch.minimum(places, last[:, None]).clamp(max=size - 1)
            picked = x.index_select(axis, places.flatten())
            x = picked.unflatten(axis, (out, width)).amax(axis + 1)
        return x

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"ratio={self.ratio:.6g}, overlap={self.overlap}"


class SpatialPyramidPool(nn.Module):
    """The maxima of ever finer grids, one vector for samples of any size.

    Shape: (N, C, *S) -> (N, C sum_l l^axes)

    Args:
        levels: cells along every axis of each grid.

    Raises:
        ValueError: a level is below 1, or has more cells than there are samples.

    Source: He, Zhang, Ren, Sun 2014, Spatial Pyramid Pooling in Deep Convolutional Networks for
        Visual Recognition, arXiv:1406.4729.
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        if not isinstance(levels, Sequence) or not levels:
            raise ValueError(f"levels must be numbers of at least 1, such as (1, 2); got {levels}")
        whole(1, levels=levels)
        self.levels = tuple(levels)

    def forward(self, x: Tensor) -> Tensor:
        """Return one vector a sample."""
        axes = x.dim() - 2
        if max(self.levels) > min(x.shape[2:]):
            raise ValueError(f"levels {self.levels} must not exceed the size {tuple(x.shape[2:])}")
        pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[axes - 1]
        return torch.cat([pool(x, (level,) * axes).flatten(1) for level in self.levels], 1)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"levels={self.levels}"


class GlobalPool(nn.Module):
    """One value for each whole map; no order of positions changes it.

    Shape: (N, C, *S) -> (N, C)

    Args:
        kind: "mean", "max" or "norm" (Euclidean).

    Raises:
        ValueError: the kind is unknown; in the forward pass, there are no maps, or maps without a
            sample.

    Source: Lin, Chen, Yan 2013, Network In Network, arXiv:1312.4400, section 3.2.
    """

    KINDS = ("mean", "max", "norm")

    def __init__(self, kind: str = "mean") -> None:
        super().__init__()
        one_of(self.KINDS, kind=kind)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Return the values."""
        if x.dim() < 3 or 0 in x.shape[2:]:
            raise ValueError(f"x must be (N, C, *S) with a sample a map; got {tuple(x.shape)}")
        flat = x.flatten(2)
        if self.kind == "mean":
            return flat.mean(2)
        if self.kind == "max":  # of equal ones the first: amax would share the gradient out
            return flat.max(2).values
        return torch.linalg.vector_norm(flat, dim=2)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"kind={self.kind!r}"
