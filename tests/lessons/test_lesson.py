import pytest
import torch

from striate.errors import RecipeError
from striate.lessons import LESSONS, teach
from striate.lessons.lesson import Lesson, accuracy, digits


def test_digits_are_parted():
    data = digits(1000, seed=1)
    assert data.x.shape == (1000, 1, 16, 16)
    assert len(data.x) + len(data.x_test) == 1797
    assert not torch.equal(digits(1000, seed=2).y, data.y)


def test_accuracy_is_a_share():
    net = torch.nn.Identity()
    assert accuracy(net, torch.eye(4), torch.tensor([0, 1, 2, 0])) == 0.75


def test_every_lesson_says_what_it_is():
    assert len(LESSONS) == 12
    assert all(run.__doc__ for run in LESSONS.values())
    assert Lesson("t", "x", {}, "<svg/>").suffix == ".svg"


def test_a_typo_gets_a_hint():
    with pytest.raises(RecipeError, match="did you mean 'dilation'"):
        teach("dilatoin")
