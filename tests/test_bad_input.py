"""Bad input gets a clear error and loses nothing: every line of it through the command line."""

import csv
import errno
import json
import os
import re
import resource
import struct
import zlib
from html import unescape

import numpy as np
import pytest
from PIL import Image

from striate import run as running
from striate.bundle import load
from striate.cli import run
from striate.train import resume as state_of
from striate.train.optimizers import Lookahead

QUICK = ["--set", "model.width=8", "--threads", "1", "--epochs", "2", "--size", "16"]


@pytest.fixture
def call(capsys):
    """Return a function that runs a command and returns exit code, stdout and stderr."""

    def do(*arguments):
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return do


@pytest.fixture
def refused(call, tmp_path):
    """Return a function that expects exit 2, a message, and no run folder."""

    def do(message, *arguments):
        if arguments[0] == "train":
            arguments = (*arguments, "--out", tmp_path / "run")
        code, out, err = call(*arguments)
        assert (code, out) == (2, ""), err
        assert re.search(message, err, re.DOTALL), err
        assert not (tmp_path / "run").exists()

    return do


@pytest.fixture
def noise(tmp_path):
    """Return a function that draws pictures of noise, dark or light by class."""

    def draw(counts, root="noise"):
        random = np.random.default_rng(0)
        for number, (name, count) in enumerate(counts.items()):
            (tmp_path / root / name).mkdir(parents=True)
            for i in range(count):
                values = random.normal(60 + 120 * number, 20, (16, 16)).clip(0, 255)
                image = Image.fromarray(values.astype(np.uint8))
                image.save(tmp_path / root / name / f"{i:03}.png")
        return tmp_path / root

    return draw


def trained(call, data, folder, *more):
    code, out, err = call("train", data, "--out", folder, "--json", *QUICK, *more)
    assert code == 0, err
    return json.loads(out)


# Folders


@pytest.mark.parametrize("command", ["check", "train"])
def test_an_empty_folder(refused, tmp_path, command):
    (tmp_path / "empty").mkdir()
    refused(r"empty: wanted class folders with images.*got an empty folder", command,
            tmp_path / "empty")  # fmt: skip


def test_class_folders_without_images(refused, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "none" / name).mkdir(parents=True)
    (tmp_path / "none" / "a" / "notes.txt").write_text("x")
    message = r"text files in 2 class folders; got none; 1 were left out.*notes\.txt"
    refused(message, "train", tmp_path / "none")


def test_one_class_only(refused, noise):
    refused(r"wanted at least two classes; got only 'a'", "train", noise({"a": 4}))


def test_one_file_a_class(refused, noise):
    message = r"every class of .*noise has one sample; wanted at least 2 a class.*add files"
    refused(message, "train", noise({"a": 1, "b": 1}))


def test_a_class_whose_files_are_all_unreadable(refused, noise):
    data = noise({"a": 120, "b": 1})
    (data / "b" / "000.png").write_bytes(b"")
    refused(r"classes without a readable sample: 'b'; add files, or remove", "train", data)


def test_two_splits_with_different_classes(refused, call, noise):
    noise({"a": 4, "b": 4}, "noise/train")
    data = noise({"a": 2, "c": 2}, "noise/test").parent
    refused(r"test has classes that train lacks: 'c'; wanted the same class names", "train", data)
    code, out, _ = call("check", data)
    assert code == 1
    assert "class 'c' has 2 samples in test and none in train" in out
    assert "class 'b' has 4 samples in train and none in test" in out


# Files


def png(width, height):
    """Return a PNG of that size, all black, a few kilobytes however large."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    press = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(press.compress(row) for _ in range(min(height, 50))) + press.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows)
            + chunk(b"IEND", b""))  # fmt: skip


BROKEN = {
    "empty.png": (b"", r"the file is empty \(0 bytes\)"),
    "text.jpg": (b"not a picture at all", r"is not an image: begins with b'not a picture"),
    "bomb.png": (png(20_000, 20_000), r"20000 x 20000 pixels are more than the limit of 178,956"),
    "cut.png": (None, r"truncated|damaged"),
}


def test_one_broken_file_in_many_is_left_out_counted_and_named(call, noise, tmp_path):
    data = noise({"a": 220, "b": 200})
    whole = (data / "a" / "000.png").read_bytes()
    for name, (content, _) in BROKEN.items():
        (data / "a" / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    code, out, err = call("train", data, "--out", tmp_path / "run", "--json", *QUICK)
    assert code == 0, err
    skipped = {fault["path"].split("/")[1]: fault["detail"] for fault in json.loads(out)["skipped"]}
    assert skipped.keys() == BROKEN.keys()
    for name, (_, reason) in BROKEN.items():
        assert re.search(reason, skipped[name])
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in BROKEN)
    _, _, err = call("train", data, "--out", tmp_path / "loud", *QUICK)
    assert "4 x unreadable" in err
    code, out, _ = call("check", data)
    assert code == 1
    assert "fault: 4 x unreadable" in out


@pytest.mark.parametrize("name", BROKEN)
def test_more_than_a_hundredth_stops_before_training(refused, noise, name):
    data = noise({"a": 30, "b": 30})
    content, reason = BROKEN[name]
    whole = (data / "a" / "000.png").read_bytes()
    (data / "a" / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    refused(rf"at most 0\.01 of the files.*1 of 61 are \(a/{name}: .*(?:{reason}).*--bad 0\.02",
            "train", data)  # fmt: skip


def test_the_share_of_bad_files_is_the_user_s(call, noise, tmp_path):
    data = noise({"a": 30, "b": 30})
    (data / "a" / "bad.png").write_bytes(b"")
    result = trained(call, data, tmp_path / "run", "--bad", "0.02")
    assert [fault["path"] for fault in result["skipped"]] == ["a/bad.png"]


# Tables


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", [".png", ".wav", ".txt"])
def test_a_pipe_among_the_files_is_not_waited_for(call, tmp_path, suffix):
    pytest.importorskip("soundfile")
    for name in ("ant", "bee"):
        (tmp_path / "data" / name).mkdir(parents=True)
        os.mkfifo(tmp_path / "data" / name / f"pipe{suffix}")
    code, _, err = call("check", tmp_path / "data")
    assert code == 2
    assert re.search(f"none of 2 files.*pipe{suffix}:.*not a regular file", err)


@pytest.mark.timeout(60)
def test_a_device_among_pictures_is_a_fault_and_a_row(call, noise, tmp_path):
    data = noise({"ant": 12, "bee": 12})
    trained(call, data, tmp_path / "run")
    (data / "ant" / "endless.png").symlink_to("/dev/zero")
    code, out, _ = call("check", data)
    assert code == 1
    assert re.search("ant/endless.png: not a regular file", out)
    code, out, _ = call("predict", tmp_path / "run", data / "ant" / "endless.png")
    assert code == 1
    assert re.search("endless.png,.*not a regular file", out)


def table(data, rows, header="path,label"):
    path = data / "t.csv"
    path.write_text("\n".join([header, *rows]))
    return path


def test_a_table_with_missing_files(call, refused, noise):
    data = noise({"a": 4, "b": 4})
    rows = [f"{c}/{i:03}.png,{c}" for c in "ab" for i in range(4)]
    path = table(data, [*rows, "a/gone.png,a"])
    refused(r"1 of 9 are \(a/gone\.png: No such file or directory\)", "train", path)
    code, out, _ = call("check", path)
    assert code == 1
    assert "a/gone.png: No such file or directory" in out
    refused(r"none of its 2 files exists; looked for x\.png .* relative to", "train",
            table(data, ["x.png,a", "y.png,b"]))  # fmt: skip


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label,colour", r"unknown columns \['colour'\]; accepted are path"),
        ("path,colour", r"unknown columns \['colour'\]"),
        ("path,split", r"wanted the columns label; got \['path', 'split'\]"),
    ],
)
def test_a_table_with_unknown_or_missing_columns(refused, noise, header, message):
    row = ",".join(["a/000.png", "a", "a"][: header.count(",") + 1])
    refused(message, "train", table(noise({"a": 2, "b": 2}), [row], header))


@pytest.mark.parametrize("word", ["", "NaN", "nan"])
def test_a_table_with_labels_that_are_missing(refused, noise, word):
    rows = ["a/000.png,a", f"a/001.png,{word}", "b/000.png,b"]
    refused(r"t\.csv: the label is missing in lines 3", "train",
            table(noise({"a": 2, "b": 2}), rows))  # fmt: skip


def test_an_unknown_split_in_a_table(refused, noise):
    rows = ["a/000.png,a,tets", "b/000.png,b,train"]
    message = r"line 2: no split is called 'tets'; did you mean 'test'\?"
    refused(message, "train", table(noise({"a": 2, "b": 2}), rows, "path,label,split"))


def test_labels_that_are_nan_in_arrays(refused, tmp_path):
    x = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.array([0, 1, np.nan, 1]))
    refused(r"(?i)data\.npz.*label.*(nan|whole)", "train", tmp_path / "data.npz")


def test_a_file_of_no_known_kind(refused, tmp_path):
    (tmp_path / "data.txt").write_text("x")
    refused(r"wanted a folder of class folders, a table.*got a file \.txt", "train",
            tmp_path / "data.txt")  # fmt: skip


# Places to write to


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def weights(folder):
    return (folder / "bundle" / "model.safetensors").read_bytes()


def after(count, real, fail=full):
    """Return a function that works `count` times and then fails."""
    calls = iter(range(count))

    def do(*arguments, **options):
        return real(*arguments, **options) if next(calls, None) is not None else fail()

    return do


def test_a_disk_that_is_full_at_a_checkpoint_keeps_the_one_before(
    call, noise, tmp_path, monkeypatch
):
    data = noise({"a": 30, "b": 30})
    trained(call, data, tmp_path / "whole")
    often = ["--checkpoint", "0.000001"]
    with monkeypatch.context() as patch:
        patch.setattr(state_of, "save_file", after(3, state_of.save_file))
        code, _, err = call("train", data, "--out", tmp_path / "run", *QUICK, *often)
    assert code == 2
    assert "a checkpoint could not be written" in err
    assert "No space left on device; the last one is still whole; free some space" in err
    assert state_of.newest(tmp_path / "run" / "state")[1]["index"] == 2
    assert call("train", "--resume", tmp_path / "run")[0] == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_limit_on_file_sizes_is_met_by_the_writer_itself(call, noise, tmp_path):
    data = noise({"a": 30, "b": 30})
    trained(call, data, tmp_path / "whole")  # decodes, so that the cache need not grow
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
        code, _, err = call("train", data, "--out", tmp_path / "run", *QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert "File too large" in err
    assert "nothing was learnt yet: start anew" in err or "free some space" in err
    assert call("train", "--resume", tmp_path / "run")[0] == 0  # it starts from the beginning
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize("what", ["striate.train.log.Log.epoch", "striate.run.write_summary"])
def test_a_disk_that_is_full_elsewhere_loses_no_update(call, noise, tmp_path, monkeypatch, what):
    data = noise({"a": 30, "b": 30})
    trained(call, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(what, full)
        code, _, err = call("train", data, "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert f"the run in {tmp_path / 'run'} stopped at" in err
    assert "No space left on device; make room; update " in err
    assert f"go on with\n  striate train --resume {tmp_path / 'run'}" in err
    assert call("train", "--resume", tmp_path / "run")[0] == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_disk_that_is_full_for_the_bundle_loses_no_update(call, noise, tmp_path, monkeypatch):
    data = noise({"a": 30, "b": 30})
    with monkeypatch.context() as patch:
        patch.setattr("striate.container._write_folder", full)
        code, _, err = call("train", data, "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert re.search(r"the disk is full: .*bundle needs \d+ bytes; free some", err)
    assert not (tmp_path / "run" / "bundle").exists()
    assert call("train", "--resume", tmp_path / "run")[0] == 0
    assert len(load(tmp_path / "run").golden) == 4


def test_a_disk_that_is_full_for_the_decoded_samples(refused, noise, monkeypatch):
    monkeypatch.setattr("striate.data.cache._settle", full)
    refused(r"decoded samples want [\d,]+ bytes in .*no room.*STRIATE_CACHE", "train",
            noise({"a": 30, "b": 30}))  # fmt: skip


def test_a_folder_that_cannot_be_written(refused, noise, monkeypatch):
    def read_only(self, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    data = noise({"a": 30, "b": 30})
    make = running.Path.mkdir

    def mkdir(self, *arguments, **options):
        return (read_only if self.name == "run" else make)(self, *arguments, **options)

    monkeypatch.setattr(running.Path, "mkdir", mkdir)
    refused(r"the run folder .*run cannot be written: Read-only file system; name another with "
            r"--out", "train", data, *QUICK)  # fmt: skip


def test_a_run_folder_that_became_read_only(call, noise, tmp_path, monkeypatch):
    trained(call, noise({"a": 30, "b": 30}), tmp_path / "run")
    before = weights(tmp_path / "run")
    real = open

    def read_only(file, mode="r", *arguments, **options):
        if str(file).startswith(str(tmp_path / "run")) and set(mode) & set("wax+"):
            raise OSError(errno.EROFS, "Read-only file system", str(file))
        return real(file, mode, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", read_only)
        code, _, err = call("train", "--resume", tmp_path / "run", "--epochs", "3")
    assert code == 2
    assert re.search(r"run cannot be written: Read-only file system; give the right to write", err)
    assert weights(tmp_path / "run") == before


def test_a_folder_that_exists_is_never_overwritten(call, noise, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    data = noise({"a": 30, "b": 30})
    code, _, err = call("train", data, "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert "run exists already; name another with --out, or go on with --resume" in err
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(call, noise, tmp_path):
    data = noise({"a": 30, "b": 30})
    wild = ["--optimizer", "sgd", "--lr", "1e30", "--checkpoint", "0.000001"]
    code, _, err = call("train", data, "--out", tmp_path / "run", *QUICK, *wild)
    assert code == 2
    assert re.search(r"(loss became|weights are no longer finite).*lower the learning rate", err)
    stored = state_of.newest(tmp_path / "run" / "state")
    assert f"in a new run, lower the learning rate (--lr, now {1e30:g})" in err
    assert f"update {stored[1]['index']} is kept in {stored[0]}" in err
    values = state_of.load_file(stored[0] / "tensors.safetensors").values()
    assert all(bool(v.isfinite().all()) for v in values if v.is_floating_point())


def test_weights_that_only_the_last_update_broke_are_not_saved(call, noise, tmp_path, monkeypatch):
    def break_it(self, *_):
        self.fast[0].data.fill_(float("nan"))

    monkeypatch.setattr(Lookahead, "finish", break_it)
    code, _, err = call("train", noise({"a": 30, "b": 30}), "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert "the weights are no longer finite after update" in err
    assert re.search(
        r"lower the learning rate \(--lr, now .*\) or clip the gradient \(--clip 1\)", err
    )
    assert not (tmp_path / "run" / "bundle").exists()


def test_states_that_are_all_damaged_are_not_written_over(call, noise, tmp_path):
    trained(call, noise({"a": 30, "b": 30}), tmp_path / "run")
    states = sorted((tmp_path / "run" / "state").glob("*/state.json"))
    for state in states:
        state.write_text("{")
    code, _, err = call("train", "--resume", tmp_path / "run", "--epochs", "3")
    assert code == 2
    assert re.search(r"are damaged: restore the folder from a copy, or start a new run", err)
    assert [state.read_text() for state in states] == ["{"] * len(states)
    assert (tmp_path / "run" / "bundle").is_dir()


# Bundles


def test_a_bundle_of_another_version(call, noise, tmp_path):
    data = noise({"a": 30, "b": 30})
    trained(call, data, tmp_path / "run")
    config = tmp_path / "run" / "bundle" / "config.json"
    written = json.loads(config.read_text())
    written["striate"] |= {"format": 99, "version": "7.0.0"}
    config.write_text(json.dumps(written))
    message = r"config\.json says bundle format 99, written by striate 7\.0\.0.*install the version"
    for command in (["predict", tmp_path / "run", data], ["evaluate", tmp_path / "run", data]):
        code, out, err = call(*command)
        assert (code, out) == (2, "")
        assert re.search(message, err)


def test_a_bundle_that_was_cut_or_changed(call, noise, tmp_path):
    data = noise({"a": 30, "b": 30})
    trained(call, data, tmp_path / "run")
    file = tmp_path / "run" / "bundle" / "model.safetensors"
    whole = file.read_bytes()
    for content in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:]):
        file.write_bytes(content)
        code, _, err = call("predict", tmp_path / "run", data)
        assert code == 2
        assert "model.safetensors is not what was saved, its checksum differs; copy" in err
    file.unlink()
    code, _, err = call("predict", tmp_path / "run", data)
    assert code == 2
    assert "model.safetensors is missing; copy the bundle again" in err


def test_data_with_a_class_that_the_network_does_not_know(call, noise, tmp_path):
    trained(call, noise({"a": 30, "b": 30}), tmp_path / "run")
    code, _, err = call("evaluate", tmp_path / "run", noise({"a": 2, "c": 2}, "other"))
    assert code == 2
    assert re.search(r"knows the classes a, b; the data also have c; rename or leave out", err)


def test_a_file_that_was_changed_after_the_split(call, noise, tmp_path):
    data = noise({"a": 30, "b": 30})
    trained(call, data, tmp_path / "run")
    (data / "a" / "000.png").write_bytes((data / "b" / "000.png").read_bytes())
    code, _, err = call("train", "--resume", tmp_path / "run", "--epochs", "3")
    assert code == 2
    assert re.search(r"no longer match .*split\.json \(1 changed: 'a/000\.png'\); restore", err)


def test_a_split_that_was_changed_by_hand(call, noise, tmp_path):
    trained(call, noise({"a": 30, "b": 30}), tmp_path / "run")
    path = tmp_path / "run" / "split.json"
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"', 1))
    code, _, err = call("train", "--resume", tmp_path / "run", "--epochs", "3")
    assert code == 2
    assert re.search(r"split\.json was changed after it was written; restore it, or start", err)


def test_predictions_name_files_that_are_no_utf8(call, noise, tmp_path):
    data = noise({"a": 30, "b": 30})
    for i, file in enumerate(sorted(data.rglob("*.png"))):
        file.rename(file.parent / os.fsdecode(b"caf\xe9 %d.png" % i))
    trained(call, data, tmp_path / "run")
    with open(tmp_path / "run" / "predictions.csv", encoding="utf-8",
              errors="surrogateescape") as file:  # fmt: skip
        names = [row["path"] for row in csv.DictReader(file)]
    assert names
    assert all((data / name).is_file() for name in names)


def test_a_class_that_is_no_utf8_is_spelt_alike_wherever_it_is_written(call, noise, tmp_path):
    data = noise({"ant": 12, "bee": 12})
    (data / "bee").rename(data / os.fsdecode(b"caf\xe9"))
    folder = tmp_path / "run"
    trained(call, data, folder)
    name = r"caf\xe9"
    assert load(folder).spec.classes == ("ant", name)
    for file in ("predictions.csv", "report.html"):
        assert name in (folder / file).read_text("utf-8", "surrogateescape")  # paths stay
    for file in ("bundle/README.md", "bundle/spec.json", "split.json"):
        assert json.dumps(name) in (folder / file).read_text("utf-8")
    code, out, _ = call("evaluate", folder, data)
    assert (code, name in out) == (0, True)
    code, out, _ = call("predict", folder, data, "--json")
    assert (code, name in json.loads(out.splitlines()[0])["probabilities"]) == (0, True)


def test_what_is_left_out_is_said_by_train_its_json_and_report_and_by_predict(
    call, noise, tmp_path
):
    data = noise({"ant": 12, "bee": 12})
    for i in range(3):
        (data / "ant" / f"{i}.HEIC").write_bytes(b"...")
    first = Image.open(data / "bee" / "000.png")
    other = Image.open(data / "bee" / "001.png")
    first.save(data / "bee" / "two.gif", save_all=True, append_images=[other])
    lines = ("3 files: not an image, by its name", "first of 2 frames")
    folder = tmp_path / "run"
    skipped = {row["detail"] for row in trained(call, data, folder)["skipped"]}
    assert skipped >= set(lines)
    report = (folder / "report.html").read_text("utf-8")
    assert all(text in report for text in ("HEIC", "first of 2 frames"))
    _, _, err = call("train", data, "--out", tmp_path / "again", *QUICK)
    assert re.search(r"skipped: 3 files: not an image, by its name \(ant/0.HEIC\)", err)
    assert re.search(r"note: first of 2 frames \(bee/two.gif\)", err)
    _, _, err = call("predict", folder, data)
    assert re.search(r"left out: 3 files: not an image, by its name \(ant/0.HEIC\)", err)


def test_a_training_that_nothing_can_score_says_why(call, noise, tmp_path):
    data = noise({"ant": 12, "bee": 12})
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    rows = [f"{name},{name[:3]},{name[:3]}" for name in names]
    path = data / "groups.csv"
    path.write_text("\n".join(["path,label,group", *rows]))
    code, _, err = call("train", path, "--out", tmp_path / "run", *QUICK)
    assert code == 0
    said = r"no sample of 'ant', 'bee' will be scored: its samples are all of one group.*other pict"
    assert re.search(f"not-held-out: {said}", err, re.DOTALL)
    assert re.search(said.replace("'", "."), unescape((tmp_path / "run/report.html").read_text()))
