import pytest

from striate.lessons import teach


@pytest.mark.slow
def test_rectifiers_learn_in_fewer_epochs():
    numbers = teach("rectifier").numbers
    assert numbers["ReLU"]["epochs to 25 % training error"]


@pytest.mark.slow
def test_both_kinds_of_pooling_learn():
    numbers = teach("maximum").numbers
    assert all(facts["mean"] > 60 for facts in numbers.values())
    assert numbers["maximum"]["mean"] > numbers["average"]["mean"]
