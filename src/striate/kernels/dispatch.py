"""Which algorithm computes a call: by an estimate where that is clear, else by trying once.

What was tried is kept on disk, a file for each CPU, version of PyTorch and of Striate, so that the
next process answers alike, to the bit, without trying.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from striate import __version__
from striate.files import cache_folder, replacing
from striate.kernels.library import level, reason, setting

__all__ = [
    "DEPTHWISE",
    "DIRECT",
    "NAMES",
    "TORCH",
    "WINOGRAD",
    "Call",
    "estimate",
    "fastest",
    "foreseen",
    "quickest",
    "remembered",
]

# An algorithm's number: PyTorch's own, our direct one, Winograd's with tiles of 2 or 4, and that of
# a kernel for each channel.
TORCH, DIRECT, WINOGRAD, DEPTHWISE = 0, 1, (2, 4), 3
NAMES = {
    TORCH: "pytorch", DIRECT: "direct", DEPTHWISE: "depthwise",
    2: "winograd 2x2", 4: "winograd 4x4",
}  # fmt: skip
TRIES, MOST, SECONDS = 3, 6, 0.01  # turns at least; at most, while there is time
COLD, SWEPT = 2**22, 2**24  # numbers that no cache keeps; that drive all others out of it
CLEAR = 1.5  # a difference in the estimate that is believed
GENERATION = 6  # one more when an algorithm comes or becomes faster: then all is tried anew

# In units of one multiply-and-add at the CPU's peak, fitted to the shapes of benchmarks/kernels.py
# on a Zen 4: what one number costs in Winograd's transforms, and one of the kernels on its way to
# the products; what share of the peak matrix products and direct convolution reach. Along a line,
# transforms cost a part of those on planes.
LINE = 0.5
TRANSFORM, KERNEL, PRODUCT, STRAIGHT = 30.0, 30.0, 0.85, 0.85
KEPT = 4.0  # one number of kernels that were made ready before
# Where kernels do not change, they are made ready once if no more tiles or answers share them, or,
# for tiles, if they are no more numbers than the third.
TILES, ANSWERS, LITTLE = 256, 2048, 2**20
FEW = 6.0  # channels with which direct convolution is half as fast

Three = tuple[int, int, int]


@dataclass(frozen=True)
class Call:
    """A convolution that has to be computed.

    Args:
        direction: `forward`, or the gradient to `input` or `weight`.
        n: batch.
        c: channels of x.
        o: channels of y.
        size: of x; three axes, those that are missing have size 1 in front.
        out: of y.
        pad: zeros before the first sample.
        threads: that may work.
        fixed: kernels stay as they are, so that oneDNN has them in its own order.
    """

    direction: str
    n: int
    c: int
    o: int
    size: Three
    out: Three
    kernel: Three
    stride: Three
    pad: Three
    dilation: Three
    groups: int
    threads: int
    fixed: bool = False

    @cached_property
    def key(self) -> str:
        """The name in the file of what was tried."""
        words = [f"{one.name} {_joined(getattr(self, one.name))}" for one in fields(self)]
        return ", ".join(words).removeprefix("direction ")

    @property
    def seen(self) -> list[tuple[int, int]]:
        """The first tap of each axis that meets a sample somewhere, and the one behind the last.

        Those before and behind see nothing but the border: a kernel of 3 x 3 x 3 on a single plane
        is one of 3 x 3.
        """
        each = zip(
            self.size, self.out, self.kernel, self.stride, self.pad, self.dilation, strict=True
        )
        return [_seen(*numbers) for numbers in each]

    @property
    def winograd(self) -> tuple[int, ...]:
        """Tiles that Winograd's algorithm has for it: ... x 3 x 3 or ... x 1 x 3, stride 1 or 2."""
        planes, rows, columns = (end - first for first, end in self.seen)
        ends = zip(self.pad, self.kernel, strict=True)
        plain = self.dilation == (1, 1, 1) and self.groups == 1 and all(p < k for p, k in ends)
        if not plain or columns != 3 or rows not in (1, 3):
            return ()
        if self.stride == (1, 1, 1):
            return WINOGRAD
        single = planes == self.size[0] == self.out[0] == 1
        return WINOGRAD[-1:] if single and self.stride[1:] == (1 + rows // 3, 2) else ()

    def keeps(self, algorithm: int) -> bool:
        """Whether kernels made ready are kept: where they stay as they are, and few share them.

        With stride 2 they are eleven times as large as they were: more than any picture.
        """
        kinds = (DIRECT, *(() if self.stride[2] > 1 else WINOGRAD))
        if not self.fixed or algorithm not in kinds:
            return False
        if algorithm == DIRECT:
            return self.n * prod(self.out) <= ANSWERS
        points = (algorithm + 2) ** (2 if self.kernel[1] == 3 else 1)
        little = points * self.kernel[0] * self.c * self.o <= LITTLE
        return little or _tiles(self.n, self.out, self.kernel, algorithm) <= TILES

    @property
    def overruns(self) -> bool:
        """Whether oneDNN writes past its memory: see docs/kernels.md, "What PyTorch's do wrong"."""
        strided = prod(self.kernel) == 1 and prod(self.stride) > 1
        return self.direction == "weight" and strided and self.groups == 1 and self.c < 8

    @property
    def depthwise(self) -> bool:
        """Whether each channel has a kernel of its own, and gives one channel."""
        return self.groups == self.c == self.o and self.groups > 1


def _seen(
    size: int, out: int, kernel: int, stride: int, pad: int, dilation: int
) -> tuple[int, int]:
    first = max(0, -((out - 1) * stride - pad) + dilation - 1) // dilation
    end = min(kernel, (size - 1 + pad) // dilation + 1)
    return (first, end) if first < end else (0, kernel)


def _tiles(n: int, out: Three, kernel: Three, tile: int) -> int:
    """Return how many tiles there are of each depth."""
    return n * -(-out[1] // (tile if kernel[1] == 3 else 1)) * -(-out[2] // tile)


def _joined(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def estimate(call: Call) -> dict[int, float]:
    """Return what each algorithm costs, in multiply-and-adds at the CPU's peak."""
    few = min(call.c, call.o) / call.groups
    work = call.n * prod(call.out) * prod(call.kernel) * call.c * call.o / call.groups
    if call.depthwise:  # how fast PyTorch's is differs from one release and direction to the next
        return dict.fromkeys((TORCH, DEPTHWISE), work)
    taps, seen = prod(call.kernel), prod(end - first for first, end in call.seen)
    straight, kernels = work / STRAIGHT * (1 + FEW / few), taps * call.c * call.o / call.groups
    cost = {
        TORCH: straight + kernels * (KEPT if call.fixed else KERNEL),
        DIRECT: (straight + kernels * (KEPT if call.keeps(DIRECT) else KERNEL)) * seen / taps,
    }
    if call.overruns:
        del cost[TORCH]
    for tile in call.winograd:
        cost[tile] = _winograd(call, tile) if call.stride[2] == 1 else _stepped(call)
    return cost


def _winograd(call: Call, tile: int) -> float:
    """Return the cost of tiles of that many outputs along each of two axes, or of the last one."""
    size = call.size if call.direction == "input" else call.out
    (front, back), rows, _ = call.seen
    square = rows[1] - rows[0] == 3
    points = call.n * (_points(size[1], tile) if square else size[1]) * _points(size[2], tile)
    planes = range(call.out[0])
    taps = sum(0 <= z - call.pad[0] + k < call.size[0] for z in planes for k in range(front, back))
    given = call.size[0] * call.c + call.out[0] * call.o
    kernels = (tile + 2) ** (2 if square else 1) * (back - front) * call.c * call.o
    return (
        points * taps * call.c * call.o / PRODUCT
        + points * given * TRANSFORM * (1 if square else LINE)
        + kernels * (KEPT if call.keeps(tile) else KERNEL)
    )


def _points(length: int, tile: int, taps: int = 3) -> int:
    """Return how many points the tiles of so many outputs have along an axis."""
    whole, rest = divmod(length, tile)
    return whole * (tile + taps - 1) + (rest + taps - 1 if rest else 0)


def _stepped(call: Call) -> float:
    """Return the cost of tiles of 4 outputs along each axis where samples are seen in steps of 2.

    Along an axis two phases share the points of a tile; the odd one is nothing at one of them.
    """
    axes = 2 if call.kernel[1] == 3 else 1
    numbers, outs = call.c * call.o, call.out[-axes:]
    points = call.n * prod(_points(length, 4, 2) for length in outs)
    met = call.n * prod(2 * _points(length, 4, 2) - -(-length // 4) for length in outs)
    many, few = (call.c, call.o) if call.direction != "input" else (call.o, call.c)
    return (
        met * numbers / PRODUCT
        + points * (2**axes * many + few) * TRANSFORM * (LINE if axes == 1 else 1)
        + 10**axes * numbers * KERNEL
    )


def foreseen(call: Call) -> int | None:
    """Return which algorithm computes a call, without computing it; None where it is tried first.

    What was tried before is known; else the estimate says it where it is clear.
    """
    if reason():
        return TORCH
    able = _able(call)
    return remembered().get(call.key, able[0] if len(able) == 1 else None)


def fastest(call: Call, attempt: Callable[[int], Tensor]) -> Tensor:
    """Return attempt(algorithm) of the algorithm that is the fastest here.

    Args:
        attempt: computes the call by the algorithm of that number; all give the same answer, up to
            rounding.
    """
    if reason():
        return attempt(TORCH)
    given, answers = call.size, call.out
    numbers = call.n * max(prod(given) * call.c, prod(answers) * call.o)
    return quickest(call.key, lambda: _able(call), attempt, numbers)


def quickest(
    key: str, able: Callable[[], Sequence[int]], attempt: Callable[[int], Tensor], numbers: int
) -> Tensor:
    """Return attempt(way) of the way that is the fastest here, known by its key or tried now.

    Args:
        able: returns the ways that may be the fastest, where none is known yet.
        attempt: computes it that way; all give the same answer, up to rounding.
        numbers: how many it reads or writes at least.
    """
    known = remembered()
    if key not in known:
        ways = able()
        if len(ways) == 1:  # the next process knows it as well, without a file
            known[key] = ways[0]
        else:
            known[key] = _tried(ways, attempt, numbers)
            _keep(known)
    return attempt(known[key])


def _able(call: Call) -> tuple[int, ...]:
    """Return the algorithms that may be the fastest: one where the estimate is clear."""
    if not call.n * prod(call.out):  # nothing to compute
        return (TORCH,)
    cost = estimate(call)
    measure = setting() == "measure" or level() == "baseline"  # estimates are of other CPUs
    return tuple(k for k, value in cost.items() if measure or value < CLEAR * min(cost.values()))


def _tried(algorithms: Sequence[int], attempt: Callable[[int], Tensor], numbers: int) -> int:
    """Return the fastest of some algorithms, run in turns; the first turn does not count.

    Another process may disturb any turn, so the least time of each counts. What is larger than the
    caches lies in none of them when a network comes to it, and so it is here.
    """
    best = dict.fromkeys(algorithms, float("inf"))
    for one in algorithms:
        attempt(one)
    swept = SWEPT if numbers >= COLD else 0
    others = torch.empty(swept, dtype=torch.float32, device="cpu")
    turns, ended = 0, time.perf_counter() + SECONDS
    while turns < TRIES or (time.perf_counter() < ended and turns < MOST):
        for one in algorithms:
            others.zero_()
            begun = time.perf_counter()
            attempt(one)
            best[one] = min(best[one], time.perf_counter() - begun)
        turns += 1
    return min(best, key=best.__getitem__)


@cache
def remembered() -> dict[str, int]:
    """Return what was tried before on this machine, key -> algorithm."""
    return _kept()


def _kept() -> dict[str, int]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: one for key, one in found.items() if one in (TORCH, DIRECT, DEPTHWISE, *WINOGRAD)}


def _keep(known: Mapping[str, int]) -> None:
    """Add what was tried, all or nothing; what another process has kept meanwhile stays as it is.

    Without a place to write it is tried again.
    """
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, shared=True) as new:
            json.dump({**known, **_kept()}, new, indent=0)
    except OSError:
        return


def _file() -> Path:
    about = f"{_processor()} {level()} {torch.__version__} {__version__} {GENERATION}"
    return cache_folder() / "kernels" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.json"


@cache
def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
