"""Maximum pooling of 2 x 2 in steps of two behind a convolution, one operator in the place of both.

What Winograd's algorithm transforms back are squares of answers, of which a quarter is left. So the
others are never stored, forward; and of which of four it was, two bits tell the gradient.
"""

import operator
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from striate.kernels.convolution import convolved, prepared
from striate.kernels.dispatch import WINOGRAD, fastest
from striate.kernels.followers import behind_of
from striate.kernels.geometry import last, planned
from striate.kernels.library import Pooling, run
from striate.kernels.memory import empty
from striate.kernels.nodes import call, fits, original, parts, readers, sizes, value
from striate.kernels.operators import as_operator, shaped
from striate.kernels.prepared import kept

__all__ = ["pooled", "replace"]

aten, ours = torch.ops.aten, torch.ops.striate
Numbers = list[int]  # one an axis


@as_operator
def convolve_pooled(
    x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, low: float, high: float,
    silu: bool, stride: Numbers, padding: Numbers, dilation: Numbers, groups: int, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Correlate, take the largest of 2 x 2, scale, add, and clip or give to SiLU.

    Shape: (N, C, H, W), (O, C / groups, K, L), (O), (O) -> (N, O, T / 2, U / 2), rounded down
    Math:  y = clip(max(x * w) scale + bias, low, high)

    Returns:
        y, and of each which of the four it was, 0 to 3, row after row; without `keep` none.
    """
    return pooled(
        x, weight, scale, bias, low, high, silu, stride, padding, dilation, groups, keep
    )  # fmt: skip


def pooled(
    x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, low: float, high: float,
    silu: bool, stride: Numbers, padding: Numbers, dilation: Numbers, groups: int, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute what `convolve_pooled` does by the algorithm that is the fastest here."""
    how = (stride, padding, dilation, groups)
    fixed = kept(weight) is not None
    call_, own, offset = planned("pooled", x.shape[0], x.shape[2:], weight, *how, fixed)
    own.low, own.high, own.silu = low, high, silu
    x = last(x)
    scale, bias = (None if t is None else t.contiguous() for t in (scale, bias))
    place = _places(x, own.n, own.o, own.out[1:], keep)

    def attempt(algorithm: int) -> Tensor:
        if algorithm not in WINOGRAD:
            y = _largest(convolved(x, weight, None, None, -inf, inf, *how), place)
            return _finished(y, scale, bias, low, high, silu)
        y, own.tile = empty(own.n, own.o, [n // 2 for n in own.out[1:]]), algorithm
        kernels = prepared(call_, own, weight, weight.data_ptr() + offset)
        shift = (None if t is None else t.data_ptr() for t in (scale, bias))
        run("winograd_pooled", own, x.data_ptr(), kernels, *shift, y.data_ptr(), place.data_ptr())
        return y

    return fastest(call_, attempt), place


def _places(x: Tensor, n: int, o: int, out: Numbers, keep: bool) -> Tensor:
    """Return memory for which of four numbers were the largest; none without `keep`."""
    size = [n, *(side // 2 for side in out), o] if keep else [0, 0, 0, 0]
    return torch.empty(size, dtype=torch.uint8).movedim(-1, 1)


def _geometry(n: int, c: int, h: int, w: int) -> Pooling:
    return Pooling(n, h, w, c, torch.get_num_threads())


def _largest(x: Tensor, place: Tensor) -> Tensor:
    """Return the largest of 2 x 2; which they are is written to `place`, if that has room."""
    n, c, h, w = x.shape
    y = empty(n, c, (h // 2, w // 2))
    which = place.data_ptr() if place.numel() else None
    run("pool_forward", _geometry(*x.shape), x.data_ptr(), y.data_ptr(), which)
    return y


def _finished(
    y: Tensor, scale: Tensor | None, bias: Tensor | None, low: float, high: float, silu: bool
) -> Tensor:
    y = y if scale is None else y.mul_(scale.view(-1, 1, 1))
    y = y if bias is None else y.add_(bias.view(-1, 1, 1))
    if silu:
        return torch.nn.functional.silu(y, inplace=True)
    return y if (low, high) == (-inf, inf) else y.clamp_(low, high)


@as_operator
def unpool(dy: Tensor, place: Tensor, size: Numbers) -> Tensor:
    """Return the gradient of maximum pooling of 2 x 2 to pictures of that size.

    Shape: (N, C, H / 2, W / 2), the same -> (N, C, H, W)
    """
    n, c, *_ = dy.shape
    dy, dx = last(dy), empty(n, c, size)
    run("pool_backward", _geometry(n, c, *size), dy.data_ptr(), place.data_ptr(), dx.data_ptr())
    return dx


@shaped("convolve_pooled")
def _(x, weight, scale, bias, low, high, silu, stride, padding, dilation, groups, keep):  # type: ignore[no-untyped-def]
    out = [
        ((n + 2 * p - d * (k - 1) - 1) // s + 1) // 2
        for n, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)  # noqa: B905
    ]
    size = (x.shape[0], *out, weight.shape[0])
    place = x.new_empty(size if keep else (0, 0, 0, 0), dtype=torch.uint8)
    return x.new_empty(size).movedim(-1, 1), place.movedim(-1, 1)


@shaped("unpool")
def _(dy, place, size):  # type: ignore[no-untyped-def]
    return dy.new_empty(dy.shape[0], *size, dy.shape[1]).movedim(-1, 1)


# In aten's graph


def replace(pool: Node) -> None:
    """Put our operators into the place of pooling, of its gradient and of what stands around it."""
    conv, answer = pool.args[0], parts(pool).get(0)
    if answer is None or not isinstance(conv, Node) or not _halves(pool, conv):
        return
    told = _told(conv)
    if told is None:
        return
    x, weight, bias, bounds, how = told
    gradients = readers(parts(pool)[1]) if 1 in parts(pool) else []
    masks = [_masked(one, conv, bounds) for one in gradients]
    if any(mask is None for mask in masks):
        return
    if set(readers(conv)) != {pool, *gradients, *(m for m in masks if m is not None)}:
        return
    norm = None if gradients else _norm_behind(answer, bounds)
    with pool.graph.inserting_before(pool):
        given = (x, weight, None, bias, *bounds, False, *how, bool(gradients))
        both = call(conv, ours.convolve_pooled.default, *given)
        y, place = (call(conv, operator.getitem, both, k) for k in range(2))
    answer.replace_all_uses_with(y)
    for gradient, mask in zip(gradients, masks, strict=True):
        _put_gradient(gradient, mask, y, place, conv)  # type: ignore[arg-type]
    if norm is not None:
        _scale(both, y, norm)
    if not gradients:
        _finish(both, y)


def _halves(pool: Node, x: Node) -> bool:
    """Say whether windows are 2 x 2 in steps of two, on float32 of known size."""
    if not fits(x) or value(x).dim() != 4:
        return False
    if not all(isinstance(n, int) for n in value(x).shape[1:]):
        return False
    names = ("kernel", "stride", "padding", "dilation", "ceil")
    given: dict[str, Any] = dict(zip(names, pool.args[1:], strict=False))
    plain = all(
        list(given.get(name) or [default]) in ([default], [default, default])
        for name, default in (("kernel", 2), ("stride", 2), ("padding", 0), ("dilation", 1))
    )
    sides = value(x).shape[2:]
    return plain and min(sides) > 1 and not (given.get("ceil") and any(n % 2 for n in sides))


def _told(conv: Node) -> tuple[Any, Any, Any, tuple[float, float], list[Any]] | None:
    """Return what a convolution is told that Winograd's algorithm knows; None of another node."""
    args: Any = conv.args
    if conv.target is ours.convolve.default:
        (x, weight, bias, *how), bounds = args, (-inf, inf)
    elif conv.target is ours.convolve_clipped.default and args[3] is None:
        x, weight, bias, _, *bounds, stride, padding, dilation, groups, silu = args
        bounds, how = tuple(bounds), [stride, padding, dilation, groups, silu]
    else:
        return None
    stride, _, dilation, groups, *silu = how
    square = list(value(weight).shape[2:]) == [3, 3]
    plain = [list(stride), list(dilation), groups] == [[1, 1], [1, 1], 1] and silu != [True]
    return (x, weight, bias, bounds, how[:4]) if square and plain else None


def _masked(gradient: Node, conv: Node, bounds: tuple[float, float]) -> Node | None:
    """Return the gradient to a convolution's sum: that of pooling, or of the rectifier before it.

    None where it is another one.
    """
    known = gradient.target is aten.max_pool2d_with_indices_backward.default
    if not known or original(gradient.args[1]) is not conv:
        return None
    if bounds == (-inf, inf):
        return gradient
    found = readers(gradient)
    mask = found[0] if len(found) == 1 else None
    if bounds != (0, inf) or mask is None or mask.target is not aten.threshold_backward.default:
        return None
    return mask if mask.args[0] is gradient and original(mask.args[1]) is conv else None


def _put_gradient(gradient: Node, mask: Node, y: Node, place: Node, conv: Node) -> None:
    """Put ours in the place of the gradients of pooling and of the rectifier before it."""
    with gradient.graph.inserting_before(mask):
        dy = gradient.args[0]
        if mask is not gradient:
            dy = call(y, aten.threshold_backward.default, dy, y, mask.args[2])
        dx = call(conv, ours.unpool.default, dy, place, sizes(conv))
    mask.replace_all_uses_with(dx)


def _norm_behind(answer: Node, bounds: tuple[float, float]) -> Node | None:
    """Return the normalisation by known statistics that alone reads what is pooled."""
    found = readers(answer)
    norm = found[0] if len(found) == 1 and found[0] in answer.users else None
    if norm is None or norm.target is not aten._native_batch_norm_legit_no_training.default:
        return None
    used = [k for k, part in parts(norm).items() if part.users]
    return norm if used == [0] and bounds == (-inf, inf) else None


def _scale(both: Node, y: Node, norm: Node) -> None:
    """Move a normalisation behind pooling into the operator: y scale + bias."""
    _, weight, shift, mean, variance, _, epsilon = norm.args
    x, kernels, _, bias, *rest = both.args
    with both.graph.inserting_before(both):
        scale = call(y, aten.rsqrt.default, call(y, aten.add.Tensor, variance, epsilon))
        if weight is not None:
            scale = call(y, aten.mul.Tensor, scale, weight)
        centre = mean if bias is None else call(y, aten.sub.Tensor, mean, bias)
        moved = call(y, aten.neg.default, call(y, aten.mul.Tensor, centre, scale))
        if shift is not None:
            moved = call(y, aten.add.Tensor, moved, shift)
    both.args = (x, kernels, scale, moved, *rest)
    for node in (*parts(norm).values(), norm):  # erased, lest it still be a reader
        node.replace_all_uses_with(y)
        norm.graph.erase_node(node)


def _finish(both: Node, y: Node) -> None:
    """Move an activation behind pooling into the operator."""
    behind = behind_of(y)
    x, kernels, scale, bias, low, high, _, *how = both.args
    if behind.activation is None or behind.sum is not None or (low, high) != (-inf, inf):
        return
    if set(readers(behind.before)) != {behind.activation}:
        return
    both.args = (x, kernels, scale, bias, *behind.bounds, behind.silu, *how)
    behind.activation.replace_all_uses_with(y)
