"""Pieces of a report's page: figures, tables and numbers as HTML. All text is escaped here."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["Entry", "bullets", "cell", "digits", "ends", "figure", "percent", "plain", "table"]

Entry = Mapping[str, Any]  # a score as `--json` prints it: value, low, high, n, method


def figure(content: str, caption: str = "", kind: str = "") -> str:
    """Frame HTML content with a caption; `kind` is its CSS class."""
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="{kind}">{content}</div>{text}</figure>'


def table(caption: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    """Frame rows (HTML) with a caption and the heads of their columns."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in heads)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def bullets(lines: Sequence[str]) -> str:
    """List sentences."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def cell(entry: Entry | None, share: bool) -> str:
    """Write a score with its interval as a table cell, in % where it is a share."""
    if entry is None or entry["value"] is None:
        return '<td class="n">not defined</td>'
    if share:
        value = percent(entry["value"], digits(entry))
        return f'<td class="n">{value} <small>{ends(entry)}</small></td>'
    bounds = f"{entry['low']:.3f}–{entry['high']:.3f}"
    return f'<td class="n">{entry["value"]:.3f} <small>{bounds}</small></td>'


def digits(entry: Entry) -> int:
    """Return how many decimals of a percentage its interval lets one tell apart."""
    return 1 if entry["high"] - entry["low"] > 0.005 else 2


def ends(entry: Entry) -> str:
    """Write the interval of a share as "96.8–99.4", in %."""
    return f"{100 * entry['low']:.{digits(entry)}f}–{100 * entry['high']:.{digits(entry)}f}"


def percent(share: float, decimals: int = 1) -> str:
    """Write a share from 0 to 1 as "98.6 %", the space unbreakable."""
    return f"{100 * share:.{decimals}f}\u00a0%"


def plain(value: object) -> str:
    """Write a fact: numbers short and with thousands apart, all else as it is."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if type(value) is int else str(value)
