"""What the steps of one run share, and what follows its updates: rows, validation, checkpoints."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from striate.analysis.calibration import softmax
from striate.data.augment import Augment
from striate.data.loader import Loader
from striate.data.material import Material
from striate.device import place
from striate.models import build
from striate.recipe import Recipe
from striate.train.evaluate import count_views, predict
from striate.train.log import Log
from striate.train.loop import State, Step
from striate.train.losses import Loss, loss_of
from striate.train.machine import autocast_type
from striate.train.resume import store

__all__ = ["Keeper", "Session", "interruptible", "short_budget", "weights_of"]

# Samples answered at a time: on a CPU the maps of more leave its caches, and double the memory.
ANSWERED = {"cpu": 64}
OVERRUN = 1.2  # of a time budget: beyond it a run says that it took longer
REPORT_SECONDS = 0.8  # to write report and bundle, kept free at the end of a time budget


@dataclass
class Session:
    """What the steps of one run share.

    Args:
        folder: of the run.
        recipe: complete: no 0 and no "auto" that the run still has to decide.
        material: the data.
        log: rows and talk.
        born: monotonic time at which the wall clock of this session started, in seconds.
        before: wall clock of earlier sessions, in seconds.
    """

    folder: Path
    recipe: Recipe
    material: Material
    log: Log
    born: float
    before: float
    device: torch.device
    model: nn.Module
    autocast: torch.dtype | None
    each: float = 0.0  # seconds to evaluate one sample
    facts: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        """Return the seconds of the budget that are left, with the end of the run kept free."""
        split = self.material.split
        answers = len(split.validation) + len(split.test)
        if self.recipe.test_time:
            answers += count_views(**self.views()) * (len(split.test) or len(split.validation))
        ending = REPORT_SECONDS + 1.2 * self.each * answers
        return self.recipe.seconds - self.before - (time.monotonic() - self.born) - ending

    def views(self) -> dict[str, Any]:
        """Return which changed views of a sample are asked with `test_time`."""
        return {"shift": 1, "mirror": "flip" in self.recipe.augment}

    def loader(self, index: np.ndarray, train: bool = False) -> Loader:
        """Return batches of the samples `index`, changed and shuffled for training."""
        recipe, material = self.recipe, self.material
        return Loader(
            material.cache.x,
            material.samples.labels,
            material.spec,
            index=index,
            batch=recipe.batch if train else ANSWERED.get(self.device.type, 256),
            shuffle=train,
            augment=Augment.parse(recipe.augment) if train else Augment(),
            mix=recipe.mixup if train else 0.0,
            weights=weights_of(material, recipe) if train else None,
            seed=recipe.seed,
            device=self.device,
        )

    def place(self, options: dict[str, Any]) -> None:
        """Build the recipe's network with these options, where and as it is to run."""
        spec = self.material.spec
        self.model = place(build(self.recipe.model, spec, **options), self.device, spec.axes)
        self.autocast = autocast_type(self.recipe.precision, self.device, spec.values)

    def loss(self) -> Loss:
        """Return what the network learns by."""
        return loss_of(self.model, self.recipe.label_smoothing, self.autocast)


def weights_of(material: Material, recipe: Recipe) -> np.ndarray | None:
    """Sample weights times class weights, mean 1 over the training samples."""
    given, labels = material.samples.weights, material.samples.labels
    if given is None and recipe.class_weights == "none":
        return None
    weights = np.ones(len(labels)) if given is None else given.astype(np.float64)
    train = material.split.train
    if recipe.class_weights == "balanced":
        counts = np.bincount(labels[train], minlength=len(material.spec.classes))
        weights = weights / np.maximum(counts, 1)[labels]
    return weights / weights[train].mean()


def short_budget(run: Session, state: State) -> str:
    """Return a warning where a time budget left the training less than a quarter, or was overrun.

    Else "".
    """
    total = run.before + time.monotonic() - run.born
    rest = total - state.seconds
    if not run.recipe.seconds:
        return ""
    if state.seconds >= total / 4:
        over = total > OVERRUN * run.recipe.seconds
        return over * (
            f"warning: the run took {total:.1f} s of --seconds {run.recipe.seconds:g} "
            f"(updates: {state.index}): an update, or what comes after the last one, took longer "
            "than those before it"
        )
    return (
        f"warning: start-up, scoring and saving took {rest:.1f} s; of --seconds "
        f"{run.recipe.seconds:g} that left {state.seconds:.1f} s to train "
        f"(updates: {state.index}); --seconds {ceil(2 * rest)} would give training about half"
    )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for the end of an update: half of one is no state to go on from.

    Yields a function that tells whether to stop; a second Ctrl-C stops at once. Whoever handles
    or ignores the signal in another way keeps it.
    """
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    free = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not free or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Keeper:
    """Follow the updates: rows, validation once an epoch, checkpoints by the clock."""

    def __init__(self, run: Session, loader: Loader) -> None:
        self.run, self.loader = run, loader
        self.losses: list[float] = []
        self.accuracy: float | None = None
        self.stored = self.validated = time.monotonic()
        self.passed = self._passes()
        self.step: Step | None = None

    def _passes(self) -> int:
        """Return how many epochs are over; an update of several batches may step over an end."""
        return self.loader.step // len(self.loader)

    def follow(self, step: Step) -> None:
        """Look at one update."""
        self.step = step
        self.losses.append(step.loss.item() if self.run.device.type == "cpu" else float("nan"))
        over = self._passes() > self.passed
        if over or step.index % 10 == 0:
            loss = step.loss.item()
            self.run.log.step(step.progress, loss, self.accuracy)
            self.run.log.event("step", index=step.index, loss=loss, lr=step.lr)
        if over:
            self.passed = self._passes()
            self._epoch(step)
        if time.monotonic() - self.stored > self.run.recipe.checkpoint:
            self.store(step.state)

    def close(self, state: State) -> None:
        """Leave a row of the updates after the last whole epoch."""
        if self.losses and self.step:
            self._epoch(self.step)
            self.store(state)

    def _epoch(self, step: Step) -> None:
        known = [value for value in self.losses if np.isfinite(value)] or [step.loss.item()]
        row: dict[str, float | None] = {
            "epoch": step.epoch,
            "seconds": self.run.before + time.monotonic() - self.run.born,
            "loss": float(np.mean(known)),
            "lr": step.lr * step.state.peak[0],
        }
        self.losses.clear()
        row |= self._validate()
        self.run.log.epoch(row)

    def _validate(self) -> dict[str, float | None]:
        """Ask the validation samples, where that costs less than a tenth of the training."""
        index = self.run.material.split.validation
        cost, now = self.run.each * len(index), time.monotonic()
        if not len(index) or (self.run.recipe.seconds and now - self.validated < 10 * cost):
            return {"validation_loss": None, "validation_accuracy": None}
        logits, labels = predict(self.run.model, self.run.loader(index))
        self.validated = time.monotonic()
        chances = softmax(logits)
        self.accuracy = float((logits.argmax(1) == labels).mean())
        picked = np.maximum(chances[np.arange(len(labels)), labels], 1e-12)
        return {
            "validation_loss": float(-np.log(picked).mean()),
            "validation_accuracy": self.accuracy,
        }

    def store(self, state: State) -> bool:
        """Write a checkpoint and return True; where a weight is not finite, keep the one before."""
        values = [v for v in state.model.state_dict().values() if v.is_floating_point()]
        if not all(bool(value.isfinite().all()) for value in values):
            return False
        facts = {
            **self.run.facts,
            "position": self.loader.step,
            "history": self.run.log.history,
            "wall": self.run.before + time.monotonic() - self.run.born,
        }
        store(self.run.folder / "state", state, facts)
        self.stored = time.monotonic()
        return True
