"""Convolution in all its words: borders, tiling, correlation, matrices, tables, Fourier."""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.bounds import one_of, per_axis, whole
from striate.layers.tiling import (
    BORDERS,
    TILINGS,
    effective_kernel,
    ends_of,
    pad,
    padding_for,
    shape_after,
)

__all__ = ["Convolution", "col2im", "convolve", "fft_convolve", "im2col"]

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
BIASES = ("shared", "untied", "none")
PAST_ONLY = ("zero", "constant", "replicate")  # borders that are made of no later sample


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip: bool = False,
) -> Tensor:
    """Slide kernels over x: the correlation that every library calls convolution.

    Shape: (N, C, *S), (O, C / groups, *K) -> (N, O, *floor((S - span) / stride + 1))
    Math:  y_oi = b_o + sum_ck w_ock x_(c, stride i + dilation k); with `flip` the true
           convolution, x_(c, stride i + dilation (K - 1 - k))

    Args:
        stride: distance of positions, in samples, for all axes or one an axis.
        dilation: distance of taps, as `stride`.
        flip: turn the kernel around along every axis first.

    Raises:
        ValueError: a number is below 1, the shapes do not fit, or a window has no position.

    Source: Goodfellow, Bengio, Courville 2016, Deep Learning, section 9.1.
    """
    axes = x.dim() - 2
    _check_fit(x, weight, bias, groups)
    strides, dilations = per_axis(axes, stride=stride, dilation=dilation)
    shape_after(tuple(x.shape[2:]), tuple(weight.shape[2:]), strides, 0, dilations)
    if flip:
        weight = weight.flip(list(range(2, 2 + axes)))
    return _CONV[axes](x, weight, bias, strides, 0, dilations, groups)


def _check_fit(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1) -> None:
    """Refuse kernels and biases that are not for such maps."""
    whole(1, groups=groups)
    axes = x.dim() - 2
    if axes not in _CONV or weight.dim() != x.dim() or weight.shape[1] * groups != x.shape[1]:
        raise ValueError(
            f"x must be (N, C, *S), weight (O, C / {groups} groups, *K) with 1 to 3 axes; "
            f"got {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    if len(weight) % groups:
        raise ValueError(f"groups must divide the {len(weight)} kernels; got {groups}")
    if bias is not None and bias.shape != (len(weight),):
        raise ValueError(f"bias must be ({len(weight)},); got {tuple(bias.shape)}")


def im2col(
    x: Tensor,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Lay the window of each position into a column.

    Shape: (N, C, *S) -> (N, C prod(K), P), P positions in the order of the axes
    Math:  weight.flatten(1) @ im2col(x) is the convolution

    Raises:
        ValueError: there is another number of numbers than of axes, one is below 1, or a window
            has no position.

    Source: Chellapilla, Puri, Simard 2006, High Performance Convolutional Neural Networks for
        Document Processing.
    """
    axes = x.dim() - 2
    kernels, strides, dilations = per_axis(axes, kernel=kernel, stride=stride, dilation=dilation)
    shape_after(tuple(x.shape[2:]), kernels, strides, 0, dilations)
    windows = x
    for axis, (taps, step, gap) in enumerate(zip(kernels, strides, dilations, strict=True)):
        windows = windows.unfold(2 + axis, effective_kernel(taps, gap), step)[..., ::gap]
    places, inside = range(2, 2 + axes), range(2 + axes, 2 + 2 * axes)
    return windows.permute(0, 1, *inside, *places).flatten(1, 1 + axes).flatten(2)


def col2im(
    columns: Tensor,
    size: Sequence[int],
    kernel: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Add each column up at the place of its window: the adjoint of `im2col`.

    Shape: (N, C prod(K), P) -> (N, C, *size)
    Math:  <im2col(x), c> = <x, col2im(c)>

    Args:
        size: of the map.

    Raises:
        ValueError: a window has no position, or the columns are not of that geometry.
    """
    whole(1, size=tuple(size))
    places = torch.arange(prod(size), device=columns.device).view(1, 1, *size)
    index = im2col(places, kernel, stride, dilation)[0]
    if columns.dim() != 3 or columns.shape[1] % len(index) or columns.shape[2] != index.shape[1]:
        raise ValueError(
            f"columns must be (N, C x {len(index)}, {index.shape[1]}) for size {tuple(size)}; "
            f"got {tuple(columns.shape)}"
        )
    count = columns.shape[1] // len(index)
    flat = columns.reshape(len(columns), count, index.numel())
    sums = flat.new_zeros(len(columns), count, prod(size))
    return sums.index_add(2, index.flatten(), flat).view(len(columns), count, *size)


def fft_convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Give what `convolve` gives, stride 1, by products of Fourier transforms.

    Shape: (N, C, *S), (O, C, *K) -> (N, O, *S - K + 1)
    Math:  y = F^-1(F(x) conj(F(w))); its cost does not depend on the kernel's size

    Raises:
        ValueError: the shapes do not fit, or the kernel is larger than the map.

    Source: Mathieu, Henaff, LeCun 2013, Fast Training of Convolutional Networks through FFTs,
        arXiv:1312.5851.
    """
    _check_fit(x, weight, bias)
    size = x.shape[2:]
    left = tuple(shape_after(s, k) for s, k in zip(size, weight.shape[2:], strict=True))
    along = list(range(2, x.dim()))
    spectrum = torch.fft.rfftn(x, dim=along)
    kernels = torch.fft.rfftn(weight, size, along).conj()
    circle = torch.fft.irfftn(torch.einsum("nc...,oc...->no...", spectrum, kernels), size, along)
    y = circle[(..., *(slice(0, s) for s in left))]
    return y if bias is None else y + bias.view(-1, *[1] * len(size))


class Convolution(nn.Module):
    """Convolution with every choice the literature makes.

    Shape: (N, C, *S) -> (N, O, *S'), S' from `shape_after`
    Math:  see `convolve`

    Args:
        axes: number of spatial axes, 1 to 3.
        channels: C.
        out: O.
        kernel: taps along every axis, or one number an axis.
        stride: distance of positions, in samples, for all axes or one an axis.
        dilation: distance of taps, as `stride`.
        groups: parts of the channels that do not see each other.
        table: for each map given out, the numbers of the maps that it sees; None: all. Only the
            weights of existing connections are parameters then, (links, *kernel).
        padding: "valid", "same", "full", "causal" (along the last axis, "same" along the others),
            a number, a pair for every axis, or a pair an axis.
        border: what stands beyond the border, see `pad`; where the padding is causal zero, constant
            or replicate.
        value: of a constant border.
        bias: "shared" by all positions, "untied" with one a position, or "none".
        size: of the maps that come in; needed for an untied bias alone.
        tiling: "floor", "ceil" or "strict": what to do where the last window does not fit.
        flip: true convolution instead of correlation.

    Raises:
        ValueError: a choice is unknown, a number out of range, groups do not divide the channels, a
            table names maps that are not there, an untied bias has no size, or a causal padding
            has a border made of later samples; in the forward pass, x has other channels or axes,
            or not the size of the untied bias, or windows have no position or do not tile.

    Source: LeCun, Bottou, Bengio, Haffner 1998, table I, for connection tables.
    """

    links: Tensor

    def __init__(
        self,
        axes: int,
        channels: int,
        out: int,
        kernel: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        table: Sequence[Sequence[int]] | None = None,
        padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
        border: str = "zero",
        value: float = 0.0,
        bias: str = "shared",
        size: int | Sequence[int] | None = None,
        tiling: str = "floor",
        flip: bool = False,
    ) -> None:
        super().__init__()
        if axes not in _CONV:
            raise ValueError(f"axes must be 1 to 3; got {axes}")
        whole(1, channels=channels, out=out, groups=groups)
        taps, strides, dilations = per_axis(axes, kernel=kernel, stride=stride, dilation=dilation)
        if channels % groups or out % groups:
            raise ValueError(
                f"groups must divide channels and out; got {groups}, {channels}, {out}"
            )
        one_of(BIASES, bias=bias)
        one_of(BORDERS, border=border)
        one_of(TILINGS, tiling=tiling)
        if padding == "causal":
            one_of(PAST_ONLY, **{"border of a causal padding": border})
        self.kernel, self.stride, self.dilation, self.groups = taps, strides, dilations, groups
        self.border, self.value, self.tiling, self.flip = border, value, tiling, flip
        self.ends = _ends_for(padding, taps, dilations)
        self.shape = (out, channels // groups, *taps)
        self.weight = nn.Parameter(torch.empty(self.shape))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.sparse = table is not None
        if table is not None:
            self._connect(table, channels)
        places: tuple[int, ...] = (1,) * axes
        self.untied = bias == "untied"
        if self.untied:
            if size is None:
                raise ValueError("an untied bias needs the size of the maps that come in")
            places = self.shape_of(*per_axis(axes, size=size))
        self.bias = None if bias == "none" else nn.Parameter(torch.zeros(out, *places))

    def _connect(self, table: Sequence[Sequence[int]], channels: int) -> None:
        """Keep the weights of the table's connections alone, as wide as their fan-in asks."""
        out = self.shape[0]
        wrong = [row for row in table if len(set(row)) < len(row) or not row]
        wrong += [row for row in table if row and not 0 <= min(row) <= max(row) < channels]
        if wrong or len(table) != out or self.groups > 1:
            raise ValueError(
                f"table must name different maps of 0 to {channels - 1} for each of {out} maps, in "
                f"one group; got {[list(row) for row in wrong] or f'{len(table)} rows'}"
            )
        links = torch.tensor([(o, c) for o, row in enumerate(table) for c in row]).T
        self.register_buffer("links", links.contiguous(), persistent=False)
        share = torch.tensor([channels / len(table[o]) for o in links[0].tolist()]).sqrt()
        kept = self.weight.detach()[links[0], links[1]]
        self.weight = nn.Parameter(kept * share.view(-1, *[1] * (kept.dim() - 1)))

    def kernels(self) -> Tensor:
        """Return the weights (O, C / groups, *K), with zeros where a table has no connection."""
        if not self.sparse:
            return self.weight
        full = self.weight.new_zeros(self.shape)
        return full.index_put((self.links[0], self.links[1]), self.weight)

    def shape_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size behind this layer.

        Raises:
            ValueError: there is another number of axes, no position, or strict windows do not
                tile.
        """
        if len(size) != len(self.kernel):
            raise ValueError(f"size must have {len(self.kernel)} axes; got {tuple(size)}")
        wide = tuple(before + s + after for s, (before, after) in zip(size, self.ends, strict=True))
        places = shape_after(wide, self.kernel, self.stride, 0, self.dilation, self.tiling)
        if self.tiling != "ceil":
            return places
        # A window that hangs over begins before the end of the samples.
        rows = zip(places, size, self.ends, self.stride, strict=True)
        return tuple(min(count, (b + s - 1) // step + 1) for count, s, (b, _), step in rows)

    def _places(self, x: Tensor) -> tuple[int, ...]:
        """Return the size behind x; refuse maps that this layer is not made for."""
        channels = self.shape[1] * self.groups
        if x.dim() != len(self.kernel) + 2 or x.shape[1] != channels:
            raise ValueError(
                f"x must be (N, {channels}, *S) with {len(self.kernel)} axes; got {tuple(x.shape)}"
            )
        places = self.shape_of(tuple(x.shape[2:]))
        if self.untied and self.bias is not None and self.bias.shape[1:] != places:
            raise ValueError(
                f"x must give maps of the size {tuple(self.bias.shape[1:])} of the untied bias; "
                f"got {tuple(x.shape)}, which gives {places}"
            )
        return places

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps."""
        places = self._places(x)
        wide = pad(x, self.ends, self.border, self.value)
        if self.tiling == "ceil":  # windows hang over the end, and none begins behind it
            rows = zip(places, self.stride, self.kernel, self.dilation, strict=True)
            need = [(n - 1) * step + effective_kernel(k, d) for n, step, k, d in rows]
            over = [[0, n - s] for n, s in zip(need, wide.shape[2:], strict=True)]
            wide = F.pad(wide, [end for pair in reversed(over) for end in pair])
        y = convolve(
            wide,
            self.kernels(),
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            flip=self.flip,
        )
        return y if self.bias is None else y + self.bias

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the weighted links of one sample: those of the table alone, biases too."""
        places = prod(y.shape[2:])
        return places * (self.weight.numel() + (self.bias is not None) * y.shape[1])

    def extra_repr(self) -> str:
        """Return the arguments that are not the defaults' own."""
        out, channels = self.shape[0], self.shape[1] * self.groups
        return (
            f"{channels}, {out}, kernel={self.kernel}, stride={self.stride}, "
            f"dilation={self.dilation}, groups={self.groups}, padding={self.ends}, "
            f"border={self.border!r}, tiling={self.tiling!r}"
        )


def _ends_for(
    padding: str | int | Sequence[int] | Sequence[Sequence[int]],
    taps: tuple[int, ...],
    dilations: tuple[int, ...],
) -> list[list[int]]:
    """Return (before, after) of each axis."""
    if isinstance(padding, str):
        last = len(taps) - 1
        kinds = ["same" if padding == "causal" and a != last else padding for a in range(len(taps))]
        rows = zip(kinds, taps, dilations, strict=True)
        return [list(padding_for(kind, count, 1, gap)) for kind, count, gap in rows]
    return ends_of(padding, len(taps), "padding")
