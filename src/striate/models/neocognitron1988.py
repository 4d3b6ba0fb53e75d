"""The neocognitron with a teacher, stage by stage."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers import Brightness, shape_after
from striate.models.neocognitron import CCells, SCells, pictures
from striate.spec import Spec

__all__ = ["Neocognitron1988", "neocognitron1988", "typical"]

VIEWS = 1000  # pictures that the teacher chooses from
WINDOWS = 100  # windows for each plane that he chooses
ROUNDS = 15  # of k-means
AT_ONCE = 64  # pictures whose maps of S-cells are held at a time

# The twelve line patterns of the first layer, three cells each, and the orientation that each
# belongs to: the slopes between two neighbours of 45 degrees come in two drawings.
LINES = (
    ("000111000", 0), ("001110000", 1), ("000011100", 1), ("001010100", 2),
    ("001010010", 3), ("010010100", 3), ("010010010", 4), ("100010010", 5),
    ("010010001", 5), ("100010001", 6), ("100011000", 7), ("000110001", 7),
)  # fmt: skip


def typical(rows: Tensor, count: int) -> Tensor:
    """Return which rows are typical: the nearest to each centre of `count` heaps.

    Shape: (M, D) -> at most `count` of M
    Math:  spherical k-means: a row belongs to the centre at the smallest angle, a centre is the
           direction of the sum of its rows, each of length 1
    """
    unit = F.normalize(rows)
    centre = unit[:0]
    for _ in range(min(count, len(unit))):  # from rows apart, as k-means++ draws them
        far = (1 - (unit @ centre.T)).square().amin(1) if len(centre) else torch.ones(len(unit))
        centre = torch.cat([centre, unit[torch.multinomial(far.clamp(min=1e-12).cpu(), 1)]])
    for _ in range(ROUNDS if len(unit) else 0):
        own = F.one_hot((unit @ centre.T).argmax(1), len(centre)).to(unit)
        centre = F.normalize(own.T @ unit + 1e-6 * centre)  # an empty heap keeps its centre
    return (unit @ centre.T).argmax(0).unique() if len(unit) else unit.new_zeros(0).long()


class Neocognitron1988(nn.Module):
    """Four stages taught one after the other: the teacher names plane, pattern and place.

    The first stage knows twelve line patterns. For the next two the paper's author chose parts of
    digits by hand, and of digits for the last; here the teacher takes the most typical windows, for
    the last those of each class [reconstructed], and merges the planes that are most alike. He
    chooses from the first 1,000 pictures, anew whenever he has twice as many, from below to above.

    Shape: (N, C, H, W) -> (N, K)

    Args:
        spec: what a sample is.
        planes: of S-cells in the second, third and last stage.
        merged: of C-cells behind the second and third.
    """

    taught: Tensor
    views: Tensor
    shown: Tensor
    lessons: Tensor
    grows = ("views", "shown")

    SELECTIVITY = (1.7, 4.0, 1.5, 1.0)  # r [reconstructed]
    # q: one presentation is enough, but black that is not quite 0 must not look like a line
    STRONG = (1e4, 1e8, 1e8, 1e8)

    def __init__(self, spec: Spec, planes: Sequence[int], merged: Sequence[int]) -> None:
        super().__init__()
        pictures(spec)
        if min(spec.size) < 11:
            raise ValueError(f"every side must have at least 11 samples; got {spec.size}")
        self.light = Brightness(spec.mean, spec.std, *spec.value_range)
        below = (spec.channels, 8, *merged)
        above = (len(LINES), *planes)
        windows, paddings = (3, 5, 5, 5), (1, 2, 2, 0)
        self.simple = nn.ModuleList(
            SCells(i, k, w, p, selectivity=r, speed=q)
            for i, k, w, p, r, q in zip(
                below, above, windows, paddings, self.SELECTIVITY, self.STRONG, strict=True
            )
        )
        self.complex = nn.ModuleList(
            CCells(window, stride, 4.0, inhibited=False)
            for window, stride in ((5, 2), (5, 2), (3, 1), (0, 1))
        )
        size = spec.size
        for cells, padding, window in zip(self.complex, paddings, windows, strict=True):
            size = shape_after(size, window, 1, padding)
            size = tuple(cells.size_after(s) for s in size)  # type: ignore[operator]
        groups = (8, *merged, len(spec.classes))
        for number, (j, k) in enumerate(zip(groups, above, strict=True)):
            self.register_buffer(f"merge{number}", torch.zeros(j, k))
        self.register_buffer("taught", torch.zeros(4, dtype=torch.int64))  # planes of each stage
        self.register_buffer("views", torch.zeros(0, spec.channels, *spec.size))
        self.register_buffer("shown", torch.zeros(0, dtype=torch.int64))  # their classes
        self.register_buffer("lessons", torch.tensor(0))
        self._draw_lines(spec.channels)

    @torch.no_grad()
    def _draw_lines(self, channels: int) -> None:
        for plane, (drawing, orientation) in enumerate(LINES):
            line = torch.tensor([float(cell) for cell in drawing]).view(1, 3, 3)
            cells = self.simple[0]
            cells.reinforce(line.expand(channels, 3, 3), plane, 1, 1)  # type: ignore[operator]
            self.merge(0)[orientation, plane] = 1
        self.taught[0] = len(LINES)

    def merge(self, stage: int) -> Tensor:
        """Return which C-plane each S-plane of a stage goes to: (J, K) of 0 and 1."""
        return getattr(self, f"merge{stage}")

    def below(self, u: Tensor, stage: int) -> Tensor:
        """Return what the S-cells of a stage see of light u."""
        for s in range(stage):
            u = self.complex[s](self.simple[s](u), self.merge(s))
        return u

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last C-cells say; the largest is the answer."""
        return self.answer(self.below(self.light(x), 3))

    def answer(self, u: Tensor) -> Tensor:
        """Return the largest response of each class's planes in the last stage: (N, K)."""
        said = self.simple[3](u).amax((2, 3))
        own = self.merge(3)
        return torch.where(own > 0, said[:, None], 0.0).amax(2) / 0.1

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """Show pictures; teach all stages when they are twice as many; return the loss before."""
        loss = F.cross_entropy(self.forward(x), y)
        room = VIEWS - len(self.views)
        if not room:
            return loss
        self.views = torch.cat([self.views, x[:room]])
        self.shown = torch.cat([self.shown, y[:room]])
        self.lessons += 1
        if int(self.lessons).bit_count() == 1 or len(self.views) == VIEWS:
            self.teach()
        return loss

    def teach(self) -> None:
        """Teach the second, third and last stage what is typical of the pictures shown."""
        u = self._above(0, self.light(self.views))
        for stage in (1, 2):
            self._remember(stage, u, self._parts(stage, u))
            self._merge(stage)
            u = self._above(stage, u)
        self._teach_classes(u)

    def _above(self, stage: int, u: Tensor) -> Tensor:
        """Return what the C-cells of a stage say of many pictures."""
        simple, complex_, merge = self.simple[stage], self.complex[stage], self.merge(stage)
        return torch.cat([complex_(simple(part), merge) for part in u.split(AT_ONCE)])

    def _parts(self, stage: int, u: Tensor) -> Tensor:
        """Return the windows typical of all where much is to be seen, each (view, row, column)."""
        cells, count = self._cells(stage)
        seen = cells.inhibition(u)[:, 0]
        places = (seen > seen.amax((1, 2), keepdim=True) / 2).nonzero()
        places = places[torch.randperm(len(places))[: WINDOWS * count].to(u.device)]
        return places[typical(self._windows(stage, u, places), count)]

    def _cells(self, stage: int) -> tuple[SCells, int]:
        """Return the S-cells of a stage and how many planes they have."""
        cells: SCells = self.simple[stage]  # type: ignore[assignment]
        return cells, len(cells.b)

    def _windows(self, stage: int, u: Tensor, places: Tensor) -> Tensor:
        """Return windows as cells weigh them, so that their angles are the cells' own: (M, D)."""
        cells, _ = self._cells(stage)
        u = F.pad(u, [cells.padding] * 4)
        every = u.unfold(2, cells.window, 1).unfold(3, cells.window, 1)  # a view
        view, row, column = places.T
        return (every[view, :, row, column] * cells.c.sqrt()).flatten(1)

    def _remember(self, stage: int, u: Tensor, places: Tensor) -> None:
        """Let each plane of a stage learn one window, in place of what it knew."""
        cells, _ = self._cells(stage)
        cells.a.zero_()
        cells.b.zero_()
        for plane, (view, row, column) in enumerate(places.tolist()):
            cells.reinforce(u[view], plane, row, column)
        self.taught[stage] = len(places)

    def _merge(self, stage: int) -> None:
        """Join planes that are alike, by average linkage of their cosines."""
        from sklearn.cluster import AgglomerativeClustering

        count, merge = int(self.taught[stage]), self.merge(stage)
        group = np.arange(count)
        if count > len(merge):
            rows = self._cells(stage)[0].a[:count].flatten(1).cpu().numpy()
            join = AgglomerativeClustering(len(merge), metric="cosine", linkage="average")
            group = join.fit_predict(rows)
        merge.zero_()
        merge[torch.from_numpy(group), torch.arange(count)] = 1

    def _teach_classes(self, u: Tensor) -> None:
        """Give each class its typical wholes, the loosest classes one more if planes are left."""
        cells, count = self._cells(3)
        seen = cells.inhibition(u)[:, 0]
        best, width = seen.flatten(1).argmax(1), seen.shape[2]
        places = torch.stack([torch.arange(len(u)).to(u.device), best // width, best % width], 1)
        rows, own = F.normalize(self._windows(3, u, places)), self.merge(3)
        kept = [self.shown == label for label in range(len(own))]
        tight = torch.stack([rows[one].mean(0).norm() for one in kept])  # NaN, the last: not shown
        each, rest = divmod(count, len(own))
        more = tight.argsort()[:rest].tolist()
        chosen = []
        for label, one in enumerate(kept):
            whole = typical(rows[one], each + (label in more))
            chosen.append(places[one][whole])
        self._remember(3, u, torch.cat(chosen))
        owners = [label for label, some in enumerate(chosen) for _ in some]
        own.zero_()
        own[owners, torch.arange(len(owners))] = 1


def neocognitron1988(spec: Spec, parts: int = 38, wholes: int = 32, planes: int = 16) -> nn.Module:
    """Build the neocognitron that is taught stage by stage.

    On 1 x 19 x 19 the maps are 19 and 11, 11 and 7, 7 and 7, 3 and 1, of 12 and 8, 38 and 22, 32
    and 30, 16 and 10 planes [reconstructed].

    Shape: (N, C, H, W) -> (N, K)
    Args:
        parts: S-planes of the second stage; 11/19 as many C-planes.
        wholes: S-planes of the third stage; 15/16 as many C-planes.
        planes: S-planes of the last stage, at least one a class.
    Raises:
        ValueError: samples are no pictures, a side is shorter than 11 samples, or there are fewer
            planes than classes.

    Source: Fukushima 1988, Neocognitron: A Hierarchical Neural Network Capable of Visual Pattern
        Recognition, Neural Networks 1(2).
    """
    if planes < len(spec.classes):
        raise ValueError(
            f"planes must be at least one for each of {len(spec.classes)} classes; got {planes}"
        )
    merged = (round(parts * 11 / 19), round(wholes * 15 / 16))
    return Neocognitron1988(spec, (parts, wholes, planes), merged)
