import pytest

from striate.lessons import teach


@pytest.mark.slow
def test_both_units_learn_at_a_rate_of_their_own():
    numbers = teach("rectifier").numbers
    for facts in numbers.values():
        assert facts["epochs to 25 % training error"] <= 20
        assert facts["error at the end, %"] < 10


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
