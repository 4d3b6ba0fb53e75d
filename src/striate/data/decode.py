"""One image file's bytes -> array. Nothing is resized, clipped or guessed here."""

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from striate.data.jpeg import metadata, read_usual
from striate.data.tiff import Tiff, as_meant, tag
from striate.errors import DataError
from striate.files import open_regular, read_regular

__all__ = ["MOST_PIXELS", "SUFFIXES", "Decoded", "Header", "decode", "probe"]

# More pixels than this are refused before any is decoded (Pillow's own limit for an error).
MOST_PIXELS = 178_956_970

# File names that are taken for images, in lower case.
SUFFIXES = frozenset(
    f".{name}"
    for name in "jpg jpeg jpe jfif png webp bmp dib gif tif tiff ppm pgm pbm pnm".split()  # noqa: SIM905
)

# Pillow warns of odd metadata that no pixel depends on. The filter is set once, as
# `warnings.catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """JPEG whose EXIF is left to `_orientation`: Pillow's parser warns of every odd tag."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


# Format, how such a file begins, reader. Readers are called by hand: `Image.open` would try
# every plugin it has, and warn by a size limit that is global.
_FORMATS: tuple[tuple[str, re.Pattern[bytes], type[ImageFile]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _Jpeg),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    ("BMP", re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    ("GIF", re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), Tiff),
    ("PNM", re.compile(rb"P[1-6]\s"), PpmImagePlugin.PpmImageFile),
)

_TURNED = "turned upright (EXIF orientation {})"

# EXIF orientation -> (swap the axes, then flip vertically, then flip horizontally).
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

_CHANNELS = {"1": 1, "L": 1, "I": 1, "F": 1, "RGBA": 4, "RGBa": 4, "LA": 4, "La": 4, "PA": 4}


@dataclass(frozen=True)
class Header:
    """Say what a file holds, before its pixels are decoded.

    Args:
        format: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM.
        mode: Pillow's mode of the file.
        size: upright (H, W), in pixels.
        channels: what `decode` will give: 1, 3 or 4.
        dtype: what `decode` will give: "uint8", "uint16" or "float32".
        frames: pictures in the file; only the first is read.
    """

    format: str
    mode: str
    size: tuple[int, ...]
    channels: int
    dtype: str
    frames: int


@dataclass(frozen=True)
class Decoded:
    """Hold one decoded file.

    Shape: (C, *S), C = 1, 3 or 4

    Args:
        array: uint8, uint16 or float32; not necessarily contiguous.
        mode: Pillow's mode of the file: "RGB", "I;16", "P", "CMYK", ...
        size: upright full size (H, W), before any reduced decoding.
        notes: what a user might not expect, one sentence each.
    """

    array: np.ndarray
    mode: str
    size: tuple[int, ...]
    notes: tuple[str, ...]


def decode(source: Path | bytes, at_least: tuple[int, int] | None = None) -> Decoded:
    """Decode the first picture of a file, upright.

    Grey, RGB and RGBA stay as they are; palettes, CMYK, YCbCr and LAB become RGB, or RGBA where
    something is transparent; grey with alpha becomes RGBA; 16-bit grey becomes uint16 and floats
    float32, both with their values untouched.

    Args:
        source: a path, or the file's bytes.
        at_least: upright (H, W); a larger JPEG may be decoded at some eighths of its size, as
            long as both axes keep at least this many pixels.

    Raises:
        DataError: the file is no image, damaged, too large, or holds numbers that fit no dtype;
            the text gives the reason without the path.
    """
    data = _bytes(source)
    if usual := _usual_jpeg(data, at_least):
        return usual
    with _opened(data) as (_, image):
        mode, raw, full = image.mode, _raw_mode(image), image.size
        with _blaming_the_file():
            turned = tag(image, 274, 1)  # undone by Pillow, while loading
            if at_least is not None and isinstance(image, _Jpeg):
                height, width = at_least[::-1] if _orientation(image) > 4 else at_least
                image.draft(None, (width, height))
            image.load()
            turn, frames = _orientation(image), _frames(image)
        array, notes = _pixels(image, raw)
    if turned > 1:
        notes.append(_TURNED.format(turned))
    if frames > 1:
        notes.append(f"first of {frames} frames")
    return _turned_upright(array, mode, full[::-1], turn, notes)


def _bytes(source: Path | bytes) -> bytes:
    try:
        return source if isinstance(source, bytes) else read_regular(source)
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error


def _usual_jpeg(data: bytes, at_least: tuple[int, int] | None) -> Decoded | None:
    """Decode what libjpeg-turbo takes; Pillow gets the rest."""
    turn = _orientation_in(*metadata(data)) if data[:2] == b"\xff\xd8" else 1
    stored = at_least[::-1] if at_least and turn > 4 else at_least
    found = read_usual(data, MOST_PIXELS, stored)
    if found is None:
        return None
    array, full = found
    return _turned_upright(array, "L" if len(array) == 1 else "RGB", full, turn, [])


def _turned_upright(
    array: np.ndarray, mode: str, full: tuple[int, ...], turn: int, notes: list[str]
) -> Decoded:
    """Undo an orientation; `full` is (H, W) as stored."""
    if turn > 1:
        array = _upright(array, turn)
        full = full[::-1] if turn > 4 else full
        notes = [_TURNED.format(turn), *notes]
    return Decoded(array, mode, tuple(full), tuple(notes))


def probe(source: Path | bytes) -> Header:
    """Read a file's header, no pixels.

    Args:
        source: a path, or the file's bytes.

    Raises:
        DataError: the file is no image or too large; the text has no path.
    """
    with _opened(source) as (name, image):
        with _blaming_the_file():
            width, height = image.size
            if _orientation(image) > 4:
                width, height = height, width
            frames = _frames(image)
        dtype = {"I": "uint16", "F": "float32"}.get(image.mode[:1], "uint8")
        channels = (
            4
            if _see_through(image, _raw_mode(image))
            else _CHANNELS.get(image.mode.split(";")[0], 3)
        )
        return Header(name, image.mode, (height, width), channels, dtype, frames)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[str, ImageFile]]:
    """Yield format and image of a file, header read and size checked."""
    try:
        stream: IO[bytes] = BytesIO(source) if isinstance(source, bytes) else open_regular(source)
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    with stream:
        try:
            start = stream.read(32)
        except OSError as error:
            raise DataError(error.strerror or str(error)) from error
        if not start:
            raise DataError("the file is empty (0 bytes)")
        name, reader = _format(start)
        stream.seek(0)
        with _blaming_the_file():
            image = reader(stream)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise DataError(
                f"{width} x {height} pixels are more than the limit of {MOST_PIXELS:,}; "
                "make the picture smaller"
            )
        yield name, image


def _format(start: bytes) -> tuple[str, type[ImageFile]]:
    """Return name and reader of the format that a file's first bytes tell."""
    for name, pattern, reader in _FORMATS:
        if pattern.match(start):
            return name, reader
    known = ", ".join(name for name, _, _ in _FORMATS)
    raise DataError(f"is not an image: begins with {start[:16]!r}; wanted {known}")


@contextmanager
def _blaming_the_file() -> Iterator[None]:
    """Turn whatever Pillow raises over broken bytes, which is any kind of error, to DataError."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError("damaged: it asks for more memory than there is") from error
    except Exception as error:
        text = str(error) or type(error).__name__
        word = "truncated" if "truncated" in text.lower() else "damaged"
        raise DataError(f"{word}: {text}") from error


def _raw_mode(image: ImageFile) -> str:
    """Return how the pixels lie in the file, in Pillow's words, such as "RGB;16B"."""
    arguments = image.tile[0].args if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _frames(image: ImageFile) -> int:
    return getattr(image, "n_frames", 1)


def _orientation(image: ImageFile) -> int:
    """Return the EXIF (or else XMP) orientation that remains to be undone, 1 to 8."""
    if isinstance(image, Tiff):
        return 1
    exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    return _orientation_in(exif, image.info.get("xmp", b""))


def _orientation_in(exif: bytes, xmp: bytes) -> int:
    """Return the orientation that EXIF, or else XMP, tells; 1 where neither does."""
    try:
        found = _exif_orientation(exif)
    except struct.error:
        found = 0
    if not found and (match := re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp)):
        found = int(match[1])
    return found if 1 <= found <= 8 else 1


def _exif_orientation(tiff: bytes) -> int:
    """Return tag 274 of the first directory, or 0."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 0
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", tiff, entry)
        if tag == 274:
            return int(struct.unpack_from(order + ("I" if kind == 4 else "H"), tiff, entry + 8)[0])
    return 0


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    swap, vertical, horizontal = _UPRIGHT[orientation]
    array = array.swapaxes(1, 2) if swap else array
    return array[:, :: -1 if vertical else 1, :: -1 if horizontal else 1]


def _see_through(image: Image.Image, raw: str) -> bool:
    """Tell whether one colour or palette entry is transparent; 16 bits name none that 8 have."""
    plain = image.mode in ("P", "L", "RGB", "1") and ";16" not in raw
    return plain and "transparency" in image.info


def _pixels(image: ImageFile, raw: str) -> tuple[np.ndarray, list[str]]:
    """Return the loaded picture as (C, H, W) and what was done to it."""
    if image.mode.startswith("I"):
        return _sixteen_bits(image), []
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise DataError("holds NaN or infinite values; replace them")
        return values[None], []
    with _blaming_the_file():
        picture, notes = _plain(image, raw)
        array = as_meant(image, np.asarray(picture))
    if array.dtype == np.int8:
        array = _in_range(array).astype(np.uint8)
    if ";16" in raw:
        notes.append("16 bits a channel read as 8")
    return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)), notes


def _plain(image: ImageFile, raw: str) -> tuple[Image.Image, list[str]]:
    """Return the picture in mode L, RGB or RGBA."""
    mode = image.mode
    if _see_through(image, raw):
        what = "palette" if mode == "P" else "transparent colour"
        return image.convert("RGBA"), [f"{what} expanded"]
    if mode in ("L", "RGB", "RGBA"):
        return image, []
    if mode in ("LA", "La", "PA", "RGBa"):
        straight = image.convert("LA") if mode == "La" else image
        return straight.convert("RGBA"), [f"{mode} read as RGBA"]
    if mode == "1":
        return image.convert("L"), ["black and white read as grey"]
    if mode == "P":
        return image.convert("RGB"), ["palette expanded"]
    if mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        turned = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
        if turned is None:
            raise DataError("LAB colours could not be turned to RGB")
        return turned, ["LAB read as RGB"]
    return image.convert("RGB"), [f"{mode} read as RGB"]


def _sixteen_bits(image: ImageFile) -> np.ndarray:
    """Return (1, H, W) uint16 of any of Pillow's integer modes, values untouched."""
    values = _in_range(as_meant(image, np.asarray(image)))
    array = values.astype(np.uint16)[None]
    # Pillow inverts "white is zero" (photometric interpretation 0) for 8 bits, but not for 16.
    return 65535 - array if tag(image, 262, 1) == 0 else array


def _in_range(values: np.ndarray) -> np.ndarray:
    """Refuse whole numbers that 16 bits without a sign do not hold."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > 65535:
        raise DataError(
            f"holds whole numbers from {low} to {high}; wanted 0 to 65535: "
            "scale them, or save as 32-bit float TIFF"
        )
    return values
