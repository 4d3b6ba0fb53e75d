"""Spatial transformer nets: a small net turns the picture upright before another one reads it."""

from math import prod

from torch import nn

from striate.layers import SpatialTransformer, conv, max_pool, measured_shape
from striate.spec import Spec

__all__ = ["spatial_transformer"]


def spatial_transformer(
    spec: Spec, kind: str = "affine", body: str = "cnn", transform: bool = True
) -> nn.Module:
    """Build a spatial transformer in front of a small net; without it, the net it is compared to.

    Shape: (N, C, H, W) -> (N, K)
    Args:
        kind: of the warp: affine, projective or thin_plate.
        body: "cnn", two convolutions with maxima, or "mlp", two layers of units [sizes
            reconstructed].
        transform: False leaves the transformer out.
    Raises:
        ValueError: samples have not two axes, a side is shorter than 20 samples (16 for the cnn
            alone), or a choice is unknown.

    Source: Jaderberg, Simonyan, Zisserman, Kavukcuoglu 2015, Spatial Transformer Networks,
        arXiv:1506.02025, section 4.1.
    """
    if spec.axes != 2:
        raise ValueError(f"a spatial transformer wants samples of 2 axes; got {spec.axes}")
    if body not in ("cnn", "mlp"):
        raise ValueError(f"body must be cnn or mlp; got {body!r}")
    if transform and min(spec.size) < 20:  # which leave the localiser the 3 x 3 of its last window
        raise ValueError(f"a spatial transformer wants sides of at least 20; got {spec.size}")
    net = _cnn(spec) if body == "cnn" else _mlp(spec)
    if not transform:
        return net
    localiser = nn.Sequential(
        max_pool(2, 2), conv(2, spec.channels, 20, 5), nn.ReLU(inplace=True), max_pool(2, 2),
        conv(2, 20, 20, 3), nn.ReLU(inplace=True), nn.Flatten(),
    )  # fmt: skip
    width = prod(measured_shape(localiser, spec.channels, spec.size))
    localiser.extend([nn.Linear(width, 32), nn.ReLU(inplace=True)])
    return nn.Sequential(SpatialTransformer(localiser, 32, kind), net)


def _cnn(spec: Spec) -> nn.Sequential:
    features = nn.Sequential(
        conv(2, spec.channels, 32, 5), nn.ReLU(inplace=True), max_pool(2, 2),
        conv(2, 32, 32, 5), nn.ReLU(inplace=True), max_pool(2, 2), nn.Flatten(),
    )  # fmt: skip
    width = prod(measured_shape(features, spec.channels, spec.size))
    return nn.Sequential(features, nn.Linear(width, len(spec.classes)))


def _mlp(spec: Spec) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(prod(spec.shape), 128), nn.ReLU(inplace=True),
        nn.Linear(128, 128), nn.ReLU(inplace=True), nn.Linear(128, len(spec.classes)),
    )  # fmt: skip
