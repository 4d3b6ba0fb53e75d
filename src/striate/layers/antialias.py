"""Sampling down without aliasing, and sampling down on the grid that the picture itself names."""

from itertools import product
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.bounds import at_least, floating, indices, one_of, whole
from striate.layers.tiling import BORDERS, pad, shape_after

__all__ = [
    "AdaptivePolyphaseSampling",
    "AdaptivePolyphaseUpsampling",
    "BlurPool",
    "MaxBlurPool",
    "binomial",
    "blur",
    "phases",
]


def binomial(taps: int, axes: int) -> Tensor:
    """Return the binomial filter of `taps` an axis: [1, 1], [1, 2, 1], [1, 3, 3, 1], ... / sum.

    Shape: -> (taps,) * axes, float64

    Raises:
        ValueError: `taps` is below 1.
    """
    whole(1, taps=taps)
    line = torch.ones(1, dtype=torch.float64)
    for _ in range(taps - 1):
        line = (F.pad(line, (0, 1)) + F.pad(line, (1, 0))) / 2
    kernel = line
    for _ in range(axes - 1):
        kernel = kernel[..., None] * line
    return kernel


def blur(x: Tensor, taps: int = 3, stride: int = 2, padding: str = "reflect") -> Tensor:
    """Filter each channel by a binomial filter, then keep every `stride`-th position.

    Shape: (N, C, *S) -> (N, C, *ceil(S / stride))
    Math:  y = downsample_stride(b * x), b = binomial(taps), centred at (taps - 1) // 2

    Args:
        taps: of the filter along each axis; 1 only samples.
        stride: distance of the kept positions, in samples.
        padding: what stands beyond the border, see `pad`.

    Raises:
        ValueError: `taps` or `stride` is below 1, the padding is unknown or too wide, or x holds
            integers.

    Source: Zhang 2019, Making Convolutional Networks Shift-Invariant Again, arXiv:1904.11486.
    """
    whole(1, stride=stride)
    floating(x=x)  # the filter would be rounded to zeros
    axes, channels = x.dim() - 2, x.shape[1]
    kernel = binomial(taps, axes).to(x)
    wide = pad(x, ((taps - 1) // 2, taps // 2), padding)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    weight = kernel.expand(channels, 1, *kernel.shape)
    return convolve(wide, weight, stride=stride, groups=channels)


class BlurPool(nn.Module):
    """Blur, then sample; see `blur`. Without parameters.

    A strided convolution becomes a plain one, its rectifier and a BlurPool; strided average
    pooling becomes a BlurPool.

    Raises:
        ValueError: as for `blur`.
    """

    def __init__(self, taps: int = 3, stride: int = 2, padding: str = "reflect") -> None:
        super().__init__()
        whole(1, taps=taps, stride=stride)
        one_of(BORDERS, padding=padding)
        self.taps, self.stride, self.padding = taps, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller map."""
        return blur(x, self.taps, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"taps={self.taps}, stride={self.stride}, padding={self.padding!r}"


class MaxBlurPool(nn.Module):
    """Take the maximum at every position, blur, then sample: max pooling that hardly aliases.

    Shape: (N, C, *S) -> (N, C, *ceil((S - kernel + 1) / stride)), *ceil(S / stride) when circular

    Args:
        kernel: side of the maximum's window, in samples; it begins at its position.
        taps: of the blur along each axis.
        stride: distance of the kept positions, in samples.
        padding: beyond the border; with "circular" the maximum's window wraps as well.

    Raises:
        ValueError: a number is below 1, a window has no position or wraps around more than once,
            or as for `blur`.

    Source: Zhang 2019, arXiv:1904.11486.
    """

    def __init__(
        self, kernel: int = 2, taps: int = 3, stride: int = 2, padding: str = "reflect"
    ) -> None:
        super().__init__()
        whole(1, kernel=kernel, taps=taps, stride=stride)
        one_of(BORDERS, padding=padding)
        self.kernel, self.taps, self.stride, self.padding = kernel, taps, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller map."""
        axes, size = x.dim() - 2, tuple(x.shape[2:])
        if self.padding != "circular":
            shape_after(size, self.kernel)
        elif self.kernel - 1 > min(size):
            raise ValueError(
                f"kernel must be at most {min(size) + 1} on a circle of size {size}; "
                f"got {self.kernel}"
            )
        else:
            x = pad(x, (0, self.kernel - 1), "circular")
        largest = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]
        return blur(largest(x, self.kernel, 1), self.taps, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"kernel={self.kernel}, taps={self.taps}, stride={self.stride}, "
            f"padding={self.padding!r}"
        )


def phases(x: Tensor, stride: int = 2) -> Tensor:
    """Return the grids of every `stride`-th sample, one for each place where a grid can begin.

    Shape: (N, C, *S) -> (N, stride^axes, C, *S / stride); phase p begins at the p-th element of
        product(range(stride), repeat=axes)

    Raises:
        ValueError: `stride` is below 1, or a size is no multiple of it: a shift would not permute
            the grids.
    """
    whole(1, stride=stride)
    if any(size % stride for size in x.shape[2:]):
        raise ValueError(
            f"x must have sizes that are multiples of stride {stride}; got {tuple(x.shape[2:])}"
        )
    return torch.stack([x[grid] for grid in _grids(stride, x.dim() - 2)], 1)


def _grids(stride: int, axes: int) -> list[Any]:
    """Return the index of each grid."""
    starts = product(range(stride), repeat=axes)
    return [(..., *(slice(start, None, stride) for start in place)) for place in starts]


class AdaptivePolyphaseSampling(nn.Module):
    """Keep that grid of every `stride`-th sample whose norm is the largest.

    A circular shift of the input permutes the grids, so the same one is found again: what is kept
    moves with the input, by exactly as much as a grid can. With circular convolutions and global
    pooling a network's answer does not depend on shifts, as long as one norm is the largest. Where
    norms tie the first grid wins, and a shift changes which one is the first: on periodic or
    constant maps what is kept does depend on the shift. Norms are sums in float64, in whose last
    digit the order of the samples shows, so near ties can fall either way.

    Shape: (N, C, *S) -> (N, C, *S / stride), and (N,) the grids chosen

    Args:
        stride: distance of the kept samples.
        order: p of the norm, at least 1; inf is the largest magnitude.

    Raises:
        ValueError: `stride` or `order` is below 1, a size is no multiple of `stride`, or an index
            names no grid or is not one a sample.

    Source: Chaman, Dokmanic 2021, Truly Shift-Invariant Convolutional Neural Networks,
        arXiv:2011.14214.
    """

    def __init__(self, stride: int = 2, order: float = 2.0) -> None:
        super().__init__()
        whole(1, stride=stride)
        at_least(1, order=order)
        self.stride, self.order = stride, order

    def forward(self, x: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the grid and its number; with `index` that of somebody else's choice.

        A residual branch must be sampled on the grid of its trunk: give it the trunk's index.
        """
        grids = phases(x, self.stride)
        if index is None:
            values = grids.detach().flatten(2).double().abs()
            largest = self.order == inf
            norms = values.amax(2) if largest else values.pow(self.order).sum(2)
            index = norms.argmax(1)
        else:
            indices(len(x), grids.shape[1], index=index)
        return grids[torch.arange(len(x), device=x.device), index.long()], index

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"stride={self.stride}, order={self.order}"


class AdaptivePolyphaseUpsampling(nn.Module):
    """Put samples back on the grid they were taken from; zeros stand between them.

    Shape: (N, C, *S), (N,) -> (N, C, *S stride)

    Args:
        stride: distance of the samples.

    Raises:
        ValueError: `stride` is below 1, or an index names no grid or is not one a sample.

    Source: the adjoint of `AdaptivePolyphaseSampling` at a given index.
    """

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        whole(1, stride=stride)
        self.stride = stride

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the larger map; `index` as the sampling gave it."""
        indices(len(x), self.stride ** (x.dim() - 2), index=index)
        size = [side * self.stride for side in x.shape[2:]]
        whole = x.new_zeros(*x.shape[:2], *size)
        for number, grid in enumerate(_grids(self.stride, x.dim() - 2)):
            whole[grid] = x * (index == number).view(-1, *[1] * (x.dim() - 1)).to(x)
        return whole

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"stride={self.stride}"
