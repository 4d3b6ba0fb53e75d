"""The late neocognitrons: edges first, cells that are made where all are silent, labels on top.

Both have a method `learn`, which the training loop calls in place of backpropagation. It goes
through the stages by the share of the training that is over.
"""

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers import Brightness
from striate.layers.norm import gaussian
from striate.models.neocognitron import pictures
from striate.spec import Spec

__all__ = ["Edges", "LateNeocognitron", "Likeness", "Pooled", "add_if_silent", "neocognitron2003"]

ORIENTATIONS = 8
# Thresholds of the second and third stage for recognition, then for learning [reconstructed: of a
# few, those best on a held-out quarter of 3,000 digits]
THETA = (0.6, 0.7, 0.7, 0.75)
ALIKE = 1 - 1e-5  # cosine to what is remembered already


def disc(window: int, sigma: float) -> Tensor:
    """Return a Gaussian of sum 1: (window, window) float32."""
    return gaussian(window, 2, sigma).float()


class Edges(nn.Module):
    """Contrast cells, brighter and darker than around, then cells for edges of 16 directions.

    Shape: (N, C, H, W) -> (N, 16, H', W')
    Math:  contrast = phi[+-(narrow - wide Gaussian) * light]; edge_k = phi[s - theta] / (1 - theta)
           with s the cosine between the window and what the contrast cells say of a straight edge
           of direction k 22.5 degrees

    Args:
        theta: threshold of the edge cells [reconstructed: 0.55].

    Source: Fukushima 2003, Neurocomputing 51, layers UG and US1.
    """

    contrast: Tensor

    def __init__(self, theta: float = 0.55) -> None:
        super().__init__()
        on = disc(7, 1.0) - disc(7, 2.0)
        self.register_buffer("contrast", torch.stack([on, -on])[:, None], persistent=False)
        place = torch.arange(17) - 8.0
        steps = []
        for k in range(2 * ORIENTATIONS):
            turn = torch.tensor(pi * k / ORIENTATIONS)
            steps.append((place[None] * turn.cos() + place[:, None] * turn.sin() > 0).float())
        said = self.sides(torch.stack(steps)[:, None])
        middle = (said.shape[-1] - 5) // 2
        self.cells = Likeness(2, 5, 2, theta)
        self.cells.x.data = said[:, :, middle : middle + 5, middle : middle + 5].clone()
        self.cells.grows = ()  # these are given

    def sides(self, light: Tensor) -> Tensor:
        """Return what the contrast cells say: (N, 2, H, W)."""
        grey = light.mean(1, keepdim=True)
        return F.conv2d(F.pad(grey, [3] * 4, "replicate"), self.contrast).relu()

    def forward(self, light: Tensor) -> Tensor:
        """Return the edges."""
        return self.cells(self.sides(light))


class Likeness(nn.Module):
    """S-cells that compare directions: how small is the angle to what a plane remembers?

    Shape: (N, C, H, W) -> (N, K, H', W')
    Math:  u_k = g phi[s_k - theta] / (1 - theta), s_k = <x, X_k> / (|x| |X_k|), the products
           weighted by c; g = |x|, or 1 where cells say only how alike a window is

    Args:
        inputs: C.
        window: side, in samples.
        padding: samples of darkness around the input.
        theta: threshold, the cosine at which cells fall silent.
        loud: g = |x|.

    Source: Fukushima 2003; Fukushima 2013, Artificial vision by multi-layered neural networks,
        Neural Networks 37.
    """

    c: Tensor
    grows: tuple[str, ...] = ("x",)  # planes are made by learning

    def __init__(
        self, inputs: int, window: int, padding: int, theta: float, *, loud: bool = False
    ) -> None:
        super().__init__()
        self.window, self.padding, self.theta, self.loud = window, padding, theta, loud
        self.x = nn.Parameter(torch.zeros(0, inputs, window, window), requires_grad=False)
        self.register_buffer("c", disc(window, window / 3)[None, None], persistent=False)

    def unit(self) -> Tensor:
        """Return X / |X|, times c: convolution with it is a weighted product."""
        weighted = self.x * self.c
        return weighted / (weighted * self.x).sum((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)

    def forward(self, u: Tensor) -> Tensor:
        """Return the responses."""
        energy = u.square().sum(1, keepdim=True)
        length = F.conv2d(energy, self.c, padding=self.padding).clamp(min=0).sqrt()
        self.widen(u.shape[1])
        if not len(self.x):  # nothing is learnt yet
            return length[:, :0]
        product = F.conv2d(u, self.unit(), padding=self.padding)
        cosine = product / length.clamp(min=1e-6)
        said = (cosine - self.theta).relu() / (1 - self.theta)
        return said * length if self.loud else said

    def widen(self, inputs: int) -> None:
        """Give old planes weights of 0 from planes below that were made after them."""
        if more := max(0, inputs - self.x.shape[1]) * bool(len(self.x)):
            self.x.data = F.pad(self.x.data, [0, 0, 0, 0, 0, more])

    def add(self, x: Tensor) -> None:
        """Make planes that remember the windows x, (M, C, window, window)."""
        self.widen(x.shape[1])
        self.x.data = torch.cat([self.x.data, x]) if len(self.x) else x.clone()

    def windows(self, u: Tensor) -> Tensor:
        """Return every window of u: (N P, C window^2)."""
        columns = F.unfold(u, self.window, padding=self.padding)
        return columns.transpose(1, 2).flatten(0, 1)

    def add_where_silent(
        self, u: Tensor, theta: float, most: int, *, faint: float = 0.1, reinforce: bool = False
    ) -> int:
        """Make a plane of every window that is not like any at `theta`; return how many.

        Args:
            u: (N, C, H, W), samples in their order.
            theta: cosine below which a cell is silent for learning.
            most: planes at the end.
            faint: windows below this share of their sample's loudest are no input.
            reinforce: let the window most like each plane join what the plane remembers.
        """
        self.widen(u.shape[1])
        root = self.c.expand(1, u.shape[1], -1, -1).flatten().sqrt()
        raw = self.windows(u)
        rows = raw * root
        length = rows.norm(dim=1)
        rows = rows / length.clamp(min=1e-12)[:, None]
        known = self.x.flatten(1)
        best, plane = length.new_zeros(len(rows)), torch.zeros_like(length, dtype=torch.int64)
        if len(known):
            known = F.normalize(known * root)
            best, plane = (rows @ known.T).max(1)
        loudest = length.view(len(u), -1).amax(1, keepdim=True).expand(len(u), len(rows) // len(u))
        loud = length > faint * loudest.flatten().clamp(min=1e-12)
        made: list[Tensor] = []
        silent = (loud & (best < theta)).nonzero()[:, 0]
        while len(silent) and len(known) + len(made) < most:
            chosen = silent[length[silent].argmax()]
            made.append(raw[chosen])
            alike = rows[silent] @ rows[chosen]
            silent = silent[alike < theta + 1e-5]  # what rounding might call silent again
        if reinforce and len(known):
            self._reinforce(raw, torch.where(loud, best, torch.zeros_like(best)), plane, theta)
        if made:
            self.add(torch.stack(made).view(-1, u.shape[1], self.window, self.window))
        return len(made)

    def _reinforce(self, raw: Tensor, best: Tensor, plane: Tensor, theta: float) -> None:
        """Add to each plane the window that it likes best."""
        for k in plane[best >= theta].unique().tolist():
            winner = torch.where(plane == k, best, torch.zeros_like(best)).argmax()
            self.x.data[k] += raw[winner].view_as(self.x[k])

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the links of one sample."""
        return y[0].numel() * self.x.shape[1] * self.c.numel()

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.x.shape[1]}, {len(self.x)}, window={self.window}, theta={self.theta}"


class Pooled(nn.Module):
    """C-cells with an inhibitory surround: blur, subtract the wider blur, saturate, thin out.

    Shape: (N, K, H, W) -> (N, K, ceil(H / stride), ceil(W / stride))
    Math:  y = sqrt(phi[(narrow - strength wide) * u])

    Args:
        sigma: of the narrow Gaussian, in samples; the wide one is twice as wide.
        stride: distance of cells, in samples.
        strength: of the surround.

    Source: Fukushima 2003, section 2.4 [weights reconstructed].
    """

    kernel: Tensor

    def __init__(self, sigma: float, stride: int, strength: float = 0.3) -> None:
        super().__init__()
        self.stride, side = stride, 2 * round(3 * sigma) + 1
        kernel = disc(side, sigma) - strength * disc(side, 2 * sigma)
        self.register_buffer("kernel", kernel / kernel.clamp(min=0).sum(), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """Return the responses."""
        planes, side = u.shape[1], self.kernel.shape[-1]
        if not planes:  # nothing is learnt yet
            return u[:, :, :: self.stride, :: self.stride]
        kernel = self.kernel.expand(planes, 1, side, side)
        near = F.conv2d(u, kernel, padding=side // 2, stride=self.stride, groups=planes).relu()
        return near.sqrt()

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"side={self.kernel.shape[-1]}, stride={self.stride}"


class LateNeocognitron(nn.Module):
    """Edges, two stages of cells made where all are silent, and labelled references on top.

    Shape: (N, C, H, W) -> (N, K), the likeness of the nearest reference of each class

    Args:
        spec: what a sample is.
        theta: thresholds of the second and third stage for recognition, then for learning.
        most: planes of the second and third stage, and references on top.
        reinforce: planes go on learning from the windows that they like best.
        interpolate: a class is also whatever lies between two of its references.
        loud: cells also say how strong their input is, not only how alike it is.
    """

    x: Tensor
    label: Tensor
    grows = ("x", "label")

    def __init__(
        self,
        spec: Spec,
        theta: tuple[float, float, float, float],
        most: tuple[int, int, int],
        *,
        reinforce: bool,
        interpolate: bool,
        loud: bool,
    ) -> None:
        super().__init__()
        pictures(spec)
        if min(spec.size) < 3:  # the edge cells of which no second stage can have a window
            raise ValueError(f"sides must be at least 3 samples; got {spec.size}")
        self.light = Brightness(spec.mean, spec.std, *spec.value_range)
        self.classes, self.most = len(spec.classes), most
        self.reinforce, self.interpolate = reinforce, interpolate
        self.learning = theta[2:]
        self.edges, self.pool1 = Edges(), Pooled(1.0, 2)
        self.stage2 = Likeness(ORIENTATIONS, 3, 1, theta[0], loud=loud)
        self.stage3 = Likeness(0, 3, 1, theta[1], loud=loud)
        self.pool2, self.pool3 = Pooled(1.0, 2), Pooled(1.0, 1)
        self.register_buffer("x", torch.zeros(0, 0))
        self.register_buffer("label", torch.zeros(0, dtype=torch.int64))

    def below(self, x: Tensor, stage: int) -> Tensor:
        """Return what a stage, 2 to 4, sees: C-cells, two neighbouring directions as one."""
        edges = self.edges(self.light(x))
        u = self.pool1(edges[:, 0::2] + edges[:, 1::2])
        if stage > 2:
            u = self.pool2(self.stage2(u))
        if stage > 3:
            u = self.pool3(self.stage3(u))
        return u

    def top(self, x: Tensor) -> Tensor:
        """Return the last C-cells as one direction: (N, D), of length 1."""
        return F.normalize(self.below(x, 4).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: likenesses, 20 to 1."""
        return 20 * self.likeness(self.top(x))

    def likeness(self, t: Tensor) -> Tensor:
        """Return the cosine to the nearest of each class, -1 without one: (N, D) -> (N, K)."""
        best = t.new_full((len(t), self.classes), -1.0)
        known = F.normalize(self.x)
        for k in self.label.unique().tolist():
            own = known[self.label == k]
            said = t @ own.T
            best[:, k] = between(said, own) if self.interpolate else said.amax(1)
        return best

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """Learn in the second stage for a quarter of the time, in the third, then on top."""
        stage = min(4, 2 + int(4 * progress))
        if stage < 4:
            cells = (self.stage2, self.stage3)[stage - 2]
            cells.add_where_silent(
                self.below(x, stage), self.learning[stage - 2], self.most[stage - 2],
                reinforce=self.reinforce,
            )  # fmt: skip
            return torch.tensor(float(self.classes)).log()
        top, first = self.top(x), None
        while True:
            count = len(self.x)
            said = torch.cat([self._teach(t[None], k) for t, k in zip(top, y, strict=True)])
            first = said if first is None else first
            if self.reinforce or len(self.x) == count:  # else until the same data add none
                return F.cross_entropy(20 * first, y)

    def _teach(self, t: Tensor, label: Tensor) -> Tensor:
        """Make a wrongly answered sample a reference of its class; return the likenesses before."""
        said = self.likeness(t)
        right = len(self.x) > 0 and int(said.argmax()) == label
        # By two classes, or dark: another reference decides nothing.
        known = float(said[0, label]) > ALIKE or not t.any()
        if not right and not known and len(self.x) < self.most[2]:
            self.x = torch.cat([self.x, t]) if len(self.x) else t.clone()
            self.label = torch.cat([self.label, label[None]])
        elif right and self.reinforce:
            own = (self.label == label).nonzero()[:, 0]
            winner = own[(F.normalize(self.x[own]) @ t[0]).argmax()]
            self.x[winner] += t[0]
        return said


def between(said: Tensor, known: Tensor, nearest: int = 8) -> Tensor:
    """Return the cosine to the nearest reference, or to the nearest point between two of them.

    Shape: (N, M) cosines, (M, D) of length 1 -> (N,)
    Math:  of a plane through X_i and X_j with g = <X_i, X_j>:
           sqrt((s_i^2 - 2 g s_i s_j + s_j^2) / (1 - g^2)), where the point lies between the two,
           s_i >= g s_j and s_j >= g s_i

    Args:
        nearest: references among which pairs are made.

    Source: Fukushima 2013, Neural Networks 37, interpolating vectors.
    """
    count = min(nearest, len(known))
    s, place = said.topk(count, 1)
    g = (known @ known.T)[place[:, :, None], place[:, None]].clamp(-0.9999, 0.9999)
    a, b = s[:, :, None], s[:, None]
    inside = (a >= g * b) & (b >= g * a)
    plane = ((a * a - 2 * g * a * b + b * b).clamp(min=0) / (1 - g * g)).sqrt()
    pairs = torch.where(inside, plane, torch.maximum(a, b))
    pairs.diagonal(dim1=1, dim2=2).copy_(s)
    return pairs.flatten(1).amax(1).clamp(max=1.0)


def neocognitron2003(spec: Spec, parts: int = 100, wholes: int = 400) -> nn.Module:
    """Build the neocognitron with edge extraction and a supervised, competitive top.

    Cells for edges, then two stages of planes that are made where all are silent and go on
    learning, then references with labels: the winner of the right class learns, a wrong answer
    makes another. Recognition has lower thresholds than learning [both reconstructed, as are the
    sizes].

    Shape: (N, C, H, W) -> (N, K)
    Args:
        parts: planes of the second stage at most.
        wholes: planes of the third stage at most.
    Raises:
        ValueError: samples are no pictures, or a side is shorter than 3 samples.

    Source: Fukushima 2003, Neocognitron for handwritten digit recognition, Neurocomputing 51.
    """
    most = (parts, wholes, 5000)
    return LateNeocognitron(spec, THETA, most, reinforce=True, interpolate=False, loud=False)


def add_if_silent(spec: Spec, parts: int = 100, wholes: int = 400) -> nn.Module:
    """Build the neocognitron whose cells are made once and never changed.

    Where input makes no cell fire, a cell remembers that input; the same data again make none.
    On top, a sample belongs to the class between two of whose references it lies nearest.

    Shape: (N, C, H, W) -> (N, K)
    Args:
        parts: planes of the second stage at most.
        wholes: planes of the third stage at most.
    Raises:
        ValueError: samples are no pictures, or a side is shorter than 3 samples.

    Source: Fukushima 2013, Artificial vision by multi-layered neural networks: Neocognitron and
        its advances, Neural Networks 37; Fukushima 2018.
    """
    most = (parts, wholes, 5000)
    return LateNeocognitron(spec, THETA, most, reinforce=False, interpolate=True, loud=True)
