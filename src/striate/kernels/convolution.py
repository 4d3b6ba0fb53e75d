"""Convolution: three operators, each the gradient of the other two.

`torch.ops.striate.convolve`, `.convolve_input` and `.convolve_weight` are known to autograd (to any
order) and to torch.compile. `.convolve_clipped` adds and clips besides, `.convolve_input_added`
adds; they are for graphs that have their gradients already. Each call asks `dispatch` which
algorithm is the fastest here.
"""

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from striate.kernels.dispatch import DEPTHWISE, DIRECT, TORCH, Call, fastest
from striate.kernels.geometry import last, lies_last, planned, shape_after, turned
from striate.kernels.library import Conv, floats, level, run
from striate.kernels.memory import empty
from striate.kernels.operators import as_operator, differentiate, shaped
from striate.kernels.prepared import kept

__all__ = ["convolution", "convolved", "prepared", "transformed", "transposed"]

Numbers = list[int]  # one an axis
_FUSES = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_convolution_pointwise"
)
PREFIX = {DIRECT: "direct", DEPTHWISE: "depthwise"}  # in the library; of the others: winograd


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sequence[int] | None = None,
    padding: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """Correlate with kernels along one to three axes; the answer lies channels last.

    Shape: (N, C, *S), (O, C / groups, *K), (O) -> (N, O, *T)
    Math:  y_o = b_o + sum_c w_oc * x_c, as torch.nn.functional.conv1d, conv2d and conv3d

    Args:
        x: float32, on the CPU.
        stride: in samples, an axis each; 1 if not given.
        padding: zeros before and behind each axis, in samples; 0 if not given.
        dilation: distance of two taps, in samples; 1 if not given.
    """
    axes = x.dim() - 2
    how = (
        list(stride or [1] * axes), list(padding or [0] * axes), list(dilation or [1] * axes),
    )  # fmt: skip
    if _unfollowed([t for t in (x, weight, bias) if t is not None]):
        return convolved(x, weight, bias, None, -inf, inf, *how, groups)
    return torch.ops.striate.convolve(x, weight, bias, *how, groups)


def _unfollowed(tensors: Sequence[Tensor]) -> bool:
    """Say whether nobody differentiates, transforms or records: an operator takes 20 us to call."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or transformed():
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return False
    return all(type(t) in (Tensor, Parameter) and t.device.type == "cpu" for t in tensors)


def transformed() -> bool:
    """Say whether torch.func or forward-mode gradients are at work, which know PyTorch's alone."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    )


def transposed(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int],
    extra: Sequence[int], dilation: Sequence[int], groups: int,
) -> tuple[Any, ...] | None:  # fmt: skip
    """Return what `convolve_input` is given for a transposed convolution of x.

    None where it is no gradient of a convolution: where more is added behind an axis than the
    convolution's stride passes over.

    Shape: (N, C, *S), (C, O / groups, *K) -> (N, O, *T), T = (S - 1) s - 2 p + d (K - 1) + e + 1

    Args:
        x: a tensor or, while a graph is rewritten, what is known of it.
        extra: samples that are added behind each axis.
    """
    kernel = weight.shape[2:]
    each = zip(x.shape[2:], kernel, stride, padding, extra, dilation, strict=True)
    size = [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, e, d in each]
    how = (list(stride), list(padding), list(dilation))
    if min(size) < 1 or shape_after(size, kernel, *how) != list(x.shape[2:]):
        return None
    return size, *how, groups


@as_operator
def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None,
    stride: Numbers, padding: Numbers, dilation: Numbers, groups: int,
) -> Tensor:  # fmt: skip
    """Correlate."""
    return convolved(x, weight, bias, None, -inf, inf, stride, padding, dilation, groups)


@as_operator
def convolve_clipped(
    x: Tensor, weight: Tensor, bias: Tensor | None, addend: Tensor | None, low: float, high: float,
    stride: Numbers, padding: Numbers, dilation: Numbers, groups: int, silu: bool = False,
) -> Tensor:  # fmt: skip
    """Correlate, add what has the shape of the answer, and clip: clip(x * w + bias + addend).

    Or SiLU, v / (1 + e^-v), in the place of the bounds.
    """
    how = (stride, padding, dilation, groups)
    return convolved(x, weight, bias, addend, low, high, *how, silu)


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, addend: Tensor | None, low: float, high: float,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int,
    silu: bool = False,
) -> Tensor:  # fmt: skip
    """Correlate, add, and clip or give to SiLU, by the algorithm that is the fastest here."""
    axes = x.dim() - 2
    how = (stride, padding, dilation, groups)
    fixed = kept(weight) is not None
    call, own, offset = planned("forward", x.shape[0], x.shape[2:], weight, *how, fixed)
    own.low, own.high, own.silu = low, high, silu
    kernels = weight.data_ptr() + offset
    x = last(x)
    bias = None if bias is None else bias.contiguous()
    addend = None if addend is None else last(addend)
    shift, added = (None if t is None else t.data_ptr() for t in (bias, addend))

    def attempt(algorithm: int) -> Tensor:
        if algorithm == TORCH:
            answer = _by_torch(
                x, weight, bias, addend, low, high, padding, stride, dilation, groups, silu
            )
            return last(answer)
        y, own.tile = empty(own.n, own.o, own.out[3 - axes :]), algorithm
        name = PREFIX.get(algorithm, "winograd") + "_forward"
        read = prepared(call, own, weight, kernels)
        run(name, own, x.data_ptr(), read, shift, added, y.data_ptr())
        return y

    return fastest(call, attempt)


def _by_torch(
    x: Tensor, weight: Tensor, bias: Tensor | None, addend: Tensor | None, low: float, high: float,
    padding: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int,
    silu: bool = False,
) -> Tensor:  # fmt: skip
    """Let PyTorch correlate; what stands behind it oneDNN does before it stores, where it can."""
    how = (padding, stride, dilation, groups)
    binary = addend is not None
    fused = _fused(low, high, binary, silu) if _FUSES and x.numel() else None
    if fused is not None and (x.dim() == 4 or not binary):
        weight = _ordered(weight, x, how)
        name, bounds = fused
        if binary:
            return torch.ops.mkldnn._convolution_pointwise.binary(
                x, addend, weight, bias, *how, "add", 1.0, name, [], ""
            )
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, *how, name or "none", bounds, ""
        )
    none = [0] * len(stride)
    y = torch.convolution(x, weight, bias, stride, padding, dilation, False, none, groups)
    y = y if addend is None else y.add_(addend)
    if silu:
        return torch.nn.functional.silu(y, inplace=True)
    return y if (low, high) == (-inf, inf) else y.clamp_(low, high)


def _fused(
    low: float, high: float, binary: bool, silu: bool
) -> tuple[str | None, list[float]] | None:
    """Return oneDNN's name of bounds, and their numbers; None where it does not know them."""
    if silu:
        return None if binary else ("swish", [])
    if (low, high) == (-inf, inf):
        return None, []
    if (low, high) == (0, inf):
        return "relu", []
    return ("hardtanh", [low, high]) if -inf < low < high < inf and not binary else None


def _ordered(weight: Tensor, x: Tensor, how: tuple[Any, ...]) -> Tensor:
    """Return kernels as oneDNN reads them, where they do not change; else as they are."""
    versions = kept(weight) if x.dim() > 3 else None  # oneDNN orders none of one axis
    if versions is None:
        return weight
    if x.shape not in versions:
        versions[x.shape] = torch.ops.mkldnn._reorder_convolution_weight(
            weight.contiguous(), *how, list(x.shape)
        )
    return versions[x.shape]


def prepared(call: Call, own: Conv, weight: Tensor, kernels: int) -> int:
    """Return where the algorithm `own.tile` reads kernels: ready ones where they do not change.

    Args:
        kernels: address of the first tap that is left.
    """
    held = _prepared(own, weight, kernels) if call.keeps(own.tile) else None
    own.ready = held is not None
    return kernels if held is None else held.data_ptr()


def _prepared(own: Conv, weight: Tensor, kernels: int) -> Tensor | None:
    """Return kernels as an algorithm of ours reads them, where they do not change.

    Args:
        own: trimmed.
        kernels: address of the first tap that is left.
    """
    versions = kept(weight)
    if versions is None:
        return None
    key = (own.tile, level(), own.groups, kernels - weight.data_ptr(), *own.kernel)
    ready = versions.get(key)
    if ready is None:
        ready = weight.new_empty(floats(own))
        run("prepare", own, kernels, ready.data_ptr())
        versions[key] = ready  # once it is whole: another thread may ask meanwhile
    return ready


@as_operator
def convolve_input(
    dy: Tensor, weight: Tensor, size: Numbers,
    stride: Numbers, padding: Numbers, dilation: Numbers, groups: int,
) -> Tensor:  # fmt: skip
    """Return the gradient of sum(dy y) to x, whose samples have that size."""
    return _input(dy, weight, None, size, stride, padding, dilation, groups)


@as_operator
def convolve_input_added(
    dy: Tensor, weight: Tensor, addend: Tensor, size: Numbers,
    stride: Numbers, padding: Numbers, dilation: Numbers, groups: int,
) -> Tensor:  # fmt: skip
    """Add something of x's shape to that gradient."""
    return _input(dy, weight, addend, size, stride, padding, dilation, groups)


def _input(
    dy: Tensor, weight: Tensor, addend: Tensor | None, size: Numbers,
    stride: Numbers, padding: Numbers, dilation: Numbers, groups: int,
) -> Tensor:  # fmt: skip
    how = (stride, padding, dilation, groups)
    call, own, offset = planned("input", dy.shape[0], size, weight, *how)
    kernels = weight.data_ptr() + offset
    dy, addend = last(dy), None if addend is None else last(addend)
    added = None if addend is None else addend.data_ptr()

    def attempt(algorithm: int) -> Tensor:
        dx = empty(own.n, own.c, size)
        if algorithm in (TORCH, DEPTHWISE):  # which add nothing
            if algorithm == TORCH:
                dx = last(_backward(dy, dx, weight, 0, *how))
            else:
                run("depthwise_input", own, dy.data_ptr(), kernels, dx.data_ptr())
            return dx if addend is None else dx.add_(addend)
        if algorithm == DIRECT:
            run("direct_input", own, dy.data_ptr(), kernels, added, dx.data_ptr())
        else:
            back = turned(own)
            back.tile = algorithm
            run("winograd_forward", back, dy.data_ptr(), kernels, None, added, dx.data_ptr())
        return dx

    return fastest(call, attempt)


@as_operator
def convolve_weight(
    x: Tensor, dy: Tensor, kernel: Numbers,
    stride: Numbers, padding: Numbers, dilation: Numbers, groups: int, channels_last: bool = False,
) -> Tensor:  # fmt: skip
    """Return the gradient of sum(dy y) to kernels of that size, in their order in memory.

    autograd copies a gradient that lies in another order than its parameter.
    """
    o, c = dy.shape[1], x.shape[1] // groups
    dw = empty(o, c, kernel) if channels_last else x.new_empty(o, c, *kernel)
    how = (stride, padding, dilation, groups)
    call, own, offset = planned("weight", x.shape[0], x.shape[2:], dw, *how)
    kernels = dw.data_ptr() + offset
    x, dy = last(x), last(dy)

    def attempt(algorithm: int) -> Tensor:
        if algorithm == TORCH:
            found = _backward(dy, x, dw, 1, *how)
            return last(found) if channels_last else found.contiguous()
        own.tile = algorithm
        name = PREFIX.get(algorithm, "winograd") + "_weight"
        if list(own.kernel) != list(call.kernel):
            dw.zero_()
        run(name, own, x.data_ptr(), dy.data_ptr(), kernels)
        return dw

    return fastest(call, attempt)


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor, which: int,
    stride: Numbers, padding: Numbers, dilation: Numbers, groups: int,
) -> Tensor:  # fmt: skip
    mask = [which == 0, which == 1, False]
    found = torch.ops.aten.convolution_backward(
        dy, x, weight, None, stride, padding, dilation, False, [0] * len(stride), groups, mask
    )
    return found[which]


# What torch.compile knows of the answers before they are computed.


@shaped("convolve")
def _(x, weight, bias, stride, padding, dilation, groups):  # type: ignore[no-untyped-def]
    out = shape_after(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return x.new_empty(x.shape[0], *out, weight.shape[0]).movedim(-1, 1)


@shaped("convolve_clipped")
def _(x, weight, bias, addend, low, high, stride, padding, dilation, groups, silu=False):  # type: ignore[no-untyped-def]
    out = shape_after(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return x.new_empty(x.shape[0], *out, weight.shape[0]).movedim(-1, 1)


@shaped("convolve_input")
def _(dy, weight, size, stride, padding, dilation, groups):  # type: ignore[no-untyped-def]
    return dy.new_empty(dy.shape[0], *size, weight.shape[1] * groups).movedim(-1, 1)


@shaped("convolve_input_added")
def _(dy, weight, addend, size, stride, padding, dilation, groups):  # type: ignore[no-untyped-def]
    return dy.new_empty(dy.shape[0], *size, weight.shape[1] * groups).movedim(-1, 1)


@shaped("convolve_weight")
def _(x, dy, kernel, stride, padding, dilation, groups, channels_last=False):  # type: ignore[no-untyped-def]
    o, c = dy.shape[1], x.shape[1] // groups
    if channels_last:
        return x.new_empty(o, *kernel, c).movedim(-1, 1)
    return x.new_empty(o, c, *kernel)


# Gradients: y is linear in x and in the kernels, so each operator's are the other two.


def _keep(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:2])
    ctx.how = inputs[3:7]


def _convolve_backward(ctx, dy):  # type: ignore[no-untyped-def]
    x, weight = ctx.saved_tensors
    wanted, how = ctx.needs_input_grad, ctx.how
    dx = convolve_input(dy, weight, list(x.shape[2:]), *how) if wanted[0] else None
    kernel, order = list(weight.shape[2:]), lies_last(weight)
    dw = convolve_weight(x, dy, kernel, *how, order) if wanted[1] else None
    db = dy.sum([0, *range(2, dy.dim())]) if wanted[2] else None
    return dx, dw, db, None, None, None, None


def _input_backward(ctx, ddx):  # type: ignore[no-untyped-def]
    dy, weight = ctx.saved_tensors
    wanted, how = ctx.needs_input_grad, ctx.how
    ddy = convolve(ddx, weight, None, *how) if wanted[0] else None
    dw = convolve_weight(ddx, dy, list(weight.shape[2:]), *how) if wanted[1] else None
    return ddy, dw, None, None, None, None, None


def _weight_backward(ctx, ddw):  # type: ignore[no-untyped-def]
    x, dy = ctx.saved_tensors
    wanted, how = ctx.needs_input_grad, ctx.how
    dx = convolve_input(dy, ddw, list(x.shape[2:]), *how) if wanted[0] else None
    ddy = convolve(x, ddw, None, *how) if wanted[1] else None
    return dx, ddy, None, None, None, None, None, None


differentiate("convolve", _convolve_backward, _keep)
differentiate("convolve_input", _input_backward, _keep)
differentiate("convolve_weight", _weight_backward, _keep)
