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


@pytest.mark.slow
def test_more_maps_know_more_until_there_are_enough():
    numbers = teach("capacity").numbers
    known, held = numbers["training, %"], numbers["held out, %"]
    assert known[0] < 95 < known[-1]
    assert held[-1] > held[0] + 5
    assert numbers["chosen by the held-out part"] > 1
