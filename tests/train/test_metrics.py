import json
import time
from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from striate.analysis.calibration import reliability
from striate.train.metrics import Score, confusion_matrix, per_class, score, wilson


def make(n=400, k=7, skill=2.0, seed=0):
    """Probabilities and labels of a network that is right most of the time."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += skill
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True), labels


def names(k):
    return [f"c{i}" for i in range(k)]


@pytest.mark.parametrize("k", [2, 7, 30])
def test_every_score_is_that_of_scikit_learn(k):
    p, y = make(k=k)
    found = {key: entry.value for key, entry in score(p, y, names(k)).items()}
    guess = p.argmax(1)
    wanted = {
        "accuracy": oracle.accuracy_score(y, guess),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, guess),
        "macro_f1": oracle.f1_score(y, guess, average="macro", zero_division=0),
        "macro_precision": oracle.precision_score(y, guess, average="macro", zero_division=0),
        "macro_recall": oracle.recall_score(y, guess, average="macro", zero_division=0),
        "log_loss": oracle.log_loss(y, p, labels=range(k)),
        "brier": float(((p - np.eye(k)[y]) ** 2).sum(1).mean()),
        "ece": sum(abs(b.accuracy - b.confidence) * b.n for b in reliability(p, y) if b.n) / len(y),
    }
    if k > 5:
        wanted["top5_accuracy"] = oracle.top_k_accuracy_score(y, p, k=5, labels=range(k))
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_classes_that_never_occur_are_left_out_as_in_scikit_learn():
    p, y = make(k=5, skill=1)
    keep = y != 2  # class 2 is answered, never true
    p, y = np.insert(p[keep], 5, 0, axis=1), y[keep]  # class 5 neither
    found, guess = score(p, y, names(6)), p.argmax(1)
    assert found["balanced_accuracy"].value == pytest.approx(
        oracle.balanced_accuracy_score(y, guess)
    )
    for name, function in (("macro_f1", oracle.f1_score), ("macro_recall", oracle.recall_score)):
        expected = function(y, guess, average="macro", zero_division=0)
        assert found[name].value == pytest.approx(expected)


def test_the_classes_scores_are_those_of_scikit_learn():
    p, y = make()
    guess = p.argmax(1)
    counts = confusion_matrix(y, guess, 7)
    assert (counts == oracle.confusion_matrix(y, guess)).all()
    table = per_class(counts, names(7))
    wanted = oracle.precision_recall_fscore_support(y, guess)
    for key, values in zip(("precision", "recall", "f1"), wanted, strict=False):
        assert [table[c][key].value for c in names(7)] == pytest.approx(list(values))
    assert [table[c]["n"] for c in names(7)] == list(wanted[3])


@given(st.integers(1, 500), st.data())
@settings(max_examples=40, deadline=None)
def test_wilsons_ends_are_where_the_normal_test_just_passes(n, data):
    hits = data.draw(st.integers(0, n))
    found = wilson(hits, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert abs(hits / n - end) == pytest.approx(1.959964 * sqrt(end * (1 - end) / n))


def test_wilson_by_hand():
    # p = 0.986111: (p + 0.0053354 -+ 1.959964 sqrt(3.80444e-5 + 7.41023e-6)) / 1.0106707
    found = wilson(355, 360)
    assert (found.low, found.high) == pytest.approx((0.967904, 0.994053), abs=1e-6)
    assert found.method == "wilson"


def test_the_interval_of_f1_maps_that_of_the_jaccard_index():
    table = per_class([[8, 2], [1, 9]], ["a", "b"])
    share = wilson(8, 11)
    assert table["a"]["f1"].value == pytest.approx(16 / 19)
    assert table["a"]["f1"].low == pytest.approx(2 * share.low / (1 + share.low))


def test_the_bootstrap_holds_the_truth_19_times_in_20():
    names_held = dict.fromkeys(["macro_f1", "balanced_accuracy", "log_loss", "brier"], 0)
    truth = score(*make(n=100_000, k=3, skill=1), names(3))
    for seed in range(60):
        found = score(*make(n=150, k=3, skill=1, seed=seed + 1), names(3), seed)
        for name in names_held:
            names_held[name] += found[name].low <= truth[name].value <= found[name].high
    assert min(names_held.values()) >= 51  # a true 0.95 falls below once in 1,000


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_the_interval_of_the_calibration_error_holds_the_truth(sharpness):
    def drawn(n, seed):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(n, 5)) * 2
        powers, sure = np.exp(logits), np.exp(logits * sharpness)
        true = (powers / powers.sum(1, keepdims=True)).cumsum(1) > rng.random((n, 1))
        return sure / sure.sum(1, keepdims=True), true.argmax(1)

    truth = score(*drawn(100_000, 0), names(5))["ece"]
    assert truth.low <= truth.value <= truth.high
    exact = 0.0 if sharpness == 1 else truth.value
    entries = [score(*drawn(200, seed + 1), names(5))["ece"] for seed in range(40)]
    assert sum(entry.low <= exact <= entry.high for entry in entries) >= 35
    assert all(entry.low <= entry.value <= entry.high for entry in entries)


def test_without_a_mistake_no_interval_pretends_certainty():
    p, y = make(n=360, skill=50)
    found = score(p, y, names(7))
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "macro_recall"):
        assert found[name].value == found[name].high == 1
        assert 0.97 < found[name].low <= 0.98944 + 1e-5  # Wilson's for 360 of 360


def test_a_class_that_is_never_right_leaves_room_for_what_its_samples_allow():
    p = np.tile([0.9, 0.1], (40, 1))
    found = score(p, np.repeat([0, 1], 20), names(2))
    always, never = wilson(20, 20), wilson(0, 20)
    for name in ("balanced_accuracy", "macro_recall"):
        assert found[name].value == 0.5
        assert found[name].low == pytest.approx(0.5 - (1 - always.low) / 2)
        assert found[name].high == pytest.approx(0.5 + never.high / 2)
    assert found["macro_precision"].high > 0.7  # nothing is known of what was never answered


@settings(max_examples=30, deadline=None)
@given(k=st.integers(2, 4), n=st.integers(1, 60), seed=st.integers(0, 99))
def test_no_macro_score_is_certain(k, n, seed):
    rng = np.random.default_rng(seed)
    p = np.eye(k)[rng.integers(0, rng.integers(1, k + 1), n)]
    found = score(p, rng.integers(0, k, n), names(k))
    for name in ("balanced_accuracy", "macro_f1", "macro_precision", "macro_recall"):
        assert 0 <= found[name].low <= found[name].value <= found[name].high <= 1
        assert found[name].high - found[name].low > 1 / (n + 4)


def test_of_two_classes_without_a_mistake_f1_has_the_room_of_the_accuracy():
    found = score(np.eye(2)[[0, 1] * 20], [0, 1] * 20, names(2))
    assert found["macro_f1"].low == pytest.approx(found["accuracy"].low, abs=0.005)


def test_every_interval_holds_its_value_and_says_how_it_was_found():
    for entry in score(*make(n=40, k=6), names(6)).values():
        assert entry.low <= entry.value <= entry.high
        assert entry.method in ("wilson", "bootstrap 1000", "bootstrap 1000, mover")
        assert entry.n == 40


def test_same_seed_same_interval_and_other_seed_another():
    p, y = make()
    assert score(p, y, names(7), seed=3) == score(p, y, names(7), seed=3)
    assert score(p, y, names(7), seed=3)["brier"] != score(p, y, names(7), seed=4)["brier"]


def test_no_certainty_costs_more_than_eps_allows():
    found = score([[1.0, 0.0]], [1], ["a", "b"])
    assert found["log_loss"].value == pytest.approx(-np.log(np.finfo(float).eps))


def test_top5_ranks_equal_probabilities_in_the_order_of_the_classes():
    p = np.full((8, 8), 1 / 8)
    assert score(p, np.arange(8), names(8))["top5_accuracy"].value == 5 / 8


def test_undefined_is_nan_here_and_null_in_json():
    table = per_class([[3, 0, 0], [1, 0, 0], [0, 0, 0]], ["a", "b", "c"])
    assert isnan(table["b"]["precision"].value)  # never answered
    assert isnan(table["c"]["recall"].value)  # never true
    text = json.dumps(table["c"]["recall"].to_json(), allow_nan=False)
    assert json.loads(text) == {
        **dict.fromkeys(("value", "low", "high")),
        "n": 0,
        "method": "wilson",
    }


def test_json_has_the_keys_of_the_contract():
    entry = Score(0.5, 0.4, 0.6, 10, "wilson").to_json()
    assert entry == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10, "method": "wilson"}


def test_half_a_million_numbers_are_read_in_chunks_alike(monkeypatch):
    p, y = make(n=500)
    whole = score(p, y, names(7))
    monkeypatch.setattr("striate.train.metrics.CHUNK", 2000)
    parts = score(p, y, names(7))
    assert {k: v.value for k, v in parts.items()} == pytest.approx(
        {k: v.value for k, v in whole.items()}
    )


def test_ten_thousand_samples_are_scored_in_well_under_a_second():
    p, y = make(n=10_000, k=10)
    start = time.process_time()
    score(p.astype(np.float32), y, names(10))
    assert time.process_time() - start < 1.5


@pytest.mark.parametrize(
    ("p", "y", "classes", "match"),
    [
        (np.empty((0, 2)), np.empty(0, int), "ab", "at least one sample to score; got none"),
        ([[1.0, 0.0]], [0], "abc", r"shape \(N, 3\), a column a class; got \(1, 2\)"),
        ([[1.0, 0.0]], [0, 1], "ab", r"labels must be 1 integers; got int64 of shape \(2,\)"),
        ([[1.0, 0.0]], [0.5], "ab", "labels must be 1 integers; got float64"),
        ([[1.0, 0.0]], [-1], "ab", "labels must be from 0 to 1; got -1 to -1"),
        ([[3.0, -2.0]], [0], "ab", "at least 0 and add up to 1 in each row; got values from -2.0"),
        ([[np.nan, 1.0]], [0], "ab", "at least 0 and add up to 1"),
    ],
)
def test_a_wrong_call_is_named(p, y, classes, match):
    with pytest.raises(ValueError, match=match):
        score(p, y, classes)


def test_a_wrong_confusion_matrix_is_named():
    with pytest.raises(ValueError, match=r"predicted must be from 0 to 1; got 0 to 2"):
        confusion_matrix([0, 1], [0, 2], 2)
    with pytest.raises(ValueError, match=r"one length; got \(2,\) and \(1,\)"):
        confusion_matrix([0, 1], [0], 2)
    with pytest.raises(ValueError, match="each of 3 classes; got shape"):
        per_class(np.eye(2), "abc")
