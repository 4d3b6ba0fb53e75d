import pytest

from striate.lessons import teach


@pytest.mark.slow
def test_shared_weights_need_fewer_digits():
    numbers = teach("sharing").numbers
    count = {name: facts["parameters"] for name, facts in numbers.items()}
    assert count["convolutional"] < 0.2 * count["full"]
    right = {name: facts["test accuracy, %"] for name, facts in numbers.items()}
    assert sum(right["convolutional"]) > sum(right["full"])
    heart = {name: facts["training above test, points"] for name, facts in numbers.items()}
    pairs = zip(heart["full"], heart["convolutional"], strict=True)
    assert all(full > shared for full, shared in pairs)  # what was learnt by heart alone


@pytest.mark.slow
def test_permuted_pixels_hurt_the_convolutional_net_alone():
    numbers = teach("permutation").numbers
    loss = {name: facts["as they are, %"] - facts["permuted, %"] for name, facts in numbers.items()}
    assert loss["convolutional"] > 0.3
    assert abs(loss["full"]) < 1.5
