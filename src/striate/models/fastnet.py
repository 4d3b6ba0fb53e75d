"""fastnet: the default network, compact and quick to train, for one to three axes.

A frozen convolution whitens the input's patches, groups of convolutions halve the map and widen,
and what is left of each map is its largest value. Batch normalisation stands behind every
trained convolution, so their weights need no careful scale.

Source: Page 2018, How to Train Your ResNet; Jordan 2024, 94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU, arXiv:2404.00498 (whitening, identity initialisation, scaled-down head).
"""

from math import ceil, log2, prod

import torch
from torch import Tensor, nn

from striate.layers import batch_norm, conv, max_pool, measured_shape
from striate.spec import Spec

__all__ = ["FastNet", "WhiteningConv", "coarse_stride", "fastnet", "initialise"]

AT_ONCE = 100  # samples whose patches are looked at together
MOST_WHITENED = 32  # principal directions kept; each gives one filter and its negative


class WhiteningConv(nn.Module):
    """Project patches on their principal directions, each scaled to variance 1; weights frozen.

    Every direction stands twice, with either sign, so that a rectifier behind loses nothing.
    Until `whiten` has seen data the directions are random and orthogonal.

    Shape: (N, C, *S) -> (N, 2 D, *floor((S - kernel) / stride + 1)), D <= C kernel^axes
    Math:  y = [V; -V] patch + bias, V = rows v_i / sqrt(lambda_i + eps) of the patches' covariance

    Args:
        axes: number of spatial axes.
        channels: C.
        kernel: patch side, in samples.
        stride: distance between patches, in samples.
        eps: added to the eigenvalues, in squared units of a normalised input.
    """

    def __init__(
        self, axes: int, channels: int, kernel: int, stride: int, eps: float = 5e-4
    ) -> None:
        super().__init__()
        self.kernel, self.eps = kernel, eps
        values = channels * kernel**axes
        # A multiple of 8 directions makes a multiple of 16 maps, which vector units like.
        self.directions = min(values - values % 8 or values, MOST_WHITENED)
        self.conv = conv(axes, channels, 2 * self.directions, kernel, stride=stride, bias=False)
        self._fill(nn.init.orthogonal_(torch.empty(self.directions, values)))
        self.weight.requires_grad_(False)
        # Apart from the convolution: its backward pass would also compute the frozen weights'
        # gradient, a tenth of a training step on a small network.
        self.bias = nn.Parameter(torch.zeros(2 * self.directions))

    @property
    def weight(self) -> nn.Parameter:
        """(2 D, C, *kernel)."""
        return self.conv.weight  # type: ignore[return-value]

    @torch.no_grad()
    def _fill(self, rows: Tensor) -> None:
        half = rows.reshape(self.directions, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([half, -half]))

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Set the weights from the patches of a batch x (N, C, *S) of normalised samples."""
        parts = x.split(AT_ONCE)  # one part's patches in float64 take four times its memory
        count = len(x) * len(self._patches(x[:1]))
        mean = torch.stack([self._patches(part).sum(0) for part in parts]).sum(0) / count
        away = (self._patches(part) - mean for part in parts)
        values, vectors = torch.linalg.eigh(sum(rows.T @ rows for rows in away) / count)
        values, vectors = values.flip(0), vectors.flip(1)  # largest first
        scale = (values[: self.directions].clamp(min=0) + self.eps).rsqrt()
        self._fill((vectors[:, : self.directions] * scale).T.to(self.weight))

    def _patches(self, x: Tensor) -> Tensor:
        """Return the patches of x that do not overlap: (patches, values), float64, on the CPU."""
        patches = x.float()
        for axis in range(2, x.dim()):
            patches = patches.unfold(axis, self.kernel, self.kernel)
        axes = x.dim() - 2
        places = [0, *range(2, 2 + axes)]  # a patch is one place of one sample ...
        inside = [1, *range(2 + axes, 2 + 2 * axes)]  # ... and one value a channel and offset
        return patches.permute(*places, *inside).flatten(0, axes).flatten(1).cpu().double()

    def forward(self, x: Tensor) -> Tensor:
        """Return the whitened patches."""
        y = self.conv(x)
        return y + self.bias.to(y.dtype).view(-1, *[1] * (x.dim() - 2))


class Group(nn.Module):
    """Convolve, halve the map, then convolve at the new size; with a shortcut from depth 3 on.

    Shape: (N, C, *S) -> (N, out, *floor(S / 2))
    """

    def __init__(self, axes: int, channels: int, out: int, depth: int, momentum: float) -> None:
        super().__init__()

        def layer(c: int, *pool: nn.Module) -> nn.Sequential:
            kernel = conv(axes, c, out, 3, pad=1, bias=False)
            _identity(kernel.weight)  # type: ignore[arg-type]
            norm = batch_norm(axes, out, momentum)
            norm.weight.requires_grad_(False)
            return nn.Sequential(kernel, *pool, norm, nn.SiLU(inplace=True))

        self.down = layer(channels, max_pool(axes, 2))
        self.same = nn.ModuleList(layer(out) for _ in range(depth - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller, wider map."""
        x = self.down(x)
        if len(self.same) < 2:
            return self.same[0](x) if self.same else x
        y = x
        for layer in self.same:
            y = layer(y)
        return x + y


@torch.no_grad()
def _identity(weight: Tensor) -> None:
    """Let the first filters pass their own channel on unchanged."""
    count = min(weight.shape[:2])
    middle = weight
    for side in weight.shape[2:]:
        middle = middle.select(2, side // 2)
    weight[:count] = 0
    middle.fill_diagonal_(1)


class FastNet(nn.Module):
    """Whitening, groups, global maximum, linear head.

    Shape: (N, C, *S) -> (N, K)

    Args:
        spec: what a sample is.
        width: channels of the first group; the later ones have `widen` times as many.
        depth: convolutions in a group; from 3 on with a shortcut.
        widen: channels of the later groups, in units of `width`.
        momentum: share of a new batch in the running statistics; high, for short trainings.
        stride: between the stem's patches, in samples; 0: 1, twice it, and so on, until at most
            48 positions an axis are left.

    Raises:
        ValueError: an axis is shorter than 4 samples, a number is below 1, momentum no share, or
            the stride longer than half of an axis.
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 64,
        depth: int = 2,
        widen: int = 2,
        momentum: float = 0.4,
        stride: int = 0,
    ) -> None:
        super().__init__()
        if min(width, depth, widen) < 1:
            raise ValueError(
                f"width, depth and widen must be at least 1; got {width}, {depth}, {widen}"
            )
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is a share, 0 to 1; got {momentum}")
        if min(spec.size) < 4:
            raise ValueError(f"every axis must have at least 4 samples; got {spec.size}")
        if not 0 <= stride <= min(spec.size) // 2:
            half = min(spec.size) // 2
            raise ValueError(f"stride must be 0 to half of the shortest axis, {half}; got {stride}")
        stride = stride or usual_stride(spec)
        axes, kernel = spec.axes, _kernel(spec, stride)
        self.stem = WhiteningConv(axes, spec.channels, kernel, stride)
        channels = self.stem.weight.shape[0]
        side = (min(spec.size) - kernel) // stride + 1
        count = max(1, int(log2(side / 3))) if side >= 6 else 1
        groups = []
        for i in range(count):
            out = width if i == 0 and count > 1 else width * widen
            groups.append(Group(axes, channels, out, depth, momentum))
            channels = out
        self.act = nn.SiLU(inplace=True)
        self.groups = nn.Sequential(*groups)
        body = nn.Sequential(self.stem, self.groups)
        _, *left = measured_shape(body, spec.channels, spec.size)
        self.pool = max_pool(axes, tuple(left))
        self.head = nn.Linear(channels, len(spec.classes), bias=False)
        self.scale = 1 / 9

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.pool(self.groups(self.act(self.stem(x))))
        return self.head(x.flatten(1)) * self.scale


def usual_stride(spec: Spec) -> int:
    """Return the stem's stride where nobody names one: at most 48 positions an axis are left."""
    return max(1, 2 ** ceil(log2(min(spec.size) / 48)))


def coarse_stride(spec: Spec) -> int:
    """Return twice the usual stride, for trainings that have little time; 0: better none.

    A stem that leaves fewer than 12 positions an axis would take the first group's work over;
    with one axis it would save but half of the positions.
    """
    if spec.axes == 1:
        return 0
    stride = 2 * usual_stride(spec)
    positions = (min(spec.size) - _kernel(spec, stride)) // stride + 1
    return stride if positions >= 12 else 0


def _kernel(spec: Spec, stride: int) -> int:
    """Return the side of the stem's patches: they overlap, and have at least 9 values."""
    kernel = stride + 1
    while spec.channels * kernel**spec.axes < 9:
        kernel += 1
    return min(kernel, min(spec.size) // 2)


def fastnet(
    spec: Spec,
    width: int = 0,
    depth: int = 2,
    widen: int = 2,
    momentum: float = 0.4,
    stride: int = 0,
) -> nn.Module:
    """Build the default network; see `FastNet`. Width 0 is 32 below 16 x 16 positions, else 64."""
    width = width or (32 if prod(spec.size) < 256 else 64)
    return FastNet(spec, width, depth, widen, momentum, stride)


def initialise(model: nn.Module, x: Tensor) -> None:
    """Set every weight of `model` that is computed from data; x (N, C, *S), normalised.

    Only a whitening layer that stands first can be set so; other networks are left alone.
    """
    for module in model.modules():
        if isinstance(module, WhiteningConv):
            module.whiten(x)
