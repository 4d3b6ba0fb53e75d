"""What follows an answer in aten's graph and can be one with it: a sum, an activation."""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch.fx import Node

from striate.kernels.nodes import fits, readers, value

__all__ = ["Behind", "addend_of", "behind_of"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Behind:
    """What nothing but reads an answer: a sum, an activation with bounds, both or none.

    Args:
        answer: what they stand behind.
        sum: the node that adds something.
        addend: what it adds.
        activation: the node that keeps answers between bounds, or SiLU's.
        bounds: these.
        silu: whether it is SiLU.
    """

    answer: Node
    sum: Node | None = None
    addend: Node | None = None
    activation: Node | None = None
    bounds: tuple[float, float] = (-inf, inf)
    silu: bool = False

    @property
    def before(self) -> Node:
        """What the activation reads."""
        return self.sum or self.answer

    @property
    def end(self) -> Node:
        """The last one, whose answer is wanted."""
        return self.activation or self.before

    @property
    def without_activation(self) -> "Behind":
        """The sum alone."""
        return Behind(self.answer, self.sum, self.addend)

    def replace(self, y: Node) -> None:
        """Let y stand for all of them."""
        for node in {self.answer, self.before, self.end}:
            node.replace_all_uses_with(y)


def behind_of(answer: Node) -> Behind:
    """Return what stands behind an answer."""
    sum_ = _only_reader(answer)
    addend = addend_of(sum_, answer)
    if addend is None:
        sum_ = None
    activation = _only_reader(sum_ or answer)
    if activation is not None and activation.target is aten.silu.default:
        return Behind(answer, sum_, addend, activation, silu=True)
    bounds = _bounds(activation)
    if bounds is None:
        return Behind(answer, sum_, addend)
    return Behind(answer, sum_, addend, activation, bounds)


def _only_reader(node: Node) -> Node | None:
    """Return who reads a node if only one does; gradients of ReLU6 and SiLU do not count.

    The first asks whether what it reads lies between the bounds, which what is clipped can tell as
    well. The second wants what SiLU was given: whoever puts another thing there has to look for it.
    """
    gradients = (aten.hardtanh_backward.default, aten.silu_backward.default)
    found = [user for user in readers(node) if user.target not in gradients]
    return found[0] if len(found) == 1 and found[0] in node.users else None


def addend_of(sum_: Node | None, answer: Node) -> Any:
    """Return what a sum adds to an answer of the same shape; None where it is something else."""
    if sum_ is None or sum_.target is not aten.add.Tensor or sum_.kwargs:
        return None
    first, second = sum_.args
    addend = second if first is answer else first
    if not isinstance(addend, Node) or addend is answer or not fits(addend):
        return None
    return addend if value(addend).shape == value(answer).shape else None


def _bounds(node: Node | None) -> tuple[float, float] | None:
    """Return between which bounds an activation keeps its answers; None where it is another one."""
    if node is None or node.target not in (aten.relu.default, aten.hardtanh.default):
        return None
    if node.target is aten.relu.default:
        return 0.0, inf
    given: list[Any] = [*node.args[1:], *(-1.0, 1.0)[len(node.args) - 1 :]]
    return float(given[0]), float(given[1])
