"""MNIST: 99.0 % of the test digits in 12 and in 25 s, 99.5 % in 120 s, cold, on two CPU cores.

    python benchmarks/mnist_99.py              # STRIATE_PEERS_PYTHON names who has keras and fastai

Everybody reads the same IDX files and is asked the official test set; the clock runs from the start
of a process to its exit. Striate is given a time, ends with a saved bundle and a report, and never
looks at the test set before. The peers are given a target, may stop at the first end of an epoch at
which the test set says 99.0 %, which favours them, and save nothing. Nobody averages answers over
changed views of a picture.

`torch-examples` is the recipe of pytorch/examples, `torch-best` its network with every flag that
PyTorch has for a CPU (see torch_peers.py), `keras` and `fastai` are as their files say.
"""

from collections.abc import Sequence

from contest import Contestant, arguments, compete, machine, options, peer, striate
from tables import ACCURACY, MEMORY, RATE, WALL, ratios, table, verdict

# name, accuracy wanted, seconds there are, seconds that `striate train` is told
OWN = (
    ("striate-12", 0.99, 12, 11.8),
    ("striate", 0.99, 25, 24),
    ("striate-120", 0.995, 120, 117),
)


def contestants(quick: bool = False) -> list[Contestant]:
    """Return who competes."""
    few = ("--images", "1000", "--epochs", "1") if quick else ()

    def own(name: str, floor: float, told: float) -> Contestant:
        words = ("--epochs", "0.1") if quick else ("--seconds", str(told))
        return striate(name, "mnist", *words, target=floor)

    torch = ("torch", "torchvision")
    return [
        *(own(name, floor, told) for name, floor, _, told in OWN),
        peer(
            "torch-examples", "torch_peers.py", "examples", "mnist", *few, needs=torch, target=0.99
        ),
        peer(
            *("torch-best", "torch_peers.py", "best", "mnist"),
            *(few or ("--epochs", "4")),
            needs=torch,
            target=0.99,
        ),
        peer("keras", "keras_peer.py", "mnist", *few, needs=("keras", "torch"), target=0.99),
        peer("fastai", "fastai_peer.py", "mnist", *few, needs=("fastai",), target=0.99),
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Hold the contest and print its table."""
    chosen = arguments(options(__doc__), words)
    print(machine(), end="\n\n")
    able = contestants(chosen.quick)
    rows = compete(able, chosen)
    compared = ratios(able, rows)
    print(table(able, rows, (WALL, ACCURACY, RATE, MEMORY), compared), end="\n\n")
    for name, floor, seconds, _ in OWN:
        if any(row.name == name for row in rows):
            print(verdict(rows, name, floor, seconds))


if __name__ == "__main__":
    main()
