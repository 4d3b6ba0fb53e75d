"""The neocognitron: layers of S-cells that learn a feature and C-cells that forget its place.

It knows no backpropagation: it has a method `learn`, which the training loop calls instead. Its
descendants with a teacher are in `neocognitron1988` and `neocognitron2003`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers import Brightness, shape_after
from striate.spec import Spec

__all__ = [
    "CCells",
    "Neocognitron1980",
    "SCells",
    "neocognitron1980",
    "pictures",
    "seeds",
]

ALPHA = 0.5  # half saturation of C-cells [certain]
FADING = 0.9  # of the weights c and d with each sample of distance [reconstructed]
FORGETTING = 0.999  # share of the observer's notes that is kept a presentation


def fading(window: int, share: float = FADING) -> Tensor:
    """Return share^distance from the centre of a window: (window, window)."""
    place = torch.arange(window) - (window - 1) / 2
    return share ** torch.hypot(place[:, None], place[None])


class SCells(nn.Module):
    """Planes of cells, each looking everywhere for the feature that its plane has learnt.

    Shape: (N, C, H, W) -> (N, K, H', W')
    Math:  u_k = r phi[(1 + sum_cv a_kcv u_cv) / (1 + 2 r / (1 + r) b_k v) - 1],
           v = sqrt(sum_cv c_v u_cv^2), sum_cv c_v = 1, phi(x) = max(0, x).
           After strong learning of one feature: u_k = phi[s - theta] / (1 - theta), s the cosine
           of the c-weighted angle between window and feature, theta = r / (1 + r)

    Args:
        inputs: C, planes below.
        planes: K.
        window: side, in samples.
        padding: samples of darkness around the input.
        selectivity: r, above 0: how alike a window has to be.
        speed: q, what one presentation adds to the weights.
        share: of c kept with each sample of distance from the centre of a window; 1: even.

    Source: Fukushima 1980, Neocognitron, Biological Cybernetics 36, eqs. 2 to 4 and 12 to 13.
    """

    c: Tensor

    def __init__(
        self,
        inputs: int,
        planes: int,
        window: int,
        padding: int,
        *,
        selectivity: float,
        speed: float,
        share: float = FADING,
    ) -> None:
        super().__init__()
        self.r, self.q, self.window, self.padding = selectivity, speed, window, padding
        weight = torch.zeros(planes, inputs, window, window)
        self.a = nn.Parameter(weight, requires_grad=False)
        self.b = nn.Parameter(torch.zeros(planes), requires_grad=False)
        c = fading(window, share)
        c = (c / c.sum() / inputs).expand(1, inputs, window, window)
        self.register_buffer("c", c.clone(), persistent=False)

    def inhibition(self, u: Tensor) -> Tensor:
        """Return v, what the V-cells say: (N, 1, H', W')."""
        return F.conv2d(u.square(), self.c, padding=self.padding).clamp(min=0).sqrt()

    def forward(self, u: Tensor) -> Tensor:
        """Return the responses."""
        excitation = F.conv2d(u, self.a, padding=self.padding)
        shunt = 2 * self.r / (1 + self.r) * self.b.view(-1, 1, 1) * self.inhibition(u)
        return self.r * ((1 + excitation) / (1 + shunt) - 1).relu()

    def reinforce(self, u: Tensor, plane: int, row: int, column: int) -> None:
        """Let the cell of `plane` at (row, column), and with it the plane, learn its window of u.

        Math: a += q c u, b += q / 2 v
        """
        ends = [self.padding] * 4
        window = F.pad(u, ends)[:, row : row + self.window, column : column + self.window]
        seen = self.c[0] * window
        self.a[plane] += self.q * seen
        self.b[plane] += self.q / 2 * (seen * window).sum().sqrt()

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the plastic links of one sample: each cell's a, and its b."""
        return y[0].numel() * (self.a[0].numel() + 1)

    def extra_repr(self) -> str:
        """Return the arguments."""
        planes, inputs = self.a.shape[:2]
        return f"{inputs}, {planes}, window={self.window}, r={self.r}, q={self.q}"


class CCells(nn.Module):
    """Cells that say that a feature is near: weighted sums over a window, saturating.

    Shape: (N, K, H, W) -> (N, J, H', W')
    Math:  u_j = psi[(1 + sum_kv m_jk d_v u_kv) / (1 + w) - 1], psi(x) = phi(x / (alpha + x)),
           w = 1/K sum_kv d_v u_kv where planes inhibit one another, else 0

    Args:
        window: side, in samples; 0: the whole map.
        stride: distance of cells, in samples; their centres are -1, 1, 3, ... at 2.
        total: sum of d.
        inhibited: whether all planes together inhibit each.

    Source: Fukushima 1980, eqs. 6 to 8; Fukushima 1988 without inhibition, planes merged by m.
    """

    def __init__(self, window: int, stride: int, total: float, *, inhibited: bool) -> None:
        super().__init__()
        self.window, self.stride, self.total, self.inhibited = window, stride, total, inhibited

    def ends(self) -> tuple[int, int]:
        """Return the samples of darkness before and after each axis."""
        if not self.window:
            return 0, 0
        if self.stride == 1:
            return self.window // 2, (self.window - 1) // 2
        return (3, 4) if self.inhibited else (3, 3)

    def size_after(self, size: int) -> int:
        """Return the cells along an axis of `size` samples."""
        if not self.window:
            return 1
        return shape_after(size + sum(self.ends()), self.window, self.stride)

    def forward(self, u: Tensor, merge: Tensor | None = None) -> Tensor:
        """Return the responses; `merge` is m, (J, K)."""
        planes = u.shape[1]
        if self.window:
            before, after = self.ends()
            u = F.pad(u, [before, after, before, after])
        height, width = u.shape[2:] if not self.window else (self.window, self.window)
        d = fading(max(height, width))[:height, :width].to(u)
        kernel = (d * (self.total / d.sum())).expand(planes, 1, height, width)
        near = F.conv2d(u, kernel, stride=self.stride, groups=planes)
        outside = near.mean(1, keepdim=True) if self.inhibited else torch.zeros_like(near[:, :1])
        if merge is not None:
            near = torch.einsum("jk,nkhw->njhw", merge, near)
        x = ((1 + near) / (1 + outside) - 1).relu()
        return x / (ALPHA + x)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"window={self.window or 'all'}, stride={self.stride}, total={self.total}"


def seeds(u: Tensor, column: int) -> list[tuple[int, int, int]]:
    """Return (plane, row, column) of the cells that may learn: the largest of an S-column.

    An S-column is a square of side `column` through all planes; there is one at every place where
    it fits, so they overlap. A plane with several such cells sends its largest.

    Shape: (K, H, W) -> at most K

    Args:
        column: in samples; 0, or more than a side: one column that is all of the planes.
    """
    largest = u.amax(0)[None]
    least = largest.amax().expand_as(largest)
    if 0 < column < min(u.shape[1:]):
        best = F.max_pool2d(largest, column, 1)  # of each column
        wide = F.pad(-best, [column - 1] * 4, value=-torch.inf)
        least = -F.max_pool2d(wide, column, 1)  # of the columns through each place
    able = torch.where((u == least) & (u > 0), u, torch.zeros_like(u)).flatten(1)
    value, place = able.max(1)
    width = u.shape[2]
    found = zip(value.tolist(), place.tolist(), strict=True)
    return [(k, p // width, p % width) for k, (v, p) in enumerate(found) if v > 0]


def pictures(spec: Spec) -> None:
    """Refuse samples that are no pictures.

    Raises:
        ValueError: there are not two axes.
    """
    if spec.axes != 2:
        raise ValueError(f"a neocognitron wants pictures (C, H, W); got {spec.shape}")


class Neocognitron1980(nn.Module):
    """Three stages that organise themselves, and an observer who notes what a plane means.

    Nobody tells the network classes. After learning, one plane of the last stage answers each
    pattern; the observer counts at which class each plane was the largest, and by these notes
    the answer becomes logits: log of the share of each class among the winner's.

    Shape: (N, C, H, W) -> (N, K)

    Args:
        spec: what a sample is.
        planes: in each layer.
    """

    notes: Tensor

    # r, q, padding of S; side of S-columns; sum of d; window and stride of C
    STAGES = (
        (4.0, 1.0, 2, 5, 4.0, 5, 2),
        (1.5, 16.0, 1, 5, 4.0, 5, 2),
        (1.5, 16.0, 0, 2, 2.5, 0, 1),
    )

    def __init__(self, spec: Spec, planes: int) -> None:
        super().__init__()
        pictures(spec)
        if min(spec.size) < 14:
            raise ValueError(f"every side must have at least 14 samples; got {spec.size}")
        self.light = Brightness(spec.mean, spec.std, *spec.value_range)
        self.simple, self.complex = nn.ModuleList(), nn.ModuleList()
        inputs, size = spec.channels, spec.size
        for r, q, padding, _, total, window, stride in self.STAGES:
            cells = SCells(inputs, planes, 5, padding, selectivity=r, speed=q)
            nn.init.uniform_(cells.a, 0, 1e-3)
            self.simple.append(cells)
            self.complex.append(CCells(window, stride, total, inhibited=True))
            size = shape_after(size, 5, 1, padding)
            size = tuple(self.complex[-1].size_after(s) for s in size)  # type: ignore[operator]
            inputs = planes
        self.register_buffer("notes", torch.zeros(planes, len(spec.classes)))

    def planes(self, x: Tensor) -> Tensor:
        """Return what the last C-cells say: (N, planes)."""
        u = self.light(x)
        for simple, complex_ in zip(self.simple, self.complex, strict=True):
            u = complex_(simple(u))
        return u.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the observer's logits."""
        return self.read(self.planes(x))

    def read(self, said: Tensor) -> Tensor:
        """Return the logits of what the last C-cells say."""
        notes = self.notes + 1 / self.notes.shape[1]
        chances = (notes / notes.sum(1, keepdim=True)).log()
        value, winner = said.max(1)
        silent = torch.full_like(chances[:1], -torch.log(torch.tensor(chances.shape[1])).item())
        return torch.where(value[:, None] > 0, chances[winner], silent)

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """Present samples one by one; return the loss of the observer's answers meanwhile."""
        answers = []
        for u, label in zip(self.light(x), y.tolist(), strict=True):
            said = self.present(u)
            answers.append(self.read(said))
            self.notes *= FORGETTING
            if said.max() > 0:
                self.notes[said.argmax(), label] += 1
        return F.cross_entropy(torch.cat(answers), y)

    def present(self, u: Tensor) -> Tensor:
        """Let all stages see one pattern (C, H, W) and learn from it; return the last C-cells."""
        below = u[None]
        for (_, _, _, column, *_), simple, complex_ in zip(
            self.STAGES, self.simple, self.complex, strict=True
        ):
            said = simple(below)
            for plane, row, place in seeds(said[0], column):
                simple.reinforce(below[0], plane, row, place)  # type: ignore[operator]
            below = complex_(said)
        return below.flatten(1)


def neocognitron1980(spec: Spec, planes: int = 24) -> nn.Module:
    """Build the neocognitron that learns without a teacher.

    29,472 plastic weights and 11,320 excitatory cells on 1 x 16 x 16: maps of 16, 16, 10, 8, 6, 2
    and 1 [certain]; r 4, 1.5, 1.5, q 1, 16, 16; fading of c and d [reconstructed].

    Shape: (N, C, H, W) -> (N, K)
    Args:
        planes: in each layer.
    Raises:
        ValueError: samples are no pictures, or a side is shorter than 14 samples.

    Source: Fukushima 1980, Neocognitron: A Self-organizing Neural Network Model for a Mechanism
        of Pattern Recognition Unaffected by Shift in Position, Biological Cybernetics 36.
    """
    return Neocognitron1980(spec, planes)
