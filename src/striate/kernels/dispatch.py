"""Which algorithm computes a call: by an estimate where that is clear, else by trying once.

What was tried is kept on disk, a file for each CPU, version of PyTorch and of Striate, so that the
next process answers alike, to the bit, without trying.
"""

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from striate import __version__
from striate.kernels.library import level, reason, setting

__all__ = ["Call", "estimate", "fastest", "remembered"]

TORCH = 0  # an algorithm's number: 0 is PyTorch's own, 2 and 4 are Winograd's tile
TRIES = 3
CLEAR = 1.5  # an estimate that differs so much is believed

# In units of one multiply-and-add at the CPU's peak, fitted to the shapes of benchmarks/kernels.py
# on a Zen 4: what one number costs in the transforms, and one in those of kernels; what share of
# the peak matrix products reach, and PyTorch's direct convolution with many channels.
TRANSFORM, KERNEL, PRODUCT, DIRECT = 30.0, 60.0, 0.85, 0.85
# and how many channels halve the latter
FEW = 6.0


@dataclass(frozen=True)
class Call:
    """A convolution of 3 x 3 kernels that has to be computed.

    Args:
        direction: `forward`, `input` or `weight`.
        n: batch.
        c: channels that are summed over, or of x for `weight`.
        o: channels of the answer, or of dy for `weight`.
        h: of the answer, or of dy for `weight`; as `w`.
        threads: that may work.
    """

    direction: str
    n: int
    c: int
    o: int
    h: int
    w: int
    threads: int

    @property
    def key(self) -> str:
        """The name in the file of what was tried."""
        return (
            f"{self.direction} {self.n}x{self.c}x{self.h}x{self.w} to {self.o}, "
            f"{self.threads} threads"
        )


def estimate(call: Call) -> dict[int, float]:
    """Return what each algorithm costs, in multiply-and-adds at the CPU's peak."""
    few = min(call.c, call.o)
    cost = {TORCH: 9.0 * call.n * call.h * call.w * call.c * call.o / DIRECT * (1 + FEW / few)}
    for tile in (2, 4):
        points = (tile + 2) ** 2
        tiles = call.n * -(-call.h // tile) * -(-call.w // tile)
        cost[tile] = points * (
            tiles * call.c * call.o / PRODUCT
            + tiles * (call.c + call.o) * TRANSFORM
            + call.c * call.o * KERNEL
        )
    return cost


def fastest(call: Call, attempt: Callable[[int], Tensor]) -> Tensor:
    """Return attempt(algorithm) of the algorithm that is the fastest here.

    Args:
        attempt: computes the call by the algorithm of that number; all give the same answer, up to
            rounding.
    """
    if reason():
        return attempt(TORCH)
    known = remembered()
    if call.key not in known:
        cost = estimate(call)
        best = min((2, 4), key=cost.__getitem__)
        ratio = cost[TORCH] / cost[best]
        if setting() == "measure" or (1 / CLEAR < ratio < CLEAR and level() != "baseline"):
            known[call.key] = _tried((TORCH, best), attempt)
            _keep(known)
        else:
            known[call.key] = best if ratio > 1 and level() != "baseline" else TORCH
    return attempt(known[call.key])


def _tried(algorithms: tuple[int, ...], attempt: Callable[[int], Tensor]) -> int:
    """Return the fastest of some algorithms, run in turns; the first turn does not count."""
    best = dict.fromkeys(algorithms, float("inf"))
    for turn in range(TRIES + 1):
        for one in algorithms:
            begun = time.perf_counter()
            attempt(one)
            if turn:
                best[one] = min(best[one], time.perf_counter() - begun)
    return min(best, key=best.__getitem__)


@cache
def remembered() -> dict[str, int]:
    """Return what was tried before on this machine, key -> algorithm."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if v in (0, 2, 4)} if isinstance(found, dict) else {}


def _keep(known: Mapping[str, int]) -> None:
    """Write what was tried, all or nothing; without a place to write it is tried again."""
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, suffix=".json", delete=False, encoding="utf-8"
        ) as new:
            json.dump(dict(known), new, indent=0)
        os.replace(new.name, file)
    except OSError:
        return


def _file() -> Path:
    named = os.environ.get("STRIATE_CACHE")
    home = Path(named) if named else Path.home() / ".cache" / "striate"
    about = f"{_processor()} {level()} {torch.__version__} {__version__}"
    return home / "kernels" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.json"


@cache
def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
