import gzip
import json
import pickle
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.data.named import NAMES
from striate.models import MODELS

HOME = Path(__file__).parents[1] / "benchmarks"
CLAIMS = ("cifar10_94", "digits_98", "fashion_92", "folder_throughput", "mnist_99", "photos")
pytestmark = pytest.mark.usefixtures("benchmarks")


def script(name):
    return __import__(name)


def talker(name, text, status=0, target=0.0):
    code = f"print({text!r}); raise SystemExit({status!r})"
    return script("contest").Contestant(
        name, lambda *_: [sys.executable, "-c", code], target=target
    )


def row(name, wall=1.0, accuracy=None, seed=0, error="", **result):
    if accuracy is not None:
        result["accuracy"] = accuracy
    return script("contest").Row(name, seed, wall, 0.0, 50_000_000, 0.0, 0.0, result, error)


def chosen(*words):
    contest = script("contest")
    return contest.arguments(contest.options("about"), words)


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_has_a_docstring_a_command_and_a_main(name):
    module = script(name)
    assert f"python benchmarks/{name}.py" in module.__doc__
    assert callable(module.main)


@pytest.mark.parametrize("name", CLAIMS)
def test_help_is_the_claim(name, capsys):
    with pytest.raises(SystemExit) as stop:
        script(name).main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--rounds" in text
    assert script(name).__doc__.splitlines()[0] in text


def test_the_contest_imports_neither_numpy_nor_torch():
    for name in ("contest.py", "tables.py"):
        text = (HOME / name).read_text()
        assert "import numpy" not in text
        assert "import torch" not in text


def test_quick_is_one_round_and_rounds_win_over_it():
    assert chosen().rounds == 3
    assert chosen("--quick").rounds == 1
    assert chosen("--quick", "--rounds", "2").rounds == 2


def test_no_rounds_is_refused(capsys):
    with pytest.raises(SystemExit):
        chosen("--rounds", "0")
    assert "--rounds must be at least 1; got 0" in capsys.readouterr().err


def test_contestants_alternate_and_the_last_line_counts(tmp_path):
    contest = script("contest")
    file = tmp_path / "rows.json"
    pair = [talker("a", 'talk\n{"accuracy": 0.5}'), talker("b", "{}")]
    rows = contest.compete(pair, chosen("--rounds", "2", "--json", str(file)))
    assert [(r.name, r.seed) for r in rows] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert rows[0].result == {"accuracy": 0.5}
    assert rows[0].wall > 0
    assert rows[0].memory > 1_000_000
    saved = json.loads(file.read_text())
    assert len(saved["rows"]) == 4
    assert "cores" in saved["machine"]


def test_a_failure_is_a_row_with_its_reason_and_the_contest_goes_on():
    contest = script("contest")
    pair = [talker("bad", "", "it broke"), talker("mute", "no object"), talker("good", "{}")]
    bad, mute, good = contest.compete(pair, chosen("--rounds", "1"))
    assert bad.error == "exit 1: it broke"
    assert mute.error.startswith("no JSON in its last line")
    assert not good.error
    text = script("tables").table(pair, [bad, mute, good])
    assert "FAILED: bad, seed 0: exit 1: it broke" in text


def test_a_contestant_is_stopped_at_its_limit():
    contest = script("contest")
    slow = contest.Contestant(
        "slow", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"], limit=0.3
    )
    (only,) = contest.compete([slow], chosen("--rounds", "1"))
    assert only.error.startswith("exit -9")
    assert only.wall < 10


def test_a_contestant_without_its_package_is_left_out_and_said(capsys, monkeypatch):
    contest = script("contest")
    monkeypatch.setenv("STRIATE_PEERS_PYTHON", sys.executable)
    lone = contest.Contestant("lone", lambda *_: ["false"], needs=("no_such_package",))
    assert contest.compete([lone], chosen()) == []
    assert "lone: left out" in capsys.readouterr().err


def test_only_names_who_runs_and_a_wrong_name_is_refused():
    contest = script("contest")
    pair = [talker("a", "{}"), talker("b", "{}")]
    assert {r.name for r in contest.compete(pair, chosen("--only", "b"))} == {"b"}
    with pytest.raises(SystemExit, match="--only wants one of a, b; got c"):
        contest.compete(pair, chosen("--only", "c"))


def test_striate_runs_with_seed_and_folder_of_its_own(tmp_path):
    words = script("contest").striate("striate", "mnist", "--seconds", "25").command(7, tmp_path)
    assert words[1:6] == ["-m", "striate", "train", "mnist", "--seconds"]
    assert words[words.index("--seed") + 1] == "7"
    assert words[words.index("--out") + 1] == str(tmp_path / "run")


def test_accuracy_is_read_from_a_peer_and_from_striate():
    accuracy_of = script("contest").accuracy_of
    assert accuracy_of(row("peer", accuracy=0.25)) == 0.25
    scores = {"validation": {"accuracy": {"value": 0.1}}, "test": {"accuracy": {"value": 0.9}}}
    assert accuracy_of(row("striate", scores=scores)) == 0.9
    assert accuracy_of(row("imports")) is None


def test_a_table_holds_centre_and_spread_and_the_ratio():
    contest, tables = script("contest"), script("tables")
    pair = [talker("striate", "", target=0.9), talker("peer", "", target=0.9)]
    rows = [row("striate", wall, 0.95, seed) for seed, wall in enumerate((9.0, 10.0, 20.0))]
    rows += [row("peer", 31.0, share, seed) for seed, share in enumerate((0.9, 0.91, 0.95))]
    lines = tables.table(pair, rows, compared=tables.ratios(pair, rows)).splitlines()
    assert lines[0] == (
        "| contestant | n | wall, s | accuracy, % | peak RSS, MB | target | ratio to Striate |"
    )
    assert lines[2] == (
        "| striate | 3 | 10.0 (9.0-20.0) | 95.00 (95.00-95.00) | 50 (50-50) | 90.0% in 3 of 3 "
        "| 1.00 |"
    )
    assert "92.00 (90.00-95.00)" in lines[3]
    assert lines[3].endswith("| 3.10 |")
    assert contest.accuracy_of(rows[0]) == 0.95


def test_a_peer_short_of_the_target_is_worse_than_its_ratio():
    tables = script("tables")
    pair = [talker("striate", "", target=0.9), talker("peer", "", target=0.9)]
    rows = [row("striate", 10, 0.95), row("peer", 40, 0.89)]
    assert tables.ratios(pair, rows) == {"striate": "1.00", "peer": "> 4.00"}
    other = [pair[0], talker("peer", "", target=0.5)]
    assert tables.ratios(other, rows)["peer"] == "-"


def test_more_can_be_better():
    tables = script("tables")
    pair = [talker("striate", ""), talker("peer", "")]
    rows = [row("striate", images_per_second=300.0), row("peer", images_per_second=100.0)]
    assert tables.ratios(pair, rows, tables.RATE, more_is_better=True)["peer"] == "3.00"


def test_a_verdict_says_what_was_missed():
    verdict = script("tables").verdict
    rows = [row("striate", 24, 0.992), row("striate", 27, 0.99)]
    assert verdict(rows, "striate", 0.99, 26).endswith("n 2: reached")
    assert verdict(rows, "striate", 0.99, 25).endswith("MISSED (time)")
    assert verdict(rows, "striate", 0.995, 25).endswith("MISSED (accuracy and time)")
    assert verdict([], "striate", 0.99, 25) == "striate: nothing was measured"


def test_floors_of_the_data_path():
    throughput = script("folder_throughput")
    rows = [row("striate", first=10.0), row("imagefolder-0", first=30.0)]
    rows.append(row("imagefolder-2", first=14.0))
    (line,) = throughput.floors(rows)
    assert line == "first epoch: 1.40 times the faster peer (floor 1.5): MISSED"
    (line,) = throughput.floors([row("striate", images_per_second=40_001.0)])
    assert line.endswith("reached")
    rows = [row("imports"), row("mnist")]
    assert throughput.excess(rows) == [
        "mnist: 0 MB over the imports (samples 55 MB, limit 282 MB): reached"
    ]


def test_the_interval_of_a_share_is_that_of_wilson():
    low, high = script("photos").wilson(0.5, 20)
    assert (low, high) == pytest.approx((0.2993, 0.7007), abs=1e-4)


def test_idx_files_are_read_as_they_were_written(tmp_path):
    random = np.random.default_rng(0)
    for split, n in (("train", 6), ("t10k", 4)):
        pixels = random.integers(0, 256, (n, 5, 3), dtype=np.uint8)
        head = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">i4").tobytes()
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(head + bytes(pixels))
        )
        head = bytes([0, 0, 8, 1]) + np.array([n], ">i4").tobytes()
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(head + bytes(range(n)))
    data = script("pictures").read_pictures(str(tmp_path))
    assert data.x_train.shape == (6, 1, 5, 3)
    assert (data.x_test[:, 0] == pixels).all()
    assert data.y_train.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.first(2, 0).x_train.shape == (2, 1, 5, 3)
    assert data.first(2, 0).x_test.shape == (4, 1, 5, 3)


def test_cifar_batches_are_read_as_they_were_written(tmp_path):
    random = np.random.default_rng(0)
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        flat = random.integers(0, 256, (2, 3072), dtype=np.uint8)
        (tmp_path / name).write_bytes(pickle.dumps({b"data": flat, b"labels": [k, 9]}))
    data = script("pictures").read_pictures(str(tmp_path))
    assert data.x_train.shape == (10, 3, 32, 32)
    assert (data.x_test.reshape(2, -1) == flat).all()
    assert data.y_train[::2].tolist() == [0, 1, 2, 3, 4]


def test_absent_data_are_said(monkeypatch):
    monkeypatch.delenv("STRIATE_DATA", raising=False)
    with pytest.raises(SystemExit, match="nowhere: no local copy; name a folder of data sets"):
        script("pictures").read_pictures("nowhere")


def test_one_cycle_rises_and_falls():
    one_cycle = script("torch_peers").one_cycle
    shares = [one_cycle(progress) for progress in (0, 0.15, 0.3, 0.65, 1, 1.1)]
    assert shares == pytest.approx([0.04, 0.52, 1, 0.5, 0, 0])


def test_moved_windows_are_windows_of_the_padded_picture():

    x = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4)
    padded = torch.nn.functional.pad(x, (1,) * 4)
    moved = script("torch_peers")._moved(padded, torch.tensor([1, 0]), x.shape[2:], flip=True)
    windows = padded.unfold(2, 4, 1).unfold(3, 4, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    for got, able in zip(moved, windows.flip(0), strict=True):
        assert any((got == w).all() or (got == w.flip(-1)).all() for w in able)


def test_made_photographs_differ_and_have_the_size(tmp_path, monkeypatch):
    from PIL import Image

    maker = script("photo_maker")
    monkeypatch.setattr(sys, "argv", ["maker", str(tmp_path / "none"), str(tmp_path), "3"])
    maker.main()
    files = sorted(tmp_path.rglob("*.jpg"))
    assert [file.parent.name for file in files] == ["one", "one", "two"]
    assert len({file.read_bytes() for file in files}) == 3
    with Image.open(files[0]) as photo:
        assert photo.size == (500, 375)


def test_every_claim_of_the_canon_names_a_network_and_data_that_exist():
    canon, made = script("canon"), script("canon_data").MADE
    for one in canon.CLAIMS:
        assert one.words[one.words.index("--model") + 1] in MODELS
        assert one.data in made or one.data in NAMES
        assert 0 <= one.floor < 1
    assert len({one.system for one in canon.CLAIMS}) == len(canon.CLAIMS)


def test_the_table_of_the_canon_judges_by_the_mean(monkeypatch, tmp_path):
    canon = script("canon")
    rows = [row("lenet5", accuracy=right, seed=n) for n, right in enumerate((0.98, 0.99, 0.995))]
    rows += [row("cresceptron", accuracy=0.7), row("denker1989", error="exit 1: broken")]
    text = canon.table(rows)
    assert (
        "| lenet5 | mnist | 3 | 98.83 (98.00-99.50) | 1 | 98.7 | 99.05 % | C-61 | reached |" in text
    )
    assert "**missed**" in text.splitlines()[2]
    assert "FAILED: denker1989, seed 0: exit 1: broken" in text
    monkeypatch.setattr(canon, "HERE", tmp_path / "benchmarks")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "src" / "striate" / "models").mkdir(parents=True)
    canon.record([{"machine": "a machine", "rows": [asdict(one) for one in rows]}])
    kept = json.loads((tmp_path / "src/striate/models/reached.json").read_text())
    assert kept["lenet5"][0]["mean"] == "98.83"
    page = tmp_path / "benchmarks" / "CANON.md"
    assert "a machine" in page.read_text()
    with page.open("a") as file:
        file.write("\nby hand\n")
    later = [asdict(row("lenet5", accuracy=1.0, seed=1))]
    runs = [{"within 2 px": 0.9, "class": 0.99}]
    canon.record([{"rows": later}, {"experiment": "canvas", "runs": runs}])
    text = page.read_text()
    assert "| lenet5 | mnist | 3 | 99.17 (98.00-100.00)" in text  # a seed measured anew
    assert "| cresceptron | mnist-200.npz | 1 | 70.00" in text  # kept
    assert (
        "| canvas | within 2 px | 1 | 0.900 (0.900-0.900) | >= 0.95 | - | C-73 | **missed** |"
        in text
    )
    assert text.endswith("by hand\n")
    home = tmp_path / "benchmarks" / "canon.json"
    home.write_text(home.read_text().replace("--epochs 10", "--epochs 9"))
    canon.record([{"rows": later}])
    assert "| lenet5 | mnist | 1 | 100.00" in page.read_text()  # the others were trained otherwise
