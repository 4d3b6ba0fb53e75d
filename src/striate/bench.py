"""Measure this machine: what `striate bench` prints. Claims against peers are in benchmarks/."""

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median

import numpy as np
import torch

from striate.data.augment import Augment
from striate.data.loader import Loader
from striate.device import pick_device, place
from striate.models import build, initialise
from striate.recipe import Recipe
from striate.spec import Spec
from striate.train.loop import steps
from striate.train.losses import cross_entropy
from striate.train.machine import autocast_type, set_threads

__all__ = ["measure"]


def measure(quick: bool = False) -> Iterator[str]:
    """Yield one line a measurement: the median of several, with least and most.

    Args:
        quick: fewer and smaller measurements, for a smoke test.
    """
    times = 2 if quick else 5
    threads = set_threads(0)
    device = pick_device("auto")
    yield (
        f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {threads} threads, "
        f"{device}, torch {torch.__version__}, Python {platform.python_version()}"
    )
    yield _line("striate --help", "s", [_help() for _ in range(times)])
    loader = _loader(2_000 if quick else 20_000)
    torch.set_num_threads(1)
    yield _line("cache to augmented batch, 32x32x3", "images/s a core", _rates(loader, times))
    torch.set_num_threads(threads)
    for name in ("fastnet", "resnet20"):
        yield _line(f"training step, {name}", "images/s", _training(name, loader, times))


def _line(what: str, unit: str, values: list[float]) -> str:
    spread = f"{min(values):.4g} to {max(values):.4g}"
    return f"{what:40} {median(values):10.4g} {unit} ({spread}, n {len(values)})"


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _help() -> float:
    command = [sys.executable, "-m", "striate", "--help"]
    return _seconds(lambda: subprocess.run(command, capture_output=True, check=True))


def _loader(count: int) -> Loader:
    random = np.random.default_rng(0)
    spec = Spec(channels=3, size=(32, 32), classes=tuple("abcdefghij"))
    x = random.integers(0, 256, (count, *spec.shape), dtype=np.uint8)
    y = random.integers(0, 10, count)
    changes = Augment.parse("flip,crop=4")
    return Loader(x, y, spec, batch=256, shuffle=True, augment=changes)


def _rates(loader: Loader, times: int) -> list[float]:
    return [loader.samples / _seconds(lambda: list(map(len, loader))) for _ in range(times)]


def _training(name: str, loader: Loader, times: int) -> list[float]:
    model = place(build(name, loader.spec), torch.device("cpu"), loader.spec.axes)
    initialise(model, loader.read(np.arange(256))[0])
    loss = cross_entropy(0.1, autocast_type("auto", torch.device("cpu"), loader.spec.values))
    stamps = []
    for step in steps(model, loader, Recipe(epochs=1e6), loss=loss):
        stamps.append(time.perf_counter())
        if step.index > times:
            break
    return [loader.batch / (b - a) for a, b in pairwise(stamps)]
