"""The experiments of the canon, run small; and what they share."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn.metrics
import torch

HOME = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.usefixtures("benchmarks")


def script(name):
    return __import__(name)


EXPERIMENTS = {
    "maps": ("superresolution", "fillin", "canvas", "calcifications"),
    "pioneers": (
        "cortex",
        "jitter",
        "templates",
        "distortions",
        "deconvolution",
        "workers",
        "columns",
    ),
    "speech": ("delays", "voices", "speakers"),
    "vision": (
        "transformer",
        "blur",
        "permuted",
        "rectifier",
        "four_layers",
        "inception",
        "depth",
        "aligned",
    ),
}


def test_the_benchmarks_that_show_statements_of_the_article_exist():
    known = {one.system for one in script("canon").CLAIMS} | set(script("experiments").EXPERIMENTS)
    page = (HOME.parent / "docs" / "article.md").read_text(encoding="utf-8")
    named = {
        name
        for shown in re.findall(r"\| benchmark ([^|(]+)", page)
        for name in re.findall(r"`(\w[\w -]*)`", shown)
    }
    assert named
    assert named <= known


def test_a_check_may_want_more_or_less():
    check = script("learning").Check
    assert check("number", 0.5, "-", "B1").holds(0.5)
    assert not check("number", 0.5, "-", "B1").holds(0.4)
    assert check("number", 0.5, "-", "B1", most=True).holds(0.4)
    assert not check("number", 0.5, "-", "B1", most=True).holds(0.6)


def test_shifted_sounds_repeat_their_ends():
    x = torch.arange(6).view(1, 1, 6)
    moved = script("speech").moved
    assert moved(x, 2, 2).flatten().tolist() == [0, 0, 0, 1, 2, 3]
    assert moved(x, -1, 2).flatten().tolist() == [1, 2, 3, 4, 5, 5]


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    draw = torch.Generator().manual_seed(0)
    score, ill = torch.randint(0, 9, (50,), generator=draw), torch.arange(50) % 3 == 0
    wanted = sklearn.metrics.roc_auc_score(ill, score)
    assert script("maps").az(score, ill) == pytest.approx(wanted)


def test_a_third_peak_needs_three_peaks():
    maps = torch.zeros(2, 1, 20, 20)
    maps[:, 0, 2, 2] = maps[:, 0, 10, 10] = 1
    maps[1, 0, 16, 4] = 1
    assert script("maps").third_peak(maps).tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for names in EXPERIMENTS.values() for name in names])
def test_experiments_give_the_numbers_that_their_checks_name(
    name, shared_data, tmp_path, monkeypatch
):
    module = script("experiments")
    if name in (
        "blur",
        "rectifier",
        "four_layers",
        "inception",
        "depth",
    ):  # on CIFAR-10, which lies there packed
        unpack = shared_data / "cifar-10-packed" / "unpack.py"
        subprocess.run([sys.executable, str(unpack), str(tmp_path)], check=True)
        monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    else:
        monkeypatch.setenv("STRIATE_DATA", str(shared_data))
    experiment = module.EXPERIMENTS[name]
    found = experiment.run(0, True)
    assert experiment.checks
    assert all(check.number in found for check in experiment.checks)


def test_every_experiment_is_run_here():
    tried = {name for names in EXPERIMENTS.values() for name in names}
    assert tried == set(script("experiments").EXPERIMENTS)


def test_what_is_changed_is_changed_by_every_word():
    x = torch.rand(20, 1, 16, 16)
    for words in ("translate=3", "affine=20", "elastic=34", "flip"):
        change = script("learning").changed(x, words, 0)
        rows = torch.arange(20)
        assert not torch.equal(change(x, 0, rows), x)
        assert torch.equal(change(x, 0, rows[3:5]), change(x, 0, rows)[3:5])
