import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.audit import audit
from striate.data.cache import open_cache
from striate.data.choice import choose_spec
from striate.data.clean import keep, write_clean
from striate.data.readers import read
from striate.errors import DataError, RecipeError


@pytest.fixture
def tree(tmp_path):
    """Return a function that saves pictures by name; equal numbers are equal pictures."""

    def make(**pictures):
        for name, seed in pictures.items():
            path = tmp_path / "data" / (name.replace("__", "/") + ".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng(seed)
            Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
        return tmp_path / "data"

    return make


def opened(source):
    samples = read(source)
    return samples, open_cache(samples, choose_spec(samples))


def kept(source):
    samples, cache = opened(source)
    return {name for name, stays in zip(samples.names, keep(samples, cache), strict=True) if stays}


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_samples_without_fault_all_stay(tree):
    assert len(kept(tree(a__1=1, a__2=2, b__1=3, b__2=4))) == 4


def test_unreadable_files_go(tree):
    root = tree(a__1=1, b__1=2)
    (root / "a" / "bad.png").write_bytes(b"")
    assert kept(root) == {"a/1.png", "b/1.png"}


def test_of_copies_the_first_stays(tree):
    assert kept(tree(a__1=1, a__2=1, a__3=1, b__1=2)) == {"a/1.png", "b/1.png"}


def test_training_loses_what_is_also_in_the_test_split(tree):
    root = tree(
        train__a__1=1, validation__a__1=1, test__a__9=1, train__a__2=2, validation__a__2=2,
        train__b__1=3,
    )  # fmt: skip
    assert kept(root) == {"test/a/9.png", "validation/a/2.png", "train/b/1.png"}


def test_a_picture_of_two_classes_goes_altogether(tree):
    assert kept(tree(a__1=1, a__2=1, b__1=1, a__3=2, b__3=3)) == {"a/3.png", "b/3.png"}


def test_a_group_stays_in_one_split(tree):
    root = tree(p=1, q=2, r=3, s=4)
    table = root / "t.csv"
    table.write_text(
        "path,label,split,group,weight\np.png,a,train,x,1\nq.png,a,test,x,2\n"
        "r.png,b,train,,3\ns.png,b,test,,4\n"
    )
    assert kept(table) == {"q.png", "r.png", "s.png"}
    samples, cache = opened(table)
    assert write_clean(root / "clean.csv", samples, cache) == 3
    assert [(row["group"], float(row["weight"])) for row in rows(root / "clean.csv")] == [
        ("x", 2), ("", 3), ("", 4)
    ]  # fmt: skip


def test_the_table_reads_back_without_faults(tree):
    root = tree(train__a__1=1, train__a__2=1, test__a__3=1, train__b__1=4, test__b__2=5)
    tree(train__a__8=6, train__b__8=6, train__a__4=7, train__a__5=8, train__b__5=9)
    (root / "train" / "b" / "ü\u202fx.png").write_bytes((root / "train/b/1.png").read_bytes()[:40])
    samples, cache = opened(root)
    before = {fault.kind for fault in audit(samples, cache).faults}
    assert before == {"unreadable", "duplicate", "leak", "label-conflict"}
    write_clean(root / "clean.csv", samples, cache)
    again, cache = opened(root / "clean.csv")
    assert audit(again, cache).faults == ()
    assert set(again.names) <= set(samples.names)
    splits = dict(zip(samples.names, samples.splits, strict=True))
    assert [splits[name] for name in again.names] == again.splits.tolist()


def test_odd_names_survive(tree):
    root = tree(a__1=1, b__1=2)
    for number, name in enumerate(("ä, b", "x\u202fy", 'say "hi"')):
        (root / "a" / "1.png").rename(root / "a" / f"{name}.png")
        samples, cache = opened(root)
        write_clean(root / f"{number}.csv", samples, cache)
        assert f"a/{name}.png" in read(root / f"{number}.csv").names
        (root / "a" / f"{name}.png").rename(root / "a" / "1.png")


def test_paths_are_relative_below_the_table_and_absolute_elsewhere(tree, tmp_path):
    root = tree(a__1=1, b__1=2)
    (tmp_path / "elsewhere").mkdir()
    for place, wanted in (
        (tmp_path / "above.csv", "data/a/1.png"),
        (root / "beside.csv", "a/1.png"),
        (tmp_path / "elsewhere" / "t.csv", str(root / "a" / "1.png")),
    ):
        samples, cache = opened(root)
        write_clean(place, samples, cache)
        assert rows(place)[0] == {"path": wanted, "label": "a", "split": ""}
        assert len(opened(place)[0]) == 2


def test_arrays_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.arange(64, dtype=np.uint8).reshape(4, 4, 4), y=np.array([0, 0, 1, 1]))
    with pytest.raises(RecipeError, match=r"only folders and tables.*data\.npz holds arrays"):
        write_clean(tmp_path / "t.csv", *opened(path))


def test_nothing_is_overwritten(tree, tmp_path):
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(DataError, match="exists and is never overwritten; name another file"):
        write_clean(tmp_path / "t.csv", *opened(tree(a__1=1, b__1=2)))
    assert (tmp_path / "t.csv").read_text() == "mine"


def test_no_sample_left_is_said(tree, tmp_path):
    with pytest.raises(DataError, match=r"none of the 2 samples of .*data is without fault"):
        write_clean(tmp_path / "t.csv", *opened(tree(a__1=1, b__1=1)))


def test_a_name_that_no_table_holds_is_refused(tree, tmp_path):
    root = tree(a__1=1, b__1=2)
    (root / "a" / "1.png").rename(root / "a" / "back\\slash.png")
    with pytest.raises(DataError, match=r"cannot hold the file name .*rename the file"):
        write_clean(tmp_path / "t.csv", *opened(root))
    assert list(tmp_path.glob("*.csv")) == list(tmp_path.glob(".*part")) == []


def test_a_folder_that_cannot_be_written_is_named(tree, tmp_path):
    with pytest.raises(DataError, match=r"none/t\.csv cannot be written: No such file"):
        write_clean(Path(tmp_path / "none" / "t.csv"), *opened(tree(a__1=1, b__1=2)))
