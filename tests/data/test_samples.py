from pathlib import Path

import numpy as np
import pytest

from striate.data.samples import SPLITS, Fault, Samples, class_order, merged, need_two_classes
from striate.errors import DataError


def make(n=4, **options):
    wanted = {
        "root": Path("data"),
        "kind": "image",
        "names": tuple(f"{k}.png" for k in range(n)),
        "classes": ("a", "b"),
        "labels": np.arange(n) % 2,
        "splits": np.full(n, "train"),
        "files": tuple(Path(f"/data/{k}.png") for k in range(n)),
    }
    return Samples(**{**wanted, **options})


def test_classes_are_sorted_by_name_and_whole_numbers_by_value():
    assert class_order(["b", "a", "b", "C"]) == ("C", "a", "b")
    assert class_order(["10", "9", "-1", "9", "01"]) == ("-1", "01", "9", "10")
    assert class_order(["10", "9", "x"]) == ("10", "9", "x")
    assert class_order(["²", "1"]) == ("1", "²")


def test_a_subset_takes_the_same_rows_of_everything():
    groups, weights = np.array(list("wxyz")), np.array([1.0, 2, 3, 4])
    found = make(groups=groups, weights=weights).subset(np.array([3, 0]))
    assert found.names == ("3.png", "0.png")
    assert found.files == (Path("/data/3.png"), Path("/data/0.png"))
    assert found.labels.tolist() == [1, 0]
    assert found.groups.tolist() == ["z", "w"]
    assert found.weights.tolist() == [4, 1]
    assert found.classes == ("a", "b")
    assert len(make().subset(np.array([True, False, True, True]))) == 3


def test_a_subset_of_arrays_takes_rows():
    x = np.arange(4 * 4, dtype=np.uint8).reshape(4, 1, 2, 2)
    found = make(files=None, arrays=x).subset(np.array([2]))
    assert np.array_equal(found.arrays, x[2:3])


def test_lengths_must_agree_and_files_exclude_arrays():
    with pytest.raises(ValueError, match="labels must have one value a sample, 4; got 3"):
        make(labels=np.zeros(3, int))
    with pytest.raises(ValueError, match="exactly one of files and arrays"):
        make(arrays=np.zeros((4, 1, 2, 2)))


def test_two_classes_are_needed():
    need_two_classes(Path("x"), ["a", "b"])
    with pytest.raises(DataError, match="x: wanted at least two classes; got only 'a'"):
        need_two_classes(Path("x"), ["a"])
    with pytest.raises(DataError, match="got none"):
        need_two_classes(Path("x"), [])


def test_split_words_mean_three_splits():
    assert set(SPLITS.values()) == {"train", "validation", "test"}


def test_findings_that_differ_in_numbers_only_are_merged_with_their_count():
    found = [Fault("note", name, f"first of {n} frames") for name, n in (("a", 2), ("b", 3))]
    found += [Fault("skipped", "c", "first of 4 frames")]
    assert merged(found) == [Fault("note", "a", "2 files: first of 2 frames"), found[2]]
