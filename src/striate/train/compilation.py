"""Training steps by way of torch.compile: whole graphs of Striate's kernels, where it pays.

A network computed module by module (`striate.accelerate`) reads and writes between any two of
them. Traced, a convolution, its normalisation and what follows are one operator, forward and
backward. What is trained, stored and evaluated stays the network itself.
"""

import logging
import os
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from striate.errors import RecipeError
from striate.kernels.accelerated import as_torch
from striate.recipe import Recipe
from striate.train.losses import Loss

__all__ = ["check_compile", "compiled", "pays"]

LONG = 100  # seconds of training that are worth 3 of import and 1 to 20 of tracing
LEAST = 1e7  # multiply-and-adds of a batch: with fewer, calling a graph costs what it saves
RATE, CALL = 1e10, 2e-4  # guesses, the same everywhere: MACs a second, s a layer and update


class Counted(Protocol):
    """What is asked of a profile."""

    @property
    def macs(self) -> int:
        """Multiply-and-adds of one sample's answer."""

    @property
    def layers(self) -> Sequence[Any]:
        """What computes it."""


def check_compile(recipe: Recipe, able: bool) -> None:
    """Refuse a recipe that insists on what cannot be; `able` as in `pays`."""
    if recipe.compile == "on" and not able:
        raise RecipeError(
            "compile = on wants a CPU with Striate's kernels, float32, one process and a network "
            f"that learns by its gradient; got {recipe.model} on {recipe.device}; use auto"
        )


def pays(recipe: Recipe, able: bool, count: int, profiled: Callable[[], Counted]) -> bool:
    """Say whether training steps are to be compiled: alike in every run of a recipe.

    Args:
        recipe: with a budget.
        able: whether there is anything to gain: a CPU with Striate's kernels, float32, one process,
            a network that learns by its gradient.
        count: training samples.
        profiled: counts the network, where its budget is long enough or epochs.
    """
    if recipe.compile != "auto" or not able:
        return recipe.compile == "on"
    if 0 < recipe.seconds < LONG:
        return False
    try:
        net, told = profiled(), recipe.seconds or inf
    except ValueError:  # a layer that gives no tensor: nobody knows what it costs
        return False
    if recipe.epochs:
        samples = recipe.epochs * count
        calls = len(net.layers) * samples / recipe.batch
        told = min(told, 3 * net.macs * samples / RATE + calls * CALL)
    return told >= LONG and net.macs * recipe.batch >= LEAST


def compiled(loss: Loss, model: nn.Module, batch: int, say: Callable[[str], None]) -> Loss:
    """Return a loss that computes `model` by torch.compile, or as before where that cannot.

    Graphs that torch.compile keeps of other networks are forgotten: of each piece of code it keeps
    only so many. What is still in use is traced again.

    Shape: as `loss`
    Math:  the same, up to rounding

    Args:
        loss: what is computed, see `striate.train.losses`.
        model: the network, on the CPU, in float32.
        batch: samples of the batches that are traced. Others, such as the last of an epoch, are
            computed as before: each size would be traced anew.
        say: told once where the network cannot be traced.
    """
    from torch import _dynamo as dynamo  # takes 3 s

    from striate.kernels.compiled import backend

    if "TORCH_LOGS" not in os.environ:  # where a graph breaks, it goes on: no news for a training
        logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    dynamo.reset()
    traced: Any

    def without(why: str) -> None:
        nonlocal traced
        traced = None
        say(f"training steps cannot be compiled and are taken as before: {why}")

    def by_graph(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if traced is None or len(x) != batch:
            return loss(model, x, y)
        try:
            # The backend knows PyTorch's own operators. A network that is another one in every
            # step would go on in silence, by operators slower than those it has: so fail.
            with as_torch(model), dynamo.config.patch(fail_on_recompile_limit_hit=True):
                return loss(traced, x, y)
        except dynamo.exc.TorchDynamoException as error:
            without(_first_line(error))
        except dynamo.exc.FailOnRecompileLimitHit:
            without("the network is traced anew in every step")
        return loss(model, x, y)

    try:
        traced = torch.compile(model, backend=backend, dynamic=False)
    except RuntimeError as error:  # a Python that torch.compile does not know yet
        without(_first_line(error))
    return by_graph


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
