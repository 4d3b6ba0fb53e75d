"""The usual JPEGs by libjpeg-turbo itself: faster than through Pillow, at any eighth of the size.

What it does not take (CMYK, damage of any kind) is left to Pillow, which knows more, tolerates
more, and says what is wrong.
"""

import numpy as np
import simplejpeg

__all__ = ["metadata", "read_usual"]

COLOURS = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}  # in the file -> as decoded
XMP = b"http://ns.adobe.com/xap/1.0/\0"
BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a body


def read_usual(
    data: bytes, most_pixels: int, at_least: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Decode a whole grey or colour JPEG; None for everything else.

    Shape: -> (C, H, W) uint8, C = 1 or 3, a view; and the full (H, W)

    Args:
        data: the file's bytes.
        most_pixels: a larger picture is left to whoever refuses it.
        at_least: (H, W) as stored; a larger picture is decoded at the smallest eighth of its
            size that keeps both axes at least this long.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        if space not in COLOURS or height * width > most_pixels:
            return None
        least = {"min_height": at_least[0], "min_width": at_least[1]} if at_least else {}
        pixels = simplejpeg.decode_jpeg(data, COLOURS[space], **least)
    except ValueError:
        return None
    return pixels.transpose(2, 0, 1), (height, width)


def metadata(data: bytes) -> tuple[bytes, bytes]:
    """Return the EXIF (a TIFF structure) and the XMP of a JPEG, empty where there is none."""
    exif = xmp = b""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] not in (0xDA, 0xD9):
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in BARE:
            place += 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4])
        body = data[place + 4 : place + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body[6:]
        elif marker == 0xE1 and body.startswith(XMP):
            xmp = xmp or body[len(XMP) :]
        place += 2 + max(2, length)
    return exif, xmp
