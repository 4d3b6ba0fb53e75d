"""Numbers -> charts, as SVG text.

Written by hand: a run of a few seconds cannot wait 2 for matplotlib. Every SVG stands in an HTML
page as it is; `standalone` makes a file of it. The colours hold for the colour-blind (Okabe-Ito).
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import ceil, floor, isfinite, log10, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.analysis.calibration import Bin
from striate.analysis.pictures import data_uri, png

__all__ = ["chart", "confusion", "curves", "interval", "reliability", "standalone"]

BLUE, ORANGE, INK, GREY, GRID = "#0072b2", "#d55e00", "#1a1a1a", "#5c6670", "#e3e6e9"
STYLES = ((BLUE, ""), (ORANGE, "6 3"), ("#009e73", "2 3"), ("#cc79a7", "9 3 2 3"))
FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
NUMBERED = 30  # most classes whose confusion matrix still has a number in each cell

Point = tuple[float, float]


def curves(history: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Draw the course of a training as one SVG each: "loss", "accuracy", "learning-rate".

    What was never recorded is left out; gaps (None, NaN) are skipped.

    Args:
        history: rows with any of epoch, seconds, loss, validation_loss, validation_accuracy (0 to
            1) and lr; epochs are the horizontal axis, seconds where there are none.
    """
    rows = list(history)
    axis = "epoch" if any(_number(row.get("epoch")) for row in rows) else "seconds"
    panels = {
        "loss": ("Loss (nats)", {"training": "loss", "validation": "validation_loss"}),
        "accuracy": ("Accuracy (%)", {"validation": "validation_accuracy"}),
        "learning-rate": ("Learning rate", {"learning rate": "lr"}),
    }
    drawn = {}
    for panel, (title, keys) in panels.items():
        scale = 100 if panel == "accuracy" else 1
        lines = {name: _line(rows, axis, key, scale) for name, key in keys.items()}
        if any(lines.values()):
            drawn[panel] = chart(title, axis, {k: v for k, v in lines.items() if v})
    return drawn


def confusion(matrix: ArrayLike, classes: Sequence[str]) -> str:
    """Draw a confusion matrix: right answers blue, mistakes orange, darker for a larger share.

    Up to 30 classes each cell has its number; above, a cell is a pixel and some names are left out.

    Shape: (K, K) counts, rows the true classes -> SVG

    Raises:
        ValueError: the matrix has not one row and one column a class.
    """
    counts, k = np.asarray(matrix, np.int64), len(classes)
    if counts.shape != (k, k):
        raise ValueError(f"matrix must have shape ({k}, {k}), as classes; got {counts.shape}")
    names = [_clip(name, 18) for name in classes]
    cell = 34.0 if k <= 12 else 26.0 if k <= NUMBERED else 640 / k
    margin = 30 + max((_extent(name) for name in names), default=0)
    side, turned = cell * k, any(_extent(name) > cell for name in names)
    parts = (
        _cells(counts, classes, margin, cell) if k <= NUMBERED else [_pixels(counts, margin, side)]
    )
    every = max(1, ceil(13 / cell))
    for i in range(0, k, every):
        at, end = margin + (i + 0.5) * cell, margin - 6
        parts += [
            _text(end, at + 4, names[i], anchor="end"),
            _text(at + 4, end, names[i], turn=-90)
            if turned
            else _text(at, end, names[i], "middle"),
        ]
    parts += [
        f'<rect x="{margin:.1f}" y="{margin:.1f}" width="{side:.1f}" height="{side:.1f}" '
        f'fill="none" stroke="{GREY}" stroke-width="0.75"/>',
        _text(margin + side / 2, 13, "predicted", anchor="middle", colour=GREY),
        _text(13, margin + side / 2, "true", anchor="middle", colour=GREY, turn=-90),
    ]
    label = f"Confusion matrix of {k} classes: rows are the true class, columns the predicted one"
    return _svg(margin + side + 8, margin + side + 8, parts, label)


def reliability(bins: Sequence[Bin]) -> str:
    """Draw how often answers are right against how sure they were, and how many there are.

    A blue line is the accuracy of a bin, orange its gap to the confidence, the dashes the ideal.
    """
    left, top, side, foot = 48.0, 34.0, 300.0, 56.0
    parts = [_text(4, 16, "Right answers (%)", weight="bold")]
    for tick in (0, 20, 40, 60, 80, 100):
        y, x = top + side * (1 - tick / 100), left + side * tick / 100
        parts += [
            _stroke((left, y), (left + side, y)),
            _text(left - 8, y + 4, str(tick), anchor="end", colour=GREY),
            _text(x, top + side + foot + 30, str(tick), anchor="middle", colour=GREY),
        ]
    most = max((b.n for b in bins), default=0)
    for b in bins:
        if b.accuracy is not None and b.confidence is not None:
            parts += _bar(b, b.accuracy, b.confidence, left, top, side, foot, most)
    base, end = top + side + foot + 14, left + side
    parts += [
        _stroke((left, top + side), (end, top), INK, 1.25, "5 4"),
        _stroke((left, top + side), (end, top + side), GREY),
        _stroke((left, base), (end, base), GREY),
        _text(left - 8, base - foot / 2 + 4, "n", anchor="end", colour=GREY),
        _text(left + side / 2, base + 36, "confidence (%)", anchor="middle", colour=GREY),
        *_legend(end, {"accuracy": (BLUE, ""), "gap": (ORANGE, "")}, 16),
    ]
    label = "Reliability diagram: accuracy of the answers in each bin of confidence"
    return _svg(left + side + 16, base + 44, parts, label)


def interval(value: float, low: float, high: float, least: float = 0.0) -> str:
    """Draw a value from 0 to 1 as a dot with its interval as a bar, on a scale from `least`."""
    width, span = 120, max(1 - least, 1e-9)
    dot, start, end = (4 + (width - 8) * max(0.0, v - least) / span for v in (value, low, high))
    bar = (
        f'<line x1="{start:.1f}" x2="{end:.1f}" y1="7" y2="7" stroke="{BLUE}" stroke-width="3" '
        'stroke-opacity="0.35"/>'
    )
    parts = [
        _stroke((4, 7), (width - 4, 7)),
        bar,
        f'<circle cx="{dot:.1f}" cy="7" r="3.2" fill="{BLUE}"/>',
    ]
    return _svg(width, 14, parts, f"{100 * low:.1f} to {100 * high:.1f} %", fixed=True)


def standalone(svg: str) -> str:
    """Turn an SVG of this module into the text of an .svg file, on white."""
    root, rest = svg.split(">", 1)
    name = 'xmlns="http://www.w3.org/2000/svg"'
    white = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return f"{root.replace('<svg', f'<svg {name}', 1)}>{white}{rest}\n"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and isfinite(value)


def _line(rows: Sequence[Mapping[str, Any]], axis: str, key: str, scale: float) -> list[Point]:
    both = [(row.get(axis), row.get(key)) for row in rows]
    points = [(float(x), float(y) * scale) for x, y in both if _number(x) and _number(y)]  # type: ignore[arg-type]
    every = ceil(len(points) / 500)
    return points[::every] + points[-1:] if every > 1 else points


def chart(title: str, axis: str, lines: Mapping[str, list[Point]]) -> str:
    """Draw up to four lines over one horizontal axis; all but the first are dashed too.

    Args:
        title: of the vertical axis, with its unit.
        axis: what the horizontal axis is, with its unit.
        lines: name -> points (x, y) in the order of x; the names stand in the legend.
    """
    left, top, width, height = 52.0, 34.0, 340.0, 190.0
    points = [point for line in lines.values() for point in line]
    xs, ys = _ticks([x for x, _ in points]), _ticks([y for _, y in points])

    def place(point: Point) -> Point:
        x = (point[0] - xs[0]) / (xs[-1] - xs[0])
        return left + width * x, top + height * (1 - (point[1] - ys[0]) / (ys[-1] - ys[0]))

    parts = [_text(4, 16, title, weight="bold")]
    for tick in ys:
        y = place((xs[0], tick))[1]
        parts += [
            _stroke((left, y), (left + width, y)),
            _text(left - 8, y + 4, _short(tick), anchor="end", colour=GREY),
        ]
    for tick in xs:
        x = place((tick, ys[0]))[0]
        parts.append(_text(x, top + height + 18, _short(tick), anchor="middle", colour=GREY))
    parts.append(_text(left + width / 2, top + height + 36, axis, anchor="middle", colour=GREY))
    styles = dict(zip(lines, STYLES, strict=False))
    for name, line in lines.items():
        colour, dash = styles[name]
        parts.append(_polyline([place(point) for point in line], colour, dash))
    below = top + height + (56 if len(lines) > 2 else 44)  # room beside the title is for two names
    if len(lines) > 1:
        parts += _legend(left + width, styles, below if len(lines) > 2 else 16)
    label = f"{title} by {axis}; at the end " + ", ".join(
        f"{name} {_short(line[-1][1])}" for name, line in lines.items()
    )
    return _svg(left + width + 18, below + 12 * (len(lines) > 2), parts, label)


def _ticks(values: Sequence[float]) -> list[float]:
    """Return 3 to 7 round numbers of equal distance that enclose the values."""
    low, high = min(values), max(values)
    if low >= 0 and low < 0.5 * high:
        low = 0.0
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = (
            (low - 0.5, high + 0.5) if low == 0 else (low - abs(low) / 2, high + abs(high) / 2)
        )
    rough = (high - low) / 5
    power = 10.0 ** floor(log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _short(value: float) -> str:
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")


def _clip(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _extent(text: str) -> float:
    """Return about how wide 12 px text runs, generously."""
    return sum(12.5 if ord(letter) > 0x2E7F else 7.2 for letter in text)


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    colour: str = INK,
    weight: str = "normal",
    turn: int = 0,
    size: int = 12,
) -> str:
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}" font-weight="{weight}"{turned}>{escape(text)}</text>'
    )


def _stroke(start: Point, end: Point, colour: str = GRID, width: float = 1, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"{dashes}/>'
    )


def _polyline(points: Sequence[Point], colour: str, dash: str) -> str:
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="4" fill="{colour}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-linejoin="round"{dashes}/>'
    )


def _legend(right: float, key: Mapping[str, tuple[str, str]], y: float) -> list[str]:
    """Draw swatches with names, ending at `right`."""
    parts = []
    for name, (colour, dash) in reversed(list(key.items())):
        right -= _extent(name)
        parts.append(_text(right, y, name, colour=GREY))
        parts.append(_stroke((right - 26, y - 4), (right - 6, y - 4), colour, 3, dash))
        right -= 40
    return parts


def _cells(
    counts: NDArray[np.int64], classes: Sequence[str], margin: float, cell: float
) -> list[str]:
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    parts = []
    for i, j in zip(*np.nonzero(counts), strict=True):
        x, y = margin + j * cell, margin + i * cell
        colour, dark = _shade(shares[i, j], i == j)
        n = str(counts[i, j])
        hint = f"{classes[i]} taken for {classes[j]}: {n}" if i != j else f"{classes[i]}: {n} right"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
            f'fill="{colour}"><title>{escape(hint)}</title></rect>'
        )
        size = min(12, int(1.7 * cell / max(len(n), 2)))
        ink = "#ffffff" if dark else INK
        parts.append(_text(x + cell / 2, y + cell / 2 + 4, n, "middle", ink, size=size))
    return parts


def _shade(share: float, right: bool) -> tuple[str, bool]:
    """Return the colour of a share, and whether it wants white text; the root lifts the rare."""
    end = (0, 94, 150) if right else (190, 70, 0)
    depth = 0.08 + 0.92 * sqrt(share)
    mixed = [round(255 + (e - 255) * depth) for e in end]
    return "#{:02x}{:02x}{:02x}".format(*mixed), depth > 0.6


def _pixels(counts: NDArray[np.int64], margin: float, side: float) -> str:
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    depth = np.where(counts > 0, 0.08 + 0.92 * np.sqrt(shares), 0)[..., None]
    right = np.eye(len(counts), dtype=bool)[..., None]
    ends = np.where(right, (0, 94, 150), (190, 70, 0))
    page = np.rint(255 + (ends - 255) * depth).astype(np.uint8)
    return (
        f'<image x="{margin:.1f}" y="{margin:.1f}" width="{side:.1f}" height="{side:.1f}" '
        f'style="image-rendering: pixelated" href="{data_uri(png(page))}"/>'
    )


def _bar(
    b: Bin,
    accuracy: float,
    confidence: float,
    left: float,
    top: float,
    side: float,
    foot: float,
    most: int,
) -> list[str]:
    """Draw one bin: its accuracy, the gap to its confidence, and below how many it holds."""
    x, width = left + b.lower * side + 1, (b.upper - b.lower) * side - 2
    low, high = sorted((accuracy, confidence))
    tall = max(1.0, (foot - 14) * b.n / most)
    hint = f"{b.n} answers, {100 * confidence:.1f} % sure, {100 * accuracy:.1f} % right"
    base, level = top + side + foot + 14, top + side * (1 - accuracy)
    return [
        f"<g><title>{escape(hint)}</title>",
        _box(x, top + side * (1 - low), width, side * low, BLUE, 0.75),
        _box(x, top + side * (1 - high), width, side * (high - low), ORANGE, 0.35),
        _stroke((x, level), (x + width, level), BLUE, 3),
        _box(x, base - tall, width, tall, GREY, 0.6),
        _text(x + width / 2, base - tall - 3, _count(b.n), "middle", GREY, size=9),
        "</g>",
    ]


def _box(x: float, y: float, width: float, height: float, colour: str, opacity: float) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{colour}" fill-opacity="{opacity}"/>'
    )


def _count(n: int) -> str:
    return str(n) if n < 10_000 else f"{n / 1000:.0f}k"


def _svg(width: float, height: float, parts: Iterable[str], label: str, fixed: bool = False) -> str:
    size = f' width="{width:.0f}" height="{height:.0f}"' if fixed else ""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}"{size} role="img" '
        f'aria-label="{escape(label)}" font-family="{FONT}" font-size="12" '
        f'style="--width: {width:.0f}px">{"".join(parts)}</svg>'
    )
