"""What 0 and "auto" mean: the numbers that the data, the budget and the machine decide.

Each was measured on held-out parts of training data; `benchmarks/RESULTS.md` names the runs.
"""

from math import log2

import numpy as np

from striate.data.symmetry import keeps_class_mirrored
from striate.recipe import Recipe
from striate.spec import Spec

__all__ = ["augmentation", "complete", "width_for"]

SEEN = 500_000  # samples that a training without a budget shows the network, by default
UPDATES = 400  # that it makes at least
WIDTHS = (16, 24, 32, 48, 64, 96, 128)
PASSES = 6.0  # that a time budget should allow before the network is made wider


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


def width_for(seconds: float, samples: int, each: float, width: int) -> int:
    """Return the widest fastnet that sees every sample often enough in the time.

    Math: time of a sample at width w = each (w / width)^1.5

    Args:
        seconds: time for training.
        samples: training samples.
        each: seconds that one sample took at `width`.
        width: of the network that was timed.
    """
    able = [w for w in WIDTHS if PASSES * samples * each * (w / width) ** 1.5 <= seconds]
    return max(able, default=WIDTHS[0])
