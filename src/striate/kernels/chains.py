"""Chains of convolutions in aten's graph, and the operators of `lanes` in their place.

Links are joined where nobody else reads what lies between, forward and backward.
"""

import operator
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.fx import Node

from striate.kernels.links import Joint, convolved, following, is_turned
from striate.kernels.nodes import call, original, readers, value

__all__ = ["replace"]

aten, ours = torch.ops.aten, torch.ops.striate
MOST = 16  # links of a chain
CHANNELS = 128  # in times out, of a convolution at most
MATRIX = 2**16  # numbers of a linear layer at most
IMAGES = 16  # of a batch at least, in training


def replace(head: Node) -> None:
    """Put our operators into the place of the chain that begins with a convolution, if one does."""
    if not head.users:  # it was replaced already
        return
    links = _grown(head)
    if links and _pays(links):
        _put(links)


# What a chain is


def _grown(head: Node) -> list[Joint]:
    """Return the links of the longest chain from a convolution on; none where there is none."""
    links: list[Joint] = []
    link = convolved(head)
    while link is not None and len(links) < MOST and _fits(link):
        if links and not _join(links[-1], link):
            break
        links.append(link)
        link = following(link.end)
    while links and not _closed(links):
        links.pop()
    return links


def _join(link: Joint, following: Joint) -> bool:
    if following.x is not link.end or link.trained != following.trained:
        return False
    return not link.trained or link.dy is following.gradients.get(0)


def _closed(links: Sequence[Joint]) -> bool:
    """Say whether nobody outside reads what is inside."""
    inside = {node for link in links for node in (*link.forward, *link.backward)}
    wanted = {links[-1].end, *(link.gradients.get(k) for link in links for k in (1, 2))}
    wanted.add(links[0].gradients.get(0))
    return all(user in inside for node in inside - wanted for user in readers(node))


# What becomes of it


def _fits(link: Joint) -> bool:
    """Say whether lanes of images are for a link: with more channels, other algorithms are faster.

    Measured on a Zen 4 with 3 x 3 and 5 x 5 kernels.
    """
    shape = value(link.weight).shape
    return (len(shape) == 2 and prod(shape) <= MATRIX) or prod(shape[:2]) <= CHANNELS


def _pays(links: Sequence[Joint]) -> bool:
    """Say whether a chain saves time: where it has images enough, and what it gives out is small.

    To turn answers to lanes and back takes as long as a convolution of few channels.
    """
    n = value(links[0].x).shape[0]
    known = n if isinstance(n, int) else n.node.hint or 0
    last = links[-1]
    small = bool(last.stage.pooling) or value(last.weight).dim() == 2
    return small and known >= (IMAGES if last.trained else IMAGES // 2)


def _put(links: Sequence[Joint]) -> None:
    first, last = links[0], links[-1]
    weights, biases = [link.weight for link in links], [link.bias for link in links]
    numbers = [link.stage.numbers for link in links]
    whole, broken = ([n for one in numbers for n in one[k]] for k in range(2))
    given = (first.x, weights, biases, whole, broken, first.trained)
    with last.end.graph.inserting_before(last.end):
        both = call(first.sum, ours.chain.default, *given)
        y, kept = (call(first.sum, operator.getitem, both, k) for k in range(2))
    last.end.replace_all_uses_with(y)
    if first.trained:
        _put_gradients(links, (first.x, weights, kept, whole, broken))
    _erase(links)


def _put_gradients(links: Sequence[Joint], known: tuple[Any, ...]) -> None:
    last = links[-1]
    old = [links[0].gradients.get(0), *(link.gradients.get(k) for k in (1, 2) for link in links)]
    wanted = [node is not None for node in old]
    with last.end.graph.inserting_before(last.backward[0]):
        own = call(last.sum, ours.chain_backward.default, last.dy, *known, wanted)
        for k, node in enumerate(old):
            if node is not None:
                _let_stand(node, call(last.sum, operator.getitem, own, k))


def _let_stand(node: Node, gradient: Node) -> None:
    """Let a gradient of ours stand for aten's, and for what only turns that or drops an axis."""
    for user in list(node.users):
        turned = is_turned(user) and all(is_turned(other) for other in user.users)
        others = list(user.users) if turned else [user]
        for other in others:
            if (turned or other.target is aten.view.default) and (
                tuple(value(other).shape) == tuple(value(gradient).shape)
            ):
                other.replace_all_uses_with(gradient)
                other.graph.erase_node(other)
        if turned:
            user.graph.erase_node(user)
    if node.users:
        shape = list(value(node).shape)
        same = tuple(shape) == tuple(value(gradient).shape)
        like = gradient if same else call(gradient, aten.view.default, gradient, shape)
        node.replace_all_uses_with(like)


def _erase(links: Sequence[Joint]) -> None:
    """Remove what nobody reads any more, so that nobody else takes it for a convolution."""
    inside = {node for link in links for node in (*link.forward, *link.backward)}
    for node in reversed(list(links[0].sum.graph.nodes)):
        source = original(node.args[0]) if node.op == "call_function" and node.args else None
        if not node.users and (node in inside or source in inside):
            node.graph.erase_node(node)
