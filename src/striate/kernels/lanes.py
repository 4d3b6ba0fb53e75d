"""A chain of convolutions, activations and pooling as one operator, and its gradient as another.

Images lie side by side in the lanes of vectors, so that few channels, which leave channels-last
vectors empty, cost nothing. Graphs of torch.compile hold these operators; `chains` puts them there.
"""

from collections.abc import Sequence
from ctypes import Array, cast
from dataclasses import dataclass
from functools import cache
from math import inf

import torch
from torch import Tensor

from striate.kernels.geometry import geometry, shape_after
from striate.kernels.library import Chain, Conv, Link, LinkPointer, level, library, run
from striate.kernels.memory import pool
from striate.kernels.operators import LIBRARY, shaped

__all__ = ["CLIP", "LOGISTIC", "MAX", "MEAN", "NO_POOLING", "STRAIGHT", "TANH", "Stage"]

# As in csrc/api.h: what stands behind a convolution.
STRAIGHT, CLIP, TANH, LOGISTIC = range(4)
NO_POOLING, MAX, MEAN = range(3)


@dataclass(frozen=True)
class Stage:
    """A link of a chain but for its kernels: a convolution, an activation, pooling.

    Math:  y = pool(act(x * w + b)); act is the identity, clip(x, low, high), outer tanh(inner x) or
        the logistic function

    Args:
        stride: of the convolution, in samples; padding and dilation too.
        activation: STRAIGHT, CLIP, TANH or LOGISTIC.
        pooling: NO_POOLING, MAX or MEAN.
        window: of pooling, in samples; step and border too.
        pooled: answers of pooling along each axis.
        divisor: of the mean; 0 for how many there are.
        counts_border: whether there are as many as the window has, or only those inside.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: int = STRAIGHT
    low: float = -inf
    high: float = inf
    inner: float = 1.0
    outer: float = 1.0
    pooling: int = NO_POOLING
    window: tuple[int, int] = (1, 1)
    step: tuple[int, int] = (1, 1)
    border: tuple[int, int] = (0, 0)
    pooled: tuple[int, int] = (0, 0)
    divisor: int = 0
    counts_border: bool = True

    @property
    def numbers(self) -> tuple[list[int], list[float]]:
        """What an operator is told, which takes lists of numbers only."""
        whole: list[int] = [*self.stride, *self.padding, *self.dilation, self.groups]
        whole += [self.activation, self.pooling, *self.window, *self.step, *self.border]
        whole += [*self.pooled, self.divisor, int(self.counts_border)]
        return whole, [self.low, self.high, self.inner, self.outer]


WHOLE, BROKEN = 19, 4  # numbers of a stage


def _stage(whole: Sequence[int], broken: Sequence[float]) -> Stage:
    w, b = whole, broken
    return Stage(
        (w[0], w[1]), (w[2], w[3]), (w[4], w[5]), w[6], w[7], b[0], b[1], b[2], b[3],
        w[8], (w[9], w[10]), (w[11], w[12]), (w[13], w[14]), (w[15], w[16]), w[17], bool(w[18]),
    )  # fmt: skip


def _stages(whole: Sequence[int], broken: Sequence[float]) -> list[Stage]:
    each = range(len(whole) // WHOLE)
    return [
        _stage(whole[k * WHOLE : (k + 1) * WHOLE], broken[k * BROKEN : (k + 1) * BROKEN])
        for k in each
    ]


@dataclass(frozen=True)
class Plan:
    """What is known of a chain but for its tensors.

    Args:
        links: as the library sees them.
        answer: shape of an answer without the batch.
        lanes: images in a block.
        floats: that a block keeps for its gradient.
    """

    links: "Array[Link]"
    answer: tuple[int, ...]
    lanes: int
    floats: int


@cache
def _plan(
    whole: tuple[int, ...], broken: tuple[float, ...], size: tuple[int, ...],
    kernels: tuple[tuple[int, ...], ...], strides: tuple[tuple[int, ...], ...], level: str,
) -> Plan:  # fmt: skip
    stages = _stages(whole, broken)
    links = (Link * len(stages))()
    for link, stage, shape, stride in zip(links, stages, kernels, strides, strict=True):
        linear = len(shape) == 2
        size = (1, 1) if linear else size
        meta = torch.empty(0, device="meta").as_strided(shape, stride)
        meta = meta[..., None, None] if linear else meta
        how = list(stage.stride), list(stage.padding), list(stage.dilation)
        _describe(link, stage, geometry(1, size, meta, *how, stage.groups))
        out = shape_after(size, meta.shape[2:], *how)
        size = stage.pooled if stage.pooling else (out[0], out[1])
    answer = (kernels[-1][0], *(() if len(kernels[-1]) == 2 else size))
    own = Chain(n=1, links=len(links), link=cast(links, LinkPointer))
    found = library()
    assert found is not None
    return Plan(links, answer, found.striate_chain_lanes(), found.striate_chain_floats(own))


def _describe(link: Link, stage: Stage, conv: Conv) -> None:
    link.conv = conv
    link.conv.low, link.conv.high = stage.low, stage.high
    link.activation, link.pooling = stage.activation, stage.pooling
    link.window[:], link.step[:], link.border[:] = stage.window, stage.step, stage.border
    link.pooled[:] = stage.pooled
    link.divisor, link.counts_border = stage.divisor, stage.counts_border
    link.inner, link.outer = stage.inner, stage.outer


def _planned(x: Tensor, weights: list[Tensor], whole: list[int], broken: list[float]) -> Plan:
    kernels = tuple(tuple(w.shape) for w in weights)
    strides = tuple(w.stride() for w in weights)
    return _plan(tuple(whole), tuple(broken), tuple(x.shape[2:]), kernels, strides, level())


def _chain(x: Tensor, weights: list[Tensor], plan: Plan) -> tuple[Chain, "Array[Link]"]:
    """Return a description of our own, with the kernels in it."""
    links = type(plan.links).from_buffer_copy(plan.links)
    for link, weight in zip(links, weights, strict=True):
        link.weight = weight.data_ptr()
    chain = Chain(n=x.shape[0], links=len(links), threads=torch.get_num_threads())
    chain.stride_x[:] = _four(x)
    chain.link = cast(links, LinkPointer)
    return chain, links


def _four(x: Tensor) -> tuple[int, ...]:
    """Return strides of (N, C, H, W); those of axes that are missing matter to nobody."""
    return (*x.stride(), 0, 0)[:4]


def _floats(x: Tensor, plan: Plan) -> int:
    """Return how many floats a batch keeps."""
    return (x.shape[0] + plan.lanes - 1) // plan.lanes * plan.floats


def forward(
    x: Tensor, weights: list[Tensor], biases: list[Tensor | None],
    whole: list[int], broken: list[float], keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the answer of the last stage, and what the gradient wants if it is to be kept."""
    plan = _planned(x, weights, whole, broken)
    y, kept = x.new_empty(x.shape[0], *plan.answer), x.new_empty(0)
    if keep and x.shape[0]:  # from our pool: memory that is new each step costs as much as a layer
        kept = pool.take([_floats(x, plan)], [1])
    chain, links = _chain(x, weights, plan)
    biases = [None if b is None else b.contiguous() for b in biases]
    for link, bias in zip(links, biases, strict=True):
        link.bias = None if bias is None else bias.data_ptr()
    run("chain_forward", chain, x.data_ptr(), y.data_ptr(), kept.data_ptr() if keep else None)
    return y, kept


def backward(
    dy: Tensor, x: Tensor, weights: list[Tensor], kept: Tensor,
    whole: list[int], broken: list[float], wanted: list[bool],
) -> list[Tensor]:  # fmt: skip
    """Return gradients of sum(dy y) to x, all kernels and all biases; empty if not wanted."""
    chain, links = _chain(x, weights, _planned(x, weights, whole, broken))
    chain.stride_dy[:] = _four(dy)
    found = _gradients(x, weights, wanted)
    pointers = [g.data_ptr() if want else None for g, want in zip(found, wanted, strict=True)]
    count = len(weights)
    for k, link in enumerate(links):
        link.dweight, link.dbias = pointers[1 + k], pointers[1 + count + k]
    run("chain_backward", chain, x.data_ptr(), dy.data_ptr(), kept.data_ptr(), pointers[0])
    return found


def _gradients(x: Tensor, weights: list[Tensor], wanted: list[bool]) -> list[Tensor]:
    """Return memory for them."""
    shapes = [x.shape, *(w.shape for w in weights), *(w.shape[:1] for w in weights)]
    return [x.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True)]


LIBRARY.define(
    "chain(Tensor x, Tensor[] weights, Tensor?[] biases, int[] whole, float[] broken, bool keep) "
    "-> (Tensor, Tensor)"
)
LIBRARY.define(
    "chain_backward(Tensor dy, Tensor x, Tensor[] weights, Tensor kept, int[] whole, "
    "float[] broken, bool[] wanted) -> Tensor[]"
)
LIBRARY.impl("chain", forward, "CPU")
LIBRARY.impl("chain_backward", backward, "CPU")


@shaped("chain")
def _(x, weights, biases, whole, broken, keep):  # type: ignore[no-untyped-def]
    plan = _planned(x, weights, whole, broken)
    kept = x.new_empty(_floats(x, plan) if keep else 0)
    return x.new_empty(x.shape[0], *plan.answer), kept


@shaped("chain_backward")
def _(dy, x, weights, kept, whole, broken, wanted):  # type: ignore[no-untyped-def]
    return _gradients(x, weights, wanted)
