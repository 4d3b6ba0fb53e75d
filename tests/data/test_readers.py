import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.readers import list_files, read
from striate.errors import DataError


@pytest.fixture
def tree(tmp_path):
    """Return a function that makes images (or texts, by suffix) below a fresh folder."""

    def make(*names, root="data"):
        folder = tmp_path / root
        folder.mkdir(exist_ok=True)
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            elif path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                Image.new("RGB", (4, 3)).save(path)
            else:
                path.write_text("text")
        return folder

    return make


def test_class_folders_are_read_by_name(tree):
    root = tree("dog/2.png", "dog/1.JPEG", "cat/deep/er/3.jpg", "cat/1.PNG")
    found = read(root)
    assert found.classes == ("cat", "dog")
    assert found.names == ("cat/1.PNG", "cat/deep/er/3.jpg", "dog/1.JPEG", "dog/2.png")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert set(found.splits) == {""}
    assert all(file.is_absolute() and file.exists() for file in found.files)
    assert (found.root, found.kind, found.arrays, found.skipped) == (root, "image", None, ())


def test_classes_that_are_numbers_follow_their_value(tree):
    assert read(tree("10/a.png", "9/a.png", "1/a.png")).classes == ("1", "9", "10")


def test_training_and_testing_are_splits_where_every_folder_is_one(tree):
    root = tree("Training/a/1.png", "Training/b/1.png", "testing/a/2.png", "testing/b/2.png")
    found = read(root)
    assert found.classes == ("a", "b")
    assert found.splits.tolist() == ["train", "train", "test", "test"]
    tree("match/a/3.png")
    assert read(root).classes == ("Training", "match", "testing")


def test_files_that_the_table_of_a_folder_passes_over_are_counted(tree):
    root = tree("a/1.png", "a/2.png", "b/1.png", "b/c/2.png", "notes.txt")
    (root / "labels.csv").write_text("path,label\na/1.png,a\n./b/1.png,b\n")
    found = read(root)
    assert found.names == ("a/1.png", "b/1.png")
    assert [(f.path, f.detail) for f in found.skipped] == [
        ("a/2.png", "not in labels.csv"),
        ("b/c/2.png", "not in labels.csv"),
    ]


def test_axes_that_the_data_do_not_have_are_refused(tree):
    folder = tree("a/1.png", "b/1.png")
    assert read(folder, axes=2).names == read(folder).names
    with pytest.raises(DataError, match=r"wanted series samples, of axes 1; got image samples"):
        read(folder, axes=1)
    with pytest.raises(DataError, match=r"wanted volume samples, of axes 3.*only the arrays of an"):
        read("digits", axes=3)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_refused(name):
    with pytest.raises(DataError, match=r"got an empty text: is a variable of the shell not set\?"):
        read(name)


def test_every_split_has_the_same_class_map(tree):
    root = tree("Train/a/1.png", "Train/b/1.png", "Train/c/1.png", "valid/b/2.png", "valid/c/2.png")
    tree("TEST/d/3.png")
    found = read(root)
    assert found.classes == ("a", "b", "c", "d")
    by_name = dict(zip(found.names, found.labels.tolist(), strict=True))
    assert by_name["valid/b/2.png"] == by_name["Train/b/1.png"] == 1
    assert by_name["TEST/d/3.png"] == 3
    by_split = dict(zip(found.names, found.splits.tolist(), strict=True))
    assert by_split["valid/b/2.png"] == "validation"
    assert by_split["Train/a/1.png"] == "train"
    assert by_split["TEST/d/3.png"] == "test"


def test_what_is_hidden_or_no_image_is_left_out_and_counted(tree):
    root = tree("a/1.png", "b/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/a/1.png", "LICENSE")
    tree("a/.DS_Store", "a/notes.txt", "b/.ipynb_checkpoints/1-checkpoint.png", "stray.png")
    found = read(root)
    assert found.classes == ("a", "b")
    assert len(found) == 2
    assert {fault.kind for fault in found.skipped} == {"skipped"}
    assert sorted(fault.path for fault in found.skipped) == [
        *(".ipynb_checkpoints", "LICENSE", "__MACOSX", "a/.DS_Store", "a/notes.txt"),
        *("b/.ipynb_checkpoints", "stray.png"),
    ]


def test_a_class_may_begin_with_an_underscore(tree):
    assert read(tree("_background/1.png", "ant/1.png")).classes == ("_background", "ant")


def test_runs_among_the_data_are_left_out_and_counted(tree):
    root = tree("a/1.png", "b/1.png")
    for run in ("runs/x-1", "a/mine"):
        tree(f"{run}/recipe.toml", f"{run}/run.json", f"{run}/events.jsonl", f"{run}/plots/p.png")
    tree("runs/x-2/events.jsonl", "runs/.cache")  # cut off at its start
    found = read(root)
    assert found.classes == ("a", "b")
    assert len(found) == 2
    said = {fault.path: fault.detail for fault in found.skipped}
    assert said == dict.fromkeys(("a/mine", "runs"), "what `striate train` wrote, not data")
    assert len(list_files([root])) == 2


def test_a_class_may_be_called_runs(tree):
    tree("runs/1.png", "walks/1.png", "runs/x/recipe.toml", "runs/x/run.json", "runs/x/p.png")
    found = read(tree("runs/x/events.jsonl"))
    assert found.names == ("runs/1.png", "walks/1.png")


def test_folders_beside_splits_are_left_out_and_said(tree):
    found = read(tree("train/a/1.png", "train/b/1.png", "extra/a/1.png", "test/9.png"))
    assert len(found) == 2
    said = {fault.path: fault.detail for fault in found.skipped}
    assert said["extra"] == "a folder beside the splits test, train"
    assert said["test/9.png"] == "in a split, but not in a class folder"


def test_a_class_may_be_called_train(tree):
    found = read(tree("train/1.png", "car/1.png", "plane/1.png"))
    assert found.classes == ("car", "plane", "train")


def test_splits_without_class_folders_are_refused(tree):
    with pytest.raises(DataError, match=r"wanted class folders in test and train, as in test/cats"):
        read(tree("train/1.png", "test/1.png"))


def test_an_empty_class_folder_stays_a_class(tree):
    found = read(tree("a/1.png", "b/2.png", "empty/"))
    assert found.classes == ("a", "b", "empty")


def test_one_spelling_for_a_name_that_two_file_systems_spell_differently(tree):
    found = read(tree("train/caf\u00e9/1.png", "train/tea/1.png", "test/cafe\u0301/1.png"))
    assert found.classes == ("caf\u00e9", "tea")


def test_non_ascii_names_are_read(tree):
    assert read(tree("猫/ö ß.png", "собака/1.png")).names == ("собака/1.png", "猫/ö ß.png")


def test_links_are_followed_and_cycles_survived(tree):
    root = tree("a/1.png", "b/1.png")
    outside = tree("2.png", root="elsewhere")
    (root / "a" / "linked").symlink_to(outside)
    (root / "b" / "again").symlink_to(root / "b")
    (root / "b" / "broken.png").symlink_to(root / "nothing.png")
    found = read(root)
    assert found.names == ("a/1.png", "a/linked/2.png", "b/1.png", "b/broken.png")
    assert [fault.path for fault in found.skipped] == ["b/again"]
    assert "a link to a folder that it lies in" in found.skipped[0].detail


def test_a_text_named_jpg_stays_to_be_found_unreadable(tree):
    root = tree("a/1.png", "b/1.png")
    (root / "a" / "text.jpg").write_text("no image")
    assert "a/text.jpg" in read(root).names


def test_an_empty_folder_is_refused(tree):
    with pytest.raises(DataError, match=r"wanted class folders with images.*got an empty folder"):
        read(tree())


def test_one_class_only_is_refused(tree):
    with pytest.raises(DataError, match="wanted at least two classes; got only 'a'"):
        read(tree("a/1.png", "a/2.png"))


def test_class_folders_without_images_are_refused(tree):
    with pytest.raises(DataError, match="text files in 2 class folders; got none; 2 were left out"):
        read(tree("a/1.pdf", "b/2.pdf"))
    with pytest.raises(DataError, match="text files in 2 class folders; got none"):
        read(tree("c/1.txt", "d/2.pdf", root="notes"))  # not every class has a text


def test_a_flat_folder_says_what_is_wanted_and_what_is_there(tree):
    with pytest.raises(DataError, match=r"as in cats/1.jpg.*got 1.png, 2.png"):
        read(tree("1.png", "2.png"))


def test_a_file_of_another_kind_is_refused(tree):
    with pytest.raises(DataError, match=r"wanted a folder of class folders.*got a file .txt"):
        read(tree("a.txt") / "a.txt")


def test_something_unknown_gets_a_suggestion():
    with pytest.raises(DataError, match=r"mnits: no such file or folder.*did you mean 'mnist'"):
        read("mnits")


def test_a_path_wins_over_a_name(tree, monkeypatch):
    tree("a/1.png", "b/1.png", root="digits")
    monkeypatch.chdir(tree("a/1.png").parent)
    assert read("digits").classes == ("a", "b")


def test_a_folder_to_predict_has_no_classes(tree):
    root = tree("b/1.png", "a.jpg", "notes.txt")
    found = read(root, labelled=False)
    assert found.names == ("a.jpg", "b/1.png")
    assert (found.classes, found.labels.tolist()) == ((), [-1, -1])
    assert [fault.path for fault in found.skipped] == ["notes.txt"]
    one = read(root / "a.jpg", labelled=False)
    assert one.names == ("a.jpg",)
    with pytest.raises(DataError, match="wanted image, sound or text files; got none"):
        read(tree(root="nothing"), labelled=False)


def test_files_are_listed_in_the_order_named_and_folders_sorted(tree):
    root = tree("z.png", "f/b.png", "f/a/c.jpg", "f/skip.txt", "f/.hidden/d.png")
    found = list_files([root / "z.png", str(root / "f"), root / "missing.jpg", root / "f/skip.txt"])
    names = ["z.png", "f/a/c.jpg", "f/b.png", "missing.jpg", "f/skip.txt"]
    assert found == [root / name for name in names]


def test_a_folder_with_a_table_is_read_by_it(tree):
    root = tree("x/1.png", "x/2.png")
    (root / "labels.csv").write_text("path,label\nx/1.png,no\nx/2.png,yes\n")
    found = read(root)
    assert (found.names, found.classes) == (("x/1.png", "x/2.png"), ("no", "yes"))
    (root / "metadata.csv").write_text("path,label\nx/1.png,no\nx/2.png,yes\n")
    with pytest.raises(DataError, match=r"wanted one table; got metadata.csv and labels.csv"):
        read(root)


def test_real_photos_are_read():
    home = Path(os.environ.get("STRIATE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (home / "hymenoptera").is_dir():
        pytest.skip("no hymenoptera in STRIATE_DATA or ../shared/data")
    found = read(home / "hymenoptera")
    assert found.classes == ("ants", "bees")
    assert np.unique(found.splits, return_counts=True)[1].tolist() == [40, 20]


def test_reading_imports_neither_torch_nor_scikit_learn():
    code = (
        "import sys; from striate.data.readers import read; read('digits'); "
        "print([m for m in ('torch', 'sklearn', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
