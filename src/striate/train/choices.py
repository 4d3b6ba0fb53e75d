"""What 0 and "auto" mean: the numbers that the data, the budget and the machine decide.

Each was measured on held-out parts of training data; `benchmarks/RESULTS.md` names the runs.
"""

from collections.abc import Callable, Sequence
from math import log2

import numpy as np

from striate.data.symmetry import keeps_class_mirrored
from striate.recipe import Recipe
from striate.spec import Spec

__all__ = ["augmentation", "complete", "hurried", "size_for"]

SEEN = 500_000  # samples that a training without a budget shows the network, by default
UPDATES = 400  # that it makes at least
WIDTHS = (16, 24, 32, 48, 64)
WIDEN = 4  # of the largest: from there on wide late layers gain more than wide early ones
PASSES = 6.0  # that a time budget should allow before the network is made wider
TRIAL = 32  # width of the network that is timed to choose one
COARSE = (32, 48, 64)  # widths behind a stem of twice the stride, where time is short
COARSE_PASSES = 2.5  # with fewer positions more width pays earlier
FEW = 1.0  # passes below which no sample is seen twice, and changed ones only slow the learning
FEWEST, SMALLER = 250, 128  # updates below which a batch is not larger than this

Choice = tuple[dict[str, int], float]  # a fastnet's options, passes over the samples


def complete(recipe: Recipe, spec: Spec, x: np.ndarray, y: np.ndarray, train: np.ndarray) -> Recipe:
    """Return the recipe with every 0 and "auto" replaced that depends on the data alone."""
    count = len(train)
    batch = recipe.batch or int(min(256, max(16, 2 ** round(log2(max(1, count / 40))))))
    several = recipe.processes > 1  # they publish plain gradients, on the CPU
    usual = "sgd" if several else "muon"
    chosen: dict[str, object] = {
        "batch": batch if recipe.batch else min(batch, max(1, count)),
        "size": recipe.size or max(spec.size),
        "optimizer": usual if recipe.optimizer == "auto" else recipe.optimizer,
    }
    if several and recipe.device == "auto":
        chosen["device"] = "cpu"
    if recipe.augment == "auto":
        chosen["augment"] = augmentation(spec, x, y, train)
    if not recipe.epochs and not recipe.seconds:
        passes = min(20.0, max(8.0, SEEN / max(1, count)))
        updates = max(1.0, count / batch)
        chosen["epochs"] = round(max(passes, UPDATES / updates))
    return recipe.model_copy(update=chosen)


def augmentation(spec: Spec, x: np.ndarray, y: np.ndarray, train: np.ndarray) -> str:
    """Choose the changes that keep the classes.

    Flips where the data pass the mirror test; where it knows nothing, for colour photographs.
    Series are moved in time only: backwards, faster or louder may be another class.
    """
    if spec.kind == "text":
        return "none"
    side = min(spec.size)
    if spec.kind == "series":
        return f"translate={max(1, side // 14)}"
    mirror = keeps_class_mirrored(x, y, train)
    if mirror is None:
        mirror = spec.kind == "image" and spec.channels >= 3 and side >= 64
    steps = ["flip"] if mirror else []
    if side >= 64:
        steps += ["zoom=0.35", "jitter=0.2"]
    elif spec.channels == 1:
        steps += ["affine=10"] * (side >= 8) + [f"translate={max(1, side // 14)}"]
    else:
        steps += [f"crop={max(1, side // 12)}"]
    return ",".join(steps)


def size_for(
    seconds: Callable[[], float], samples: int, time: Callable[[int], float], coarse: int
) -> Choice:
    """Return a fastnet's options for a time budget, and how often it will see every sample.

    The options are the width; where time is long, how much wider the later groups are; where it
    is short, the longer stride of the stem: half the positions an axis cost a quarter, and lose
    less than narrow layers and few updates do.

    Args:
        seconds: returns the time that is left for training; a trial takes some of it.
        samples: training samples.
        time: returns the seconds that one sample takes a fastnet of width `TRIAL` and this stride
            of the stem, 0 the usual one.
        coarse: a longer stride to try; 0: none.
    """

    def widest(stride: int, sizes: Sequence[dict[str, int]], passes: float) -> Choice:
        each = samples * time(stride)  # of a pass at width TRIAL
        costs = [each * (s["width"] / TRIAL) ** 1.5 * s.get("widen", 2) / 2 for s in sizes]
        able = [n for n, cost in enumerate(costs) if passes * cost <= seconds()]
        n = max(able, default=0)
        return sizes[n], max(0.0, seconds()) / costs[n]

    if coarse:
        short = widest(coarse, [{"width": w, "stride": coarse} for w in COARSE], COARSE_PASSES)
        if short[0]["width"] == COARSE[0]:
            return short  # the usual stride would not allow that many passes either
    sizes = [*({"width": w} for w in WIDTHS), {"width": WIDTHS[-1], "widen": WIDEN}]
    usual = widest(0, sizes, PASSES)
    return short if coarse and usual[0]["width"] < TRIAL else usual


def hurried(recipe: Recipe, asked: Recipe, passes: float, samples: int) -> Recipe:
    """Return the complete recipe as it is best where the time allows few updates.

    Args:
        recipe: complete.
        asked: as the user gave it: what he named stays.
        passes: over the training samples that the time allows.
        samples: training samples.
    """
    change: dict[str, object] = {}
    if asked.augment == "auto" and passes < FEW:
        change["augment"] = "none"
    if not asked.batch and passes * samples < FEWEST * recipe.batch:
        change["batch"] = min(recipe.batch, SMALLER)
    return recipe.model_copy(update=change)
