"""Photographs from scratch: 40 of ants and bees to learn from, 20 to be asked. It is hard.

    python benchmarks/photos.py --rounds 5

No floor and no peer: the figure is reported with its interval. All seeds are asked the same 20
photographs, so more seeds say how much luck is in the start of the training and in its order, and
do not narrow the interval, which is Wilson's for the mean share of them.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean

from contest import (
    Contestant,
    Row,
    accuracy_of,
    arguments,
    compete,
    data_folder,
    machine,
    options,
    striate,
)
from tables import ACCURACY, EPOCHS, MEMORY, WALL, table


def contestants(data: str, quick: bool = False) -> list[Contestant]:
    """Return who competes."""
    return [striate("striate", data, *(("--epochs", "1", "--size", "32") if quick else ()))]


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share of n.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209.
    """
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def summary(rows: Sequence[Row]) -> str:
    """Return the mean accuracy with its interval."""
    good = [row for row in rows if not row.error]
    right = [share for row in good if (share := accuracy_of(row)) is not None]
    if not right:
        return "nothing was measured"
    scores = good[0].result["scores"]
    split = "test" if "test" in scores else next(iter(scores))
    n = scores[split]["accuracy"]["n"]
    low, high = wilson(fmean(right), n)
    seeds = ", ".join(f"{share:.0%}" for share in right)
    return (
        f"mean {split} accuracy {fmean(right):.1%} of {n} photographs, 95 % interval {low:.1%} to "
        f"{high:.1%}; seeds: {seeds}"
    )


def main(words: Sequence[str] | None = None) -> None:
    """Run every seed and print the table."""
    chosen = arguments(options(__doc__, rounds=5), words)
    home = data_folder()
    if home is None or not (home / "hymenoptera").is_dir():
        raise SystemExit("hymenoptera: no local copy; name a folder of data sets with STRIATE_DATA")
    print(machine(), end="\n\n")
    able = contestants(str(home / "hymenoptera"), chosen.quick)
    rows = compete(able, chosen)
    print(table(able, rows, (WALL, ACCURACY, EPOCHS, MEMORY)), end="\n\n")
    print(summary(rows))


if __name__ == "__main__":
    main()
