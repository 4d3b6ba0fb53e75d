"""The compiled library: what it is, and what happens without it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from striate.kernels import accelerated, library


def test_the_level_is_one_that_this_cpu_has(level):
    assert library.level() == level
    assert not library.choose("abacus")
    assert library.level() == level


def test_the_peak_is_that_of_a_processor():
    assert 0.5 < library.peak(0.02) < 1000  # 1e9 multiply-and-adds a second


@pytest.mark.parametrize("name", ["Conv", "Norm", "Separable"])
def test_the_structure_is_that_of_the_header(name):
    home = Path(__file__).parents[2] / "src" / "striate" / "kernels" / "csrc"
    header = (home / "api.h").read_text()
    body = header.partition(f"typedef struct Striate{name} {{")[2].partition(f"}} Striate{name};")[
        0
    ]
    plain = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    named = [
        part.strip()
        for line in plain.split(";")
        for part in re.sub(r"^(int64_t|double|Striate\w+) ", "", line.strip()).split(",")
        if part.strip()
    ]
    fields = getattr(library, name)._fields_
    assert named == [f"{name}[3]" if kind is library.THREE else name for name, kind in fields]


def test_what_the_library_cannot_do_is_said():
    with pytest.raises(RuntimeError, match="does not know this geometry"):
        library.run("winograd_forward", library.Conv(tile=3, threads=1), *[None] * 5)


@pytest.mark.unbuilt
def test_without_a_library_all_is_as_before(monkeypatch):
    monkeypatch.setattr(library, "library", lambda: None)
    assert "no C++ compiler" in library.reason()
    assert library.level() == ""
    assert library.peak() == 0
    assert not library.choose("avx2")
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    found = accelerated.report(net)
    assert found.swapped == ()
    assert "no C++ compiler" in found.left["0"]
    assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)


@pytest.mark.unbuilt
def test_a_damaged_library_is_none(monkeypatch, tmp_path):
    (tmp_path / library.NAME).write_text("not a library")
    monkeypatch.setattr(library, "_homes", lambda: [tmp_path])
    assert library.library.__wrapped__() is None


FORKED = """
import os, sys, torch
from striate.kernels import convolution
torch.set_num_threads(2)
convolution.fastest = lambda call, attempt: attempt(1)
x, w = torch.randn(4, 40, 40, 16).movedim(-1, 1), torch.randn(16, 16, 3, 3)
if {before}:
    torch.randn(1000, 1000).exp().sum()  # PyTorch's own threads have started
    here = convolution.convolution(x, w)
child = os.fork()
if child == 0:
    there = convolution.convolution(x, w)  # large operators of PyTorch's would hang here
    os._exit(0 if there[0, 0, 0, 0].isfinite() else 1)
ended, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("before", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_forked_child_has_threads_of_its_own(before):
    run = subprocess.run([sys.executable, "-c", FORKED.format(before=before)], timeout=120)
    assert run.returncode == 0


THREADS = """
import threading, torch
from striate.kernels import convolution
torch.set_num_threads(2)
convolution.fastest = lambda call, attempt: attempt(1)
x, w = torch.randn(4, 16, 40, 40), torch.randn(16, 16, 3, 3)
wanted, found = convolution.convolution(x, w), []
def work():
    for _ in range(20):
        found.append(torch.equal(convolution.convolution(x, w), wanted))
workers = [threading.Thread(target=work) for _ in range(4)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
assert len(found) == 80 and all(found)
"""


def test_several_threads_of_python_may_call_at_once():
    assert subprocess.run([sys.executable, "-c", THREADS], timeout=120).returncode == 0
