"""CHAOS and Hogwild: several workers train one set of shared weights, without waiting for all.

A worker takes the next batch, whoever is free; it computes forward, then backward layer by layer.
As soon as the gradients of a layer are there it publishes them: it subtracts them from the weights
that all share, alone on that layer while it does (CHAOS), or whoever comes (Hogwild). There is no
barrier. With one worker this is stochastic gradient descent, bit for bit.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import ceil, inf, isfinite
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from striate.data.loader import Loader
from striate.errors import RecipeError
from striate.recipe import Recipe
from striate.train.loop import State, Step
from striate.train.losses import Loss
from striate.train.optimizers import shrink
from striate.train.schedules import SCHEDULES

__all__ = ["Shared", "check", "layers_of", "replay", "steps", "work"]

LOOK = 0.05  # seconds between two looks of the parent at its workers


def check(model: nn.Module, recipe: Recipe) -> Recipe:
    """Return the recipe as workers follow it: plain gradients, no momentum, no average.

    Raises:
        RecipeError: a field asks for what shared weights cannot have, or the network's batch
            statistics would differ from worker to worker.
    """
    wrong = [
        f"--{name.replace('_', '-')} {value}"
        for name, value, allowed in (
            ("optimizer", recipe.optimizer, ("auto", "sgd")),
            ("clip", recipe.clip, (0,)),
            ("accumulate", recipe.accumulate, (1,)),
        )
        if value not in allowed
    ]
    if recipe.device not in ("auto", "cpu"):
        wrong.append(f"--device {recipe.device}")
    if hasattr(model, "learn"):
        raise RecipeError(
            "several processes share gradients, and this network learns by a rule of its own; "
            "train with --processes 1"
        )
    if wrong:
        raise RecipeError(
            f"several processes publish plain gradients; leave out {', '.join(wrong)}, or train "
            "with --processes 1"
        )
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        raise RecipeError(
            "several processes cannot share batch normalisation; take a network without it, such "
            "as chaos_small, or train with --processes 1"
        )
    plain = {"optimizer": "sgd", "momentum": 0.0, "ema": 0.0, "device": "cpu"}
    return recipe.model_copy(update=plain)


def layers_of(model: nn.Module) -> list[list[nn.Parameter]]:
    """Return the trained parameters, those of one module together, in the order of the model."""
    groups = [
        [p for p in module.parameters(recurse=False) if p.requires_grad]
        for module in model.modules()
    ]
    return [group for group in groups if group]


@dataclass
class Shared:
    """What all workers see.

    Args:
        model: its weights lie in shared memory.
        recipe: of the run, checked.
        total: updates that the epochs allow; inf for none.
        budget: seconds that training may take; inf for none.
        begun: monotonic time at which the budget began.
        taken: number of the next batch, shared.
        locks: one a layer; none are no control at all.
        losses: of each worker's last batch, shared; NaN before the first.
        stop: set, to make everybody stop, shared.
        parent: number of the process that follows the workers.
    """

    model: nn.Module
    recipe: Recipe
    total: float
    budget: float
    begun: float
    taken: Any
    locks: list[Any]
    losses: Tensor
    stop: Any = None
    parent: int = field(default_factory=os.getpid)
    layers: list[list[nn.Parameter]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layers = layers_of(self.model)

    def take(self) -> int:
        """Return the number of the next batch."""
        with self.taken.get_lock():
            self.taken.value += 1
            return int(self.taken.value) - 1

    def progress(self, index: int) -> float:
        """Return the share of the budget that is spent when batch `index` begins."""
        return max((index + 0.5) / self.total, (time.monotonic() - self.begun) / self.budget)

    def publish(self, layer: int, lr: float) -> None:
        """Subtract a layer's gradients from the shared weights, alone on them where controlled."""
        lock: AbstractContextManager[Any] = self.locks[layer] if self.locks else nullcontext()
        with torch.no_grad(), lock:
            for p in self.layers[layer]:
                if p.grad is not None:
                    descend(p, p.grad, lr, self.recipe)
                    p.grad = None


def descend(p: Tensor, grad: Tensor, lr: float, recipe: Recipe) -> None:
    """Change p in place by one step down its gradient; weights decay and shrink, biases do not."""
    if recipe.weight_decay > 0 and p.dim() > 1:
        p.mul_(1 - lr * recipe.weight_decay)
    p.add_(grad, alpha=-lr)
    if recipe.l1 and p.dim() > 1:
        shrink([p], lr * recipe.l1)


def work(
    shared: Shared,
    batch: Callable[[int], tuple[Tensor, Tensor]],
    loss: Loss,
    me: int = 0,
    peak: float = 0.01,
) -> None:
    """Be one worker: take batches until the budget is spent.

    Args:
        batch: number -> (x, y).
        loss: (model, x, y) -> scalar.
        me: number of this worker.
        peak: learning rate before the schedule.

    Raises:
        RecipeError: the loss is not finite.
    """
    schedule, rate = SCHEDULES[shared.recipe.schedule], 0.0
    waiting = [0] * len(shared.layers)

    def ready(layer: int) -> Callable[[Tensor], None]:
        def hear(p: Tensor) -> None:
            waiting[layer] += 1
            if waiting[layer] == len(shared.layers[layer]):
                waiting[layer] = 0
                shared.publish(layer, rate)

        return hear

    handles = [
        p.register_post_accumulate_grad_hook(ready(layer))
        for layer, group in enumerate(shared.layers)
        for p in group
    ]
    try:
        while not (shared.stop is not None and shared.stop.is_set()):
            index = shared.take()
            progress = shared.progress(index)
            if progress >= 1:
                break
            rate = peak * schedule(progress)
            value = loss(shared.model, *batch(index))
            shared.losses[me] = value.item()
            if not isfinite(value.item()):
                raise RecipeError(
                    f"the loss became {value.item()} at update {index + 1}: training stopped; "
                    f"in a new run, lower the learning rate (--lr, now {peak:g})"
                )
            value.backward()
            for layer, count in enumerate(waiting):  # a parameter that this batch did not use
                if count:
                    waiting[layer] = 0
                    shared.publish(layer, rate)
    finally:
        for handle in handles:
            handle.remove()


def _process(shared: Shared, loader: Loader, loss: Loss, me: int, peak: float, said: Any) -> None:
    """Run `work` in a process of its own; tell the parent what went wrong."""
    torch.set_num_threads(1)

    def batch(index: int) -> tuple[Tensor, Tensor]:
        if os.getppid() != shared.parent:  # it was killed: nobody stores what is learnt here
            raise SystemExit(1)
        return loader.batch_at(index)

    try:
        shared.model.train()
        work(shared, batch, loss, me, peak)
    except RecipeError as error:
        said.put(str(error))
        shared.stop.set()


def steps(
    model: nn.Module,
    loader: Loader,
    recipe: Recipe,
    *,
    loss: Loss,
    state: State,
    seconds: float | None = None,
) -> Iterator[Step]:
    """Train with `recipe.processes` workers; yield now and then, and at the end of every epoch.

    Like `loop.steps`; leaving the loop stops the workers. `loader.step` follows what was taken.

    Raises:
        RecipeError: as `loop.steps` and `check`.
        RuntimeError: a worker died.
    """
    budget = (recipe.seconds if seconds is None else seconds) or inf
    total = ceil(recipe.epochs * len(loader)) or inf
    if budget == total == inf or len(loader) == 0:
        raise RecipeError("training wants epochs or seconds above 0 and at least one batch")
    how: Any = mp.get_context("fork" if sys.platform == "linux" else "spawn")
    model.share_memory()
    locks = [how.Lock() for _ in layers_of(model)] if recipe.publication == "layers" else []
    taken, stop, said = how.Value("q", state.index), how.Event(), how.SimpleQueue()
    losses = torch.full((recipe.processes,), torch.nan).share_memory_()
    budget = max(1e-3, budget - _first_call(model, loader, loss, state))
    begun = time.monotonic() - state.seconds
    shared = Shared(model, recipe, total, budget, begun, taken, locks, losses, stop)
    workers = [
        how.Process(
            target=_process, args=(shared, loader, loss, k, state.peak[0], said), daemon=True
        )
        for k in range(recipe.processes)
    ]
    for worker in workers:
        worker.start()
    try:
        yield from _followed(shared, workers, loader, state)
        if not said.empty():
            raise RecipeError(said.get())
    finally:
        stop.set()
        for worker in workers:
            worker.join(10)


def _first_call(model: nn.Module, loader: Loader, loss: Loss, state: State) -> float:
    """Compute one loss before the workers start; return the seconds that it took.

    A first call imports modules and tries kernels, for seconds; workers that are forked later need
    not, each of them. There is no backward pass: PyTorch forbids one in a process forked after it
    where there is a GPU.
    """
    began = time.monotonic()
    model.train()
    kept = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[]):  # the workers draw what they drew without it
        loss(model, *loader.batch_at(state.index))
    for buffer, before in zip(model.buffers(), kept, strict=True):
        buffer.copy_(before)  # running statistics have not seen a batch yet
    return time.monotonic() - began


def _followed(shared: Shared, workers: list[Any], loader: Loader, state: State) -> Iterator[Step]:
    """Yield what the workers have done, as long as they do."""
    schedule, each = SCHEDULES[shared.recipe.schedule], len(loader)
    while True:
        alive = [worker.is_alive() for worker in workers]
        dead = [worker.exitcode for worker in workers if worker.exitcode]
        if dead:
            raise RuntimeError(f"a worker died with exit code {dead[0]}")
        done = int(min(shared.taken.value, shared.total))
        edge = (state.index // each + 1) * each
        if done > state.index and not shared.losses.isnan().all():
            state.index = min(done, edge)
            loader.step = state.index
            state.seconds = time.monotonic() - shared.begun
            progress = min(1.0, shared.progress(state.index - 1))
            loss = shared.losses.nanmean()
            yield Step(state.index, state.index / each, progress, loss, schedule(progress), state)
        elif not any(alive):
            return
        if done < edge:
            time.sleep(LOOK)


def replay(
    model: nn.Module,
    batch: Callable[[int], tuple[Tensor, Tensor]],
    recipe: Recipe,
    loss: Loss,
    *,
    updates: int,
    peak: float,
    seed: int = 0,
) -> list[tuple[int, int]]:
    """Play `recipe.processes` workers in turns that a seed decides, in this process.

    A turn is a worker's forward and backward pass, or the publication of one of its layers, from
    the last to the first. The same seed gives the same weights to the bit, and another order of
    turns is another possible course of the real thing.

    Returns (worker, layer) of each publication, in their order.
    """
    layers, draw = layers_of(model), np.random.default_rng(seed)
    schedule, taken = SCHEDULES[recipe.schedule], iter(range(updates))
    published: list[tuple[int, int]] = []

    def one(me: int) -> Iterator[None]:
        for index in taken:
            rate = peak * schedule((index + 0.5) / updates)
            flat = [p for group in layers for p in group]
            found = torch.autograd.grad(loss(model, *batch(index)), flat, allow_unused=True)
            grads = iter(reversed(found))
            yield
            for layer in reversed(range(len(layers))):
                with torch.no_grad():
                    for p in reversed(layers[layer]):
                        grad = next(grads)
                        if grad is not None:
                            descend(p, grad, rate, recipe)
                published.append((me, layer))
                yield

    workers = [one(me) for me in range(recipe.processes)]
    while workers:
        turn = workers[int(draw.integers(len(workers)))]
        if next(turn, workers) is workers:
            workers.remove(turn)
    return published
