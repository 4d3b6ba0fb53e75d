"""What the machine offers: device, threads, and the number formats it is fast in."""

import os
import time
from dataclasses import dataclass

import torch
from torch import nn

from striate.errors import RecipeError

__all__ = ["Load", "autocast_type", "pick_device", "set_threads"]

# Below this many weights a training step is bound by calls, and casting adds calls.
LEAST_WEIGHTS_FOR_HALF = 200_000


def pick_device(name: str) -> torch.device:
    """Return the named device, or the best one there is for `auto`.

    Raises:
        RecipeError: the name is unknown or this machine lacks the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f"device must be auto, cpu, cuda, cuda:1 or mps; got {name!r}") from None
    count = torch.cuda.device_count()
    here = {
        "cpu": True,
        "cuda": (device.index or 0) < count,
        "mps": torch.backends.mps.is_available(),
    }
    if not here.get(device.type, False):
        raise RecipeError(
            f"device {name!r} is not on this machine (CUDA devices: {count}); use --device cpu"
        )
    return device


def autocast_type(precision: str, device: torch.device, model: nn.Module) -> torch.dtype | None:
    """Return the type of the forward pass, None for float32.

    `auto` is bfloat16 where the hardware multiplies it faster than float32: CPUs with
    AVX512-BF16 or AMX, CUDA from compute capability 8.0. Elsewhere it is float32; on a CPU with
    AVX2 alone half precision is some 60 times slower and is refused.

    Raises:
        RecipeError: the named precision is not fast on this device.
    """
    types = {
        "cpu": {torch.bfloat16: _cpu_has_bfloat16()},
        "cuda": {
            torch.bfloat16: device.type == "cuda" and torch.cuda.is_bf16_supported(False),
            torch.float16: True,
        },
        "mps": {torch.float16: True},
    }[device.type]
    if precision == "float32":
        return None
    if precision == "auto":
        weights = sum(p.numel() for p in model.parameters())
        wanted = types.get(torch.bfloat16, False) and weights >= LEAST_WEIGHTS_FOR_HALF
        return torch.bfloat16 if wanted else None
    wanted_type: torch.dtype = getattr(torch, precision)
    if not types.get(wanted_type, False):
        raise RecipeError(
            f"{precision} is not fast on this {device.type}: it lacks the instructions; "
            "use --precision auto"
        )
    return wanted_type


def _cpu_has_bfloat16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@dataclass
class Load:
    """Cores that other processes keep busy, measured from when this object is made.

    Linux only; elsewhere nothing is known and nobody else is assumed.
    """

    start: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        self.start = self._read()

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        try:
            with open("/proc/stat", encoding="ascii") as file:
                ticks = [int(v) for v in file.readline().split()[1:9]]
        except OSError:
            return None
        busy = sum(ticks) - ticks[3] - ticks[4]
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), own

    def others(self) -> float:
        """Return the mean number of cores busy with other processes since the start."""
        now = self._read()
        if now is None or self.start is None or now[0] - self.start[0] < 0.2:
            return 0.0
        seconds, busy, own = (b - a for a, b in zip(self.start, now, strict=True))
        return max(0.0, (busy - own) / seconds)


def set_threads(wanted: int, load: Load | None = None) -> int:
    """Set torch's threads: `wanted`, or for 0 the cores that others leave free; return them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = load.others() if load else 0.0
    threads = wanted or max(1, int((cores or 1) - busy + 0.5))
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormals make convolutions a hundred times slower
    return threads
