"""Pixels -> pictures, as PNG bytes: samples to look at and the filters of a first layer."""

from base64 import b64encode
from io import BytesIO
from math import ceil, isqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

__all__ = ["data_uri", "filters", "picture", "png"]

TILES = 256  # most filters drawn


def filters(weights: ArrayLike) -> bytes:
    """Draw convolution filters as a grid of tiles, a PNG: zero is white (grey in colour tiles).

    Each filter has its own symmetric scale. Three input channels are drawn as red, green and
    blue; otherwise their mean, blue where negative and orange where positive. A volume's filter
    shows its middle slice, a series' filter is one row. At most 256 filters are drawn.

    Shape: (K, C, *taps), one to three spatial axes -> PNG bytes

    Raises:
        ValueError: `weights` has not 3 to 5 axes or is empty.
    """
    w = np.nan_to_num(np.asarray(weights, np.float64))[:TILES]
    if not 3 <= w.ndim <= 5 or not w.size:
        raise ValueError(f"weights must have shape (K, C, *taps), none 0; got {w.shape}")
    w = w[:, :, None] if w.ndim == 3 else w[:, :, w.shape[2] // 2] if w.ndim == 5 else w
    if w.shape[1] != 3:
        w = w.mean(1, keepdims=True)
    w = w / np.maximum(np.abs(w).max((1, 2, 3), keepdims=True), 1e-12)
    tiles = _colours(w)  # (K, h, w, 3)
    zoom = max(1, 40 // max(tiles.shape[1:3]))
    tiles = tiles.repeat(zoom, 1).repeat(zoom, 2)
    k, height, width, _ = tiles.shape
    across = min(k, max(1, isqrt(k * 2 * height // width), 12))
    down = ceil(k / across)
    page = np.full((down * (height + 4) + 4, across * (width + 4) + 4, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = 4 + i // across * (height + 4), 4 + i % across * (width + 4)
        page[y : y + height, x : x + width] = tile
    return png(page)


def picture(sample: ArrayLike, side: int = 160) -> bytes:
    """Encode one sample as a small PNG to look at.

    Bytes are kept as they are; other types are stretched from their least to their greatest value.
    A series is drawn as a picture of its channels over time, the first at the bottom, as
    spectrograms are; of a volume the middle slice is shown.

    Shape: (C, H, W), C = 1, 3 or 4; of any other number the first channel is shown; (C, T);
        (C, D, H, W) -> PNG bytes

    Args:
        side: longest side in pixels; larger images are reduced to it.

    Raises:
        ValueError: the sample is not of such a shape or is empty.
    """
    x = np.asarray(sample)
    if not 2 <= x.ndim <= 4 or not x.size:
        raise ValueError(f"sample must have shape (C, H, W), none 0; got {x.shape}")
    x = x[None, ::-1] if x.ndim == 2 else x[:, x.shape[1] // 2] if x.ndim == 4 else x
    if x.dtype != np.uint8:
        x = np.nan_to_num(x.astype(np.float64))
        x = ((x - x.min()) * (255 / max(float(np.ptp(x)), 1e-12)) + 0.5).astype(np.uint8)
    pixels = x.transpose(1, 2, 0) if len(x) in (3, 4) else x[0]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((side, side))
    return _encoded(image)


def data_uri(png: bytes) -> str:
    """Return PNG bytes as an address that holds them."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA bytes."""
    return _encoded(Image.fromarray(np.ascontiguousarray(pixels)))


def _colours(w: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Map values from -1 to 1 (K, C, h, w) to colours (K, h, w, 3)."""
    if w.shape[1] == 3:
        return np.rint(127.5 + 127.5 * w).astype(np.uint8).transpose(0, 2, 3, 1)
    v = w[:, 0, :, :, None]
    ends = np.where(v < 0, (0, 94, 150), (190, 70, 0))
    return np.rint(255 + (ends - 255) * np.abs(v)).astype(np.uint8)


def _encoded(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
