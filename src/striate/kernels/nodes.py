"""Nodes of aten's graph: what they are known to give, who reads them, how one is added."""

import operator
from typing import Any

import torch
from torch.fx import Node

__all__ = ["call", "original", "parts", "readers", "value"]

aten = torch.ops.aten

COPIES = (aten.detach.default, aten.clone.default)


def value(node: Any) -> Any:
    """Return what a node is known to give, before it is computed."""
    return node.meta.get("val") if isinstance(node, Node) else node


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
