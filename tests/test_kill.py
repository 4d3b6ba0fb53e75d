"""Real processes, really killed: what goes on ends bit-identical to what was never stopped."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import striate
from striate.train.resume import newest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"),
]

EPOCHS = 120  # of three updates
TRAIN = ["--epochs", str(EPOCHS), "--set", "model.width=8", "--threads", "1", "--batch", "16",
         "--augment", "crop=2", "--checkpoint", "0.01"]  # fmt: skip
# Runs the command line with one function of `train.resume` killing the process in mid-write.
CUT = """
import os, signal, sys
from striate.train import resume
from striate.cli import run
place, name = {home}, {name!r}
real, calls = getattr(place, name), iter(range({count}))
def cut(*arguments, **options):
    if next(calls, None) is None:
        if name == "save_file":
            open(arguments[1], "wb").write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)
setattr(place, name, cut)
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with pictures in `noise` and in `whole` the run that was never stopped."""
    home = tmp_path_factory.mktemp("kill")
    dice = np.random.default_rng(0)
    for name, light in (("dark", 90), ("light", 160)):
        (home / "noise" / name).mkdir(parents=True)
        for i in range(32):
            values = dice.normal(light, 60, (16, 16)).clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(home / "noise" / name / f"{i:02}.png")
    assert finish(start(home, "train", "noise", "--out", "whole", *TRAIN)) == 0
    return home


def start(home, *arguments, code=None):
    """Start the command line in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(Path(striate.__file__).parents[1])}
    env |= {"STRIATE_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    if env.pop("PYTHONDONTWRITEBYTECODE", None):  # compiling torch would take most of the time
        env["PYTHONPYCACHEPREFIX"] = str(home / "compiled")
    command = ["-c", code] if code else ["-m", "striate"]
    return subprocess.Popen(
        [sys.executable, *command, *arguments], cwd=home, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=200)
    process.out, process.err = out, err
    if process.returncode not in (0, 130, -signal.SIGKILL):
        print(err)
    return process.returncode


def stored(run):
    found = newest(run / "state")
    return found[1]["index"] if found else -1


def stop_at(process, run, update, how):
    """Send a signal once `update` is stored."""
    until = time.monotonic() + 200
    while stored(run) < update:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.003)
    process.send_signal(how)
    return finish(process)


def weights(run):
    return (run / "bundle" / "model.safetensors").read_bytes()


def test_a_run_killed_at_five_random_updates_ends_bit_identical(home):
    dice, run = random.Random(5), home / "killed"
    process = start(home, "train", "noise", "--out", "killed", *TRAIN)
    for update in sorted(dice.sample(range(2, 3 * EPOCHS - 90), 5)):
        assert stop_at(process, run, update, signal.SIGKILL) == -signal.SIGKILL
        assert update <= stored(run) < 3 * EPOCHS
        assert not (run / "bundle").exists()
        process = start(home, "train", "--resume", "killed")
    assert finish(process) == 0
    assert weights(run) == weights(home / "whole")
    rows = [json.loads(row) for row in (run / "events.jsonl").read_text().splitlines()]
    assert sum(row["event"] == "resume" for row in rows) == 5
    epochs = [(run / "metrics.csv").read_text().count("\n") for run in (run, home / "whole")]
    assert epochs == [EPOCHS + 1] * 2


@pytest.mark.parametrize(
    ("place", "name", "count"),
    [("resume", "save_file", 20), ("resume.os", "fsync", 40), ("resume.os", "replace", 200)],
)
def test_a_kill_in_the_middle_of_a_checkpoint_leaves_a_whole_one(home, place, name, count):
    run = home / f"cut-{name}"
    code = CUT.format(home=place, name=name, count=count)
    process = start(home, "train", "noise", "--out", run.name, *TRAIN, code=code)
    assert finish(process) == -signal.SIGKILL
    assert stored(run) > 0
    process = start(home, "train", "--resume", run.name)
    assert finish(process) == 0
    assert weights(run) == weights(home / "whole")
    assert not list(run.glob("**/*.part"))


def test_ctrl_c_says_how_to_go_on_and_loses_no_update(home):
    run = home / "stopped"
    process = start(home, "train", "noise", "--out", "stopped", *TRAIN)
    assert stop_at(process, run, 100, signal.SIGINT) == 130
    assert f"update {stored(run)} is kept: go on with\n  striate train --resume stopped" in (
        process.err
    )
    assert "Traceback" not in process.err
    assert process.out == ""
    process = start(home, "train", "--resume", "stopped", "--json")
    assert finish(process) == 0
    assert json.loads(process.out)["epochs"] == EPOCHS
    assert weights(run) == weights(home / "whole")


def test_a_time_budget_is_kept_and_can_be_made_longer(home):
    least = wall(start(home, "train", "noise", "--epochs", "1", "--out", "least"))
    budget = round(4 + 2 * least)  # twice what importing, scoring and saving take on this host
    near = 3 + least / 4
    process = start(home, "train", "noise", "--seconds", str(budget), "--out", "timed", "--json")
    assert abs(wall(process) - budget) < near + 1  # one second for the process to end
    assert abs(json.loads(process.out)["seconds"] - budget) < near
    before = stored(home / "timed")
    longer = str(2 * budget + 4)
    process = start(home, "train", "--resume", "timed", "--seconds", longer, "--json")
    assert finish(process) == 0
    assert abs(json.loads(process.out)["seconds"] - int(longer)) < near
    assert stored(home / "timed") > before


def wall(process):
    """Let a process that was just started end well and return the seconds that took."""
    begun = time.monotonic()
    assert finish(process) == 0
    return time.monotonic() - begun


def running(pid):
    """Tell whether a process is there and no mere entry of one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="processes are read from /proc")
def test_workers_do_not_outlive_who_follows_them(home):
    words = ["--model", "chaos_small", "--size", "29", "--processes", "2", "--epochs", "100000"]
    process = start(home, "train", "noise", "--out", "orphans", *words, "--checkpoint", "0.01")
    while stored(home / "orphans") < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len([pid for pid in children if running(pid)]) == 2
    process.kill()
    until = time.monotonic() + 20
    while any(running(pid) for pid in children):
        assert time.monotonic() < until, "the workers went on"
        time.sleep(0.05)
    assert finish(process) == -signal.SIGKILL
