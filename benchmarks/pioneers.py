"""Experiments with the systems before 2000, with CHAOS, and with the committee of 2012."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from canon import CLAIMS
from canon_data import MADE
from learning import DIGITS, Check, Experiment, changed, learn, pictures, right
from striate.bundle import load
from striate.folder import free
from striate.layers import ComplexCells, SimpleCells
from striate.models import build
from striate.models.emg import firings
from striate.spec import Spec

__all__ = ["EXPERIMENTS"]


def cortex(seed: int, quick: bool) -> dict[str, float]:
    """Read digits off fixed simple and complex cells by one layer of units: nothing else learns."""
    x, y, x_test, y_test = pictures("mnist", 200 if quick else 20_000, 200 if quick else 10_000)
    simple = SimpleCells(8, (4.0, 8.0), 19)
    cells = nn.Sequential(simple, ComplexCells(), nn.AvgPool2d(4), nn.Flatten())
    with torch.no_grad():
        seen, seen_test = (torch.cat([cells(p) for p in part.split(500)]) for part in (x, x_test))
    torch.manual_seed(seed)
    net = nn.Linear(seen.shape[1], 10)
    learn(net, seen / seen.std(), y, 1 if quick else 20, seed)
    return {"accuracy": right(net, seen_test / seen.std(), y_test)}


def jitter(seed: int, quick: bool) -> dict[str, float]:
    """Move digits by up to 2 pixels: cresceptrons that keep maxima or average, blurred or not."""
    x, y, x_test, y_test = pictures("mnist", 2000, 100 if quick else 2000)
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=draw)
    few = torch.cat([order[y[order] == k][: 2 if quick else 20] for k in range(10)])
    steps = torch.randint(-2, 3, (len(y_test), 2), generator=draw).tolist()
    jittered = torch.stack(
        [one.roll(step, (1, 2)) for one, step in zip(x_test, steps, strict=True)]
    )
    spec, found = Spec(channels=1, size=(28, 28), dtype="float32", classes=DIGITS), {}
    for blur, name in ((1.0, ""), (0.0, ", no blur")):
        for pool in ("max", "average"):
            net = build("cresceptron", spec, pool=pool, blur=blur).eval()
            with torch.no_grad():
                net.learn(x[few], y[few], 0.0)
            found[f"{pool}, still{name}"] = right(net, x_test, y_test)
            found[f"{pool}, moved{name}"] = right(net, jittered, y_test)
        gain = found[f"max, moved{name}"] - found[f"average, moved{name}"]
        found[f"points gained{name}"] = 100 * gain
    return found


def templates(seed: int, quick: bool) -> dict[str, float]:
    """Teach 1,000 digits of USPS to kernels made by hand, and all of them beside learnt ones."""
    x, y, x_test, y_test = pictures("usps", 7291, 200 if quick else 2007)
    x, x_test = 2 * x - 1, 2 * x_test - 1
    spec, found = Spec(channels=1, size=(16, 16), classes=DIGITS), {}
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    for count in (1000, len(y)):
        own = order[:count]
        for name in ("denker1989", "lecun1989"):
            torch.manual_seed(seed)
            net = build(name, spec)
            change = changed(x[own], "affine=10,translate=1", seed)
            learn(net, x[own], y[own], 1 if quick else 30, seed, change=change)
            found[f"{name}, {count}"] = right(net, x_test, y_test)
    learnt = found[f"lecun1989, {len(y)}"] - found[f"denker1989, {len(y)}"]
    return {**found, "learnt kernels gain, points": 100 * learnt}


def distortions(seed: int, quick: bool) -> dict[str, float]:
    """Teach LeNet-5 10,000 digits as they are, and moved, turned and bent anew in every epoch."""
    x, y, x_test, y_test = pictures("mnist", 200 if quick else 10_000, 200 if quick else 10_000)
    x, x_test = (F.pad(part, [2] * 4) / 0.31 - 0.42 for part in (x, x_test))
    spec, found = Spec(channels=1, size=(32, 32), classes=DIGITS), {}
    for name, words in (("plain", ""), ("distorted", "affine=10,elastic=20,translate=1")):
        torch.manual_seed(seed)
        net = build("lenet5", spec)
        change = changed(x, words, seed) if words else None
        learn(net, x, y, 1 if quick else 20, seed, change=change)
        found[f"accuracy {name}"] = right(net, x_test, y_test)
    gain = found["accuracy distorted"] - found["accuracy plain"]
    return {**found, "points gained": 100 * gain}


def trains(shapes: Tensor, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return signals of units that fire every 80 samples or so, at 20 dB; the clean ones; when."""
    length = 2000
    fired = torch.zeros(count, len(shapes), length)
    for train in fired.flatten(0, 1):
        gaps = 80 + torch.randint(-25, 26, (length // 55,), generator=draw)
        time = gaps.cumsum(0) - int(torch.randint(20, 80, (1,), generator=draw))
        train[time[(time >= 0) & (time < length - 40)]] = 1
    clean = F.conv_transpose1d(fired, shapes[:, None])[..., :length]
    noise = torch.randn(clean.shape, generator=draw) * clean.std((1, 2), keepdim=True) / 10
    return clean + noise, clean, fired


def deconvolution(seed: int, quick: bool) -> dict[str, float]:
    """Tell from an electromyogram at 20 dB which of four motor units fired when, within 1 ms."""
    draw = torch.Generator().manual_seed(seed)
    time = torch.arange(24) - 12.0
    width = 1.5 + 0.9 * torch.arange(4) + 0.2 * torch.rand(4, generator=draw)
    ratio = time / width[:, None]
    waves = torch.where(torch.arange(4)[:, None] % 2 == 1, 1 - ratio**2, -ratio)
    waves = waves * torch.exp(-(ratio**2) / 2)
    waves = waves / waves.norm(dim=1, keepdim=True)
    signal, clean, fired = trains(waves, 2 if quick else 20, draw)
    net = build("emg1988", Spec(channels=1, size=(2000,), classes=()), taps=24, steps=100)
    net.set_templates(waves)
    with torch.no_grad():
        y = net(signal)
        error = float((net.mixed(y) - clean).norm() / clean.norm())
    heard, reach = firings(y).float(), 5  # 1 ms at 5 kHz
    near = [F.max_pool1d(one, 2 * reach + 1, 1, reach) for one in (fired, heard)]
    precision, recall = (
        float((heard * near[0]).sum() / heard.sum()),
        float((fired * near[1]).sum() / fired.sum()),
    )
    f1 = 2 * precision * recall / (precision + recall)
    return {"F1": f1, "reconstruction error": error}


def trained(data: Path, words: str, seed: int) -> tuple[Path, float]:
    """Train by `striate train` in a process of its own; return the bundle and the test accuracy."""
    command = [sys.executable, "-m", "striate", "train", str(data), *words.split(), "--json"]
    where = ["--seed", str(seed), "--out", str(free(data.parent / "run"))]
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    return Path(said["bundle"]), said["scores"]["test"]["accuracy"]["value"]


def workers(seed: int, quick: bool) -> dict[str, float]:
    """Train the small net of CHAOS by one worker and by four that share its weights."""
    x, y, x_test, y_test = pictures("mnist", 200 if quick else 10_000, 200 if quick else 10_000)
    found = {}
    with TemporaryDirectory(prefix="workers-") as folder:
        parts = {"x_train": x, "x_test": x_test}
        arrays = {
            k: (F.pad(v, (0, 1, 0, 1)) * 255).round().byte().numpy() for k, v in parts.items()
        }
        data = Path(folder, "mnist.npz")
        np.savez(data, **arrays, y_train=y.numpy(), y_test=y_test.numpy())
        for name, count in (("one", 1), ("four", 4), ("four, no control", 4)):
            how = "free" if "no" in name.split() else "layers"
            words = f"--model chaos_small --epochs {0.1 if quick else 5} --batch 1 --augment none"
            words += " --validation 0 --optimizer sgd --momentum 0 --ema 0"
            words += f" --processes {count} --publication {how} --threads 1 --lr 0.001"
            _, found[name] = trained(data, words, seed)
    return {**found, "points apart": 100 * abs(found["four"] - found["one"])}


def columns(seed: int, quick: bool) -> dict[str, float]:
    """Train a committee as CANON.md has it; ask its columns alone, and together (an hour)."""
    words = " ".join(next(one.words for one in CLAIMS if one.system == "committee"))
    with TemporaryDirectory(prefix="columns-") as folder:
        data = Path(folder, "mnist-29.npz")
        MADE[data.name](data)
        if quick:
            with np.load(data) as whole:
                few = {name: whole[name][:300] for name in whole}
            np.savez(data, **few)
        bundle, _ = trained(data, words + (" --epochs 1" if quick else ""), seed)
        return heard(bundle, data)


def heard(bundle: Path, data: Path) -> dict[str, float]:
    """Return the share of test digits that the columns of a committee know, alone and together."""
    said = load(bundle)
    mean, std = (torch.tensor(part)[:, None, None] for part in (said.spec.mean, said.spec.std))
    with np.load(data) as digits:
        x, y = (torch.from_numpy(digits[name]) for name in ("x_test", "y_test"))
    with torch.no_grad():
        parts = ((x[:, None].float() - mean) / std).split(500)
        answers = torch.cat([said.model.alone(part) for part in parts], 1)  # type: ignore[operator]
    alone = float((answers.argmax(2) == y).float().mean())
    together = float((answers.log_softmax(2).logsumexp(0).argmax(1) == y).float().mean())
    gain = 100 * (together - alone)
    return {"columns alone": alone, "together": together, "points gained": gain}


EXPERIMENTS = {
    "cortex": Experiment(cortex, (Check("accuracy", 0.95, "-", "B1"),)),
    "jitter": Experiment(
        jitter,
        (
            Check("points gained", 3, "-", "B3"),
            Check("points gained, no blur", 3, "-", "B3"),
        ),
        "cresceptron",
    ),
    "templates": Experiment(
        templates,
        (
            Check("denker1989, 1000", 0.85, "-", "B6"),
            Check("learnt kernels gain, points", 0, "-", "B6"),
        ),
        "denker1989",
    ),
    "distortions": Experiment(
        distortions,
        (Check("accuracy plain", 0.975, "-", "B8"), Check("points gained", 0, "0.15", "B8")),
        "lenet5",
    ),
    "deconvolution": Experiment(
        deconvolution,
        (Check("F1", 0.9, "-", "C-55"), Check("reconstruction error", 0.2, "-", "B10", most=True)),
        "emg1988",
    ),
    "columns": Experiment(
        columns,
        (Check("together", 0.991, "99.77 %", "C-64"), Check("points gained", 0, "-", "C-64")),
        "committee",
    ),
    "workers": Experiment(
        workers, (Check("points apart", 0.3, "comparable", "C-74", most=True),), "chaos_small"
    ),
}
