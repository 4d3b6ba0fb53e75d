"""Max pooling whose training keeps little: what won, in two bytes, and not the map it was in."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MaxPool2d", "MaxPool3d"]

AT_ONCE = 2**20  # values pooled at a time: few enough to stay in the cache
_FORWARD = {
    2: torch.ops.aten.max_pool2d_with_indices,
    3: torch.ops.aten.max_pool3d_with_indices,
}
_BACKWARD = {
    2: torch.ops.aten.max_pool2d_with_indices_backward,
    3: torch.ops.aten.max_pool3d_with_indices_backward,
}


class _Lean(torch.autograd.Function):
    """torch's max pooling on a CPU, some samples at a time, bit for bit.

    torch keeps the whole input and an index of eight bytes for each value given out. The input
    counts for its shape alone, and the index within a map fits two bytes: half of the memory that
    a training step of `fastnet` needed.
    """

    @staticmethod
    def forward(x: Tensor, how: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Return the largest values and where they stood in their maps."""
        axes = x.dim() - 2
        kind = torch.int16 if x[0, 0].numel() <= 2**15 else torch.int64
        parts = [_FORWARD[axes](some, *how) for some in x.split(_few(x))]
        return torch.cat([y for y, _ in parts]), torch.cat([place.to(kind) for _, place in parts])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep the places, and the shape and order in memory of the input."""
        x, ctx.how = inputs
        ctx.shape, ctx.order = x.shape, torch.channels_last
        if x.dim() != 4 or x.is_contiguous():
            ctx.order = torch.contiguous_format
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Put each gradient where the largest value stood."""
        (places,), grad = ctx.saved_tensors, grads[0]
        back = _BACKWARD[grad.dim() - 2]
        x = torch.empty(ctx.shape, dtype=grad.dtype, memory_format=ctx.order)
        if torch.is_grad_enabled():  # somebody wants the derivative of this, too
            return back(grad, x, *ctx.how, places.long()), None
        few = _few(x)
        parts = (part.split(few) for part in (grad, x, places))
        for some, result, place in zip(*parts, strict=True):
            result.copy_(back(some, result, *ctx.how, place.long()))
        return x, None


def _few(x: Tensor) -> int:
    return max(1, AT_ONCE // max(1, x[0].numel()))


def _pool(layer: nn.Module, x: Tensor, axes: int) -> Tensor:
    def each(value: Any) -> list[int]:
        return list(value) if isinstance(value, Sequence) else [value] * axes

    how = (*map(each, (layer.kernel_size, layer.stride, layer.padding, layer.dilation)),)
    return _Lean.apply(x, (*how, layer.ceil_mode))[0]


def _suits(layer: nn.Module, x: Tensor, axes: int) -> bool:
    if torch.compiler.is_compiling():  # traced, each part written would become a copy of the whole
        return False
    wanted = x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu"
    return wanted and x.dim() == axes + 2 and x.numel() > 0 and not layer.return_indices


class MaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d`, the same to the bit; its training on a CPU keeps a third as much.

    Shape: (N, C, H, W) -> (N, C, *floor((S + 2 pad - dilation (kernel - 1) - 1) / stride + 1))
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest value under each position of the kernel."""
        return _pool(self, x, 2) if _suits(self, x, 2) else super().forward(x)


class MaxPool3d(nn.MaxPool3d):
    """`torch.nn.MaxPool3d`, the same to the bit; its training on a CPU keeps a third as much.

    Shape: (N, C, D, H, W) -> (N, C, *floor((S + 2 pad - dilation (kernel - 1) - 1) / stride + 1))
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest value under each position of the kernel."""
        return _pool(self, x, 3) if _suits(self, x, 3) else super().forward(x)
