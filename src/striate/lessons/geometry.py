"""Where a kernel looks: dilation and receptive fields, padding and borders."""

import numpy as np
import torch
from torch import nn

from striate.analysis.pictures import png
from striate.analysis.receptive import receptive_fields
from striate.layers import effective_kernel, participation, stack_receptive_field
from striate.lessons.lesson import Lesson

__all__ = ["dilation", "padding"]

PAPER, INK, FAINT = (255, 255, 255), (0, 114, 178), (227, 230, 233)


def _tiles(panels: list[np.ndarray], zoom: int = 12) -> bytes:
    """Draw panels (h, w, 3) beside one another, a square a value."""
    tall = max(panel.shape[0] for panel in panels)
    drawn = []
    for panel in panels:
        large = panel.repeat(zoom, 0).repeat(zoom, 1)
        large[::zoom] = large[:, ::zoom] = PAPER  # lines between the squares
        page = np.full((tall * zoom + 2 * zoom, large.shape[1] + zoom, 3), 255, np.uint8)
        page[zoom : zoom + large.shape[0], zoom // 2 : zoom // 2 + large.shape[1]] = large
        drawn.append(page)
    return png(np.concatenate(drawn, 1))


def dilation(seed: int) -> Lesson:
    """Measure which samples a dilated 3 x 3 kernel sees, alone and in a stack.

    Article: "dilation of 2 on a 3 x 3 kernel expands to 7 x 7, 4 to 15 x 15": those are the
    cumulative fields of a stack with dilations 1, 2, 4; one layer spans 5 and 9 (A163, C-06).
    """
    panels, alone = [], {}
    for rate in (1, 2, 3, 4):
        net = nn.Conv2d(1, 1, 3, dilation=rate)
        x = torch.rand(1, 1, 17, 17, requires_grad=True)
        y = net(x)
        y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
        seen = (x.grad[0, 0] != 0).numpy()  # type: ignore[index]
        rows = np.flatnonzero(seen.any(1))
        alone[rate] = {"taps": int(seen.sum()), "extent": int(rows[-1] - rows[0] + 1)}
        assert alone[rate]["extent"] == effective_kernel(3, rate)
        panels.append(np.where(seen[..., None], INK, FAINT).astype(np.uint8))
    stack = nn.Sequential(*[nn.Conv2d(1, 1, 3, dilation=rate) for rate in (1, 2, 4)])
    fields = receptive_fields(stack, torch.rand(1, 1, 33, 33))
    measured = [field.size[0] for field in fields if field]
    numbers = {
        "one layer": {f"dilation {rate}": facts for rate, facts in alone.items()},
        "stack of dilations 1, 2, 4: measured": measured,
        "stack of dilations 1, 2, 4: formula": stack_receptive_field(
            [(3, 1, r) for r in (1, 2, 4)]
        ),
    }
    text = (
        "A 3 x 3 kernel always has 9 taps. Dilated by 2 it spans 5 samples, by 4 it spans 9; 7 and "
        "15 are what a stack of such layers with dilations 1, 2, 4 sees."
    )
    return Lesson("Dilation and the receptive field", text, numbers, _tiles(panels))


def padding(seed: int) -> Lesson:
    """Count in how many windows each sample takes part, without padding and with.

    Article: padding keeps border pixels from being undervalued; "same" adds K - 1 in all, which
    is one pixel on each side of a 3 x 3 kernel, not two (A150, A151, C-01).
    """
    counts = {name: participation((8, 8), 3, padding=p) for name, p in
              (("valid", 0), ("same", 1), ("full", 2))}  # fmt: skip
    panels = []
    for count in counts.values():
        share = (count.numpy() / 9)[..., None]
        panels.append((np.array(PAPER) + (np.array(INK) - PAPER) * share).astype(np.uint8))
    numbers: dict[str, object] = {
        name: {"corner": int(c[0, 0]), "edge": int(c[0, 4]), "inside": int(c[4, 4])}
        for name, c in counts.items()
    }
    sizes = {name: nn.Conv2d(1, 1, 3, padding=p)(torch.zeros(1, 1, 28, 28)).shape[2]
             for name, p in (("valid", 0), ("same", 1), ("full", 2))}  # fmt: skip
    numbers["size behind, of 28"] = sizes
    text = (
        "Without padding a corner takes part in one window, a sample inside in nine. One sample of "
        "padding on each side keeps the size; with two every overlap counts and the map grows."
    )
    return Lesson("Padding and borders", text, numbers, _tiles(panels, 24))
