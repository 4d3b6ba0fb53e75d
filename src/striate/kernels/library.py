"""The compiled library: found, loaded, and described for ctypes."""

import ctypes
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from striate.errors import UserError

__all__ = [
    *("Chain", "Conv", "Link", "LinkPointer", "Memory", "Norm", "Normed"),
    *("Pooling", "Separable", "Stage"),
    *("choose", "floats", "level", "library", "peak", "reason", "run", "setting"),
]

NAME = "libstriate_kernels.dylib" if sys.platform == "darwin" else "libstriate_kernels.so"
SETTINGS = ("", "auto", "measure", "torch", "off")
NO_MEMORY = 1
THREE = ctypes.c_int64 * 3


class Conv(ctypes.Structure):
    """A convolution as the library sees it; csrc/api.h says what each number is."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "c", "o")),
        *((name, THREE) for name in ("size", "out", "kernel", "stride", "pad", "dilation")),
        *((name, ctypes.c_int64) for name in ("groups", "weight_o", "weight_c")),
        ("weight_k", THREE),
        *((name, ctypes.c_int64) for name in ("turned", "tile", "ready", "threads", "silu")),
        *((name, ctypes.c_double) for name in ("low", "high")),
    ]


class Norm(ctypes.Structure):
    """A batch normalisation as the library sees it."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "c", "threads", "silu")),
        *((name, ctypes.c_double) for name in ("epsilon", "low", "high")),
    ]


class Pooling(ctypes.Structure):
    """The largest of 2 x 2 neighbours in steps of two, as the library sees it."""

    _fields_ = [(name, ctypes.c_int64) for name in ("n", "h", "w", "c", "threads")]


class Separable(ctypes.Structure):
    """A depthwise convolution between two pointwise ones as the library sees them."""

    _fields_ = [
        ("depth", Conv),
        *((name, ctypes.c_int64) for name in ("c", "o")),
        *((name, ctypes.c_double) for name in ("first_low", "first_high")),
        *((name, ctypes.c_double) for name in ("last_low", "last_high")),
    ]


class Normed(ctypes.Structure):
    """How a tensor is normalised while it is read as the library sees it."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "mean", "variance")),
        *((name, ctypes.c_double) for name in ("epsilon", "low", "high")),
    ]


class Stage(ctypes.Structure):
    """A convolution between normalisations as the library sees it."""

    _fields_ = [("conv", Conv), ("before", Normed), ("behind", Normed)]


class Link(ctypes.Structure):
    """A convolution, an activation and pooling as the library sees them."""

    _fields_ = [
        ("conv", Conv),
        *((name, ctypes.c_int64) for name in ("activation", "pooling")),
        *((name, ctypes.c_int64 * 2) for name in ("window", "step", "border", "pooled")),
        *((name, ctypes.c_int64) for name in ("divisor", "counts_border")),
        *((name, ctypes.c_double) for name in ("inner", "outer")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "dweight", "dbias")),
    ]


LinkPointer = ctypes.POINTER(Link)


class Chain(ctypes.Structure):
    """Links of which each reads what the one before answers."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "links", "threads")),
        *((name, ctypes.c_int64 * 4) for name in ("stride_x", "stride_dy")),
        ("link", LinkPointer),
    ]


# Name -> what it is told of the geometry, and how many tensors it takes.
FUNCTIONS: dict[str, tuple[type[ctypes.Structure], int]] = {
    "direct_forward": (Conv, 5),
    "direct_input": (Conv, 4),
    "direct_weight": (Conv, 3),
    "depthwise_forward": (Conv, 5),
    "depthwise_input": (Conv, 3),
    "depthwise_weight": (Conv, 3),
    "separable_forward": (Separable, 9),
    "winograd_forward": (Conv, 5),
    "winograd_pooled": (Conv, 6),
    "winograd_weight": (Conv, 3),
    "pool_forward": (Pooling, 3),
    "pool_backward": (Pooling, 3),
    "prepared_floats": (Conv, 0),
    "prepare": (Conv, 2),
    "norm_forward": (Norm, 7),
    "norm_backward": (Norm, 11),
    "stage_forward": (Stage, 5),
    "stage_backward": (Stage, 11),
    "chain_floats": (Chain, 0),
    "chain_forward": (Chain, 3),
    "chain_backward": (Chain, 4),
}


def setting() -> str:
    """Return $STRIATE_KERNELS: `auto` or empty, `measure`, `torch` or `off`.

    Raises:
        UserError: it is something else.
    """
    asked = os.environ.get("STRIATE_KERNELS", "")
    if asked not in SETTINGS:
        raise UserError(
            f"STRIATE_KERNELS must be auto, measure, torch or off; got {asked!r}. Unset it, or "
            "choose one."
        )
    return asked or "auto"


@cache
def library() -> ctypes.CDLL | None:
    """Return the library, or None where there is none: `reason()` says why."""
    for home in _homes():
        if (home / NAME).is_file():
            try:
                return _described(ctypes.CDLL(str(home / NAME)))
            except OSError:  # built for another machine
                return None
    return None


def _homes() -> list[Path]:
    """Beside this file, where an installation puts it, and where a build in a checkout does.

    $STRIATE_LIBRARY names the folder of another build, such as one with sanitizers.
    """
    if named := os.environ.get("STRIATE_LIBRARY"):
        return [Path(named)]
    here = Path(__file__).resolve()
    built = here.parents[3] / "build"
    return [here.parent, *sorted(built.glob("py3-none-*"))]


def _described(found: ctypes.CDLL) -> ctypes.CDLL:
    for name, (kind, pointers) in FUNCTIONS.items():
        arguments = [ctypes.POINTER(kind), *[ctypes.c_void_p] * pointers]
        getattr(found, "striate_" + name).argtypes = arguments
    for name in ("chain_lanes", "chain_floats", "prepared_floats"):
        getattr(found, "striate_" + name).restype = ctypes.c_int64
    found.striate_level.restype = ctypes.c_char_p
    found.striate_choose.argtypes = [ctypes.c_char_p]
    found.striate_fingerprint.restype = ctypes.c_uint64
    found.striate_peak.argtypes = [ctypes.c_double]
    found.striate_peak.restype = ctypes.c_double
    return found


def reason() -> str:
    """Return why PyTorch's own kernels are used for everything; empty where they are not."""
    if setting() in ("torch", "off"):
        return f"STRIATE_KERNELS={setting()} asks for PyTorch's own kernels"
    if library() is None:
        return (
            "Striate's kernels are not built here (no C++ compiler at install); PyTorch's will do"
        )
    return ""


@cache
def level() -> str:
    """Return the instruction set in use: `avx512`, `avx2`, `baseline`; empty without a library."""
    found = library()
    return found.striate_level().decode() if found else ""


def choose(name: str) -> bool:
    """Use another instruction set, for tests and comparisons; return whether this CPU has it."""
    found = library()
    chosen = found is not None and found.striate_choose(name.encode()) == 0
    level.cache_clear()
    return chosen


def peak(seconds: float = 0.2) -> float:
    """Return the 1e9 multiply-and-add a second that one thread reaches out of its registers.

    Args:
        seconds: how long to measure.
    """
    found = library()
    return float(found.striate_peak(seconds)) if found else 0.0


class Memory:
    """Where some float32 tensors lie, to be looked at again and again.

    Args:
        tensors: address and count of numbers of each.
    """

    def __init__(self, tensors: Sequence[tuple[int, int]]) -> None:
        count = len(tensors)
        found = library()
        assert found is not None
        self.look = found.striate_fingerprint
        self.given = (
            (ctypes.c_void_p * count)(*(address for address, _ in tensors)),
            (ctypes.c_int64 * count)(*(numbers for _, numbers in tensors)),
            ctypes.c_int64(count),
        )

    def fingerprint(self) -> int:
        """Return a number that changes with every kilobyte in a row, and all of 64 KB or less."""
        return int(self.look(*self.given))


def floats(own: Conv) -> int:
    """Return how many numbers kernels are that were made ready for `own.tile`."""
    found = library()
    assert found is not None
    return int(found.striate_prepared_floats(ctypes.byref(own)))


def run(function: str, geometry: ctypes.Structure, *tensors: int | None) -> None:
    """Call a function of the library.

    Args:
        function: its name behind `striate_`.
        tensors: addresses of memory that the caller keeps.

    Raises:
        MemoryError: there is no room for what it computes in between.
    """
    found = library()
    assert found is not None
    status = getattr(found, "striate_" + function)(ctypes.byref(geometry), *tensors)
    if status == NO_MEMORY:
        raise MemoryError(f"striate_{function} found no memory for its tiles")
    if status:
        raise RuntimeError(f"striate_{function} does not know this geometry; status {status}")
