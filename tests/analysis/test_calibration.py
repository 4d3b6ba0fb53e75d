from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.special import softmax as oracle_softmax
from sklearn.calibration import calibration_curve

from striate.analysis.calibration import Bin, fit_temperature, reliability, softmax


def make(n=400, k=6, sharpness=1.0, seed=0):
    """Logits that are `sharpness` times what the labels justify."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 2
    labels = (softmax(logits).cumsum(1) > rng.random((n, 1))).argmax(1)
    return logits * sharpness, labels


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(max_examples=15, deadline=None)
def test_softmax_is_that_of_scipy(seed, temperature):
    z = np.random.default_rng(seed).normal(size=(3, 5)) * 300
    assert softmax(z, temperature) == pytest.approx(oracle_softmax(z / temperature, 1), abs=1e-14)


def test_softmax_of_huge_half_precision_logits_stays_finite():
    z = np.array([[60000, -60000]], np.float16)
    assert softmax(z).tolist() == [[1, 0]]


@pytest.mark.parametrize("sharpness", [0.2, 0.5, 1, 3, 9])
def test_the_temperature_has_the_least_loss(sharpness):
    z, y = make(sharpness=sharpness)

    def loss(log_t):
        return -log_softmax(z / np.exp(log_t), axis=1)[np.arange(len(y)), y].mean()

    found = minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded")
    best = minimize_scalar(
        loss, bounds=(found.x - 0.1, found.x + 0.1), method="bounded", options={"xatol": 1e-12}
    )
    assert fit_temperature(z, y) == pytest.approx(np.exp(best.x), rel=1e-6)


def test_the_temperature_undoes_a_scale():
    z, y = make()
    assert fit_temperature(4 * z, y) == pytest.approx(4 * fit_temperature(z, y), rel=1e-8)


def test_the_temperature_stays_within_its_bounds():
    z, y = make(sharpness=1000)
    assert fit_temperature(z, y) == pytest.approx(20)
    assert fit_temperature(z * 1e-6, y) == pytest.approx(0.05)
    assert fit_temperature(-z, z.argmax(1)) == pytest.approx(20)


@pytest.mark.parametrize("n", [1, 20, 400])
def test_right_answers_alone_count_as_if_one_more_mistake_had_been_seen(n):
    z, _ = make(n=n)
    z, y = z * 3, z.argmax(1)
    mistake = 1 / (n + 2)
    target = np.where(np.eye(6, dtype=bool)[y], 1 - mistake, mistake / 5)

    def loss(log_t):
        return -(target * log_softmax(z / np.exp(log_t), axis=1)).sum(1).mean()

    found = minimize_scalar(
        loss, bounds=np.log([0.05, 20]), method="bounded", options={"xatol": 1e-9}
    )
    assert fit_temperature(z, y) == pytest.approx(np.exp(found.x), rel=1e-5)
    assert fit_temperature(z, y) > 0.06


def test_nothing_to_fit_leaves_the_logits_alone():
    assert fit_temperature(np.empty((0, 3)), np.empty(0, int)) == 1
    assert fit_temperature(np.ones((4, 3)), [0, 1, 2, 0]) == 1


def test_reliability_is_that_of_scikit_learn():
    z, y = make(n=3000)
    p = softmax(z)
    bins = [b for b in reliability(p, y, 10) if b.n]
    right, sure = calibration_curve(p.argmax(1) == y, p.max(1), n_bins=10)
    assert [b.accuracy for b in bins] == pytest.approx(list(right))
    assert [b.confidence for b in bins] == pytest.approx(list(sure))


def test_bins_tile_0_to_1_and_hold_every_sample_once():
    z, y = make(n=77)
    bins = reliability(softmax(z), y)
    assert len(bins) == 15
    assert sum(b.n for b in bins) == 77
    assert (bins[0].lower, bins[-1].upper) == (0, 1)
    assert all(a.upper == b.lower for a, b in pairwise(bins))


def test_an_upper_end_belongs_to_its_bin_and_empty_bins_are_undefined():
    low, high = reliability([[0.5, 0.5]], [1], 2)
    assert low == Bin(0, 0.5, 0.5, 0, 1)
    assert high == Bin(0.5, 1, None, None, 0)


def test_no_samples_fill_no_bin():
    assert [b.n for b in reliability(np.empty((0, 3)), np.empty(0, int), 3)] == [0, 0, 0]


def test_a_wrong_call_is_named():
    with pytest.raises(ValueError, match="temperature must be above 0; got 0"):
        softmax([1.0, 2.0], 0)
    with pytest.raises(ValueError, match="bins must be at least 1; got 0"):
        reliability([[1.0]], [0], 0)
    with pytest.raises(ValueError, match=r"\(N,\) labels; got shapes \(2,\) and \(1,\)"):
        fit_temperature([1.0, 2.0], [0])
    with pytest.raises(ValueError, match="labels must be from 0 to 1; got 2 to 2"):
        fit_temperature([[1.0, 2.0]], [2])
    with pytest.raises(ValueError, match="must be finite; got NaN"):
        fit_temperature([[1.0, np.nan]], [0])
