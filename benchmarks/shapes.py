"""Rates of single convolutions, for `kernels.py --shapes`: each algorithm beside PyTorch.

A rate is what direct convolution would have to compute in the time taken, in 1e9 operations a
second, a multiplication and an addition being two; so Winograd's algorithm may exceed the CPU's.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from striate.kernels import reason
from striate.kernels.dispatch import NAMES, TORCH, estimate, remembered
from striate.kernels.geometry import planned

__all__ = ["table"]

LAST = torch.channels_last
DIRECTIONS = ("forward", "input", "weight")

Work = Callable[[], Tensor]


@dataclass(frozen=True)
class Shape:
    """A convolution of pictures with as many channels before as behind it."""

    channels: int
    side: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        """Return e.g. `64 on 32 x 32, 3 x 3, stride 2`."""
        text = f"{self.channels} on {self.side} x {self.side}, {self.kernel} x {self.kernel}"
        depthwise = ", depthwise" * (self.groups == self.channels)
        return text + depthwise + f", stride {self.stride}" * (self.stride > 1)


SHAPES = (
    *(Shape(channels, side) for channels, side in ((64, 32), (128, 16), (256, 8), (512, 4))),
    *(Shape(64, 32, kernel=1), Shape(256, 8, kernel=1)),
    *(Shape(96, 56, groups=96), Shape(96, 56, stride=2, groups=96)),
    *(Shape(64, 32, stride=2), Shape(128, 16, stride=2), Shape(256, 16, kernel=1, stride=2)),
)


def table(batch: int, turns: int) -> Iterator[str]:
    """Yield a row for each shape and algorithm: the median rate of each direction, its spread."""
    yield f"| shape, batch {batch} | computed by | {' | '.join(DIRECTIONS)} | n |"
    yield "|" + "---|" * (len(DIRECTIONS) + 3)
    for shape in SHAPES:
        works, flops = _works(shape, batch)
        for name, each in _timed(works, turns).items():
            rates = (_rate(flops, each.get(direction)) for direction in DIRECTIONS)
            yield f"| {shape} | {name} | {' | '.join(rates)} | {turns} |"


def _rate(flops: float, times: list[float] | None) -> str:
    if times is None:
        return "-"
    low, middle, high = (flops / t / 1e9 for t in (max(times), median(times), min(times)))
    return f"{middle:.1f} ({low:.1f}-{high:.1f})"


def _timed(works: dict[tuple[str, str], Work], turns: int) -> dict[str, dict[str, list[float]]]:
    """Return algorithm -> direction -> seconds of each turn; the first turn does not count."""
    found: dict[str, dict[str, list[float]]] = {}
    for turn in range(turns + 1):
        for (name, direction), work in works.items():
            begun = time.perf_counter()
            work()
            if turn:
                elapsed = time.perf_counter() - begun
                found.setdefault(name, {}).setdefault(direction, []).append(elapsed)
    return found


def _works(shape: Shape, batch: int) -> tuple[dict[tuple[str, str], Work], float]:
    """Return (algorithm, direction) -> what computes it, and how much that is."""
    pad, size = shape.kernel // 2, [shape.side, shape.side]
    how = ([shape.stride] * 2, [pad] * 2, [1, 1], shape.groups)
    x = torch.randn(batch, shape.channels, *size).contiguous(memory_format=LAST)
    kernels = torch.randn(
        shape.channels, shape.channels // shape.groups, shape.kernel, shape.kernel
    )
    dy = torch.randn_like(torch.conv2d(x, kernels, None, *how).contiguous(memory_format=LAST))
    works = _torchs(x, kernels.contiguous(memory_format=LAST), dy, how)
    operator = torch.ops.striate
    runs: dict[str, Work] = {
        "forward": lambda: operator.convolve(x, kernels, None, *how),
        "input": lambda: operator.convolve_input(dy, kernels, size, *how),
        "weight": lambda: operator.convolve_weight(x, dy, [shape.kernel] * 2, *how),
    }
    for direction, run in runs.items() if not reason() else ():
        call, *_ = planned(direction, batch, size, kernels, *how)
        for algorithm in estimate(call):
            if algorithm != TORCH:
                works[NAMES[algorithm], direction] = _forced(call.key, algorithm, run)
    return works, 2.0 * dy.numel() * kernels[0].numel()


def _torchs(x: Tensor, kernels: Tensor, dy: Tensor, how: tuple) -> dict[tuple[str, str], Work]:
    """Return PyTorch's own in every direction."""
    *where, groups = how

    def back(which: int) -> Tensor:
        mask = [which == 0, which == 1, False]
        return torch.ops.aten.convolution_backward(
            dy, x, kernels, None, *where, False, [0, 0], groups, mask
        )[which]

    runs = (lambda: torch.conv2d(x, kernels, None, *how), lambda: back(0), lambda: back(1))
    return {(NAMES[TORCH], name): run for name, run in zip(DIRECTIONS, runs, strict=True)}


def _forced(key: str, algorithm: int, run: Work) -> Work:
    """Return `run` by one algorithm: the dispatcher takes it for one that it has tried."""

    def forced() -> Tensor:
        remembered()[key] = algorithm
        return run()

    return forced
