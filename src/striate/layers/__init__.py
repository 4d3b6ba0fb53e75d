"""Layers, for one to three spatial axes.

Letters in every shape of this package: N batch, C channels, K classes, `*S` the spatial sizes:
(T,) of a series, (H, W) of an image, (D, H, W) of a volume, (T, H, W) of a video.
"""

from striate.layers.activation import AbsTanh, Maxout, RBFOutput, ScaledTanh, scaled_tanh
from striate.layers.antialias import (
    AdaptivePolyphaseSampling,
    AdaptivePolyphaseUpsampling,
    BlurPool,
    MaxBlurPool,
    binomial,
    blur,
    phases,
)
from striate.layers.capsule import Capsules, PrimaryCapsules, route, squash
from striate.layers.cells import (
    ComplexCells,
    SimpleCells,
    from_log_polar,
    gabor,
    hemifields,
    log_polar,
)
from striate.layers.convolution import (
    Convolution,
    col2im,
    convolve,
    fft_convolve,
    im2col,
)
from striate.layers.linear import DropConnect, linear
from striate.layers.local import LocallyConnected, TiledConvolution, local
from striate.layers.loss import (
    SquaredError,
    euclidean_loss,
    hinge_loss,
    map_loss,
    margin_loss,
    nll_loss,
    shares,
    sigmoid_loss,
    softmax_loss,
)
from striate.layers.nd import avg_pool, batch_norm, conv, max_pool, measured_shape
from striate.layers.norm import (
    Brightness,
    LocalContrastNorm,
    LocalResponseNorm,
    local_contrast,
    local_response,
)
from striate.layers.pool import MaxPool2d, MaxPool3d
from striate.layers.pooling import (
    FractionalMaxPool,
    GlobalPool,
    LpPool,
    SpatialPyramidPool,
    StochasticPool,
)
from striate.layers.recurrent import RecurrentConvolution
from striate.layers.roi import RoIAlign, RoIPool, roi_align, roi_pool
from striate.layers.tiling import (
    effective_kernel,
    even_widths,
    pad,
    padding_for,
    participation,
    shape_after,
    stack_receptive_field,
)
from striate.layers.warp import SpatialTransformer

__all__ = [
    "AbsTanh",
    "AdaptivePolyphaseSampling",
    "AdaptivePolyphaseUpsampling",
    "BlurPool",
    "Brightness",
    "Capsules",
    "ComplexCells",
    "Convolution",
    "DropConnect",
    "FractionalMaxPool",
    "GlobalPool",
    "LocalContrastNorm",
    "LocalResponseNorm",
    "LocallyConnected",
    "LpPool",
    "MaxBlurPool",
    "MaxPool2d",
    "MaxPool3d",
    "Maxout",
    "PrimaryCapsules",
    "RBFOutput",
    "RecurrentConvolution",
    "RoIAlign",
    "RoIPool",
    "ScaledTanh",
    "SimpleCells",
    "SpatialPyramidPool",
    "SpatialTransformer",
    "SquaredError",
    "StochasticPool",
    "TiledConvolution",
    "avg_pool",
    "batch_norm",
    "binomial",
    "blur",
    "col2im",
    "conv",
    "convolve",
    "effective_kernel",
    "euclidean_loss",
    "even_widths",
    "fft_convolve",
    "from_log_polar",
    "gabor",
    "hemifields",
    "hinge_loss",
    "im2col",
    "linear",
    "local",
    "local_contrast",
    "local_response",
    "log_polar",
    "map_loss",
    "margin_loss",
    "max_pool",
    "measured_shape",
    "nll_loss",
    "pad",
    "padding_for",
    "participation",
    "phases",
    "roi_align",
    "roi_pool",
    "route",
    "scaled_tanh",
    "shape_after",
    "shares",
    "sigmoid_loss",
    "softmax_loss",
    "squash",
    "stack_receptive_field",
]
