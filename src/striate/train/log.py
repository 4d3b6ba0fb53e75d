"""What a run says: rows to events.jsonl and metrics.csv, lines or a progress bar to the terminal.

Talk goes to stderr; stdout is for data.
"""

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from striate.files import replacing

__all__ = ["Log", "console"]


Row = dict[str, float | None]  # of one epoch; None where nothing was measured


def console() -> Console:
    """Return the console that talk goes to."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class Log:
    """Write rows to a run folder and show progress; plain lines where stderr is no terminal.

    Args:
        folder: of the run.
        history: rows of epochs written before, when a run goes on; later ones are dropped.
        quiet: say nothing on the terminal.
    """

    def __init__(self, folder: Path, history: list[Row] | None = None, quiet: bool = False) -> None:
        self.folder, self.history, self.quiet = folder, list(history or []), quiet
        self.console = console()
        self.bar: Progress | None = None
        self.task = TaskID(0)
        if self.console.is_terminal and not quiet:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
        self._metrics()

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task("training", total=1.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, text: str) -> None:
        """Say one line."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def event(self, kind: str, **facts: Any) -> None:
        """Append a row to events.jsonl."""
        row = json.dumps({"event": kind, **facts})  # ASCII: a file name may be no valid text
        with open(self.folder / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(row + "\n")

    def step(self, progress: float, loss: float, accuracy: float | None) -> None:
        """Move the bar."""
        if self.bar:
            right = "" if accuracy is None else f"  validation {accuracy:.2%}"
            text = f"loss {loss:.3f}{right}"
            self.bar.update(self.task, completed=progress, description=text)

    def epoch(self, row: Row) -> None:
        """Keep the row of an epoch; say it."""
        self.history.append(row)
        self._metrics()
        self.event("epoch", **row)
        if not self.bar:
            accuracy = row.get("validation_accuracy")
            self.say(
                f"epoch {row['epoch']:.4g}  {row['seconds']:.1f} s  loss {row['loss']:.4f}"
                + ("" if accuracy is None else f"  validation {accuracy:.2%}")
            )

    def _metrics(self) -> None:
        """Write metrics.csv anew, all or nothing."""
        if not self.history:
            return
        with replacing(self.folder / "metrics.csv", newline="") as file:
            table = csv.DictWriter(file, list(self.history[0]))
            table.writeheader()
            table.writerows(self.history)
