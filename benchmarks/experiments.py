"""Experiments of the canon that are more than one training: each prints one JSON object.

    python benchmarks/experiments.py superresolution --seed 0 1 2 --json superresolution.json

Every experiment is a function of a seed (and of `quick`, a smoke run) that returns numbers, and
says which of them has to reach what. `canon.py --record` puts them beside the trainings.
"""

import argparse
import json
from pathlib import Path

import maps
import pioneers
import speech
import vision

__all__ = ["EXPERIMENTS", "main"]

EXPERIMENTS = pioneers.EXPERIMENTS | speech.EXPERIMENTS | maps.EXPERIMENTS | vision.EXPERIMENTS


def main() -> None:
    """Run one experiment; print its numbers, one line a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for `canon.py --record`")
    chosen = parser.parse_args()
    runs = []
    for seed in chosen.seed:
        runs.append(EXPERIMENTS[chosen.name].run(seed, chosen.quick))
        print(json.dumps(runs[-1]), flush=True)
        if chosen.json:
            text = json.dumps({"experiment": chosen.name, "runs": runs}, indent=1)
            chosen.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
