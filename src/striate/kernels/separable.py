"""A depthwise convolution between two pointwise ones, in inference: one operator.

What lies between is several times as large as what goes in and comes out. Computed at once, in
bands of lines, it stays in the cache.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.nn.functional import pad

from striate.kernels.convolution import convolved
from striate.kernels.dispatch import quickest
from striate.kernels.geometry import geometry, last, shape_after
from striate.kernels.library import Conv, Separable, run
from striate.kernels.memory import empty
from striate.kernels.nodes import call, value
from striate.kernels.operators import as_operator, shaped

__all__ = ["replace", "separated"]

ours = torch.ops.striate
Numbers = list[int]
BLOCK, NARROW = 32, 16  # as csrc/separable.hpp has them
APART, TOGETHER = 0, 1
OPEN = ([1, 1], [0, 0], [1, 1], 1)  # how a pointwise convolution goes


@as_operator
def arranged(weights: list[Tensor], biases: list[Tensor | None]) -> list[Tensor]:
    """Return kernels and biases as the library reads them: in blocks of channels between.

    Shape: [(H, C, 1, 1),] (H, 1, K, L), (O, H, 1, 1); as many biases; of two, the first is empty

    Returns:
        The first kernel, its bias, the second one, its bias, and the last kernel.
    """
    *rows, back = (weight.flatten(1) for weight in weights)
    found = [back.new_empty(0) for _ in range(4 - 2 * len(rows))]
    for row, bias in zip(rows, biases, strict=False):
        shift = row.new_zeros(len(row)) if bias is None else bias
        found += [_blocks(_padded(row, 0)), _padded(shift, 0)]
    return [*found, _padded(_padded(back, 0), 1).t().contiguous()]


def _padded(x: Tensor, axis: int) -> Tensor:
    """Add zeros behind an axis, up to a multiple of 16; always a copy."""
    ends = [0] * (2 * x.dim())
    ends[-1 - 2 * axis] = -x.shape[axis] % NARROW
    return pad(x.clone(), ends)


def _blocks(rows: Tensor) -> Tensor:
    """Turn (H, D) into [block][D][32], where the last block may have 16; flat."""
    return torch.cat([block.t().flatten() for block in rows.split(BLOCK)])


def separated(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], addend: Tensor | None,
    bounds: Sequence[float], stride: Numbers, padding: Numbers, dilation: Numbers,
    ready: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Correlate pixel by pixel, channel by channel, and pixel by pixel again, clipping each time.

    Shape: (N, C, *S), [(H, C, 1, 1),] (H, 1, K, L), (O, H, 1, 1) -> (N, O, *T)
    Math:  y = clip(w3 clip(w2 * clip(w1 x + b1) + b2) + b3 + addend)

    Args:
        weights: two or three; the first of three may be missing.
        biases: one each, or None.
        bounds: of each, low and high.
        stride: of the depthwise one, as padding and dilation.
        ready: the weights, `arranged`.
    """
    depth = weights[-2]
    how = (stride, padding, dilation, len(depth))
    x, addend = last(x), None if addend is None else last(addend)

    def attempt(way: int) -> Tensor:
        if way == TOGETHER:
            own = geometry(x.shape[0], x.shape[2:], depth, *how)
            return _together(x, own, weights, biases[-1], addend, bounds, ready)
        y, hows = x, (OPEN, how, OPEN)[-len(weights) :]
        for k, (weight, bias, each) in enumerate(zip(weights, biases, hows, strict=True)):
            more, (low, high) = addend if k == len(hows) - 1 else None, bounds[2 * k : 2 * k + 2]
            y = convolved(y, weight, bias, more, low, high, *each)
        return y

    shapes = [tuple(t.shape) for t in (x, *weights)]
    key = f"separable {shapes}, {stride}, {padding}, {dilation}, threads {torch.get_num_threads()}"
    return quickest(key, lambda: (APART, TOGETHER), attempt, x.numel())


@as_operator
def separable(
    x: Tensor, weights: list[Tensor], biases: list[Tensor | None], addend: Tensor | None,
    bounds: list[float], stride: Numbers, padding: Numbers, dilation: Numbers,
    ready: list[Tensor],
) -> Tensor:  # fmt: skip
    """Do what `separated` does."""
    return separated(x, weights, biases, addend, bounds, stride, padding, dilation, ready)


def _together(
    x: Tensor, depth: Conv, weights: Sequence[Tensor], end: Tensor | None, addend: Tensor | None,
    bounds: Sequence[float], ready: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    own = Separable(depth=depth, o=weights[-1].shape[0])
    if len(weights) == 3:
        own.c = weights[0].shape[1]
        own.first_low, own.first_high = bounds[:2]
    own.depth.low, own.depth.high, own.last_low, own.last_high = bounds[-4:]
    y = empty(depth.n, own.o, tuple(depth.out)[1:])
    end = None if end is None else end.contiguous()
    tensors = (x, *ready, end, addend, y)
    run("separable_forward", own, *(None if t is None else t.data_ptr() for t in tensors))
    return y


@shaped("arranged")
def _(weights, biases):  # type: ignore[no-untyped-def]
    *rows, back = weights
    wide, o = (n + -n % NARROW for n in back.shape[1::-1])
    counts = [n for row in rows for n in (wide * prod(row.shape[1:]), wide)]
    return [back.new_empty(n) for n in [0] * (4 - len(counts)) + counts] + [back.new_empty(wide, o)]


@shaped("separable")
def _(x, weights, biases, addend, bounds, stride, padding, dilation, ready):  # type: ignore[no-untyped-def]
    out = shape_after(x.shape[2:], weights[-2].shape[2:], stride, padding, dilation)
    return x.new_empty(x.shape[0], *out, weights[-1].shape[0]).movedim(-1, 1)


# In a graph


@dataclass(frozen=True)
class Part:
    """A convolution of aten's graph that is ours already: what it is told."""

    node: Node
    x: Node
    weight: Node
    bias: Node | None
    addend: Node | None
    bounds: tuple[float, float]
    how: tuple[Any, ...]

    @property
    def pointwise(self) -> bool:
        """Whether it is of single pixels, all of them, all channels."""
        return tuple(value(self.weight).shape[2:]) == (1, 1) and self.how == OPEN

    @property
    def depthwise(self) -> bool:
        """Whether each channel has a kernel of its own, and gives one channel."""
        shape = value(self.weight).shape
        return len(shape) == 4 and shape[0] == self.how[3] > 1 == shape[1]


def _part(node: Any) -> Part | None:
    if not isinstance(node, Node):
        return None
    if node.target is ours.convolve.default:
        x, weight, bias, *how = node.args
        return Part(node, x, weight, bias, None, (-inf, inf), tuple(how))  # type: ignore[arg-type]
    if node.target is ours.convolve_clipped.default:
        x, weight, bias, addend, low, high, *how, silu = node.args
        return None if silu else Part(node, x, weight, bias, addend, (low, high), tuple(how))  # type: ignore[arg-type]
    return None


def replace(graph: Graph) -> None:
    """Put one operator where depthwise convolutions stand between pointwise ones; for inference."""
    for node in list(graph.nodes):
        middle = _part(node)
        if middle is not None and middle.depthwise and middle.addend is None:
            _replace(middle)
    graph.eliminate_dead_code()


def _replace(middle: Part) -> None:
    users = list(middle.node.users)
    end = _part(users[0]) if len(users) == 1 else None
    if end is None or not end.pointwise or end.x is not middle.node or end.addend is middle.node:
        return
    begin = _part(middle.x)
    parts = [middle, end]
    if begin is not None and begin.pointwise and not begin.addend and len(middle.x.users) == 1:
        parts.insert(0, begin)
    weights, biases = [part.weight for part in parts], [part.bias for part in parts]
    bounds = [limit for part in parts for limit in part.bounds]
    with end.node.graph.inserting_before(end.node):
        found = call(end.node, ours.arranged.default, weights, biases)
        ready = [call(end.node, operator.getitem, found, k) for k in range(5)]
        how = middle.how[:3]
        y = call(
            end.node, ours.separable.default,
            parts[0].x, weights, biases, end.addend, bounds, *how, ready,
        )  # fmt: skip
    end.node.replace_all_uses_with(y)
