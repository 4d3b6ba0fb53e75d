"""Convolution in two axes: three operators, each the gradient of the other two.

`torch.ops.striate.convolve`, `.convolve_input` and `.convolve_weight` are known to autograd (to any
order) and to torch.compile. Each call asks `dispatch` which algorithm is the fastest here.
"""

import torch
from torch import Tensor

from striate.kernels.dispatch import TORCH, Call, fastest
from striate.kernels.library import Conv, run

__all__ = ["conv2d"]

Pair = list[int]


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """Correlate pictures with 3 x 3 kernels, stride 1; the answer lies channels last.

    Shape: (N, C, H, W), (O, C, 3, 3), (O) -> (N, O, H + 2 p - 2, W + 2 p - 2)
    Math:  y_o = b_o + sum_c w_oc * x_c, as torch.nn.functional.conv2d

    Args:
        x: float32, on the CPU.
        padding: zeros before and behind each axis, in samples, 0 to 2.

    Source: Lavin, Gray 2015, arXiv:1509.09308.
    """
    return torch.ops.striate.convolve(x, weight, bias, list(padding))


def geometry(x: Tensor, weight: Tensor, padding: Pair, turned: bool = False) -> Conv:
    """Return what the library has to know; `turned` asks for the gradient to the input."""
    n, c, h, w = x.shape
    o = weight.shape[1 if turned else 0]
    pad_h, pad_w = padding
    so, sc, sh, sw = weight.stride()
    return Conv(
        n=n, c=c, h=h, w=w, o=o, out_h=h + 2 * pad_h - 2, out_w=w + 2 * pad_w - 2,
        kernel_h=3, kernel_w=3, stride_h=1, stride_w=1, pad_h=pad_h, pad_w=pad_w,
        dilation_h=1, dilation_w=1, groups=1,
        weight_o=so, weight_c=sc, weight_h=sh, weight_w=sw,
        turned=turned, threads=torch.get_num_threads(),
    )  # fmt: skip


def last(x: Tensor) -> Tensor:
    """Return x with its channels last in memory, whatever its sizes.

    torch calls any order channels-last where an axis has size 1, and leaves it as it is.
    """
    n, c, h, w = x.shape
    if x.stride() == (h * w * c, 1, w * c, c):
        return x
    return empty(n, c, h, w).copy_(x)


def empty(n: int, c: int, h: int, w: int) -> Tensor:
    """Return memory for pictures, channels last."""
    return torch.empty(n, h, w, c).permute(0, 3, 1, 2)


def called(direction: str, own: Conv) -> Call:
    """Return what `dispatch` is asked."""
    return Call(direction, own.n, own.c, own.o, own.out_h, own.out_w, own.threads)


@torch.library.custom_op("striate::convolve", mutates_args=(), device_types="cpu")
def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair) -> Tensor:
    """Correlate."""
    own = geometry(x, weight, padding)
    x = last(x)

    def attempt(algorithm: int) -> Tensor:
        if algorithm == TORCH:
            return last(torch.conv2d(x, weight, bias, padding=padding))
        own.tile, y = algorithm, empty(own.n, own.o, own.out_h, own.out_w)
        shift = None if bias is None else bias.contiguous()
        address = None if shift is None else shift.data_ptr()
        run("winograd_forward", own, x.data_ptr(), weight.data_ptr(), address, y.data_ptr())
        return y

    return fastest(called("forward", own), attempt)


@torch.library.custom_op("striate::convolve_input", mutates_args=(), device_types="cpu")
def convolve_input(dy: Tensor, weight: Tensor, padding: Pair) -> Tensor:
    """Return the gradient to x of sum(dy y)."""
    own = geometry(dy, weight, [2 - p for p in padding], turned=True)
    dy = last(dy)

    def attempt(algorithm: int) -> Tensor:
        dx = empty(own.n, own.o, own.out_h, own.out_w)
        if algorithm == TORCH:
            return last(_backward(dy, dx, weight, padding, 0))
        own.tile = algorithm
        run("winograd_forward", own, dy.data_ptr(), weight.data_ptr(), None, dx.data_ptr())
        return dx

    return fastest(called("input", own), attempt)


@torch.library.custom_op("striate::convolve_weight", mutates_args=(), device_types="cpu")
def convolve_weight(x: Tensor, dy: Tensor, padding: Pair) -> Tensor:
    """Return the gradient to the kernels of sum(dy y)."""
    dw = torch.empty(dy.shape[1], x.shape[1], 3, 3)
    own = geometry(x, dw, padding)
    x, dy = last(x), last(dy)

    def attempt(algorithm: int) -> Tensor:
        if algorithm == TORCH:
            return _backward(dy, x, dw, padding, 1).contiguous()
        own.tile = algorithm
        run("winograd_weight", own, x.data_ptr(), dy.data_ptr(), dw.data_ptr())
        return dw

    return fastest(called("weight", own), attempt)


def _backward(dy: Tensor, x: Tensor, weight: Tensor, padding: Pair, which: int) -> Tensor:
    mask = [which == 0, which == 1, False]
    found = torch.ops.aten.convolution_backward(
        dy, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, mask
    )
    return found[which]


@convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair) -> Tensor:
    n, _, h, w = x.shape
    h, w = h + 2 * padding[0] - 2, w + 2 * padding[1] - 2
    return x.new_empty(n, h, w, weight.shape[0]).permute(0, 3, 1, 2)


@convolve_input.register_fake
def _(dy: Tensor, weight: Tensor, padding: Pair) -> Tensor:
    n, _, h, w = dy.shape
    h, w = h - 2 * padding[0] + 2, w - 2 * padding[1] + 2
    return dy.new_empty(n, h, w, weight.shape[1]).permute(0, 3, 1, 2)


@convolve_weight.register_fake
def _(x: Tensor, dy: Tensor, padding: Pair) -> Tensor:
    return x.new_empty(dy.shape[1], x.shape[1], 3, 3)


def _keep(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:2])
    ctx.padding = inputs[-1]


def _convolve_backward(ctx, dy):  # type: ignore[no-untyped-def]
    x, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    dx = convolve_input(dy, weight, ctx.padding) if wanted[0] else None
    dw = convolve_weight(x, dy, ctx.padding) if wanted[1] else None
    return dx, dw, dy.sum((0, 2, 3)) if wanted[2] else None, None


def _input_backward(ctx, ddx):  # type: ignore[no-untyped-def]
    dy, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return (
        convolve(ddx, weight, None, ctx.padding) if wanted[0] else None,
        convolve_weight(ddx, dy, ctx.padding) if wanted[1] else None,
        None,
    )


def _weight_backward(ctx, ddw):  # type: ignore[no-untyped-def]
    x, dy = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return (
        convolve_input(dy, ddw, ctx.padding) if wanted[0] else None,
        convolve(x, ddw, None, ctx.padding) if wanted[1] else None,
        None,
    )


convolve.register_autograd(_convolve_backward, setup_context=_keep)
convolve_input.register_autograd(_input_backward, setup_context=_keep)
convolve_weight.register_autograd(_weight_backward, setup_context=_keep)
