"""Local connections without, or with little, sharing of weights."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from striate.layers.bounds import per_axis, whole
from striate.layers.convolution import im2col
from striate.layers.tiling import shape_after

__all__ = ["LocallyConnected", "TiledConvolution", "local"]


def local(
    x: Tensor, weight: Tensor, kernel: int | Sequence[int], stride: int | Sequence[int] = 1
) -> Tensor:
    """Give every position its own kernels.

    Shape: (N, C, *S), (P, O, C prod(K)) -> (N, O, P)
    Math:  y_op = sum_k w_pok patch_p,k

    Raises:
        ValueError: the weight is not for such maps, or as for `im2col`.
    """
    columns = im2col(x, kernel, stride)
    _, values, places = columns.shape
    if weight.dim() != 3 or weight.shape[::2] != (places, values):
        raise ValueError(
            f"weight must be ({places}, O, {values}) for x {tuple(x.shape)}; "
            f"got {tuple(weight.shape)}"
        )
    return torch.einsum("nkp,pok->nop", columns, weight)


class TiledConvolution(nn.Module):
    """Kernels that repeat every `tile` positions along each axis.

    One tile is a convolution, as many as there are positions a locally connected layer.

    Shape: (N, C, *size) -> (N, O, *floor((size - kernel) / stride + 1))

    Args:
        channels: C.
        out: O.
        size: of the maps that come in.
        kernel: taps along every axis, or one number an axis.
        tile: different kernels along every axis; 0: one a position.
        stride: distance of positions, in samples, for all axes or one an axis.
        bias: one number for each kernel.

    Raises:
        ValueError: a number is out of range, a window has no position, or x has another size.

    Source: Le, Ngiam, Chen, Chia, Koh, Ng 2010, Tiled Convolutional Neural Networks.
    """

    number: Tensor

    def __init__(
        self,
        channels: int,
        out: int,
        size: Sequence[int],
        kernel: int | Sequence[int],
        tile: int = 1,
        *,
        stride: int | Sequence[int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        whole(1, channels=channels, out=out)
        whole(0, tile=tile)
        if not isinstance(size, Sequence):
            raise ValueError(f"size must be one number an axis, such as (8, 8); got {size!r}")
        axes = len(size)
        self.size, self.kernel, self.stride = per_axis(
            axes, size=size, kernel=kernel, stride=stride
        )
        self.places = shape_after(self.size, self.kernel, self.stride)
        tiles = [min(tile, p) if tile else p for p in self.places]
        number = torch.zeros((), dtype=torch.int64)
        for places, count in zip(self.places, tiles, strict=True):
            number = number[..., None] * count + torch.arange(places) % count
        self.register_buffer("number", number.flatten(), persistent=False)
        values = channels * prod(self.kernel)
        self.weight = nn.Parameter(torch.empty(prod(tiles), out, values))
        self.bias = nn.Parameter(torch.zeros(prod(tiles), out)) if bias else None
        nn.init.uniform_(self.weight, -(values**-0.5), values**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps."""
        channels = self.weight.shape[2] // prod(self.kernel)
        if tuple(x.shape[1:]) != (channels, *self.size):
            wanted = ", ".join(map(str, ("N", channels, *self.size)))
            raise ValueError(f"x must be ({wanted}); got {tuple(x.shape)}")
        own = len(self.weight) == len(self.number)
        y = local(x, self.weight if own else self.weight[self.number], self.kernel, self.stride)
        if self.bias is not None:
            y = y + self.bias[self.number].T
        return y.unflatten(2, self.places)

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the weighted links of one sample: those of every position, biases too."""
        outputs = prod(y.shape[1:])
        return outputs * (self.weight.shape[2] + (self.bias is not None))

    @torch.no_grad()
    def copy_kernel(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Give every position the kernels of a convolution: (O, C, *K), (O,).

        Raises:
            ValueError: `weight` or `bias` is of another shape.
        """
        _, out, values = self.weight.shape
        wanted = (out, values // prod(self.kernel), *self.kernel)
        if weight.shape != wanted:
            raise ValueError(f"weight must be {wanted}; got {tuple(weight.shape)}")
        if bias is not None and bias.shape != (out,):
            raise ValueError(f"bias must be ({out},); got {tuple(bias.shape)}")
        self.weight.copy_(weight.flatten(1).expand_as(self.weight))
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias.expand_as(self.bias))

    def extra_repr(self) -> str:
        """Return the sizes."""
        tiles, out, _ = self.weight.shape
        return f"{self.size} -> {out} x {self.places}, kernel={self.kernel}, kernels={tiles}"


class LocallyConnected(TiledConvolution):
    """A kernel and a bias of its own for every position: for data that stand in one place.

    Shape: (N, C, *size) -> (N, O, *floor((size - kernel) / stride + 1))
    Math:  parameters: prod(places) (prod(kernel) C + 1) O

    Args:
        channels: C.
        out: O.
        size: of the maps that come in.
        kernel: taps along every axis, or one number an axis.
        stride: distance of positions, in samples, for all axes or one an axis.
        bias: one number for each map and position.

    Raises:
        ValueError: a number is out of range, a window has no position, or x has another size.

    Source: Taigman, Yang, Ranzato, Wolf 2014, DeepFace.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        size: Sequence[int],
        kernel: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(channels, out, size, kernel, 0, stride=stride, bias=bias)
