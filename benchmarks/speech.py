"""Experiments with spoken digits: what a moved sound, a moved voice and a new speaker cost."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning import Check, Experiment, learn, right
from striate.data.material import gather
from striate.models import build
from striate.spec import Spec

__all__ = ["EXPERIMENTS"]


def spoken(digits: str) -> tuple[Tensor, Tensor, np.ndarray, Spec, list[str]]:
    """Return the recordings of some digits: bands, labels, which part, what one is, who speaks."""
    material = gather("fsdd", validation=0)
    samples = material.samples
    rows = np.flatnonzero(np.isin(samples.labels, [int(k) for k in digits]))
    x = torch.from_numpy(np.asarray(material.cache.x)[rows]).float()
    train = samples.splits[rows] == "train"
    x = (x - x[train].mean()) / x[train].std()
    spec = material.spec.model_copy(update={"classes": tuple(digits)})
    voices = [samples.names[row].rpartition("/")[2].split("_")[1] for row in rows]
    return x, torch.from_numpy(samples.labels[rows]), train, spec, voices


def moved(x: Tensor, steps: int, axis: int) -> Tensor:
    """Return x moved along an axis; the end is repeated where nothing comes after."""
    count = x.shape[axis]
    return x.index_select(axis, (torch.arange(count) - steps).clamp(0, count - 1))


def lost(net: nn.Module, x: Tensor, y: Tensor, axis: int) -> float:
    """Return the points of accuracy that shifts by 1 and 2 either way cost at the mean."""
    shifted = [right(net, moved(x, steps, axis), y) for steps in (-2, -1, 1, 2)]
    return 100 * (right(net, x, y) - float(np.mean(shifted)))


def tilted(draw: torch.Generator) -> Callable[[Tensor, int, Tensor], Tensor]:
    """Return `change` for `learn`: each sound through a room and a microphone of its own.

    Math: x_bt + 0.6 g_b, g Gaussian noise smoothed over 9 bands, of deviation 1 about
    """

    def change(x: Tensor, epoch: int, rows: Tensor) -> Tensor:
        rough = torch.randn(len(x), 1, x.shape[1] + 8, generator=draw)
        return x + 0.6 * 3 * F.avg_pool1d(rough, 9, 1).transpose(1, 2)

    return change


def delays(seed: int, quick: bool) -> dict[str, float]:
    """Move three spoken digits by up to 2 frames: a TDNN beside 8 units that hear all times."""
    x, y, train, spec, _ = spoken("012")
    torch.manual_seed(seed)
    tdnn = build("tdnn", spec)
    full = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 8), nn.Sigmoid(), nn.Linear(8, 3))
    found = {}
    for name, net in (("TDNN", tdnn), ("full", full)):
        learn(net, x[train], y[train], 1 if quick else 40, seed, lr=0.02, batch=16)
        found[f"{name}, accuracy"] = right(net, x[~train], y[~train])
        found[f"{name}, points lost"] = lost(net, x[~train], y[~train], 2)
    more = found["full, points lost"] - found["TDNN, points lost"]
    return {**found, "full loses more by": more}


def voices(seed: int, quick: bool) -> dict[str, float]:
    """Move ten spoken digits by up to 2 bands, as other voices do: sharing along bands helps."""
    x, y, train, spec, _ = spoken("0123456789")
    found = {}
    for name, words in (
        ("tdnn", {"hidden": 16}),
        ("tdnn2d", {"maps": 16}),
        ("tdnn2d invariant", {"maps": 16, "invariant": True}),
    ):
        torch.manual_seed(seed)
        net = build(name.split()[0], spec, **words)
        learn(net, x[train], y[train], 1 if quick else 40, seed, lr=0.02, batch=16)
        found[f"{name}, accuracy"] = right(net, x[~train], y[~train])
        found[f"{name}, points lost"] = lost(net, x[~train], y[~train], 1)
    share = found["tdnn2d invariant, points lost"] / max(1e-9, found["tdnn, points lost"])
    return {**found, "share of the TDNN's loss": share}


def speakers(seed: int, quick: bool) -> dict[str, float]:
    """Leave each of six speakers out in turn and ask for the words of that one.

    What tells speakers apart most is the loudness of their bands, so that is changed at random.
    """
    x, y, _, spec, said_by = spoken("0123456789")
    found = {}
    for who in sorted(set(said_by))[: 1 if quick else None]:
        own = np.array([name == who for name in said_by])
        torch.manual_seed(seed)
        net = build("yamaguchi1990", spec)
        change = tilted(torch.Generator().manual_seed(seed))
        learn(net, x[~own], y[~own], 1 if quick else 20, seed, lr=0.01, batch=32, change=change)
        found[who] = right(net, x[own], y[own])
    return {**found, "new speakers": float(np.mean(list(found.values())))}


EXPERIMENTS = {
    "delays": Experiment(
        delays,
        (
            Check("TDNN, points lost", 2, "-", "B4", most=True),
            Check("full loses more by", 0, "-", "B4"),
        ),
        "tdnn",
    ),
    "voices": Experiment(
        voices, (Check("share of the TDNN's loss", 0.5, "-", "B4b", most=True),), "tdnn2d"
    ),
    "speakers": Experiment(speakers, (Check("new speakers", 0.7, "-", "B5b"),), "yamaguchi1990"),
}
