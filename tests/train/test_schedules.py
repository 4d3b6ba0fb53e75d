import pytest

from striate.train.schedules import SCHEDULES

PLACES = [(i + 0.5) / 200 for i in range(200)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_lie_between_zero_and_one_and_are_never_zero(name):
    factors = [SCHEDULES[name](p) for p in PLACES]
    assert min(factors) > 0
    assert max(factors) <= 1


@pytest.mark.parametrize("name", ["onecycle", "cosine"])
def test_warm_up_rises_then_the_rate_falls(name):
    factors = [SCHEDULES[name](p) for p in PLACES]
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] < 0.05


def test_linear_and_constant_are_what_they_say():
    assert SCHEDULES["linear"](0.25) == 0.75
    assert SCHEDULES["constant"](0.99) == 1
