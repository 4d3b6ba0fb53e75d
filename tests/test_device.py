"""pick_device: what is here, and what to name instead of what is not."""

import pytest
import torch

from striate.device import pick_device
from striate.errors import RecipeError


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(0, False, "cpu"), (2, False, "cuda"), (0, True, "mps")]
)
def test_auto_is_the_best_there_is(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto") == torch.device(best)


def test_devices_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:2", "cuda:", "cuda:-1", "cuda:x", "cpu:1", "xpu", ""]
)
def test_a_device_that_is_not_here_is_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    said = f"must be one of this machine: auto, cpu, cuda.*CUDA devices: 2.*got '{name}'"
    with pytest.raises(RecipeError, match=said):
        pick_device(name)
