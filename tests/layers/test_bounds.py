"""Laws: what is out of bounds is refused by its name and value, what is within passes."""

import pytest
import torch

from striate.layers.bounds import at_least, indices, one_of, per_axis


@pytest.mark.parametrize("value", [0, -2, (1, 0), [3, float("nan")], float("nan")])
def test_numbers_below_the_least_are_named(value):
    with pytest.raises(ValueError, match="kernel must be at least 1; got ") as said:
        at_least(1, stride=2, kernel=value)
    assert str(said.value).endswith(f"got {value}")


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
