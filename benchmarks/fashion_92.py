"""Fashion-MNIST: 92.5 % of the test pictures in 300 s, cold, on two CPU cores.

    python benchmarks/fashion_92.py

Both are given the same seconds, from the start of the process to its exit, scoring included, and
plan their learning rate for them. `torch-best` is PyTorch's MNIST example network with every flag
that PyTorch has for a CPU, mirrored and shifted by up to two pixels (see torch_peers.py). Nobody
averages answers over changed views.
"""

from collections.abc import Sequence

from contest import Contestant, arguments, compete, machine, options, peer, striate
from tables import ACCURACY, EPOCHS, MEMORY, RATE, WALL, table, verdict


def contestants(seconds: float, quick: bool = False) -> list[Contestant]:
    """Return who competes."""
    budget = ("--seconds", str(seconds))
    few = ("--images", "2000") if quick else ()
    best = ("best", "fashion-mnist", "--pad", "2", "--flip", *budget, *few)
    own = ("--epochs", "0.1") if quick else budget
    return [
        striate("striate", "fashion-mnist", *own, target=0.925),
        peer("torch-best", "torch_peers.py", *best, needs=("torch",), target=0.925),
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Hold the contest and print its table."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, help="budget of each run [295]")
    chosen = arguments(parser, words)
    seconds = chosen.seconds or (10.0 if chosen.quick else 295.0)
    print(machine(), end="\n\n")
    able = contestants(seconds, chosen.quick)
    rows = compete(able, chosen)
    print(table(able, rows, (WALL, ACCURACY, EPOCHS, RATE, MEMORY)), end="\n\n")
    print(verdict(rows, "striate", 0.925, 300))


if __name__ == "__main__":
    main()
