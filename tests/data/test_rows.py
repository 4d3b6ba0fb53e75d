import json

import numpy as np
import pytest
from PIL import Image

from striate.data.hashes import UNREAD, digest
from striate.data.prepare import prepare_file
from striate.data.rows import (
    Row,
    array_facts,
    array_row,
    file_row,
    full_hash,
    picture_hash,
    row_facts,
)
from striate.spec import DTYPES, Spec

RGB8 = Spec(channels=3, size=(8, 8))
FLOAT = Spec(channels=1, size=(4, 4), dtype="float32")


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def saved(path, array, mode=None):
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def test_a_row_is_what_serving_prepares(tmp_path):
    path = saved(tmp_path / "a.png", noise(12, 10, 3))
    row = file_row(path, RGB8)
    assert np.array_equal(row.x, prepare_file(path, RGB8))
    assert (row.size, row.mode, row.reason, row.reduced) == ((12, 10), "RGB", "", False)
    assert row.digest == digest(path.read_bytes())


def test_equal_pictures_in_grey_colour_and_alpha_hash_equal(tmp_path):
    grey = noise(9, 9)
    rows = [
        file_row(saved(tmp_path / f"{mode}.png", grey, mode), RGB8) for mode in ("L", "RGB", "RGBA")
    ]
    assert len({row.pixels for row in rows}) == 1
    assert len({row.digest for row in rows}) == 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_opaque_alpha_and_threefold_grey_are_not_seen(dtype):
    white = DTYPES[dtype][1]
    grey = (noise(1, 5, 6) / 255 * white).astype(dtype)
    opaque = np.full_like(grey, white)
    same = [grey, np.repeat(grey, 3, 0), np.concatenate([grey, grey, grey, opaque])]
    assert len({picture_hash(picture) for picture in same}) == 1


def test_shape_dtype_colour_and_transparency_are_seen():
    grey = noise(1, 4, 6)
    tinted = np.concatenate([grey, grey, 255 - grey])
    clear = np.concatenate([grey, grey, grey, grey])
    shapes = [grey, grey.reshape(1, 6, 4), grey.astype(np.uint16), tinted, clear]
    assert len({picture_hash(picture) for picture in shapes}) == len(shapes)


def test_memory_layout_is_not_seen():
    picture = noise(3, 5, 6)
    assert picture_hash(picture) == picture_hash(np.asfortranarray(picture))


def test_a_missing_file_has_a_reason_and_no_hash(tmp_path):
    row = file_row(tmp_path / "none.png", RGB8)
    assert (row.digest, row.x, row.reason) == (UNREAD, None, "No such file or directory")


def test_a_broken_file_has_a_reason_and_the_hash_of_its_bytes(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("not a picture")
    row = file_row(path, RGB8)
    assert (row.digest, row.x) == (digest(b"not a picture"), None)
    assert row.reason.startswith("is not an image")


def test_a_large_jpeg_is_read_smaller_and_says_its_full_size(tmp_path):
    path = saved(tmp_path / "a.jpg", noise(160, 120, 3))
    row = file_row(path, RGB8)
    assert row.reduced
    assert row.size == (160, 120)
    assert row.pixels != full_hash(path)


def test_what_became_unreadable_has_no_full_hash(tmp_path):
    assert full_hash(tmp_path / "none.jpg") == b""


def test_constant_is_said_of_each_channel():
    flat = np.repeat(np.array([3, 200, 7], np.uint8), 64).reshape(3, 8, 8)
    assert array_row(flat, RGB8).constant
    flat[1, 7, 6] += 1  # beyond the first coarse look
    assert not array_row(flat, RGB8).constant


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_that_are_not_finite_are_unreadable(value):
    x = np.ones((1, 4, 4), np.float32)
    x[0, 2, 3] = value
    assert array_row(x, FLOAT).reason == "holds NaN or infinite values; replace them"
    facts = array_facts(np.stack([x, np.zeros_like(x)]), [UNREAD, UNREAD])
    assert facts["good"].tolist() == [False, True]
    assert facts["constant"].tolist() == [False, True]
    says = json.loads(str(facts["says"]))
    assert [says[k][2] for k in facts["said"]] == [array_row(x, FLOAT).reason, ""]


def test_facts_of_arrays_are_those_of_their_rows():
    x = noise(5, 3, 8, 8)
    x[2] = 9
    rows = [array_row(one, RGB8) for one in x]
    mine = array_facts(x, [digest(one) for one in x])
    theirs = row_facts(rows, 2)
    for key in ("good", "constant", "sizes"):
        assert np.array_equal(mine[key], theirs[key])
    said = [json.loads(str(facts["says"]))[facts["said"][0]] for facts in (mine, theirs)]
    assert said[0] == said[1] == ["3 x uint8", [], ""]


def test_each_different_text_is_stored_once():
    rows = [Row(UNREAD, mode="L"), Row(UNREAD, mode="L"), Row(UNREAD, mode="", reason="why")]
    facts = row_facts(rows, 2)
    assert facts["said"].tolist() == [0, 0, 1]
    assert json.loads(str(facts["says"])) == [["L", [], ""], ["", [], "why"]]
    assert facts["sizes"].tolist() == [[0, 0]] * 3
    assert facts["good"].tolist() == [True, True, False]
