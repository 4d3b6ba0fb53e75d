"""What a shift does: invariance near and far, aliasing, its repair, sizes of windows."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.analysis import equivariance_error, folding, shift_consistency
from striate.analysis.draw import chart, standalone
from striate.layers import BlurPool, GlobalPool, MaxBlurPool, max_pool
from striate.lessons.lesson import SIDE, Lesson, accuracy, digits, taught

__all__ = ["aliasing", "invariance", "pooling", "spectrum"]

REACH = 6


def _features(pooled: bool, maps: int = 16) -> list[nn.Module]:
    return [
        nn.Conv2d(1, maps, 3, padding=1, padding_mode="circular"), nn.ReLU(),
        *[max_pool(2, 2)] * pooled,
        nn.Conv2d(maps, maps, 3, padding=1, padding_mode="circular"), nn.ReLU(),
    ]  # fmt: skip


def _moved(net: nn.Module, x: Tensor, y: Tensor) -> list[tuple[float, float]]:
    return [
        (float(step), 100 * accuracy(net, x.roll(step, 3), y)) for step in range(-REACH, REACH + 1)
    ]


def invariance(seed: int) -> Lesson:
    """Shift digits further and further: local pooling forgives little, global pooling all.

    Article: pooling gives local, not global, translation invariance unless it is global (A131).
    """
    data, lines = digits(1000, seed), {}
    heads = {
        "flattened": [nn.Flatten(), nn.Linear(16 * (SIDE // 2) ** 2, 10)],
        "global pooling": [GlobalPool("max"), nn.Linear(16, 10)],
    }
    for name, head in heads.items():
        torch.manual_seed(seed)
        net = nn.Sequential(*_features(name == "flattened"), *head)
        taught(net, data.x, data.y, 12, seed)
        lines[name] = _moved(net, data.x_test, data.y_test)
    numbers = {
        name: {f"{int(step):+d} px, %": round(value, 1) for step, value in line}
        for name, line in lines.items()
    }
    picture = standalone(chart("Test accuracy (%)", "shift of the test digits (px)", lines))
    text = (
        "Both nets learnt centred digits. With a local pooling layer under fully connected weights "
        "accuracy falls with the first pixel of a shift, and soon to chance. The other net samples "
        "nowhere and takes the maximum over all places: it answers the same wherever the digit "
        "stands."
    )
    return Lesson("Local and global translation invariance", text, numbers, picture)


def aliasing(seed: int) -> Lesson:
    """Pool a wave and the same wave one sample later; then with a blur before the sampling.

    Article: strides ignore the Nyquist-Shannon theorem; anti-aliasing (A166, A170, C-31, C-32).
    """
    wave = torch.tensor([0.0, 0, 1, 1] * 2).view(1, 1, 8)
    plain, soft = nn.MaxPool1d(2), MaxBlurPool(padding="circular")
    said = {
        "max pooling": (plain(wave), plain(wave.roll(1, 2))),
        "max pooling, blurred": (soft(wave), soft(wave.roll(1, 2))),
    }
    numbers: dict[str, object] = {
        name: {"wave": one.flatten().tolist(), "one sample later": two.flatten().tolist()}
        for name, (one, two) in said.items()
    }
    draw = torch.Generator().manual_seed(seed)
    noise = F.avg_pool1d(torch.randn(64, 1, 68, generator=draw), 5, 1)
    lines = {}
    for name, layer in {"max pooling": plain, "max pooling, blurred": soft}.items():
        change = [equivariance_error(layer, noise, step) for step in range(9)]
        lines[name] = [(float(step), 100 * value) for step, value in enumerate(change)]
        numbers[f"{name}: change, %"] = [round(value, 1) for _, value in lines[name]]
    picture = standalone(chart("Change of the output (%)", "shift (samples)", lines))
    text = (
        "Pooling by two keeps what comes at even samples: a shift by two moves its output by one, "
        "exactly, but a shift by one gives another output altogether. A small blur before the "
        "sampling takes part of that away."
    )
    return Lesson("Aliasing of pooling, and its repair", text, numbers, picture)


def pooling(seed: int) -> Lesson:
    """Pool with windows of 2, 3, 4 and 6 samples at stride 2: those that overlap forgive more.

    Article: Mouton, Myburgh, Davel 2020 on stride and translation invariance (A161, A173).
    """
    data = digits(1000, seed)
    lines, numbers = {}, {}
    for window in (2, 3, 4, 6):
        torch.manual_seed(seed)
        pad = (window - 2) // 2
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, padding_mode="circular"), nn.ReLU(),
            nn.CircularPad2d((pad, window - 2 - pad) * 2), max_pool(2, window, 2),
            nn.Flatten(), nn.Linear(16 * (SIDE // 2) ** 2, 10),
        )  # fmt: skip
        taught(net, data.x, data.y, 10, seed)
        kept = [100 * shift_consistency(net, data.x_test, [(0, step)]) for step in range(5)]
        lines[f"window {window}"] = [(float(step), value) for step, value in enumerate(kept)]
        numbers[f"window {window}"] = {
            "test accuracy, %": round(100 * accuracy(net, data.x_test, data.y_test), 1),
            "answers kept by shift, %": [round(value, 1) for value in kept],
        }
    picture = standalone(chart("Answers kept (%)", "shift (px)", lines))
    text = (
        "All nets sample every second place. Windows wider than the stride overlap, and keep more "
        "answers under a shift by one sample than windows of 2; no window forgives a shift beyond "
        "its own reach. What that costs or brings in accuracy stands beside."
    )
    return Lesson("Sizes of pooling windows", text, numbers, picture)


def spectrum(seed: int) -> Lesson:
    """Teach kernels in front of strides, and read whether they learnt to filter.

    Article: networks could learn filters against aliasing, and in general do not (A167).
    """
    data = digits(1000, seed)
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for channels, maps in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(channels, maps, 5, 2, 2), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * (SIDE // 4) ** 2, 10))
    before = folding(net, data.x_test)
    taught(net, data.x, data.y, 15, seed)
    after = folding(net, data.x_test)
    soft = folding(nn.Sequential(BlurPool(5)), data.x_test)[0]
    shares = {
        "kernels as they start": [one.kernel or 0.0 for one in before],
        "kernels learnt": [one.kernel or 0.0 for one in after],
        "what the stride folds": [one.signal for one in after],
        "behind a blur of 5 taps": [soft.signal for _ in after],
    }
    lines = {
        name: [(float(k + 1), 100 * share) for k, share in enumerate(values)]
        for name, values in shares.items()
    }
    numbers: dict[str, object] = {
        f"{name}, %": [round(value, 1) for _, value in line] for name, line in lines.items()
    }
    numbers["white noise, %"] = 100 * before[0].white
    numbers["test accuracy, %"] = round(100 * accuracy(net, data.x_test, data.y_test), 1)
    picture = standalone(chart("Energy above the new Nyquist frequency (%)", "layer", lines))
    text = (
        "A stride of two folds what varies faster than half a wave in two samples. Kernels that "
        "filtered it away would have hardly any energy there, as a blur has. After training most "
        "of theirs is still there, as when they were random: nothing in the loss asks otherwise."
    )
    return Lesson("Do kernels learn to filter before a stride?", text, numbers, picture)
