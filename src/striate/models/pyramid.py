"""The neural abstraction pyramid: layers that halve the resolution and talk up, down and sideways.

All cells of all layers step together; with every step, what is uncertain in one place is settled
by what is known around and above it.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from striate.layers import pad
from striate.spec import Spec

__all__ = ["Backward", "Pyramid", "pyramid_fillin", "pyramid_superresolution"]


class Bordered(nn.Module):
    """A convolution whose border wraps around, or is dark.

    Shape: (N, C, *S) -> (N, O, *S / stride)
    """

    def __init__(
        self, axes: int, channels: int, out: int, window: int, stride: int, border: str
    ) -> None:
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.conv = convolution(channels, out, window, stride)
        spare = window - stride
        self.ends, self.border = [[spare // 2, spare - spare // 2]] * axes, border

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps."""
        y: Tensor = self.conv(pad(x, self.ends, self.border))
        return y


class Backward(nn.Module):
    """Each cell above speaks to the 2^axes cells below it, to each with weights of its own.

    Shape: (N, C, *S) -> (N, O, *2 S)
    Math:  y at 2 p + q = W_q x at p + b_q, q a corner of the cube: O 2^axes (C + 1) parameters
    """

    def __init__(self, axes: int, channels: int, out: int) -> None:
        super().__init__()
        self.axes = axes
        self.corners = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](channels, out * 2**axes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the finer maps."""
        y = self.corners(x).unflatten(1, (-1, *[2] * self.axes))
        order = [0, 1]
        for axis in range(self.axes):
            order += [2 + self.axes + axis, 2 + axis]
        y = y.permute(order)
        size = [2 * s for s in x.shape[2:]]
        return y.reshape(*y.shape[:2], *size)


class Layer(nn.Module):
    """The cells of one resolution: what they hear from below, beside and above, added up.

    Math: y = transfer(forward + lateral + backward + bias); each projection has a bias as well

    Args:
        axes: spatial axes.
        below: maps of the finer layer; 0: nothing is heard from there.
        maps: of this layer.
        above: maps of the coarser layer; 0: nothing is heard from there.
        window: of the forward projections.
        border: see `layers.pad`.
    """

    def __init__(
        self, axes: int, below: int, maps: int, above: int, window: int, border: str
    ) -> None:
        super().__init__()
        self.up = Bordered(axes, below, maps, window, 2, border) if below else None
        self.beside = Bordered(axes, maps, maps, 3, 1, border)
        self.down = Backward(axes, above, maps) if above else None
        self.bias = nn.Parameter(torch.zeros(maps, *[1] * axes))

    def forward(
        self, own: Tensor, below: Tensor | None, above: Tensor | None, extra: Tensor | None
    ) -> Tensor:
        """Return the activity of the next step; `extra` is any other drive, of the shape of own."""
        drive = self.beside(own) + self.bias
        if extra is not None:
            drive = drive + extra
        if self.up is not None and below is not None:
            drive = drive + self.up(below)
        if self.down is not None and above is not None:
            drive = drive + self.down(above)
        return torch.sigmoid(drive)


class Summit(nn.Module):
    """A top layer of one place: it hears every cell below, and speaks to every one.

    Shape: (N, C, *S) -> (N, C, *S), what it says
    Math:  down(sigmoid(up(x))): C prod(S) M weights each way

    Args:
        below: (C, *S).
        maps: M.
    """

    def __init__(self, below: Sequence[int], maps: int) -> None:
        super().__init__()
        self.below = tuple(below)
        self.up, self.down = nn.Linear(prod(below), maps), nn.Linear(maps, prod(below))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the top says to the layer below."""
        y: Tensor = self.down(torch.sigmoid(self.up(x.flatten(1))))
        return y.unflatten(1, self.below)


class Pyramid(nn.Module):
    """Layers from fine to coarse, stepping together.

    Shape: (N, C, *S) -> (N, O, *S'), the finest layer after the last step; while learning,
        (steps, N, O, *S')

    Args:
        layers: from the finest to the coarsest. Without an `entry` the input is a coarser one
            still, that never changes: the picture drawn is finer by 2 for each layer.
        steps: of the recurrence.
        entry: projection of the input into the finest layer, heard at every step.
        summit: what stands above the coarsest layer.
        feedback: False cuts what is said downwards, to see what it is for.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        steps: int,
        *,
        entry: nn.Module | None = None,
        summit: nn.Module | None = None,
        feedback: bool = True,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps must be at least 1; got {steps}")
        self.layers, self.entry, self.summit = nn.ModuleList(layers), entry, summit
        self.steps, self.feedback = steps, feedback

    def forward(self, x: Tensor) -> Tensor:
        """Return the finest layer."""
        finer = 2 ** len(self.layers) if self.entry is None else 1
        states = [
            x.new_zeros(len(x), len(layer.bias), *[s * finer // 2**n for s in x.shape[2:]])  # type: ignore[arg-type]
            for n, layer in enumerate(self.layers)
        ]
        seen = None if self.entry is None else self.entry(x)
        course = []
        for _ in range(self.steps):
            states = [self._cells(n, states, x, seen) for n in range(len(states))]
            course.append(states[0])
        return torch.stack(course) if self.training else course[-1]

    def _cells(self, n: int, states: list[Tensor], x: Tensor, seen: Tensor | None) -> Tensor:
        """Return layer n one step later."""
        own, top = states[n], n + 1 == len(states)
        below = states[n - 1] if n else None
        above = (x if seen is None else None) if top else states[n + 1]
        extra = seen if n == 0 else None
        if top and self.summit is not None and self.feedback:
            said = self.summit(own)
            extra = said if extra is None else extra + said
        hear = self.feedback or (top and seen is None)
        y: Tensor = self.layers[n](own, below, above if hear else None, extra)
        return y

    def criterion(self, answer: Tensor, y: Tensor) -> Tensor:
        """Return the squared error of all steps against the wanted map, later steps weighing more.

        Math: sum_t t |answer_t - y|^2 / sum_t t, the mean over samples, maps and places
        """
        weight = torch.arange(1.0, len(answer) + 1, device=answer.device)
        error = (answer - y).square().flatten(1).mean(1)
        return (weight * error).sum() / weight.sum()


def pyramid_superresolution(spec: Spec, steps: int = 10, maps: int = 4) -> nn.Module:
    """Build the pyramid that draws a picture four times as fine: 235 parameters.

    The input stands above; four maps of twice its resolution below it, and under them the output:
    4 [(4 + 1) + (36 + 1) + 4 (1 + 1) + 1] + [(9 + 1) + 4 (4 + 1) + 1] [decomposition
    reconstructed, the sum certain].

    Shape: (N, C, *S) -> (N, C, *4 S), 0 to 1; while learning, all steps
    Args:
        steps: of the recurrence.
        maps: of the middle layer.
    Raises:
        ValueError: `steps` is below 1.

    Source: Behnke 2001, Learning Iterative Image Reconstruction in the Neural Abstraction
        Pyramid; Behnke 2003, Hierarchical Neural Networks for Image Interpretation, chapter 7.
    """
    fine = Layer(spec.axes, 0, spec.channels, maps, 2, "zero")
    middle = Layer(spec.axes, spec.channels, maps, spec.channels, 2, "zero")
    return Pyramid([fine, middle], steps)


def pyramid_fillin(
    spec: Spec,
    steps: int = 12,
    maps: int = 4,
    top: int = 16,
    out: int = 0,
    feedback: bool = True,
) -> nn.Module:
    """Build the pyramid that fills holes in, or marks what it sees at full resolution.

    Three layers of resolution 1, 1/2 and 1/4 under a summit of one place; windows of 4 samples an
    axis upwards; the border wraps around.

    Shape: (N, C, *S) -> (N, O, *S), 0 to 1; while learning, all steps
    Args:
        steps: of the recurrence.
        maps: of the second layer; the third has twice as many.
        top: units of the summit.
        out: O: 0 as many as come in, for a picture; K for a segmentation; 1 for a place.
        feedback: False cuts what is said downwards.
    Raises:
        ValueError: an axis cannot be halved twice, or `steps` is below 1.

    Source: Behnke 2001, as above, and 2003, chapter 9.
    """
    if any(s % 4 for s in spec.size):
        raise ValueError(f"every axis must be a multiple of 4; got {spec.size}")
    axes, given, border = spec.axes, out or spec.channels, "circular"
    layers = [
        Layer(axes, 0, given, maps, 4, border),
        Layer(axes, given, maps, 2 * maps, 4, border),
        Layer(axes, maps, 2 * maps, 0, 4, border),
    ]
    summit = Summit((2 * maps, *[s // 4 for s in spec.size]), top)
    entry = Bordered(axes, spec.channels, given, 3, 1, border)
    return Pyramid(layers, steps, entry=entry, summit=summit, feedback=feedback)
