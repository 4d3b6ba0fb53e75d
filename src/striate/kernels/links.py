"""Links of chains in aten's graph: a convolution or a linear layer with what stands behind it.

In a graph that has its gradients, a link holds their nodes too: what gives them is known from what
it gives gradients of, so a chain forward is replaced with its gradients or not at all.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from striate.kernels import lanes
from striate.kernels.lanes import Stage
from striate.kernels.nodes import original, parts, value

__all__ = ["Joint", "convolved", "following", "is_turned"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Step:
    """A node of a link, and how its gradient is known.

    Args:
        node: the operator; of pooling that gives indices too, the first answer.
        backward: says of a node whether it is the gradient to what the operator reads; the
            gradient to what it answers is its first argument.
    """

    node: Node
    backward: Callable[[Node], bool]


@dataclass
class Joint:
    """A link: its nodes forward and backward.

    Args:
        x: what it reads; weight and bias too.
        sum: the convolution, or the linear layer's product.
        stage: what it is told besides its kernels.
        forward: every node of it, in order.
        backward: every node that gives gradients, those to its answer first; none where the graph
            has none.
        gradients: 0, 1, 2 -> the one to x, weight, bias.
        dy: the gradient to its answer.
    """

    x: Node
    weight: Node
    bias: Node | None
    sum: Node
    stage: Stage
    forward: list[Node]
    backward: list[Node] = field(default_factory=list)
    gradients: dict[int, Node] = field(default_factory=dict)
    dy: Any = None

    @property
    def end(self) -> Node:
        """The node that gives its answer."""
        return self.forward[-1]

    @property
    def trained(self) -> bool:
        """Whether the graph has its gradients."""
        return bool(self.backward)


# What a link is


def following(end: Node) -> Joint | None:
    """Return the one link that reads an answer."""
    conv = _reader(end, aten.convolution.default)
    return _linear(end) if conv is None else convolved(conv)


def _float32(*nodes: Any) -> bool:
    """Say whether all of them are float32 on the CPU, of sizes that are known but for the batch."""
    found = [value(node) for node in nodes if node is not None]
    return all(
        isinstance(one, Tensor) and one.dtype == torch.float32 and one.device.type == "cpu"
        and all(isinstance(size, int) for size in one.shape[1:])
        for one in found
    )  # fmt: skip


def convolved(conv: Node) -> Joint | None:
    """Return a convolution with what stands behind it; None where it is none for us."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = conv.args
    if transposed or not _float32(x, weight, bias) or value(x).dim() != 4:
        return None
    if not prod(value(conv).shape[1:]):
        return None
    how = {
        "stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation),  # type: ignore[arg-type]
        "groups": groups,
    }  # fmt: skip
    behind, steps = _behind(conv, pools=True)
    link = Joint(x, weight, bias, conv, Stage(**how, **behind), [conv])  # type: ignore[arg-type]
    _add(link, steps)
    for gradient in weight.users:  # type: ignore[union-attr]
        same = gradient.target is aten.convolution_backward.default
        if same and gradient.args[1:3] == (x, weight) and gradient.args[4:10] == conv.args[3:9]:
            found = parts(gradient)
            used = {k: node for k, node in found.items() if node.users}
            if _trace(link, steps, gradient.args[0], [gradient, *found.values()], used):
                break
    return link


def _linear(end: Node) -> Joint | None:
    """Return the linear layer that reads an answer, in rows or flattened to rows."""
    rows, view = end, None
    if value(end).dim() != 2:
        rows = view = _reader(end, aten.view.default)  # type: ignore[assignment]
        if view is None or tuple(value(view).shape[1:]) != (prod(value(end).shape[1:]),):
            return None
    products = [user for user in rows.users if _is_product(user, rows)]
    if len(products) != 1:
        return None
    product = products[0]
    bias, turned = None if len(product.args) == 2 else product.args[0], product.args[-1]
    weight = turned.args[0]  # type: ignore[union-attr]
    if not _float32(weight, bias) or (bias is not None and value(bias).dim() != 1):
        return None
    behind, steps = _behind(product)
    before = [product] if view is None else [view, product]
    link = Joint(end, weight, bias, product, Stage(**behind), before)  # type: ignore[arg-type]
    _add(link, steps)
    for dw in rows.users:
        if dw.target is aten.mm.default and dw.args[1] is rows and is_turned(dw.args[0]):
            dsum: Any = dw.args[0].args[0]  # type: ignore[union-attr]
            if _trace(link, steps, dsum, *_linear_gradients(link, dsum, dw, view)):
                break
    return link


def _is_product(node: Node, rows: Node) -> bool:
    """Say whether a node is a linear layer of these rows: times the transpose of a matrix."""
    known = node.target in (aten.addmm.default, aten.mm.default) and not node.kwargs
    return known and node.args[-2] is rows and is_turned(node.args[-1])


def is_turned(node: Any) -> bool:
    """Say whether a node is the transpose of a matrix."""
    return isinstance(node, Node) and node.target is aten.t.default


def _linear_gradients(
    link: Joint, dsum: Node, dw: Node, view: Node | None
) -> tuple[list[Node], dict[int, Node]]:
    """Return the nodes of a linear layer's gradients; of each, the one that gives it."""
    inside, found = [dw.args[0], dw], {1: dw}
    for user in dsum.users:
        if user.target is aten.mm.default and user.args[0] is dsum and is_turned(user.args[1]):
            if user.args[1].args[0] is link.sum.args[-1]:  # type: ignore[union-attr]
                back = user if view is None else _reader(user, aten.view.default)
                inside += [user] if back is None or back is user else [user, back]
                found |= {} if back is None else {0: back}
        elif user.target is aten.sum.dim_IntList and user.args[1:] == ([0], True):
            inside.append(user)
            found[2] = user
    return inside, found  # type: ignore[return-value]


def _add(link: Joint, steps: Sequence[Step]) -> None:
    """Add what stands behind a sum to its nodes; of pooling that gives indices, these too."""
    for step in steps:
        source = step.node.args[0]
        if step.node.target is operator.getitem:
            link.forward += [source, *(p for p in parts(source).values() if p is not step.node)]  # type: ignore[list-item,arg-type]
        link.forward.append(step.node)


def _trace(
    link: Joint, steps: Sequence[Step], dsum: Any, nodes: Sequence[Node], found: dict[int, Node]
) -> bool:
    """Go from the gradient to a sum back to that of the answer; add all if it is as it must be."""
    node, backward = dsum, []
    for step in steps:
        if not isinstance(node, Node) or not step.backward(node):
            return False
        backward.append(node)
        node = node.args[0]
    link.backward, link.gradients, link.dy = [*reversed(backward), *nodes], found, node
    return True


# What stands behind a convolution


def _reader(node: Node, *targets: Any) -> Node | None:
    """Return the one reader of a kind that is no gradient."""
    found = [user for user in node.users if user.target in targets]
    return found[0] if len(found) == 1 else None


def _behind(node: Node, pools: bool = False) -> tuple[dict[str, Any], list[Step]]:
    """Return what a stage is told of its activation and pooling, and their nodes."""
    how: dict[str, Any] = {}
    steps: list[Step] = []
    for find in (_tanh, _bounds, _logistic):
        found = find(node)
        if found is not None:
            how |= found[0]
            steps += found[1]
            node = steps[-1].node
            break
    for find in (_mean, _largest) if pools else ():
        found = find(node)
        if found is not None:
            how |= found[0]
            steps += found[1]
            break
    return how, steps


Found = tuple[dict[str, Any], list[Step]] | None


def _scaled(node: Node) -> tuple[float, Step] | None:
    """Return the number that all of a node is multiplied by."""
    times = _reader(node, aten.mul.Tensor)
    if times is None or not isinstance(times.args[1], float | int) or times.args[0] is not node:
        return None
    by = times.args[1]

    def backward(other: Node) -> bool:
        return bool(other.target is aten.mul.Tensor and other.args[1] == by)

    return float(by), Step(times, backward)


def _tanh(node: Node) -> Found:
    inner, outer = _scaled(node), None
    tanh = _reader(inner[1].node if inner else node, aten.tanh.default)
    if tanh is None:
        return None
    outer = _scaled(tanh)

    def backward(other: Node) -> bool:
        return other.target is aten.tanh_backward.default and original(other.args[1]) is tanh

    steps = [inner[1] if inner else None, Step(tanh, backward), outer[1] if outer else None]
    how = {
        "activation": lanes.TANH, "inner": inner[0] if inner else 1.0,
        "outer": outer[0] if outer else 1.0,
    }  # fmt: skip
    if not how["outer"]:
        return None
    return how, [step for step in steps if step is not None]


def _bounds(node: Node) -> Found:
    if (relu := _reader(node, aten.relu.default)) is not None:

        def backward(other: Node) -> bool:
            same = other.target is aten.threshold_backward.default and other.args[2] == 0
            return bool(same and original(other.args[1]) is relu)

        return {"activation": lanes.CLIP, "low": 0.0}, [Step(relu, backward)]
    if (tanh := _reader(node, aten.hardtanh.default)) is not None:
        given: list[Any] = [*tanh.args[1:], *(-1.0, 1.0)[len(tanh.args) - 1 :]]

        def backward_hard(other: Node) -> bool:
            same = other.target is aten.hardtanh_backward.default
            return same and original(other.args[1]) is node and list(other.args[2:]) == given

        how = {"activation": lanes.CLIP, "low": float(given[0]), "high": float(given[1])}
        return how, [Step(tanh, backward_hard)]
    return None


def _logistic(node: Node) -> Found:
    sigmoid = _reader(node, aten.sigmoid.default)
    if sigmoid is None:
        return None

    def backward(other: Node) -> bool:
        return other.target is aten.sigmoid_backward.default and original(other.args[1]) is sigmoid

    return {"activation": lanes.LOGISTIC}, [Step(sigmoid, backward)]


def _pair(given: Any, default: tuple[int, int]) -> tuple[int, int]:
    """Return two numbers of a list that may have one, or none."""
    if isinstance(given, int):
        return given, given
    given = list(given or default)
    return given[0], given[-1]


def _mean(node: Node) -> Found:
    pool = _reader(node, aten.avg_pool2d.default)
    if pool is None:
        return None
    names = ("kernel", "stride", "padding", "ceil", "counts", "divisor")
    given: dict[str, Any] = dict(zip(names, pool.args[1:], strict=False))
    window = _pair(given["kernel"], (1, 1))
    how = {
        "pooling": lanes.MEAN, "window": window, "step": _pair(given.get("stride"), window),
        "border": _pair(given.get("padding"), (0, 0)), "divisor": given.get("divisor") or 0,
        "counts_border": given.get("counts", True), "pooled": tuple(value(pool).shape[2:]),
    }  # fmt: skip

    def backward(other: Node) -> bool:
        same = other.target is aten.avg_pool2d_backward.default
        return same and original(other.args[1]) is node

    return how, [Step(pool, backward)]


def _largest(node: Node) -> Found:
    pool = _reader(node, aten.max_pool2d_with_indices.default)
    answer = None if pool is None else parts(pool).get(0)
    if pool is None or answer is None:
        return None
    names = ("kernel", "stride", "padding", "dilation")
    given: dict[str, Any] = dict(zip(names, pool.args[1:], strict=False))
    if _pair(given.get("dilation"), (1, 1)) != (1, 1):
        return None
    window = _pair(given["kernel"], (1, 1))
    how = {
        "pooling": lanes.MAX, "window": window, "step": _pair(given.get("stride"), window),
        "border": _pair(given.get("padding"), (0, 0)), "pooled": tuple(value(answer).shape[2:]),
    }  # fmt: skip

    def backward(other: Node) -> bool:
        same = other.target is aten.max_pool2d_with_indices_backward.default
        return same and original(other.args[1]) is node

    return how, [Step(answer, backward)]
