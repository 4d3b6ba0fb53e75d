"""Which axes are which: every layout that the page names, and a word where two could be meant."""

import numpy as np
import pytest

from striate.data.layout import laid_out
from striate.errors import DataError


@pytest.mark.parametrize(
    ("axes", "shape", "order"),
    [
        (0, (2, 5, 5), (None,)),
        (0, (2, 5, 6, 3), (3, 1, 2)),
        (0, (2, 3, 5, 6), (1, 2, 3)),
        (0, (2, 3, 5, 4), (3, 1, 2)),
        (0, (2, 5, 6, 7, 8), (1, 2, 3, 4)),
        (0, (2, 5, 6, 7, 3), (4, 1, 2, 3)),
        (1, (2, 9), (None,)),
        (1, (2, 7, 9), (1, 2)),
        (1, (2, 9, 3), (1, 2)),  # any number of channels, and always first
        (2, (2, 5, 6), (None,)),
        (2, (2, 5, 6, 4), (3, 1, 2)),
        (3, (2, 5, 6, 7), (None,)),
        (3, (2, 3, 5, 6), (None,)),
        (3, (2, 2, 5, 6, 7), (1, 2, 3, 4)),
        (3, (2, 5, 6, 7, 1), (4, 1, 2, 3)),
    ],
)
def test_every_layout_gives_samples_with_their_channels_first(axes, shape, order):
    x = np.random.default_rng(0).normal(size=shape)
    got, _ = laid_out(x, axes, "x")
    assert np.array_equal(got, x[:, None] if order == (None,) else x.transpose(0, *order))


@pytest.mark.parametrize(
    ("axes", "shape", "dtype", "words"),
    [
        (0, (9, 3, 200), "f4", "pictures of 3 x 200 in 1 channel; "
         "if it is series of 200 in 3 channels, say --axes 1"),
        (0, (9, 4, 20, 30), "u1", "pictures of 20 x 30 in 4 channels; "
         "if it is volumes of 4 x 20 x 30 in 1 channel, say --axes 3"),
        (0, (9, 3, 20, 30), "f4", "if it is volumes of 3 x 20 x 30 in 1 channel, say --axes 3"),
        (0, (9, 3, 20, 4), "u1", "pictures of 3 x 20 in 4 channels; if it is pictures of 20 x 4 "
         "in 3 channels, move that axis to the end, if volumes, say --axes 3"),
        (2, (9, 3, 20, 4), "u1", "if it is pictures of 20 x 4 in 3 channels, move that axis"),
        (0, (9, 1, 5, 6, 3), "u1", "volumes of 1 x 5 x 6 in 3 channels; "
         "if it is volumes of 5 x 6 x 3 in 1 channel, move that axis to the end"),
        (1, (9, 200, 3), "f4", "series of 3 in 200 channels; "
         "if the channels come last, move that axis to the second place"),
    ],
)  # fmt: skip
def test_a_shape_of_two_readings_says_which_was_taken_and_how_to_have_the_other(
    axes, shape, dtype, words
):
    _, doubt = laid_out(np.zeros(shape, dtype), axes, "x")
    assert doubt.startswith(f"{shape} is read as ")
    assert words in doubt


@pytest.mark.parametrize(
    ("axes", "shape", "dtype"),
    [
        (0, (9, 28, 28), "f4"),
        (0, (9, 32, 32, 3), "u1"),
        (0, (9, 1, 28, 30), "f4"),
        (0, (9, 5, 6, 7, 3), "f4"),
        (1, (9, 3, 200), "f4"),
        (1, (9, 200), "f4"),
        (2, (9, 3, 200), "f4"),
        (3, (9, 4, 20, 30), "f4"),
    ],
)
def test_a_plain_shape_and_one_whose_axes_are_said_raise_no_doubt(axes, shape, dtype):
    assert laid_out(np.zeros(shape, dtype), axes, "x")[1] == ""


@pytest.mark.parametrize(
    ("axes", "shape", "words"),
    [
        (0, (), r"wanted pictures \(N, H, W\).*got \(\)"),
        (0, (9, 200), r"got \(9, 200\); if it is series \(N, T\) or \(N, C, T\), say --axes 1$"),
        (0, (9, 8, 8, 8), r"got \(9, 8, 8, 8\); if it is volumes \(N, D, H, W\).*say --axes 3$"),
        (0, (9, 1, 2, 3, 4, 5), r"wanted pictures .*got \(9, 1, 2, 3, 4, 5\)$"),
        (1, (9, 1, 2, 3), r"a\.npz: x: wanted series \(N, T\).*of axes 1; got \(9, 1, 2, 3\)"),
        (2, (9, 200), r"wanted pictures .*of axes 2; got \(9, 200\)"),
        (3, (9, 5, 6), r"wanted volumes .*of axes 3; got \(9, 5, 6\)"),
        (0, (0, 5, 6), r"at least one sample; got shape \(0, 5, 6\)"),
        (1, (3, 2, 0), r"at least one sample; got shape \(3, 2, 0\)"),
    ],
)
def test_other_shapes_are_refused_with_what_to_say(axes, shape, words):
    with pytest.raises(DataError, match=words):
        laid_out(np.zeros(shape), axes, "a.npz: x")
