"""Weights shared by all places, or not; and what becomes of it when pixels are permuted."""

import torch
from torch import nn

from striate.analysis.draw import chart, standalone
from striate.layers import GlobalPool, LocallyConnected
from striate.lessons.lesson import SIDE, Lesson, accuracy, digits, taught

__all__ = ["permutation", "sharing"]


def _convolutional(maps: int = 16) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, maps, 5), nn.ReLU(), nn.Conv2d(maps, maps, 5), nn.ReLU(),
        GlobalPool("max"), nn.Linear(maps, 10),
    )  # fmt: skip


def _local(maps: int = 16) -> nn.Module:
    return nn.Sequential(
        LocallyConnected(1, maps, (SIDE, SIDE), 5), nn.ReLU(), nn.Flatten(),
        nn.Linear(maps * (SIDE - 4) ** 2, 10),
    )  # fmt: skip


def _full(units: int = 256) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(),
        nn.Linear(units, 10),
    )  # fmt: skip


def sharing(seed: int) -> Lesson:
    """Compare shared, local and full connectivity: parameters, and what is learnt from few digits.

    Article: parameter sharing, local connectivity; full connectivity prone to overfitting.
    """
    builders = {"convolutional": _convolutional, "local": _local, "full": _full}
    lines: dict[str, list[tuple[float, float]]] = {}
    numbers: dict[str, object] = {}
    for name, build in builders.items():
        points, gaps = [], []
        for count in (50, 100, 200, 400):
            data = digits(count, seed)
            torch.manual_seed(seed)
            net = build()
            taught(net, data.x, data.y, 20_000 / count, seed)  # 400 updates
            test = accuracy(net, data.x_test, data.y_test)
            points.append((float(count), 100 * test))
            gaps.append(accuracy(net, data.x, data.y) - test)
        lines[name] = points
        numbers[name] = {
            "parameters": sum(p.numel() for p in build().parameters()),
            "test accuracy, %": [round(value, 1) for _, value in points],
            "training above test, points": [round(100 * gap, 1) for gap in gaps],
        }
    picture = standalone(chart("Test accuracy (%)", "training digits", lines))
    text = (
        "One kernel for all places has the fewest parameters by far, and is ahead where there are "
        "few digits to learn from. A kernel for every place, or a weight for every pixel, needs "
        "more of them to answer as well, and gains more by knowing the training digits by heart."
    )
    return Lesson("Shared, local and full connectivity", text, numbers, picture)


def permutation(seed: int) -> Lesson:
    """Permute the pixels of all digits alike: a convolutional net loses what a full one never had.

    Article: CNNs suit the grid topology of images (statement A036, check C-76).
    """
    data = digits(1000, seed)
    order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(seed + 1))

    def permuted(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, order].view_as(x)

    numbers: dict[str, object] = {}
    lines = {}
    for name, build in {"convolutional": _convolutional, "full": _full}.items():
        right = []
        for x, x_test in (
            (data.x, data.x_test), (permuted(data.x), permuted(data.x_test))
        ):  # fmt: skip
            torch.manual_seed(seed)
            net = build()
            taught(net, x, data.y, 8, seed)
            right.append(100 * accuracy(net, x_test, data.y_test))
        lines[name] = [(0.0, right[0]), (1.0, right[1])]
        numbers[name] = {"as they are, %": round(right[0], 2), "permuted, %": round(right[1], 2)}
    picture = standalone(chart("Test accuracy (%)", "0: as they are, 1: permuted", lines))
    text = (
        "The same permutation of all digits hides that neighbours belong together. The fully "
        "connected net never knew, and learns as well as before; the convolutional net loses."
    )
    return Lesson("Permuted pixels", text, numbers, picture)
