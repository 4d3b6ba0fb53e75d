"""The compiled library: what it is, and what happens without it."""

import re
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


def test_the_structure_is_that_of_the_header():
    home = Path(__file__).parents[2] / "src" / "striate" / "kernels" / "csrc"
    header = (home / "api.h").read_text()
    body = header.partition("typedef struct StriateConv {")[2].partition("} StriateConv;")[0]
    plain = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    named = [
        part.strip()
        for line in plain.split(";")
        for part in line.strip().removeprefix("int64_t").removeprefix("double").split(",")
        if part.strip()
    ]
    ours = [f"{name}[3]" if kind is library.THREE else name for name, kind in library.Conv._fields_]
    assert named == ours


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
