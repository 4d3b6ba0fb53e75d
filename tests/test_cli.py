import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import striate
from striate.cli import process_start, run
from striate.data import threads
from striate.kernels import reason
from striate.recipe import Recipe

QUICK = ["--set", "model.width=8", "--threads", "1", "--epochs", "2", "--size", "16"]
COMMANDS = (
    "check",
    "train",
    "evaluate",
    "predict",
    "models",
    "profile",
    "lesson",
    "recipe",
    "bench",
)
SCORE = {"value", "low", "high", "n", "method"}


def draw(root, count=24):
    """Write pictures of bright and of dark noise into two class folders."""
    random = np.random.default_rng(0)
    for name, light in (("dark", 60), ("light", 190)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            values = random.normal(light, 30, (16, 16)).clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return pictures, the run that the command line made of them, and what it printed."""
    home = tmp_path_factory.mktemp("cli")
    data = draw(home / "noise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIATE_CACHE", str(home / "cache"))
        patch.setattr(sys, "stdout", io.StringIO())
        assert run(["train", str(data), "--out", str(home / "run"), "--json", *QUICK]) == 0
        return data, home / "run", sys.stdout.getvalue()


@pytest.fixture
def call(capsys):
    """Return a function that runs a command and returns exit code, stdout and stderr."""

    def do(*arguments):
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return do


# What every command keeps


def test_help_lists_every_command(call):
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert call()[:2] == (code, out)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(call, name):
    code, out, _ = call(name, "--help")
    assert code == 0
    assert "Usage" in out


def test_help_of_train_names_every_field_of_a_recipe(call):
    _, out, _ = call("train", "--help")
    fields = set(Recipe.model_fields) - {"model_options"}
    assert [name for name in fields if f"--{name.replace('_', '-')}" not in out] == []


def test_help_of_check_and_predict_says_what_their_options_do(call):
    said = " ".join(call("check", "--help")[1].split())
    assert Recipe.model_fields["axes"].description in said  # the words of train
    assert "one JSON object an answer, one a line" in " ".join(call("predict", "--help")[1].split())


def test_help_needs_neither_torch_nor_numpy_nor_pydantic():
    code = (
        "import sys; from striate.cli import run; code = run(['--help']);"
        "heavy = {'torch', 'numpy', 'sklearn', 'PIL', 'pydantic'} & set(sys.modules);"
        "sys.exit(f'{heavy} imported' if heavy else code)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(striate.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [sys.executable, "-m", "striate", "--help"], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


def piped(stdout, *words):
    env = {**os.environ, "PYTHONPATH": str(Path(striate.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-m", "striate", *words], stdout=stdout, stderr=subprocess.PIPE, env=env
    ) as child:
        if child.stdout:
            child.stdout.close()  # nobody will read
        return child.wait(60), child.stderr.read().decode()


@pytest.mark.parametrize("words", [("--help",), ("models", "--json")])
def test_output_that_nobody_reads_ends_quietly(words):
    assert piped(subprocess.PIPE, *words) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", [("--help",), ("models", "--json")])
def test_output_on_a_full_disk_is_said(words):
    with open("/dev/full", "wb") as full:
        code, said = piped(full, *words)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("error: the output cannot be written: No space left on device")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian", r"No such command 'trian'.*'train'"),
        ("train --epoch 3", r"No such option: --epoch .*--epochs"),
        ("train --epochs some", r"Invalid value for '--epochs'"),
        ("train --optimizer adam", r"optimizer .*'adamw'.*got 'adam'"),
        ("train --schedule cosin", r"schedule .*'cosine'.*got 'cosin'"),
        ("train --bad 2", r"bad \(share of unreadable.*less than or equal to 1; got 2"),
        ("train --axes 4", r"axes \(of a sample in an NPZ.*less than or equal to 3; got 4"),
        ("train --seconds -1", r"seconds .*greater than or equal to 0; got -1"),
        ("train --set modl=x", r"a recipe has no field 'modl'; did you mean 'model'\?"),
        ("train --set lr=NaN", r"lr .*finite number; got nan"),
        ("train --set width", r"--set wants key=value or model\.OPTION=value; got 'width'"),
        ("train --recipe none.toml", r"none\.toml is no readable recipe"),
        ("train none", r"none: no such file or folder, nor a named data set; known: digits"),
        ("train minst", r"minst: no such file.*did you mean 'mnist'\?"),
        ("train --model fastnt", r"no network is called 'fastnt'; did you mean 'fastnet'\?"),
        ("train --set model.wdth=8", r"'fastnet' has no option 'wdth'; did you mean 'width'\?"),
        (
            "train --set model.depth=0",
            r"option 'depth' of network 'fastnet' must be at least 1; got 0",
        ),
        ("train --augment flipp", r"no augmentation is called 'flipp'; did you mean 'flip'\?"),
        ("train --model unet", r"'unet' answers \(10, 8, 8\) a sample; .*take another --model"),
        ("train --model tdnn", r"'tdnn' cannot be built so: a TDNN wants series"),
        ("train --device gpu", r"--device must be one of this machine: auto, cpu.*got 'gpu'"),
        ("train ''", r"wanted a folder, a file or a name; got an empty text"),
        ("train --resume none", r"wanted the folder of a run.*none holds no recipe\.toml"),
        ("evaluate none digits", r"no bundle at none; wanted the folder or \.zip that training"),
        ("predict none a.png", r"no bundle at none; wanted the folder or \.zip that training"),
        ("check none", r"none: no such file or folder, nor a named data set"),
        ("check", r"(?i)missing argument 'data'"),
    ],
)
def test_what_the_user_must_change_is_said_and_exits_2(
    call, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*shlex.split(arguments))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert re.search(message, err, re.DOTALL), err
    assert list(tmp_path.iterdir()) == []  # nothing begun, nothing left behind


def test_a_misspelt_name_does_not_wait_for_the_last_file(call, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(threads, "RUN", 1)
    monkeypatch.setattr("striate.cli._Decoding", lambda: lambda done, total: seen.append(done))
    data = draw(tmp_path / "noise", 100)
    code, _, err = call("train", data, "--model", "fastnt", "--out", tmp_path / "run")
    assert code == 2
    assert "did you mean 'fastnet'?" in err
    assert max(seen, default=0) < 200


def test_an_error_of_ours_is_never_silent(call, monkeypatch):
    def broken(*_, **__):
        raise EOFError("marshal data too short")

    monkeypatch.setattr("striate.data.readers.read", broken)
    with pytest.raises(EOFError, match="marshal data"):
        call("check", "digits")


def test_the_clock_starts_with_the_process():
    assert 0 <= time.monotonic() - process_start() < 3600
    assert process_start() == pytest.approx(process_start(), abs=0.1)


# train


def test_train_prints_the_keys_of_the_design(trained):
    _, folder, out = trained
    result = json.loads(out)
    assert list(result) == [
        "run", "bundle", "seconds", "epochs", "images_per_second", "device", "model",
        "parameters", "skipped", "scores",
    ]  # fmt: skip
    assert result["run"] == str(folder)
    assert set(result["scores"]) == {"validation", "test"}
    assert all(set(score) == SCORE for split in result["scores"].values()
               for score in split.values())  # fmt: skip


def test_train_says_how_good_and_where(call, trained, tmp_path):
    code, out, err = call("train", trained[0], "--out", tmp_path / "run", *QUICK)
    assert code == 0
    lines = out.splitlines()
    assert "test samples right (95 % interval" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["fastnet,", "report", "bundle", "predict"]
    assert (tmp_path / "run" / "report.html").is_file()
    assert "epoch 1" in err
    assert "epoch 1" not in out


def test_a_printed_recipe_trains_alike(call, trained, tmp_path):
    code, out, _ = call("recipe")
    assert code == 0
    (tmp_path / "mine.toml").write_text(out)
    assert Recipe.read(tmp_path / "mine.toml") == Recipe()
    where = ["--out", tmp_path / "run", "--recipe", tmp_path / "mine.toml", "--json"]
    code, out, _ = call("train", trained[0], *where, *QUICK)
    assert code == 0
    assert json.loads(out)["scores"] == json.loads(trained[2])["scores"]
    made = Recipe.read(tmp_path / "run" / "recipe.toml")
    assert made == Recipe.read(trained[1] / "recipe.toml")
    assert made.model_options == {"width": 8}


def test_a_recipe_with_changes_keeps_the_rest(call, trained, tmp_path):
    (tmp_path / "mine.toml").write_text("model_options = {width = 8, depth = 1}\nlr = 0.01\n")
    changes = ["--set", "model.widen=1", "--set", "lr=0.02", "--epochs", "1", "--size", "16"]
    where = ["--out", tmp_path / "run", "--recipe", tmp_path / "mine.toml"]
    assert call("train", trained[0], *where, *changes)[0] == 0
    made = Recipe.read(tmp_path / "run" / "recipe.toml")
    assert made.model_options == {"width": 8, "depth": 1, "widen": 1}
    assert made.lr == 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0.1"], "only seconds, epochs, checkpoint, device may change, got lr"),
        (["--set", "batch=4"], "may change, got batch"),
        (["--model", "lenet5"], "may change, got model"),
        (["--out", "other"], "keeps its folder and recipe; leave out --out"),
        (["--recipe", "f.toml"], "keeps its folder and recipe; leave out --out and --recipe"),
    ],
)
def test_going_on_refuses_another_recipe(call, trained, arguments, message):
    code, _, err = call("train", "--resume", trained[1], *arguments)
    assert code == 2
    assert message in err


def test_a_run_is_made_longer_and_stays_so(call, trained, tmp_path, monkeypatch):
    assert call("train", trained[0], "--out", tmp_path / "run", *QUICK)[0] == 0
    monkeypatch.chdir(tmp_path)  # the data are found from any folder
    code, out, _ = call("train", "--resume", "run", "--epochs", "3", "--json")
    assert (code, json.loads(out)["epochs"]) == (0, 3)
    assert Recipe.read("run/recipe.toml").epochs == 3  # a kill now would not make it shorter again
    code, out, _ = call("train", "--resume", "run", "--json")
    assert (code, json.loads(out)["epochs"]) == (0, 3)
    files = [Path("run", name, "model.safetensors") for name in ("bundle-before-2", "bundle")]
    assert files[0].read_bytes() == files[1].read_bytes()  # nothing was left to learn


def test_other_data_are_refused_by_a_run_that_goes_on(call, trained, tmp_path):
    other = draw(tmp_path / "other", 6)
    code, _, err = call("train", other, "--resume", trained[1])
    assert code == 2
    assert "no longer match" in err
    assert "start a new run" in err


def test_ctrl_c_says_how_to_go_on(call, trained, tmp_path, monkeypatch):
    from striate.session import Keeper

    def stop(self, step):
        raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "follow", stop)
    code, out, err = call("train", trained[0], "--out", tmp_path / "run", "--json", *QUICK)
    assert (code, out) == (130, "")
    assert f"go on with\n  striate train --resume {tmp_path / 'run'}" in err


def test_a_recipe_names_every_field_with_its_meaning(call):
    _, out, _ = call("recipe")
    assert [line.split(" = ")[0] for line in out.splitlines()] == list(Recipe.model_fields)
    assert all("  # " in line for line in out.splitlines())


def test_series_go_from_check_to_predict(call, tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    random, y = np.random.default_rng(0), np.arange(90) % 3
    wave = np.sin(np.arange(60) * (y[:, None] + 1) / 2 + random.uniform(0, 6, (90, 1)))
    x = wave[:, None] + random.normal(0, 0.3, (90, 3, 60))  # three sensors hear one tone
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data, folder = tmp_path / "a.npz", tmp_path / "run"
    _, out, _ = call("check", data)
    assert "x: (90, 3, 60) is read as pictures of 3 x 60" in out
    assert "say --axes 1" in out
    assert "warning" not in call("check", data, "--axes", 1)[1]
    quick = ["--set", "model.width=8", "--threads", "1", "--epochs", "8"]
    code, _, err = call("train", data, "--axes", 1, "--out", folder, *quick)
    assert (code, "test samples of 3 x 60, 3 classes" in err) == (0, True)
    assert "ambiguous" not in err
    code, out, _ = call("evaluate", folder, data, "--json")
    assert (code, json.loads(out)["scores"]["accuracy"]["value"] > 0.9) == (0, True)
    code, out, _ = call("predict", folder, data)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, rows[7]["path"]) == (0, f"{data}:x#7")
    assert np.mean([row["class"] == str(k) for row, k in zip(rows, y, strict=True)]) > 0.9
    model = striate.load(folder)
    for name, expected in model.bundle.golden.items():
        answer = model.predict(model.bundle.path / "golden" / name)[0]
        assert np.allclose(list(answer.probabilities.values()), expected, atol=1e-4)
    assert len(model.bundle.golden) == 4
    assert "predict THIS_FOLDER arrays.npz" in (folder / "bundle" / "README.md").read_text()
    assert call("train", "--resume", folder, "--epochs", 9)[0] == 0


def test_train_says_how_an_array_of_two_readings_was_read(call, tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 8, 12))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    _, _, err = call("train", tmp_path / "a.npz", "--out", tmp_path / "run", *QUICK)
    assert "ambiguous: (40, 8, 12) is read as pictures of 8 x 12" in err


def test_samples_too_small_for_a_network_name_the_other_reading(call, tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 3, 90))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    code, _, err = call("train", tmp_path / "a.npz", "--out", tmp_path / "run")
    assert (code, err.count("\n"), (tmp_path / "run").exists()) == (2, 1, False)
    assert "at least 4 samples; got (3, 90); x: (40, 3, 90) is read as pictures" in err
    assert "if it is series of 90 in 3 channels, say --axes 1" in err


# evaluate


def test_evaluate_prints_the_keys_of_the_design(call, trained):
    data, folder, _ = trained
    code, out, err = call("evaluate", folder, data, "--json")
    assert code == 0
    assert err == "warning: the network was trained on 34 of these samples; the scores flatter it\n"
    result = json.loads(out)
    assert list(result) == ["bundle", "data", "n", "scores"]
    assert (result["bundle"], result["data"], result["n"]) == (str(folder), str(data), 48)
    assert {"accuracy", "macro_f1", "log_loss", "ece"} <= set(result["scores"])
    assert all(set(score) == SCORE for score in result["scores"].values())


def test_evaluate_shows_every_score_every_class_and_what_is_left_out(call, trained, tmp_path):
    data = draw(tmp_path / "noise", 4)
    (data / "dark" / "bad.png").write_bytes(b"")
    code, out, err = call("evaluate", trained[1], data)
    assert code == 0
    assert "8 samples\n" in out
    assert all(f"\n{name}: 4 samples\n" in out for name in ("dark", "light"))
    assert "1 file could not be read" in err
    assert "dark/bad.png: the file is empty" in err


def test_evaluate_takes_a_bundle_and_a_zip_as_it_takes_a_run(call, trained):
    data, folder, _ = trained
    one = json.loads(call("evaluate", folder, data, "--json")[1])
    two = json.loads(call("evaluate", folder / "bundle", data, "--json")[1])
    assert one["scores"] == two["scores"]


# check


def test_check_of_clean_data_exits_0(call, trained):
    code, out, err = call("check", trained[0])
    assert (code, err) == (0, "")
    assert "48 samples, 2 classes" in out
    assert out.endswith("no faults\n")


def test_check_exits_1_on_faults_and_prints_the_keys_of_the_design(call, tmp_path):
    data = draw(tmp_path / "noise", 12)
    (data / "dark" / "empty.png").write_bytes(b"")
    (data / "light" / "twin.png").write_bytes((data / "light" / "00.png").read_bytes())
    code, out, _ = call("check", data, "--json")
    found = json.loads(out)
    assert code == 1
    assert list(found) == ["data", "samples", "classes", "faults", "warnings"]
    assert (found["data"], found["samples"]) == (str(data), 26)
    assert found["classes"] == {"dark": 13, "light": 13}
    assert [(f["kind"], f["path"]) for f in found["faults"]] == [
        ("unreadable", "dark/empty.png"), ("duplicate", "light/twin.png")
    ]  # fmt: skip
    code, out, _ = call("check", data)
    assert code == 1
    assert "dark/empty.png: the file is empty (0 bytes)" in out
    assert out.endswith("2 faults\n")


def test_check_writes_a_table_that_trains_without_a_fault(call, tmp_path):
    data = draw(tmp_path / "noise", 12)
    (data / "dark" / "empty.png").write_bytes(b"")
    (data / "light" / "twin.png").write_bytes((data / "light" / "00.png").read_bytes())
    (data / "light" / "wrong.png").write_bytes((data / "dark" / "01.png").read_bytes())
    table = tmp_path / "clean.csv"
    code, _, err = call("check", data, "--fix", table)
    assert code == 1
    assert f"{table}: 23 of 27 samples; train on it instead of {data}" in err
    assert call("check", table)[0] == 0
    code, out, _ = call("train", table, "--out", tmp_path / "run", "--json", *QUICK)
    assert (code, json.loads(out)["skipped"]) == (0, [])
    code, _, err = call("check", data, "--fix", table)
    assert code == 2
    assert "exists and is never overwritten" in err


# predict


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_answers_in_input_order(call, trained):
    data, folder, _ = trained
    files = [str(data / name) for name in ("light/03.png", "dark/02.png", "light/01.png")]
    code, out, err = call("predict", folder, *files)
    assert (code, err) == (0, "")
    assert [row["path"] for row in rows(out)] == files
    assert out.splitlines()[0] == (
        "path,class,probability,probability:dark,probability:light,error"
    )


def test_a_folder_becomes_its_pictures_in_order(call, trained):
    data, folder, _ = trained
    code, out, _ = call("predict", folder, data / "dark")
    assert code == 0
    assert [row["path"] for row in rows(out)] == [str(data / f"dark/{i:02}.png") for i in range(24)]


def test_predict_prints_json_lines_of_the_design(call, trained):
    data, folder, _ = trained
    code, out, _ = call("predict", folder, data / "dark/00.png", "none.png", "--json")
    good, bad = map(json.loads, out.splitlines())
    assert code == 1
    assert list(good) == list(bad) == ["path", "class", "probability", "probabilities", "error"]
    assert good["probability"] == max(good["probabilities"].values())
    assert list(good["probabilities"]) == ["dark", "light"]
    assert good["error"] is None
    assert (bad["class"], bad["probability"], bad["probabilities"]) == (None, None, {})
    assert bad["error"] == "No such file or directory"


def test_an_unreadable_file_is_a_row_and_exits_1(call, trained, tmp_path):
    data, folder, _ = trained
    (tmp_path / "text.jpg").write_text("no picture")
    files = [data / "dark/00.png", tmp_path / "text.jpg", data / "dark/01.png"]
    code, out, err = call("predict", folder, *files)
    assert code == 1
    assert "1 of 3 could not be answered; their rows say why" in err
    assert [bool(row["error"]) for row in rows(out)] == [False, True, False]
    assert "is not an image" in rows(out)[1]["error"]


@pytest.mark.parametrize("files", [[], ["-"]])
def test_names_come_from_stdin(call, trained, monkeypatch, files):
    data, folder, _ = trained
    named = [f"{data}/light/00.png", f"{data}/dark/00.png"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([named[0], "", named[1] + "\r\n"])))
    code, out, _ = call("predict", folder, *files)
    assert code == 0
    assert [row["path"] for row in rows(out)] == named


def test_no_name_at_all_is_an_error_on_a_terminal(call, trained, monkeypatch, tmp_path):
    stdin = io.StringIO()
    stdin.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", stdin)
    code, _, err = call("predict", trained[1])
    assert code == 2
    assert "wanted files or folders to classify; got none" in err
    code, _, err = call("predict", trained[1], tmp_path)
    assert code == 2
    assert f"wanted image files; got none in {tmp_path}" in err


def test_answers_go_to_a_file_in_any_spelling(call, trained, tmp_path):
    data, folder, _ = trained
    odd = os.fsdecode(b"caf\xe9.png")
    (tmp_path / odd).write_bytes((data / "dark/00.png").read_bytes())
    code, out, _ = call("predict", folder, tmp_path / odd, "--out", tmp_path / "answers.csv")
    assert (code, out) == (0, "")
    assert b"caf\xe9.png,dark," in (tmp_path / "answers.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answers.csv", odd]


def test_a_name_that_is_no_utf8_goes_through_pipes(trained, tmp_path, monkeypatch):
    data, folder, _ = trained
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write((data / "dark/00.png").read_bytes())
    for stream, content in (("stdin", name + b"\n"), ("stdout", b"")):
        pipe = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", write_through=True)
        monkeypatch.setattr(sys, stream, pipe)
    assert run(["predict", str(folder), "-"]) == 0
    assert sys.stdout.buffer.getvalue().splitlines()[1].startswith(name + b",dark,")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
def test_no_class_name_is_more_than_an_output_can_say(tmp_path, monkeypatch, encoding):
    data = draw(tmp_path / "noise", count=2)
    (data / "dark").rename(data / "é日本")
    for stream in ("stdout", "stderr"):
        pipe = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        monkeypatch.setattr(sys, stream, pipe)
    assert run(["check", str(data)]) == 0
    assert run(["check", str(data / "é日")]) == 2
    known, unknown = (name.encode(encoding, "backslashreplace") for name in ("é日本", "/é日:"))
    assert known in sys.stdout.buffer.getvalue().split()
    assert unknown in sys.stderr.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_names_from_stdin_may_begin_with_the_mark_of_utf8(trained, monkeypatch, encoding, mark):
    name = os.fsencode(trained[0] / "dark/00.png")
    for stream, content in (("stdin", mark + name + b"\r\n"), ("stdout", b"")):
        pipe = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, write_through=True)
        monkeypatch.setattr(sys, stream, pipe)
    assert run(["predict", str(trained[1]), "-"]) == 0
    assert sys.stdout.buffer.getvalue().splitlines()[1].startswith(name + b",dark,")


def test_an_answer_file_that_cannot_be_written_is_named(call, trained, tmp_path):
    data, folder, _ = trained
    where = tmp_path / "none" / "answers.csv"
    code, _, err = call("predict", folder, data / "dark/00.png", "--out", where)
    assert code == 2
    assert f"{where} cannot be written: No such file or directory; name another" in err


def test_an_older_answer_file_stays_until_the_new_one_is_whole(
    call, trained, tmp_path, monkeypatch
):
    data, folder, _ = trained
    where = tmp_path / "answers.csv"
    where.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("striate.deploy.predict.write_csv", full)
    code, _, err = call("predict", folder, data / "dark/00.png", "--out", where)
    assert code == 2
    assert "No space left on device" in err
    assert [p.name for p in tmp_path.iterdir()] == ["answers.csv"]
    assert where.read_text() == "old"


# models


def test_models_prints_the_keys_of_the_design(call):
    code, out, _ = call("models", "--json")
    cards = json.loads(out)
    assert code == 0
    assert all(list(card) == ["name", "year", "authors", "parameters", "input", "headline"]
               for card in cards)  # fmt: skip
    code, out, _ = call("models")
    assert [line.split()[0] for line in out.splitlines()] == [card["name"] for card in cards]


def test_profile_prints_the_keys_of_the_design(call):
    code, out, _ = call("profile", "lenet5_1998", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"model", "parameters", "connections", "macs", "layers"}
    assert (found["model"], found["parameters"], found["connections"]) == (
        "lenet5_1998", 60_000, 340_908,
    )  # fmt: skip
    assert set(found["layers"][0]) == {
        *("name", "kind", "shape", "parameters", "connections", "macs"),
        *("receptive_field", "jump", "kernel", "seconds"),
    }


def test_profile_takes_a_bundle_or_another_size(call, trained):
    _, run_folder, _ = trained
    code, out, _ = call("profile", run_folder, "--no-fields")
    assert code == 0
    assert out.splitlines()[0].split() == [
        *("layer", "kind", "shape", "parameters", "connections", "MACs", "field", "jump", "ms"),
        *(() if reason() else ("kernel",)),
    ]
    small, large = (
        json.loads(call("profile", "resnet20", "--size", size, "--no-fields", "--json")[1])["macs"]
        for size in ("3x16x16", "3x32x32")
    )
    assert 3.5 * small < large < 4.5 * small


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet6"], "did you mean 'lenet5'"),
        (["lenet5", "--size", "3by8"], "such as 3x64x64; got '3by8'"),
        (["lenet5", "--batch", "0"], "'--batch': Input should be greater than or equal to 1"),
    ],
)
def test_profile_says_what_it_wanted(call, arguments, message):
    code, _, said = call("profile", *arguments)
    assert code == 2
    assert message in said


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=str,
)
def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise(monkeypatch, given, wanted):
    from striate import __main__

    seen = []
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is as before at the end
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("striate.cli.run", lambda: seen.append(os.environ.get("GOMP_SPINCOUNT")))
    monkeypatch.setattr(__main__, "leave", seen.append)
    __main__.main()
    assert seen == [wanted, None]
