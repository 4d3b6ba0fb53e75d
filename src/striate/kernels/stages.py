"""Convolutions between normalisations, in training: see csrc/stage.hpp.

What a convolution wrote is normalised while the next one reads it, and the statistics of what that
writes are taken before it leaves the cache. So nothing lies in memory but what convolutions write.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from striate.kernels.geometry import geometry, last, shape_after
from striate.kernels.library import Normed, Stage, level, run
from striate.kernels.memory import empty
from striate.kernels.nodes import call, numbers, parts, readers, value
from striate.kernels.operators import as_operator, shaped

__all__ = ["replace", "stage", "stage_backward"]

ours = torch.ops.striate
Numbers = list[int]


def _normed(known: Sequence[Tensor | None], bounds: Sequence[float]) -> Normed:
    """Describe a normalisation: weight, bias, mean, variance; epsilon, low, high."""
    own = Normed()
    if known:
        own.weight, own.bias, own.mean, own.variance = (
            None if t is None else t.data_ptr() for t in known
        )
        own.epsilon, own.low, own.high = bounds
    return own


def _whole(known: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in known]


@as_operator
def stage(
    x: Tensor, weight: Tensor, stride: Numbers, padding: Numbers, dilation: Numbers, groups: int,
    before: list[Tensor | None], before_bounds: list[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Correlate x, normalised while it is read; return the answer, its mean and biased variance.

    Shape: (N, C, H, W), (O, C / groups, K, L) -> (N, O, H', W'), (O), (O)

    Args:
        weight: pointwise, or depthwise with as many channels out as in.
        before: weight, bias, mean and variance of the normalisation; empty where there is none.
        before_bounds: its epsilon, low and high.
    """
    x, before = last(x), _whole(before)
    conv = geometry(x.shape[0], x.shape[2:], weight, stride, padding, dilation, groups)
    own = Stage(conv=conv, before=_normed(before, before_bounds))
    y = empty(conv.n, conv.o, tuple(conv.out)[1:])
    mean, variance = x.new_empty(conv.o), x.new_empty(conv.o)
    run("stage_forward", own, *(t.data_ptr() for t in (x, weight, y, mean, variance)))
    return y, mean, variance


@as_operator
def stage_backward(
    dy: Tensor, x: Tensor, weight: Tensor, addend: Tensor | None,
    stride: Numbers, padding: Numbers, dilation: Numbers, groups: int,
    before: list[Tensor | None], before_bounds: list[float],
    y: Tensor | None, behind: list[Tensor | None], behind_bounds: list[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients to x and the kernel, and to weight and bias of the normalisation before.

    Args:
        dy: of y as normalised, where its bounds let it through; without `behind` that of y.
        addend: something to be added to the gradient to x, or None.
        behind: weight, mean and variance of y's normalisation, and the gradients to its weight and
            bias; empty where there is none.
    """
    x, dy, before, behind = last(x), last(dy), _whole(before), _whole(behind)
    y, addend = (None if t is None else last(t) for t in (y, addend))
    dkernel = torch.empty_like(weight)
    if dkernel.stride() != weight.stride():  # several of its numbers are one
        weight = torch.empty_like(weight).copy_(weight)
    conv = geometry(x.shape[0], x.shape[2:], weight, stride, padding, dilation, groups)
    gains, means, variances, *sums = behind or [None] * 5
    known = [gains, None, means, variances] if behind else []
    own = Stage(
        conv=conv, before=_normed(before, before_bounds), behind=_normed(known, behind_bounds)
    )
    dx = empty(conv.n, conv.c, tuple(conv.size)[1:])
    each = [x.new_empty(conv.c if before else 0) for _ in range(2)]
    tensors = (x, weight, dy, y, *sums, addend, dx, dkernel, *each)
    run("stage_backward", own, *(None if t is None else t.data_ptr() for t in tensors))
    return dx, dkernel, each[0], each[1]


def _like(x: Tensor, channels: int, size: Sequence[int]) -> Tensor:
    return x.new_empty(x.shape[0], *size, channels).movedim(-1, 1)


@shaped("stage")
def _(x, weight, stride, padding, dilation, groups, before, before_bounds):  # type: ignore[no-untyped-def]
    out = shape_after(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    o = weight.shape[0]
    return _like(x, o, out), x.new_empty(o), x.new_empty(o)


@shaped("stage_backward")
def _(dy, x, weight, addend, stride, padding, dilation, groups, before, *others):  # type: ignore[no-untyped-def]
    each = (x.new_empty(x.shape[1] if before else 0) for _ in range(2))
    return _like(x, x.shape[1], x.shape[2:]), torch.empty_like(weight), *each


# In a graph


@dataclass(frozen=True)
class Taught:
    """A convolution that we know, with its gradients: nodes of a graph.

    Args:
        y: its answer; its arguments are x, weight, bias and how.
        dx: its gradient to x, perhaps with something added.
        dweight: its gradient to the kernel.
    """

    y: Node
    dx: Node
    dweight: Node

    @property
    def place(self) -> Node:
        """Where both gradients are known to be wanted: the later of them."""
        return max(self.dx, self.dweight)


@dataclass(frozen=True)
class Between:
    """A normalisation, and its gradient, behind one convolution that only it reads; before another.

    No other reads the normalisation either.
    """

    first: Taught
    second: Taught
    forward: Node
    backward: Node

    @property
    def bounds(self) -> list[Any]:
        """Epsilon, low and high."""
        return list(self.forward.args[4:7])


def replace(graph: Graph) -> None:
    """Put stages where only a normalisation stands between convolutions; for training.

    Not where our products are those of no known CPU: PyTorch's may be several times as fast.
    """
    if level() == "baseline":
        return
    graph.eliminate_dead_code()
    nodes = graph.find_nodes(op="call_function", target=ours.normalise.default)
    links = [link for link in map(_between, nodes) if link is not None]
    before = {link.second.y: link for link in links}
    behind = {link.first.y: link for link in links}
    taught = {one.y: one for link in links for one in (link.first, link.second)}
    answers: dict[Node, list[Node]] = {}
    gradients: dict[Node, list[Node]] = {}
    for y, one in sorted(taught.items()):
        answers[y] = _put_answers(one, before.get(y), behind.get(y), answers)
    for y, one in sorted(taught.items(), key=lambda item: item[1].place):
        gradients[y] = _put_gradients(one, before.get(y), behind.get(y), answers, gradients)
    graph.eliminate_dead_code()


def _between(node: Node) -> Between | None:
    x, answer, known = node.args[0], parts(node).get(0), parts(node)
    *_, addend, _, _, _, silu = node.args
    if not isinstance(x, Node) or answer is None or addend is not None or silu:
        return None
    gradients = [one for one in readers(x) if one.target is ours.normalise_backward.default]
    users = [one for one in readers(answer) if one.target is ours.convolve.default]
    if len(gradients) != 1 or len(users) != 1 or not {0, 1, 2} <= set(known):
        return None
    first, second, gradient = _taught(x), _taught(users[0]), gradients[0]
    if first is None or second is None:
        return None
    alone = numbers(readers(x)) == {node, gradient}
    alone = alone and numbers(readers(answer)) == {second.y, second.dweight}
    turned = gradient.args[:3] == (x, second.dx, None) and readers(second.dx) == [gradient]
    if not alone or not turned or second.dx.target is not ours.convolve_input.default:
        return None
    passed = first.dx.args[0] is parts(gradient).get(0) and second.place < gradient
    return Between(first, second, node, gradient) if passed else None


def _taught(y: Node) -> Taught | None:
    """Return a convolution that we know with both gradients; None where it is another one."""
    if y.target is not ours.convolve.default:
        return None
    x, weight, bias, *how = y.args
    if bias is not None or not _known(value(weight).shape, *how):
        return None
    added = ours.convolve_input_added.default
    of_x = [one for one in readers(weight) if one.target in (ours.convolve_input.default, added)]  # type: ignore[arg-type]
    of_weight = [one for one in readers(x) if one.target is ours.convolve_weight.default]  # type: ignore[arg-type]
    of_weight = [one for one in of_weight if of_x and one.args[:2] == (x, of_x[0].args[0])]
    if len(of_x) != 1 or len(of_weight) != 1:
        return None
    one = Taught(y, of_x[0], of_weight[0])
    early = any(user < one.place for node in (one.dx, one.dweight) for user in node.users)
    return None if early else one


def _known(shape: Sequence[int], *how: Any) -> bool:
    """Say whether a convolution is pointwise, of all pixels and channels, or depthwise."""
    o, c, *kernel = shape
    depthwise = how[3] == o > 1 == c
    pointwise = kernel == [1, 1] and [*map(list, how[:3]), how[3]] == [[1, 1], [0, 0], [1, 1], 1]
    return len(kernel) == 2 and (depthwise or pointwise)


def _told(link: Between | None, answers: dict[Node, list[Node]]) -> tuple[list[Any], list[Any]]:
    """Return weight, bias, mean and variance of a normalisation, and its bounds."""
    if link is None:
        return [], []
    return [*link.forward.args[1:3], *answers[link.first.y][1:]], link.bounds


def _put_answers(
    one: Taught, before: Between | None, behind: Between | None, answers: dict[Node, list[Node]]
) -> list[Node]:
    x, weight, _, *how = one.y.args
    x = answers[before.first.y][0] if before is not None else x
    with one.y.graph.inserting_before(one.y):
        both = call(one.y, ours.stage.default, x, weight, *how, *_told(before, answers))
        found = [call(one.y, operator.getitem, both, k) for k in range(3)]
    one.y.replace_all_uses_with(found[0])
    if behind is not None:
        for k in (1, 2):
            parts(behind.forward)[k].replace_all_uses_with(found[k])
    return found


def _put_gradients(
    one: Taught, before: Between | None, behind: Between | None,
    answers: dict[Node, list[Node]], gradients: dict[Node, list[Node]],
) -> list[Node]:  # fmt: skip
    x, weight, _, *how = one.y.args
    x = answers[before.first.y][0] if before is not None else x
    dy, addend = one.dx.args[0], None
    if one.dx.target is ours.convolve_input_added.default:
        addend = one.dx.args[2]
    y, known, bounds = None, [], []
    if behind is not None:
        dy, _, *sums = gradients[behind.second.y]
        y, mean, variance = answers[one.y]
        known, bounds = [behind.forward.args[1], mean, variance, *sums], behind.bounds
    with one.y.graph.inserting_before(one.place):
        told = (*how, *_told(before, answers), y, known, bounds)
        all_ = call(one.y, ours.stage_backward.default, dy, x, weight, addend, *told)
        found = [call(one.y, operator.getitem, all_, k) for k in range(4)]
    one.dx.replace_all_uses_with(found[0])
    one.dweight.replace_all_uses_with(found[1])
    old = parts(before.backward) if before is not None else {}
    for k in {1, 2} & set(old):
        old[k].replace_all_uses_with(found[k + 1])
    return found
