"""A network as a picture: a block a stage, as tall as its maps, as wide as there are many."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from math import log2

from striate.analysis.draw import BLUE, FONT, GREY, INK, ORANGE
from striate.analysis.profiler import Layer, Profile

__all__ = ["Block", "blocks", "diagram"]

MOST = 16  # blocks drawn; of more, the middle is left out
TALL, GAP = 120.0, 18.0


@dataclass(frozen=True)
class Block:
    """Layers in a row that give maps of one shape.

    Args:
        kinds: of the layers, each once, in their order.
        shape: (C, *S) of what they give.
        parameters: of all of them.
        count: layers.
    """

    kinds: tuple[str, ...]
    shape: tuple[int, ...]
    parameters: int
    count: int


def blocks(layers: Iterable[Layer]) -> list[Block]:
    """Join layers in a row whose outputs have one shape."""
    joined: list[Block] = []
    for layer in layers:
        if joined and joined[-1].shape == layer.shape:
            last = joined[-1]
            kinds = last.kinds if layer.kind in last.kinds else (*last.kinds, layer.kind)
            more = last.parameters + layer.parameters
            joined[-1] = Block(kinds, layer.shape, more, last.count + 1)
        else:
            joined.append(Block((layer.kind,), layer.shape, layer.parameters, 1))
    return joined


def diagram(profile: Profile, shape: tuple[int, ...]) -> str:
    """Draw a profiled network as SVG, from the input on the left to the answer on the right.

    Heights and widths are logarithms of sides and numbers of maps. Blocks with parameters are
    blue, others grey; the input is orange.

    Args:
        shape: (C, *S) of the input.
    """
    found = [Block(("input",), shape, 0, 0), *blocks(profile.layers)]
    if len(found) > MOST:
        found = [*found[: MOST // 2], Block(("...",), (), 0, 0), *found[-(MOST // 2) :]]
    parts, x = [], 12.0
    for block in found:
        wide, tall = _extent(block.shape)
        column = max(wide, 74.0)
        left, top = x + (column - wide) / 2, 20 + (TALL - tall) / 2
        if block.shape:
            colour = ORANGE if not block.count else BLUE if block.parameters else GREY
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="3" '
                f'fill="{colour}" fill-opacity="0.75"/>'
            )
        for row, text in enumerate(_lines(block)):
            parts.append(
                _text(x + column / 2, TALL + 40 + 14 * row, text, INK if not row else GREY)
            )
        x += column + GAP
    label = f"{profile.model}: {profile.parameters:,} parameters, {len(profile.layers)} layers"
    return (
        f'<svg viewBox="0 0 {x:.0f} {TALL + 110:.0f}" width="{x:.0f}" role="img" '
        f'aria-label="{escape(label)}" font-family="{FONT}">{"".join(parts)}</svg>'
    )


def _extent(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return width and height of a block."""
    if not shape:
        return 10.0, 10.0
    wide = 6 + 5 * log2(1 + shape[0])
    if len(shape) == 1:  # units: a tall thin bar
        return 10.0, min(TALL, 12 + 11 * log2(1 + shape[0]))
    return wide, min(TALL, 8 + 13 * log2(1 + max(shape[1:])))


def _lines(block: Block) -> list[str]:
    if not block.shape:
        return list(block.kinds)
    rows = ["x".join(map(str, block.shape)), *block.kinds[:3]]
    if block.count > len(block.kinds):
        rows[1] += f" x{block.count}" if len(block.kinds) == 1 else ""
    return rows + ([f"{block.parameters:,}"] if block.parameters else [])


def _text(x: float, y: float, text: str, colour: str) -> str:
    short = text if len(text) <= 14 else text[:13] + "…"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="11" fill="{colour}">'
        f"{escape(short)}</text>"
    )
