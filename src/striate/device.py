"""Which device a network runs on, and how it lies there."""

import torch
from torch import nn

from striate.errors import RecipeError
from striate.kernels import accelerate

__all__ = ["pick_device", "place"]


def pick_device(name: str) -> torch.device:
    """Return the named device, or for `auto` the best one there is: CUDA, else MPS, else the CPU.

    Raises:
        RecipeError: the name is unknown or this machine lacks the device.
    """
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if there[kind]), "cpu")
    kind, colon, index = name.partition(":")
    number = int(index) if index.isdecimal() else -1 if colon else 0
    if not 0 <= number < there.get(kind, 0):
        here = ", ".join(kind for kind, count in there.items() if count)
        raise RecipeError(
            f"--device must be one of this machine: auto, {here} (CUDA devices: {there['cuda']}); "
            f"got {name!r}"
        )
    return torch.device(name)


def place(model: nn.Module, device: torch.device, axes: int) -> nn.Module:
    """Return the network on a device as it is the fastest there, whatever it is used for.

    With two axes its channels lie last; on the CPU, where it has Striate's kernels if they are
    built, those of kernels of three axes too: answers lie as kernels do.

    Args:
        axes: of a sample.
    """
    model = model.to(device)
    if axes == 2:
        model = model.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        for weight in (one for one in model.parameters() if one.dim() == 5):
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
    return accelerate(model) if device.type == "cpu" else model
