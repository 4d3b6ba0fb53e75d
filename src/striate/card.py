"""The card of a network: what it was, its picture, its layers, what was published and reached."""

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import torch

from striate.analysis.diagram import diagram
from striate.analysis.draw import standalone
from striate.analysis.profiler import Profile, profile
from striate.models import CARDS, MODELS, build

__all__ = ["card", "reached", "write_card"]

REACHED = Path(__file__).parent / "models" / "reached.json"
SMALL = 100 * 100  # samples of an input whose receptive fields are measured in no time


def reached() -> dict[str, list[dict[str, Any]]]:
    """Return what was measured here: network -> records of `benchmarks/canon.py`."""
    found: dict[str, list[dict[str, Any]]] = json.loads(REACHED.read_text(encoding="utf-8"))
    return found


def card(name: str) -> tuple[str, str]:
    """Return the card of network `name` as Markdown, and its picture as an SVG file's text.

    Raises:
        RecipeError: there is no such network.
    """
    torch.manual_seed(0)
    net = build(name)
    facts = CARDS[name]
    size = torch.Size(facts.shape[1:]).numel()
    measured = profile(net, facts.shape, fields=size <= SMALL)
    shape = " x ".join(map(str, facts.shape))
    about = cleandoc(MODELS[name].__doc__ or "")
    lines = [
        f"# {name}",
        "",
        f"{facts.authors}, {facts.year}. Input {shape}; {facts.parameters:,} parameters, "
        f"{measured.connections:,} connections, {measured.macs:,} MACs a sample. "
        f"Learns by {facts.rule}.",
        "",
        *_paragraphs(about),
        "",
        f"![{name}]({name}.svg)",
        "",
        "## Layers",
        "",
        *_table(measured),
        "",
        "## Published and reached",
        "",
        f"Published: {facts.headline}.",
        "",
        *_reached(name),
    ]
    return "\n".join(lines).rstrip() + "\n", standalone(diagram(measured, facts.shape))


def write_card(name: str, folder: Path) -> Path:
    """Write `NAME.md` and `NAME.svg` into a folder; return the path of the page."""
    text, picture = card(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_text(picture, encoding="utf-8")
    page = folder / f"{name}.md"
    page.write_text(text, encoding="utf-8")
    return page


def _paragraphs(about: str) -> list[str]:
    """Return a builder's docstring, its sections as a list."""
    lines = []
    for line in about.splitlines():
        head, _, rest = line.partition(":")
        if head in ("Shape", "Math", "Source"):
            lines.append(f"- **{head}**:{rest}")
        elif head in ("Args", "Raises") and not rest:
            lines.append(f"- **{head}**:")
        elif line.startswith("    ") and lines and lines[-1].lstrip().startswith("-"):
            lines.append("  - " + line.strip() if ":" in line else "    " + line.strip())
        else:
            lines.append(line.strip())
    return lines


def _table(measured: Profile) -> list[str]:
    rows = ["| layer | kind | gives | parameters | connections | MACs | sees |"]
    rows.append("|---|---|---|---:|---:|---:|---:|")
    for layer in measured.layers:
        field = layer.receptive_field
        cells = [
            *(layer.name, layer.kind, "x".join(map(str, layer.shape))),
            *(f"{layer.parameters:,}", f"{layer.connections:,}", f"{layer.macs:,}"),
            "" if field is None else "x".join(map(str, field)),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _reached(name: str) -> list[str]:
    records = reached().get(name, [])
    if not records:
        return ["Nothing was measured here yet."]
    rows = [
        "| data | test, % (least to most) | seeds | floor, % | command |",
        "|---|---|---|---|---|",
    ]
    for one in records:
        spread = f"{one['mean']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
        floor = f"{one['floor']:.1f}" if one["floor"] else "-"
        rows.append(f"| {one['data']} | {spread} | {one['n']} | {floor} | `{one['command']}` |")
    return rows
