"""`accelerate`: give the modules of any network the fastest kernels that there are for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from striate.kernels.convolution import called, convolution, geometry
from striate.kernels.dispatch import NAMES, TORCH, foreseen
from striate.kernels.library import reason

__all__ = ["Accelerated", "FastConv2d", "accelerate", "as_torch", "kernel_of", "report"]


class FastConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with Striate's kernels where they are the faster ones.

    It holds the same parameters under the same names, and answers the same up to rounding. Other
    devices, other types than float32, other borders than zeros, autocast, and so little work that
    asking costs more go to PyTorch's own kernels.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _ours(self, x, weight):
            return super()._conv_forward(x, weight, bias)
        return _convolved(self, x, weight, bias)


# Multiply-and-adds in a call, which take as long as finding out who computes it. With a kernel for
# each channel they take longer.
SMALL, SMALL_DEPTHWISE = 3e7, 3e6


def _ours(layer: nn.Conv2d, x: Tensor, weight: Tensor) -> bool:
    """Say whether a call is one that our kernels know; PyTorch has the message for wrong ones."""
    if not (x.device.type == weight.device.type == "cpu" and x.dtype == weight.dtype):
        return False
    typed = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    fits = x.dim() == weight.dim() and x.shape[1] == weight.shape[1] * layer.groups
    if not (typed and fits and x.numel()):
        return False
    work = x.numel() * weight.numel() / (x.shape[1] * prod(layer.stride))
    if work < (SMALL if weight.shape[1] > 1 else SMALL_DEPTHWISE):
        return False
    each = zip(x.shape[2:], layer.kernel_size, _padding(layer), layer.dilation, strict=True)
    return all(s + 2 * p > d * (k - 1) for s, k, p, d in each)


def _convolved(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return convolution(
        x, weight, bias, stride=layer.stride, padding=_padding(layer), dilation=layer.dilation,
        groups=layer.groups,
    )  # fmt: skip


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    """Return zeros before each axis; `same` has as many behind wherever `_unknown` let it pass."""
    if isinstance(layer.padding, str):
        return tuple(layer._reversed_padding_repeated_twice[::-2])
    return layer.padding


@dataclass(frozen=True)
class Accelerated:
    """What `accelerate` did.

    Args:
        model: the network it was given, changed in place.
        swapped: names of the modules that have other kernels now.
        left: name -> why a convolution was left as it is.
    """

    model: nn.Module
    swapped: tuple[str, ...]
    left: dict[str, str]


def accelerate(model: nn.Module) -> nn.Module:
    """Give every module of a network that we know Striate's kernels, in place, and return it.

    Modules stay the objects that they are: parameters, names, hooks, `state_dict`, `deepcopy`,
    `torch.save` and sharing do not change, nor do answers beyond rounding.

    Args:
        model: any network; on the CPU it is faster afterwards, elsewhere as it was.
    """
    return report(model).model


def report(model: nn.Module) -> Accelerated:
    """Do what `accelerate` does, and say what was left alone and why."""
    swapped, left = [], {}
    why_none = reason()
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or isinstance(module, FastConv2d):
            continue
        if why := why_none or _unknown(module):
            left[name] = why
            continue
        module.__class__ = FastConv2d
        swapped.append(name)
    return Accelerated(model, tuple(swapped), left)


def _unknown(module: nn.Conv2d) -> str:
    """Return why we have no kernel for a convolution; empty where we have one."""
    if type(module) is not nn.Conv2d:
        return f"{type(module).__name__} may compute something else than Conv2d"
    if module.padding_mode != "zeros":
        return f"its border is {module.padding_mode}"
    ends = module._reversed_padding_repeated_twice
    if isinstance(module.padding, str) and ends[::2] != ends[1::2]:
        return f"padding 'same' is not the same on both sides of kernel {module.kernel_size}"
    return ""


@contextmanager
def as_torch(model: nn.Module) -> Iterator[None]:
    """Let PyTorch compute a network meanwhile: it counts its own operators, and NaN stays in place.

    Winograd's algorithm spreads a NaN over all outputs of its tile.
    """
    ours: list[nn.Module] = [m for m in model.modules() if type(m) is FastConv2d]
    for module in ours:
        module.__class__ = nn.Conv2d
    try:
        yield
    finally:
        for module in ours:
            module.__class__ = FastConv2d


def kernel_of(layer: nn.Module, x: Tensor) -> str:
    """Name what computes a convolution's answer to x, without computing it.

    Args:
        layer: a convolution of any kind.
    """
    if not (isinstance(layer, FastConv2d) and _ours(layer, x, layer.weight)):
        return NAMES[TORCH]
    own = geometry(
        x.shape[0], x.shape[2:], layer.weight, list(layer.stride), list(_padding(layer)),
        list(layer.dilation), layer.groups,
    )  # fmt: skip
    algorithm = foreseen(called("forward", own))
    return "tried at first use" if algorithm is None else NAMES[algorithm]
