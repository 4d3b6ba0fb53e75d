"""Memory for large answers, kept for the next one when an answer is gone.

glibc gives large blocks back to the system as soon as they are free, and what is free at the end of
its heap. To get them anew, page by page, takes several times as long as to fill them.
"""

import ctypes
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from math import prod
from threading import Lock
from typing import Any

import torch
from torch import Tensor

__all__ = ["LARGE", "Pool", "empty"]

LARGE = 4 << 20  # bytes from which on memory is kept
WINDOW = 1000  # blocks lent, some steps of a training
# What the library reads and writes, whatever torch.set_default_dtype and _device say.
KIND: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


class Pool:
    """Blocks of memory that are lent, come back by themselves, and are lent again.

    When a new block is wanted, what lies idle is at most as much as was lent at once lately: a
    training lends little when a step begins, and wants all of it again before the step ends.
    """

    def __init__(self) -> None:
        self.idle: OrderedDict[int, Tensor] = (
            OrderedDict()
        )  # address -> block, the longest idle first
        self.lent = 0  # floats
        self.most, self.before = 0, 0  # lent at once: in this window of time, in the last one
        self.taken = 0  # blocks, in this window
        self.back: deque[Tensor] = deque()  # a block may come back in the middle of anything
        self.lock = Lock()

    def take(self, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
        """Return float32 memory that nobody else has, dense, of that shape and order."""
        count = prod(shape)
        with self.lock:
            self._collect()
            block = self._idle(count)
            if block is None:
                self._release()
                block = torch.empty(count, **KIND)
            self.lent += count
            self._count()
        seen = (ctypes.c_float * count).from_address(block.data_ptr())
        weakref.finalize(seen, self.back.append, block).atexit = False
        storage = torch.frombuffer(seen, dtype=torch.float32).untyped_storage()
        return torch.empty(0, **KIND).set_(storage, 0, tuple(shape), tuple(stride))

    def _collect(self) -> None:
        while self.back:
            block = self.back.popleft()
            self.idle[block.data_ptr()] = block
            self.lent -= block.numel()

    def _idle(self, count: int) -> Tensor | None:
        fits = (address for address, block in self.idle.items() if block.numel() == count)
        address = next(fits, None)
        return None if address is None else self.idle.pop(address)

    def _count(self) -> None:
        self.most, self.taken = max(self.most, self.lent), self.taken + 1
        if self.taken == WINDOW:
            self.before, self.most, self.taken = self.most, self.lent, 0

    def _release(self) -> None:
        idle = sum(block.numel() for block in self.idle.values())
        while idle > max(self.before, self.most):
            idle -= self.idle.popitem(last=False)[1].numel()


pool = Pool()


def empty(n: int, c: int, size: Sequence[int]) -> Tensor:
    """Return memory for n samples of c channels, channels last; what it holds is not defined.

    It is no view of another tensor, so operators behind it may change it in place.
    """
    shape, order = (n, c, *size), (0, *range(2, len(size) + 2), 1)
    if 4 * prod(shape) < LARGE:
        return torch.empty_permuted(shape, order, **KIND)
    strides = dict(zip(reversed(order), _strides([shape[k] for k in reversed(order)]), strict=True))
    return pool.take(shape, [strides[k] for k in range(len(shape))])


def _strides(sizes: Sequence[int]) -> list[int]:
    """Return the strides of axes, of which the first is the innermost."""
    return [prod(sizes[:k]) for k in range(len(sizes))]
