"""What each layer sees of the input, measured: NaN at a sample reaches whoever looks at it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from striate.kernels.accelerated import as_torch

__all__ = ["Field", "evaluating", "hides_parts", "receptive_fields", "units", "watched"]

# Samples by which a longer input is longer: strides of 1 to 6 and most of their products divide it.
LONGER = 960
NOWHERE = -1  # the axis of positions where there is one position


@dataclass(frozen=True)
class Field:
    """What one position of a map sees.

    Args:
        size: extent along each axis, in samples of the input; where it is larger than the input,
            as much of it as the borders show, mostly the input's own extent. Features (N, F) are
            one position.
        jump: distance of the fields of neighbouring positions along each axis, in samples; 0
            where a map has one position; None where the borders hide it, and the model takes no
            longer input that would show it.
    """

    size: tuple[int, ...]
    jump: tuple[float | None, ...]


def hides_parts(module: nn.Module) -> bool:
    """Tell whether a module counts as one layer, whatever parts it has.

    Attention reads the weights of its part without running it.
    """
    return hasattr(module, "connections") or isinstance(module, nn.MultiheadAttention)


def units(
    model: nn.Module, hides: Callable[[nn.Module], bool] = hides_parts
) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) of the layers: no parts, parts that it hides, or parameters of its own.

    A module of parts that has parameters besides them follows its parts.
    """

    def walk(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        parts = list(module.named_children())
        whole = not parts or hides(module)
        for part, child in [] if whole else parts:
            yield from walk(f"{name}.{part}" if name else part, child)
        if whole or any(True for _ in module.parameters(recurse=False)):
            yield name or type(module).__name__, module

    return walk("", model)


@contextmanager
def watched(
    model: nn.Module,
    saw: Callable[[str, nn.Module, Any, Any], None],
    hides: Callable[[nn.Module], bool] = hides_parts,
) -> Iterator[None]:
    """Call `saw(name, module, inputs, output)` after every layer, the model in evaluation mode.

    The inputs are those by position, then those by keyword; the output is the first tensor in it.

    Raises:
        ValueError: while the model runs, a layer gives no tensor.
    """
    hooks = []
    for name, module in units(model, hides):

        def hook(module: nn.Module, x: Any, named: Any, y: Any, name: str = name) -> None:
            first = next(_tensors(y), None)
            if first is None:
                raise ValueError(
                    f"layer {name} must give a tensor, or some in a tuple, list or dict; got "
                    f"{type(y).__name__}"
                )
            saw(name, module, (*x, *named.values()), first)

        hooks.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        with evaluating(model):
            yield
    finally:
        for handle in hooks:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | tuple | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


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


def receptive_fields(model: nn.Module, x: Tensor) -> list[Field | None]:
    """Measure the receptive field of every layer that runs, in the order of running.

    Along which axis of an output its positions lie is measured too: a network may add axes, or
    turn them. None where it is no single one for each, as of maps that became a row of capsules.

    Half of the input is NaN; whatever a layer then gives out as NaN sees some of that half. Where
    the border between the halves has to lie to reach a position is found by bisection: `last` is
    the last sample that a position sees, `first` the first. This holds for every graph, with
    branches and sums, as long as no layer chooses by comparing values. Where the borders hide how
    far apart the fields of neighbours lie, a longer input tells, as far as the model runs on it.

    Math:  field = last(p) - first(p) + 1 of the position p in the middle; where a border hides an
           end of it, last(0) + jump (P - 1) - first(P - 1) + 1, from the positions that show it;
           jump = (last(q) - last(p)) / (q - p), or more samples / more positions

    Args:
        model: any; it is put into evaluation mode meanwhile.
        x: one sample (1, C, *S) of finite values, on the model's device.

    Raises:
        ValueError: the model gives NaN for x itself, or refuses NaN.
    """
    with as_torch(model):
        probe = _Probe(model, x)
        if any(bool(rows[0].any()) for rows in probe.run(x)):
            raise ValueError("the model gives NaN for a finite sample: there is nothing to measure")
        return [probe.field(call) for call in range(len(probe.calls))]


class _Probe:
    """Runs the model on halves of NaN, remembering what came of each."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x
        self.size = tuple(x.shape[2:])
        self.calls: list[tuple[str, torch.Size]] = []  # name and shape
        self.reached, self.longer = cache(self._reached), cache(self._longer)
        self.along = cache(self._along)

    def run(self, x: Tensor) -> list[list[Tensor]]:
        """Return for every call, and every axis of its output, where along it there is NaN."""
        found: list[list[Tensor]] = []
        self.calls.clear()

        def saw(name: str, module: nn.Module, inputs: Any, y: Any) -> None:
            nan = y.isnan().cpu()
            found.append([nan.transpose(0, axis).flatten(1).any(1) for axis in range(y.dim())])
            self.calls.append((name, y.shape))

        with watched(self.model, saw):
            self.model(x)
        return found

    def _reached(self, axis: int, cut: int, above: bool) -> list[list[Tensor]]:
        """Run with NaN at the samples from `cut` on (`above`), or up to it."""
        place = torch.arange(self.size[axis], device=self.x.device)
        half = place >= cut if above else place <= cut
        shape = [1] * self.x.dim()
        shape[2 + axis] = -1
        return self.run(self.x.masked_fill(half.view(shape), torch.nan))

    def _along(self, call: int, axis: int) -> int | None:
        """Return the axis of an output along which a call's positions lie; None: several.

        It is the one along which not all see the same, or the one that grows with the input.
        """
        shape, end = self.calls[call][1], self.size[axis] - 1
        if len(shape) <= 2:  # features: one position, that sees whatever one of them sees
            return NOWHERE
        alike = 2 + axis if len(shape) == self.x.dim() else NOWHERE
        differ: set[int] = set()
        for cut, above in ((end, True), (end // 2, True), (end // 2, False), (0, False)):
            rows = self.reached(axis, cut, above)[call]
            differ |= {d for d, row in enumerate(rows) if row.any() and not row.all()}
        if alike in differ:  # then channels are channels, and one may see less than another
            differ.discard(1)
        for _, longer in self.longer(axis)[call : call + 1] if differ <= {1} else []:
            grown = {d for d, (a, b) in enumerate(zip(shape, longer, strict=False)) if a != b}
            differ = grown or differ
        return next(iter(differ), alike) if len(differ) <= 1 else None

    def row(self, call: int, axis: int, cut: int, above: bool) -> Tensor:
        """Return which positions of a call see some of a half."""
        rows, along = self.reached(axis, cut, above)[call], self.along(call, axis)
        return rows[0].any()[None] if along in (None, NOWHERE) else rows[along]

    def _longer(self, axis: int) -> list[tuple[str, torch.Size]]:
        """Return names and shapes of the calls on an input that goes on, repeated, along `axis`."""
        calls: list[tuple[str, torch.Size]] = []

        def saw(name: str, module: nn.Module, inputs: Any, y: Any) -> None:
            calls.append((name, y.shape))

        place = torch.arange(self.size[axis] + LONGER, device=self.x.device) % self.size[axis]
        # A model may refuse a size that it was not made for with any error; what ran, ran.
        with suppress(Exception), watched(self.model, saw):
            self.model(self.x.index_select(2 + axis, place))
        return calls

    def last(self, call: int, axis: int, position: int | slice) -> int:
        """Return the last sample that a position sees, or any of several; -1 where none does."""
        low, high = -1, self.size[axis] - 1
        while low < high:
            cut = (low + high + 1) // 2
            if self.row(call, axis, cut, True)[position].any():
                low = cut
            else:
                high = cut - 1
        return low

    def first(self, call: int, axis: int, position: int | slice) -> int:
        """Return the first sample that a position sees, or any of several."""
        low, high = 0, self.size[axis]
        while low < high:
            cut = (low + high) // 2
            if self.row(call, axis, cut, False)[position].any():
                high = cut
            else:
                low = cut + 1
        return low

    def count(self, call: int, axis: int) -> int:
        """Return how many positions there are."""
        return len(self.row(call, axis, 0, False))

    def field(self, call: int) -> Field | None:
        """Return the field of one call; None where one axis of its output stands for several."""
        axes = range(len(self.size))
        lie = [along for axis in axes if (along := self.along(call, axis)) != NOWHERE]
        if None in lie or len(set(lie)) < len(lie) or any(self.torn(call, axis) for axis in axes):
            return None
        found = [self._extent(call, axis) for axis in axes]
        return Field(tuple(size for size, _ in found), tuple(jump for _, jump in found))

    def torn(self, call: int, axis: int) -> bool:
        """Tell whether positions come back to samples that they had left, as in a row of maps."""
        half = self.row(call, axis, self.size[axis] // 2, True).int()
        return int((half.diff() > 0).sum()) > 1

    def _extent(self, call: int, axis: int) -> tuple[int, float | None]:
        """Return (field, jump) along one axis."""
        count = self.count(call, axis)
        seen = [
            (self.first(call, axis, place), self.last(call, axis, place))
            for place in {(count - 1) // 2, count // 2}  # of two in the middle, who sees more
        ]
        first, last = max(seen, key=lambda ends: ends[1] - ends[0])
        if count == 1 or last < 0:
            return max(0, last - first + 1), 0.0
        left, right = self._whole_ends(call, axis)
        jump = self._jump(call, axis)
        if (count - 1) // 2 in right and count // 2 in left:
            return last - first + 1, jump
        if not left or not right:
            return self.size[axis], jump
        if jump is None:
            return last - first + 1, None
        near, far = self.last(call, axis, left[0]), self.first(call, axis, right[-1])
        return round(near + jump * (right[-1] - left[0]) - far + 1), jump

    def _whole_ends(self, call: int, axis: int) -> tuple[list[int], list[int]]:
        """Return the positions whose last sample no border hides, and those whose first none does.

        Whoever comes before the first position that sees the last sample that any sees is whole.
        Beyond it some may lie whose last tap is cut off, and whose last but one sees less.
        """
        everyone = slice(None)
        first, last = self.first(call, axis, everyone), self.last(call, axis, everyone)
        if last < 0:
            return [], []
        sees = self.row(call, axis, 0, True).tolist()
        left = _stretch(sees, self.row(call, axis, last, True).tolist())
        right = _stretch(sees[::-1], self.row(call, axis, first, False).tolist()[::-1])
        return left, [len(sees) - 1 - place for place in reversed(right)]

    def _jump(self, call: int, axis: int) -> float | None:
        """Return the mean distance of neighbouring fields, by the ends that no border hides.

        The mean is over a power of two of positions, as what was pooled and drawn out again
        repeats in powers of two.
        """
        left, right = self._whole_ends(call, axis)
        for end_of, places in ((self.last, left), (self.first, right[::-1])):
            if len(places) > 1:
                here, there = places[0], places[1 << (len(places) // 2).bit_length() - 1]
                return (end_of(call, axis, there) - end_of(call, axis, here)) / (there - here)
        return self._growth(call, axis)

    def _growth(self, call: int, axis: int) -> float | None:
        """Return how many samples more give one position more, where that comes out even."""
        here, there = self.calls[: call + 1], self.longer(axis)[: call + 1]
        if [name for name, _ in here] != [name for name, _ in there]:
            return None
        along = self.along(call, axis)
        assert along is not None  # or there is no field
        more = there[call][1][along] - here[call][1][along]
        even = more > 0 and (LONGER % more == 0 or more % LONGER == 0)
        return LONGER / more if even else None


def _stretch(sees: list[bool], touches: list[bool]) -> list[int]:
    """Return the first positions that see something and touch nothing, until one touches.

    The very first may touch: a circular border shows them the other end.
    """
    places: list[int] = []
    for place, (seeing, touching) in enumerate(zip(sees, touches, strict=True)):
        if touching and places:
            break
        if seeing and not touching:
            places.append(place)
    return places
