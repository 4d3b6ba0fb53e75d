"""EEGNet: filters in time, then across electrodes, in two thousand parameters."""

from typing import Any

import torch
from torch import Tensor, nn

from striate.spec import Spec

__all__ = ["EEGNet", "eegnet"]


def held(module: nn.Conv2d | nn.Linear, limit: float) -> Tensor:
    """Return weights with norms of at most `limit` an output; in training store them so too.

    What is stored is projected before the next use, as Keras does it after an update. A graph has
    no branches: whoever compiles one calls `EEGNet.constrain` between updates.
    """
    if module.training and not torch.compiler.is_compiling():
        project(module.weight, limit)
    return torch.renorm(module.weight, 2, 0, limit)


@torch.no_grad()
def project(weight: Tensor, limit: float) -> None:
    """Shrink in place what is too long; what is not stays untouched, for whoever saved it."""
    if bool((weight.flatten(1).norm(dim=1) > 1.00001 * limit).any()):  # more than rounding
        weight.copy_(torch.renorm(weight, 2, 0, limit))


def _store_held(module: Any, prefix: str, keep_vars: bool) -> None:
    """Project before weights are stored: the last update had no use after it."""
    project(module.weight, module.LIMIT)


class HeldConv2d(nn.Conv2d):
    """A convolution whose filters have norms of at most 1.

    Shape: (N, C, H, W) -> (N, O, H', W')
    """

    LIMIT = 1.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_state_dict_pre_hook(_store_held)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps."""
        return self._conv_forward(x, held(self, self.LIMIT), self.bias)


class HeldLinear(nn.Linear):
    """Linear outputs whose weights have norms of at most 1/4.

    Shape: (N, C) -> (N, K)
    """

    LIMIT = 0.25

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_state_dict_pre_hook(_store_held)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        return nn.functional.linear(x, held(self, self.LIMIT), self.bias)


class EEGNet(nn.Module):
    """Temporal filters, one spatial pattern each, separable convolution, units.

    Shape: (N, C, T) -> (N, K)
    Math:  weights across electrodes have norms of at most 1 a filter, those of the outputs 0.25

    Args:
        spec: a series; its channels are electrodes.
        filters: F1, in time.
        depth: D, spatial patterns for each.
        kernel: taps in time; half the sampling rate.
        dropout: behind both poolings.
    """

    def __init__(self, spec: Spec, filters: int, depth: int, kernel: int, dropout: float) -> None:
        super().__init__()
        maps = filters * depth
        self.temporal = nn.Sequential(
            _around(kernel), nn.Conv2d(1, filters, (1, kernel), bias=False)
        )
        self.norm = nn.BatchNorm2d(filters)
        electrodes = (spec.channels, 1)
        self.spatial = HeldConv2d(filters, maps, electrodes, groups=filters, bias=False)
        self.first = nn.Sequential(
            nn.BatchNorm2d(maps), nn.ELU(), nn.AvgPool2d((1, 4)), nn.Dropout(dropout)
        )
        self.second = nn.Sequential(
            _around(16), nn.Conv2d(maps, maps, (1, 16), groups=maps, bias=False),
            nn.Conv2d(maps, maps, 1, bias=False), nn.BatchNorm2d(maps), nn.ELU(),
            nn.AvgPool2d((1, 8)), nn.Dropout(dropout), nn.Flatten(),
        )  # fmt: skip
        self.head = HeldLinear(maps * (spec.size[0] // 4 // 8), len(spec.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        y = self.norm(self.temporal(x[:, None]))
        logits: Tensor = self.head(self.second(self.first(self.spatial(y))))
        return logits

    def constrain(self) -> None:
        """Shrink stored weights to their norms; the training loop calls it between updates."""
        for layer in (self.spatial, self.head):
            project(layer.weight, layer.LIMIT)


def _around(taps: int) -> nn.Module:
    """Pad time so that `taps` keep its length; of an even number one more goes after."""
    return nn.ZeroPad2d(((taps - 1) // 2, taps // 2, 0, 0))


def eegnet(
    spec: Spec, filters: int = 8, depth: int = 2, kernel: int = 64, dropout: float = 0.5
) -> nn.Module:
    """Build EEGNet-8,2 for signals at 128 Hz.

    Shape: (N, C, T) -> (N, K)
    Args:
        filters: F1, in time.
        depth: D, spatial patterns for each.
        kernel: taps in time; half the sampling rate in Hz.
        dropout: 0.5 within a subject, 0.25 across subjects.
    Raises:
        ValueError: samples are no series or shorter than 32.

    Source: Lawhern, Solon, Waytowich, Gordon, Hung, Lance 2018, EEGNet, arXiv:1611.08024.
    """
    if spec.axes != 1 or spec.size[0] < 32:
        raise ValueError(f"EEGNet wants series of at least 32 samples; got {spec.shape}")
    return EEGNet(spec, filters, depth, kernel, dropout)
