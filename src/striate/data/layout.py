"""Which axes of an array are samples, channels and space."""

import numpy as np

from striate.errors import DataError

__all__ = ["KIND_OF_AXES", "laid_out"]

# Spatial axes of one sample -> what it is, as in `Spec.kind`.
KIND_OF_AXES = {1: "series", 2: "image", 3: "volume"}
# Axes of an array -> spatial axes of its samples, where nobody says.
_USUAL = {3: 2, 4: 2, 5: 3}
_LAYOUTS = {
    1: "series (N, T) or (N, C, T)",
    2: "pictures (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1, 3 or 4",
    3: "volumes (N, D, H, W), (N, C, D, H, W) or (N, D, H, W, C)",
}


def laid_out(array: np.ndarray, axes: int, where: str) -> tuple[np.ndarray, str]:
    """Return samples with their channels first, and a sentence where another reading is possible.

    Of pictures and volumes the last axis holds the channels where it has 1, 3 or 4 values, else
    the first; the channels of series always come first, as there may be any number of them.

    Shape: (N, *S), (N, C, *S) or (N, *S, C) -> (N, C, *S)

    Args:
        axes: of space, 1 to 3; 0 takes 3 or 4 axes in all for pictures, 5 for volumes.
        where: file and key, for the error.

    Raises:
        DataError: the array has no such layout, or no samples.
    """
    wanted = axes or _USUAL.get(array.ndim, 0)
    ends = (array.shape[1], array.shape[-1]) if array.ndim > 1 else (0, 0)
    channels = [count in (1, 3, 4) for count in ends]  # first, last
    if not wanted or array.ndim not in (wanted + 1, wanted + 2):
        raise DataError(f"{where}: {_refused(array, axes)}")
    if array.ndim == wanted + 1:
        result = array[:, None]
    elif wanted == 2 and not any(channels):
        raise DataError(f"{where}: {_refused(array, axes)}")
    elif wanted > 1 and channels[1]:
        result = np.moveaxis(array, -1, 1)
    else:
        result = array
    if result.size == 0:
        raise DataError(f"{where}: wanted at least one sample; got shape {array.shape}")
    return result, _doubt(array, result, axes, all(channels))


def _refused(array: np.ndarray, axes: int) -> str:
    """Say what layouts there are, and how to name another that has as many axes."""
    if axes:
        return f"wanted {_LAYOUTS[axes]}, of axes {axes}; got {array.shape}"
    fits = [other for other in (1, 3) if array.ndim in (other + 1, other + 2)]
    ways = [f"if it is {_LAYOUTS[other]}, say --axes {other}" for other in fits]
    return "; ".join([f"wanted {_LAYOUTS[2]}; got {array.shape}", *ways])


def _doubt(array: np.ndarray, result: np.ndarray, axes: int, both: bool) -> str:
    """Say how the array was read, and how to have it read otherwise; "" where it is plain.

    Squares are taken for pictures, and so are bytes of three channels.
    """
    channels, *size = result.shape[1:]
    shown = f"{array.shape} is read as {_named(channels, size)}"
    if axes == 1 and channels > size[0]:
        return f"{shown}; if the channels come last, move that axis to the second place"
    if array.ndim == len(size) + 2 and len(size) > 1 and both:
        other = _named(array.shape[1], [*array.shape[2:]])
        shown += f"; if it is {other}, move that axis to the end"
        return shown if axes or len(size) == 3 else f"{shown}, if volumes, say --axes 3"
    if axes:
        return ""
    if array.ndim == 3 and size[0] != size[1]:
        return f"{shown}; if it is {_named(size[0], size[1:])}, say --axes 1"
    if array.ndim == 4 and (channels == 4 or (channels == 3 and array.dtype != np.uint8)):
        return f"{shown}; if it is {_named(1, [*array.shape[1:]])}, say --axes 3"
    return ""


def _named(channels: int, size: list[int]) -> str:
    """Name samples: "series of 200 in 3 channels"."""
    what = {1: "series", 2: "pictures", 3: "volumes"}[len(size)]
    extent = " x ".join(map(str, size))
    return f"{what} of {extent} in {channels} channel{'s' * (channels > 1)}"
