import platform
import subprocess
import sys

import pytest
import torch

from striate.errors import RecipeError
from striate.train import machine
from striate.train.machine import (
    autocast_type,
    others_busy,
    set_threads,
)

CPU = torch.device("cpu")
LARGE, SMALL = 3 * 32 * 32, 8 * 8


@pytest.mark.parametrize("has", [True, False])
def test_auto_is_half_only_where_the_hardware_has_it(monkeypatch, has):
    monkeypatch.setattr(machine, "_cpu_has_bfloat16", lambda: has)
    assert autocast_type("auto", CPU, LARGE) is (torch.bfloat16 if has else None)
    assert autocast_type("auto", CPU, SMALL) is None
    assert autocast_type("float32", CPU, LARGE) is None


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_slow_half_is_refused(monkeypatch, precision):
    monkeypatch.setattr(machine, "_cpu_has_bfloat16", lambda: False)
    with pytest.raises(RecipeError, match=f"{precision} is not fast on this cpu.*precision auto"):
        autocast_type(precision, CPU, LARGE)


def test_wanted_threads_are_set():
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_denormal_numbers_become_zero():
    small = torch.full((64,), 1e-39)
    before = torch.get_num_threads()
    torch.set_flush_denormal(False)
    try:
        assert (small * 0.5 > 0).all()
        set_threads(1)
        assert (small * 0.5 == 0).all()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("busy", "cores", "threads"), [(0, 2, 2), (0.4, 2, 2), (1.0, 2, 1), (9, 2, 1)]
)
def test_threads_leave_busy_cores_alone(monkeypatch, busy, cores, threads):
    before = torch.get_num_threads()
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(machine, "others_busy", lambda: busy)
    try:
        assert set_threads(0) == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("own", "busy"), [(0.0, 1.5), (0.1, 0.5), (0.2, 0.0)])
def test_busy_cores_are_ticks_a_second_less_those_of_own_threads(monkeypatch, own, busy):
    ticks, clock = iter([1000, 1015]), iter([7.0, 7.0 + own])
    monkeypatch.setattr(machine, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(machine.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(machine.os, "sysconf", lambda _: 100)
    assert others_busy(0.1) == pytest.approx(busy)


def new_process(code):
    """Run code that uses `libc`, `SIZE`, `faults` and `resident`; return what it prints."""
    setup = (
        "import ctypes, resource\n"
        "from striate.train.machine import give_back_memory, keep_freed_memory\n"
        "libc, SIZE = ctypes.CDLL(None), 48 * 2**20\n"
        "libc.malloc.restype = ctypes.c_void_p\n"
        "libc.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)\n"
        "libc.free.argtypes = (ctypes.c_void_p,)\n"
        "def filled():\n"
        "    block = libc.malloc(SIZE); libc.memset(block, 1, SIZE); return block\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "resident = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", setup + code], capture_output=True, text=True, check=True
    )
    return ran.stdout.split()


@pytest.mark.parametrize(("cores", "most"), [(1, 64), (16, 64), (100, 400)])
@pytest.mark.parametrize("option", ["threads", "processes"])
def test_more_workers_than_could_help_are_refused(monkeypatch, cores, most, option):
    monkeypatch.setattr(machine, "_cores", lambda: cores)
    asked = {"threads": 0, "processes": 1}
    machine.check_workers(**asked | {option: most})
    with pytest.raises(
        RecipeError,
        match=f"--{option} wants at most {most} on this .* {cores} cores; got {most + 1};",
    ):
        machine.check_workers(**asked | {option: most + 1})


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept_for_the_next_batch():
    default, kept = new_process(
        "def again():\n"
        "    libc.free(filled()); before = faults()\n"
        "    libc.free(filled()); return faults() - before\n"
        "print(again()); assert keep_freed_memory(); print(again())"
    )
    assert int(default) > 10_000  # of 12,288 pages
    assert int(kept) < 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_that_is_kept_can_be_given_back():
    (given,) = new_process(
        "keep_freed_memory(); block = filled(); above = libc.malloc(100)\n"
        "libc.free(block); before = resident(); give_back_memory(); print(before - resident())"
    )
    assert int(given) > 40 * 2**20
