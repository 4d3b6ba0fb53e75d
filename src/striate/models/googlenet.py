"""GoogLeNet: four ways through every module, and helpers half way up."""

from math import prod

import torch
from torch import Tensor, nn

from striate.layers import GlobalPool, LocalResponseNorm, avg_pool, conv, max_pool, measured_shape
from striate.spec import Spec

__all__ = ["GoogLeNet", "Inception", "googlenet"]

# 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, behind the pooling [certain: table 1 of the paper].
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
HALVED_BEFORE = ("3a", "4a", "5a")
HELPED = ("4a", "4d")


def _layer(axes: int, channels: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    kernels = conv(axes, channels, out, kernel, stride=stride, pad=kernel // 2)
    nn.init.kaiming_normal_(kernels.weight, nonlinearity="relu")  # type: ignore[arg-type]
    nn.init.zeros_(kernels.bias)  # type: ignore[arg-type]
    return nn.Sequential(kernels, nn.ReLU(inplace=True))


class Inception(nn.Module):
    """Look at 1 x 1, 3 x 3, 5 x 5 and at the maximum around, side by side.

    Shape: (N, C, *S) -> (N, out of 1x1 + 3x3 + 5x5 + pooled, *S)

    Args:
        axes: number of spatial axes.
        channels: C.
        widths: a line of the paper's table 1.
    """

    def __init__(self, axes: int, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, three_reduced, three, five_reduced, five, pooled = widths
        self.ways = nn.ModuleList(
            [
                _layer(axes, channels, one, 1),
                nn.Sequential(
                    _layer(axes, channels, three_reduced, 1), _layer(axes, three_reduced, three, 3)
                ),
                nn.Sequential(
                    _layer(axes, channels, five_reduced, 1), _layer(axes, five_reduced, five, 5)
                ),
                nn.Sequential(max_pool(axes, 3, 1, 1), _layer(axes, channels, pooled, 1)),
            ]
        )
        self.out = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        """Return all ways, one after the other along the channels."""
        return torch.cat([way(x) for way in self.ways], 1)


class GoogLeNet(nn.Module):
    """Stem, nine inception modules, global mean, one layer of units.

    Shape: (N, C, *S) -> (N, K); in training with helpers a list of three, the helpers' last

    Args:
        spec: what a sample is.
        aux: add the two helpers, which only training asks.
        dropout: before the last layer.
    """

    def __init__(self, spec: Spec, aux: bool, dropout: float) -> None:
        super().__init__()
        axes, classes = spec.axes, len(spec.classes)
        half = {"hanging": True}
        self.stem = nn.Sequential(
            _layer(axes, spec.channels, 64, 7, 2), max_pool(axes, 3, 2, **half),
            LocalResponseNorm(), _layer(axes, 64, 64, 1), _layer(axes, 64, 192, 3),
            LocalResponseNorm(),
        )  # fmt: skip
        self.blocks = nn.ModuleDict()
        self.helpers = nn.ModuleDict()
        channels, body = 192, nn.Sequential(self.stem)
        for name, widths in MODULES.items():
            block = Inception(axes, channels, widths)
            steps = [max_pool(axes, 3, 2, **half)] if name in HALVED_BEFORE else []
            self.blocks[name] = nn.Sequential(*steps, block)
            body.append(self.blocks[name])
            channels = block.out
            if aux and name in HELPED:
                size = measured_shape(body, spec.channels, spec.size)[1:]
                self.helpers[name] = _helper(axes, channels, size, classes)
        self.head = nn.Sequential(
            GlobalPool("mean"), nn.Dropout(dropout), nn.Linear(channels, classes)
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits, or the head's and the helpers'."""
        x, answers = self.stem(x), []
        for name, block in self.blocks.items():
            x = block(x)
            if self.training and name in self.helpers:
                answers.append(self.helpers[name](x))
        return [self.head(x), *answers] if answers else self.head(x)


def _helper(axes: int, channels: int, size: tuple[int, ...], classes: int) -> nn.Module:
    """Return a classifier that sends a gradient into the middle of the net."""
    features = nn.Sequential(avg_pool(axes, 5, 3), _layer(axes, channels, 128, 1), nn.Flatten())
    width = prod(measured_shape(features, channels, size))
    return nn.Sequential(
        features, nn.Linear(width, 1024), nn.ReLU(inplace=True), nn.Dropout(0.7),
        nn.Linear(1024, classes),
    )  # fmt: skip


def googlenet(spec: Spec, aux: bool = False, dropout: float = 0.4) -> nn.Module:
    """Build GoogLeNet: 6,998,552 parameters on 3 x 224 x 224 with 1,000 classes.

    13,378,280 with both helpers [certain; its error is from memory].

    Shape: (N, C, *S) -> (N, K)
    Args:
        aux: add the two auxiliary classifiers, whose losses count 0.3 in training.
        dropout: before the last layer.
    Raises:
        ValueError: an axis is shorter than 31 samples, 79 with the helpers.

    Source: Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842.
    """
    # Halved five times, the last time from 2; a helper averages 5 behind four.
    least = 79 if aux else 31
    if min(spec.size) < least:
        raise ValueError(f"GoogLeNet wants axes of at least {least} samples; got {spec.size}")
    return GoogLeNet(spec, aux, dropout)
