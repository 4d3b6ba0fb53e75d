"""What the commands print for people: audits, results, scores, networks."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

__all__ = [
    "show_audit",
    "show_cards",
    "show_json",
    "show_lesson",
    "show_result",
    "show_scores",
]


def show_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value))


def show_audit(data: str, found: Any, most: int = 20) -> None:
    """Print an audit; at most `most` lines of a kind."""
    print(f"{data}: {found.samples} samples, {len(found.classes)} classes")
    for name, count in list(found.classes.items())[:most]:
        print(f"  {count:8d}  {name}")
    for title, items in (("fault", found.faults), ("warning", found.warnings)):
        for kind, count in Counter(item.kind for item in items).items():
            print(f"{title}: {count} x {kind}")
            for item in [item for item in items if item.kind == kind][:most]:
                print(f"  {item.path}: {item.detail}" if item.path else f"  {item.detail}")
            if count > most:
                print(f"  ... and {count - most} more; --json lists them all")
    if found.skipped:
        more = ", ..." if len(found.skipped) > 5 else ""
        print(
            f"skipped: {len(found.skipped)} ({', '.join(f.path for f in found.skipped[:5])}{more})"
        )
    print("no faults" if not found.faults else f"{len(found.faults)} faults")


def show_result(result: dict[str, Any]) -> None:
    """Print what a training ended with."""
    split = "test" if "test" in result["scores"] else "validation"
    for name, how in ((split, ""), (f"{split}_views", ", averaged over views")):
        if name in result["scores"]:
            right = result["scores"][name]["accuracy"]
            print(
                f"{right['value']:.2%} of {right['n']} {split} samples right{how} "
                f"(95 % interval {right['low']:.2%} to {right['high']:.2%})"
            )
    print(
        f"{result['model']}, {result['parameters']:,} parameters, "
        f"{_counted(result['epochs'], 'epoch')}, "
        f"{result['seconds']:.1f} s on {result['device']}"
    )
    print(f"report   {result['run']}/report.html")
    print(f"bundle   {result['bundle']}")
    print(f"predict  striate predict {result['bundle']} FILES")


def _counted(count: float, thing: str) -> str:
    return f"{count:g} {thing}{'' if count == 1 else 's'}"


def show_scores(result: dict[str, Any]) -> None:
    """Print every score with its interval."""
    part = "" if result["split"] == "all" else f" of {result['split']}"
    print(f"{result['data']}: {_counted(result['n'], 'sample')}{part}")
    for name, score in result["scores"].items():
        print(f"  {name:18} {_shown(score)}   ({score['method']})")
    for name, row in result["per_class"].items():
        print(f"{name}: {_counted(row['n'], 'sample')}")
        for key in ("precision", "recall", "f1"):
            print(f"  {key:18} {_shown(row[key])}   ({row[key]['method']})")


def _shown(score: dict[str, Any]) -> str:
    value, low, high = (
        "undefined" if score[key] is None else f"{score[key]:.4f}"
        for key in ("value", "low", "high")
    )
    return f"{value:>9}   95 % {low} to {high}"


def show_cards(cards: list[dict[str, Any]]) -> None:
    """Print a line a network."""
    wide = max(len(card["name"]) for card in cards)
    for card in cards:
        shape = "x".join(str(v) for v in card["input"])
        print(
            f"{card['name']:{wide}} {card['year']}  {card['parameters']:>11,}  {shape:>10}  "
            f"{card['authors']}: {card['headline']}"
        )


def show_lesson(lesson: Any, picture: Path) -> None:
    """Print what a lesson showed."""
    print(lesson.title)
    print(fill(lesson.text, 100))
    _show_numbers(lesson.numbers, "  ")
    print(f"picture  {picture}")


def _show_numbers(numbers: Mapping[str, Any], indent: str) -> None:
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            print(f"{indent}{name}")
            _show_numbers(value, indent + "  ")
        else:
            shown = ", ".join(str(item) for item in value) if isinstance(value, list) else value
            print(f"{indent}{name}: {shown}")
