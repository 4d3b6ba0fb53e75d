"""The backend `striate` of torch.compile: PyTorch's graph with Striate's operators in it.

`torch.compile(model, backend="striate")` traces a network, forward and backward, and calls us with
the graph. Convolutions become ours; batch normalisation and the rectifier behind it become one
operator, and so do their gradients; in inference, normalisation moves into the kernels. What is
left runs as it stands. Nothing is generated, so compiling takes as long as tracing.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from functorch.compile import (  # type: ignore[import-untyped]
    default_partition,
    make_boxed_func,
)
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule, Node

from striate.kernels import convolution, norm  # noqa: F401  # they define the operators
from striate.kernels.library import reason

__all__ = ["backend", "rewrite"]

aten, ours = torch.ops.aten, torch.ops.striate


def backend(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """Return what runs a traced network: what torch.compile calls."""
    compiler = aot_autograd(
        fw_compiler=_as_it_stands,
        inference_compiler=_rewritten,
        partition_fn=_parted,
    )
    return compiler(graph, inputs)


def _as_it_stands(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    return make_boxed_func(graph.forward)


def _rewritten(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    return make_boxed_func(rewrite(graph).forward)


def _parted(joint: GraphModule, *args: Any, **kwargs: Any) -> tuple[GraphModule, GraphModule]:
    """Rewrite forward and backward while they are one graph, then part them."""
    return default_partition(rewrite(joint), *args, **kwargs)


def rewrite(module: GraphModule) -> GraphModule:
    """Put our operators into a graph of aten's, in place."""
    if reason():
        return module
    graph = module.graph
    for kind, change in (
        (aten._native_batch_norm_legit_functional.default, _normalise),
        (aten._native_batch_norm_legit_no_training.default, _fold),
        (aten.convolution.default, _convolve),
        (aten.convolution_backward.default, _convolve_backward),
    ):
        for node in graph.find_nodes(op="call_function", target=kind):
            with graph.inserting_before(node):
                change(node)
    graph.eliminate_dead_code()
    module.recompile()
    return module


# What a node is


def _value(node: Any) -> Any:
    return node.meta.get("val") if isinstance(node, Node) else node


def _ours(x: Any, *others: Any) -> bool:
    """Say whether all of them are float32 on the CPU, x a batch of two axes.

    With one or three axes PyTorch's other operators are slower where channels lie last.
    """
    values = [_value(node) for node in (x, *others) if node is not None]
    return values[0].dim() == 4 and all(
        isinstance(value, Tensor) and value.dtype == torch.float32 and value.device.type == "cpu"
        for value in values
    )


def _parts(node: Node) -> dict[int, Node]:
    """Return the answers of an operator that gives several, by their number."""
    return {user.args[1]: user for user in node.users if user.target is operator.getitem}  # type: ignore[misc]


def _call(like: Node, target: Any, *args: Any) -> Node:
    """Add a call to the graph; what it will give is known from that of its arguments."""
    graph = like.graph
    node = graph.call_function(target, args)
    values = torch.fx.node.map_arg(args, _value)
    known = _value(like)
    known = known if isinstance(known, tuple | list) else [known]
    with next(x.fake_mode for x in known if x is not None):
        node.meta["val"] = target(*values)
    return node


def _detached(node: Any) -> Any:
    """Return what a node was before it was detached, perhaps several times."""
    while isinstance(node, Node) and node.target is aten.detach.default:
        node = node.args[0]
    return node


# What becomes of it


def _convolve(node: Node) -> None:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
    if transposed or not _ours(x, weight) or _value(x).dim() != _value(weight).dim():
        return
    how = (list(stride), list(padding), list(dilation), groups)  # type: ignore[arg-type]
    node.replace_all_uses_with(_call(node, ours.convolve.default, x, weight, bias, *how))


def _convolve_backward(node: Node) -> None:
    dy, x, weight, _, stride, padding, dilation, transposed, _, groups, wanted = node.args
    if transposed or not _ours(dy, x, weight) or _value(x).dim() != _value(weight).dim():
        return
    how = (list(stride), list(padding), list(dilation), groups)  # type: ignore[arg-type]
    found = _parts(node)
    if 0 in found and wanted[0]:  # type: ignore[index]
        size = list(_value(x).shape[2:])
        found[0].replace_all_uses_with(
            _call(node, ours.convolve_input.default, dy, weight, size, *how)
        )
    if 1 in found and wanted[1]:  # type: ignore[index]
        size = list(_value(weight).shape[2:])
        found[1].replace_all_uses_with(_call(node, ours.convolve_weight.default, x, dy, size, *how))
    if 2 in found and wanted[2]:  # type: ignore[index]
        axes = [0, *range(2, _value(dy).dim())]
        found[2].replace_all_uses_with(_call(node, aten.sum.dim_IntList, dy, axes))


def _normalise(node: Node) -> None:
    """One operator for normalisation and rectifier, and one for their gradients."""
    x, weight, bias, running_mean, running_var, training, momentum, epsilon = node.args
    found = _parts(node)
    answer = found.get(0)
    if not training or answer is None or not _ours(x, weight, bias):
        return
    if [user.target for user in answer.users] != [aten.relu.default]:
        return
    relu = next(iter(answer.users))
    backward = _backward_of(relu, node)
    if backward is None:
        return
    fused = _call(node, ours.normalise.default, x, weight, bias, epsilon, True)
    y, mean, variance = (_call(node, operator.getitem, fused, k) for k in range(3))
    relu.replace_all_uses_with(y)
    found[0].replace_all_uses_with(y)
    rows = _value(x).numel() // _value(x).shape[1]
    unbiased = _call(node, aten.mul.Tensor, variance, rows / max(rows - 1, 1))
    inverse = _call(node, aten.rsqrt.default, _call(node, aten.add.Tensor, variance, epsilon))
    new = {
        1: mean,
        2: inverse,
        3: _call(node, aten.lerp.Scalar, running_mean, mean, momentum),
        4: _call(node, aten.lerp.Scalar, running_var, unbiased, momentum),
    }
    for k, part in found.items():
        if k:
            part.replace_all_uses_with(new[k])
    for threshold, gradient in backward:
        with node.graph.inserting_before(gradient):
            args = (x, threshold.args[0], weight, bias, mean, variance, epsilon, True)
            own = _call(gradient, ours.normalise_backward.default, *args)
            for k, part in _parts(gradient).items():
                part.replace_all_uses_with(_call(gradient, operator.getitem, own, k))


def _backward_of(relu: Node, forward: Node) -> list[tuple[Node, Node]] | None:
    """Return (gradient of the rectifier, of the normalisation); None if others need the first."""
    pairs = []
    x = forward.args[0]
    for user in _through_detach(relu):
        if user.target is not aten.threshold_backward.default:
            continue
        if _detached(user.args[1]) is not relu or user.args[2] != 0 or len(user.users) != 1:
            return None
        gradient = next(iter(user.users))
        if (
            gradient.target is not aten.native_batch_norm_backward.default
            or gradient.args[1] is not x
        ):
            return None
        pairs.append((user, gradient))
    return pairs


def _through_detach(node: Node) -> list[Node]:
    """Return who uses a node, also behind a detach."""
    found = []
    for user in node.users:
        found += _through_detach(user) if user.target is aten.detach.default else [user]
    return found


def _fold(node: Node) -> None:
    """Move normalisation by known statistics into the convolution before it."""
    before, weight, bias, mean, variance, _, epsilon = node.args
    if not isinstance(before, Node) or before.target is not aten.convolution.default:
        return
    x, kernels, shift, *how = before.args
    if how[3] or len(before.users) != 1 or not _ours(x, kernels, mean) or 0 not in _parts(node):
        return
    scale = _call(node, aten.rsqrt.default, _call(node, aten.add.Tensor, variance, epsilon))
    if weight is not None:
        scale = _call(node, aten.mul.Tensor, scale, weight)
    each = [-1, *[1] * (_value(kernels).dim() - 1)]
    scaled = _call(node, aten.mul.Tensor, kernels, _call(node, aten.view.default, scale, each))
    centre = mean if shift is None else _call(node, aten.sub.Tensor, mean, shift)
    moved = _call(node, aten.mul.Tensor, centre, scale)
    moved = (
        _call(node, aten.neg.default, moved)
        if bias is None
        else _call(node, aten.sub.Tensor, bias, moved)
    )
    args = (x, scaled, moved, *how)
    folded = _call(before, aten.convolution.default, *args)
    _parts(node)[0].replace_all_uses_with(folded)
