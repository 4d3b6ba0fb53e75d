"""Score a bundle on labelled data: what `striate evaluate` does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from striate.analysis.calibration import softmax
from striate.bundle import load
from striate.data.audit import inventory
from striate.data.cache import Cache, open_cache
from striate.data.loader import Loader
from striate.data.readers import read
from striate.data.samples import Samples
from striate.data.split import trained_hashes
from striate.device import pick_device
from striate.errors import DataError
from striate.spec import Spec
from striate.summary import Answers
from striate.train.evaluate import predict
from striate.train.machine import set_threads

__all__ = ["evaluate"]


def evaluate(
    bundle: str | Path,
    data: str | Path,
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Return what `evaluate --json` prints: every score with its 95 % interval.

    The data's test split is scored; without one its validation split; without any split all of
    it. Classes are matched by name with the bundle's. Unreadable files are left out and counted;
    so are, as `trained_on`, the samples that the run of the bundle trained on.

    Args:
        bundle: a bundle, or a run folder that holds one.
        data: what `data.readers.read` reads.
        device: where the network runs.
        progress: called with (done, total) while files are decoded.

    Raises:
        BundleError: the bundle is missing, damaged or of another version.
        DataError: the data cannot be read, have a class that the network does not know, or are
            whole numbers where it knows floats of a unit that is not white.
    """
    place = pick_device(device)
    set_threads(0)
    loaded = load(bundle, place)
    samples = read(data, axes=loaded.spec.axes)
    split = next((s for s in ("test", "validation") if s in samples.splits), "all")
    if split != "all":
        samples = samples.subset(samples.splits == split)
    labels = _as_named(samples, loaded.spec.classes)
    cache = open_cache(samples, loaded.spec, progress=progress)
    _refuse_other_units(data, loaded.spec, cache)
    index = np.flatnonzero(cache.good)
    if not len(index):
        why = f": {cache.faults[0].detail}" if cache.faults else ""
        raise DataError(f"none of the {len(samples)} samples of {data} can be read{why}")
    loader = Loader(cache.x, labels, loaded.spec, index=index, batch=250, device=place)
    logits, truth = predict(loaded.model, loader)
    answers = Answers(index, softmax(logits, loaded.temperature), truth)
    classes = loaded.spec.classes
    return {
        "bundle": str(bundle),
        "data": str(data),
        "split": split,
        "n": len(index),
        "skipped": [{"path": f.path, "detail": f.detail} for f in cache.faults],
        "scores": answers.scores(classes),
        "per_class": answers.per_class(classes),
        "confusion": answers.confusion(classes).tolist(),
        "trained_on": _trained_on(Path(bundle), cache.hashes[index].astype(str)),
    }


def _refuse_other_units(data: str | Path, spec: Spec, cache: Cache) -> None:
    """Refuse pictures where the network knows floats that are none."""
    for mode in inventory(cache)["dtypes"] if spec.kind not in ("sound", "text") else ():
        try:
            spec.check_unit(mode)
        except ValueError as error:
            raise DataError(f"{data}: {error}") from error


def _trained_on(bundle: Path, hashes: np.ndarray) -> int:
    """Count the scored samples that the network was trained on, where its run tells."""
    for folder in (bundle, bundle.parent):
        if (folder / "split.json").is_file():
            return int(np.isin(hashes, sorted(trained_hashes(folder / "split.json"))).sum())
    return 0


def _as_named(samples: Samples, classes: tuple[str, ...]) -> np.ndarray:
    """Translate the data's labels into the network's, by class name."""
    unknown = [name for name in samples.classes if name not in classes]
    used = {samples.classes[k] for k in np.unique(samples.labels)}
    unknown = [name for name in unknown if name in used]
    if unknown:
        raise DataError(
            f"the network knows the classes {', '.join(classes)}; the data also have "
            f"{', '.join(unknown)}; rename or leave out those samples"
        )
    place = {name: k for k, name in enumerate(classes)}
    table = np.array([place.get(name, -1) for name in samples.classes])
    return table[samples.labels]
