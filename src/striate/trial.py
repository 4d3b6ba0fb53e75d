"""Short trials before a training: what one update and one answer take on this machine."""

import time

import numpy as np

from striate.models.fastnet import coarse_stride
from striate.recipe import Recipe
from striate.session import Session
from striate.train.choices import TRIAL, hurried, size_for
from striate.train.evaluate import predict
from striate.train.loop import steps

__all__ = ["choose_size", "time_answer"]

LONGEST = 0.5  # seconds of updates that a trial takes
SHARE = 0.03  # of the time that is left: no trial takes more
ASKED = 512  # samples that are answered to time an answer


def choose_size(run: Session, asked: Recipe) -> None:
    """Let time budget and speed choose a fastnet's size, and what few updates ask for.

    Args:
        run: its complete recipe is replaced.
        asked: recipe as the user gave it.
    """
    spec, count = run.material.spec, len(run.material.split.train)
    named = dict(run.recipe.model_options)

    def time_update(stride: int) -> float:
        run.place({"width": TRIAL, **({"stride": stride} if stride else {}), **named})
        return _time_update(run)

    coarse = 0 if "stride" in named else coarse_stride(spec)
    size, passes = size_for(run.left, count, time_update, coarse)
    recipe = hurried(run.recipe, asked, passes, count)
    options = size | named
    said = ", ".join(f"{name} {options[name]}" for name in size)
    run.log.say(f"network: fastnet of {said}, from {recipe.seconds:g} s and this speed")
    if recipe != run.recipe:
        run.log.say(
            f"the time allows about {passes:.2g} passes: batches of {recipe.batch}, "
            f"augment {recipe.augment}"
        )
    run.recipe = recipe.model_copy(update={"model_options": options})


def _time_update(run: Session) -> float:
    """Measure the seconds of one training sample, on a copy of the state that is thrown away."""
    loader = run.loader(run.material.split.train, train=True)
    trial = run.recipe.model_copy(update={"epochs": 1e9, "seconds": 0.0, "ema": 0.0})
    longest = min(LONGEST, SHARE * run.left())
    stamps: list[float] = []
    for _ in steps(run.model, loader, trial, loss=run.loss()):
        stamps.append(time.monotonic())
        if len(stamps) > 3 and stamps[-1] - stamps[1] > longest:
            break
    return float(np.median(np.diff(stamps[1:]))) / (run.recipe.batch * run.recipe.accumulate)


def time_answer(run: Session) -> float:
    """Measure the seconds that one sample takes to be answered, in whole batches."""
    rows = run.material.split.train
    batch = min(len(rows), run.loader(rows).batch)
    predict(run.model, run.loader(rows[:batch]))  # kernels are chosen at the first use of a shape
    some = rows[: max(1, min(ASKED, len(rows)) // batch) * batch]
    begun = time.monotonic()
    predict(run.model, run.loader(some))
    return (time.monotonic() - begun) / max(1, len(some))
