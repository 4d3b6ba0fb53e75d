"""TIFF by Pillow, less what Pillow would misread: few of its numbers are those of a picture."""

from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from striate.errors import DataError

__all__ = ["Tiff", "as_meant", "tag"]

BITS, CHANNELS, FORMAT = 258, 277, 339  # tags of TIFF 6.0
_KINDS = {1: "whole numbers", 2: "whole numbers with a sign", 3: "floats"}
_WANTED = (
    "wanted grey of 8 or 16 bits or of 32-bit floats, or RGB or RGBA of 8 or 16 bits: save it as "
    "one of these, or put the samples into an .npz"
)


class Tiff(TiffImagePlugin.TiffImageFile):
    """TIFF that is refused where Pillow has no mode for its numbers, or drops channels of them.

    Raises:
        DataError: from the constructor; the text tells what numbers the file declares.
    """

    def _open(self) -> None:
        try:
            super()._open()
        except (SyntaxError, IndexError) as error:  # what Pillow has no mode for
            tags = getattr(self, "tag_v2", {})
            if BITS not in tags or "data organization" in str(error):
                raise
            raise DataError(f"{_declared(tags)} cannot be read; {_WANTED}") from error
        if tag(self, CHANNELS, 1) > len(self.getbands()):
            raise DataError(f"{_declared(self.tag_v2)} would lose some channels; {_WANTED}")


def _declared(tags: Any) -> str:
    """Say what numbers a TIFF holds, by its tags."""
    (bits, *_), (kind, *_) = tags[BITS], tags.get(FORMAT, (1,))
    count = tags.get(CHANNELS, 1)
    return (
        f"a TIFF of {count} channel{'s' * (count != 1)} of {bits}-bit "
        f"{_KINDS.get(kind, 'numbers of another kind')}"
    )


def tag(image: Image.Image, number: int, otherwise: int) -> int:
    """Return a whole number of a TIFF's first directory, the first where it holds several."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return otherwise
    value = image.tag_v2.get(number)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else otherwise


def as_meant(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """Return whole numbers as the file means them: Pillow shows an 8-bit -1 as 255.

    Shape: any -> the same
    """
    meant = {("uint8", 2): np.int8, ("int32", 1): np.uint32}
    kind = meant.get((str(values.dtype), tag(image, FORMAT, 1)))
    return values.view(kind) if kind and isinstance(image, Tiff) else values
