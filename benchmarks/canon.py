"""The canon trained: every system on its stand-in data, published beside measured.

    python benchmarks/canon.py --only lenet5 --json lenet5.json     # one system, three seeds
    python benchmarks/canon.py --table lenet5.json simard2003.json  # a table of what was measured
    python benchmarks/canon.py --record *.json                      # CANON.md, and what cards show

--record also takes what `experiments.py --json` wrote.

Each line of CLAIMS is a system, its data, what `striate train` is told, the floor and the published
figure. A run is a process of its own, asked the official test set once, at its end. The stand-in is
not the paper's data unless the line says so; where the paper's data are not to be had, its figure
stands beside only to show where the bar was.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from contest import Contestant, Row, accuracy_of, arguments, compete, machine, options, striate

HERE = Path(__file__).resolve().parent
HEAD = """# The canon, published and here

Written by `benchmarks/canon.py --record`. Each row is a network trained by `striate train` on the
data named, asked the official test set once, at the end of each of n seeds: mean, least to most.
*Floor* is the stand-in's, fixed before; *paper* is the published figure, on the paper's data, which
are the row's own only where they are named alike. Wall clock is of the whole process; it bounds the
time from above where other work shared the machine, as it did here.
"""
PLAIN = "--augment none"
GROWN = f"--epochs 4 {PLAIN}"
ALL = "--validation 0"  # a set so small is needed whole
NOTES = "## Notes"  # written by hand, from here on
HAND = "affine=12,elastic=30,translate=1"
COLUMN = "--epochs 14 --lr 0.02 --augment affine=10,translate=1"  # on the last 10,000 digits


@dataclass(frozen=True)
class Claim:
    """One system, trained.

    Args:
        system: name in MODELS, perhaps with a word behind it.
        data: a name, or a file of `canon_data.MADE`.
        words: of `striate train`.
        floor: accuracy, 0 to 1, wanted of the mean; 0: report only.
        paper: the published figure.
        check: of part C.
    """

    system: str
    data: str
    words: tuple[str, ...]
    floor: float
    paper: str
    check: str = ""


def claim(
    name: str, data: str, words: str, floor: float, paper: str, check: str = "", model: str = ""
) -> Claim:
    """Return a claim; the network is called like the claim unless `model` says otherwise."""
    return Claim(name, data, ("--model", model or name, *words.split()), floor, paper, check)


CLAIMS = (
    claim("neocognitron1980", "mnist-3000-16.npz", GROWN, 0.50, "five digits", "B2"),
    claim("neocognitron1988", "mnist-3000-19.npz", GROWN, 0, "digits", "B2"),
    claim("neocognitron2003", "mnist-3000.npz", GROWN, 0.93, "98.6 % ETL1", "C-75"),
    claim("add_if_silent", "mnist-3000.npz", GROWN, 0.93, "ETL1", "C-75"),
    claim("cresceptron", "mnist-200.npz", f"--epochs 2 {PLAIN} {ALL}", 0.75, "-", "B3"),
    claim("denker1989", "usps", "--epochs 20 --augment none", 0.85, "USPS, with rejects", "B6"),
    claim("lecun1989", "mnist-16.npz", "--epochs 23 --augment none", 0.945, "95.0 % USPS", "C-60"),
    claim(
        "lecun1989 as in 1989", "usps", f"--epochs 23 {PLAIN}", 0, "95.0 %", "B7", "lecun1989",
    ),
    claim(
        "lecun1989 on USPS", "usps", "--epochs 60 --augment affine=10,translate=1", 0.945, "95.0 %",
        "headline", "lecun1989",
    ),
    claim("lenet1", "mnist", "--epochs 10", 0, "98.3 %", "B7"),
    claim("lenet5", "mnist", "--epochs 10", 0.987, "99.05 %", "C-61"),
    claim("lenet5_1998", "mnist", "--epochs 10", 0.987, "99.05 %", "C-61"),
    claim("tdnn on 3 digits", "fsdd-3.csv", "--epochs 40", 0.93, "98.5 % b, d, g", "C-65", "tdnn"),
    claim(
        "tdnn on 10 digits", "fsdd", "--epochs 40 --set model.hidden=16 --set model.units=10", 0.85,
        "98.5 % b, d, g", "C-65", "tdnn",
    ),
    claim("tdnn2d", "fsdd-3.csv", "--epochs 40", 0, "-", "B4b"),
    claim("yamaguchi1990", "fsdd", "--epochs 40", 0.85, "97.1 % of 28 words", "C-66"),
    claim(
        "simard2003 plain", "mnist-29.npz", "--epochs 20 --lr 0.01 --augment none", 0, "-", "C-62",
        "simard2003",
    ),
    claim(
        "simard2003 elastic", "mnist-29.npz",
        "--epochs 80 --lr 0.01 --augment affine=10,elastic=30", 0.994, "99.6 %", "C-62, headline",
        "simard2003",
    ),
    claim(
        "ciresan_mlp 1000-500", "mnist-29.npz",
        f"--epochs 20 --lr 0.01 --augment {HAND} --set model.units=1000-500", 0.988, "99.56 %",
        "C-63", "ciresan_mlp",
    ),
    claim("ciresan_mnist", "mnist-29.npz", COLUMN, 0, "99.6 %", "C-64"),
    claim(
        "committee", "mnist-29.npz", f"{COLUMN} --epochs 24 --set model.smoothing=0.1", 0.996,
        "99.77 %", "C-64, headline",
    ),
    claim("resnet20", "cifar10", "--epochs 15", 0.88, "91.25 %", "C-67"),
    claim(
        "capsnet reduced", "mnist", "--epochs 5 --set model.maps=64 --set model.types=8", 0.988,
        "99.75 %", "C-69", "capsnet",
    ),
)  # fmt: skip


def contestants(quick: bool, folder: Path, chosen: Sequence[str]) -> list[Contestant]:
    """Return who trains, their data made."""
    from canon_data import MADE

    able = []
    for one in CLAIMS:
        if chosen and one.system not in chosen:
            continue
        data = one.data
        if data in MADE:
            data = str(folder / one.data)
            if not Path(data).exists():
                made = [sys.executable, str(HERE / "canon_data.py"), one.data, data]
                subprocess.run(made, check=True)
        words = [*one.words, *(("--epochs", "0.05") if quick else ())]
        able.append(striate(one.system, data, *words, target=one.floor))
    return able


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table *published vs here*."""
    lines = [
        "| system | data | n | test, % (least-most) | wall, s | floor | paper | check | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in CLAIMS:
        own = [row for row in rows if row.name == one.system and not row.error]
        right = _right(one, rows)
        if not right:
            continue
        spread = f"{100 * fmean(right):.2f} ({100 * min(right):.2f}-{100 * max(right):.2f})"
        verdict = "measured"
        if one.floor:
            verdict = "reached" if fmean(right) >= one.floor else "**missed**"
        wall = f"{fmean(row.wall for row in own):.0f}"
        floor = f"{100 * one.floor:.1f}" if one.floor else "-"
        cells = [one.system, one.data, str(len(right)), spread, wall, floor, one.paper, one.check]
        lines.append("| " + " | ".join([*cells, verdict]) + " |")
    lines += [f"FAILED: {row.name}, seed {row.seed}: {row.error}" for row in rows if row.error]
    return "\n".join(lines)


def record(found: Sequence[dict[str, Any]]) -> list[Row]:
    """Write CANON.md, and models/reached.json, which the cards of the networks show.

    What was recorded before and is not in `found` stays, in canon.json: other systems, and other
    seeds of a system that was trained by the same words.

    Args:
        found: what `--json` of this script and of experiments.py wrote.
    """
    kept = _merged(found)
    rows = [Row(**row) for row in kept["rows"]]
    home = HERE.parent / "src" / "striate" / "models" / "reached.json"
    home.write_text(
        json.dumps(_reached(rows, kept["experiments"]), indent=1) + "\n", encoding="utf-8"
    )
    page = HERE / "CANON.md"
    notes = page.read_text(encoding="utf-8").partition(NOTES)[2] if page.exists() else ""
    tables = [table(rows), "## Experiments", checked(kept["experiments"])]
    parts = [HEAD, kept["machine"], *tables, NOTES + notes]
    page.write_text("\n\n".join(p.strip() for p in parts) + "\n", encoding="utf-8")
    (HERE / "canon.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return rows


def _merged(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return all that was recorded, what is in `found` in place of what was there of it."""
    home = HERE / "canon.json"
    kept = json.loads(home.read_text(encoding="utf-8")) if home.exists() else {}
    rows = [row for one in found for row in one.get("rows", ())]
    experiments = [one for one in found if "experiment" in one]
    titles = {one["experiment"] for one in experiments}
    told = {one.system: " ".join(one.words) for one in CLAIMS}
    for row in rows:
        right = accuracy_of(Row(**row))
        row["result"] = {} if right is None else {"accuracy": right, "words": told[row["name"]]}
    names = {row["name"] for row in rows}
    new = {(row["name"], row["seed"]) for row in rows}
    rows += [
        row
        for row in kept.get("rows", ())
        if row["name"] not in names
        or ((row["name"], row["seed"]) not in new and row["result"]["words"] == told[row["name"]])
    ]
    experiments += [one for one in kept.get("experiments", ()) if one["experiment"] not in titles]
    machines = [one["machine"] for one in found if "machine" in one]
    return {
        "machine": machines[0] if machines else kept["machine"],
        "rows": sorted(rows, key=lambda row: (row["name"], row["seed"])),
        "experiments": sorted(experiments, key=lambda one: str(one["experiment"])),
    }


def _reached(
    rows: Sequence[Row], experiments: Sequence[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return what the cards say of each network."""
    from experiments import EXPERIMENTS

    reached: dict[str, list[dict[str, Any]]] = {}
    for one in CLAIMS:
        right = [f"{100 * value:.2f}" for value in sorted(_right(one, rows))]
        if not right:
            continue
        name = one.words[one.words.index("--model") + 1]
        reached.setdefault(name, []).append({
            "what": f"test accuracy on {one.data}, %",
            "mean": f"{100 * fmean(_right(one, rows)):.2f}",
            "low": right[0],
            "high": right[-1],
            "n": len(right),
            "wanted": f">= {100 * one.floor:g}" if one.floor else "-",
            "command": f'python benchmarks/canon.py --only "{one.system}"',
        })  # fmt: skip
    for found in experiments:
        experiment = EXPERIMENTS[found["experiment"]]
        for check in experiment.checks if experiment.network else ():
            got = sorted(run[check.number] for run in found["runs"])
            reached.setdefault(experiment.network, []).append({
                "what": f"{found['experiment']}: {check.number}",
                "mean": f"{fmean(got):.3f}",
                "low": f"{got[0]:.3f}",
                "high": f"{got[-1]:.3f}",
                "n": len(got),
                "wanted": check.wanted,
                "command": f"python benchmarks/experiments.py {found['experiment']}",
            })  # fmt: skip
    return reached


def checked(experiments: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table of the experiments that are more than one training."""
    from experiments import EXPERIMENTS

    lines = [
        "| experiment | number | n | mean (least-most) | wanted | paper | check | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in experiments:
        for check in EXPERIMENTS[one["experiment"]].checks:
            got = [run[check.number] for run in one["runs"]]
            spread = f"{fmean(got):.3f} ({min(got):.3f}-{max(got):.3f})"
            verdict = "reached" if check.holds(fmean(got)) else "**missed**"
            cells = [one["experiment"], check.number, str(len(got)), spread, check.wanted]
            lines.append("| " + " | ".join([*cells, check.paper, check.check, verdict]) + " |")
    return "\n".join(lines)


def _right(one: Claim, rows: Sequence[Row]) -> list[float]:
    """Return the accuracies of a claim's runs."""
    own = [row for row in rows if row.name == one.system and not row.error]
    return [value for row in own if (value := accuracy_of(row)) is not None]


def main(words: Sequence[str] | None = None) -> None:
    """Train what was chosen, or put older results into a table."""
    parser = options(__doc__)
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="results to show")
    parser.add_argument("--record", nargs="+", type=Path, metavar="FILE", help="results to write")
    chosen = arguments(parser, words)
    if files := chosen.table or chosen.record:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        if chosen.record:
            rows = record(found)
        else:
            rows = [Row(**row) for one in found for row in one.get("rows", ())]
        print(table(rows))
        return
    print(machine(), end="\n\n")
    with TemporaryDirectory(prefix="canon-") as folder:
        rows = compete(contestants(chosen.quick, Path(folder), chosen.only or ()), chosen)
    print(table(rows))


if __name__ == "__main__":
    main()
