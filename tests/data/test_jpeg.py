from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from striate.data.jpeg import metadata, read_usual

MOST = 10**6


def jpeg(mode="RGB", size=(61, 45), **options):
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    file = BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_whole_pictures_equal_pillows_to_the_bit(mode, subsampling, progressive):
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    data = jpeg(mode, progressive=progressive, **options)
    array, size = read_usual(data, MOST)
    expected = np.asarray(Image.open(BytesIO(data)))
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    assert size == (45, 61)
    assert np.array_equal(array, expected)


@pytest.mark.parametrize("least", [(44, 60), (20, 20), (6, 8), (1, 1)])
def test_reduced_pictures_keep_at_least_what_is_wanted(least):
    array, size = read_usual(jpeg(), MOST, least)
    assert size == (45, 61)
    assert array.shape[1] >= least[0]
    assert array.shape[2] >= least[1]


def test_any_eighth_will_do():
    array, _ = read_usual(jpeg(size=(80, 80)), MOST, (30, 30))
    assert array.shape == (3, 30, 30)  # 3/8, which Pillow does not offer


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff", b"no picture", jpeg("CMYK"), jpeg()[:-200], jpeg()[:60]],
    ids=["empty", "start", "text", "cmyk", "truncated", "header"],
)
def test_everything_else_is_left_to_pillow(data):
    assert read_usual(data, MOST) is None


def test_a_picture_over_the_limit_is_not_decoded():
    assert read_usual(jpeg(), 45 * 61 - 1) is None


def test_exif_and_xmp_are_found_behind_other_segments():
    exif = Image.Exif()
    exif[274] = 6
    data = jpeg(exif=exif.tobytes(), comment=b"hello", icc_profile=b"x" * 500, xmp=b"<x/>")
    found, xmp = metadata(data)
    assert found[:2] in (b"II", b"MM")
    assert xmp == b"<x/>"


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", jpeg(), jpeg()[:25], b"\xff\xd8\xff\xff\xff"])
def test_without_metadata_there_is_none(data):
    assert metadata(data) == (b"", b"")
