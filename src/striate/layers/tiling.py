"""Where a window can stand: sizes, borders, receptive fields. Arithmetic only, no weights."""

from collections.abc import Sequence
from math import ceil, prod
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.layers.bounds import one_of, per_axis, whole

__all__ = [
    "BORDERS",
    "effective_kernel",
    "ends_of",
    "even_widths",
    "pad",
    "padding_for",
    "participation",
    "shape_after",
    "stack_receptive_field",
]

Size = TypeVar("Size", int, tuple[int, ...])
# What may stand beyond the border, and torch's word for it.
BORDERS = {
    "zero": "constant",
    "constant": "constant",
    "mean": "constant",
    "replicate": "replicate",
    "reflect": "reflect",
    "circular": "circular",
}

TILINGS = ("strict", "floor", "ceil")  # what is done where the last window does not fit


def effective_kernel(kernel: int, dilation: int = 1) -> int:
    """Return how many samples a dilated kernel spans.

    Math: d (k - 1) + 1; k = 3 spans 3, 5, 7, 9 for d = 1, 2, 3, 4, and always has 3 taps an axis

    Raises:
        ValueError: `kernel` or `dilation` is below 1.
    """
    whole(1, kernel=kernel, dilation=dilation)
    return dilation * (kernel - 1) + 1


def stack_receptive_field(layers: Sequence[Sequence[int]]) -> list[int]:
    """Return the receptive field behind each layer of a stack, in samples of the input.

    Math: r_l = r_(l-1) + (span_l - 1) prod_(i<l) stride_i, r_0 = 1

    Args:
        layers: (kernel, stride) or (kernel, stride, dilation) of each.

    Raises:
        ValueError: a kernel, stride or dilation is below 1.
    """
    fields, field, jump = [], 1, 1
    for kernel, stride, *rest in layers:
        whole(1, stride=stride)
        field += (effective_kernel(kernel, *rest) - 1) * jump
        jump *= stride
        fields.append(field)
    return fields


def even_widths(sizes: Sequence[Sequence[int]], first: int) -> list[int]:
    """Return numbers of maps that give every layer about as many values as the first.

    Math: maps_l = maps_1 positions_1 / positions_l, rounded, at least 1: where maps shrink there
          are more of them, and each layer takes about as long

    Args:
        sizes: of each layer's maps, without channels.
        first: maps of the first layer.

    Raises:
        ValueError: there is no layer, or a size or `first` is below 1.
    """
    if not sizes:
        raise ValueError(f"sizes must name a layer; got {sizes}")
    whole(1, first=first)
    for size in sizes:
        whole(1, sizes=size)
    values = first * prod(sizes[0])
    return [max(1, round(values / prod(size))) for size in sizes]


def shape_after(
    size: Size,
    kernel: int | tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    tiling: str = "floor",
) -> Size:
    """Return how many positions a window takes along an axis, or along each of several.

    Math: (W - span + 2 P) / S + 1, rounded as `tiling` says

    Args:
        size: W, samples along the axis, or a tuple of them, for which the other numbers may be
            tuples too; a list is answered by a tuple.
        padding: P, samples added at either end.
        tiling: what to do where the last window does not fit: "strict" raises, "floor" leaves the
            rest out, "ceil" lets the last window hang over the end, where it begins before it.

    Raises:
        ValueError: `tiling` is unknown, a number is out of range, there is no position, or the
            tiling is strict and the windows do not fit.
    """
    one_of(TILINGS, tiling=tiling)
    whole(0, size=size)
    each = tuple(size) if isinstance(size, Sequence) else (size,)
    kernels, strides, dilations = per_axis(
        len(each), kernel=kernel, stride=stride, dilation=dilation
    )
    (paddings,) = per_axis(len(each), 0, padding=padding)
    rows = zip(each, kernels, strides, paddings, dilations, strict=True)
    places = tuple(_positions(*row, tiling) for row in rows)
    return places if isinstance(size, Sequence) else places[0]  # type: ignore[return-value]


def _positions(
    size: int, kernel: int, stride: int, padding: int, dilation: int, tiling: str
) -> int:
    """Return the positions along one axis."""
    span = dilation * (kernel - 1) + 1
    room = size - span + 2 * padding
    if room < 0 and not (tiling == "ceil" and -room < stride and size > 0):
        raise ValueError(
            f"a window of {span} has no position in size {size} with padding {padding}"
        )
    if tiling == "strict" and room % stride:
        raise ValueError(
            f"size {size}, kernel {kernel}, stride {stride}, padding {padding} tile "
            f"{room / stride + 1:g} times; wanted a whole number: change one, or take tiling floor"
        )
    if tiling != "ceil":
        return room // stride + 1
    return min(ceil(room / stride) + 1, (size + padding - 1) // stride + 1)


def padding_for(kind: str, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Return the samples to add before and after an axis.

    Args:
        kind: "valid" adds none; "same" keeps the size at stride 1 and gives ceil(W / S) where S
            divides W; the odd sample of an even span goes after; "full" adds span - 1 at both
            ends, so that every overlap counts; "causal" adds span - 1 before, so that no output
            sees what comes later.

    Math: same adds span - 1 in all, (K - 1) / 2 at either end for odd K; K = 1, 3, 5, 7 -> 0..3

    Raises:
        ValueError: `kind` is unknown, or a number is below 1.
    """
    whole(1, stride=stride)
    more = effective_kernel(kernel, dilation) - 1
    kinds = {
        "valid": (0, 0),
        "same": (more // 2, more - more // 2),
        "full": (more, more),
        "causal": (more, 0),
    }
    one_of(kinds, padding=kind)
    return kinds[kind]


def pad(
    x: Tensor,
    amounts: int | Sequence[int] | Sequence[Sequence[int]],
    border: str = "zero",
    value: float = 0.0,
) -> Tensor:
    """Add samples around each axis.

    Shape: (N, C, *S) -> (N, C, *(before + S + after))

    Args:
        amounts: one number for every end, (before, after) for every axis, or one pair an axis.
        border: "zero"; "constant", which is `value`; "mean", the mean of each map;
            "replicate" the outermost sample; "reflect" without repeating it; "circular".
        value: of "constant".

    Raises:
        ValueError: `border` is unknown, an amount is negative, of the wrong number, or wider than
            the map can be reflected or wrapped.
    """
    one_of(BORDERS, border=border)
    ends = ends_of(amounts, x.dim() - 2)
    most = {"reflect": -1, "circular": 0}.get(border)
    for size, pair in zip(x.shape[2:], ends, strict=True):
        if most is not None and max(pair) > size + most:
            raise ValueError(
                f"amounts must be at most {size + most} of {size} by {border}; got {pair}"
            )
    flat = [amount for pair in reversed(ends) for amount in pair]  # torch begins at the last axis
    if border != "mean":
        fill = value if border == "constant" else 0.0
        how = {"value": fill} if BORDERS[border] == "constant" else {}
        return F.pad(x, flat, BORDERS[border], **how)
    mean = x.flatten(2).mean(2).view(*x.shape[:2], *[1] * (x.dim() - 2))
    return F.pad(x - mean, flat) + mean


def ends_of(
    amounts: int | Sequence[int] | Sequence[Sequence[int]], axes: int, name: str = "amounts"
) -> list[list[int]]:
    """Return (before, after) of each axis.

    Args:
        name: of the argument.

    Raises:
        ValueError: `amounts` is no number, no pair, and no pair an axis; or one is not whole or
            below 0.
    """
    pairs: list[Any] = [[amounts, amounts]] * axes
    if isinstance(amounts, Sequence):
        alone = not any(isinstance(item, Sequence) for item in amounts)
        pairs = [amounts] * axes if alone else list(amounts)
    if len(pairs) != axes or not all(
        isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs
    ):
        raise ValueError(f"{name} must be one number, a pair, or {axes} pairs; got {amounts}")
    for pair in pairs:
        whole(0, **{name: pair})
    return [[int(end) for end in pair] for pair in pairs]


def participation(
    size: int | Sequence[int], kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """Return how many windows see each sample: the border is undervalued without padding.

    Shape: -> (*size,) int64; 1 in a corner and kernel^axes inside, for stride 1 without padding

    Args:
        size: samples along every axis; one number is one axis.

    Raises:
        ValueError: as for `shape_after`.
    """
    counts = torch.ones((), dtype=torch.int64)
    for side in size if isinstance(size, Sequence) else (size,):
        positions = shape_after(side, kernel, stride, padding, dilation)
        taps = torch.arange(kernel) * dilation - padding
        seen = (torch.arange(positions)[:, None] * stride + taps).flatten()
        line = torch.bincount(seen[(seen >= 0) & (seen < side)], minlength=side)
        counts = counts[..., None] * line
    return counts
