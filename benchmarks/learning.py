"""What the experiments share: pictures, a plain training, and who was right."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.data.augment import Augment, Draw
from striate.data.named import read_named
from striate.device import place

__all__ = ["DIGITS", "Check", "Experiment", "answers", "changed", "learn", "pictures", "right"]

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Check:
    """What an experiment has to reach.

    Args:
        number: of the experiment's result.
        bound: its mean over the seeds must be at least this.
        paper: the published figure.
        check: of part C, or the part B that names it.
        most: it must be at most `bound` instead.
    """

    number: str
    bound: float
    paper: str
    check: str
    most: bool = False

    @property
    def wanted(self) -> str:
        """The bound as a table has it."""
        return f"{'<=' if self.most else '>='} {self.bound:g}"

    def holds(self, mean: float) -> bool:
        """Return whether the check is passed."""
        return mean <= self.bound if self.most else mean >= self.bound


@dataclass(frozen=True)
class Experiment:
    """What is run, and what has to come out.

    Args:
        run: (a seed, only a smoke run) -> numbers.
        checks: of these numbers.
        network: whose card shows them; none where it is about none.
    """

    run: Callable[[int, bool], dict[str, float]]
    checks: tuple[Check, ...]
    network: str = ""


def pictures(name: str, train: int, test: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the first pictures of a named set, 0 to 1, and their labels."""
    samples = read_named(name)
    found = []
    for part, count in (("train", train), ("test", test)):
        rows = np.flatnonzero(samples.splits == part)[:count]
        x = np.asarray(samples.arrays)[rows]
        found.append(torch.from_numpy(x).float() / (255 if x.dtype == np.uint8 else 1))
        found.append(torch.from_numpy(samples.labels[rows]))
    return found[0], found[1], found[2], found[3]


def learn(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    epochs: int,
    seed: int,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    lr: float = 3e-3,
    change: Callable[[Tensor, int, Tensor], Tensor] | None = None,
    batch: int = 64,
) -> None:
    """Train with Adam under one cycle; `change(x, epoch, rows)` augments a batch.

    The network gets Striate's kernels, as in `striate train`; its answers change by rounding.
    """
    net = place(net, torch.device("cpu"), x.dim() - 2)
    draw = torch.Generator().manual_seed(seed)
    total = epochs * -(-len(x) // batch)
    optimizer = torch.optim.Adam(net.parameters(), lr)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, max(2, total + 1))
    net.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(x), generator=draw).split(batch):
            shown = x[rows] if change is None else change(x[rows], epoch, rows)
            value = loss(net(shown), y[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            cycle.step()
    net.eval()


def changed(x: Tensor, words: str, seed: int) -> Callable[[Tensor, int, Tensor], Tensor]:
    """Return `change` for `learn`: the augmentation of `striate train --augment WORDS` of x."""
    augment, here, whole = Augment.parse(words), torch.device("cpu"), x.numpy()

    def change(batch: Tensor, epoch: int, rows: Tensor) -> Tensor:
        draw = Draw(seed, epoch, rows.numpy())
        moved, outside = augment.read(whole, draw, here)
        shown = moved if outside is None else moved.masked_fill(outside, float(whole.min()))
        return augment.change(shown, draw)

    return change


@torch.no_grad()
def answers(net: nn.Module, x: Tensor) -> Tensor:
    """Return the classes answered."""
    return torch.cat([net(part).argmax(1) for part in x.split(500)])


def right(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of right answers."""
    return float((answers(net, x) == y).float().mean())
