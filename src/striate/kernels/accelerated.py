"""`accelerate`: give the modules of any network the fastest kernels that there are for them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.kernels.convolution import conv2d
from striate.kernels.library import reason

__all__ = ["Accelerated", "FastConv2d", "accelerate"]


class FastConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with Striate's kernels where they are the faster ones.

    It holds the same parameters under the same names, and answers the same up to rounding. Other
    devices, other types than float32 and autocast go to PyTorch's own kernels.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _ours(x, weight):
            return super()._conv_forward(x, weight, bias)
        return conv2d(x, weight, bias, self.padding)  # type: ignore[arg-type]


def _ours(x: Tensor, weight: Tensor) -> bool:
    plain = x.dim() == 4 and x.device.type == weight.device.type == "cpu"
    typed = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and typed and x.numel() > 0 and x.shape[1] == weight.shape[1]


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
    wanted = {
        "kernel_size": ((3, 3),),
        "stride": ((1, 1),),
        "dilation": ((1, 1),),
        "groups": (1,),
        "padding_mode": ("zeros",),
    }
    for name, known in wanted.items():
        if getattr(module, name) not in known:
            return f"{name} {getattr(module, name)}: PyTorch's kernel is the faster one"
    if isinstance(module.padding, str) or max(module.padding) > 2:
        return f"padding {module.padding!r}: PyTorch's kernel is the faster one"
    return ""
