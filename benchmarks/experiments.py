"""Experiments of the canon that are more than one training: each prints one JSON object.

    python benchmarks/experiments.py superresolution --seed 0 1 2 --json superresolution.json

Every experiment is a function of a seed (and of `quick`, a smoke run) that returns numbers; CHECKS
says which of them has to reach what. `canon.py --record` puts them beside the trainings.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.data.augment import Augment, Draw
from striate.data.named import read_named
from striate.layers import MaxBlurPool, batch_norm, conv, max_pool
from striate.models import build
from striate.spec import Spec

__all__ = ["CHECKS", "EXPERIMENTS", "Check", "main"]


@dataclass(frozen=True)
class Check:
    """What an experiment has to reach.

    Args:
        number: of the experiment's result.
        floor: it must be at least this.
        paper: the published figure.
        check: of part C.
    """

    number: str
    floor: float
    paper: str
    check: str


def pictures(name: str, train: int, test: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the first pictures of a named set, 0 to 1, and their labels."""
    samples = read_named(name)
    found = []
    for part, count in (("train", train), ("test", test)):
        rows = np.flatnonzero(samples.splits == part)[:count]
        found.append(torch.from_numpy(np.asarray(samples.arrays)[rows]).float() / 255)
        found.append(torch.from_numpy(samples.labels[rows]))
    return found[0], found[1], found[2], found[3]


def learn(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    epochs: int,
    seed: int,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    lr: float = 3e-3,
    change: Callable[[Tensor, int, Tensor], Tensor] | None = None,
    batch: int = 64,
) -> None:
    """Train with Adam under one cycle; `change(x, epoch, rows)` augments a batch."""
    draw = torch.Generator().manual_seed(seed)
    total, step = epochs * -(-len(x) // batch), 0
    optimizer = torch.optim.Adam(net.parameters(), lr)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, max(2, total + 1))
    net.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(x), generator=draw).split(batch):
            shown = x[rows] if change is None else change(x[rows], epoch, rows)
            value = loss(net(shown), y[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            cycle.step()
            step += 1
    net.eval()


@torch.no_grad()
def answers(net: nn.Module, x: Tensor) -> Tensor:
    """Return the classes answered."""
    return torch.cat([net(part).argmax(1) for part in x.split(500)])


def right(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of right answers."""
    return float((answers(net, x) == y).float().mean())


def superresolution(seed: int, quick: bool) -> dict[str, float]:
    """Draw digits of 7 x 7 at 28 x 28; squared error beside that of bicubic interpolation."""
    fine, _, fine_test, _ = pictures("mnist", 100 if quick else 3000, 100 if quick else 1000)
    small, small_test = F.avg_pool2d(fine, 4), F.avg_pool2d(fine_test, 4)
    torch.manual_seed(seed)
    net = build("pyramid_superresolution", Spec(channels=1, size=(7, 7), classes=()))
    learn(net, small, fine, 1 if quick else 30, seed, loss=net.criterion, lr=0.03)
    with torch.no_grad():
        drawn = net(small_test)
    cubic = F.interpolate(small_test, scale_factor=4, mode="bicubic").clamp(0, 1)
    ours, theirs = F.mse_loss(drawn, fine_test).item(), F.mse_loss(cubic, fine_test).item()
    return {"error": ours, "bicubic": theirs, "gain over bicubic": 1 - ours / theirs}


def fillin(seed: int, quick: bool) -> dict[str, float]:
    """Fill a hole of 8 x 8 in digits; the error inside by step, and without feedback."""
    whole, _, whole_test, _ = pictures("mnist", 100 if quick else 4000, 100 if quick else 1000)
    draw = torch.Generator().manual_seed(seed)

    def holed(x: Tensor) -> tuple[Tensor, Tensor]:
        corners = torch.randint(4, 17, (len(x), 2), generator=draw)
        place = torch.arange(28)
        inside = (place >= corners[..., None]) & (place < corners[..., None] + 8)
        mask = (inside[:, 0, :, None] & inside[:, 1, None])[:, None]
        return x.masked_fill(mask, 0.125), mask

    given, _ = holed(whole)
    given_test, mask = holed(whole_test)
    found = {}
    for name, feedback in (("with", True), ("without", False)):
        torch.manual_seed(seed)
        net = build(
            "pyramid_fillin", Spec(channels=1, size=(28, 28), classes=()), feedback=feedback
        )
        learn(net, given, whole, 1 if quick else 20, seed, loss=net.criterion, lr=0.01)
        with torch.no_grad():
            course = net.train()(given_test)
        found[name] = [F.mse_loss(step[mask], whole_test[mask]).item() for step in course]
    before = F.mse_loss(given_test[mask], whole_test[mask]).item()
    last = found["with"][-1]
    return {
        "error inside": last,
        "input inside": before,
        "gain over the input": 1 - last / before,
        "falls from step 2 to 6": float(found["with"][1] > found["with"][5]),
        "feedback helps": 1 - last / found["without"][-1],
    }


def canvas(seed: int, quick: bool) -> dict[str, float]:
    """Put digits anywhere on 64 x 64; a map a class has its peak where the digit is.

    A position of the maps sees 13 x 13 samples, so digits are halved to 14 x 14. Nothing in the net
    knows the size of a picture: it learns on 32 x 32 and is asked on 64 x 64.
    """
    x, y, x_test, y_test = pictures("mnist", 100 if quick else 10_000, 100 if quick else 1000)
    draw = torch.Generator().manual_seed(seed)

    def placed(x: Tensor, y: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        small = F.avg_pool2d(x, 2)
        at = torch.randint(0, side - 13, (len(x), 2), generator=draw)
        wide = torch.zeros(len(x), 1, side, side)
        wanted = torch.zeros(len(x), 10, side, side)
        for n, (row, column) in enumerate(at.tolist()):
            wide[n, :, row : row + 14, column : column + 14] = small[n]
            wanted[n, y[n], row + 6 : row + 9, column + 6 : column + 9] = 1
        return wide, wanted, at + 7

    wide, wanted, _ = placed(x, y, 32)
    torch.manual_seed(seed)
    spec = Spec(channels=1, size=(32, 32), classes=tuple("0123456789"))
    net = build("siann1991", spec, width=24, maps=True)

    def loss(maps: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(maps, target, 1 + 50 * target)

    learn(net, wide, wanted, 1 if quick else 12, seed, loss=loss, lr=0.01, batch=32)
    wide, _, centre = placed(x_test, y_test, 64)
    with torch.no_grad():
        maps = torch.cat([net(part) for part in wide.split(100)])
    flat = maps.flatten(2)
    label = flat.amax(2).argmax(1)
    place = flat[torch.arange(len(flat)), label].argmax(1)
    peak = torch.stack([place // 64, place % 64], 1)
    near = ((peak - centre).abs().amax(1) <= 2).float().mean()
    return {"class": float((label == y_test).float().mean()), "within 2 px": float(near)}


def transformer(seed: int, quick: bool) -> dict[str, float]:
    """Turn digits by up to 90 degrees: a spatial transformer before a fully connected net."""
    x, y, x_test, y_test = pictures("mnist", 200 if quick else 12_000, 200 if quick else 4000)
    draw = torch.Generator().manual_seed(seed)

    def turned(x: Tensor) -> Tensor:
        angle = (torch.rand(len(x), generator=draw) - 0.5) * np.pi
        turn = torch.stack(
            [angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle]
        )
        grid = F.affine_grid(turn.T.reshape(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    x, x_test = turned(x), turned(x_test)
    spec, error = Spec(channels=1, size=(28, 28), classes=tuple("0123456789")), {}
    for name, transform in (("with", True), ("without", False)):
        torch.manual_seed(seed)
        net = build("spatial_transformer", spec, body="mlp", transform=transform)
        learn(net, x, y, 1 if quick else 20, seed, lr=2e-3)
        error[name] = 1 - right(net, x_test, y_test)
    return {
        **{f"error {k}": v for k, v in error.items()},
        "gain": 1 - error["with"] / error["without"],
    }


def blur(seed: int, quick: bool) -> dict[str, float]:
    """Train two equal nets on CIFAR-10, max pooling plain and blurred; do shifts change answers?"""
    x, y, x_test, y_test = pictures("cifar10", 200 if quick else 10_000, 200 if quick else 2000)
    x, x_test = (x - 0.47) / 0.25, (x_test - 0.47) / 0.25
    augment, here = Augment.parse("flip,crop=2"), torch.device("cpu")
    draw = torch.Generator().manual_seed(seed)
    steps = torch.randint(-4, 5, (8, 2), generator=draw).tolist()
    found: dict[str, float] = {}
    for name in ("plain", "blurred"):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        channels = 3
        for width in (32, 64, 128):
            layers += [conv(2, channels, width, 3, pad=1), batch_norm(2, width), nn.ReLU()]
            layers += [max_pool(2, 2) if name == "plain" else MaxBlurPool(2)]
            channels = width
        net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 10))

        def change(batch: Tensor, epoch: int, rows: Tensor) -> Tensor:
            return augment.read(x.numpy(), Draw(seed, epoch, rows.numpy()), here)[0]

        learn(net, x, y, 1 if quick else 12, seed, change=change)
        still = answers(net, x_test)
        same = [(answers(net, x_test.roll(step, (2, 3))) == still).float().mean() for step in steps]
        found[f"consistency {name}"] = float(torch.stack(same).mean())
        found[f"accuracy {name}"] = right(net, x_test, y_test)
    found["consistency gain, points"] = 100 * (
        found["consistency blurred"] - found["consistency plain"]
    )
    found["accuracy gain, points"] = 100 * (found["accuracy blurred"] - found["accuracy plain"])
    return found


def permuted(seed: int, quick: bool) -> dict[str, float]:
    """Permute the pixels of MNIST alike: what a convolutional and a full net lose."""
    x, y, x_test, y_test = pictures("mnist", 200 if quick else 20_000, 200 if quick else 10_000)
    order = torch.randperm(784, generator=torch.Generator().manual_seed(seed))
    spec, found = Spec(channels=1, size=(28, 28), classes=tuple("0123456789")), {}
    builders: dict[str, Callable[[], nn.Module]] = {
        "convolutional": lambda: build("lenet5", spec),
        "full": lambda: build("spatial_transformer", spec, body="mlp", transform=False),
    }
    for name, builder in builders.items():
        for how in ("plain", "permuted"):
            shown = [
                part if how == "plain" else part.flatten(1)[:, order].view_as(part)
                for part in (x, x_test)
            ]
            torch.manual_seed(seed)
            net = builder()
            learn(net, shown[0], y, 1 if quick else 10, seed, lr=2e-3)
            found[f"{name} {how}"] = right(net, shown[1], y_test)
    loss = {name: 100 * (found[f"{name} plain"] - found[f"{name} permuted"]) for name in builders}
    kept = float(abs(loss["full"]) <= 0.5)
    return {**found, "convolutional loses, points": loss["convolutional"], "full keeps": kept}


def rectifier(seed: int, quick: bool) -> dict[str, float]:
    """Count epochs to 25 % training error of a four-layer CIFAR-10 net, ReLU and tanh."""
    x, y, _, _ = pictures("cifar10", 200 if quick else 10_000, 10)
    x = (x - 0.47) / 0.25
    epochs: dict[str, float] = {}
    for name, unit in (("ReLU", nn.ReLU), ("tanh", nn.Tanh)):
        best = float("inf")
        for rate in (0.003, 0.01, 0.03):  # each unit at the rate that suits it, as in the paper
            torch.manual_seed(seed)
            net = nn.Sequential(
                nn.Conv2d(3, 32, 5, padding=2), unit(), nn.MaxPool2d(3, 2),
                nn.Conv2d(32, 32, 5, padding=2), unit(), nn.AvgPool2d(3, 2),
                nn.Conv2d(32, 64, 5, padding=2), unit(), nn.AvgPool2d(3, 2),
                nn.Flatten(), nn.Linear(64 * 9, 10),
            )  # fmt: skip
            best = min(best, _epochs_to(net, x, y, rate, seed, 2 if quick else 60))
        epochs[name] = best
    return {**epochs, "ratio": epochs["tanh"] / epochs["ReLU"]}


def _epochs_to(net: nn.Module, x: Tensor, y: Tensor, rate: float, seed: int, most: int) -> float:
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9)
    for epoch in range(1, most + 1):
        for rows in torch.randperm(len(x), generator=draw).split(100):
            loss = F.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if right(net, x, y) >= 0.75:
            return float(epoch)
    return float(most)


EXPERIMENTS: dict[str, Callable[[int, bool], dict[str, float]]] = {
    "superresolution": superresolution,
    "fillin": fillin,
    "canvas": canvas,
    "transformer": transformer,
    "blur": blur,
    "permuted": permuted,
    "rectifier": rectifier,
}
CHECKS: dict[str, list[Check]] = {
    "superresolution": [Check("gain over bicubic", 0.3, "-", "C-72")],
    "fillin": [
        Check("gain over the input", 0.5, "-", "B11"),
        Check("falls from step 2 to 6", 1, "-", "B11"),
        Check("feedback helps", 0.0, "-", "B11"),
    ],
    "canvas": [Check("within 2 px", 0.95, "-", "C-73"), Check("class", 0.93, "-", "B9")],
    "transformer": [Check("gain", 0.25, "2.1 to 1.2 %", "C-70")],
    "blur": [
        Check("consistency gain, points", 1.0, "3.25", "C-71"),
        Check("accuracy gain, points", -0.5, "1.93", "C-71"),
    ],
    "permuted": [
        Check("convolutional loses, points", 0.3, "-", "C-76"),
        Check("full keeps", 1, "-", "C-76"),
    ],
    "rectifier": [Check("ratio", 2.0, "6", "C-68")],
}


def main() -> None:
    """Run one experiment; print its numbers, one line a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for `canon.py --record`")
    chosen = parser.parse_args()
    runs = []
    for seed in chosen.seed:
        runs.append(EXPERIMENTS[chosen.name](seed, chosen.quick))
        print(json.dumps(runs[-1]), flush=True)
        if chosen.json:
            text = json.dumps({"experiment": chosen.name, "runs": runs}, indent=1)
            chosen.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
