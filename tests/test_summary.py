from types import SimpleNamespace

import numpy as np

from striate.data.samples import Fault
from striate.models import build
from striate.summary import Answers, _warnings, first_filters

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


def test_a_warning_of_no_single_file_names_none():
    faults = (Fault("duplicate", "a.png", "is b.png"), Fault("unreadable", "c.png", "empty"))
    audit = SimpleNamespace(faults=faults, warnings=(Fault("mixed-sizes", "", "3 sizes"),))
    said = _warnings(SimpleNamespace(audit=audit))
    assert said == ["duplicate: a.png: is b.png", "mixed-sizes: 3 sizes"]


def test_of_many_warnings_the_first_are_said_and_the_rest_counted():
    audit = SimpleNamespace(faults=[Fault("duplicate", "a", "b")] * 25, warnings=())
    said = _warnings(SimpleNamespace(audit=audit))
    assert len(said) == 21
    assert said[-1] == "5 more; `striate check` names them all"
