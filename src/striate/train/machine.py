"""What the machine offers: threads, memory, and the number formats it is fast in."""

import ctypes
import os
import platform
import time

import torch

from striate.errors import RecipeError

__all__ = [
    "autocast_type",
    "check_workers",
    "give_back_memory",
    "keep_freed_memory",
    "others_busy",
    "set_threads",
]

# Below this many values a sample, a training step is bound by calls, and casting adds calls.
LEAST_VALUES_FOR_HALF = 256

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


def autocast_type(precision: str, device: torch.device, values: int) -> torch.dtype | None:
    """Return the type of the forward pass, None for float32.

    `auto` is bfloat16 where the hardware multiplies it faster than float32: CPUs with
    AVX512-BF16 or AMX, CUDA from compute capability 8.0. Elsewhere it is float32; on a CPU with
    AVX2 alone half precision is some 60 times slower and is refused.

    Args:
        precision: auto, float32, bfloat16 or float16.
        device: where the network runs.
        values: numbers in one sample.

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
        wanted = types.get(torch.bfloat16, False) and values >= LEAST_VALUES_FOR_HALF
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


def others_busy(seconds: float = 0.1) -> float:
    """Return how many cores other processes keep busy, looking for `seconds`.

    Linux only; elsewhere nothing is known and nobody else is assumed. Threads of this process may
    still be awake from the work before; what they take is not others'.
    """
    before, own = _ticks(), time.process_time()
    time.sleep(seconds)
    busy = (_ticks() - before) / os.sysconf("SC_CLK_TCK") - (time.process_time() - own)
    return max(0.0, busy / seconds) if before else 0.0


def _ticks() -> int:
    """All cores' ticks spent working since boot, whoever did; not those the host kept."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, interrupts, soft = file.readline().split()[1:8]
    except OSError:
        return 0
    return sum(map(int, (user, nice, system, interrupts, soft)))


def check_workers(threads: int, processes: int) -> None:
    """Refuse more threads or processes than could ever help: the system would choke on them.

    Raises:
        RecipeError: more than 64, and more than four times the cores.
    """
    most = max(64, 4 * _cores())
    for option, wanted in (("--threads", threads), ("--processes", processes)):
        if wanted > most:
            raise RecipeError(
                f"{option} wants at most {most} on this machine of {_cores()} cores; got {wanted}; "
                "one a core is usually the fastest"
            )


def _cores() -> int:
    """Return the cores that this process may use."""
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return able or 1


def set_threads(wanted: int) -> int:
    """Set torch's threads: `wanted`, or for 0 the cores that others leave free; return them.

    Denormal numbers become zero and freed memory is kept, from here on in this process.
    """
    threads = wanted or max(1, int(_cores() - others_busy() + 0.5))
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormals make convolutions a hundred times slower
    keep_freed_memory()
    return threads


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next batch; return whether it will.

    Every update allocates the same large blocks. By default glibc gives each back to the system,
    and a third of a training step on a CPU goes into page faults when it is asked for again.
    Growing in large steps leaves fewer holes: room that is never touched costs nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    limits = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**30, M_TOP_PAD: 2**26}
    return all(mallopt(name, size) for name, size in limits.items())


def give_back_memory() -> None:
    """Have glibc give the system what is free by now: it lies in pieces too small for a batch."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
