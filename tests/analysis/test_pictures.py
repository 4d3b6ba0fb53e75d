from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from striate.analysis.pictures import data_uri, filters, picture, png


def read(data):
    return np.asarray(Image.open(BytesIO(data)))


@pytest.mark.parametrize(("channels", "shape"), [(1, (5, 7)), (3, (5, 7, 3)), (4, (5, 7, 4))])
def test_a_byte_picture_is_kept_exactly(channels, shape):
    x = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    found = read(picture(x))
    assert found.shape == shape
    assert (found.reshape(5, 7, channels) == x.transpose(1, 2, 0)).all()


def test_other_channel_counts_show_the_first():
    x = np.random.default_rng(0).integers(0, 256, (2, 5, 7), dtype=np.uint8)
    assert (read(picture(x)) == x[0]).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_other_types_are_stretched_to_the_full_range(dtype):
    x = np.array([[[100, 200], [350, 500]]], dtype)
    assert read(picture(x)).tolist() == [[0, 64], [159, 255]]


def test_a_flat_picture_and_one_with_nan_are_drawn():
    assert read(picture(np.full((1, 2, 2), 7, np.uint16))).tolist() == [[0, 0], [0, 0]]
    assert read(picture(np.array([[[np.nan, 1.0]]]))).tolist() == [[0, 255]]


def test_a_large_picture_is_reduced_and_keeps_its_proportions():
    assert read(picture(np.zeros((3, 400, 200), np.uint8), side=100)).shape == (100, 50, 3)


@pytest.mark.parametrize(
    "shape", [(6, 1, 9), (6, 1, 3, 3), (24, 3, 2, 2), (5, 8, 3, 5), (4, 2, 3, 3, 3), (1, 1, 1, 1)]
)
def test_filters_of_any_number_of_axes_are_drawn(shape):
    page = read(filters(np.random.default_rng(0).normal(size=shape)))
    assert page.ndim == 3
    assert (page[:4] == 255).all()  # the white frame
    assert page.min() < 200


def test_a_filters_scale_is_symmetric_and_its_own():
    weights = np.array([[[[1.0, 0.0, -1.0]]], [[[0.01, 0.0, -0.01]]]])
    page = read(filters(weights))
    first, second = page[4, 4 : 4 + 39], page[4, 4 + 39 + 4 : 4 + 39 + 4 + 39]
    assert (first == second).all()
    assert first[20].tolist() == [255, 255, 255]
    assert first[0, 0] > first[0, 2]  # positive is orange
    assert first[38, 0] < first[38, 2]  # negative is blue


def test_all_zero_and_broken_filters_are_drawn():
    assert read(filters(np.zeros((2, 1, 3, 3)))).min() == 255
    assert len(filters(np.full((2, 3, 3, 3), np.nan))) > 0


def test_at_most_256_filters_are_drawn():
    assert filters(np.ones((300, 1, 2, 2))) == filters(np.ones((256, 1, 2, 2)))


def test_a_data_uri_holds_the_bytes():
    data = png(np.zeros((2, 2), np.uint8))
    head, body = data_uri(data).split(",")
    assert head == "data:image/png;base64"
    assert b64decode(body) == data


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"weights must have shape \(K, C, \*taps\)"):
        filters(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"sample must have shape \(C, H, W\), none 0; got"):
        picture(np.zeros((3, 0, 2)))
