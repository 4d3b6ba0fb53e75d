"""Inference of one picture, fp32: Striate's kernels beside ONNX Runtime and OpenVINO.

    python benchmarks/runtimes.py                                # ResNet-18, 224 x 224, one thread
    python benchmarks/runtimes.py --only resnet50 --batch 8 --turns 7
    python benchmarks/runtimes.py --side 32 --side 64            # small pictures

All get the same network of torchvision, in random weights with normalisation by what it has seen,
and the same picture; a runtime reads the file that torch.onnx writes. Each is let run for half a
second before the next one's turn, and the least time of a turn counts. A runtime that is not
installed is left out, with a line that says so.
"""

import argparse
import copy
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from contest import machine
from kernels import LAST, vision
from striate.kernels import accelerate
from striate.kernels.compiled import backend
from striate.kernels.library import level, peak

NETS = ("resnet18", "resnet50", "mobilenet_v2")
TURN = 0.5  # seconds
OURS = ("accelerate", "compile")
Answer = Callable[[Tensor], Tensor]


def seen(net: nn.Module, x: Tensor) -> nn.Module:
    """Let normalisation see some pictures, so that what is folded into kernels is not trivial."""
    with torch.no_grad():
        for _ in range(3):
            net.train()(x)
    return net.eval()


def by_onnxruntime(file: Path, threads: int) -> Answer:
    """Return what ONNX Runtime makes of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def by_openvino(file: Path, threads: int) -> Answer:
    """Return what OpenVINO makes of a file."""
    import openvino

    told = {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    model = openvino.Core().compile_model(str(file), "CPU", told)
    return lambda x: torch.from_numpy(model(x.numpy())[0])


def contestants(net: nn.Module, x: Tensor, threads: int, home: Path) -> dict[str, Answer]:
    """Return everyone that is installed."""
    moved = [copy.deepcopy(net).to(memory_format=LAST) for _ in range(3)]
    last = x.contiguous(memory_format=LAST)
    fast, compiled = accelerate(moved[1]), torch.compile(moved[2], backend=backend)
    found: dict[str, Answer] = {
        "PyTorch": lambda _: moved[0](last),
        "accelerate": lambda _: fast(last),
        "compile": lambda _: compiled(last),
    }
    if not find_spec("onnx"):
        print("onnx is not installed, so no file for runtimes can be written")
        return found
    torch.onnx.export(net, (x,), home / "net.onnx", input_names=["x"], dynamo=False)
    for name, package, make in (
        ("ONNX Runtime", "onnxruntime", by_onnxruntime),
        ("OpenVINO", "openvino", by_openvino),
    ):
        if find_spec(package):
            found[name] = make(home / "net.onnx", threads)
        else:
            print(f"{package} is not installed and left out")
    return found


def least(answer: Answer, x: Tensor) -> float:
    """Return the least seconds of an answer, in one turn."""
    best, end = float("inf"), time.perf_counter() + TURN
    while time.perf_counter() < end:
        begun = time.perf_counter()
        answer(x)
        best = min(best, time.perf_counter() - begun)
    return best


@torch.inference_mode()
def compare(name: str, batch: int, threads: int, turns: int, side: int) -> str:
    """Return a line of the table."""
    torch.manual_seed(0)
    x = torch.randn(batch, 3, side, side)
    with torch.inference_mode(False):
        net = seen(vision(name)(), torch.randn(4, 3, side, side))
        with TemporaryDirectory() as home, torch.no_grad():
            found = contestants(net, x, threads, Path(home))
    wanted = net(x)
    for who, answer in found.items():
        distance = float((answer(x) - wanted).abs().max() / wanted.abs().max())
        if distance > 1e-4:
            raise SystemExit(f"{who} is {distance:.1e} off")
    each: dict[str, list[float]] = {who: [] for who in found}
    for _ in range(turns):
        for who, answer in found.items():
            each[who].append(least(answer, x))
    middle = {who: median(times) for who, times in each.items()}
    best = min(OURS, key=middle.__getitem__)
    runtimes = [who for who in found if who not in OURS]
    theirs = min(runtimes, key=middle.__getitem__)
    ratios = [a / b for a, b in zip(each[theirs], each[best], strict=True)]
    ratio = middle[theirs] / middle[best]
    shown = ", ".join(f"{who} {1e3 * value:.1f}" for who, value in middle.items())
    verdict = "reached" if ratio >= 1 else "**missed**"
    return (
        f"| {name}, {side}, {batch} | {shown} | {best} before {theirs} {ratio:.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f}) | 1 | {turns} | {verdict} |"
    )


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"wanted a number of 1 or more; got {text!r}")
    return int(text)


def main() -> None:
    """Compare what was chosen."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("--only", action="append", choices=NETS, help="a net; may be repeated")
    parser.add_argument(
        "--side", action="append", type=_count, help="of pictures; may be repeated [224]"
    )
    parser.add_argument("--batch", type=_count, default=1)
    parser.add_argument("--threads", type=_count, default=1)
    parser.add_argument("--turns", type=_count, default=7, help="of each contestant [7]")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: small pictures, one turn"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(machine())
    print(f"kernels: {level()}, peak {peak():.1f}e9 a thread; threads: {chosen.threads}\n")
    print("| net, side, batch | ms | ratio (spread) | wanted | n | verdict |")
    print("|---|---|---|---|---|---|")
    turns, sides = 1 if chosen.quick else chosen.turns, [64] if chosen.quick else [224]
    for name in chosen.only or ("resnet18",):
        for side in chosen.side or sides:
            print(compare(name, chosen.batch, chosen.threads, turns, side), flush=True)


if __name__ == "__main__":
    main()
