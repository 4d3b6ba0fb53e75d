import platform
import resource

import pytest
import torch

from striate.errors import RecipeError
from striate.train import machine
from striate.train.machine import (
    autocast_type,
    keep_freed_memory,
    others_busy,
    pick_device,
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


def test_devices_by_name():
    assert pick_device("cpu") == CPU
    with pytest.raises(RecipeError, match="device must be auto, cpu, cuda"):
        pick_device("gpu")
    with pytest.raises(RecipeError, match="not on this machine"):
        pick_device("cuda:99")


def test_wanted_threads_are_set():
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
    finally:
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


def test_busy_cores_are_ticks_a_second(monkeypatch):
    ticks = iter([1000, 1015])
    monkeypatch.setattr(machine, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(machine.os, "sysconf", lambda _: 100)
    assert others_busy(0.1) == pytest.approx(1.5)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept_for_the_next_batch():
    assert keep_freed_memory()
    for _ in range(2):  # the first one may have to ask the system
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16 * 2**20 // 4)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 1000  # of 4,096 pages
