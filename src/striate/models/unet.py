"""U-Net: down to see what, up again to say where."""

import torch
from torch import Tensor, nn

from striate.layers import batch_norm, conv, max_pool
from striate.spec import Spec

__all__ = ["UNet", "unet"]

_UP = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class UNet(nn.Module):
    """Halve and double the maps `depth` times, then go back up beside what was seen going down.

    Shape: (N, C, *S) -> (N, K, *S); sizes that 2^depth does not divide are padded and cut again

    Args:
        axes: number of spatial axes.
        channels: C.
        classes: K.
        width: maps at full size.
        depth: halvings.
    """

    def __init__(self, axes: int, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        if depth < 1 or width < 1:
            raise ValueError(f"depth and width must be at least 1; got {depth} and {width}")
        widths = [width * 2**k for k in range(depth + 1)]
        self.down = nn.ModuleList(
            _pair(axes, a, b) for a, b in zip([channels, *widths], widths, strict=False)
        )
        self.pool = max_pool(axes, 2)
        self.up = nn.ModuleList(_UP[axes](2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(_pair(axes, 2 * w, w) for w in reversed(widths[:-1]))
        self.head = conv(axes, width, classes, 1)
        self.step = 2**depth

    def forward(self, x: Tensor) -> Tensor:
        """Return logits for every position."""
        size = x.shape[2:]
        more = [amount for s in reversed(size) for amount in (0, -s % self.step)]
        x = nn.functional.pad(x, more)
        seen = []
        for pair in self.down[:-1]:
            x = pair(x)
            seen.append(x)
            x = self.pool(x)
        x = self.down[-1](x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([seen.pop(), up(x)], 1))
        return self.head(x)[(..., *(slice(0, s) for s in size))]


def _pair(axes: int, channels: int, out: int) -> nn.Module:
    layers: list[nn.Module] = []
    for c in (channels, out):
        kernels = conv(axes, c, out, 3, pad=1, bias=False)
        layers += [kernels, batch_norm(axes, out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def unet(spec: Spec, width: int = 64, depth: int = 4) -> nn.Module:
    """Build U-Net: a class for every position; the paper's five levels, with batch norm.

    Convolutions keep the size, where the paper's shrink it and the borders are mirrored outside.

    Shape: (N, C, *S) -> (N, K, *S)
    Args:
        width: maps at full size.
        depth: how often the size is halved.
    Raises:
        ValueError: width or depth is below 1.

    Source: Ronneberger, Fischer, Brox 2015, U-Net, arXiv:1505.04597.
    """
    return UNet(spec.axes, spec.channels, len(spec.classes), width, depth)
