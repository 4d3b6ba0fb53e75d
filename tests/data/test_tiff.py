import struct

import numpy as np
import pytest

from striate.data.decode import decode, probe
from striate.errors import DataError

GREY, RGB = 1, 2
WHOLE, SIGNED, FLOAT = 1, 2, 3


def tiff(array, photometric=GREY, kind=WHOLE, extra=()):
    """Return the bytes of a TIFF with one strip: (H, W) or (H, W, C), written tag by tag."""
    height, width, count = (*array.shape, 1)[:3]
    data = array.tobytes()
    tags = {
        256: [width],
        257: [height],
        258: [array.dtype.itemsize * 8] * count,
        259: [1],
        262: [photometric],
        273: [8],
        277: [count],
        278: [height],
        279: [len(data)],
        338: list(extra),
        339: [kind] * count,
    }
    tags = {tag: values for tag, values in tags.items() if values}
    start = 8 + len(data)
    after = start + 2 + 12 * len(tags) + 4
    entries, later = b"", b""
    for tag, values in tags.items():
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack("<I", after + len(later))
        later += packed if len(values) > 1 else b""
        entries += struct.pack("<HHI", tag, 4, len(values)) + place
    directory = struct.pack("<H", len(tags)) + entries + bytes(4) + later
    return struct.pack("<2sHI", b"II", 42, start) + data + directory


def square(dtype, channels=1):
    values = np.arange(16 * channels).reshape(4, 4, channels).astype(dtype)
    return values[..., 0] if channels == 1 else values


@pytest.mark.parametrize(
    ("array", "how"),
    [
        (square(np.uint8), {}),
        (square(np.int8), {"kind": SIGNED}),
        (square(np.uint16), {}),
        (square(np.int16), {"kind": SIGNED}),
        (square(np.uint32), {}),
        (square(np.int32), {"kind": SIGNED}),
        (square(np.float32), {"kind": FLOAT}),
        (square(np.uint8, 3), {"photometric": RGB}),
        (square(np.uint8, 4), {"photometric": RGB, "extra": [2]}),
    ],
)
def test_numbers_that_a_picture_may_hold_are_untouched(array, how):
    found, header = decode(tiff(array, **how)), probe(tiff(array, **how))
    wanted = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    assert np.array_equal(found.array, wanted)
    assert (header.channels, header.dtype) == (len(wanted), str(found.array.dtype))


@pytest.mark.parametrize(
    ("values", "dtype", "kind"),
    [
        ((-48, 47), np.int8, SIGNED),
        ((-300, 300), np.int16, SIGNED),
        ((-1, 70000), np.int32, SIGNED),
        ((0, 3_000_000_000), np.uint32, WHOLE),
    ],
)
def test_whole_numbers_out_of_range_are_refused_by_their_own_values(values, dtype, kind):
    low, high = values
    with pytest.raises(DataError, match=f"from {low} to {high}; wanted 0 to 65535: scale them"):
        decode(tiff(np.array([[low, 0], [1, high]], dtype), kind=kind))


@pytest.mark.parametrize(
    ("array", "how", "what"),
    [
        (square(np.float64), {"kind": FLOAT}, "1 channel of 64-bit floats cannot be read"),
        (square(np.float16), {"kind": FLOAT}, "1 channel of 16-bit floats cannot be read"),
        (square(np.uint64), {}, "1 channel of 64-bit whole numbers cannot be read"),
        (square(np.float32, 3), {"photometric": RGB, "kind": FLOAT}, "3 channels of 32-bit floats"),
        (square(np.int8, 3), {"photometric": RGB, "kind": SIGNED}, "whole numbers with a sign"),
        (square(np.uint16, 2), {"extra": [0]}, "2 channels of 16-bit whole numbers cannot"),
        (square(np.uint8, 2), {"extra": [0]}, "2 channels of 8-bit whole numbers would lose"),
        (square(np.uint8, 4), {"photometric": RGB, "extra": [0]}, "4 channels of .* would lose"),
        (square(np.uint8, 5), {"photometric": RGB, "extra": [0, 0]}, "5 channels of .* would lose"),
    ],
)
@pytest.mark.parametrize("read", [decode, probe])
def test_numbers_that_no_picture_holds_are_refused_with_what_came_and_what_to_do(
    array, how, what, read
):
    with pytest.raises(DataError, match=rf"{what}.*wanted grey of 8 .* save it as") as caught:
        read(tiff(array, **how))
    assert "damaged" not in str(caught.value)
