from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from striate.analysis import draw
from striate.analysis.calibration import Bin, reliability


def parse(svg):
    """Read an SVG; fails where it is not well-formed."""
    return ElementTree.fromstring(draw.standalone(svg).replace(' xmlns="', ' a="', 1))


def texts(svg):
    return [node.text for node in parse(svg).iter("text")]


def rows(n=6):
    return [
        {"epoch": i, "seconds": 2.5 * i, "loss": 2 / (i + 1), "lr": 0.1, "validation_accuracy": 0.5}
        for i in range(n)
    ]


def test_each_recorded_quantity_has_its_panel():
    panels = draw.curves(rows())
    assert list(panels) == ["loss", "accuracy", "learning-rate"]
    assert "epoch" in texts(panels["loss"])
    assert draw.curves([]) == {}
    assert list(draw.curves([{"seconds": 1, "loss": 2.0}])) == ["loss"]


def test_without_epochs_seconds_are_the_axis():
    history = [{"seconds": i, "loss": 1.0} for i in range(3)]
    assert "seconds" in texts(draw.curves(history)["loss"])


def test_gaps_are_skipped_and_a_lone_value_is_a_dot():
    history = [{**row, "loss": None} for row in rows(4)]
    history[1]["loss"], history[2]["loss"] = 1.5, float("nan")
    root = parse(draw.curves(history)["loss"])
    assert len(root.findall("circle")) == 1
    assert root.findall("polyline") == []


def test_training_and_validation_are_told_apart_without_colour():
    history = [{**row, "validation_loss": row["loss"] + 0.1} for row in rows()]
    svg = draw.curves(history)["loss"]
    dashes = [line.get("stroke-dasharray") for line in parse(svg).findall("polyline")]
    assert dashes == [None, "6 3"]
    assert {"training", "validation"} <= set(texts(svg))


def test_a_long_history_is_thinned_to_its_shape():
    svg = draw.curves([{"epoch": i, "loss": 1.0 + i} for i in range(20_000)])["loss"]
    assert len(svg) < 20_000


@example([1.0, 1.0000000000000002])
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_a_curve_stays_inside_its_axes(values):
    svg = draw.curves([{"epoch": i, "loss": v} for i, v in enumerate(values)])["loss"]
    for line in parse(svg).findall("polyline"):
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 51.9 <= x <= 392.1
            assert 33.9 <= y <= 224.1


def test_every_count_and_name_stands_in_the_matrix():
    counts = np.arange(9).reshape(3, 3)
    found = texts(draw.confusion(counts, ["ant", "bee", "cat"]))
    assert [found.count(name) for name in ("ant", "bee", "cat")] == [2, 2, 2]
    assert set("12345678") <= set(found)
    assert "0" not in found


def test_many_classes_become_pixels_and_stay_small():
    k = 200
    counts = np.random.default_rng(0).integers(0, 9, (k, k))
    svg = draw.confusion(counts, [f"class {i}" for i in range(k)])
    assert len(parse(svg).findall("image")) == 1
    assert len(svg) < 100_000


def test_long_and_hostile_names_are_clipped_and_escaped():
    svg = draw.confusion(np.eye(2, dtype=int), ["<script>&\"'", "n" * 99])
    assert "<script>" not in svg
    assert "<script>&\"'" in texts(svg)
    assert "n" * 17 + "…" in texts(svg)


def test_a_class_without_samples_is_an_empty_row():
    assert "3" in texts(draw.confusion([[3, 0], [0, 0]], ["a", "b"]))


def test_the_diagram_has_a_bar_a_bin_with_samples():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.55, 0.45]])
    svg = draw.reliability(reliability(p, [0, 1, 0]))
    assert len(parse(svg).findall("g")) == 2
    parse(draw.reliability([Bin(0, 1, None, None, 0)]))
    parse(draw.reliability([]))


def test_an_interval_lies_on_its_scale():
    root = parse(draw.interval(0.9, 0.8, 1.0, least=0.5))
    dot = float(root.find("circle").get("cx"))
    assert dot == pytest.approx(4 + 112 * 0.8, abs=0.06)
    parse(draw.interval(1, 1, 1, least=1))


def test_every_picture_has_words_for_those_who_cannot_see_it():
    drawn = [
        *draw.curves(rows()).values(),
        draw.confusion(np.eye(2), "ab"),
        draw.reliability([]),
        draw.interval(0.5, 0.4, 0.6),
    ]
    for svg in drawn:
        assert parse(svg).get("role") == "img"
        assert len(parse(svg).get("aria-label")) > 5


def test_a_matrix_of_another_size_is_named():
    with pytest.raises(ValueError, match=r"matrix must have shape \(3, 3\), as classes; got"):
        draw.confusion(np.eye(2), "abc")
