"""What each layer sees of the input, measured: NaN at a sample reaches whoever looks at it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from striate.kernels.accelerated import as_torch

__all__ = ["Field", "evaluating", "receptive_fields", "units", "watched"]


@dataclass(frozen=True)
class Field:
    """What one position of a map sees.

    Args:
        size: extent along each axis, in samples of the input; where it is larger than the input,
            as much of it as the borders show, mostly the input's own extent.
        jump: distance of the fields of neighbouring positions along each axis, in samples; 0
            where a map has one position.
    """

    size: tuple[int, ...]
    jump: tuple[float, ...]


def units(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) of the layers: no parts, connections counted, or parameters of its own.

    A module of parts that has parameters besides them follows its parts.
    """

    def walk(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        parts = list(module.named_children())
        whole = not parts or hasattr(module, "connections")
        for part, child in [] if whole else parts:
            yield from walk(f"{name}.{part}" if name else part, child)
        if whole or any(True for _ in module.parameters(recurse=False)):
            yield name or type(module).__name__, module

    return walk("", model)


@contextmanager
def watched(model: nn.Module, saw: Callable[[str, nn.Module, Any, Any], None]) -> Iterator[None]:
    """Call `saw(name, module, inputs, output)` after every layer, the model in evaluation mode."""
    hooks = []
    for name, module in units(model):

        def hook(module: nn.Module, x: Any, y: Any, name: str = name) -> None:
            saw(name, module, x, y)

        hooks.append(module.register_forward_hook(hook))
    try:
        with evaluating(model):
            yield
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, without gradients, and back as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def receptive_fields(model: nn.Module, x: Tensor) -> list[Field]:
    """Measure the receptive field of every layer that runs, in the order of running.

    Half of the input is NaN; whatever a layer then gives out as NaN sees some of that half. Where
    the border between the halves has to lie to reach a position is found by bisection: `last` is
    the last sample that a position sees, `first` the first. This holds for every graph, with
    branches and sums, as long as no layer chooses by comparing values.

    Math:  field = last(p) - first(p) + 1 of the position p in the middle; where a border hides an
           end of it, last(0) + jump (P - 1) - first(P - 1) + 1, from the positions that show it

    Args:
        model: any; it is put into evaluation mode meanwhile.
        x: one sample (1, C, *S) of finite values, on the model's device.

    Raises:
        ValueError: the model gives NaN for x itself, or refuses NaN.
    """
    with as_torch(model):
        probe = _Probe(model, x)
        return [probe.field(call) for call in range(len(probe.axes_of))]


class _Probe:
    """Runs the model on halves of NaN, remembering what came of each."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x
        self.size = tuple(x.shape[2:])
        self.axes_of: list[bool] = []  # of each call: has its output the input's axes?
        self.reached = cache(self._reached)
        if any(bool(row.any()) for row in self._run(x, 0)):
            raise ValueError("the model gives NaN for a finite sample: there is nothing to measure")

    def _run(self, x: Tensor, axis: int) -> list[Tensor]:
        """Return for every call which of its positions along `axis` hold NaN."""
        rows: list[Tensor] = []
        self.axes_of.clear()

        def saw(name: str, module: nn.Module, inputs: Any, y: Any) -> None:
            y = y if isinstance(y, Tensor) else next(v for v in y if isinstance(v, Tensor))
            nan = y.isnan()
            alike = y.dim() == x.dim()
            others = [d for d in range(y.dim()) if not alike or d != 2 + axis]
            rows.append(nan.any(others).reshape(-1).cpu())
            self.axes_of.append(alike)

        with watched(self.model, saw):
            self.model(x)
        return rows

    def _reached(self, axis: int, cut: int, above: bool) -> list[Tensor]:
        """Run with NaN at the samples from `cut` on (`above`), or up to it."""
        place = torch.arange(self.size[axis], device=self.x.device)
        half = place >= cut if above else place <= cut
        shape = [1] * self.x.dim()
        shape[2 + axis] = -1
        return self._run(self.x.masked_fill(half.view(shape), torch.nan), axis)

    def last(self, call: int, axis: int, position: int) -> int:
        """Return the last sample that a position sees; -1 where it sees none."""
        low, high = -1, self.size[axis] - 1
        while low < high:
            cut = (low + high + 1) // 2
            if self.reached(axis, cut, True)[call][position]:
                low = cut
            else:
                high = cut - 1
        return low

    def first(self, call: int, axis: int, position: int) -> int:
        """Return the first sample that a position sees."""
        low, high = 0, self.size[axis]
        while low < high:
            cut = (low + high) // 2
            if self.reached(axis, cut, False)[call][position]:
                high = cut
            else:
                low = cut + 1
        return low

    def field(self, call: int) -> Field:
        """Return the field of one call."""
        found = [self._along(call, axis) for axis in range(len(self.size))]
        return Field(tuple(size for size, _ in found), tuple(jump for _, jump in found))

    def _along(self, call: int, axis: int) -> tuple[int, float]:
        """Return (field, jump) along one axis."""
        end = self.size[axis] - 1
        count = len(self.reached(axis, end, True)[call])
        seen = [
            (self.first(call, axis, place), self.last(call, axis, place))
            for place in {(count - 1) // 2, count // 2}  # of two in the middle, who sees more
        ]
        first, last = max(seen, key=lambda ends: ends[1] - ends[0])
        if count == 1 or last < 0:
            return max(0, last - first + 1), 0.0
        left, right = self._whole_ends(call, axis)
        jump = self._jump(call, axis, left, right)
        if first > 0 and last < end:
            return last - first + 1, jump
        if not left or not right:
            return end + 1, jump
        near, far = self.last(call, axis, left[0]), self.first(call, axis, right[-1])
        return round(near + jump * (right[-1] - left[0]) - far + 1), jump

    def _whole_ends(self, call: int, axis: int) -> tuple[list[int], list[int]]:
        """Return the positions whose field ends before the input does, and begins after it."""
        end, found = self.size[axis] - 1, []
        for all_of_it, border, above in ((0, end, True), (end, 0, False)):
            sees = self.reached(axis, all_of_it, above)[call]
            hidden = self.reached(axis, border, above)[call]
            found.append((sees & ~hidden).nonzero()[:, 0].tolist())
        return found[0], found[1]

    def _jump(self, call: int, axis: int, left: list[int], right: list[int]) -> float:
        """Return the mean distance of neighbouring fields, by the ends that no border hides.

        The mean is over a power of two of positions, as what was pooled and drawn out again
        repeats in powers of two. Where no two positions show an end, the border may hide some of
        the distance, so the larger of two counts.
        """
        for end_of, places in ((self.last, left), (self.first, right[::-1])):
            if len(places) > 1:
                here, there = places[0], places[1 << (len(places) // 2).bit_length() - 1]
                return (end_of(call, axis, there) - end_of(call, axis, here)) / (there - here)
        far = len(self.reached(axis, 0, True)[call]) - 1
        after = self.last(call, axis, 1) - self.last(call, axis, 0)
        before = self.first(call, axis, far) - self.first(call, axis, far - 1)
        return max(after, before)
