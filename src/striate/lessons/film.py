"""The neocognitron organising itself, as a film strip."""

import numpy as np
import torch

from striate.analysis.pictures import png
from striate.lessons.lesson import SIDE, Lesson, digits
from striate.models import build
from striate.spec import Spec

__all__ = ["organisation"]

FRAMES = (0, 1, 2, 5, 10, 20)  # rounds after which a frame is taken


def organisation(seed: int) -> Lesson:
    """Show a neocognitron five digits, twenty times each, and look at its first layer meanwhile.

    Article: neocognitron, learning without a teacher (A060 to A065).
    """
    data = digits(1000, seed)
    light = (data.x * 0.3 + 0.1).clamp(0, 1)
    x = torch.stack([light[data.y == k][0] for k in range(5)])
    y = torch.arange(5)
    spec = Spec(channels=1, size=(SIDE, SIDE), classes=tuple("01234"))
    torch.manual_seed(seed)
    net = build("neocognitron1980", spec)
    frames, winners = [], []
    for turn in range(max(FRAMES) + 1):
        if turn in FRAMES:
            frames.append(_frame(net.simple[0].a.detach()[:, 0].numpy()))  # type: ignore[index, union-attr]
            winners.append(net.planes(x).argmax(1).tolist())  # type: ignore[operator]
        if turn < max(FRAMES):
            net.learn(x, y, turn / max(FRAMES))  # type: ignore[operator]
    numbers = {
        "rounds": list(FRAMES),
        "winning plane of each digit": winners,
        "different planes": [len(set(row)) for row in winners],
    }
    text = (
        "Each frame shows the 24 kernels of the first S-layer, from left to right after 0, 1, 2, "
        "5, 10 and 20 rounds. Nobody names the digits; wherever a cell is the strongest of its "
        "column its plane learns what it saw. At the end most digits have a plane of their own."
    )
    return Lesson("A neocognitron organises itself", text, numbers, png(_strip(frames)))


def _frame(kernels: np.ndarray, across: int = 4, zoom: int = 6) -> np.ndarray:
    """Lay kernels (K, h, w) out as a sheet, white the largest of each."""
    kernels = kernels / np.maximum(kernels.max((1, 2), keepdims=True), 1e-12)
    count, h, w = kernels.shape
    sheet = np.full((-(-count // across) * (h + 1) + 1, across * (w + 1) + 1), 0.35)
    for k, kernel in enumerate(kernels):
        y, x = 1 + k // across * (h + 1), 1 + k % across * (w + 1)
        sheet[y : y + h, x : x + w] = kernel
    grey: np.ndarray = (255 * sheet).clip(0, 255).astype(np.uint8)
    return grey.repeat(zoom, 0).repeat(zoom, 1)


def _strip(frames: list[np.ndarray], gap: int = 14) -> np.ndarray:
    """Lay frames beside one another."""
    spare = np.full((frames[0].shape[0], gap), 255, np.uint8)
    parts = [part for frame in frames for part in (frame, spare)]
    return np.concatenate(parts[:-1], 1)
