"""Which normalisation stands behind which convolution, and when the two may be one.

Convolution, then normalisation by known statistics, is a convolution with other kernels. But only
where nobody else sees what lies between: so it is done inside a network whose code was traced, and
never for a layer that is called by itself, or that a hook looks at.
"""

import copy
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.fx import Graph, Tracer
from torch.nn.modules import module as modules

from striate.kernels.convolution import transformed
from striate.kernels.prepared import Memo

__all__ = ["folded", "link", "mark", "marked"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Place = tuple[dict[str, nn.Module | None], str]  # the modules of a parent, and a name among them


class _Active(threading.local):
    """The traced networks that are computing just now, the innermost last."""

    def __init__(self) -> None:
        self.tokens: list[object] = []


active = _Active()


def link(model: nn.Module) -> None:
    """Find the convolutions whose answer one normalisation alone reads, and let them know it.

    A network whose code cannot be traced is looked at part by part.
    """
    for root, graph in _roots(model):
        pairs = list(_pairs(root, graph))
        if pairs and "striate_token" not in root.__dict__:
            root.__dict__["striate_token"] = object()
            root.register_forward_pre_hook(_enter)
            root.register_forward_hook(_leave, always_call=True)
        for conv, place in pairs:
            tokens = conv.__dict__.get("striate_behind", (frozenset(),))[0]  # of parts before
            tokens |= {root.__dict__["striate_token"]}
            conv.__dict__["striate_behind"] = (tokens, *place)


def _enter(root: nn.Module, given: object) -> None:
    if not torch.compiler.is_compiling():
        active.tokens.append(root.__dict__["striate_token"])


def _leave(root: nn.Module, given: object, answer: object) -> None:
    if not torch.compiler.is_compiling():
        active.tokens.pop()


def folded(
    conv: nn.Module, x: Tensor, kind: type[nn.Module]
) -> tuple[Tensor, Tensor, nn.Module] | None:
    """Return a convolution's kernels and bias with the normalisation behind it in them, and that.

    None where it is not to be folded in this call: in training, where gradients are asked for,
    outside of the traced network, or where somebody looks at what lies between.

    Args:
        kind: what the normalisation must be, that knows an answer that needs it no more.
    """
    found = conv.__dict__.get("striate_behind")
    if found is None or conv.training or not _plain(x):
        return None
    tokens, siblings, name = found
    norm = siblings.get(name)
    if tokens.isdisjoint(active.tokens) or not isinstance(norm, kind) or norm.training:
        return None
    own, behind, seen = conv._parameters, norm._parameters, norm._buffers
    known = (
        own.get("weight"), own.get("bias"), seen["running_mean"], seen["running_var"],
        behind["weight"], behind["bias"],
    )  # fmt: skip
    if known[0] is None or known[2] is None or _watched(conv, norm):
        return None
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *known)):
        return None
    memo = conv.__dict__.get("striate_folded")
    if memo is None:
        memo = conv.__dict__["striate_folded"] = Memo(_fold)
    kernels, shift = memo(*known, norm.eps)
    return kernels, shift, norm


def _plain(x: Tensor) -> bool:
    """Say whether a call is one of float32 on the CPU that is computed now, not recorded."""
    if type(x) is not Tensor or x.dtype != torch.float32 or not x.is_cpu:
        return False
    if torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return False
    watched = torch._C._len_torch_dispatch_stack() or transformed()
    return not (watched or torch.is_autocast_enabled("cpu"))


def mark(y: Tensor, norm: nn.Module) -> Tensor:
    """Say of an answer that this module has nothing to do any more."""
    y.striate_normalised = norm  # type: ignore[attr-defined]
    return y


def marked(y: Tensor, norm: nn.Module) -> bool:
    """Say whether an answer was normalised already, by that module."""
    return getattr(y, "striate_normalised", None) is norm


def _watched(conv: nn.Module, norm: nn.Module) -> bool:
    """Say whether a hook looks at what lies between two modules."""
    return bool(
        conv._forward_hooks or conv._forward_pre_hooks or norm._forward_hooks
        or norm._forward_pre_hooks or modules._has_any_global_hook()
    )  # fmt: skip


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

    A copy is traced that shares the tensors: forward may leave things in the modules.
    """
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    with suppress(Exception):  # whatever the code of a network may raise
        return _Outline().trace(copy.deepcopy(model, tensors).eval())
    return None


def _pairs(root: nn.Module, graph: Graph) -> Iterator[tuple[nn.Module, Place]]:
    """Give each convolution with the place of the normalisation behind it."""
    calls = {node: root.get_submodule(node.target) for node in graph.find_nodes(op="call_module")}
    times = Counter(calls.values())
    for node, conv in calls.items():
        if len(node.users) != 1 or not isinstance(conv, CONVOLUTIONS):
            continue
        (reader,) = node.users
        norm = calls.get(reader)
        if isinstance(norm, NORMS) and times[conv] == times[norm] == 1:
            parent, _, own = str(reader.target).rpartition(".")
            yield conv, (root.get_submodule(parent)._modules, own)
