"""Trials choose what the time allows, and leave the recipe that training follows."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from striate.data.material import gather
from striate.recipe import Recipe
from striate.session import Session
from striate.train.choices import complete
from striate.train.log import Log
from striate.trial import choose_size, time_answer


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (3000, 1, 28, 28), dtype=np.uint8)
    path = tmp_path_factory.mktemp("trial") / "noise.npz"
    np.savez(path, x=x, y=np.arange(3000) % 3)
    return gather(path, seed=0)


def session(material, folder, seconds, **options):
    asked = Recipe(seconds=seconds, model_options=options)
    x, y = material.cache.x, material.samples.labels
    recipe = complete(asked, material.spec, x, y, material.split.train)
    log, cpu = Log(folder, quiet=True), torch.device("cpu")
    run = Session(folder, recipe, material, log, time.monotonic(), 0.0, cpu, nn.Identity(), None)
    return run, asked


def test_little_time_makes_a_coarse_stem_and_no_changes(material, tmp_path):
    run, asked = session(material, tmp_path, 0.5)
    choose_size(run, asked)
    assert run.recipe.model_options == {"width": 32, "stride": 2}
    assert run.recipe.augment == "none"


def test_much_time_makes_the_widest_network_of_the_usual_stride(material, tmp_path):
    run, asked = session(material, tmp_path, 1e6)
    choose_size(run, asked)
    assert run.recipe.model_options == {"width": 64, "widen": 4}
    assert run.recipe.augment != "none"


def test_what_is_named_of_the_size_stays(material, tmp_path):
    run, asked = session(material, tmp_path, 1e6, stride=3, widen=3)
    choose_size(run, asked)
    assert run.recipe.model_options == {"width": 64, "stride": 3, "widen": 3}


def test_an_answer_takes_time(material, tmp_path):
    run, _ = session(material, tmp_path, 10.0)
    run.place({"width": 8})
    assert 0 < time_answer(run) < 1
