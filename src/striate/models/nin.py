"""Nets without layers of units: Network in Network, and nothing but convolutions."""

from torch import nn

from striate.layers import GlobalPool, avg_pool, conv, max_pool
from striate.spec import Spec

__all__ = ["allcnn_c", "nin"]


def _layer(axes: int, channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    kernels = conv(axes, channels, out, kernel, stride=stride, pad=kernel // 2)
    nn.init.kaiming_normal_(kernels.weight, nonlinearity="relu")  # type: ignore[arg-type]
    nn.init.zeros_(kernels.bias)  # type: ignore[arg-type]
    return [kernels, nn.ReLU(inplace=True)]


def nin(spec: Spec, dropout: float = 0.5) -> nn.Module:
    """Build Network in Network: small nets slide where kernels slid, and maps are averaged.

    966,986 parameters on 3 x 32 x 32 with 10 classes [certain: the authors' CIFAR-10 net].

    Shape: (N, C, *S) -> (N, K)
    Args:
        dropout: after each of the two poolings.
    Raises:
        ValueError: an axis is shorter than 4 samples; of a volume, than 6.

    Source: Lin, Chen, Yan 2013, Network In Network, arXiv:1312.4400.
    """
    # Halved twice, the second time from 2 samples; no window of a volume may hang over so few.
    least = 6 if spec.axes == 3 else 4
    if min(spec.size) < least:
        raise ValueError(
            f"Network in Network wants {'volumes' if spec.axes == 3 else 'samples'} of at least "
            f"{least} along each axis; got {spec.size}"
        )
    axes, classes = spec.axes, len(spec.classes)
    return nn.Sequential(
        *_layer(axes, spec.channels, 192, 5), *_layer(axes, 192, 160, 1),
        *_layer(axes, 160, 96, 1), max_pool(axes, 3, 2, hanging=True), nn.Dropout(dropout),
        *_layer(axes, 96, 192, 5), *_layer(axes, 192, 192, 1), *_layer(axes, 192, 192, 1),
        avg_pool(axes, 3, 2, hanging=True), nn.Dropout(dropout),
        *_layer(axes, 192, 192, 3), *_layer(axes, 192, 192, 1), *_layer(axes, 192, classes, 1),
        GlobalPool("mean"),
    )  # fmt: skip


def allcnn_c(spec: Spec, dropout: float = 0.5) -> nn.Module:
    """Build All-CNN-C: strided convolutions in the place of pooling.

    1,369,738 parameters on 3 x 32 x 32 with 10 classes [certain].

    Shape: (N, C, *S) -> (N, K)
    Args:
        dropout: after each strided convolution; the input loses a fifth.

    Source: Springenberg, Dosovitskiy, Brox, Riedmiller 2014, Striving for Simplicity,
        arXiv:1412.6806.
    """
    axes, classes = spec.axes, len(spec.classes)
    return nn.Sequential(
        nn.Dropout(0.4 * dropout),
        *_layer(axes, spec.channels, 96, 3), *_layer(axes, 96, 96, 3), *_layer(axes, 96, 96, 3, 2),
        nn.Dropout(dropout),
        *_layer(axes, 96, 192, 3), *_layer(axes, 192, 192, 3), *_layer(axes, 192, 192, 3, 2),
        nn.Dropout(dropout),
        *_layer(axes, 192, 192, 3), *_layer(axes, 192, 192, 1), *_layer(axes, 192, classes, 1),
        GlobalPool("mean"),
    )  # fmt: skip
