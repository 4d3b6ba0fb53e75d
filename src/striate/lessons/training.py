"""How choices change learning: rectifiers or tanh, maximum or average, how many maps."""

from math import log2

import torch
from torch import nn

from striate.analysis.draw import chart, standalone
from striate.layers import avg_pool, max_pool
from striate.lessons.lesson import Digits, Lesson, accuracy, digits, taught

__all__ = ["capacity", "maximum", "rectifier"]


def _deep(unit: type[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 1
    for width in (16, 16, 32, 32):
        layers += [nn.Conv2d(channels, width, 3, padding=1), unit()]
        channels = width
        if width == 16 and len(layers) == 4:
            layers.append(max_pool(2, 2))
    return nn.Sequential(*layers, max_pool(2, 2), nn.Flatten(), nn.Linear(32 * 16, 10))


RATES = (0.03, 0.1, 0.2)  # tried for each unit: one rate for both would favour one of them
EPOCHS = 20


def rectifier(seed: int) -> Lesson:
    """Train the same four-layer net with rectifiers and with tanh, each at its best of three rates.

    Article: ReLU trains several times faster (A142); Krizhevsky et al. 2012, figure 1.
    """
    data, lines, numbers = digits(1000, seed), {}, {}
    for name, unit in {"ReLU": nn.ReLU, "tanh": nn.Tanh}.items():
        courses = {rate: _course(unit, rate, data, seed) for rate in RATES}
        rate = min(courses, key=lambda r: sum(courses[r]))
        lines[name] = [(epoch + 1.0, error) for epoch, error in enumerate(courses[rate])]
        numbers[name] = {
            "rate": rate,
            "epochs to 25 % training error": next(
                (epoch + 1 for epoch, error in enumerate(courses[rate]) if error <= 25), None
            ),
            "error at the end, %": round(courses[rate][-1], 1),
        }
    picture = standalone(chart("Training error (%)", "epoch", lines))
    text = (
        "The same net, the same numbers to start from, plain gradient descent: count the epochs "
        "until a quarter of the training digits is still wrong. Do not expect a large factor: "
        "on a small net and small digits tanh may well be ahead; six belongs to a paper's own net."
    )
    return Lesson("Rectifiers and tanh", text, numbers, picture)


def _course(unit: type[nn.Module], rate: float, data: Digits, seed: int) -> list[float]:
    """Return the training error of each epoch, in per cent."""
    torch.manual_seed(seed)
    net, draw = _deep(unit), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), rate)
    errors = []
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data.x), generator=draw).split(50):
            loss = nn.functional.cross_entropy(net(data.x[rows]), data.y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors.append(100 * (1 - accuracy(net, data.x, data.y)))
    return errors


def maximum(seed: int) -> Lesson:
    """Train a small net with maximum and with average pooling, five seeds each.

    Article: average pooling has fallen out of favour, as maximum pooling generally does better
    (A135): a trend, and not on every task.
    """
    numbers: dict[str, object] = {}
    lines = {}
    for name, pool in {"maximum": max_pool, "average": avg_pool}.items():
        right = []
        for k in range(5):
            data = digits(300, seed + k)
            torch.manual_seed(seed + k)
            net = nn.Sequential(
                nn.Conv2d(1, 16, 5), nn.ReLU(), pool(2, 2), nn.Conv2d(16, 32, 3), nn.ReLU(),
                pool(2, 2), nn.Flatten(), nn.Linear(32 * 4, 10),
            )  # fmt: skip
            taught(net, data.x, data.y, 15, seed)
            right.append(100 * accuracy(net, data.x_test, data.y_test))
        lines[name] = [(float(k), value) for k, value in enumerate(right)]
        numbers[name] = {
            "test accuracy, %": [round(value, 2) for value in right],
            "mean": round(sum(right) / 5, 2),
        }
    picture = standalone(chart("Test accuracy (%)", "seed", lines))
    text = "Five seeds each: look at the mean, and at how far the seeds lie apart, before judging."
    return Lesson("Maximum and average pooling", text, numbers, picture)


def capacity(seed: int) -> Lesson:
    """Train nets of 1 to 64 maps on 300 digits; a held-out part says how many are enough.

    Article: the number of maps controls capacity; the right granularity without overfitting (A156,
    A158).
    """
    data = digits(400, seed)
    shown: dict[str, list[tuple[float, float]]] = {"training": [], "held out": []}
    widths = (1, 2, 4, 8, 16, 32, 64)
    for maps in widths:
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, maps, 5), nn.ReLU(), max_pool(2, 2), nn.Flatten(),
            nn.Linear(maps * 36, 10),
        )  # fmt: skip
        taught(net, data.x[:300], data.y[:300], 40, seed)
        parts = {"training": slice(0, 300), "held out": slice(300, 400)}
        for name, part in parts.items():
            right = 100 * accuracy(net, data.x[part], data.y[part])
            shown[name].append((log2(maps), right))
    held = [value for _, value in shown["held out"]]
    chosen = widths[held.index(max(held))]
    numbers = {
        "maps": list(widths),
        **{f"{name}, %": [round(value, 1) for _, value in line] for name, line in shown.items()},
        "chosen by the held-out part": chosen,
    }
    picture = standalone(chart("Accuracy (%)", "maps, as a power of 2", shown))
    text = (
        "With one map the net cannot even learn the training digits; from some number on it knows "
        "all of them, and more maps add nothing to digits that it has not seen. A held-out part, "
        "not the test set, says where to stop."
    )
    return Lesson("How many maps", text, numbers, picture)
