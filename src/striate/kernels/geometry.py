"""What the library is told of a convolution, and how what it reads lies in memory."""

from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import Any

from torch import Tensor, get_num_threads

from striate.kernels.dispatch import Call
from striate.kernels.library import Conv
from striate.kernels.memory import empty

__all__ = ["geometry", "last", "lies_last", "planned", "shape_after", "turned"]


def three(numbers: Sequence[int], fill: int) -> list[int]:
    """Return numbers of three axes; those that are missing stand in front."""
    return [fill] * (3 - len(numbers)) + list(numbers)


def shape_after(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:  # fmt: skip
    """Return how many positions a kernel has along each axis."""
    each = zip(size, kernel, stride, padding, dilation, strict=True)
    return [(s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in each]


def geometry(
    n: int,
    size: Sequence[int],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Conv:
    """Return what the library has to know of a convolution of samples of `size`."""
    how = (tuple(stride), tuple(padding), tuple(dilation), groups, get_num_threads())
    return Conv.from_buffer_copy(_geometry(n, tuple(size), weight.shape, weight.stride(), *how))


def planned(
    direction: str, n: int, size: Sequence[int], weight: Tensor, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], groups: int, fixed: bool = False,
) -> tuple[Call, Conv, int]:  # fmt: skip
    """Return what `dispatch` is asked, and what the library is told: a copy to be changed.

    Taps that see only the border are left out of that; last comes how many bytes behind the first
    tap of all the first one lies that is left.

    Args:
        direction, fixed: see `Call`.
    """
    how = (tuple(stride), tuple(padding), tuple(dilation), groups, get_num_threads())
    where = (n, tuple(size), weight.shape, weight.stride())
    call, own, offset = _planned(direction, fixed, *where, *how)
    return call, Conv.from_buffer_copy(own), offset


Sizes = tuple[int, ...]


@lru_cache(maxsize=4096)  # describing it takes as long as a small convolution, and so does a plan
def _geometry(
    n: int, size: Sizes, shape: Sizes, strides: Sizes, stride: Sizes, padding: Sizes,
    dilation: Sizes, groups: int, threads: int,
) -> Conv:  # fmt: skip
    kernel = shape[2:]
    own = Conv(n=n, c=shape[1] * groups, o=shape[0], groups=groups, threads=threads)
    own.size[:] = three(size, 1)
    own.out[:] = three(shape_after(size, kernel, stride, padding, dilation), 1)
    own.kernel[:], own.stride[:] = three(kernel, 1), three(stride, 1)
    own.pad[:], own.dilation[:] = three(padding, 0), three(dilation, 1)
    own.weight_o, own.weight_c = strides[:2]
    own.weight_k[:] = three(strides[2:], 0)
    own.low, own.high = -inf, inf
    return own


@lru_cache(maxsize=4096)
def _planned(direction: str, fixed: bool, *where: Any) -> tuple[Call, Conv, int]:
    own = Conv.from_buffer_copy(_geometry(*where))
    call = _called(direction, own, fixed)
    return call, own, _trim(own, call)


def turned(own: Conv) -> Conv:
    """Return the convolution that gives the gradient to the input.

    Of stride 1 it is one; of stride 2 it keeps stride and border, and scatters its answers.
    """
    back = Conv.from_buffer_copy(own)
    back.c, back.o, back.turned = own.o, own.c, 1
    back.size[:], back.out[:] = own.out, own.size
    if own.stride[2] == 1:
        back.pad[:] = [k - 1 - p for k, p in zip(own.kernel, own.pad, strict=True)]
    return back


def _trim(own: Conv, call: Call) -> int:
    """Leave out taps that see only the border; return how far the first one lies, in bytes."""
    offset = 0
    for axis, (first, end) in enumerate(call.seen):
        offset += 4 * first * own.weight_k[axis]
        own.pad[axis] -= first * own.dilation[axis]
        own.kernel[axis] = end - first
    return offset


def last(x: Tensor) -> Tensor:
    """Return x with its channels last in memory, whatever its sizes.

    torch calls any order channels-last where an axis has size 1, and leaves it as it is.
    """
    moved = x.movedim(1, -1)
    if moved.is_contiguous() and moved.stride(-1) == 1:
        return x
    return empty(x.shape[0], x.shape[1], x.shape[2:]).copy_(x)


def lies_last(weight: Tensor) -> bool:
    """Say whether kernels lie channels last in memory, and only so."""
    return weight.movedim(1, -1).is_contiguous() and not weight.is_contiguous()


def _called(direction: str, own: Conv, fixed: bool = False) -> Call:
    """Return what `dispatch` is asked."""
    size, out, kernel, stride, pad, dilation = (
        (n[0], n[1], n[2])
        for n in (own.size, own.out, own.kernel, own.stride, own.pad, own.dilation)
    )
    return Call(
        direction, own.n, own.c, own.o, size, out, kernel, stride, pad, dilation,
        own.groups, own.threads, fixed,
    )  # fmt: skip
