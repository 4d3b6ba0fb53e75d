"""The ZIP code reader before backpropagation chose its kernels: a bank made by hand."""

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.spec import Spec

__all__ = ["HandMade", "denker1989", "templates"]


def templates(side: int = 7) -> Tensor:
    """Return 49 templates, each of mean 0 and length 1: (49, side, side).

    Thin and thick lines of 8 orientations, edges and line ends of 16 directions, and a dot
    [number and side of the paper, drawings reconstructed].
    """
    place = torch.arange(side) - (side - 1) / 2
    y, x = place[:, None], place[None]
    drawn = []
    for width in (0.8, 1.6):
        for k in range(8):
            turn = torch.tensor(pi * k / 8)
            drawn.append(torch.exp(-((x * turn.sin() - y * turn.cos()) ** 2) / (2 * width**2)))
    for k in range(16):
        turn = torch.tensor(pi * k / 8)
        along, across = x * turn.cos() + y * turn.sin(), x * turn.sin() - y * turn.cos()
        drawn.append(torch.tanh(along))
        drawn.append(torch.exp(-(across**2) / 2) * torch.sigmoid(-2 * along))
    drawn.append(torch.exp(-(x**2 + y**2) / 2))
    bank = torch.stack(drawn)
    bank = bank - bank.mean((1, 2), keepdim=True)
    return bank / bank.flatten(1).norm(dim=1)[:, None, None]


class HandMade(nn.Module):
    """Look for every template everywhere, then only roughly where it was.

    Shape: (N, C, H, W) -> (N, 49, 4, 4)
    Math:  the mean over a quarter of each axis of phi[<template, window>]

    Args:
        places: of the coarse map, an axis.
    """

    bank: Tensor

    def __init__(self, places: int = 4) -> None:
        super().__init__()
        self.places = places
        self.register_buffer("bank", templates()[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the coarse maps; colours count as one."""
        found = F.conv2d(x.mean(1, keepdim=True), self.bank.to(x), padding=3).relu()
        return F.adaptive_avg_pool2d(found, self.places)

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the links of one sample: every tap of the bank at every place."""
        return x[0, 0].numel() * self.bank.numel()


def denker1989(spec: Spec) -> nn.Module:
    """Build the reader with templates made by hand; only its classifier learns.

    7,850 parameters with 10 classes. The paper thins strokes to skeletons first; here the
    templates fit strokes of their own width [reconstructed].

    Shape: (N, C, H, W) -> (N, K)
    Raises:
        ValueError: samples are no pictures.

    Source: Denker et al. 1989, Neural Network Recognizer for Hand-Written Zip Code Digits,
        NIPS 1.
    """
    if spec.axes != 2:
        raise ValueError(f"this reader wants pictures (C, H, W); got {spec.shape}")
    bank = HandMade()
    return nn.Sequential(bank, nn.Flatten(), nn.Linear(49 * bank.places**2, len(spec.classes)))
