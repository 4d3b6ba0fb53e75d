"""Array -> (C, *S) of a Spec: the one input contract of training, evaluation and serving."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from striate.data.decode import decode
from striate.data.sound import decode_sound, prepare_sound
from striate.data.text import decode_text, prepare_text
from striate.errors import DataError
from striate.spec import DTYPES, Spec

__all__ = ["at_least", "normalise", "prepare", "prepare_file", "scaling", "to_bytes"]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def prepare(array: np.ndarray, spec: Spec) -> np.ndarray:
    """Give an array the channels, size and dtype of `spec`, in this order of work.

    Channels: one is repeated; RGB becomes grey by its luma (ITU-R BT.601); what is transparent
    is laid over white; a missing alpha is opaque. Size: antialiased triangle filter; an array
    that has the size already is not resampled. Values: black and white stay what they are,
    rounded to the nearest; floats beyond 0..1 are cut off where `spec` stores whole numbers.

    Shape: (C', *S') -> (C, *S) of `spec`
    Math:  luma = 0.299 R + 0.587 G + 0.114 B;  over white = alpha c + (1 - alpha) white

    Args:
        array: uint8, uint16 or float32; white is 255, 65535 or 1.

    Raises:
        ValueError: the dtype, or the numbers of channels or axes, cannot become those of `spec`,
            or no picture is of another shape;
            or whole numbers, whose white is 1, cannot have the mean or deviation of `spec`.
    """
    if array.dtype.name not in DTYPES:
        raise ValueError(f"array must be one of {', '.join(DTYPES)}; got {array.dtype}")
    if array.ndim != 1 + spec.axes or array.size == 0:
        raise ValueError(f"array must be (C, *S) with {spec.axes} axes; got shape {array.shape}")
    if spec.kind in ("series", "volume") and array.shape != spec.shape:
        raise ValueError(f"no {spec.kind} is resized, nor its channels: wanted {spec.shape}, got "
                         f"{array.shape}")  # fmt: skip
    spec.check_unit(array.dtype.name)
    fewer = spec.channels < array.shape[0]  # the fewer channels are resized, the less work
    if fewer:
        array = _channels(array, spec.channels)
    if array.shape[1:] != spec.size:
        array = _resize(array, spec)
    if not fewer:
        array = _channels(array, spec.channels)
    return np.ascontiguousarray(_values(array, spec.dtype))


def prepare_file(source: Path | bytes, spec: Spec) -> np.ndarray:
    """Decode a file and prepare it; a large JPEG is decoded at a reduced size.

    Shape: (C, *S) of `spec`

    Args:
        source: a path, or the file's bytes.

    Raises:
        DataError: the file cannot be decoded; the text gives the reason without the path.
        ValueError: as for `prepare`.
    """
    if spec.kind == "sound":
        return prepare_sound(decode_sound(source), spec)
    if spec.kind == "text":
        return prepare_text(decode_text(source), spec)
    if spec.kind != "image":
        raise DataError(f"no {spec.kind} is kept in such a file; give x (N, C, *S) in an .npz")
    return prepare(decode(source, at_least(spec)).array, spec)


def at_least(spec: Spec) -> tuple[int, int] | None:
    """Return the (H, W) that a reduced decoding for `spec` has to keep; None is all of it."""
    return (spec.size[0], spec.size[1]) if spec.axes == 2 else None


def scaling(spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and 1 / std of `spec`; 0 and 1 where it has none.

    Shape: (C,) and (C,), float32
    """
    mean = np.array(spec.mean or [0] * spec.channels, np.float32)
    return mean, 1 / np.array(spec.std or [1] * spec.channels, np.float32)


def normalise(batch: np.ndarray, spec: Spec) -> np.ndarray:
    """Subtract the mean of `spec` and divide by its deviation, channel by channel.

    Shape: (N, C, *S) -> (N, C, *S) float32
    Math:  y = (x - mean) * (1 / std)

    Raises:
        ValueError: the batch is not of the shape that `spec` gives.
    """
    if batch.shape[1:] != spec.shape:
        raise ValueError(f"batch must be (N, *{spec.shape}); got {batch.shape}")
    mean, scale = (values.reshape(-1, *[1] * spec.axes) for values in scaling(spec))
    result = batch.astype(np.float32)
    result -= mean
    result *= scale
    return result


def to_bytes(sample: np.ndarray) -> bytes:
    """Write a sample as PNG, floats as TIFF, so that `decode(to_bytes(sample)).array` equals it.

    Shape: (C, H, W) uint8 with C = 1, 3 or 4, or uint16 or float32 with C = 1

    Raises:
        ValueError: neither, as Pillow reads it, can hold the sample.
    """
    if sample.dtype == np.float32 and sample.ndim == 3 and sample.shape[0] == 1:
        tiff = BytesIO()
        _image(sample, "F").save(tiff, "TIFF")
        return tiff.getvalue()
    deep = sample.dtype == np.uint16
    wanted = (1,) if deep else tuple(_MODES)
    whole = deep or sample.dtype == np.uint8
    if not whole or sample.ndim != 3 or sample.shape[0] not in wanted:
        raise ValueError(
            "sample must be (C, H, W), uint8 with C = 1, 3 or 4, or uint16 or float32 with C = 1; "
            f"got {sample.dtype} {sample.shape}"
        )
    file = BytesIO()
    _image(sample, "I;16" if deep else _MODES[sample.shape[0]]).save(file, "PNG")
    return file.getvalue()


def _image(array: np.ndarray, mode: str) -> Image.Image:
    """Return (C, H, W) as a picture of `mode`."""
    _, height, width = array.shape
    pixels = array.transpose(1, 2, 0)
    if mode == "I;16":
        pixels = pixels.astype("<u2")
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes())


def _channels(array: np.ndarray, wanted: int) -> np.ndarray:
    """Return (wanted, *S)."""
    got = array.shape[0]
    if got == wanted:
        return array
    if got == 4:
        return _channels(_over_white(array), wanted)
    if (got, wanted) == (3, 1):
        return _luma(array)
    if wanted == 4 and got in (1, 3):
        opaque = np.full_like(array[:1], DTYPES[array.dtype.name][1])
        return np.concatenate([_channels(array, 3), opaque])
    if got == 1:
        return np.repeat(array, wanted, axis=0)
    raise ValueError(f"array must have 1, 3, 4 or {wanted} channels to get {wanted}; got {got}")


def _over_white(array: np.ndarray) -> np.ndarray:
    """Lay (4, *S) over white: (3, *S)."""
    colour, alpha = array[:3], array[3:]
    if array.dtype == np.float32:
        return colour * alpha + (1 - alpha)
    white = np.iinfo(array.dtype).max
    colour, alpha = colour.astype(np.uint32), alpha.astype(np.uint32)
    return ((colour * alpha + white * (white - alpha) + white // 2) // white).astype(array.dtype)


def _luma(array: np.ndarray) -> np.ndarray:
    """Return the grey (1, *S) of RGB (3, *S); whole numbers in Pillow's fixed point."""
    if array.dtype == np.float32:
        red, green, blue = array
        return (0.299 * red + 0.587 * green + 0.114 * blue).astype(np.float32)[None]
    red, green, blue = array.astype(np.uint32)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(array.dtype)[None]


def _resize(array: np.ndarray, spec: Spec) -> np.ndarray:
    """Return (C, *S) by the resize rule of `spec`."""
    if spec.axes != 2:
        raise ValueError(f"only 2 axes are resized; wanted size {spec.size}, got {array.shape[1:]}")
    (height, width), (tall, wide) = spec.size, array.shape[1:]
    if spec.resize == "stretch":
        return _sample(array, (height, width), (0, 0, wide, tall))
    if spec.resize == "crop":
        scale = max(height / tall, width / wide)
        left, top = (wide - width / scale) / 2, (tall - height / scale) / 2
        box = (max(left, 0), max(top, 0), min(wide - left, wide), min(tall - top, tall))
        return _sample(array, (height, width), box)
    scale = min(height / tall, width / wide)
    rows, columns = max(1, round(tall * scale)), max(1, round(wide * scale))
    inner = _sample(array, (rows, columns), (0, 0, wide, tall))
    low, high = DTYPES[array.dtype.name]
    # Middle grey: the mean of `spec` is known only after the first samples are prepared.
    middle = (low + high + (array.dtype != np.float32)) / 2
    result = np.full((array.shape[0], height, width), middle, array.dtype)
    top, left = (height - rows) // 2, (width - columns) // 2
    result[:, top : top + rows, left : left + columns] = inner
    return result


def _sample(
    array: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]
) -> np.ndarray:
    """Resample `box` (left, top, right, bottom) of (C, H, W) to `size` (H, W), antialiased."""
    if size == array.shape[1:] and box == (0, 0, size[1], size[0]):
        return array
    turned = size[::-1]
    if array.dtype == np.uint8 and array.shape[0] == 3:
        picture = _image(array, "RGB").resize(turned, Image.Resampling.BILINEAR, box)
        return np.asarray(picture).transpose(2, 0, 1)
    mode, kind = ("L", np.uint8) if array.dtype == np.uint8 else ("F", np.float32)
    planes = [
        np.asarray(
            _image(plane[None].astype(kind), mode).resize(turned, Image.Resampling.BILINEAR, box)
        )
        for plane in array
    ]
    result = np.stack(planes)
    return np.rint(result).astype(np.uint16) if array.dtype == np.uint16 else result


def _values(array: np.ndarray, wanted: str) -> np.ndarray:
    """Return the same blacks and whites as `wanted`."""
    got = array.dtype.name
    if got == wanted:
        return array
    if wanted == "float32":
        return array.astype(np.float32) / np.float32(DTYPES[got][1])
    if got == "float32":
        white = DTYPES[wanted][1]
        return np.rint(np.clip(array, 0, 1).astype(np.float64) * white).astype(wanted)
    if wanted == "uint16":
        return array.astype(np.uint16) * np.uint16(257)
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
