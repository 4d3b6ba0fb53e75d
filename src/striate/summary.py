"""What the numbers of a run are turned into: scores, predictions.csv, report.html and plots."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from striate.analysis import Mistake, Report, reliability, worst, write_plots, write_report
from striate.analysis.pictures import picture
from striate.data.material import Material
from striate.files import replacing
from striate.layers import Convolution
from striate.recipe import Recipe
from striate.train.metrics import confusion_matrix, per_class, score

__all__ = ["Answers", "first_filters", "write_summary"]

WORST = 24


@dataclass(frozen=True)
class Answers:
    """The network's answers to one split.

    Args:
        index: (n,) rows of the samples.
        probabilities: (n, K), calibrated.
        labels: (n,) true classes.
    """

    index: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """(n,) most probable class."""
        return self.probabilities.argmax(1)

    def scores(self, classes: Sequence[str], seed: int = 0) -> dict[str, Any]:
        """Return every score with its interval, as `--json` prints it."""
        found = score(self.probabilities, self.labels, classes, seed)
        return {name: value.to_json() for name, value in found.items()}

    def confusion(self, classes: Sequence[str]) -> np.ndarray:
        """Return (K, K) counts, rows the true classes."""
        return confusion_matrix(self.labels, self.predicted, len(classes))

    def per_class(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return precision, recall and F1 of each class, as `--json` prints them."""
        table = per_class(self.confusion(classes), classes)
        return {
            name: {key: value if key == "n" else value.to_json() for key, value in row.items()}
            for name, row in table.items()
        }


def first_filters(model: nn.Module) -> np.ndarray | None:
    """Return the weights (K, C, *taps) of the first convolution, where there is one."""
    for module in model.modules():
        found = None
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            found = module.weight
        elif isinstance(module, Convolution):
            found = module.kernels()
        if found is not None:
            weights: np.ndarray = found.detach().float().cpu().numpy()
            return weights
    return None


def write_summary(
    folder: Path,
    material: Material,
    recipe: Recipe,
    result: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Answers],
    filters: np.ndarray | None,
    temperature: float,
) -> None:
    """Write predictions.csv, report.html and plots/ into a run folder."""
    classes = material.spec.classes
    _predictions(folder / "predictions.csv", material, answers)
    shown = answers.get("test") or answers.get("validation")
    left_out = [*material.cache.faults, *material.samples.skipped]
    report = Report(
        title=f"{result['model']} on {material.samples.root.name or result['run']}",
        classes=classes,
        scores=result["scores"],
        facts=_facts(material, result),
        history=history,
        per_class=shown.per_class(classes) if shown else {},
        confusion=shown.confusion(classes) if shown else None,
        bins=reliability(shown.probabilities, shown.labels) if shown else (),
        mistakes=_mistakes(material, shown) if shown else (),
        filters=filters,
        skipped=[{"kind": f.kind, "path": f.path, "detail": f.detail} for f in left_out],
        warnings=_warnings(material),
        temperature=temperature,
        recipe=recipe.toml(),
    )
    write_report(folder / "report.html", report)
    write_plots(folder / "plots", report)


def _facts(material: Material, result: Mapping[str, Any]) -> dict[str, object]:
    split = material.split
    return {
        "Network": f"{result['model']}, {result['parameters']:,} parameters",
        "Sample": " x ".join(str(v) for v in material.spec.shape),
        "Samples": f"{len(split.train):,} training, {len(split.validation):,} validation, "
        f"{len(split.test):,} test",
        "Wall clock": f"{result['seconds']:.1f} s",
        "Epochs": f"{result['epochs']:.4g}",
        "Speed": f"{result['images_per_second']:,.0f} training samples a second",
        "Device": result["device"],
        "Bundle": result["bundle"],
    }


def _warnings(material: Material) -> list[str]:
    """What the audit found, the faults first, one sentence each; bounded for the page."""
    found = [*material.audit.faults, *material.audit.warnings]
    found = [fault for fault in found if fault.kind not in ("unreadable", "skipped")]
    parts = [[fault.kind, fault.path, fault.detail] for fault in found[:20]]
    said = [": ".join(filter(None, words)) for words in parts]  # some are of no single file
    if len(found) > 20:
        said.append(f"{len(found) - 20} more; `striate check` names them all")
    return said


def _mistakes(material: Material, answers: Answers) -> list[Mistake]:
    classes = material.spec.classes
    wrong = worst(answers.probabilities, answers.labels, WORST)
    return [
        Mistake(
            picture(np.asarray(material.cache.x[answers.index[i]])),
            material.samples.names[answers.index[i]],
            classes[answers.labels[i]],
            classes[answers.predicted[i]],
            float(answers.probabilities[i].max()),
        )
        for i in wrong
    ]


def _predictions(path: Path, material: Material, answers: Mapping[str, Answers]) -> None:
    """One row a held-out sample: what it is, what was answered, how sure."""
    classes = material.spec.classes
    with replacing(path, newline="", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["path", "split", "label", "class", "probability"])
        for split, held in answers.items():
            sure = held.probabilities.max(1)
            for row, true, guess, p in zip(
                held.index, held.labels, held.predicted, sure, strict=True
            ):
                names = material.samples.names[row], split, classes[true], classes[guess]
                table.writerow([*names, f"{p:.6f}"])
