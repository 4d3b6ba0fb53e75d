"""Run contestants in turn, each in a new process, and note what they did and used.

A contest goes A B C A B C ..., so that a change of the machine's load falls on all of them. The
clock runs outside, from the start of a process to its exit: imports, reading, training, scoring
and saving are in it for everybody. A contestant prints one JSON object as its last line.

This file imports neither numpy nor torch: a child inherits the largest memory of its parent.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any

__all__ = [
    "Contestant",
    "Row",
    "accuracy_of",
    "arguments",
    "compete",
    "data_folder",
    "machine",
    "options",
    "peer",
    "peers_python",
    "say",
    "striate",
    "views_of",
]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGES = ("torch", "torchvision", "numpy", "keras", "fastai")


@dataclass(frozen=True)
class Contestant:
    """One way to do the job.

    Args:
        name: in the table.
        command: (seed, an empty folder of its own) -> the command.
        needs: packages that the peers' interpreter must have; without one it is left out.
        target: accuracy, 0 to 1, that this contestant has to reach.
        limit: seconds after which it is stopped and counted as failed.
    """

    name: str
    command: Callable[[int, Path], list[str]]
    needs: tuple[str, ...] = ()
    target: float = 0.0
    limit: float = 7200.0


@dataclass(frozen=True)
class Row:
    """What one process did.

    Args:
        wall: seconds from its start to its exit.
        cpu: seconds of processor time; -1 where nobody can say.
        memory: largest resident set of the process or of one of its children, in bytes; -1 where
            nobody can say.
        others: cores that other processes kept busy meanwhile; -1 where nobody can say.
        load: one-minute load before the start; -1 where nobody can say.
        result: the JSON object it printed.
        error: why it failed; empty where it did not.
    """

    name: str
    seed: int
    wall: float
    cpu: float
    memory: int
    others: float
    load: float
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def peers_python() -> str:
    """Return the interpreter that has the peers: $STRIATE_PEERS_PYTHON, or this one."""
    return os.environ.get("STRIATE_PEERS_PYTHON") or sys.executable


def data_folder() -> Path | None:
    """Return the folder of data sets: $STRIATE_DATA, or `shared/data` beside the checkout."""
    named = os.environ.get("STRIATE_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def striate(name: str, *words: str, target: float = 0.0) -> Contestant:
    """Return `striate train WORDS` as a contestant."""

    def command(seed: int, scratch: Path) -> list[str]:
        own = ["--json", "--seed", str(seed), "--out", str(scratch / "run")]
        return [sys.executable, "-m", "striate", "train", *words, *own]

    return Contestant(name, command, target=target)


def peer(
    name: str, script: str, *words: str, needs: Sequence[str], target: float = 0.0
) -> Contestant:
    """Return a script of this folder, run by the peers' interpreter, as a contestant."""

    def command(seed: int, scratch: Path) -> list[str]:
        own = ["--target", str(target)] * bool(target)
        return [peers_python(), str(HERE / script), *words, *own, "--seed", str(seed)]

    return Contestant(name, command, needs=tuple(needs), target=target)


def options(about: str | None, rounds: int = 3) -> argparse.ArgumentParser:
    """Return the options that every contest has; `about` is the script's docstring."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help=f"runs of each, a seed each [{rounds}]")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="first seed [0]")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures say nothing")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="run this contestant; may be repeated"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every single run here")
    parser.set_defaults(usual=rounds)
    return parser


def arguments(
    parser: argparse.ArgumentParser, words: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse `words` (None: the command line) and settle the number of rounds."""
    chosen = parser.parse_args(words)
    if chosen.rounds is None:
        chosen.rounds = 1 if chosen.quick else chosen.usual
    if chosen.rounds < 1:
        parser.error(f"--rounds must be at least 1; got {chosen.rounds}")
    return chosen


def say(text: str) -> None:
    """Print a line of talk; stdout is for the tables."""
    print(text, file=sys.stderr, flush=True)


def compete(contestants: Iterable[Contestant], chosen: argparse.Namespace) -> list[Row]:
    """Run everybody once a round; a failure is a row with its reason, and the contest goes on."""
    contestants = list(contestants)
    unknown = set(chosen.only or ()) - {c.name for c in contestants}
    if unknown:
        names = ", ".join(c.name for c in contestants)
        raise SystemExit(f"--only wants one of {names}; got {', '.join(sorted(unknown))}")
    able = [c for c in contestants if c.name in (chosen.only or [c.name]) and _has_needs(c)]
    rows: list[Row] = []
    for seed in range(chosen.first, chosen.first + chosen.rounds):
        for contestant in able:
            rows.append(_run(contestant, seed))
            _say_row(rows[-1])
            if chosen.json:
                _save(chosen.json, rows)
    return rows


def _has_needs(contestant: Contestant) -> bool:
    """Say whether the peers' interpreter has the packages; speak where it has not."""
    code = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if not u.find_spec(n)])"
    if not contestant.needs:
        return True
    words = [peers_python(), "-c", code, *contestant.needs]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    missing = answer.stdout.strip()
    if missing != "[]":
        say(f"{contestant.name}: left out, {peers_python()} lacks {missing}")
    return missing == "[]"


def _run(contestant: Contestant, seed: int) -> Row:
    """Run one process to its end and look at what it used."""
    with TemporaryDirectory(prefix="contest-") as folder:
        scratch = Path(folder, "work")
        scratch.mkdir()
        load, busy, begun = os.getloadavg()[0], _busy(), time.monotonic()
        with open(Path(folder, "out"), "w+") as out, open(Path(folder, "err"), "w+") as err:
            child = subprocess.Popen(
                contestant.command(seed, scratch),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=scratch,
                env=_environment(Path(folder), begun),
            )
            status, used = _wait(child, contestant.limit)
            wall = time.monotonic() - begun
            out.seek(0)
            err.seek(0)
            result, error = _read(out.read(), err.read(), status)
    cpu = used.ru_utime + used.ru_stime
    others = (_busy() - busy - cpu) / wall if busy >= 0 else -1.0
    unit = 1 if sys.platform == "darwin" else 1024
    memory = used.ru_maxrss * unit
    return Row(contestant.name, seed, wall, cpu, memory, others, load, result, error)


def _environment(folder: Path, begun: float) -> dict[str, str]:
    """Return the environment of a cold run: no cache of an earlier one, data where they are."""
    own = {"STRIATE_CACHE": str(folder / "cache"), "CONTEST_BEGUN": repr(begun)}
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    own["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    if data := data_folder():
        own["STRIATE_DATA"] = str(data)
    return {**os.environ, **own}


def _wait(child: "subprocess.Popen[bytes]", limit: float) -> tuple[int, Any]:
    """Wait for a process, kill it at its limit; return its exit status and its usage."""
    timer = Timer(limit, child.kill)
    timer.start()
    try:
        _, status, used = os.wait4(child.pid, 0)
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        timer.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)  # else Popen would wait again
    return child.returncode, used


def _read(out: str, err: str, status: int) -> tuple[dict[str, Any], str]:
    """Return the object in the last line of stdout, or why there is none."""
    if status:
        return {}, f"exit {status}: {' '.join(err.strip().splitlines()[-3:])}"
    try:
        result = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {}, f"no JSON in its last line; it printed {out[-200:]!r}"
    return result, ""


def _busy() -> float:
    """Return the processor seconds that this machine has worked; -1 where nobody can say."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
    except OSError:
        return -1.0
    user, nice, system, _idle, _waiting, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _say_row(row: Row) -> None:
    what = row.error
    if not what:
        right = accuracy_of(row)
        what = "" if right is None else f"accuracy {right:.2%}"
    say(f"{row.name:16} seed {row.seed}  {row.wall:8.1f} s  others {row.others:.2f} cores  {what}")


def _save(path: Path, rows: list[Row]) -> None:
    record = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")


def machine() -> str:
    """Return one line: processor, cores, versions of both interpreters, load."""
    known = {python: _versions(python) for python in {sys.executable, peers_python()}}
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    text = f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
    text += known[sys.executable]
    if peers_python() != sys.executable:
        text += f"; peers: {known[peers_python()]}"
    threads = os.environ.get("OMP_NUM_THREADS")
    return text + (f"; OMP_NUM_THREADS {threads}" if threads else "") + f"; load {load}"


def _versions(python: str) -> str:
    code = (
        "import sys, importlib.metadata as m\n"
        "for n in sys.argv[1:]:\n"
        "    try: print(n, m.version(n), end=', ')\n"
        "    except m.PackageNotFoundError: pass"
    )
    words = [python, "-c", code, *PACKAGES]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    return answer.stdout.rstrip(", ")


def _processor() -> str:
    """Return the model of the processor and the widest instructions that matter here."""
    facts = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                facts.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    name = facts.get("model name", platform.machine())
    return f"{name} ({'+'.join(wide)})" if wide else name


def views_of(row: Row) -> float | None:
    """Return the test accuracy of answers averaged over changed views, 0 to 1, if it was asked."""
    scores = row.result.get("scores") or {}
    return scores["test_views"]["accuracy"]["value"] if "test_views" in scores else None


def accuracy_of(row: Row) -> float | None:
    """Return the test accuracy, 0 to 1, of a peer's row or of one of `striate train --json`."""
    scores = row.result.get("scores")
    if not scores:
        return row.result.get("accuracy")
    split = "test" if "test" in scores else next(iter(scores))
    return scores[split]["accuracy"]["value"]
