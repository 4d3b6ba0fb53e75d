"""Laws: what is out of bounds is refused by its name and value, what is within passes."""

import pytest
import torch

from striate.layers.bounds import at_least, indices, one_of


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
