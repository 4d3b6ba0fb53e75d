"""Nodes of aten's graph: what they are known to give, who reads them, how one is added."""

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

__all__ = ["call", "count", "fits", "numbers", "original", "parts", "readers", "sizes", "value"]

aten = torch.ops.aten

COPIES = (aten.detach.default, aten.clone.default)
SIZES = (aten.sym_size.int, aten.sym_numel.default)


def value(node: Any) -> Any:
    """Return what a node is known to give, before it is computed."""
    return node.meta.get("val") if isinstance(node, Node) else node


def fits(x: Any, *others: Any) -> bool:
    """Say whether all of them are float32 on the CPU, x a batch of one to three axes."""
    known = [value(node) for node in (x, *others) if node is not None]
    typed = all(
        isinstance(one, Tensor) and one.dtype == torch.float32 and one.device.type == "cpu"
        for one in known
    )
    return typed and known[0].dim() in (3, 4, 5)


def parts(node: Node) -> dict[int, Node]:
    """Return the answers of an operator that gives several, by their number."""
    return {user.args[1]: user for user in node.users if user.target is operator.getitem}  # type: ignore[misc]


def call(like: Node, target: Any, *args: Any) -> Node:
    """Add a call to the graph; what it will give is known from that of its arguments."""
    node = like.graph.call_function(target, args)
    values = torch.fx.node.map_arg(args, value)
    known = value(like)
    known = known if isinstance(known, tuple | list) else [known]
    with next(x.fake_mode for x in known if x is not None):
        node.meta["val"] = target(*values)
    return node


def sizes(x: Any) -> list[Any]:
    """Return how many samples a tensor has along its axes behind the first two.

    Numbers where they are known; else, where shapes may change, nodes that say so.
    """
    return [_known(n, x, aten.sym_size.int, k) for k, n in enumerate(value(x).shape) if k > 1]


def count(x: Any) -> Any:
    """Return how many numbers a tensor has: a number, or a node that says so."""
    return _known(value(x).numel(), x, aten.sym_numel.default)


def _known(number: Any, x: Any, target: Any, *args: int) -> Any:
    """Return a number; of a symbol, which means nothing when the graph runs, a node in its place.

    It is added where the graph is being changed.
    """
    return number if isinstance(number, int) else call(x, target, x, *args)


def original(node: Any) -> Any:
    """Return what a node was before it was copied or detached, perhaps several times."""
    while isinstance(node, Node) and node.target in COPIES:
        node = node.args[0]
    return node


def readers(node: Node) -> list[Node]:
    """Return who reads a node or a copy of it."""
    found = []
    for user in node.users:
        found += readers(user) if user.target in COPIES else [user]
    return found


def numbers(found: Iterable[Node]) -> set[Node]:
    """Return those of some readers that want numbers, not only how many there are."""
    return {node for node in found if node.target not in SIZES}
