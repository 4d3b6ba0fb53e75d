import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.cache import Cache
from striate.data.samples import Samples
from striate.data.split import SPLITS, load_split, make_split, save_split, trained_hashes, unheld
from striate.errors import DataError


def make(labels, splits=None, groups=None, pixels=None, good=None, classes=None, arrays=False):
    """Build n samples and their cache; every picture differs unless `pixels` says otherwise."""
    n = len(labels)
    labels = np.asarray(labels, np.int64)
    classes = classes or tuple(f"class{k}" for k in range(labels.max() + 1))
    x = np.zeros((n, 1, 2, 2), np.uint8)
    names = tuple(f"{'x#' if arrays else 'f'}{i:05}" for i in range(n))
    hashes = np.array([f"{i:032x}" for i in range(n)])
    samples = Samples(
        root=Path("pictures"),
        kind="image",
        names=names,
        classes=classes,
        labels=labels,
        splits=np.array([""] * n if splits is None else splits),
        files=None if arrays else tuple(Path(name) for name in names),
        arrays=x if arrays else None,
        groups=None if groups is None else np.asarray(groups),
    )
    cache = Cache(
        x=x,
        good=np.ones(n, bool) if good is None else np.asarray(good),
        hashes=hashes,
        pixels=hashes if pixels is None else np.asarray(pixels),
        sizes=np.full((n, 2), 2),
        modes=("L",) * n,
        notes=((),) * n,
        faults=(),
    )
    return samples, cache


def counts(split, samples):
    k = len(samples.classes)
    return {s: np.bincount(samples.labels[getattr(split, s)], minlength=k).tolist() for s in SPLITS}


LABELS = st.lists(st.integers(2, 60), min_size=2, max_size=6).map(
    lambda sizes: np.repeat(np.arange(len(sizes)), sizes)
)
SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.37, 0.6])


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, test=SHARES, validation=SHARES, seed=st.integers(0, 9), data=st.data())
def test_splits_part_the_readable_samples(labels, test, validation, seed, data):
    good = np.ones(len(labels), bool)
    groups = data.draw(
        st.lists(st.sampled_from(["", *"abcdef"]), min_size=len(labels), max_size=len(labels))
    )
    first = np.searchsorted(labels, np.arange(labels.max() + 1))
    bad = data.draw(st.sets(st.integers(0, len(labels) - 1), max_size=3)) - set(first.tolist())
    bad -= set((first + 1).tolist())
    good[list(bad)] = False
    samples, cache = make(labels, good=good, groups=groups)
    split = make_split(samples, cache, validation, test, seed)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert sorted(rows.tolist()) == np.flatnonzero(good).tolist()
    assert all((np.diff(getattr(split, name)) > 0).all() for name in SPLITS)
    assert min(counts(split, samples)["train"]) >= 1


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, test=SHARES, validation=SHARES, seed=st.integers(0, 9))
def test_each_class_has_its_share_within_one(labels, test, validation, seed):
    samples, cache = make(labels)
    found = counts(make_split(samples, cache, validation, test, seed), samples)
    for k, n in enumerate(np.bincount(labels)):
        assert abs(found["test"][k] - test * n) <= 1
        assert abs(found["validation"][k] - validation * (n - found["test"][k])) <= 1
        assert found["train"][k] >= 1
        if test:
            assert found["test"][k] >= 1
        if validation and n >= 3 and found["test"][k] < n - 1:
            assert found["validation"][k] >= 1


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 9), data=st.data())
def test_groups_and_equal_pictures_never_part(labels, seed, data):
    n = len(labels)
    groups = data.draw(st.lists(st.sampled_from(["", *"abcdefghij"]), min_size=n, max_size=n))
    twins = data.draw(st.lists(st.integers(0, 40), min_size=n, max_size=n))
    pixels = np.array([f"p{twin}" if twin < 10 else f"own{i}" for i, twin in enumerate(twins)])
    samples, cache = make(labels, groups=groups, pixels=pixels)
    names = make_split(samples, cache, 0.2, 0.3, seed).names(n)
    for group in set(groups) - {""}:
        assert len(set(names[samples.groups == group])) == 1
    for value in set(pixels):
        assert len(set(names[pixels == value])) == 1


@settings(max_examples=30, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 9), data=st.data())
def test_the_order_of_the_files_does_not_matter(labels, seed, data):
    n = len(labels)
    groups = data.draw(st.lists(st.sampled_from(["", *"abcdef"]), min_size=n, max_size=n))
    samples, cache = make(labels, groups=groups)
    order = np.array(data.draw(st.permutations(range(n))))
    other = replace(cache, **{f: getattr(cache, f)[order] for f in ("x", "hashes", "pixels")})
    one = make_split(samples, cache, 0.2, 0.3, seed)
    two = make_split(samples.subset(order), other, 0.2, 0.3, seed)
    for name in SPLITS:
        np.testing.assert_array_equal(getattr(one, name), np.sort(order[getattr(two, name)]))


def test_one_seed_is_one_split_and_another_another():
    samples, cache = make(np.repeat([0, 1], 50))
    one, same, other = (make_split(samples, cache, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.test, same.test)
    assert not np.array_equal(one.test, other.test)
    assert not np.array_equal(one.validation, other.validation)


def test_groups_of_one_size_are_shared_out_in_proportion():
    labels = np.tile([0, 1], 100)
    samples, cache = make(labels, groups=[f"g{i // 10}" for i in range(200)])
    found = counts(make_split(samples, cache, 0.1, 0.2), samples)
    assert found == {"test": [20, 20], "validation": [10, 10], "train": [70, 70]}


def test_groups_within_classes_keep_the_balance():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 200)
    groups = [f"{label}-{rng.integers(30)}" for label in labels]
    samples, cache = make(labels, groups=groups)
    found = counts(make_split(samples, cache, 0.1, 0.2), samples)
    np.testing.assert_allclose(found["test"], 40, atol=8)
    np.testing.assert_allclose(found["validation"], 16, atol=8)


def test_of_two_groups_a_class_one_is_held_out():
    labels = np.repeat([0, 1], 20)
    samples, cache = make(labels, groups=[f"g{i // 10}" for i in range(40)])
    split = make_split(samples, cache)
    assert counts(split, samples) == {"train": [10, 10], "validation": [0, 0], "test": [10, 10]}


def test_the_only_group_of_a_class_stays_in_train():
    labels = np.repeat([0, 1], 20)
    samples, cache = make(labels, groups=["a"] * 20 + [""] * 20)
    found = counts(make_split(samples, cache, 0.2, 0.7), samples)
    assert (found["train"][0], found["test"][1]) == (20, 14)


def test_small_classes_keep_train_first_then_test_then_validation():
    samples, cache = make([0] * 4 + [1] * 3 + [2] * 2 + [3])
    assert counts(make_split(samples, cache), samples) == {
        "train": [2, 1, 1, 1],
        "test": [1, 1, 1, 0],
        "validation": [1, 1, 0, 0],
    }


def test_validation_has_a_limit():
    samples, cache = make(np.repeat(np.arange(3), [500, 300, 200]))
    split = make_split(samples, cache, 0.5, 0.0, most_validation=20)
    assert counts(split, samples)["validation"] == [10, 6, 4]
    assert len(make_split(samples, cache, 0.5, 0, most_validation=2).validation) == 2


def test_no_share_is_no_split():
    samples, cache = make([0, 1])
    split = make_split(samples, cache, 0, 0)
    assert (len(split.train), len(split.validation), len(split.test)) == (2, 0, 0)


def test_unlabelled_samples_are_in_no_split():
    samples, cache = make([0, 0, 0, 1, 1, 1, -1])
    assert make_split(samples, cache).names(7)[6] == ""


def given_splits(**sizes):
    """Give each of two classes that many samples in each split."""
    splits = [name.strip("_") for name, n in sizes.items() for _ in range(2 * n)]
    return make(np.tile([0, 1], len(splits) // 2), splits=splits)


def test_all_named_splits_are_kept():
    samples, cache = given_splits(train=10, validation=3, test=4)
    split = make_split(samples, cache, 0.5, 0.5, most_validation=1)
    for name in SPLITS:
        np.testing.assert_array_equal(getattr(split, name), np.flatnonzero(samples.splits == name))


def test_validation_is_drawn_from_train_beside_a_named_test():
    samples, cache = given_splits(train=10, test=4)
    split = make_split(samples, cache, 0.1, 0.9)
    assert (samples.splits[split.test] == "test").all()
    assert counts(split, samples) == {"train": [9, 9], "validation": [1, 1], "test": [4, 4]}


def test_no_test_is_drawn_beside_a_named_validation():
    samples, cache = given_splits(train=10, validation=3)
    split = make_split(samples, cache)
    assert counts(split, samples) == {"train": [10, 10], "validation": [3, 3], "test": [0, 0]}


def test_unnamed_rows_train_beside_a_named_test():
    samples, cache = given_splits(_=10, test=4)
    split = make_split(samples, cache)
    assert counts(split, samples) == {"train": [9, 9], "validation": [1, 1], "test": [4, 4]}


def test_train_alone_is_split_like_unnamed_data():
    samples, cache = given_splits(train=10)
    assert counts(make_split(samples, cache), samples)["test"] == [2, 2]


def test_unreadable_samples_leave_a_named_split():
    samples, cache = given_splits(train=10, test=4)
    good = cache.good.copy()
    good[[0, 20]] = False
    split = make_split(samples, replace(cache, good=good))
    assert 0 not in split.train
    assert counts(split, samples)["test"] == [3, 4]


def test_one_class_is_refused():
    with pytest.raises(DataError, match=r"wanted at least 2 classes .*got 'class0' in pictures"):
        make_split(*make([0, 0, 0]))


def test_one_sample_a_class_is_refused_unless_nothing_is_held_out():
    with pytest.raises(DataError, match="every class of pictures has one sample; wanted at least"):
        make_split(*make([0, 1, 2]))
    assert len(make_split(*make([0, 1, 2]), validation=0, test=0).train) == 3


def test_a_class_without_readable_samples_is_named():
    with pytest.raises(DataError, match="classes without a readable sample: 'class1'; add files"):
        make_split(*make([0, 0, 1, 2], good=[True, True, False, True]))
    with pytest.raises(DataError, match="without a readable sample: 'empty'"):
        make_split(*make([0, 0, 1, 1], classes=("a", "b", "empty")))


@pytest.mark.parametrize("name", ["test", "validation"])
def test_a_class_that_train_lacks_is_named(name):
    labels, splits = [0, 0, 1, 1, 0, 2], ["train"] * 4 + [name] * 2
    with pytest.raises(DataError, match=f"{name} has classes that train lacks: 'class2'; wanted"):
        make_split(*make(labels, splits=splits))


def test_nothing_to_train_on_is_refused():
    with pytest.raises(DataError, match=r"left to train on: 1 cannot be used, 2 are given to"):
        make_split(*make([0, 1, 1], splits=["test"] * 3, good=[True, True, False]))


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_share_out_of_range_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a share from 0 to below 1; got 1"):
        make_split(*make([0, 1]), **{name: 1.0})


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("splits", [None, ["train"] * 24 + ["test"] * 6])
def test_a_saved_split_comes_back(tmp_path, arrays, splits):
    samples, cache = make([0, 1] * 15, splits=splits, arrays=arrays)
    cache.good[3] = False
    split = make_split(samples, cache, seed=5)
    save_split(tmp_path / "split.json", split, samples, cache)
    back = load_split(tmp_path / "split.json", samples, cache)
    for name in SPLITS:
        np.testing.assert_array_equal(getattr(back, name), getattr(split, name))
    assert (back.seed, back.shares) == (5, split.shares)
    assert os.listdir(tmp_path) == ["split.json"]


def saved(tmp_path, **options):
    samples, cache = make([0, 1] * 10, **options)
    path = tmp_path / "split.json"
    save_split(path, make_split(samples, cache), samples, cache)
    return path, samples, cache


def test_the_manifest_says_what_stands_where(tmp_path):
    path, _, cache = saved(tmp_path)
    document = json.loads(path.read_text())
    assert document["data"] == "pictures"
    assert document["classes"] == ["class0", "class1"]
    assert document["counts"] == {"train": 14, "validation": 2, "test": 4}
    assert document["shares"] == {"validation": 0.1, "test": 0.2}
    first = document["entries"][0]
    assert (first["path"], first["class"]) == ("f00000", "class0")
    assert first["hash"] == cache.hashes[0]
    assert str(Path.cwd()) not in path.read_text()


def test_another_order_of_files_is_the_same_data(tmp_path):
    path, samples, cache = saved(tmp_path)
    order = np.arange(20)[::-1]
    other = replace(cache, hashes=cache.hashes[order], good=cache.good[order])
    before = load_split(path, samples, cache)
    after = load_split(path, samples.subset(order), other)
    np.testing.assert_array_equal(np.sort(order[after.test]), before.test)


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("key", ["seed", "classes", "counts", "data"])
def test_a_tampered_manifest_is_refused(tmp_path, arrays, key):
    path, samples, cache = saved(tmp_path, arrays=arrays)
    document = json.loads(path.read_text())
    document[key] = "other"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="was changed after it was written; restore it"):
        load_split(path, samples, cache)


def test_a_damaged_manifest_is_refused(tmp_path):
    path, samples, cache = saved(tmp_path)
    text = path.read_text()
    path.write_text(text[:100])
    with pytest.raises(DataError, match=r"split.json is not a whole JSON file .*start a new run"):
        load_split(path, samples, cache)
    path.write_text("[]")
    with pytest.raises(DataError, match="is of version None; wanted 1"):
        load_split(path, samples, cache)
    path.write_text(text.replace('"version": 1', '"version": 9'))
    with pytest.raises(DataError, match="is of version 9; wanted 1"):
        load_split(path, samples, cache)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        load_split(path, samples, cache)


def test_changed_missing_and_new_files_are_named(tmp_path):
    path, samples, cache = saved(tmp_path)
    hashes = cache.hashes.copy()
    hashes[:7] = "0" * 31 + "f"
    names = (*samples.names[:19], "novel")
    with pytest.raises(DataError) as error:
        load_split(path, replace(samples, names=names), replace(cache, hashes=hashes))
    assert "7 changed: 'f00000', 'f00001', 'f00002', 'f00003', 'f00004' and 2 more" in str(
        error.value
    )
    assert "1 missing: 'f00019'; 1 new: 'novel'" in str(error.value)
    assert "restore them, or start a new run" in str(error.value)


def test_another_label_is_a_change(tmp_path):
    path, samples, cache = saved(tmp_path)
    labels = samples.labels.copy()
    labels[4] = 1
    with pytest.raises(DataError, match=r"\(1 changed: 'f00004'\)"):
        load_split(path, replace(samples, labels=labels), cache)


def test_another_given_split_is_a_change(tmp_path):
    splits = np.array(["train"] * 16 + ["test"] * 4)
    path, samples, cache = saved(tmp_path, splits=splits)
    load_split(path, samples, cache)
    for i, other in ((0, "test"), (19, "train")):
        moved = splits.copy()
        moved[i] = other
        with pytest.raises(DataError, match=rf"\(1 changed: 'f000{i:02}'\)"):
            load_split(path, replace(samples, splits=moved), cache)


def test_other_classes_are_refused(tmp_path):
    path, samples, cache = saved(tmp_path)
    with pytest.raises(DataError, match="for the classes 'class0', 'class1'; got 'cat', 'dog'"):
        load_split(path, replace(samples, classes=("cat", "dog")), cache)


def test_changed_arrays_name_their_source(tmp_path):
    samples, cache = make([0, 1] * 10, arrays=True)
    source = tmp_path / "train.npz"
    source.write_bytes(b"before")
    samples = replace(samples, sources=(source,))
    path = tmp_path / "split.json"
    save_split(path, make_split(samples, cache), samples, cache)
    source.write_bytes(b"packed otherwise")
    load_split(path, samples, cache)
    hashes = cache.hashes.copy()
    hashes[0] = hashes[1]
    with pytest.raises(DataError, match=r"\(1 changed: 'train.npz'\)"):
        load_split(path, samples, replace(cache, hashes=hashes))
    labels = samples.labels[::-1].copy()
    with pytest.raises(DataError, match="no longer match"):
        load_split(path, replace(samples, labels=labels), cache)


def test_the_manifest_of_arrays_stays_small(tmp_path):
    samples, cache = make(np.arange(20_000) % 10, arrays=True)
    save_split(tmp_path / "split.json", make_split(samples, cache), samples, cache)
    assert (tmp_path / "split.json").stat().st_size < 20 * 20_000  # a hash a training row


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path, samples, cache = saved(tmp_path)
    before = path.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"split.json cannot be written \(No space left"):
        save_split(path, make_split(samples, cache, seed=3), samples, cache)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["split.json"]
    with pytest.raises(DataError, match="cannot be written"):
        save_split(tmp_path / "none" / "split.json", make_split(samples, cache), samples, cache)


@pytest.mark.parametrize("arrays", [False, True])
def test_the_hashes_of_what_was_trained_on_are_kept(tmp_path, arrays):
    samples, cache = make(np.repeat([0, 1], 20), arrays=arrays)
    split = make_split(samples, cache)
    save_split(tmp_path / "split.json", split, samples, cache)
    assert trained_hashes(tmp_path / "split.json") == set(cache.hashes[split.train].tolist())


@pytest.mark.parametrize(
    ("made", "share", "message"),
    [
        ({"groups": ["p"] * 12 + ["q"] * 12}, 0.2, "'class0', 'class1' .*one group or of equal"),
        ({"groups": ["p"] * 12 + [""] * 12}, 0.2, "'class0' will.*never part; give it several"),
        ({"pixels": [f"{0:032x}"] * 12 + [f"{i:032x}" for i in range(1, 13)]}, 0.2, "equal pictu"),
        ({}, 0.0, "'class0', 'class1' .*none was asked for.*set --test"),
        ({"splits": ["test"] * 6 + ["train"] * 18}, 0.2, "'class1' will.*own split has none"),
    ],
)
def test_classes_of_which_nothing_is_held_out_are_said_with_the_cause(made, share, message):
    samples, cache = make(np.repeat([0, 1], 12), **made)
    split = make_split(samples, cache, share / 2, share)
    (found,) = unheld(split, samples, cache)
    assert found.kind == "not-held-out"
    assert re.search(message, found.detail)


def test_a_class_of_one_sample_keeps_it_and_that_is_said():
    samples, cache = make([0] * 12 + [1])
    (found,) = unheld(make_split(samples, cache), samples, cache)
    assert re.search("'class1' will be scored: a class keeps its only sample", found.detail)


def test_where_every_class_is_held_out_nothing_is_said():
    samples, cache = make(np.repeat([0, 1], 12))
    assert unheld(make_split(samples, cache), samples, cache) == []


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize(
    ("column", "value"), [("weights", np.linspace(0.3, 2, 20)), ("groups", ["", *"abcd"] * 4)]
)
def test_another_weight_or_group_is_another_training(tmp_path, arrays, column, value):
    samples, cache = make([0, 1] * 10, arrays=arrays)
    samples = replace(samples, **{column: np.asarray(value)})
    path, split = tmp_path / "split.json", make_split(samples, cache)
    save_split(path, split, samples, cache)
    np.testing.assert_array_equal(load_split(path, samples, cache).test, split.test)
    one = np.asarray(value).copy()
    one[3] = one[4]
    what = "other rows, labels, groups or weights" if arrays else "1 changed: 'f00003'"
    with pytest.raises(DataError, match=f"{what}.*restore them, or start a new run"):
        load_split(path, replace(samples, **{column: one}), cache)
    with pytest.raises(DataError, match="no longer match"):
        load_split(path, replace(samples, **{column: None}), cache)
