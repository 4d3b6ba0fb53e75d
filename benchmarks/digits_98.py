"""The embedded digits: `striate train`, 98.5 % of the test digits in 15 s including start-up.

    python benchmarks/digits_98.py --rounds 5

The 1,797 digits of 8x8 pixels that scikit-learn carries; Striate draws its own split, a fifth to
test, and another one for every seed. There is no peer: the claim is that a first try needs no data,
no option and no patience.
"""

from collections.abc import Sequence

from contest import Contestant, arguments, compete, machine, options, striate
from tables import ACCURACY, EPOCHS, MEMORY, WALL, table, verdict


def contestants(quick: bool = False) -> list[Contestant]:
    """Return who competes."""
    return [striate("striate", *(("--epochs", "3") if quick else ()), target=0.985)]


def main(words: Sequence[str] | None = None) -> None:
    """Run every seed and print the table."""
    chosen = arguments(options(__doc__, rounds=5), words)
    print(machine(), end="\n\n")
    able = contestants(chosen.quick)
    rows = compete(able, chosen)
    print(table(able, rows, (WALL, ACCURACY, EPOCHS, MEMORY)), end="\n\n")
    print(verdict(rows, "striate", 0.985, 15))


if __name__ == "__main__":
    main()
