"""The backend `striate` of torch.compile: PyTorch's graph with Striate's operators in it.

`torch.compile(model, backend="striate")` traces a network, forward and backward, and calls us with
the graph. Convolutions become ours; batch normalisation with the sum and the rectifier behind it
becomes one operator, and so do their gradients; in inference, normalisation moves into the kernels.
A sum and a rectifier behind a convolution become part of it. What is left runs as it stands.
Nothing is generated, so compiling takes as long as tracing.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

import torch
from functorch.compile import (  # type: ignore[import-untyped]
    default_partition,
    make_boxed_func,
)
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule, Node
from torch.nn import Parameter

from striate.kernels import chains, convolution, norm, pooling, separable, stages  # noqa: F401  # norm defines operators
from striate.kernels.convolution import transposed
from striate.kernels.followers import Behind, addend_of, behind_of
from striate.kernels.geometry import lies_last
from striate.kernels.library import reason
from striate.kernels.nodes import call, count, fits, original, parts, readers, sizes, value
from striate.kernels.prepared import Memo, split

__all__ = ["backend", "rewrite"]

aten, ours = torch.ops.aten, torch.ops.striate
# Where operators have what depends on weights alone.
READ = {
    ours.convolve.default: (1, 2),
    ours.convolve_clipped.default: (1, 2),
    ours.convolve_pooled.default: (1, 2, 3),
    ours.separable.default: (1, 2, 8),
}


def backend(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """Return what runs a traced network: what torch.compile calls."""
    compiler = aot_autograd(
        fw_compiler=_as_it_stands,
        inference_compiler=partial(_rewritten, _owned(graph, inputs)),
        partition_fn=_parted,
    )
    return compiler(graph, inputs)


def _owned(graph: GraphModule, inputs: Sequence[Any]) -> list[bool]:
    """Say of each input whether it is a parameter or a buffer: others may change in any call."""
    nodes = graph.graph.find_nodes(op="placeholder")
    each = zip(inputs, map(_source, nodes), strict=True)
    return [isinstance(one, Parameter) or "._buffers[" in source for one, source in each]


def _source(node: Node) -> str:
    """Return where torch.compile found an input: L['self']._buffers['running_mean']."""
    name = getattr(getattr(node, "_dynamo_source", None), "name", "")
    return str(name() if callable(name) else name)  # a method in some versions


def _as_it_stands(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    return make_boxed_func(graph.forward)


def _rewritten(
    owned: Sequence[bool], module: GraphModule, inputs: Sequence[Tensor]
) -> Callable[..., Any]:
    """Return what runs inference: what weights alone decide is computed when they change."""
    graph = rewrite(module).graph
    if not reason():
        separable.replace(graph)
    weights = [
        arg
        for node in graph.nodes
        if node.target in READ
        for place in READ[node.target]
        for arg in _leaves(node.args[place])
    ]
    if not weights or len(owned) != len(inputs):  # other inputs than those that we know
        return make_boxed_func(module.forward)
    before, chosen = split(module, weights, owned)
    _bare(module)
    memo = Memo(before.forward)
    return make_boxed_func(lambda *given: module.forward(*given, *memo(*chosen(given))))


def _bare(module: GraphModule) -> None:
    """Call functions in the place of operators: nobody differentiates, and dispatch takes time."""
    for node in module.graph.nodes:
        if node.target is ours.convolve.default:
            node.target, given = convolution.convolved, list(node.args)
            node.args = (*given[:3], None, -inf, inf, *given[3:])
        elif node.target is ours.convolve_clipped.default:
            node.target = convolution.convolved
        elif node.target is ours.convolve_pooled.default:
            node.target = pooling.pooled
        elif node.target is ours.separable.default:
            node.target = separable.separated
    module.recompile()


def _leaves(arg: Any) -> list[Node]:
    """Return the nodes of an argument: itself, or those in its list."""
    found = arg if isinstance(arg, list | tuple) else [arg]
    return [node for node in found if isinstance(node, Node)]


def _parted(joint: GraphModule, *args: Any, **kwargs: Any) -> tuple[GraphModule, GraphModule]:
    """Rewrite forward and backward while they are one graph, then part them."""
    _mark(rewrite(joint), kwargs.get("num_fwd_outputs", 0))
    return default_partition(joint, *args, **kwargs)


def _mark(joint: GraphModule, outputs: int) -> None:
    """Mark where the forward part ends: up to its last answer, with all that this one came with.

    PyTorch looks for the last of its own operators, and what stands behind it would be computed
    once more in the backward part.
    """
    (end,) = joint.graph.find_nodes(op="output")
    for node in end.args[0][:outputs]:
        if isinstance(node, Node):
            source = node.args[0] if node.target is operator.getitem else None
            for one in (node, *(parts(source).values() if isinstance(source, Node) else ())):
                one.meta["partitioner_tag"] = "is_forward"


def rewrite(module: GraphModule) -> GraphModule:
    """Put our operators into a graph of aten's, in place."""
    if reason():
        return module
    graph = module.graph
    for node in graph.find_nodes(op="call_function", target=aten.clone.default):
        if isinstance(node.args[0], Node) and node.args[0].target in READ:
            node.replace_all_uses_with(node.args[0])  # what was ours already may lie as it does
    for kind, change in (
        (aten._native_batch_norm_legit_functional.default, _normalise),
        (aten._native_batch_norm_legit_no_training.default, _fold),
        (aten.convolution.default, chains.replace),
        (aten.convolution.default, _convolve),
        (ours.convolve.default, _shift),
        (ours.convolve.default, _finish),
        (aten.max_pool2d_with_indices.default, pooling.replace),
        (aten.convolution_backward.default, _convolve_backward),
        (ours.convolve_input.default, _add),
    ):
        graph.eliminate_dead_code()  # what was replaced before still reads
        for node in graph.find_nodes(op="call_function", target=kind):
            with graph.inserting_before(node):
                change(node)
    stages.replace(graph)
    for node in graph.find_nodes(op="call_function", target=aten.view.default):
        node.target = aten.reshape.default  # not every view is one where channels lie last
    graph.eliminate_dead_code()
    module.recompile()
    return module


# What becomes of it


def _convolve(node: Node) -> None:
    x, weight, bias, stride, padding, dilation, turned, extra, groups = node.args
    if not fits(x, weight) or value(x).dim() != value(weight).dim():
        return
    how = (list(stride), list(padding), list(dilation), groups)  # type: ignore[arg-type]
    if not turned:
        node.replace_all_uses_with(call(node, ours.convolve.default, x, weight, bias, *how))
        return
    known = _transposed(x, weight, *how[:2], extra, *how[2:])
    if known is None:
        return
    y = call(node, ours.convolve_input.default, x, weight, *known)
    if bias is not None:
        each = [-1, *[1] * (value(x).dim() - 2)]
        y = call(node, aten.add.Tensor, y, call(node, aten.view.default, bias, each))
    node.replace_all_uses_with(y)


def _transposed(x: Any, weight: Any, *how: Any) -> tuple[Any, ...] | None:
    """Return what a transposed convolution is told; None where it is PyTorch's to compute.

    The size of its answer is computed here, so that of x must be known.
    """
    known = all(isinstance(n, int) for n in (*value(x).shape[2:], *value(weight).shape))
    return transposed(value(x), value(weight), *how) if known else None


def _convolve_backward(node: Node) -> None:
    dy, x, weight, _, stride, padding, dilation, turned, extra, groups, wanted = node.args
    if not fits(dy, x, weight) or value(x).dim() != value(weight).dim():
        return
    how = (list(stride), list(padding), list(dilation), groups)  # type: ignore[arg-type]
    if turned and _transposed(x, weight, *how[:2], extra, *how[2:]) is None:
        return
    found = parts(node)
    if 0 in found and wanted[0]:  # type: ignore[index]
        gradient = (
            call(node, ours.convolve.default, dy, weight, None, *how)
            if turned
            else call(node, ours.convolve_input.default, dy, weight, sizes(x), *how)
        )
        found[0].replace_all_uses_with(gradient)
    if 1 in found and wanted[1]:  # type: ignore[index]
        size, order = sizes(weight), lies_last(value(weight))
        ends = (dy, x) if turned else (x, dy)
        found[1].replace_all_uses_with(
            call(node, ours.convolve_weight.default, *ends, size, *how, order)
        )
    if 2 in found and wanted[2]:  # type: ignore[index]
        axes = [0, *range(2, value(dy).dim())]
        found[2].replace_all_uses_with(call(node, aten.sum.dim_IntList, dy, axes))


def _shift(node: Node) -> None:
    """Let a number for each channel, added behind a convolution without a bias, be its bias."""
    found = readers(node)
    sum_ = found[0] if len(found) == 1 and found[0] in node.users else None
    if node.args[2] is not None or sum_ is None:
        return
    if sum_.target is not aten.add.Tensor or sum_.kwargs:
        return
    bias = sum_.args[1] if sum_.args[0] is node else sum_.args[0]
    each = [value(node).shape[1], *[1] * (value(node).dim() - 2)]
    if bias is node or not isinstance(bias, Node) or not isinstance(value(bias), Tensor):
        return
    if value(bias).dtype != torch.float32 or list(value(bias).shape) not in (each, [1, *each]):
        return
    x, weight, _, *how = node.args
    with node.graph.inserting_before(sum_):
        flat = call(node, aten.reshape.default, bias, [-1])
        y = call(node, ours.convolve.default, x, weight, flat, *how)
    sum_.replace_all_uses_with(y)


def _finish(node: Node) -> None:
    """Move a sum and an activation into the convolution before them."""
    behind = behind_of(node)
    if behind.silu and set(readers(behind.before)) != {behind.activation}:
        behind = behind.without_activation
    if behind.end is node:
        return
    x, weight, bias, *how = node.args
    args = (x, weight, bias, behind.addend, *behind.bounds, *how, behind.silu)
    with node.graph.inserting_before(behind.sum or node):
        y = call(node, ours.convolve_clipped.default, *args)
    behind.replace(y)


def _add(node: Node) -> None:
    """Move the sum of two branches' gradients into the convolution that gives one of them."""
    found = readers(node)
    sum_ = found[0] if len(found) == 1 and found[0] in node.users else None
    addend = addend_of(sum_, node)
    if addend is None or sum_ is None:
        return
    dy, weight, *how = node.args
    with node.graph.inserting_before(sum_):
        dx = call(node, ours.convolve_input_added.default, dy, weight, addend, *how)
    sum_.replace_all_uses_with(dx)


def _normalise(node: Node) -> None:
    """One operator for normalisation and what stands behind it, and one for their gradients."""
    x, weight, bias, running_mean, running_var, training, momentum, epsilon = node.args
    found = parts(node)
    answer = found.get(0)
    if not training or answer is None or not fits(x, weight, bias):
        return
    behind = behind_of(answer)
    statistics = [user for k, part in found.items() if k for user in part.users]
    if behind.sum is not None and any(user < behind.sum for user in statistics):
        behind = Behind(answer)
    gradients = [user for user in readers(found[1]) if _is_gradient(user, x)] if 1 in found else []
    masked = {gradient: _mask(gradient, behind) for gradient in gradients}
    if behind.silu and not _curves(behind, masked):
        behind, masked = behind.without_activation, dict.fromkeys(gradients)
    how = (epsilon, *behind.bounds, behind.silu)
    with node.graph.inserting_before(behind.sum or node):
        fused = call(node, ours.normalise.default, x, weight, bias, behind.addend, *how)
        y, mean, variance = (call(node, operator.getitem, fused, k) for k in range(3))
        unbiased = _unbiased(node, variance, x)
        inverse = call(node, aten.rsqrt.default, call(node, aten.add.Tensor, variance, epsilon))
        new = {
            1: mean,
            2: inverse,
            3: call(node, aten.lerp.Scalar, running_mean, mean, momentum),
            4: call(node, aten.lerp.Scalar, running_var, unbiased, momentum),
        }
    behind.replace(y)
    for k, part in found.items():
        if k:
            part.replace_all_uses_with(new[k])
    for gradient, mask in masked.items():
        if mask is not None or behind.activation is None:
            kept = y if mask is not None and behind.sum is not None else None
            _normalise_backward(gradient, mask, kept, (weight, bias, mean, variance, *how))


def _curves(behind: Behind, masked: Mapping[Node, Node | None]) -> bool:
    """Say whether normalisation and SiLU can be one, and their gradients: nobody looks between."""
    masks = {mask for mask in masked.values() if mask is not None}
    alone = set(readers(behind.before)) == {behind.activation, *masks}
    return alone and behind.sum is None and all(len(readers(mask)) == 1 for mask in masks)


def _unbiased(node: Node, variance: Node, x: Any) -> Node:
    """Return the variance times n / (n - 1), where n numbers each were seen."""
    numbers, channels = count(x), value(variance).numel()
    if isinstance(numbers, int):
        factor = numbers / max(numbers - channels, channels)
        return call(node, aten.mul.Tensor, variance, factor)
    fewer = call(node, operator.sub, numbers, channels)
    fewer = call(node, torch.sym_max, fewer, channels)
    sums = call(node, aten.mul.Tensor, variance, numbers)
    return call(node, aten.div.Tensor, sums, fewer)


def _is_gradient(node: Node, x: Any) -> bool:
    return node.target is aten.native_batch_norm_backward.default and node.args[1] is x


def _mask(gradient: Node, behind: Behind) -> Node | None:
    """Return the gradient of the activation that the one of normalisation reads; None for none."""
    mask = gradient.args[0]
    if not isinstance(mask, Node) or behind.activation is None:
        return None
    if mask.target is aten.threshold_backward.default:
        known = mask.args[2] == 0 and behind.bounds == (0, inf)
        return mask if known and original(mask.args[1]) is behind.activation else None
    if mask.target is aten.hardtanh_backward.default:
        known = mask.args[2:] == behind.bounds
        return mask if known and original(mask.args[1]) is behind.before else None
    if mask.target is aten.silu_backward.default:
        return mask if behind.silu and original(mask.args[1]) is behind.before else None
    return None


def _normalise_backward(
    gradient: Node, mask: Node | None, y: Node | None, known: tuple[Any, ...]
) -> None:
    """Put ours in the place of the gradient of normalisation, and of the activation's before it."""
    x, dy = gradient.args[1], gradient.args[0] if mask is None else mask.args[0]
    with gradient.graph.inserting_before(gradient if mask is None else mask):
        own = call(gradient, ours.normalise_backward.default, x, dy, y, *known)
        new = [call(gradient, operator.getitem, own, k) for k in range(4)]
    for k, part in parts(gradient).items():
        part.replace_all_uses_with(new[k])
    if mask is not None and y is not None:
        mask.replace_all_uses_with(new[3])


def _fold(node: Node) -> None:
    """Move normalisation by known statistics into the convolution before it."""
    before, weight, bias, mean, variance, _, epsilon = node.args
    if not isinstance(before, Node) or before.target is not aten.convolution.default:
        return
    x, kernels, shift, *how = before.args
    if how[3] or len(before.users) != 1 or not fits(x, kernels, mean) or 0 not in parts(node):
        return
    scale = call(node, aten.rsqrt.default, call(node, aten.add.Tensor, variance, epsilon))
    if weight is not None:
        scale = call(node, aten.mul.Tensor, scale, weight)
    each = [-1, *[1] * (value(kernels).dim() - 1)]
    scaled = call(node, aten.mul.Tensor, kernels, call(node, aten.view.default, scale, each))
    centre = mean if shift is None else call(node, aten.sub.Tensor, mean, shift)
    moved = call(node, aten.mul.Tensor, centre, scale)
    moved = (
        call(node, aten.neg.default, moved)
        if bias is None
        else call(node, aten.sub.Tensor, bias, moved)
    )
    args = (x, scaled, moved, *how)
    folded = call(before, aten.convolution.default, *args)
    parts(node)[0].replace_all_uses_with(folded)
