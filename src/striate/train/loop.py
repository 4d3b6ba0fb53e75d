"""The training loop. Read this file first."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, inf, isfinite
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from striate.errors import RecipeError
from striate.recipe import Recipe
from striate.train.losses import Loss, cross_entropy
from striate.train.optimizers import OPTIMIZERS, Lookahead, shrink, without_compiler
from striate.train.schedules import SCHEDULES

__all__ = ["State", "Step", "diverged", "fit", "steps"]


class Batches(Protocol):
    """What the loop needs of a loader; `torch.utils.data.DataLoader` has it too."""

    def __iter__(self) -> Iterator[Any]:
        """Give the batches (x, y) of one epoch."""

    def __len__(self) -> int:
        """Batches an epoch."""


@dataclass
class State:
    """Everything that one update changes, so that a run can be stored and go on.

    Args:
        model: trained in place.
        optimizer: over the model's parameters.
        lookahead: slow weights, where the recipe wants them.
        scaler: gradient scale, for float16 only.
        index: updates made so far.
        seconds: time spent training so far, over all sessions.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    lookahead: Lookahead | None = None
    scaler: torch.amp.GradScaler | None = None
    index: int = 0
    seconds: float = 0.0
    peak: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, model: nn.Module, recipe: Recipe, scale: bool = False) -> "State":
        """Return the state before the first update."""
        if hasattr(model, "learn"):  # by a rule of its own
            return cls(model, torch.optim.SGD([{"params": []}], lr=0.0), peak=[0.0])
        name = "muon" if recipe.optimizer == "auto" else recipe.optimizer
        without_compiler()
        optimizer = OPTIMIZERS[name](model, recipe)
        return cls(
            model,
            optimizer,
            Lookahead(model, recipe.ema) if recipe.ema else None,
            torch.amp.GradScaler(_device(model)) if scale else None,
            peak=[group["lr"] for group in optimizer.param_groups],
        )


def _device(model: nn.Module) -> str:
    return next(model.parameters()).device.type


@dataclass(frozen=True)
class Step:
    """What one update did.

    Args:
        index: updates made so far, from 1.
        epoch: passes over the data so far.
        progress: share of the budget spent before it, 0 to 1.
        loss: scalar on the model's device, in nats; `.item()` waits for the device.
        lr: learning-rate factor, 0 to 1.
        state: what `train.resume` stores.
    """

    index: int
    epoch: float
    progress: float
    loss: Tensor
    lr: float
    state: State


def steps(
    model: nn.Module,
    loader: Batches,
    recipe: Recipe,
    *,
    loss: Loss | None = None,
    state: State | None = None,
    seconds: float | None = None,
) -> Iterator[Step]:
    """Train `model` in place and yield after every update; leave the loop to stop early.

    The body of your `for` is the callback: log, evaluate, save, change the loader, break. Time
    spent in it counts against `seconds`.

    A model with a rule of its own has a method `learn(x, y, progress)`, y (N,) classes, that is
    called in place of gradient and optimizer and returns what stands for the loss. One whose
    weights obey constraints has a method `constrain()`, called before every update.

    Args:
        model: trained in place, on its device.
        loader: batches (x, y) on the same device; a `Loader` goes on where its `step` stands.
        recipe: the budget (epochs, seconds) and every number of an update.
        loss: function (model, x, y) -> scalar; cross-entropy with the recipe's smoothing.
        state: where to go on; a fresh start without one.
        seconds: time budget in place of the recipe's, counted from the state's `seconds`.

    Raises:
        RecipeError: the recipe has no budget, the data no batch, or the loss is not finite; the
            weights are then those before the failed update.
    """
    budget = (recipe.seconds if seconds is None else seconds) or inf
    total = ceil(recipe.epochs * len(loader) / recipe.accumulate) or inf
    if budget == total == inf or len(loader) == 0:
        raise RecipeError(
            f"training wants epochs or seconds above 0 and at least one batch; got epochs="
            f"{recipe.epochs}, seconds={budget if budget < inf else 0}, {len(loader)} batches"
        )
    state = state or State.start(model, recipe)
    loss = loss or cross_entropy(recipe.label_smoothing)
    schedule = SCHEDULES[recipe.schedule]
    begun = time.monotonic() - state.seconds
    batches = _forever(loader)
    while True:
        progress = max((state.index + 0.5) / total, (time.monotonic() - begun) / budget)
        if progress >= 1:  # half a step in, so that no schedule starts or ends at zero
            break
        factor = schedule(progress)
        for group, lr in zip(state.optimizer.param_groups, state.peak, strict=True):
            group["lr"] = lr * factor
        model.train()
        if hasattr(model, "learn"):
            value = _learn(state, batches, recipe, progress)
        else:
            value = _accumulate(state, batches, recipe, loss)
            _update(state, recipe, progress)
        state.seconds = time.monotonic() - begun
        epoch = state.index * recipe.accumulate / len(loader)
        yield Step(state.index, epoch, progress, value, factor, state)
    if state.lookahead:
        state.lookahead.finish(state.index)


def _forever(loader: Batches) -> Iterator[Any]:
    while True:
        yield from loader


def _learn(state: State, batches: Iterator[Any], recipe: Recipe, progress: float) -> Tensor:
    """Let the model learn by its own rule."""
    values = []
    for _ in range(recipe.accumulate):
        x, y = next(batches)
        values.append(state.model.learn(x, y.argmax(1) if y.dim() == 2 else y, progress))  # type: ignore[operator]
    state.index += 1
    return torch.stack(values).mean()


def _accumulate(state: State, batches: Iterator[Any], recipe: Recipe, loss: Loss) -> Tensor:
    """Add up the gradients of one update; return the mean loss."""
    if hasattr(state.model, "constrain"):
        state.model.constrain()  # type: ignore[operator]
    values = []
    for _ in range(recipe.accumulate):
        x, y = next(batches)
        value = loss(state.model, x, y) / recipe.accumulate
        # Waiting for a GPU every update would idle it; there a look now and then must do.
        if (value.device.type == "cpu" or state.index % 16 == 0) and not isfinite(value.item()):
            raise diverged(f"the loss became {value.item()} at update {state.index + 1}", state)
        (state.scaler.scale(value) if state.scaler else value).backward()
        values.append(value.detach())
    return torch.stack(values).sum()


def diverged(what: str, state: State) -> RecipeError:
    """Return the error of a training that ran away, with what a new run could do better."""
    return RecipeError(
        f"{what}: training stopped; in a new run, lower the learning rate (--lr, now "
        f"{state.peak[0]:g}) or clip the gradient (--clip 1)"
    )


def _update(state: State, recipe: Recipe, progress: float) -> None:
    """Clip, step, shrink, follow with the slow weights."""
    if state.scaler:
        state.scaler.unscale_(state.optimizer)
    if recipe.clip:
        nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    if state.scaler:
        state.scaler.step(state.optimizer)
        state.scaler.update()
    else:
        state.optimizer.step()
    for group in state.optimizer.param_groups if recipe.l1 else ():
        weights = [p for p in group["params"] if p.dim() >= 2 and p.grad is not None]
        shrink(weights, group["lr"] * recipe.l1)
    state.optimizer.zero_grad(set_to_none=True)
    state.index += 1
    if state.lookahead:
        state.lookahead.update(state.index, progress)


def fit(model: nn.Module, loader: Batches, recipe: Recipe, loss: Loss | None = None) -> list[float]:
    """Train to the end of the budget; return the loss of every update, in nats."""
    return [step.loss.item() for step in steps(model, loader, recipe, loss=loss)]
