"""AlexNet: eight layers on two GPUs, and the end of hand-made features."""

from math import prod

import torch
from torch import nn

from striate.layers import LocalResponseNorm, conv, max_pool, measured_shape
from striate.spec import Spec

__all__ = ["alexnet", "alexnet_ungrouped"]


def _alexnet(spec: Spec, groups: int, dropout: float) -> nn.Module:
    axes = spec.axes

    def layer(
        channels: int, out: int, kernel: int, stride: int, pad: int, groups: int
    ) -> list[nn.Module]:
        kernels = conv(axes, channels, out, kernel, stride=stride, pad=pad, groups=groups)
        return [kernels, nn.ReLU(inplace=True)]

    features = nn.Sequential(
        *layer(spec.channels, 96, 11, 4, 0, 1), LocalResponseNorm(), max_pool(axes, 3, 2),
        *layer(96, 256, 5, 1, 2, groups), LocalResponseNorm(), max_pool(axes, 3, 2),
        *layer(256, 384, 3, 1, 1, 1), *layer(384, 384, 3, 1, 1, groups),
        *layer(384, 256, 3, 1, 1, groups), max_pool(axes, 3, 2), nn.Flatten(),
    )  # fmt: skip
    width = prod(measured_shape(features, spec.channels, spec.size))
    classifier = nn.Sequential(
        nn.Dropout(dropout), nn.Linear(width, 4096), nn.ReLU(inplace=True),
        nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(inplace=True),
        nn.Linear(4096, len(spec.classes)),
    )  # fmt: skip
    return _as_published(nn.Sequential(features, classifier))


@torch.no_grad()
def _as_published(net: nn.Module) -> nn.Module:
    """Weights from N(0, 0.01); biases 1 where rectifiers should start alive, else 0."""
    layers = [m for m in net.modules() if hasattr(m, "weight") and hasattr(m, "bias")]
    for number, module in enumerate(layers):
        module.weight.normal_(0, 0.01)  # type: ignore[operator]
        module.bias.fill_(1.0 if number in (1, 3, 4, 5, 6) else 0.0)  # type: ignore[operator]
    return net


def alexnet(spec: Spec, dropout: float = 0.5) -> nn.Module:
    """Build AlexNet with two groups, as it lay on two GPUs: 60,965,224 parameters.

    On 3 x 227 x 227 with 1,000 classes; the paper says 224, which its strides do not tile.
    Layers: 34,944, 307,456, 885,120, 663,936, 442,624, 37,752,832, 16,781,312, 4,097,000
    [certain; its error is from memory].

    Shape: (N, C, *S) -> (N, K)
    Args:
        dropout: before the first two layers of units.
    Raises:
        ValueError: an axis is shorter than 67 samples.

    Source: Krizhevsky, Sutskever, Hinton 2012, ImageNet Classification with Deep Convolutional
        Neural Networks.
    """
    return _alexnet(spec, 2, dropout)


def alexnet_ungrouped(spec: Spec, dropout: float = 0.5) -> nn.Module:
    """Build AlexNet on one device, every map seeing all before it: 62,378,344 parameters."""
    return _alexnet(spec, 1, dropout)
