"""The cresceptron: a network that grows where it has no word for what it sees."""

from math import inf, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers import Brightness, avg_pool, max_pool
from striate.models.neocognitron import pictures
from striate.models.neocognitron2003 import Likeness, disc
from striate.spec import Spec

__all__ = ["Cresceptron", "Directions", "cresceptron"]

MOST = 2000  # detectors of a level
KEPT = 2000  # views that are gone over again when something was made
AT_ONCE = 64  # views whose maps are held at a time
ALIKE = 1 - 1e-5  # likeness of what is remembered already


class Directions(nn.Module):
    """Edges of eight directions: how much brightness rises that way.

    Shape: (N, C, H, W) -> (N, 8, H, W)
    Math:  phi[cos(k 45 deg) d/dx + sin(k 45 deg) d/dy] of the light, colours added, the
           derivatives smoothed by a Gaussian of 1 sample
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(5) - 2.0
        slope = disc(5, 1.0) * place[None]
        turns = torch.arange(8) * pi / 4
        bank = turns.cos().view(-1, 1, 1) * slope + turns.sin().view(-1, 1, 1) * slope.T
        self.register_buffer("kernel", bank[:, None], persistent=False)

    def forward(self, light: Tensor) -> Tensor:
        """Return the edges."""
        grey = F.pad(light.mean(1, keepdim=True), [2] * 4, "replicate")
        return F.conv2d(grey, self.kernel).relu()


class Level(nn.Module):
    """Detect patterns, keep the strongest of every square, and blur: it may be a little elsewhere.

    Shape: (N, C, H, W) -> (N, K, H / 2, W / 2)

    Args:
        inputs: C.
        theta: cosine from which a detector answers.
        pool: "max", or "average" to see what the maximum is for.
        sigma: of the blur, in samples; 0: none.
    """

    blur: Tensor

    def __init__(self, inputs: int, theta: float, pool: str, sigma: float) -> None:
        super().__init__()
        self.detect = Likeness(inputs, 3, 1, theta)
        self.reduce = max_pool(2, 2) if pool == "max" else avg_pool(2, 2)
        self.register_buffer("blur", disc(3, max(sigma, 1e-3)), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """Return the nodes."""
        found = self.detect(u)
        if not found.shape[1]:  # nothing is learnt yet
            return found[:, :, ::2, ::2]
        nodes = self.reduce(found)
        kernel = self.blur.expand(nodes.shape[1], 1, 3, 3)
        y: Tensor = F.conv2d(nodes, kernel, padding=1, groups=nodes.shape[1])
        return y


class Cresceptron(nn.Module):
    """Levels that make a detector for every part they do not know, and a node for every view.

    Learning a view of a class: at each level, wherever something is to be seen and no detector
    answers, one is made of it; if the top does not answer with the right class, a node remembers
    the whole. It slides over larger pictures; `segment` follows the maxima back to the edges. What
    it learnt from it keeps, the last 2,000 views: a bundle holds them.

    Shape: (N, C, H, W) -> (N, K), the answer of the best node of each class at its best place

    Args:
        spec: what a sample is; larger pictures may be asked later.
        theta: cosine below which a level knows no word.
        pool: "max" or "average".
        blur: sigma behind each node reduction, in samples.
    """

    label: Tensor
    views: Tensor
    shown: Tensor
    grows = ("label", "views", "shown")

    def __init__(self, spec: Spec, theta: float, pool: str, blur: float) -> None:
        super().__init__()
        pictures(spec)
        if pool not in ("max", "average"):
            raise ValueError(f"pool must be max or average; got {pool!r}")
        if not 0 < theta < 1:
            raise ValueError(f"theta must lie between 0 and 1; got {theta}")
        if not 0 <= blur < inf:
            raise ValueError(f"blur must be 0 or above; got {blur}")
        side = min(spec.size) // 4
        if side < 2 or spec.size[0] != spec.size[1]:
            raise ValueError(f"samples must be squares of at least 8 pixels; got {spec.size}")
        self.theta, self.classes = theta, len(spec.classes)
        self.light = Brightness(spec.mean, spec.std, *spec.value_range)
        self.edges = Directions()
        self.levels = nn.ModuleList(Level(8, theta, pool, blur) for _ in range(2))
        self.top = Likeness(0, side, 0, 0.0)
        self.register_buffer("label", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("views", torch.zeros(0, spec.channels, *spec.size))  # learnt from
        self.register_buffer("shown", torch.zeros(0, dtype=torch.int64))  # their classes

    def planes(self) -> list[int]:
        """Return how many detectors each level has, and how many nodes the top."""
        return [len(level.detect.x) for level in self.levels] + [len(self.top.x)]  # type: ignore[union-attr, arg-type]

    def nodes(self, edges: Tensor) -> Tensor:
        """Return the answer of every node at every place: (N, M, H', W')."""
        u = edges
        for level in self.levels:
            u = level(u)
        y: Tensor = self.top(u)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: the classes' likenesses, 20 to 1."""
        return 20 * self.likeness(self.nodes(self.edges(self.light(x))))

    def likeness(self, said: Tensor) -> Tensor:
        """Return the best answer of each class, 0 where it has no node: (N, K)."""
        best = said.new_zeros(len(said), self.classes)
        if said.shape[1]:
            most = said.flatten(2).amax(2)
            best = best.scatter_reduce(1, self.label.expand_as(most), most, "amax")
        return best

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """Grow level by level, then on top; return the loss of the answers before.

        A level is complete before the next one sees it, and the top goes over the views until all
        are known. What a new view adds changes what the levels above say of old ones, so these are
        gone over too: the same views again find nothing that they have no word for.
        """
        known = [self._was_shown(*view) for view in zip(x, y, strict=True)]
        if all(known):
            return F.cross_entropy(self(x), y)
        new = ~torch.tensor(known, device=x.device)
        old = min(len(self.views), max(0, KEPT - int(new.sum())))
        self.views = torch.cat([self.views[len(self.views) - old :], x[new]])
        self.shown = torch.cat([self.shown[len(self.shown) - old :], y[new]])
        below = self._grow_levels(old)
        first = None
        while True:
            nodes = len(self.label)
            each = zip(below, self.shown, strict=True)
            said = torch.cat([self._recall(u[None], label) for u, label in each])
            first = said if first is None else first
            if len(self.label) == nodes:
                return F.cross_entropy(20 * first[old:], self.shown[old:])

    def _grow_levels(self, old: int) -> Tensor:
        """Let the levels learn the views; return what the last says of each.

        Args:
            old: views that each level knows, as long as the one below says of them what it said.
        """
        below = self.edges(self.light(self.views))
        for level in self.levels:
            likeness: Likeness = level.detect  # type: ignore[assignment]
            before = len(likeness.x)
            for view in below[old:]:
                likeness.add_where_silent(view[None], self.theta, MOST)
            old = old if len(likeness.x) == before else 0
            below = torch.cat([level(some) for some in below.split(AT_ONCE)])
        return below

    def _was_shown(self, view: Tensor, label: Tensor) -> bool:
        """Tell whether a view was learnt as one of this class."""
        same = self.shown == label
        return bool((self.views[same] == view).flatten(1).all(1).any())

    def _recall(self, below: Tensor, label: Tensor) -> Tensor:
        """Make a node of a view that is not known as what it is; return the likenesses before."""
        said = self.likeness(self.top(below))
        wrong = said.max() < self.theta or int(said.argmax()) != label
        if wrong and said[0, label] < ALIKE:  # a view that two classes share stays undecided
            self._remember(below, int(label))
        return said

    def _remember(self, below: Tensor, label: int) -> None:
        """Make a node of the window with most in it, as wide as the levels are now."""
        side = self.top.window
        energy = F.avg_pool2d(below.square().sum(1, keepdim=True), side, 1)
        place = int(energy.argmax())
        row, column = place // energy.shape[3], place % energy.shape[3]
        node = below[:, :, row : row + side, column : column + side]
        self.top.add(node)
        self.label = torch.cat([self.label, self.label.new_tensor([label])])

    def segment(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """Return the pixels that made the answer: back through the maxima to the edges.

        Shape: (N, C, H, W) -> (N, H, W), 0 to 1, how much each edge gave to the answer

        Args:
            of: (N,) classes to look for; None: the answer itself.
        """
        with torch.enable_grad():
            edges = self.edges(self.light(x)).detach().requires_grad_()
            best = self.likeness(self.nodes(edges))
            chosen = best.argmax(1) if of is None else of
            best.gather(1, chosen[:, None]).sum().backward()
        gave = (edges.grad * edges.detach()).clamp(min=0).sum(1)
        return gave / gave.flatten(1).amax(1).clamp(min=1e-12)[:, None, None]


def cresceptron(spec: Spec, theta: float = 0.8, pool: str = "max", blur: float = 1.0) -> nn.Module:
    """Build the network that grows: two levels of detectors under nodes that remember views.

    Shape: (N, C, H, W) -> (N, K)
    Args:
        theta: cosine below which a level knows no word [reconstructed].
        pool: "max", or "average" to see what the maximum is for.
        blur: sigma behind each node reduction, in samples [reconstructed]; 0: none.
    Raises:
        ValueError: samples are no squares of at least 8 pixels, or an option is out of range.

    Source: Weng, Ahuja, Huang 1992, Cresceptron: a self-organizing neural network which grows
        adaptively, IJCNN; 1997, Learning Recognition and Segmentation Using the Cresceptron,
        International Journal of Computer Vision 25(2).
    """
    return Cresceptron(spec, theta, pool, blur)
