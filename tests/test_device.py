"""pick_device: what is here, and what to name instead of what is not."""

import pytest
import torch
from torch import nn

from striate.device import pick_device, place
from striate.errors import RecipeError
from striate.kernels import reason
from striate.kernels.accelerated import FastConv2d


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


def test_a_network_lies_channels_last_and_has_our_kernels_on_the_cpu():
    net = place(nn.Sequential(nn.Conv2d(3, 8, 3)), torch.device("cpu"), 2)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert type(net[0]) is (nn.Conv2d if reason() else FastConv2d)


def test_elsewhere_and_with_other_axes_all_is_pytorchs():
    meta = place(nn.Sequential(nn.Conv2d(3, 8, 3)), torch.device("meta"), 2)
    assert type(meta[0]) is nn.Conv2d
    assert meta[0].weight.device.type == "meta"
    line = place(nn.Sequential(nn.Conv1d(3, 8, 3)), torch.device("cpu"), 1)
    assert line[0].weight.is_contiguous()


def test_kernels_of_three_axes_lie_channels_last_on_the_cpu():
    net = nn.Sequential(nn.Conv3d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    wanted = {name: value.clone() for name, value in net.state_dict().items()}
    placed = place(net, torch.device("cpu"), 3)
    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    for name, value in placed.state_dict().items():
        assert torch.equal(value, wanted[name])
