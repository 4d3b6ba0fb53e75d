"""Laws: what is out of bounds is refused by its name and value, what is within passes."""

import numpy as np
import pytest
import torch

from striate.layers.bounds import at_least, floating, indices, one_of, per_axis, whole


@pytest.mark.parametrize("value", [0, -2, (1, 0), [3, float("nan")], float("nan")])
def test_numbers_below_the_least_are_named(value):
    with pytest.raises(ValueError, match="kernel must be at least 1; got ") as said:
        at_least(1, stride=2, kernel=value)
    assert str(said.value).endswith(f"got {value}")


@pytest.mark.parametrize("value", [2.5, None, "same", (3, 2.0), float("nan"), torch.float32])
def test_numbers_that_are_not_whole_are_named(value):
    with pytest.raises(
        ValueError, match=r"kernel must be (a whole number|whole numbers); got "
    ) as said:
        whole(1, stride=2, kernel=value)
    assert str(said.value).endswith(f"got {value!r}")
    with pytest.raises(
        ValueError, match=r"kernel must be .*whole number|kernel must be one number"
    ):
        per_axis(2, kernel=value)
    with pytest.raises(ValueError, match=r"kernel must be at least 1; got \(1, 0\)"):
        whole(1, kernel=(1, 0))
    with pytest.raises(ValueError, match="order must be at least 1; got None"):
        at_least(1, order=None)


def test_whole_numbers_of_numpy_are_numbers():
    whole(1, kernel=np.int64(3), size=(np.int8(2), 3))
    found = per_axis(2, kernel=np.int64(3), size=[np.uint8(2), 3])
    assert found == [(3, 3), (2, 3)]
    assert {type(number) for each in found for number in each} == {int}


def test_what_is_within_passes():
    at_least(1, kernel=1, stride=(2, 3))
    at_least(0)
    one_of(("a", "b"), kind="b")
    indices(2, 3, y=torch.tensor([0, 2]))
    indices(2, 3, y=torch.tensor([0, 2], dtype=torch.uint8))
    indices(0, 3, y=torch.zeros(0, dtype=torch.int64))


def test_one_number_stands_for_every_axis():
    assert per_axis(3, kernel=2, stride=[1, 2, 3]) == [(2, 2, 2), (1, 2, 3)]
    assert per_axis(1, 0, padding=(0,)) == [(0,)]
    with pytest.raises(ValueError, match=r"stride must be one number, or one for each of 2 axes"):
        per_axis(2, kernel=3, stride=(1,))
    with pytest.raises(ValueError, match=r"stride must be at least 1; got \(1, 0\)"):
        per_axis(2, stride=(1, 0))


def test_unknown_words_are_named():
    with pytest.raises(ValueError, match="kind must be one of a, b; got 'c'"):
        one_of({"a": 1, "b": 2}, kind="c")


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (torch.tensor([0, 3]), "y must be integers 0 to 2; got 3"),
        (torch.tensor([-1, 3]), "y must be integers 0 to 2; got -1"),
        (torch.tensor([1]), r"y must be \(2,\) integers 0 to 2; got \(1,\) of torch.int64"),
        (torch.tensor([0.0, 1]), r"got \(2,\) of torch.float32"),
        (torch.tensor([True, False]), r"got \(2,\) of torch.bool"),
    ],
)
def test_impossible_indices_are_named(index, said):
    with pytest.raises(ValueError, match=said):
        indices(2, 3, y=index)
    with pytest.raises(ValueError, match=r"y must be a tensor \(2,\) of integers; got 1"):
        indices(2, 3, y=1)


def test_tensors_of_integers_are_named():
    floating(x=torch.ones(2, dtype=torch.bfloat16), z=torch.ones(2, dtype=torch.complex64))
    for kind in (torch.int64, torch.uint8, torch.bool):
        with pytest.raises(ValueError, match=f"x must hold floating point numbers; got {kind}"):
            floating(x=torch.ones(2, dtype=kind))
