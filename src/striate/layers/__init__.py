"""Layers, for one to three spatial axes.

Letters in every shape of this package: N batch, C channels, K classes, `*S` the spatial sizes:
(T,) of a series, (H, W) of an image, (D, H, W) of a volume, (T, H, W) of a video.
"""

from striate.layers.nd import avg_pool, batch_norm, conv, max_pool, shape_after
from striate.layers.pool import MaxPool2d, MaxPool3d

__all__ = ["MaxPool2d", "MaxPool3d", "avg_pool", "batch_norm", "conv", "max_pool", "shape_after"]
