import json
from pathlib import Path

import numpy as np
import pytest

from striate.data.audit import KINDS, audit, same_pictures
from striate.data.cache import Cache
from striate.data.samples import Fault, Samples


def make(text, classes=("cat", "dog"), skipped=(), **changes):
    """Build samples and their cache from lines `name class split pixels [bytes] [group]`.

    Pixels "-" are unreadable; a class or split "-" is none.
    """
    rows = [[*line.split(), None, None][:6] for line in text.strip().splitlines()]
    n = len(rows)
    pixels = [row[3] for row in rows]
    good = np.array([value != "-" for value in pixels])
    names = tuple(row[0] for row in rows)
    samples = Samples(
        root=Path("data"),
        kind="image",
        names=names,
        classes=classes,
        labels=np.array([-1 if r[1] == "-" else classes.index(r[1]) for r in rows]),
        splits=np.array(["" if row[2] == "-" else row[2] for row in rows]),
        files=tuple(Path("data") / name for name in names),
        groups=np.array([row[5] or "" for row in rows]),
        skipped=tuple(skipped),
    )
    fields = {
        "x": np.zeros((n, 1, 2, 2), np.uint8),
        "good": good,
        "hashes": np.array([row[4] or row[3] for row in rows]),
        "pixels": np.array(pixels),
        "sizes": np.full((n, 2), 8),
        "modes": ("L",) * n,
        "notes": ((),) * n,
        "faults": tuple(
            Fault("unreadable", name, "is empty")
            for name, whole in zip(names, good, strict=True)
            if not whole
        ),
        "constant": np.zeros(n, bool),
    }
    return samples, Cache(**{**fields, **changes})


def many(counts, split="-"):
    """Give each class that many different pictures."""
    return "\n".join(
        f"{split}/{name}/{i} {name} {split} {split}{name}{i}"
        for name, n in counts.items()
        for i in range(n)
    )


def faults(text, **options):
    return [(fault.kind, fault.path) for fault in audit(*make(text, **options)).faults]


def warnings(text, **options):
    return [(fault.kind, fault.path) for fault in audit(*make(text, **options)).warnings]


def test_clean_data_have_no_findings():
    found = audit(*make(many({"cat": 10, "dog": 12})))
    assert found.faults == found.warnings == ()
    assert (found.samples, found.classes) == (22, {"cat": 10, "dog": 12})


def test_unreadable_files_keep_their_reason_and_are_not_called_duplicates():
    text = many({"cat": 2, "dog": 2}) + "\nx cat - - 00\ny cat - - 00"
    found = audit(*make(text))
    assert [(f.path, f.detail) for f in found.faults] == [("x", "is empty"), ("y", "is empty")]
    assert found.classes["cat"] == 4


def test_small_classes_are_named():
    text = "a cat - 1\nb owl - 2\nc owl - -"
    found = audit(*make(text, classes=("cat", "dog", "owl", "yak"))).faults
    assert [(f.kind, f.path) for f in found] == [
        ("unreadable", "c"),
        ("one-sample", "cat"),
        ("empty-class", "dog"),
        ("one-sample", "owl"),
        ("empty-class", "yak"),
    ]
    assert faults("a cat - 1\nb cat - 2\nc dog - -\nd dog - -")[-1] == ("empty-class", "dog")


def test_a_class_missing_in_a_split_is_found_both_ways():
    text = "\n".join(
        (
            many({"cat": 3, "dog": 3}, "train"),
            many({"cat": 3, "owl": 3}, "test"),
            many({"cat": 2, "dog": 2}, "validation"),
        )
    )
    found = audit(*make(text, classes=("cat", "dog", "owl"))).faults
    assert {(f.kind, f.detail) for f in found} == {
        ("class-missing", "class 'owl' has 3 samples in test and none in train"),
        ("class-missing", "class 'dog' has 3 samples in train and none in test"),
    }


def test_a_duplicate_names_both_files_and_says_whether_bytes_or_pixels():
    text = many({"cat": 2, "dog": 2}) + "\na cat - P B\nb cat - P B\nc cat - P C"
    found = [f for f in audit(*make(text)).faults if f.kind == "duplicate"]
    assert [(f.path, f.detail) for f in found] == [
        ("b", "the same file as a"),
        ("c", "the same picture in other bytes as a"),
    ]


def test_a_picture_in_two_classes_is_a_label_conflict():
    text = many({"cat": 2, "dog": 2}) + "\na cat - P\nb dog - P\nc dog - P"
    found = audit(*make(text)).faults
    assert [(f.kind, f.path) for f in found] == [("label-conflict", "b"), ("duplicate", "c")]
    assert found[0].detail == "class 'dog', but the same file as a, class 'cat'"


def test_a_picture_in_two_splits_is_a_leak():
    text = "\n".join((many({"cat": 2, "dog": 2}, "train"), many({"cat": 2, "dog": 2}, "test")))
    found = audit(*make(text + "\na cat train P\nb cat test P\nc dog test P\nd cat test P")).faults
    assert [(f.kind, f.path) for f in found] == [
        ("leak", "b"),
        ("leak", "c"),
        ("label-conflict", "c"),
        ("duplicate", "d"),
    ]
    assert found[0].detail == "in test, but the same file as a in train"


def test_an_unnamed_split_counts_as_train():
    text = "\n".join((many({"cat": 2, "dog": 2}), many({"cat": 2, "dog": 2}, "test")))
    assert faults(text + "\na cat - P\nb cat train P") == [("duplicate", "b")]
    assert faults(text + "\na cat - P\nb cat test P") == [("leak", "b")]


def test_unlabelled_copies_do_not_conflict():
    text = many({"cat": 2, "dog": 2}) + "\na cat - P\nb - - P"
    assert faults(text) == []
    assert audit(*make(text)).samples == 6


def test_a_group_in_two_splits_is_a_leak():
    text = "\n".join((many({"cat": 2, "dog": 2}, "train"), many({"cat": 2, "dog": 2}, "test")))
    text += "\na cat train 1 1 p7\nb cat train 2 2 p7\nc cat test 3 3 p7\nd cat test 4 4 p7"
    found = audit(*make(text)).faults
    assert [(f.kind, f.path) for f in found] == [("leak", "c")]
    assert found[0].detail == "in test, but a of the same group 'p7' in train"


def test_imbalance_and_tiny_classes_are_warnings():
    assert warnings(many({"cat": 100, "dog": 10})) == []
    assert warnings(many({"cat": 101, "dog": 10})) == [("imbalance", "dog")]
    assert warnings(many({"cat": 20, "dog": 9})) == [("tiny-class", "dog")]


@pytest.mark.parametrize("name", ["NA", "N/A", "<NA>", "None", "null", "?", "nil", "NaN"])
def test_a_class_that_may_mean_none_is_asked_about(name):
    samples = make(many({"cat": 20, name: 12}), classes=("cat", name))
    (found,) = audit(*samples).warnings
    assert (found.kind, found.path) == ("missing-label", name)
    assert found.detail == f"12 samples have the label {name!r}; if it means none, leave them out"
    assert not audit(*samples).faults


def test_a_class_that_only_begins_like_none_is_not():
    assert (
        warnings(many({"Nasturtium": 20, "nil-grass": 20}), classes=("Nasturtium", "nil-grass"))
        == []
    )


def test_mixtures_are_counted_in_the_inventory():
    text = many({"cat": 12, "dog": 12})
    modes = ("I;16",) * 4 + ("RGB",) * 20
    sizes = np.full((24, 2), (30, 40))
    sizes[0] = 7, 9
    found = audit(*make(text, modes=modes, sizes=sizes))
    assert found.inventory == {
        "sizes": {"30x40": 23, "7x9": 1},
        "modes": {"RGB": 20, "I;16": 4},
        "dtypes": {"uint8": 20, "uint16": 4},
    }
    assert [(f.kind, f.detail) for f in found.warnings] == [
        ("mixed-sizes", "2 sizes; the most frequent: 30x40 (23), 7x9 (1)"),
        ("mixed-modes", "2 modes; the most frequent: RGB (20), I;16 (4)"),
        ("mixed-depths", "2 depths; the most frequent: uint8 (20), uint16 (4)"),
    ]


def test_arrays_have_the_depth_of_their_dtype():
    text = many({"cat": 10, "dog": 10})
    found = audit(*make(text, modes=("1 x float32",) * 20))
    assert found.inventory["dtypes"] == {"float32": 20}


def test_constant_pictures_notes_and_skipped_files_are_said():
    text = many({"cat": 10, "dog": 10})
    constant = np.zeros(20, bool)
    constant[3] = True
    notes = [()] * 20
    notes[1], notes[2] = ("first of 3 frames",), ("first of 12 frames", "palette expanded")
    skipped = [Fault("skipped", f"x{i}.txt", "is no image") for i in range(3)]
    found = audit(*make(text, constant=constant, notes=tuple(notes), skipped=skipped))
    assert [(f.kind, f.path, f.detail) for f in found.warnings] == [
        ("constant", "-/cat/3", "every pixel is the same"),
        ("note", "-/cat/1", "2 files: first of 3 frames"),
        ("note", "-/cat/2", "palette expanded"),
        ("skipped", "x0.txt", "3 files: is no image"),
    ]
    assert found.skipped == tuple(skipped)


def test_json_has_exactly_the_keys_of_the_design():
    text = many({"cat": 2, "dog": 2}) + "\nx cat - -"
    found = json.loads(json.dumps(audit(*make(text)).to_json("photos/")))
    assert list(found) == ["data", "samples", "classes", "faults", "warnings"]
    assert found["data"] == "photos/"
    assert found["classes"] == {"cat": 3, "dog": 2}
    assert found["faults"] == [{"kind": "unreadable", "path": "x", "detail": "is empty"}]


def test_every_kind_is_explained():
    text = "a cat - 1\nb owl - 2\nc owl - -"
    found = audit(*make(text, classes=("cat", "dog", "owl")))
    assert {f.kind for f in (*found.faults, *found.warnings)} <= set(KINDS)


def test_equal_pictures_stand_together_in_order():
    text = "a cat - P\nb cat - Q\nc cat - P\nd cat - R\ne cat - Q\nf cat - -\ng cat - -"
    sets = same_pictures(make(text)[1])
    assert [some.tolist() for some in sets] == [[0, 2], [1, 4]]


def test_nothing_readable_is_no_error():
    found = audit(*make("a cat - -\nb dog - -"))
    assert [f.kind for f in found.faults] == ["unreadable"] * 2 + ["empty-class"] * 2
    assert found.inventory == {"sizes": {}, "modes": {}, "dtypes": {}}
