"""Steps of training and inference: Striate's kernels beside PyTorch's best setting, net by net.

    python benchmarks/kernels.py                                  # every net, one thread
    python benchmarks/kernels.py --only resnet18 --threads 2 --inductor
    python benchmarks/kernels.py --shapes                         # single convolutions
    python benchmarks/kernels.py --compete                        # two processes on the same cores

PyTorch runs as NCHW, channels last and, if asked, as both compiled by Inductor, with weights
frozen in inference (batch norms folded, kernels packed beforehand); Striate as
`striate.accelerate` and as torch.compile(backend="striate"). All take turns in one process; a turn
is as many steps as fill BURST seconds, the same number for all, since a step behind those of other
settings finds its weights and buffers driven from the caches, as no training does. The first turn
does not count. A ratio is of medians, PyTorch's best over Striate's best, and its spread that of
the turns. Beside it: multiply-and-adds a second that a step of Striate does,
as a share of what this CPU reaches out of its registers; Winograd's algorithm may exceed 1.

Two processes that compete train `fastnet` with two threads each. The ratio is of a step's time
beside the other process to that alone; the two cases take turns.
"""

import argparse
import copy
import math
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contest import machine
from shapes import table
from striate import accelerate
from striate.analysis import profile
from striate.kernels import level, peak, reason
from striate.kernels.compiled import backend
from striate.models import build
from striate.spec import Spec

LAST = torch.channels_last
OURS = ("accelerate", "compile")  # settings
PLANES = ("NCHW", "inductor")  # settings that take images map by map
BURST = 0.2  # seconds that a turn of the fastest setting lasts at least


def ours(name: str, channels: int, side: int) -> Callable[[], nn.Module]:
    """Return a builder of one of Striate's networks with ten classes."""
    spec = Spec(channels=channels, size=(side, side), classes=tuple("0123456789"))
    return lambda: build(name, spec)


def vision(name: str) -> Callable[[], nn.Module]:
    """Return a builder of one of torchvision's networks."""

    def builder() -> nn.Module:
        from torchvision import models

        return getattr(models, name)()

    return builder


def residual(axes: int, width: int, stem: int) -> nn.Module:
    """Build a small ResNet-18 of one or three axes, of the usual four stages."""
    from striate.models.resnet import ResNet

    spec = Spec(channels=1, size=(stem,) * axes, classes=tuple("0123456789"))
    return ResNet(spec, (2, 2, 2, 2), tuple(width * k for k in (1, 2, 4, 8)), stem="imagenet")


@dataclass(frozen=True)
class Row:
    """A network, what it is given, and the ratios wanted of training and inference."""

    builder: Callable[[], nn.Module]
    shape: tuple[int, ...]
    train: float
    infer: float


ROWS = {
    "lenet5": Row(ours("lenet5", 1, 28), (64, 1, 28, 28), 4, 4),
    "fastnet": Row(ours("fastnet", 3, 32), (128, 3, 32, 32), 2.2, 2.5),
    "resnet18": Row(ours("resnet18", 3, 32), (64, 3, 32, 32), 2, 2.2),
    "vgg16": Row(vision("vgg16"), (8, 3, 224, 224), 2, 2),
    "resnet50": Row(vision("resnet50"), (8, 3, 224, 224), 1.35, 1.5),
    "mobilenet_v2": Row(vision("mobilenet_v2"), (16, 3, 224, 224), 2, 2),
    "resnet1d": Row(lambda: residual(1, 64, 16_000), (32, 1, 16_000), 2, 1.8),
    "resnet3d": Row(lambda: residual(3, 64, 64), (4, 1, 8, 64, 64), 1.8, 1.8),
}


def settings(net: nn.Module, axes: int, inductor: bool) -> dict[str, nn.Module]:
    """Return the same network in every setting."""
    order = {2: LAST, 3: torch.channels_last_3d}.get(axes, torch.contiguous_format)

    def moved() -> nn.Module:
        return copy.deepcopy(net).to(memory_format=order)

    found = {"NCHW": copy.deepcopy(net), "last": moved()}
    if inductor:
        frozen = {"freezing": True}
        found["inductor"] = torch.compile(copy.deepcopy(net), options=frozen)
        found["inductor last"] = torch.compile(moved(), options=frozen)
    found["accelerate"] = accelerate(moved())
    found["compile"] = torch.compile(moved(), backend=backend)
    return found


def training(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """Take a step without the update, which is the same for all."""
    F.cross_entropy(net.train()(x), y).backward()
    for p in net.parameters():
        p.grad = None


@torch.no_grad()
def inference(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """Answer."""
    net.eval()(x)


def turns(
    nets: dict[str, nn.Module], step: Callable[[nn.Module, Tensor, Tensor], None],
    inputs: dict[str, tuple[Tensor, Tensor]], count: int,
) -> dict[str, list[float]]:  # fmt: skip
    """Return seconds of a step, of each turn of each setting."""

    def seconds(name: str, steps: int) -> float:
        return _seconds(lambda: step(nets[name], *inputs[name]), steps)

    for name in nets:
        seconds(name, 1)
    steps = math.ceil(BURST / min(seconds(name, 1) for name in nets))
    times: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(count):
        for name in nets:
            times[name].append(seconds(name, steps))
    return times


def compare(name: str, row: Row, count: int, inductor: bool, quick: bool) -> list[str]:
    """Return two lines of the table."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    net, shape = row.builder(), (2, *row.shape[1:]) if quick else row.shape
    x, y = torch.randn(shape), torch.randint(0, 10, shape[:1])
    axes = len(shape) - 2
    order = {2: LAST, 3: torch.channels_last_3d}.get(axes, torch.contiguous_format)
    nets = settings(net, axes, inductor)
    inputs = {k: (x if k in PLANES else x.contiguous(memory_format=order), y) for k in nets}
    work = profile(net, shape[1:]).macs * shape[0] / 1e9
    roof = peak() * torch.get_num_threads()
    lines = []
    for what, step, wanted, passes in (
        ("train", training, row.train, 3),
        ("infer", inference, row.infer, 1),
    ):
        times = turns(nets, step, inputs, count)
        middle = {k: median(v) for k, v in times.items()}
        theirs = min((k for k in nets if k not in OURS), key=middle.get)  # type: ignore[arg-type]
        best = min(OURS, key=middle.get)  # type: ignore[arg-type]
        each = [a / b for a, b in zip(times[theirs], times[best], strict=True)]
        ratio = middle[theirs] / middle[best]
        shown = ", ".join(f"{k} {1e3 * v:.1f}" for k, v in middle.items())
        share = passes * work / middle[best] / roof if roof else 0
        verdict = "reached" if ratio >= wanted else "**missed**"
        lines.append(
            f"| {name}, {shape[0]} | {what} | {shown} | {best} {ratio:.2f} "
            f"({min(each):.2f}-{max(each):.2f}) | {wanted} | {share:.2f} | {count} | {verdict} |"
        )
    return lines


MOST = 2.2  # times as long may a step take beside a competitor


def fastnet_step(threads: int, quick: bool) -> Callable[[], None]:
    """Return a step of the accelerated `fastnet`, which ran once."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    row = ROWS["fastnet"]
    net = accelerate(row.builder().to(memory_format=LAST))
    x = torch.randn(8 if quick else row.shape[0], *row.shape[1:]).contiguous(memory_format=LAST)
    y = torch.randint(0, 10, x.shape[:1])
    training(net, x, y)
    return lambda: training(net, x, y)


def competitor(threads: int, quick: bool, work: Event, idle: Event) -> None:
    """Take steps whenever `work` is set, in a process of its own that the other one ends."""
    step = fastnet_step(threads, quick)
    while True:
        idle.set()
        work.wait()
        idle.clear()
        while work.is_set():
            step()


def compete(threads: int, count: int, quick: bool) -> str:
    """Return a row: seconds of a step alone, beside a competitor, and their ratio."""
    step = fastnet_step(threads, quick)
    times: dict[str, list[float]] = {"alone": [], "beside": []}
    how = multiprocessing.get_context("spawn")
    work, idle = how.Event(), how.Event()
    other = how.Process(target=competitor, args=(threads, quick, work, idle), daemon=True)
    other.start()
    try:
        for _ in range(count):
            work.clear()
            if not idle.wait(120):
                raise RuntimeError("the competitor takes no step")
            times["alone"].append(_seconds(step))
            work.set()
            while idle.is_set():
                time.sleep(0.001)
            times["beside"].append(_seconds(step))
    finally:
        other.terminate()
        other.join()
    alone, beside = (median(times[name]) for name in ("alone", "beside"))
    each = [b / a for a, b in zip(times["alone"], times["beside"], strict=True)]
    verdict = "reached" if beside <= MOST * alone else "**missed**"
    return (
        f"| fastnet, {threads} threads each | {1e3 * alone:.1f} | {1e3 * beside:.1f} | "
        f"{beside / alone:.2f} ({min(each):.2f}-{max(each):.2f}) | {MOST} | {count} | {verdict} |"
    )


def _seconds(step: Callable[[], None], steps: int = 3) -> float:
    """Return the mean seconds of a few steps."""
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - begun) / steps


def main() -> None:
    """Compare what was chosen."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("--only", action="append", choices=ROWS, help="a net; may be repeated")
    parser.add_argument("--turns", type=int, default=7, help="that count, of each setting [7]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--inductor", action="store_true", help="also PyTorch compiled by Inductor")
    parser.add_argument("--quick", action="store_true", help="a smoke run: batches of 2, one turn")
    parser.add_argument("--shapes", action="store_true", help="rates of single convolutions")
    parser.add_argument("--compete", action="store_true", help="two processes on the same cores")
    chosen = parser.parse_args()
    count = 1 if chosen.quick else chosen.turns
    torch.set_num_threads(chosen.threads)
    print(machine())
    print(
        reason() or f"kernels: {level()}, peak {peak():.1f}e9 multiply-and-adds a second a thread"
    )
    if chosen.compete:
        print("\n| step | alone, ms | beside, ms | ratio (spread) | at most | n | verdict |")
        print("|---|---|---|---|---|---|---|")
        print(compete(2, count, chosen.quick))
        return
    print(f"threads: {chosen.threads}", end="\n\n")
    if chosen.shapes:
        for line in table(2 if chosen.quick else 64, count):
            print(line, flush=True)
        return
    print("| net, batch | step | ms | ratio (spread) | wanted | of the peak | n | verdict |")
    print("|---|---|---|---|---|---|---|---|")
    for name in chosen.only or (("lenet5", "resnet1d") if chosen.quick else ROWS):
        for line in compare(name, ROWS[name], count, chosen.inductor, chosen.quick):
            print(line, flush=True)


if __name__ == "__main__":
    main()
