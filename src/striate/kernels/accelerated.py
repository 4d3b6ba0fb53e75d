"""`accelerate`: give the modules of any network the fastest kernels that there are for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from striate.kernels.convolution import convolution, convolved, transformed, transposed
from striate.kernels.dispatch import NAMES, TORCH, foreseen
from striate.kernels.folding import folded, link, normalised, unlinked
from striate.kernels.geometry import planned
from striate.kernels.library import reason
from striate.kernels.norm import batch_norm

__all__ = [
    "Accelerated", "FastBatchNorm", "FastBatchNorm2d", "FastBatchNorm3d", "FastConv", "FastConv2d",
    "FastConv3d", "FastConvTranspose2d", "accelerate", "as_torch", "kernel_of", "report",
]  # fmt: skip


class FastConv(_ConvNd):
    """A convolution of PyTorch's with Striate's kernels where they are the faster ones.

    It holds the same parameters under the same names, and answers the same up to rounding. Other
    devices, other types than float32, other borders than zeros, autocast, and so little work that
    asking costs more go to PyTorch's own kernels. In inference it has the normalisation behind it
    in its kernels, where nobody sees what lies between (`folding.py`).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return what PyTorch's does, normalised where a FastBatchNorm has to be told."""
        found = folded(self, x, FastBatchNorm)
        if found is None:
            return super().forward(x)
        weight, bias, note = found
        how = (self.stride, _padding(self), self.dilation, self.groups)
        if not _known(x.shape, weight.shape, *how, SMALL_KEPT):
            return note(super()._conv_forward(x, weight, bias))
        return note(_lying(convolved(x, weight, bias, None, -inf, inf, *how), x, weight))

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _ours(self, x, weight):
            return super()._conv_forward(x, weight, bias)
        return _lying(_convolved(self, x, weight, bias), x, weight)


class FastConv2d(FastConv, nn.Conv2d):
    """`torch.nn.Conv2d`, see FastConv."""


class FastConv3d(FastConv, nn.Conv3d):
    """`torch.nn.Conv3d`, see FastConv."""


class FastConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` with Striate's kernels where they are the faster ones.

    It is the gradient of a convolution to its input, and computed as that.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return what `torch.nn.ConvTranspose2d` does."""
        known = self._known(x, output_size)
        if known is None:
            return super().forward(x, output_size)
        y = torch.ops.striate.convolve_input(x, self.weight, *known)
        y = y if self.bias is None else y + self.bias.view(-1, 1, 1)
        return _lying(y, x, self.weight)

    def _known(self, x: Tensor, output_size: list[int] | None = None) -> tuple[Any, ...] | None:
        """Return what `convolve_input` is told; None where PyTorch's own kernels are to compute."""
        weight = self.weight
        if not _plain(x, weight) or x.dim() != 4 or not x.numel() or x.shape[1] != len(weight):
            return None
        if x.numel() * weight.numel() / x.shape[1] < SMALL:
            return None
        assert not isinstance(self.padding, str)  # which PyTorch refuses
        stride, padding, kernel, dilation = map(
            list, (self.stride, self.padding, self.kernel_size, self.dilation)
        )
        extra = self._output_padding(x, output_size, stride, padding, kernel, 2, dilation)
        return transposed(x, weight, stride, padding, extra, dilation, self.groups)


class FastBatchNorm(_BatchNorm):
    """A batch normalisation of PyTorch's, in training by Striate's kernel where that is faster.

    What the convolution before it has normalised already it returns as it is.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return what PyTorch's does."""
        if normalised(x, self):
            return x
        known = self.training or self.running_mean is None
        if not (known and _plain(x, self.weight) and self._pays(x)):
            return super().forward(x)
        y, mean, variance = batch_norm(x, self.weight, self.bias, epsilon=self.eps)
        rows = x.numel() // x.shape[1]
        self._learn(mean, variance * (rows / (rows - 1)))
        return y

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name
        if isinstance(input, Tensor):  # and not what torch.fx traces with
            super()._check_input_dim(input)

    def _pays(self, x: Tensor) -> bool:
        """Say whether x fits and its channels lie last.

        On two axes PyTorch knows that order too.
        """
        fits = x.dim() > 2 and x.shape[1] == self.num_features and x.numel() > x.shape[1]
        last = fits and x.movedim(1, -1).is_contiguous()
        return last and x.numel() * x.element_size() >= (LARGE if x.dim() == 4 else ASKED)

    @torch.no_grad()
    def _learn(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, as PyTorch does."""
        seen, means, variances = self.num_batches_tracked, self.running_mean, self.running_var
        if not (self.training and self.track_running_stats):
            return
        if seen is not None:
            seen += 1
        if means is None or variances is None:
            return
        share = self.momentum
        if share is None:
            share = 0.0 if seen is None else 1 / float(seen)
        means.lerp_(mean, share)
        variances.lerp_(variance, share)


class FastBatchNorm2d(FastBatchNorm, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, see FastBatchNorm."""


class FastBatchNorm3d(FastBatchNorm, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d`, see FastBatchNorm."""


FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FastConv2d,
    nn.Conv3d: FastConv3d,
    nn.ConvTranspose2d: FastConvTranspose2d,
    nn.BatchNorm2d: FastBatchNorm2d,
    nn.BatchNorm3d: FastBatchNorm3d,
}

# Multiply-and-adds in a call, which take as long as finding out who computes it. With a kernel for
# each channel they take longer; where normalisation was folded, kernels are ready and no operator
# is called.
SMALL, SMALL_DEPTHWISE, SMALL_KEPT = 3e7, 3e6, 1e6
# Bytes to normalise, from which ours is the faster one (benchmarks/RESULTS.md): of two axes; else.
LARGE, ASKED = 2**25, 2**22


def _ours(layer: _ConvNd, x: Tensor, weight: Tensor) -> bool:
    """Say whether a call is one that our kernels know; PyTorch has the message for wrong ones."""
    if not _plain(x, weight):
        return False
    least = SMALL if weight.shape[1] > 1 else SMALL_DEPTHWISE
    how = (layer.stride, _padding(layer), layer.dilation, layer.groups)
    numbers = type(x) is Tensor and not torch.compiler.is_compiling()  # else they may be symbols
    known = _known if numbers else _known.__wrapped__
    return known(x.shape, weight.shape, *how, least)


@lru_cache(maxsize=4096)
def _known(
    size: tuple[int, ...], kernels: tuple[int, ...], stride: tuple[int, ...],
    padding: tuple[int, ...], dilation: tuple[int, ...], groups: int, least: float,
) -> bool:  # fmt: skip
    """Say whether sizes go together, and make that much work at least."""
    if len(size) != len(kernels) or not prod(size) or size[1] != kernels[1] * groups:
        return False
    if prod(size) * prod(kernels) / (size[1] * prod(stride)) < least:
        return False
    each = zip(size[2:], kernels[2:], padding, dilation, strict=True)
    return all(s + 2 * p > d * (k - 1) for s, k, p, d in each)


def _plain(x: Tensor, weight: Tensor | None) -> bool:
    """Say whether our kernels know such tensors; what is recorded for other machines is aten's."""
    for t in (x, weight):
        if t is not None and not (
            isinstance(t, Tensor) and t.device.type == "cpu" and t.dtype == torch.float32
        ):
            return False
    other = torch.is_autocast_enabled("cpu") or torch._C._get_tracing_state() or transformed()
    return not (other or _recorded())


def _recorded() -> bool:
    """Say whether make_fx or torch.export is at work; torch.compile's graphs stay here."""
    return not torch.compiler.is_dynamo_compiling() and get_proxy_mode() is not None


def _convolved(layer: _ConvNd, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return convolution(
        x, weight, bias, stride=layer.stride, padding=_padding(layer), dilation=layer.dilation,
        groups=layer.groups,
    )  # fmt: skip


def _lying(y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return an answer in the order that PyTorch's would have: whoever takes views counts on it.

    That is channels last if the input or the kernels lie so, else contiguous.
    """
    return y if _last(x) or _last(weight) else y.contiguous()


def _last(t: Tensor) -> bool:
    """Say whether channels lie last by their strides, which tell where an axis has size 1."""
    return t.stride(1) == 1 and t.stride(-1) == t.shape[1]


def _padding(layer: _ConvNd) -> tuple[int, ...]:
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
        left: name -> why a module of a kind that we know was left as it is.
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
        kind = next((k for k in FAST if isinstance(module, k)), None)
        if kind is None or type(module) is FAST[kind]:
            continue
        if why := why_none or _unknown(module, kind):
            left[name] = why
            continue
        module.__class__ = FAST[kind]
        swapped.append(name)
    if not why_none:
        link(model)
    return Accelerated(model, tuple(swapped), left)


def _unknown(module: nn.Module, kind: type[nn.Module]) -> str:
    """Return why we have no kernel for a module of some kind; empty where we have one."""
    if type(module) is not kind:
        return f"{type(module).__name__} may compute something else than {kind.__name__}"
    if not isinstance(module, (nn.Conv2d, nn.Conv3d)):
        return ""
    if module.padding_mode != "zeros":
        return f"its border is {module.padding_mode}"
    ends = module._reversed_padding_repeated_twice
    if isinstance(module.padding, str) and ends[::2] != ends[1::2]:
        return f"padding 'same' is not the same on both sides of kernel {module.kernel_size}"
    return ""


@contextmanager
def as_torch(model: nn.Module) -> Iterator[None]:
    """Let PyTorch compute a network meanwhile: it counts its own operators, and NaN stays in place.

    Winograd's algorithm spreads a NaN over all outputs of its tile. torch.jit.script, which reads
    the code of modules, knows PyTorch's alone.
    """
    slow = {fast: kind for kind, fast in FAST.items()}
    ours = {module: type(module) for module in model.modules() if type(module) in slow}
    for module, kind in ours.items():
        module.__class__ = slow[kind]
    try:
        with unlinked(model):
            yield
    finally:
        for module, kind in ours.items():
            module.__class__ = kind


def kernel_of(layer: nn.Module, x: Tensor) -> str:
    """Name what computes a convolution's answer to x, without computing it.

    Args:
        layer: a convolution of any kind.
    """
    direction, known = "forward", None
    if isinstance(layer, FastConvTranspose2d):
        direction, known = "input", layer._known(x)
    elif isinstance(layer, FastConv) and _ours(layer, x, layer.weight):
        known = (x.shape[2:], layer.stride, _padding(layer), layer.dilation, layer.groups)
    if known is None:
        return NAMES[TORCH]
    assert isinstance(layer.weight, Tensor)
    size, stride, padding, dilation, groups = known
    how = (stride, padding, dilation, groups)
    algorithm = foreseen(planned(direction, x.shape[0], size, layer.weight, *how)[0])
    return "tried at first use" if algorithm is None else NAMES[algorithm]
