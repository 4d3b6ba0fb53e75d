"""What depends on weights alone, computed once and kept while they do not change.

In inference that is most of what stands before a convolution: normalisation folded into kernels,
and kernels in the order in which oneDNN reads them.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.nn import Parameter

from striate.kernels.library import Memory

__all__ = ["Memo", "kept", "split"]

WHOLE, KILOBYTE, LINE = 1 << 14, 256, 16  # floats; as csrc/library.cpp has them


@dataclass(frozen=True)
class Held:
    """What was made of some tensors, and how they were then.

    Args:
        seen: which they are, and in which version.
        memory: where they lie; None where a change might not be seen.
        mark: its fingerprint.
        result: what was made of them.
    """

    seen: tuple[Any, ...]
    memory: Memory | None
    mark: int | None
    result: list[Tensor]


class Memo:
    """What a function makes of some tensors, kept while these do not change.

    A tensor has changed if it is another one, was changed in place, or has another fingerprint:
    what is done to `.data`, behind PyTorch's back, is seen where it touches a kilobyte in a row, a
    whole kernel, or a tensor of 64 KB or less.

    Copies, and what comes back from a file, keep the function alone.

    Args:
        compute: tensors, numbers and None -> tensors; called without gradients.
    """

    def __init__(self, compute: Callable[..., Sequence[Tensor]]) -> None:
        self.compute = compute
        self.held: Held | None = None

    def __call__(self, *given: Any) -> list[Tensor]:
        """Return what the function makes of the tensors."""
        held, seen = self.held, tuple(map(_seen, given))
        same = held is not None and held.seen == seen
        memory = held.memory if held is not None and same else _memory(given)
        mark = None if memory is None else memory.fingerprint()
        if held is not None and same and mark is not None and mark == held.mark:
            return held.result
        with torch.no_grad():
            result = [_owned(one) for one in self.compute(*given)]
        self.held = Held(seen, memory, mark, result)  # at once: other threads may ask meanwhile
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return Memo, (self.compute,)


def _seen(one: Any) -> Any:
    """Return what is another one where something else is given, or it was changed in place."""
    if not isinstance(one, Tensor):
        return one
    if type(one) not in (Tensor, Parameter) or one.is_inference():
        return object()  # it does not say whether it was
    return id(one), one.data_ptr(), one._version


def _memory(given: Sequence[Any]) -> Memory | None:
    """Return where tensors lie; None where changes behind PyTorch's back would not be seen."""
    tensors = [t for t in given if isinstance(t, Tensor)]
    if not all(map(_watchable, tensors)):
        return None
    return Memory([place for t in tensors for place in _places(t)])


def _places(t: Tensor) -> list[tuple[int, int]]:
    """Return address and count of what is looked at.

    Of what is small that is all, of what is large each kilobyte; where kernels are shorter, the
    first line of each of them.
    """
    count = t.numel()
    each = count // t.shape[0] if count else 0
    if count <= WHOLE or each >= KILOBYTE:
        return [(t.data_ptr(), count)]
    return [(t.data_ptr() + 4 * first, min(each, LINE)) for first in range(0, count, each)]


def _watchable(t: Tensor) -> bool:
    """Say whether a tensor counts its changes, and its memory may be read in one piece."""
    ordinary = type(t) in (Tensor, Parameter) and not t.is_inference()
    if not (ordinary and t.device.type == "cpu" and t.dtype == torch.float32):
        return False
    return t.is_contiguous() or (t.dim() > 2 and t.movedim(1, -1).is_contiguous())


def _owned(t: Tensor) -> Tensor:
    """Return a tensor that keeps what is made of it."""
    t = t.detach()
    t.striate_kept = {}  # type: ignore[attr-defined]
    return t


def kept(t: Tensor) -> dict[Any, Tensor] | None:
    """Return what was made of a tensor that does not change; None for one that may."""
    return getattr(t, "striate_kept", None)


def split(
    module: GraphModule, wanted: Sequence[Node], owned: Sequence[bool]
) -> tuple[GraphModule, Callable[..., Any]]:
    """Take what computes some nodes out of a graph, in place.

    Args:
        module: its graph gets another input for each node that was taken out, behind its own.
        wanted: nodes; those that depend on chance, or on other inputs, stay where they are.
        owned: of each input, whether it is one of the network's own tensors.

    Returns:
        A graph of those nodes, and which of the inputs it takes: inputs -> some of them.
    """
    graph, before = module.graph, Graph()
    inputs = list(graph.find_nodes(op="placeholder"))
    needed = {node: _ancestors(node) for node in dict.fromkeys(wanted)}
    others = {node for node, own in zip(inputs, owned, strict=True) if not own}
    roots = [
        node for node, ancestors in needed.items()
        if others.isdisjoint(ancestors) and not any(map(_by_chance, ancestors))
    ]  # fmt: skip
    ancestors = set().union(*(needed[node] for node in roots))
    taken = [k for k, node in enumerate(inputs) if node in ancestors]
    copies: dict[Node, Node] = {}
    for node in graph.nodes:  # inputs stand first, in the same order
        if node in ancestors:
            copies[node] = before.node_copy(node, copies.__getitem__)
    before.output([copies[node] for node in roots])
    last = inputs[-1]
    for k, node in enumerate(roots):
        with graph.inserting_after(last):
            last = graph.placeholder(f"prepared_{k}")
        last.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(last)
    graph.eliminate_dead_code()
    module.recompile()
    return GraphModule(module, before), lambda given: [given[k] for k in taken]


def _ancestors(node: Node) -> set[Node]:
    """Return a node and all that it is computed from."""
    found, waiting = set(), [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += one.all_input_nodes
    return found


def _by_chance(node: Node) -> bool:
    """Say whether a node gives something else each time, or changes what it is given."""
    if node.op == "placeholder" or node.target is operator.getitem:
        return False
    tags = getattr(node.target, "tags", ())
    schema = getattr(node.target, "_schema", None)
    fixed = schema is not None and not schema.is_mutable
    return torch.Tag.nondeterministic_seeded in tags or not fixed
