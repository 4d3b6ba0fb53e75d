import re

import pytest
import torch

from striate import models
from striate.errors import RecipeError
from striate.models import CARDS, MODELS, build, card_of
from striate.spec import Spec

PUBLISHED = {
    "lenet5": 61_706,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet20": 269_722,
    "resnet56": 853_018,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_count(name):
    assert card_of(name)["parameters"] == PUBLISHED[name]


def test_every_network_has_a_card():
    assert set(CARDS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_network_answers_for_any_number_of_axes(name, axes):
    size = {1: (64,), 2: (28, 32), 3: (16, 16, 14)}[axes]
    spec = Spec(channels=2, size=size, classes=("a", "b", "c"))
    net = build(name, spec).eval()
    with torch.inference_mode():
        assert net(torch.randn(2, *spec.shape)).shape == (2, 3)


@pytest.mark.parametrize("name", ["fastnet", "lenet5", "resnet20"])
def test_every_trained_weight_gets_a_gradient(name):
    net = build(name, Spec(channels=1, size=(28, 28), classes=("a", "b")))
    net(torch.randn(4, 1, 28, 28)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_a_typo_gets_a_hint():
    with pytest.raises(RecipeError, match="did you mean 'lenet5'"):
        build("lenet6")


def test_an_unknown_option_gets_a_hint():
    with pytest.raises(RecipeError, match="no option 'widht'; did you mean 'width'"):
        build("fastnet", widht=3)


@pytest.mark.parametrize("value", [[1], "32", 2.5, True, None])
def test_an_option_of_another_type_is_said(value):
    said = re.escape(f"option 'width' of network 'fastnet' must be of type int; got {value!r}")
    with pytest.raises(RecipeError, match=said):
        build("fastnet", width=value)


def test_a_sample_too_small_is_refused():
    with pytest.raises(RecipeError, match=r"'lenet5' cannot be built so: .*too small"):
        build("lenet5", Spec(channels=1, size=(5, 5), classes=("a", "b")))


def test_a_line_in_the_table_is_all_that_a_plugin_needs(monkeypatch):
    monkeypatch.setitem(MODELS, "mine", lambda spec, gain=1: torch.nn.Flatten())
    assert isinstance(build("mine", Spec(channels=1, size=(4,)), gain=2), torch.nn.Flatten)
    with pytest.raises(RecipeError, match="no published input; pass a Spec"):
        build("mine")


def test_public_names():
    assert all(hasattr(models, name) for name in models.__all__)
