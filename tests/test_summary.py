import numpy as np

from striate.models import build
from striate.summary import Answers, first_filters

ANSWERS = Answers(
    np.array([4, 7, 9]),
    np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]),
    np.array([0, 1, 1]),
)


def test_scores_are_plain_json_with_intervals():
    scores = ANSWERS.scores(("a", "b"))
    assert scores["accuracy"]["value"] == 2 / 3
    assert scores["accuracy"]["low"] < 2 / 3 < scores["accuracy"]["high"]
    assert scores["accuracy"]["n"] == 3


def test_confusion_has_a_row_a_true_class():
    assert ANSWERS.confusion(("a", "b")).tolist() == [[1, 0], [1, 1]]


def test_per_class_rows():
    table = ANSWERS.per_class(("a", "b"))
    assert table["b"]["recall"]["value"] == 0.5
    assert table["b"]["n"] == 2


def test_first_filters_are_the_first_convolutions():
    net = build("lenet5")
    assert np.array_equal(first_filters(net), net[0][0].weight.detach().numpy())
