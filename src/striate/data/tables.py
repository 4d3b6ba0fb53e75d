"""Tables -> Samples: CSV, TSV and Parquet with one row a file."""

import csv
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.kinds import kind_of
from striate.data.samples import SPLITS, Fault, Samples, class_order, need_two_classes
from striate.errors import DataError, suggest
from striate.files import read_regular

__all__ = ["TABLES", "read_table"]

# Endings of the files that are tables.
TABLES = (".csv", ".tsv", ".parquet")

# Column -> what else it may be called.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("file_name", "filename", "image"),
    "label": ("class", "category", "target"),
    "split": (),
    "group": (),
    "weight": (),
}


@dataclass(frozen=True)
class _Row:
    """Hold one row: its line in the file (or number), and the cells by column."""

    line: int
    cells: dict[str, str]

    @property
    def name(self) -> str:
        """The path as the sample is called."""
        return Path(os.path.normpath(self.cells["path"].replace("\\", "/"))).as_posix()


def read_table(path: Path, labelled: bool = True) -> Samples:
    """Read a table of files: path, label and, where there, split, group and weight.

    Paths are relative to the table's folder. A file that is missing stays in, for whoever decodes
    it to name; a row that repeats another is left out. A CSV is UTF-8, parted by comma, semicolon
    or tab. Parquet needs pyarrow.

    Raises:
        DataError: unknown or missing columns, rows without path or label, one file with two
            labels, an unknown split, a weight that is not above 0, or no file at all.
    """
    header, lines = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    columns = _named_columns(path, header, labelled)
    rows = [
        _Row(line, {name: cells[place].strip() for name, place in columns.items()})
        for line, cells in lines
    ]
    if not rows:
        raise DataError(f"{path}: wanted one row a file; got no rows")
    _refuse(path, rows, "the path is empty", lambda row: not row.cells["path"])
    if labelled:
        missing = ("", "nan")
        _refuse(
            path, rows, "the label is missing", lambda row: row.cells["label"].lower() in missing
        )
    rows, skipped = _different(path, rows, labelled)
    return _samples(path, rows, skipped, labelled)


def _samples(path: Path, rows: list[_Row], skipped: list[Fault], labelled: bool) -> Samples:
    classes: tuple[str, ...] = ()
    labels = np.full(len(rows), -1, np.int64)
    if labelled:
        classes = class_order(row.cells["label"] for row in rows)
        need_two_classes(path, classes)
        index = {name: place for place, name in enumerate(classes)}
        labels = np.array([index[row.cells["label"]] for row in rows], np.int64)
    folder = Path(os.path.abspath(path.parent))
    files = tuple(folder / row.name for row in rows)
    if not any(file.exists() for file in files):
        raise DataError(
            f"{path}: none of its {len(rows)} files exists; looked for {rows[0].name} and so on "
            f"relative to {folder}"
        )
    present = rows[0].cells
    return Samples(
        root=path,
        kind=kind_of(files),
        names=tuple(row.name for row in rows),
        classes=classes,
        labels=labels,
        splits=np.array(_splits(path, rows), "U10"),
        files=files,
        groups=np.array([row.cells["group"] for row in rows]) if "group" in present else None,
        weights=_weights(path, rows) if "weight" in present else None,
        skipped=tuple(skipped),
    )


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and line number and cells of each row that is not blank."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: wanted UTF-8; byte {error.start} is none: save as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)  # the comma, where there is none
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error
    if not rows:
        raise DataError(f"{path}: wanted a header with path and label; got an empty file")
    header = [cell.strip() for cell in rows[0][1]]
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{path}: line {line}: wanted {len(header)} cells, as in the header; "
                f"got {len(cells)}"
            )
    return header, rows[1:]


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the column names, and number and cells of each row."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(
            f"{path}: reading Parquet wants pyarrow: pip install 'striate[tables]'"
        ) from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: is not a whole Parquet file: {error}") from error
    columns = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    return list(table.column_names), list(enumerate(rows, 1))


def _cell(value: Any) -> str:
    """Return a value as a CSV would have it; 3.0 is the label 3, as a missing one makes floats."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _named_columns(path: Path, header: list[str], labelled: bool) -> dict[str, int]:
    """Return the place of each column that is there, under our name for it."""
    ours = {other: name for name, others in _COLUMNS.items() for other in (name, *others)}
    unknown = [name for name in header if name.lower() not in ours]
    if unknown:
        accepted = ", ".join(
            f"{name} (or {', '.join(others)})" if others else name
            for name, others in _COLUMNS.items()
        )
        hint = (
            "" if all(unknown) else "; a column without a name is often pandas' index: index=False"
        )
        raise DataError(f"{path}: unknown columns {unknown}; accepted are {accepted}{hint}")
    columns: dict[str, int] = {}
    for place, name in enumerate(header):
        if ours[name.lower()] in columns:
            twice = header[columns[ours[name.lower()]]]
            raise DataError(f"{path}: the columns {twice!r} and {name!r} say the same; keep one")
        columns[ours[name.lower()]] = place
    wanted = ("path", "label") if labelled else ("path",)
    if missing := [name for name in wanted if name not in columns]:
        raise DataError(f"{path}: wanted the columns {' and '.join(missing)}; got {header}")
    return columns


def _refuse(path: Path, rows: Sequence[_Row], what: str, bad: Callable[[_Row], bool]) -> None:
    """Raise if any row is bad, naming up to five of them."""
    lines = [row.line for row in rows if bad(row)]
    if lines:
        more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
        word = "rows" if path.suffix.lower() == ".parquet" else "lines"
        raise DataError(f"{path}: {what} in {word} {', '.join(map(str, lines[:5]))}{more}")


def _different(path: Path, rows: list[_Row], labelled: bool) -> tuple[list[_Row], list[Fault]]:
    """Return the rows without those that name a file again, and what was left out."""
    first: dict[str, _Row] = {}
    skipped = []
    for row in rows:
        before = first.setdefault(row.name, row)
        if before is row:
            continue
        told = before.cells.get("label"), row.cells.get("label")
        if labelled and told[0] != told[1]:
            raise DataError(
                f"{path}: {row.name} has the label {told[0]!r} in line {before.line} and "
                f"{told[1]!r} in line {row.line}; wanted one label a file"
            )
        skipped.append(
            Fault(
                "skipped", row.name, f"line {row.line} names the file of line {before.line} again"
            )
        )
    return list(first.values()), skipped


def _splits(path: Path, rows: Sequence[_Row]) -> list[str]:
    known = {"": "", **SPLITS}
    words = [row.cells.get("split", "").lower() for row in rows]
    for row, word in zip(rows, words, strict=True):
        if word not in known:
            hint = suggest(word, SPLITS)
            raise DataError(f"{path}: line {row.line}: no split is called {word!r}; {hint}")
    return [known[word] for word in words]


def _weights(path: Path, rows: Sequence[_Row]) -> np.ndarray:
    values = [_number(row.cells["weight"]) for row in rows]
    what = "the weight is not a finite number above 0"
    _refuse(path, rows, what, lambda row: not 0 < _number(row.cells["weight"]) < math.inf)
    return np.array(values, np.float64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
