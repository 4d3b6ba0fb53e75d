"""The neocognitron with a teacher, stage by stage."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers import Brightness, shape_after
from striate.models.neocognitron import CCells, SCells, pictures
from striate.spec import Spec

__all__ = ["Neocognitron1988", "neocognitron1988"]

# The twelve line patterns of the first layer, three cells each, and the orientation that each
# belongs to: the slopes between two neighbours of 45 degrees come in two drawings.
LINES = (
    ("000111000", 0), ("001110000", 1), ("000011100", 1), ("001010100", 2),
    ("001010010", 3), ("010010100", 3), ("010010010", 4), ("100010010", 5),
    ("010010001", 5), ("100010001", 6), ("100011000", 7), ("000110001", 7),
)  # fmt: skip


class Neocognitron1988(nn.Module):
    """Four stages taught one after the other: the teacher names plane, pattern and place.

    The first stage knows twelve line patterns. For the next two the paper's author chose parts of
    digits by hand; here the teacher takes, as long as there are free planes, the place where most
    is to be seen and no plane fires [reconstructed], and merges the planes that are most alike.
    In the last, a class answered wrongly gets another plane; one answered rightly is reinforced.

    Shape: (N, C, H, W) -> (N, K)

    Args:
        spec: what a sample is.
        planes: of S-cells in the second, third and last stage.
        merged: of C-cells behind the second and third.
    """

    taught: Tensor
    owner: Tensor

    SELECTIVITY = (1.7, 4.0, 1.5, 1.0)  # r [reconstructed]
    STRONG = 1e4  # q: one presentation is enough

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
            SCells(i, k, w, p, selectivity=r, speed=self.STRONG)
            for i, k, w, p, r in zip(below, above, windows, paddings, self.SELECTIVITY, strict=True)
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
        """Teach one stage: the second and third for a quarter of the time each, then the last."""
        light, stage = self.light(x), min(3, 1 + int(4 * progress))
        loss = F.cross_entropy(self.forward(x), y)
        for done in range(1, stage):
            if not self.merge(done).any():
                self._merge(done)
        u = self.below(light, stage)
        if stage < 3:
            self._teach_part(stage, u)
        else:
            self._teach_classes(u, y)
        return loss

    def _teach_part(self, stage: int, u: Tensor) -> None:
        """Give free planes the places where most is to be seen and no plane fires."""
        cells = self.simple[stage]
        for one in u:
            plane = int(self.taught[stage])
            if plane == len(cells.b):  # type: ignore[arg-type]
                return
            seen = cells.inhibition(one[None])[0, 0]  # type: ignore[operator]
            seen = torch.where(cells(one[None])[0].amax(0) > 0, torch.zeros_like(seen), seen)
            place = int(seen.argmax())
            if seen.max() > 0:
                width = seen.shape[1]
                cells.reinforce(one, plane, place // width, place % width)  # type: ignore[operator]
                self.taught[stage] += 1

    def _merge(self, stage: int) -> None:
        """Join the two groups of planes that are most alike, until there are few enough."""
        count = int(self.taught[stage])
        rows = F.normalize(self.simple[stage].a[:count].flatten(1))  # type: ignore[index]
        groups = [[k] for k in range(count)]
        alike = rows @ rows.T
        merge = self.merge(stage)
        while len(groups) > len(merge):
            pairs = [
                (float(alike[a][:, b].mean()), i, j)
                for i, a in enumerate(groups)
                for j, b in enumerate(groups[:i])
            ]
            _, i, j = max(pairs)
            groups[j] += groups.pop(i)
        for row, group in enumerate(groups):
            merge[row, group] = 1

    def _teach_classes(self, u: Tensor, y: Tensor) -> None:
        """Give a class that is answered wrongly another plane; reinforce what is right."""
        cells, own = self.simple[3], self.merge(3)
        for one, label in zip(u, y.tolist(), strict=True):
            said = cells(one[None])[0]
            places = said.flatten(1).max(1)
            answer = torch.where(own > 0, places.values, torch.zeros(())).amax(1)
            free = int(self.taught[3])
            left = int((own.sum(1) == 0).sum()) - int(own[label].sum() == 0)
            width = said.shape[2]
            if answer[label] > 0 and int(answer.argmax()) == label:
                plane = int(torch.where(own[label] > 0, places.values, -1.0).argmax())
                place = int(places.indices[plane])
            elif len(cells.b) - free > left:  # type: ignore[arg-type]
                plane, place = free, int(cells.inhibition(one[None]).argmax())  # type: ignore[operator]
                own[label, plane] = 1
                self.taught[3] += 1
            else:
                continue
            cells.reinforce(one, plane, place // width, place % width)  # type: ignore[operator]


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
