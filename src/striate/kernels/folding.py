"""Which normalisation stands behind which convolution, and when the two may be one.

Convolution, then normalisation by known statistics, is a convolution with other kernels. But only
where nobody else sees what lies between: so it is done inside a network whose code was traced, and
never for a layer that is called by itself, or that a hook looks at.
"""

import copy
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Tracer
from torch.nn.modules import module as modules

from striate.kernels.convolution import transformed
from striate.kernels.prepared import Memo

__all__ = ["folded", "link", "normalised", "unlinked"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LINKS = "striate_links"  # where a network has its Links; below it nothing knows of them


@dataclass(frozen=True)
class Pair:
    """A convolution's normalisation.

    Args:
        norm: it.
        seers: the modules that are given what lies between or give it: both, and containers that
            hold one of them alone.
        memo: kernels and bias of both as one.
    """

    norm: nn.Module
    seers: tuple[nn.Module, ...]
    memo: Memo = field(default_factory=lambda: Memo(_fold))


@dataclass(frozen=True)
class Links:
    """What is known of a network whose code was traced.

    Args:
        parts: its modules.
        inside: of each that holds others, these, as they were then.
        pairs: of each convolution whose answer one normalisation alone reads.
    """

    parts: list[nn.Module]
    inside: list[tuple[nn.Module, list[tuple[str, nn.Module | None]]]]
    pairs: dict[nn.Module, Pair]

    @property
    def hold(self) -> bool:
        """Whether all modules are where they were."""
        return not [part for part, inside in self.inside if list(part._modules.items()) != inside]

    @property
    def patched(self) -> bool:
        """Whether a module has another `forward` than its class, of which nothing is known."""
        return bool([part for part in self.parts if "forward" in part.__dict__])


@dataclass
class Call:
    """A call of a traced network.

    Args:
        pairs: of its convolutions; none where its code may be another.
        answers: of each normalisation that had its part done, what it has to pass on; None once it
            did.
    """

    pairs: dict[nn.Module, Pair]
    answers: dict[nn.Module, Tensor | None] = field(default_factory=dict)


class _Active(threading.local):
    """The calls that are being computed just now, the innermost last."""

    def __init__(self) -> None:
        self.calls: list[Call] = []


active = _Active()


def link(model: nn.Module) -> None:
    """Find the convolutions whose answer one normalisation alone reads, and note it.

    A network whose code cannot be traced is looked at part by part.
    """
    for root, graph in _roots(model):
        if LINKS not in root.__dict__:
            root.register_forward_pre_hook(_enter)
            root.register_forward_hook(_leave, with_kwargs=True, always_call=True)
        root.__dict__[LINKS] = _links(root, graph)


def _enter(root: nn.Module, given: object) -> None:
    if torch.compiler.is_compiling():
        return
    links = root.__dict__[LINKS]
    if not links.hold:  # a layer was put in the place of another, or is used twice by now
        links = root.__dict__[LINKS] = _links(root, _traced(root))
    blind = links.patched or modules._has_any_global_hook()
    active.calls.append(Call({} if blind else links.pairs))


def _leave(root: nn.Module, given: tuple[Any, ...], named: dict[str, Any], answer: Any) -> Any:
    if torch.compiler.is_compiling():
        return None
    unread = any(y is not None for y in active.calls.pop().answers.values())
    if not unread or answer is None:  # None where the network has raised an error
        return None
    root.__dict__[LINKS].pairs.clear()  # its code went another way than it did when it was traced
    return root.forward(*given, **named)


@contextmanager
def unlinked(model: nn.Module) -> Iterator[None]:
    """Take what folds off a network meanwhile."""
    hooks: list[Any] = [
        d for m in model.modules() for d in (m._forward_pre_hooks, m._forward_hooks)
    ]
    taken = [(d, key) for d in hooks for key, hook in d.items() if hook in (_enter, _leave)]
    ours = [(d, key, d.pop(key)) for d, key in taken]
    try:
        yield
    finally:
        for d, key, hook in ours:
            d[key] = hook
            d.move_to_end(key, last=False)  # before hooks that see the answer


Found = tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]


def folded(conv: nn.Module, x: Tensor, kind: type[nn.Module]) -> Found | None:
    """Return a convolution's kernels and bias with the normalisation behind it in them.

    None where it is not to be folded in this call: in training, where gradients are asked for,
    outside of the traced network, or where somebody looks at what lies between. Last comes what
    the answer has to be given to.

    Args:
        kind: what the normalisation must be, that asks whether it was `normalised`.
    """
    if not active.calls or conv.training or not _plain(x):
        return None
    call = next((one for one in reversed(active.calls) if conv in one.pairs), None)
    if call is None:
        return None
    pair = call.pairs[conv]
    norm = pair.norm
    if norm in call.answers or not isinstance(norm, kind) or norm.training or _watched(pair):
        return None
    known = _parameters(conv, norm)
    if known is None:
        return None
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *known)):
        return None
    kernels, shift = pair.memo(*known, norm.eps)
    return kernels, shift, partial(_note, call, norm)


def _note(call: Call, norm: nn.Module, y: Tensor) -> Tensor:
    call.answers[norm] = y
    return y


def normalised(y: Tensor, norm: nn.Module) -> bool:
    """Say whether an answer was normalised already, for that module; it is asked once."""
    for call in reversed(active.calls):
        if call.answers.get(norm) is y:
            call.answers[norm] = None
            return True
    return False


def _watched(pair: Pair) -> bool:
    """Say whether a hook looks at what lies between two modules."""
    return any(one._forward_hooks or one._forward_pre_hooks for one in pair.seers)


def _parameters(conv: nn.Module, norm: nn.Module) -> tuple[Tensor | None, ...] | None:
    """Return what is folded; None where some of it is computed: pruned, or parametrised."""
    own, behind, seen = conv._parameters, norm._parameters, norm._buffers
    try:
        known = (
            own["weight"], own["bias"], seen["running_mean"], seen["running_var"],
            behind["weight"], behind["bias"],
        )  # fmt: skip
    except KeyError:
        return None
    return None if known[0] is None or known[2] is None or known[3] is None else known


def _plain(x: Tensor) -> bool:
    """Say whether a call is one of float32 on the CPU that is computed now, not recorded."""
    if type(x) is not Tensor or x.dtype != torch.float32 or not x.is_cpu:
        return False
    if torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return False
    watched = torch._C._len_torch_dispatch_stack() or transformed()
    return not (watched or torch.is_autocast_enabled("cpu"))


def _fold(
    weight: Tensor, bias: Tensor | None, mean: Tensor, variance: Tensor, scale: Tensor | None,
    shift: Tensor | None, epsilon: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the kernels and the bias of convolution and normalisation as one.

    Shape: (O, C, *K), (O), (O), (O), (O), (O) -> (O, C, *K), (O)
    Math:  (w * x + b - mean) r scale + shift, r = 1 / sqrt(variance + epsilon)
           = (r scale w) * x + (b - mean) r scale + shift
    """
    factor = (variance + epsilon).rsqrt()
    factor = factor if scale is None else factor * scale
    moved = (-mean if bias is None else bias - mean) * factor
    kernels = weight * factor.view(-1, *[1] * (weight.dim() - 1))
    return kernels, moved if shift is None else moved + shift


class _Outline(Tracer):
    """Traces a network down to PyTorch's own layers and ours in their place."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kinds = (*CONVOLUTIONS, *NORMS)
        return isinstance(m, kinds) or super().is_leaf_module(m, module_qualified_name)


def _roots(model: nn.Module) -> Iterator[tuple[nn.Module, Graph]]:
    """Give the largest parts of a network that can be traced, each with its graph."""
    if not any(isinstance(m, NORMS) for m in model.modules()):
        return
    graph = _traced(model)
    if graph is not None:
        yield model, graph
        return
    for child in model.children():
        yield from _roots(child)


def _traced(model: nn.Module) -> Graph | None:
    """Return the graph of a network in inference; None where its code cannot be traced.

    A copy is traced that shares the tensors and has no hooks: forward may leave things in the
    modules, and hooks are for real calls.
    """
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    for m in model.modules():
        shared |= {id(hooks): OrderedDict() for hooks in (m._forward_hooks, m._forward_pre_hooks)}
        links = m.__dict__.get(LINKS)
        shared[id(links)] = links
    with suppress(Exception):  # whatever the code of a network may raise
        return _Outline().trace(copy.deepcopy(model, shared).eval())
    return None


def _links(root: nn.Module, graph: Graph | None) -> Links:
    parts = list(root.modules())
    inside = [(part, list(part._modules.items())) for part in parts if part._modules]
    return Links(parts, inside, {} if graph is None else dict(_pairs(root, graph)))


def _pairs(root: nn.Module, graph: Graph) -> Iterator[tuple[nn.Module, Pair]]:
    """Give each convolution with the normalisation behind it."""
    calls = {node: root.get_submodule(node.target) for node in graph.find_nodes(op="call_module")}
    times = Counter(calls.values())
    for node, conv in calls.items():
        if len(node.users) != 1 or not isinstance(conv, CONVOLUTIONS):
            continue
        (reader,) = node.users
        norm = calls.get(reader)
        if isinstance(norm, NORMS) and times[conv] == times[norm] == 1:
            yield conv, Pair(norm, tuple(_seers(root, str(node.target), str(reader.target))))


def _seers(root: nn.Module, first: str, second: str) -> Iterator[nn.Module]:
    """Give two modules, and of those around them the ones that hold one of them alone."""
    names = [name.split(".") for name in (first, second)]
    for own, other in (names, names[::-1]):
        for k in range(1, len(own) + 1):
            if own[:k] != other[:k]:
                yield root.get_submodule(".".join(own[:k]))
