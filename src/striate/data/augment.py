"""Random changes of whole batches, for any number of axes.

Three kinds, in three tables: INDEX changes say which stored value each position shows, and all of
them together are one gather that also picks the samples; PLACE changes say between which values a
position looks, and neighbours among them are one interpolation; VALUE changes work on the
normalised float batch. Every random number is a hash of (seed, epoch, sample, lane): a sample gets
the same change whatever its batch, the order, the rank or the number of processes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf, pi, prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.errors import RecipeError, suggest

__all__ = ["INDEX", "PLACE", "VALUE", "Augment", "Draw", "mixup"]

SMOOTH = 4 / 29  # of an elastic field: sigma, as a share of the side
_WEYL, _ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1342543DE82EF95)


def _mix(z: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers (Steele, Lea, Flood 2014, SplitMix64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass
class Draw:
    """Random numbers of one batch, one row a sample; each call takes fresh lanes.

    Args:
        seed: of the run.
        epoch: pass over the data, from 0.
        samples: (N,) numbers of the samples in the data set.
        lane: the next lane.
    """

    seed: int
    epoch: int
    samples: np.ndarray
    lane: int = 0

    def bits(self, count: int, every_epoch: bool = True) -> np.ndarray:
        """Return (N, count) 64-bit integers; without `every_epoch` the same ones in all epochs."""
        lanes = np.arange(self.lane, self.lane + count, dtype=np.uint64)
        self.lane += count
        epoch = np.array([self.epoch if every_epoch else 0], np.uint64)
        run = _mix(_mix(np.array([self.seed], np.uint64) * _ODD) + epoch * _WEYL)
        sample = _mix(run + self.samples.astype(np.uint64) * _ODD)
        return _mix(sample[:, None] + (lanes[None] + np.uint64(1)) * _WEYL)

    def uniform(self, count: int = 1) -> Tensor:
        """Return (N, count) float32 numbers in [0, 1)."""
        high = (self.bits(count) >> np.uint64(40)).astype(np.float32)
        return torch.from_numpy(high * np.float32(2.0**-24))

    def between(self, low: float, high: float, count: int = 1) -> Tensor:
        """Return (N, count) float32 numbers in [low, high)."""
        return low + (high - low) * self.uniform(count)

    def integers(self, low: int, high: int, count: int = 1) -> Tensor:
        """Return (N, count) int64 numbers from low to high, both included."""
        span = np.uint64(high - low + 1)
        return low + torch.from_numpy((self.bits(count) % span).astype(np.int64))


# An index change takes the index of each axis, (N, S) positions in the stored sample, and returns
# it changed. -1 marks a position outside, which shows the mean.
Index = list[Tensor]


def flip(index: Index, draw: Draw, amount: float) -> Index:
    """Mirror the last axis of every other sample, and in the next epoch of the others.

    Source: Jordan 2024, arXiv:2404.00498, section 3.6 (alternating flip).
    """
    odd = (draw.bits(1, every_epoch=False) + np.uint64(draw.epoch)) % np.uint64(2) == 1
    return [*index[:-1], torch.where(torch.from_numpy(odd), index[-1].flip(1), index[-1])]


def flips(index: Index, draw: Draw, amount: float) -> Index:
    """Mirror every axis with probability 1/2, for data without an upright."""
    side = draw.uniform(len(index)) < 0.5
    return [torch.where(side[:, k : k + 1], i.flip(1), i) for k, i in enumerate(index)]


def crop(index: Index, draw: Draw, amount: float) -> Index:
    """Move by up to `amount` samples along each axis; what comes in is mirrored at the border."""
    moved = []
    for i in index:
        place, last = _move(i, draw, amount), i.shape[1] - 1
        moved.append(i.gather(1, last - (last - place.abs()).abs()))
    return moved


def translate(index: Index, draw: Draw, amount: float) -> Index:
    """Move by up to `amount` samples along each axis; what comes in is the mean."""
    moved = []
    for i in index:
        place, last = _move(i, draw, amount), i.shape[1] - 1
        outside = (place < 0) | (place > last)
        moved.append(i.gather(1, place.clamp(0, last)).masked_fill(outside, -1))
    return moved


def _move(line: Tensor, draw: Draw, amount: float) -> Tensor:
    """Return where each position of one axis looks, (N, S), at most S - 1 past either end."""
    size = line.shape[1]
    reach = min(int(amount), size - 1)
    return torch.arange(size) + draw.integers(-reach, reach)


def cutout(x: Tensor, draw: Draw, amount: float) -> Tensor:
    """Set a box of `amount` samples a side to the mean, its centre anywhere in the sample.

    Source: DeVries, Taylor 2017, arXiv:1708.04552.
    """
    hole = torch.ones((), dtype=torch.bool)
    for axis, size in enumerate(x.shape[2:]):
        centre = draw.integers(0, size - 1) - (amount - 1) / 2
        place = torch.arange(size)
        line = (place >= centre) & (place < centre + amount)
        hole = hole & _along(line, axis, x.dim() - 2)
    return x.masked_fill(hole.to(x.device), 0.0)


def affine(places: Tensor, draw: Draw, amount: float) -> Tensor:
    """Turn by up to `amount` degrees, scale and shear in proportion.

    Math: 15 degrees go with scales of 1/1.15 to 1.15 and shears of up to 0.15.
    """
    strength = amount / 100
    count, axes = len(places), places.shape[-1]
    matrix = torch.eye(axes).expand(count, axes, axes)
    for a in range(axes):
        for b in range(a + 1, axes):
            angle = draw.between(-amount, amount)[:, 0] * pi / 180
            turn = torch.eye(axes).repeat(count, 1, 1)
            turn[:, a, a] = turn[:, b, b] = angle.cos()
            turn[:, a, b], turn[:, b, a] = -angle.sin(), angle.sin()
            turn[:, a, b] += draw.between(-strength, strength)[:, 0]
            matrix = matrix @ turn
    scale = torch.exp(draw.between(-1, 1, axes) * float(np.log1p(strength)))
    whole = (matrix * scale[:, :, None]).flip(1, 2).mT
    return (places.flatten(1, -2) @ whole).view_as(places)


def zoom(x: Tensor, draw: Draw, amount: float) -> Tensor:
    """Show a random part of at least `amount` (0 to 1) of the area, aspect 3/4 to 4/3, stretched.

    Source: Szegedy et al. 2014, arXiv:1409.4842, section 6 (random resized crop).
    """
    axes = x.dim() - 2
    area = draw.between(amount, 1.0)
    shape = torch.exp(draw.between(-1, 1, axes) * float(np.log(4 / 3)) / 2)
    side = (area ** (1 / axes) * shape / shape.prod(1, keepdim=True) ** (1 / axes)).clamp(max=1)
    start = draw.uniform(axes) * (1 - side)
    for axis in range(axes):
        x = _stretch(x, axis, start[:, axis], side[:, axis])
    return x


def _stretch(x: Tensor, axis: int, start: Tensor, side: Tensor) -> Tensor:
    """Show the part [start, start + side] of one axis, 0 to 1, at its full length.

    Math: y_i = (1 - t) x_floor(p) + t x_floor(p)+1, p = place of output i, t = p - floor(p)
    """
    size = x.shape[2 + axis]
    place = start[:, None] + (torch.arange(size) + 0.5) / size * side[:, None]
    place = (place * size - 0.5).clamp(0, size - 1)
    low = place.long()
    share = _along(place - low, axis, x.dim() - 2).to(x)
    upper = _pick(x, axis, (low + 1).clamp(max=size - 1))
    return _pick(x, axis, low).lerp_(upper, share)


def _pick(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """Return x at the places `index` (N, S) along one axis.

    Whole rows are copied where there are any; that is five times as fast as `gather`.
    """
    index = index.to(x.device)
    if axis == x.dim() - 3:
        return x.gather(-1, _along(index, axis, x.dim() - 2).expand(x.shape))
    blocks = torch.arange(x.shape[:2].numel() * x.shape[2 : 2 + axis].numel(), device=x.device)
    rows = blocks.view(len(x), -1, 1) * x.shape[2 + axis] + index[:, None]
    flat = x.reshape(len(blocks) * x.shape[2 + axis], -1)
    return flat.index_select(0, rows.flatten()).view(x.shape)


def _regular(count: int, size: Sequence[int]) -> Tensor:
    """Return the places of x itself, -1 to 1, the last axis first as torch has it.

    Shape: -> (count, *S, axes)
    """
    lines = [(torch.arange(side) + 0.5) * 2 / side - 1 for side in size]
    places = torch.meshgrid(*lines, indexing="ij")
    return torch.stack(places[::-1], -1).expand(count, *size, len(size))


def _shown(x: Tensor, places: Tensor) -> Tensor:
    """Return x at `places`, the last axis first; linear, and mirrored beyond the border.

    Shape: (N, C, *S), (N, *T, axes) -> (N, C, *T)
    """
    grid = places.to(x)
    if grid.shape[-1] > 1:
        return F.grid_sample(x, grid, "bilinear", "reflection", align_corners=False)
    wide = torch.cat([grid, torch.zeros_like(grid)], -1)[:, None]  # an image of height 1
    flat = F.grid_sample(x.unsqueeze(2), wide, "bilinear", "reflection", align_corners=False)
    return flat.squeeze(2)


def elastic(places: Tensor, draw: Draw, amount: float) -> Tensor:
    """Move every place by a smooth random field, as a hand trembles.

    Math: displacement = amount * Gaussian blur of uniform(-1, 1), sigma 4 in 29 samples; an
          amount of 34 moves places of 29 x 29 by 1.4 samples (standard deviation)

    Source: Simard, Steinkraus, Platt 2003, Best Practices for Convolutional Neural Networks.
    """
    count, *size, _ = places.shape
    fields = []
    for side in size:
        field = draw.between(-1, 1, prod(size)).view(count, *size)
        for axis, length in enumerate(size):
            field = _blurred(field, 1 + axis, SMOOTH * length)
        fields.append(field * (amount * 2 / side))
    return places + _shown(torch.stack(fields[::-1], 1), places).movedim(1, -1)


def _blurred(field: Tensor, axis: int, sigma: float) -> Tensor:
    """Blur along one axis; beyond the border nothing moves."""
    reach = max(1, round(3 * sigma))
    taps = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    lines = field.movedim(axis, -1)
    flat = lines.reshape(-1, 1, lines.shape[-1])
    blurred = F.conv1d(flat, (taps / taps.sum())[None, None], padding=reach)
    return blurred.view(lines.shape).movedim(-1, axis)


def jitter(x: Tensor, draw: Draw, amount: float) -> Tensor:
    """Change brightness, contrast and, with 3 channels, saturation by up to the share `amount`."""
    shape = (len(x), 1, *[1] * (x.dim() - 2))
    light, contrast, colour = (
        f.reshape(shape).to(x) for f in draw.between(-amount, amount, 3).split(1, dim=1)
    )
    mean = x.flatten(1).mean(1).reshape(shape)
    x = torch.addcmul(light - mean * contrast, x, 1 + contrast)
    if x.shape[1] == 3:
        grey = x.mean(1, keepdim=True)
        x = torch.addcmul(-colour * grey, x, 1 + colour)
    return x


def mixup(x: Tensor, y: Tensor, draw: Draw, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each sample and its target with those of its neighbour in the batch.

    Shape: x (N, C, *S), y (N, K) -> the same
    Math:  x' = s x + (1 - s) x_next, s ~ Beta(alpha, alpha), one s a batch

    Source: Zhang, Cisse, Dauphin, Lopez-Paz 2017, mixup, arXiv:1710.09412.
    """
    share = np.random.default_rng(draw.bits(1)[0]).beta(alpha, alpha)
    return x.lerp(x.roll(1, 0), 1 - share), y.lerp(y.roll(1, 0), 1 - share)


INDEX: dict[str, tuple[Callable[[Index, Draw, float], Index], float]] = {
    "flip": (flip, 0),
    "flips": (flips, 0),
    "crop": (crop, 4),
    "translate": (translate, 2),
}
PLACE: dict[str, tuple[Callable[[Tensor, Draw, float], Tensor], float]] = {
    "affine": (affine, 10),
    "elastic": (elastic, 34),
}
VALUE: dict[str, tuple[Callable[[Tensor, Draw, float], Tensor], float]] = {
    "zoom": (zoom, 0.35),
    "jitter": (jitter, 0.2),
    "cutout": (cutout, 8),
}


@dataclass(frozen=True)
class Augment:
    """A list of changes with their amounts, as written in a recipe: `flip,crop=4,cutout=8`.

    Args:
        steps: (name, amount), done in the order index changes first, then value changes.
    """

    steps: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Augment":
        """Read `name[=amount],...`; `none` is no change.

        Raises:
            RecipeError: a name is unknown or an amount is no finite number of at least 0.
        """
        known = {**INDEX, **PLACE, **VALUE}
        steps = []
        for word in [] if text.strip() in ("", "none") else text.split(","):
            name, _, amount = word.strip().partition("=")
            if name not in known:
                raise RecipeError(f"no augmentation is called {name!r}; {suggest(name, known)}")
            try:
                value = float(amount) if amount else known[name][1]
            except ValueError:
                value = -1.0
            if not 0 <= value < inf:
                raise RecipeError(f"{name} wants a number of at least 0; got {amount!r}")
            steps.append((name, value))
        return cls(tuple(sorted(steps, key=lambda step: step[0] not in INDEX)))

    def read(self, x: np.ndarray, draw: Draw, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Pick the drawn samples of x (n, C, *S), index changes applied.

        Shape: -> (N, C, *S) raw values, and (N, 1, *S) true where a position shows nothing
        """
        count, axes = len(draw.samples), x.ndim - 2
        index = [torch.arange(size).expand(count, size) for size in x.shape[2:]]
        steps = [(INDEX[name][0], amount) for name, amount in self.steps if name in INDEX]
        for change, amount in steps:
            index = change(index, draw, amount)
        outside = None
        if any(int(i.min()) < 0 for i in index):
            lines = [_along(i < 0, a, axes) for a, i in enumerate(index)]
            outside = torch.broadcast_to(sum(lines) > 0, (count, 1, *x.shape[2:]))  # type: ignore[arg-type]
            index = [i.clamp(min=0) for i in index]
        picked = x[draw.samples] if not steps else _gather(x, draw.samples, index)
        return torch.from_numpy(picked).to(device), outside

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """Apply all but the index changes to a normalised batch.

        Neighbouring changes of place become one: every interpolation blurs, and what the network
        is asked later is sharp.
        """
        steps = [(name, amount) for name, amount in self.steps if name not in INDEX]
        for moves, run in groupby(steps, key=lambda step: step[0] in PLACE):
            if moves:
                places = _regular(len(x), x.shape[2:])
                for name, amount in reversed(list(run)):  # the last one is asked first
                    places = PLACE[name][0](places, draw, amount)
                x = _shown(x, places)
            else:
                for name, amount in run:
                    x = VALUE[name][0](x, draw, amount)
        return x


def _along(line: Tensor, axis: int, axes: int) -> Tensor:
    """Lay (N, S) along one axis of (N, 1, *S)."""
    return line.view(len(line), 1, *[-1 if k == axis else 1 for k in range(axes)])


def _gather(x: np.ndarray, rows: np.ndarray, index: Index) -> np.ndarray:
    """Return x[rows, :, index...] by look-ups of flat places: ten times as fast as that form."""
    axes, channels, size = x.ndim - 2, x.shape[1], int(np.prod(x.shape[2:]))
    place = torch.from_numpy(rows).view(-1, *[1] * axes) * (channels * size)
    for a, i in enumerate(index):  # the whole grid is added up only on the last axis
        step = int(np.prod(x.shape[3 + a :]))
        place = place + (i * step).view(len(i), *[-1 if k == a else 1 for k in range(axes)])
    flat, places = x.reshape(-1), place.numpy()
    picked = np.empty((len(rows), *x.shape[1:]), x.dtype)
    for c in range(channels):
        picked[:, c] = flat[c * size :].take(places)
    return picked
