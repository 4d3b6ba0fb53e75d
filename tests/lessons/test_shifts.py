import pytest

from striate.lessons import teach


def test_aliasing_is_that_of_the_golden_vectors():
    numbers = teach("aliasing").numbers
    assert numbers["max pooling"] == {"wave": [0, 1, 0, 1], "one sample later": [1, 1, 1, 1]}
    assert numbers["max pooling, blurred"] == {
        "wave": [0.5, 1, 0.5, 1], "one sample later": [0.75] * 4,
    }  # fmt: skip
    plain, soft = numbers["max pooling: change, %"], numbers["max pooling, blurred: change, %"]
    assert plain[::2] == soft[::2] == [0.0] * 5  # shifts by two are followed exactly
    assert all(s < 0.8 * p for p, s in zip(plain[1::2], soft[1::2], strict=True))


@pytest.mark.slow
def test_global_pooling_does_not_care_where():
    numbers = teach("invariance").numbers
    flat, everywhere = numbers["flattened"], numbers["global pooling"]
    assert len(set(everywhere.values())) == 1
    assert everywhere["+0 px, %"] > 80
    assert flat["+6 px, %"] < flat["+0 px, %"] - 30


@pytest.mark.slow
def test_windows_that_overlap_keep_more_answers():
    numbers = teach("pooling").numbers
    kept = [facts["answers kept by shift, %"] for facts in numbers.values()]
    assert all(wide[1] > kept[0][1] for wide in kept[1:])  # a shift by one sample
    assert all(wide[4] < 30 for wide in kept)


@pytest.mark.slow
def test_learnt_kernels_do_not_filter_before_a_stride():
    numbers = teach("spectrum").numbers
    blurred = numbers["behind a blur of 5 taps, %"][0]
    for layer in numbers["kernels learnt, %"]:
        assert layer > numbers["white noise, %"] / 2 > 20 * blurred
    assert numbers["test accuracy, %"] > 90
