"""Batches: order, rank shard, position; samples become normalised float tensors here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from striate.data.augment import Augment, Draw, mixup
from striate.data.prepare import scaling
from striate.spec import Spec

__all__ = ["Loader", "normaliser"]

# Values changed at a time: few enough to stay in the cache and below what the allocator gives
# back to the system after each use, which would cost a page fault for every 4 KiB.
AT_ONCE = 2**20


@dataclass
class Loader:
    """Iterate over batches (x, y); each pass is one epoch and continues at `step`.

    x (N, C, *S) is float32 and normalised; y is (N,) int64, or (N, K) float32 shares when
    samples have weights or are mixed. Everything random is a function of `seed` and `step`, so
    a loader put back to a step repeats what came after it to the bit.

    Args:
        x: (n, C, *S) stored samples, e.g. a memory map.
        y: (n,) int64 class of each.
        spec: what a sample is; its mean and std normalise.
        index: the samples to draw from; None is all.
        batch: samples a batch.
        shuffle: draw a new order every epoch.
        augment: changes of the samples.
        mix: parameter of mixup; 0 is off.
        weights: (n,) weight of each sample in the loss, mean 1.
        seed: of order and changes.
        rank: this process takes the samples rank, rank + world, ... of the order.
        world: number of processes.
        device: where batches are put.
        step: batches given out so far, over all epochs.
    """

    x: np.ndarray
    y: np.ndarray
    spec: Spec
    index: np.ndarray | None = None
    batch: int = 64
    shuffle: bool = False
    augment: Augment = field(default_factory=Augment)
    mix: float = 0.0
    weights: np.ndarray | None = None
    seed: int = 0
    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    step: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1; got {self.batch}")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank must lie in 0 to {self.world - 1}; got {self.rank}")
        if self.index is None:
            self.index = np.arange(len(self.x))
        self._normalise = normaliser(self.spec, self.device)
        self._known: tuple[int, np.ndarray, np.ndarray] | None = None  # order of the last epoch

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._cuts()) - 1

    @property
    def samples(self) -> int:
        """Samples an epoch of this rank; every rank has the same number."""
        assert self.index is not None  # set by __post_init__
        return -(-len(self.index) // self.world) if len(self.index) else 0

    @property
    def epoch(self) -> float:
        """Passes over the samples so far."""
        return self.step / max(1, len(self))

    def _cuts(self) -> np.ndarray:
        """Where batches begin; a last batch of one joins the one before when shuffled.

        Batch normalisation cannot learn from one sample, and must not be asked to.
        """
        cuts = np.append(np.arange(0, self.samples, self.batch), self.samples)
        if self.shuffle and len(cuts) > 2 and cuts[-1] - cuts[-2] == 1 < self.batch:
            cuts = np.delete(cuts, -2)
        return cuts

    def _order(self, epoch: int) -> np.ndarray:
        assert self.index is not None  # set by __post_init__
        order = self.index
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        short = self.samples * self.world - len(order)
        return np.concatenate([order, order[:short]])[self.rank :: self.world]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        cuts = self._cuts()
        if len(cuts) < 2:
            return
        epoch, first = divmod(self.step, len(cuts) - 1)
        order = self._order(epoch)
        for k in range(first, len(cuts) - 1):
            self.step += 1
            yield self.read(order[cuts[k] : cuts[k + 1]], epoch)
        if not self.shuffle:
            self.step = 0

    def batch_at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return batch number `step`, counted over all epochs, wherever this loader stands."""
        epoch, k = divmod(step, len(self))
        if self._known is None or self._known[0] != epoch:
            self._known = (epoch, self._order(epoch), self._cuts())
        _, order, cuts = self._known
        return self.read(order[cuts[k] : cuts[k + 1]], epoch)

    def read(self, rows: np.ndarray, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return the batch of the samples `rows` as epoch `epoch` shows it; channels last."""
        few = max(1, AT_ONCE // self.spec.values)
        order = torch.channels_last if self.spec.axes == 2 else torch.contiguous_format
        x = torch.empty((len(rows), *self.spec.shape), device=self.device, memory_format=order)
        for i in range(0, len(rows), few):
            x[i : i + few] = self._some(rows[i : i + few], epoch)
        y = torch.from_numpy(self.y[rows]).to(self.device)
        if self.weights is None and not self.mix:
            return x, y
        shares = torch.nn.functional.one_hot(y, len(self.spec.classes)).float()
        if self.weights is not None:
            shares *= torch.from_numpy(self.weights[rows]).float().to(self.device)[:, None]
        draw = Draw(self.seed, epoch, rows)
        return mixup(x, shares, draw, self.mix) if self.mix else (x, shares)

    def _some(self, rows: np.ndarray, epoch: int) -> Tensor:
        """Return some samples changed and normalised."""
        draw = Draw(self.seed, epoch, rows)
        raw, outside = self.augment.read(self.x, draw, self.device)
        x = self._normalise(raw)
        if outside is not None:
            x = x.masked_fill(outside.to(self.device), 0.0)
        return self.augment.change(x, draw)


def normaliser(spec: Spec, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the function raw (N, C, *S) -> (raw - mean) / std, float32, on `device`.

    The same arithmetic to the bit as `data.prepare.normalise`, which serving uses.
    """
    shape = (1, spec.channels, *[1] * spec.axes)
    mean, scale = (torch.from_numpy(v).to(device).view(shape) for v in scaling(spec))
    return lambda raw: raw.float().sub_(mean).mul_(scale)
