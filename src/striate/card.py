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
_SURE = "layers and counts certain"
_MEMORY = "layers and counts certain, the result from memory"
_LINE = "the line of layers from memory, the count follows from it"
_THRESHOLDS = "rules certain, sizes and thresholds from memory or reconstructed"
# What is certain, from memory or reconstructed, where the builder's docstring marks nothing.
MARKS = {
    "fastnet": "a network of our own: certain",
    "homma1987": "rules certain, sizes reconstructed",
    "emg1988": "task certain, algorithm and sizes reconstructed",
    "lenet5": _SURE,
    "pyramid_fillin": "layers of 28, 14, 7 and 1 certain, maps of the second reconstructed",
    **dict.fromkeys(("neocognitron1988", "neocognitron2003"), _THRESHOLDS),
    "add_if_silent": "rules certain, sizes and thresholds reconstructed",
    "committee": "columns and widths certain, how a width is drawn reconstructed",
    "ciresan_cifar": _LINE,
    "ciresan_gtsrb": _LINE,
    "ciresan_hwdb": _LINE,
    "ciresan_norb": "line of layers reconstructed",
    "alexnet_ungrouped": "layers and counts certain; no result was published",
    "textcnn": "windows and maps certain; the vocabulary is that of the data",
    "unet": "a variant of our own on the paper's levels and widths: batch norm, maps that keep "
    "their size, sides of 256; its count is not the paper's",
    "spatial_transformer": "the warp certain, error figures from memory, sizes reconstructed",
    "capsnet": _MEMORY,
    "chaos_medium": _LINE,
    "chaos_large": _LINE,
    "eegnet": _SURE,
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), _MEMORY),
    **dict.fromkeys(("resnet20", "resnet56", "resnet110"), _MEMORY),
}
# Whose published figure nobody looked up again.
RECALLED = {
    *("ciresan_mlp", "simard2003", "alexnet", "deepface", "googlenet", "spatial_transformer"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnet20", "resnet56", "resnet110", "capsnet"),
}
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
        *([f"- **Certain or not**: {MARKS[name]}"] if name in MARKS else []),
        "",
        f"![{name}]({name}.svg)",
        "",
        "## Layers",
        "",
        *_table(measured),
        "",
        "## Published and reached",
        "",
        f"Published: {facts.headline}{' [from memory]' * (name in RECALLED)}.",
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
    lines, listed = [], False
    for line in about.splitlines():
        head, _, rest = line.partition(":")
        if head in ("Shape", "Math", "Source", "Args", "Raises"):
            listed = head in ("Args", "Raises")
            lines.append(f"- **{head}**:{rest}")
        elif listed and line.startswith("    "):
            more = line.startswith("     ")  # of the argument or error above
            lines.append(f"    {line.strip()}" if more else f"  - {line.strip()}")
        elif lines and lines[-1].startswith(("- ", "  ")) and line.strip():
            lines.append("  " + line.strip())
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
    rows = ["| what | mean (least to most) | seeds | wanted | command |", "|---|---|---|---|---|"]
    for one in records:
        spread = f"{one['mean']} ({one['low']} to {one['high']})"
        rows.append(
            f"| {one['what']} | {spread} | {one['n']} | {one['wanted']} | `{one['command']}` |"
        )
    return rows
