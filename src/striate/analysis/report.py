"""The page that a training leaves behind: how good the network is, and where it errs.

One HTML file that holds everything: no script, no network, no other file. The page's frame is
`report.html` beside this file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from math import floor
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.analysis import draw, pictures
from striate.analysis.calibration import Bin
from striate.analysis.mistakes import confusion_pairs
from striate.analysis.page import Entry, bullets, cell, digits, ends, figure, percent, plain, table
from striate.errors import UserError
from striate.files import replacing

__all__ = ["Mistake", "Report", "write_plots", "write_report"]

# key of a score: its name, whether it is a share, and how to read it
SCORES = {
    "accuracy": ("Accuracy", True, "share of right answers"),
    "top5_accuracy": ("Top-5 accuracy", True, "the true class is among the five likeliest"),
    "balanced_accuracy": ("Balanced accuracy", True, "mean recall; a rare class counts like any"),
    "macro_f1": ("Macro F1", True, "mean F1 of the classes"),
    "macro_precision": ("Macro precision", True, "mean precision of the classes"),
    "macro_recall": ("Macro recall", True, "mean recall of the classes"),
    "log_loss": ("Log loss", False, "−log of the true class's probability, nats; lower is better"),
    "brier": ("Brier score", False, "squared error of the probabilities, 0 to 2; lower is better"),
    "ece": (
        "Calibration error",
        True,
        "how far confidence is from accuracy (ECE); lower is better",
    ),
}
LISTED = 100  # most left-out files named on the page
SMALL = 64  # a picture up to this many pixels wide shows its pixels


@dataclass(frozen=True)
class Mistake:
    """One wrong answer to look at.

    Args:
        picture: PNG bytes, or None where there is nothing to see.
        name: of the sample.
        truth: true class.
        predicted: answered class.
        probability: given to the answer, 0 to 1.
    """

    picture: bytes | None
    name: str
    truth: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Report:
    """What the page shows. Whatever is empty is left out of it.

    `per_class`, `confusion`, `bins` and `mistakes` are of the test split, or of the validation
    split where there is no test split.

    Args:
        title: of the page.
        classes: K class names, in the order of `confusion`.
        scores: split name -> score name -> `Score.to_json()`.
        facts: name -> value of the run, e.g. data, model, parameters, seconds, device.
        history: rows with epoch, seconds, loss, validation_loss, validation_accuracy, lr.
        per_class: class -> precision, recall, f1 (each a `Score.to_json()`) and n.
        confusion: (K, K) counts, rows the true classes.
        bins: of `analysis.reliability`.
        mistakes: the worst first.
        filters: first layer's weights (K, C, *taps).
        skipped: what was left out: kind, path and detail each.
        warnings: one plain sentence each.
        temperature: by which the logits were divided.
        recipe: its TOML text.
    """

    title: str
    classes: Sequence[str]
    scores: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    per_class: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    confusion: NDArray[Any] | None = None
    bins: Sequence[Bin] = ()
    mistakes: Sequence[Mistake] = ()
    filters: NDArray[Any] | None = None
    skipped: Sequence[Mapping[str, str]] = ()
    warnings: Sequence[str] = ()
    temperature: float = 1.0
    recipe: str = ""

    @property
    def split(self) -> str:
        """The split that the page speaks of: test, else the first that was scored, else ''."""
        return "test" if "test" in self.scores else next(iter(self.scores), "")


def write_report(path: str | Path, report: Report) -> None:
    """Write the page, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    sections = {
        "Scores": _scores(report),
        "Training": "".join(figure(svg) for svg in draw.curves(report.history).values()),
        "Confusion matrix": _confusion(report),
        "Calibration": _calibration(report),
        "Classes": _classes(report),
        "Worst mistakes": _mistakes(report),
        "First-layer filters": _filters(report),
        "Left out": _skipped(report),
        "Run": _facts(report),
        "Recipe": f"<pre>{escape(report.recipe)}</pre>" if report.recipe else "",
    }
    if sections["Training"]:
        sections["Training"] = f'<div class="row">{sections["Training"]}</div>'
    shown = {title: body for title, body in sections.items() if body}
    anchors = {title: title.lower().replace(" ", "-") for title in shown}
    links = "".join(f'<a href="#{anchors[title]}">{title}</a>' for title in shown)
    frame = Template(files("striate.analysis").joinpath("report.html").read_text("utf-8"))
    page = frame.substitute(
        title=escape(report.title),
        lead=escape(_lead(report)),
        summary=bullets(_summary(report)),
        warnings="".join(f'<p class="warning">{escape(text)}</p>' for text in report.warnings),
        contents=f'<nav aria-label="Contents">{links}</nav>' if links else "",
        sections="\n".join(
            f'<section id="{anchors[title]}"><h2>{title}</h2>{body}</section>'
            for title, body in shown.items()
        ),
    )
    _write(Path(path), page.encode("utf-8", "backslashreplace"))


def write_plots(folder: str | Path, report: Report) -> None:
    """Write the page's pictures as files: loss.svg, confusion.svg, reliability.svg, filters.png...

    Raises:
        UserError: a file cannot be written.
    """
    charts = draw.curves(report.history)
    if report.confusion is not None:
        charts["confusion"] = draw.confusion(report.confusion, report.classes)
    if report.bins:
        charts["reliability"] = draw.reliability(report.bins)
    for name, svg in charts.items():
        _write(
            Path(folder) / f"{name}.svg", draw.standalone(svg).encode("utf-8", "backslashreplace")
        )
    if report.filters is not None:
        _write(Path(folder) / "filters.png", pictures.filters(report.filters))


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one instant, so that an older one stays until the new one is whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); make room or name another folder"
        ) from error


def _lead(report: Report) -> str:
    accuracy = report.scores.get(report.split, {}).get("accuracy")
    if accuracy is None or accuracy["value"] is None:
        return "No sample was scored."
    share = percent(accuracy["value"], digits(accuracy))
    return (
        f"{share} of {accuracy['n']:,} {report.split} samples right "
        f"(95\u00a0% interval {ends(accuracy)}\u00a0%)"
    )


def _summary(report: Report) -> list[str]:
    """Return the sentences that a reader needs before any chart."""
    lines = []
    counts = report.confusion
    if counts is not None and counts.sum():
        lines.append(_mix_up(counts, report.classes))
        support = counts.sum(1)
        most = int(support.argmax())
        share = percent(support[most] / support.sum())
        lines.append(
            f"To compare: always answering “{report.classes[most]}” would be right in {share}."
        )
    if report.scores and report.split != "test":
        lines.append(
            f"There was no test split: the {report.split} samples also set the temperature, "
            "so expect slightly less on new data."
        )
    if report.skipped:
        kinds = Counter(entry["kind"] for entry in report.skipped)
        named = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
        lines.append(f"Left out of the data: {named}.")
    else:
        lines.append("Nothing was left out of the data.")
    return lines


def _mix_up(counts: NDArray[Any], classes: Sequence[str]) -> str:
    pairs = confusion_pairs(counts, 1)
    if not pairs:
        return "Not one mistake."
    truth, guess, n = pairs[0]
    mistakes = int(counts.sum() - np.trace(counts))
    return (
        f"Most common mix-up: “{classes[truth]}” taken for “{classes[guess]}”, {n:,} of "
        f"{int(counts[truth].sum()):,} times ({n:,} of {mistakes:,} mistakes in all)."
    )


def _scores(report: Report) -> str:
    splits = list(report.scores)
    keys = list(dict.fromkeys(key for split in splits for key in report.scores[split]))
    rows = []
    for key in keys:
        name, share, meaning = SCORES.get(key, (key, False, ""))
        cells = "".join(cell(report.scores[split].get(key), share) for split in splits)
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th>{cells}<td>{escape(meaning)}</td></tr>'
        )
    if not rows:
        return ""
    heads = [
        f"{split.capitalize()} ({_samples(report.scores[split]):,} samples)" for split in splits
    ]
    how = {entry["method"] for split in splits for entry in report.scores[split].values()}
    caption = f"Value with its 95\u00a0% interval ({', '.join(sorted(how, reverse=True))})."
    return table(caption, ["Score", *heads, "How to read it"], rows)


def _samples(scores: Mapping[str, Entry]) -> int:
    return max((entry["n"] for entry in scores.values()), default=0)


def _confusion(report: Report) -> str:
    if report.confusion is None:
        return ""
    caption = "Each row is a true class, each column an answer; blue is right, orange wrong."
    rows = [
        f"{report.classes[i]} taken for {report.classes[j]}: {n:,}"
        for i, j, n in confusion_pairs(report.confusion, 10)
    ]
    svg = figure(draw.confusion(report.confusion, report.classes), caption, "scroll matrix")
    return svg + (f"<p>Most frequent mix-ups:</p>{bullets(rows)}" if rows else "")


def _calibration(report: Report) -> str:
    n = sum(b.n for b in report.bins)
    if not n:
        return ""
    sure = sum((b.confidence or 0) * b.n for b in report.bins) / n
    right = sum((b.accuracy or 0) * b.n for b in report.bins) / n
    accuracy = report.scores.get(report.split, {}).get("accuracy", {})
    low, high = accuracy.get("low", right), accuracy.get("high", right)
    if low is None or high is None or low <= sure <= high:
        verdict = (
            "no more apart than chance allows, so its probabilities can be taken at their word"
        )
    else:
        verdict = (
            "it is too sure of itself" if sure > right else "it is right more often than it claims"
        )
    text = (
        f"On average the network is {percent(sure)} sure of its answers and {percent(right)} of "
        f"them are right: {verdict}."
    )
    heat = (
        f"Its logits were divided by the temperature {report.temperature:.3g}, fitted on the "
        "validation split."
    )
    caption = "Grey: how many answers each bin holds. Bins with few answers say little."
    return f"<p>{escape(text)} {heat}</p>" + figure(draw.reliability(report.bins), caption)


def _classes(report: Report) -> str:
    if not report.per_class:
        return ""
    order = sorted(report.per_class.items(), key=lambda item: _value(item[1]["f1"], -1.0))
    lows = [_value(entry["recall"], 1.0, "low") for _, entry in order]
    least = floor(10 * min(lows)) / 10
    rows = []
    for name, entry in order:
        recall = entry["recall"]
        bar = ""
        if recall["value"] is not None:
            bar = draw.interval(recall["value"], recall["low"], recall["high"], least)
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="n">{entry["n"]:,}</td>'
            f"{cell(recall, True)}<td>{bar}</td>{cell(entry['precision'], True)}"
            f"{cell(entry['f1'], True)}</tr>"
        )
    caption = (
        f"Weakest first, {report.split} samples, each value with its 95\u00a0% interval (Wilson). "
        "Recall: the share of a class that was found. Precision: the share of such answers that "
        "was right. F1 joins both."
    )
    scale = f"Recall, {100 * least:.0f} to 100\u00a0%"
    return table(caption, ["Class", "Samples", "Recall", scale, "Precision", "F1"], rows)


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return ""
    tiles = "".join(_tile(mistake) for mistake in report.mistakes)
    text = "The wrong answers that gave the true class the least probability, the worst first."
    return f'<p>{text}</p><div class="errors">{tiles}</div>'


def _tile(mistake: Mistake) -> str:
    answer = f"{mistake.predicted} ({percent(mistake.probability)})"
    image = '<div class="none">no picture</div>'
    if mistake.picture is not None:
        small = int.from_bytes(mistake.picture[16:20]) <= SMALL  # width, in a PNG's header
        alt = escape(f"{mistake.name}: {mistake.truth} taken for {answer}")
        image = (
            f'<img src="{pictures.data_uri(mistake.picture)}" alt="{alt}" '
            f'class="{"pixels" if small else "photo"}">'
        )
    return (
        f"<figure>{image}<figcaption><b>{escape(mistake.truth)}</b> taken for "
        f'<b class="wrong">{escape(answer)}</b><br><small>{escape(mistake.name)}</small>'
        "</figcaption></figure>"
    )


def _filters(report: Report) -> str:
    if report.filters is None:
        return ""
    k, c, *taps = report.filters.shape
    text = f"{k} filters of {' × '.join(map(str, taps))} taps over {c} channel{'s' * (c != 1)}"
    uri = pictures.data_uri(pictures.filters(report.filters))
    image = f'<img class="pixels filters" src="{uri}" alt="{text}">'
    return figure(image, f"{text}, each on its own symmetric scale.")


def _skipped(report: Report) -> str:
    if not report.skipped:
        return ""
    rows = [
        f'<tr><th scope="row">{escape(entry["path"])}</th><td>{escape(entry["kind"])}</td>'
        f"<td>{escape(entry['detail'])}</td></tr>"
        for entry in report.skipped[:LISTED]
    ]
    more = len(report.skipped) - len(rows)
    caption = f"The first {LISTED}; {more:,} more are not listed." if more else "All of them."
    return table(caption, ["File or sample", "Kind", "Why"], rows)


def _facts(report: Report) -> str:
    rows = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(plain(value))}</dd>"
        for name, value in report.facts.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _value(entry: Entry, missing: float, key: str = "value") -> float:
    return missing if entry[key] is None else float(entry[key])
