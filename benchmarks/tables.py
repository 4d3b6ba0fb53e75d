"""Put what contestants did into Markdown: centre, least and most, ratios, floors."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from contest import Contestant, Row, accuracy_of, views_of

__all__ = [
    "ACCURACY",
    "EPOCHS",
    "MEMORY",
    "RATE",
    "VIEWS",
    "WALL",
    "Column",
    "ratios",
    "table",
    "verdict",
]


@dataclass(frozen=True)
class Column:
    """One quantity of a table: its centre over the rounds, and in brackets least to most.

    Args:
        title: with the unit.
        value: row -> number; None leaves the cell empty.
        form: format of one number.
        centre: what stands before the bracket.
        scale: what numbers are multiplied with before they are shown.
    """

    title: str
    value: Callable[[Row], float | None]
    form: str = "{:.1f}"
    centre: Callable[[list[float]], float] = median
    scale: float = 1.0

    def values(self, rows: Iterable[Row]) -> list[float]:
        """Return the numbers of the rows that did not fail and have one."""
        known = (self.value(row) for row in rows if not row.error)
        return [value for value in known if value is not None]

    def cell(self, rows: Iterable[Row]) -> str:
        """Return the text of one cell."""
        values = [value * self.scale for value in self.values(rows)]
        if not values:
            return "-"
        show = self.form.format
        spread = f" ({show(min(values))}-{show(max(values))})" if len(values) > 1 else ""
        return show(self.centre(values)) + spread


WALL = Column("wall, s", lambda row: row.wall)
ACCURACY = Column("accuracy, %", accuracy_of, "{:.2f}", fmean, 100)
VIEWS = Column("over views, %", views_of, "{:.2f}", fmean, 100)
EPOCHS = Column("epochs", lambda row: row.result.get("epochs"), "{:.2f}")
RATE = Column("training images/s", lambda row: row.result.get("images_per_second"), "{:,.0f}")
MEMORY = Column("peak RSS, MB", lambda row: row.memory / 1e6, "{:.0f}")


def ratios(
    contestants: Sequence[Contestant],
    rows: Sequence[Row],
    column: Column = WALL,
    reference: str = "striate",
    more_is_better: bool = False,
) -> dict[str, str]:
    """Return name -> how many times better the reference is, by the medians.

    A peer that did not reach its target in every run is worse than its time says: "> ratio". One
    with another target than the reference is not compared.
    """
    values = {c.name: column.values(r for r in rows if r.name == c.name) for c in contestants}
    targets = {c.name: c.target for c in contestants}
    shown = {}
    for name, some in values.items():
        if not some or not values.get(reference) or targets[name] != targets[reference]:
            shown[name] = "-"
            continue
        ratio = median(some) / median(values[reference])
        ratio = 1 / ratio if more_is_better else ratio
        right = ACCURACY.values(r for r in rows if r.name == name)
        short = any(value < targets[name] for value in right)
        shown[name] = ("> " if short and name != reference else "") + f"{ratio:.2f}"
    return shown


def table(
    contestants: Sequence[Contestant],
    rows: Sequence[Row],
    columns: Sequence[Column] = (WALL, ACCURACY, MEMORY),
    compared: dict[str, str] | None = None,
    title: str = "ratio to Striate",
) -> str:
    """Return a Markdown table, one line a contestant that ran; what failed is said below.

    Args:
        compared: last column, by name, as `ratios` gives it; None leaves it out.
        title: of that column.
    """
    heads = ["contestant", "n", *[column.title for column in columns]]
    heads += ["target"] * any(c.target for c in contestants) + [title] * (compared is not None)
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for contestant in contestants:
        own = [row for row in rows if row.name == contestant.name]
        if not own:
            continue
        good = [row for row in own if not row.error]
        cells = [contestant.name, str(len(good)), *[column.cell(own) for column in columns]]
        if "target" in heads:
            cells.append(_reached(contestant, good))
        if compared is not None:
            cells.append(compared.get(contestant.name, "-"))
        lines.append(_line(cells))
    busy = [row.others for row in rows if row.others >= 0]
    if busy:
        lines += [
            "",
            f"Other processes kept {fmean(busy):.2f} cores busy (at most {max(busy):.2f}).",
        ]
    lines += [f"FAILED: {row.name}, seed {row.seed}: {row.error}" for row in rows if row.error]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _reached(contestant: Contestant, rows: Sequence[Row]) -> str:
    if not contestant.target:
        return "-"
    able = sum(value >= contestant.target for value in ACCURACY.values(rows))
    return f"{contestant.target:.1%} in {able} of {len(rows)}"


def verdict(rows: Sequence[Row], name: str, floor: float, seconds: float) -> str:
    """Return one line: is the mean accuracy at the floor, and the mean wall within the limit?"""
    own = [row for row in rows if row.name == name and not row.error]
    right = ACCURACY.values(own)
    if not right:
        return f"{name}: nothing was measured"
    accuracy, wall = fmean(right), fmean(row.wall for row in own)
    missed = [
        what for what, bad in (("accuracy", accuracy < floor), ("time", wall > seconds)) if bad
    ]
    judged = f"MISSED ({' and '.join(missed)})" if missed else "reached"
    return (
        f"{name}: mean accuracy {accuracy:.2%} (floor {floor:.1%}), mean wall {wall:.1f} s "
        f"(limit {seconds:g} s), n {len(right)}: {judged}"
    )
