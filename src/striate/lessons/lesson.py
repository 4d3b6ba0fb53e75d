"""What a lesson gives, and what several of them share: digits on a canvas, a short training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.data.named import read_named
from striate.recipe import Recipe
from striate.train.loop import fit

__all__ = ["Digits", "Lesson", "accuracy", "digits", "taught"]

SIDE = 16  # of the canvas


@dataclass(frozen=True)
class Lesson:
    """What was shown.

    Args:
        title: one line.
        text: what the numbers say, two or three sentences.
        numbers: name -> number, or a list of them.
        picture: SVG text, or PNG bytes.
    """

    title: str
    text: str
    numbers: dict[str, Any]
    picture: str | bytes

    @property
    def suffix(self) -> str:
        """Ending of a file for the picture."""
        return ".svg" if isinstance(self.picture, str) else ".png"


@dataclass(frozen=True)
class Digits:
    """The embedded digits, 8 x 8 in the middle of 16 x 16, normalised.

    Shape: x (N, 1, 16, 16) float32, y (N,)
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def digits(train: int = 1000, seed: int = 0) -> Digits:
    """Return `train` digits to learn from and the rest to be asked."""
    samples = read_named("digits")
    grey = torch.from_numpy(np.asarray(samples.arrays)).float() / 255
    spare = (SIDE - 8) // 2
    x = (torch.nn.functional.pad(grey, [spare] * 4) - 0.1) / 0.3
    y = torch.from_numpy(samples.labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    some, rest = order[:train], order[train:]
    return Digits(x[some], y[some], x[rest], y[rest])


def taught(net: nn.Module, x: Tensor, y: Tensor, epochs: float, seed: int = 0) -> list[float]:
    """Train a network in place with AdamW, batches of 50; return the loss of every update."""
    draw = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True, generator=draw)
    recipe = Recipe(optimizer="adamw", epochs=epochs, ema=0, label_smoothing=0)
    return fit(net, loader, recipe)


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of right answers, 0 to 1."""
    was = net.training
    right = (net.eval()(x).argmax(1) == y).float().mean().item()
    net.train(was)
    return right
