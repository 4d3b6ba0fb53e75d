"""How functions become operators of PyTorch, torch.ops.striate.*."""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["LIBRARY", "as_operator", "differentiate", "shaped"]

LIBRARY = torch.library.Library("striate", "FRAGMENT")


def as_operator(function: Callable[..., Any]) -> Any:
    """Make a function on CPU tensors the operator of its name; it changes nothing that it is given.

    torch.library.custom_op would import torch._dynamo in the first call, which takes 3 s of every
    process that trains, and check more in each call than a convolution of LeNet's takes.
    """
    name = function.__name__
    schema = torch.library.infer_schema(function, mutates_args=())
    LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, function, "CPU")
    return getattr(torch.ops.striate, name)


def shaped(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Say what torch.compile knows of an operator's answers before they are computed."""
    return torch.library.register_fake(f"striate::{name}", lib=LIBRARY)


def differentiate(name: str, backward: Callable[..., Any], keep: Callable[..., Any]) -> None:
    """Give an operator its gradient: `keep` what `backward` wants."""
    torch.library.register_autograd(f"striate::{name}", backward, setup_context=keep, lib=LIBRARY)
