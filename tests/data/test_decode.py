import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data.decode import MOST_PIXELS, SUFFIXES, decode, probe
from striate.errors import DataError


def picture(height=30, width=20, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encoded(image, kind, **options):
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) % 256], -1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats_give_the_pixels_back(kind, channels):
    pixels = picture(channels=channels)
    found = decode(encoded(pixels, kind))
    wanted = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    assert found.array.dtype == np.uint8
    assert np.array_equal(found.array, wanted)
    assert (found.size, found.notes) == ((30, 20), ())


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_rgba_keeps_four_channels(kind):
    pixels = picture(channels=4)
    pixels[..., 3] |= 1  # WebP may drop colours that are not seen at all
    found = decode(encoded(pixels, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.array_equal(found.array, pixels.transpose(2, 0, 1))


def test_grey_with_alpha_becomes_rgba():
    pixels = picture(channels=2)
    found = decode(encoded(Image.fromarray(pixels, "LA"), "PNG"))
    assert np.array_equal(found.array, pixels[..., [0, 0, 0, 1]].transpose(2, 0, 1))
    assert found.notes == ("LA read as RGBA",)


def test_jpeg_equals_pillow_and_grey_jpeg_has_one_channel():
    data = encoded(smooth(40, 50), "JPEG", quality=90)
    assert np.array_equal(
        decode(data).array.transpose(1, 2, 0), np.asarray(Image.open(BytesIO(data)))
    )
    assert decode(encoded(picture(channels=1), "JPEG")).array.shape == (1, 30, 20)


def test_a_palette_becomes_rgb_and_rgba_where_an_entry_is_transparent():
    image = Image.fromarray(picture()).quantize(8)
    wanted = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    found = decode(encoded(image, "PNG"))
    assert (found.mode, found.notes) == ("P", ("palette expanded",))
    assert np.array_equal(found.array, wanted)
    for clear in (3, bytes([0, 255, 128])):
        found = decode(encoded(image, "PNG", transparency=clear))
        assert found.array.shape == (4, 30, 20)
        assert np.array_equal(found.array[:3], wanted)
    index = np.asarray(image)
    assert np.array_equal(np.unique(found.array[3][index == 2]), [128])


def test_a_transparent_colour_becomes_alpha():
    pixels = picture(channels=1)
    pixels[3:5] = 7
    found = decode(encoded(pixels, "PNG", transparency=7))
    assert np.array_equal(found.array[3] == 0, pixels == 7)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(mode):
    file = "JPEG" if mode == "CMYK" else "TIFF"
    image = Image.new("RGB", (8, 8), (200, 40, 90))
    if mode == "LAB":
        image = Image.new("LAB", (8, 8), (255, 128, 128))  # white
        found, wanted = decode(encoded(image, file)), (255, 255, 255)
    else:
        found, wanted = decode(encoded(image.convert(mode), file)), (200, 40, 90)
    assert found.notes == (f"{mode} read as RGB",)
    assert np.abs(found.array[:, 4, 4].astype(int) - wanted).max() <= 6


def test_black_and_white_becomes_grey():
    image = Image.fromarray(picture(channels=1)).convert("1")
    found = decode(encoded(image, "PNG"))
    assert np.array_equal(found.array[0], np.asarray(image) * np.uint8(255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_every_level(kind):
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = decode(encoded(pixels, kind))
    assert found.array.dtype == np.uint16
    assert np.array_equal(found.array[0], pixels)
    assert len(np.unique(found.array)) >= 4096


def tiff(values, order, photometric=1, kind=3):
    """Write the smallest TIFF of one strip by hand; kind is the SampleFormat's bits."""
    height, width = values.shape
    data = values.tobytes()
    tags = [
        *((256, width), (257, height), (258, values.itemsize * 8), (259, 1), (262, photometric)),
        *((273, 8), (277, 1), (278, height), (279, len(data)), (339, kind)),
    ]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(tags))
    for tag, value in tags:
        directory += struct.pack(order + "HHII", tag, 4, 1, value)
    return mark + struct.pack(order + "I", 8 + len(data)) + data + directory + bytes(4)


@pytest.mark.parametrize("order", "<>")
def test_sixteen_bits_of_either_byte_order_are_the_same(order):
    pixels = np.arange(0, 65536, 251, dtype=np.uint16)[:256].reshape(16, 16)
    found = decode(tiff(pixels.astype(order + "u2"), order, kind=1))
    assert found.array.dtype == np.dtype("uint16")
    assert np.array_equal(found.array[0], pixels)


def test_white_is_zero_is_inverted_in_sixteen_bits():
    pixels = np.arange(256, dtype="<u2").reshape(16, 16)
    assert np.array_equal(decode(tiff(pixels, "<", 0, 1)).array[0], 65535 - pixels)


def test_floats_stay_floats_and_nan_is_refused():
    pixels = np.linspace(-2, 3, 64, dtype=np.float32).reshape(8, 8)
    found = decode(encoded(pixels, "TIFF"))
    assert found.array.dtype == np.float32
    assert np.array_equal(found.array[0], pixels)
    pixels[3, 3] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        decode(encoded(pixels, "TIFF"))


def test_whole_numbers_beyond_sixteen_bits_are_refused_and_others_kept():
    pixels = np.array([[0, 65535], [1, 2]], np.int32)
    assert np.array_equal(decode(encoded(pixels, "TIFF")).array[0], pixels)
    with pytest.raises(DataError, match="from -1 to 70000; wanted 0 to 65535"):
        decode(encoded(np.array([[-1, 70000]], np.int32), "TIFF"))


def png_of_sixteen_bit_rgb():
    import zlib

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + struct.pack(">6H", *[0x1234] * 6) for _ in range(2))
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


def test_sixteen_bit_colours_are_read_as_eight_and_said():
    found = decode(png_of_sixteen_bit_rgb())
    assert found.notes == ("16 bits a channel read as 8",)
    assert np.unique(found.array) == 0x12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_stands_upright(kind, orientation):
    upright = smooth(32, 48)
    undo = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(np.ascontiguousarray(undo[orientation]), kind, exif=exif)
    found = decode(data)
    assert found.size == probe(data).size == (32, 48)
    error = np.abs(found.array.transpose(1, 2, 0).astype(int) - upright).mean()
    assert error < 12 if kind in ("JPEG", "WEBP") else error == 0
    said = (f"turned upright (EXIF orientation {orientation})",)
    assert found.notes == (said if orientation > 1 else ())


def test_a_reduced_jpeg_keeps_both_axes_at_least_as_asked():
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(smooth(400, 300), "JPEG", exif=exif)  # upright 300 x 400
    found = decode(data, (70, 100))
    assert found.size == (300, 400)
    assert found.array.shape == (3, 75, 100)
    assert decode(data, (76, 100)).array.shape == (3, 113, 150)  # 3/8
    assert decode(data, (301, 10)).array.shape == (3, 300, 400)
    assert decode(encoded(smooth(40, 40), "PNG"), (5, 5)).array.shape == (3, 40, 40)


@settings(max_examples=25, deadline=None)
@given(*[st.integers(1, 200)] * 2, *[st.integers(1, 200)] * 2)
def test_reduced_decoding_never_goes_below_what_is_asked(height, width, tall, wide):
    data = encoded(np.zeros((height, width, 3), np.uint8), "JPEG")
    _, rows, columns = decode(data, (tall, wide)).array.shape
    assert rows >= min(tall, height)
    assert columns >= min(wide, width)
    assert abs(rows * width - columns * height) <= 8 * max(height, width)


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
def test_the_first_of_several_frames_is_read_and_said(kind, options):
    frames = [Image.new("RGB", (6, 5), (50 * k, 0, 0)) for k in (1, 2, 3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    found = decode(data)
    assert "first of 3 frames" in found.notes
    assert probe(data).frames == 3
    assert np.array_equal(found.array[:, 0, 0], [50, 0, 0])


def test_the_header_tells_what_decoding_gives(tmp_path):
    cases = {
        "a.png": picture(channels=1),
        "b.png": picture(channels=4),
        "c.tif": np.zeros((3, 4), np.uint16),
        "d.tif": np.zeros((3, 4), np.float32),
        "e.gif": Image.fromarray(picture()).quantize(8),
        "f.jpg": Image.fromarray(picture()).convert("CMYK"),
        "g.webp": picture(),
        "h.png": Image.fromarray(picture(channels=2), "LA"),
    }
    for name, pixels in cases.items():
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(tmp_path / name)
        header, found = probe(tmp_path / name), decode(tmp_path / name)
        assert header.channels == found.array.shape[0], name
        assert header.dtype == found.array.dtype.name, name
        assert (header.size, header.mode) == (found.size, found.mode), name


def test_non_ascii_paths_are_read(tmp_path):
    path = tmp_path / "Ærøskøbing 写真.PNG"
    path.write_bytes(encoded(picture(), "PNG"))
    assert decode(path).array.shape == (3, 30, 20)


def test_zero_bytes_and_missing_files_and_folders_are_said(tmp_path):
    (tmp_path / "zero.jpg").touch()
    for read in (decode, probe):
        with pytest.raises(DataError, match=r"is empty \(0 bytes\)"):
            read(tmp_path / "zero.jpg")
        with pytest.raises(DataError, match="No such file"):
            read(tmp_path / "none.jpg")
        with pytest.raises(DataError, match="Is a directory"):
            read(tmp_path)


def test_text_named_jpg_is_no_image(tmp_path):
    (tmp_path / "a.jpg").write_text("hello world, I am text")
    with pytest.raises(
        DataError, match=r"is not an image: begins with b'hello world, I a'; wanted JPEG"
    ):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_file_is_refused(kind):
    data = encoded(picture(64, 64), kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(DataError, match=r"^(truncated|damaged): "):
            decode(data[: int(len(data) * share)])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"]), st.data())
def test_damaged_bytes_give_an_array_or_a_data_error(kind, data):
    broken = bytearray(encoded(smooth(16, 16), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    for read in (decode, probe):
        with suppress(DataError):
            read(bytes(broken))


@pytest.mark.parametrize("side", [20_000, 13_378])
def test_a_bomb_is_refused_by_its_header(side):
    data = encoded(Image.new("1", (side, side)), "PNG")
    assert side * side > MOST_PIXELS
    for read in (decode, probe):
        with pytest.raises(DataError, match=f"{side} x {side} pixels.*limit of 178,956,970"):
            read(data)


def test_a_large_picture_below_the_limit_warns_of_nothing():
    data = encoded(Image.new("1", (12_000, 8_000)), "PNG")  # beyond Pillow's limit for a warning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(data).size == (8_000, 12_000)


def test_broken_exif_is_no_fault_and_warns_of_nothing():
    whole = encoded(smooth(20, 20), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    data = whole.replace(whole[2:20], b"", 1)  # no JFIF resolution, so that Pillow asks EXIF
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).array.shape == (3, 20, 20)


def test_threads_decode_the_same():
    files = [encoded(picture(60, 40, seed=k), "JPEG") for k in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(decode, files))
    assert all(np.array_equal(a.array, decode(b).array) for a, b in zip(found, files, strict=True))


def test_suffixes_are_lower_case():
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in SUFFIXES)
    assert Path("A.JPEG").suffix.lower() in SUFFIXES
