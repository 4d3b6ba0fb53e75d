from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data.decode import decode
from striate.data.prepare import at_least, normalise, prepare, prepare_file, scaling, to_bytes
from striate.errors import DataError
from striate.spec import Spec


def noise(channels, height=12, width=10, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.random((channels, height, width), dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (channels, height, width), dtype, endpoint=True)


def spec(channels=3, size=(12, 10), **options):
    return Spec(channels=channels, size=size, **options)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_an_array_of_the_right_form_is_not_touched(dtype, channels, resize):
    x = noise(channels, dtype=np.dtype(dtype).type)
    found = prepare(np.asfortranarray(x), spec(channels, dtype=dtype, resize=resize))
    assert np.array_equal(found, x)
    assert found.dtype == dtype
    assert found.flags.c_contiguous


@pytest.mark.parametrize("axes", [1, 3])
def test_other_numbers_of_axes_pass_but_are_not_resized(axes):
    size = (4, 5, 6)[:axes]
    x = np.arange(2 * np.prod(size), dtype=np.uint8).reshape(2, *size)
    assert np.array_equal(prepare(x, spec(2, size)), x)
    with pytest.raises(ValueError, match="only 2 axes are resized"):
        prepare(x, spec(2, (7,) * axes))


@pytest.mark.parametrize(("kind", "size"), [("series", (20,)), ("volume", (4, 5, 6))])
def test_series_and_volumes_are_taken_as_they_are_or_refused(kind, size):
    wanted = Spec(kind=kind, channels=3, size=size)
    x = np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8)
    assert np.array_equal(prepare(x, wanted), x)
    for other in (x[:1], x[:, 1:]):  # one channel is not repeated: it is another sensor
        with pytest.raises(ValueError, match=f"no {kind} is resized, nor its channels: wanted"):
            prepare(other, wanted)
    with pytest.raises(DataError, match=f"no {kind} is kept in such a file; give x .*npz"):
        prepare_file(b"\x89PNG", wanted)


def test_one_channel_is_repeated():
    x = noise(1)
    assert np.array_equal(prepare(x, spec(3)), np.concatenate([x, x, x]))


def test_grey_is_pillows_luma():
    x = noise(3)
    wanted = np.asarray(Image.fromarray(x.transpose(1, 2, 0)).convert("L"))
    assert np.array_equal(prepare(x, spec(1))[0], wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_luma_keeps_grey_grey_and_weighs_by_bt_601(dtype):
    x = noise(1, dtype=np.dtype(dtype).type)
    grey = prepare(np.concatenate([x, x, x]), spec(1, dtype=dtype))
    assert np.allclose(grey, x, rtol=1e-6, atol=0)
    rgb = noise(3, dtype=np.dtype(dtype).type)
    wanted = np.tensordot([0.299, 0.587, 0.114], rgb.astype(float), 1)
    assert np.abs(prepare(rgb, spec(1, dtype=dtype))[0] - wanted).max() <= (
        1e-6 if dtype == "float32" else 0.51 if dtype == "uint8" else 1
    )


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_what_is_transparent_is_laid_over_white(dtype, white):
    x = noise(4, dtype=np.dtype(dtype).type)
    x[3, 0], x[3, 1] = 0, white
    found = prepare(x, spec(3, dtype=dtype))
    alpha = x[3].astype(float) / white
    wanted = alpha * x[:3] + (1 - alpha) * white
    assert np.abs(found - wanted).max() <= (1e-6 if dtype == "float32" else 0.5)
    assert (found[:, 0] == white).all()
    assert np.array_equal(found[:, 1], x[:3, 1])
    assert prepare(x, spec(1, dtype=dtype)).shape == (1, 12, 10)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_missing_alpha_is_opaque(channels):
    x = noise(channels)
    found = prepare(x, spec(4))
    assert (found[3] == 255).all()
    assert np.array_equal(found[:3], np.broadcast_to(x, (3, 12, 10)))


def test_impossible_channels_are_refused():
    with pytest.raises(ValueError, match="array must have 1, 3, 4 or 3 channels to get 3; got 2"):
        prepare(noise(2), spec(3))


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="array must be one of uint8, uint16, float32; got int64"):
        prepare(np.zeros((3, 4, 4), np.int64), spec())
    with pytest.raises(ValueError, match=r"with 2 axes; got shape \(3, 4\)"):
        prepare(np.zeros((3, 4), np.uint8), spec())
    with pytest.raises(ValueError, match=r"batch must be \(N, \*\(3, 12, 10\)\)"):
        normalise(np.zeros((1, 1, 12, 10)), spec())


def triangle(values, size):
    """Resample one axis: the antialiased triangle filter, written out."""
    n = len(values)
    scale = n / size
    reach = max(scale, 1)
    result = np.empty(size)
    for k in range(size):
        centre = (k + 0.5) * scale
        weights = np.maximum(0, 1 - np.abs((np.arange(n) + 0.5 - centre) / reach))
        result[k] = (weights * values).sum() / weights.sum()
    return result


@pytest.mark.parametrize("size", [(5, 4), (30, 25), (7, 25)])
@pytest.mark.parametrize(("dtype", "close"), [("uint8", 1.01), ("uint16", 0.51), ("float32", 1e-5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_stretching_is_the_antialiased_triangle_filter(size, dtype, close, channels):
    x = noise(channels, dtype=np.dtype(dtype).type)
    wanted = np.apply_along_axis(triangle, 1, x.astype(float), size[0])
    wanted = np.apply_along_axis(triangle, 2, wanted, size[1])
    found = prepare(x, spec(channels, size, dtype=dtype))
    assert np.abs(found - wanted).max() <= close


@settings(max_examples=40, deadline=None)
@given(*[st.integers(1, 40)] * 4, st.sampled_from(["stretch", "crop", "pad"]), st.integers(0, 255))
def test_a_constant_stays_constant(height, width, tall, wide, resize, value):
    x = np.full((3, height, width), value, np.uint8)
    found = prepare(x, spec(3, (tall, wide), resize=resize))
    assert found.shape == (3, tall, wide)
    allowed = {value, 128} if resize == "pad" else {value}
    assert set(np.unique(found)) <= allowed
    assert value in found


@pytest.mark.parametrize("tall", [True, False])
def test_cropping_is_the_middle_of_the_whole_resized_alike(tall):
    x = noise(3, *((30, 10) if tall else (10, 30)))
    whole = prepare(x, spec(3, (15, 5) if tall else (5, 15)))
    middle = whole[:, 5:10] if tall else whole[:, :, 5:10]
    assert np.array_equal(prepare(x, spec(3, (5, 5), resize="crop")), middle)


def test_cropping_to_the_shorter_side_only_cuts():
    x = noise(1, 10, 30)
    assert np.array_equal(prepare(x, spec(1, (10, 10), resize="crop")), x[:, :, 10:20])


def test_padding_keeps_all_and_fills_with_middle_grey():
    x = np.full((3, 10, 30), 7, np.uint8)
    found = prepare(x, spec(3, (30, 30), resize="pad"))
    assert (found[:, 10:20] == 7).all()
    assert (found[:, :10] == 128).all()
    assert (found[:, 20:] == 128).all()
    deep = prepare(x.astype(np.float32), spec(3, (30, 30), resize="pad", dtype="float32"))
    assert (deep[:, 0] == 0.5).all()


def test_padding_does_not_depend_on_statistics_that_come_later():
    x = noise(3, 10, 30)
    before = prepare(x, spec(3, (30, 30), resize="pad"))
    after = prepare(x, spec(3, (30, 30), resize="pad", mean=(1, 2, 3), std=(4, 5, 6)))
    assert np.array_equal(before, after)


def test_eight_and_sixteen_bits_differ_by_257_exactly():
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    deep = prepare(x, spec(1, (16, 16), dtype="uint16"))
    assert np.array_equal(deep, x.astype(np.uint16) * 257)
    assert np.array_equal(prepare(deep, spec(1, (16, 16))), x)
    every = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    assert np.array_equal(prepare(every, spec(1, (256, 256))), np.rint(every / 257))


def test_floats_are_scaled_rounded_and_cut_off():
    x = np.array([[[0, 1, 0.5, -3, 7, 1 / 255]]], np.float32)
    assert prepare(x, spec(1, (1, 6))).tolist() == [[[0, 255, 128, 0, 255, 1]]]
    assert prepare(x, spec(1, (1, 6), dtype="uint16")).tolist() == [
        [[0, 65535, 32768, 0, 65535, 257]]
    ]
    back = prepare(np.array([[[0, 51, 255]]], np.uint8), spec(1, (1, 3), dtype="float32"))
    assert np.allclose(back, [[[0, 0.2, 1]]])
    wild = np.array([[[-3.0, 4000.0]]], np.float32)
    assert np.array_equal(prepare(wild, spec(1, (1, 2), dtype="float32")), wild)


def test_sixteen_bits_keep_their_levels_through_resizing():
    x = np.broadcast_to(np.linspace(0, 65535, 8192).astype(np.uint16), (1, 4, 8192))
    found = prepare(x, spec(1, (2, 4096), dtype="uint16"))
    assert len(np.unique(found)) >= 4096


def test_normalising_subtracts_and_divides_channel_by_channel():
    one = spec(2, (3, 4), mean=(10, 20), std=(2, 5))
    batch = noise(2, 3, 4)[None]
    wanted = (batch - np.array([10, 20]).reshape(2, 1, 1)) / np.array([2, 5]).reshape(2, 1, 1)
    found = normalise(batch, one)
    assert found.dtype == np.float32
    assert np.allclose(found, wanted, rtol=1e-6)
    assert np.array_equal(normalise(batch, spec(2, (3, 4))), batch)
    mean, scale = scaling(one)
    assert (mean.dtype, scale.dtype) == (np.float32, np.float32)
    assert scale.tolist() == [np.float32(0.5), np.float32(1) / np.float32(5)]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_bytes_give_the_sample_back(channels):
    x = noise(channels)
    assert np.array_equal(decode(to_bytes(x)).array, x)


def test_png_bytes_give_sixteen_bits_back_and_colours_of_them_are_refused():
    x = noise(1, dtype=np.uint16)
    found = decode(to_bytes(x)).array
    assert found.dtype == np.uint16
    assert np.array_equal(found, x)
    for bad in (noise(3, dtype=np.uint16), noise(3, dtype=np.float32), noise(2)):
        with pytest.raises(ValueError, match="sample must be"):
            to_bytes(bad)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_reduced_decoding_hardly_changes_a_prepared_photo(resize, tmp_path):
    y, x = np.mgrid[:375, :500]
    pixels = np.stack([128 + 100 * np.sin(x / 40), 128 + 100 * np.cos(y / 30), (x + y) / 4], -1)
    path = tmp_path / "ä.jpg"
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)
    one = spec(3, (64, 48), resize=resize)
    assert at_least(one) == (64, 48)
    reduced, full = prepare_file(path, one), prepare(decode(path).array, one)
    assert reduced.shape == (3, 64, 48)
    assert np.abs(reduced.astype(int) - full).mean() < 3
    assert np.array_equal(prepare_file(path.read_bytes(), one), reduced)


def test_a_sideways_photo_is_prepared_upright():
    image = Image.new("RGB", (60, 20), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 20, 20))  # left third is white; upright it is the top
    exif = Image.Exif()
    exif[274] = 6
    file = BytesIO()
    image.save(file, "JPEG", exif=exif, quality=95)
    found = prepare_file(file.getvalue(), spec(1, (30, 10)))
    assert found[0, :8].min() > 240
    assert found[0, 12:].max() < 15


def test_whole_numbers_are_not_taken_for_floats_of_another_unit():
    kelvin = Spec(channels=1, size=(1, 2), dtype="float32", mean=(290.0,), std=(9.0,))
    warm = np.array([[[280, 300]]], np.float32)
    assert np.array_equal(prepare(warm, kelvin), warm)
    for dtype in ("uint8", "uint16"):
        with pytest.raises(ValueError, match=r"no shares of white.*290.*give floats of the same"):
            prepare(np.zeros((1, 1, 2), dtype), kelvin)
    light = kelvin.model_copy(update={"mean": (0.5,), "std": (0.5,)})
    assert not prepare(np.zeros((1, 1, 2), np.uint8), light).any()


def test_floats_of_one_channel_survive_writing():
    x = np.array([[[-3.5, 4000.0], [0.1, 1e-9]]], np.float32)
    assert np.array_equal(decode(to_bytes(x)).array, x)
