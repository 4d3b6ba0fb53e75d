"""Answers of a bundle for files, folders and arrays, in input order."""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import cpu_count
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import torch

from striate.bundle import Bundle
from striate.bundle import load as load_bundle
from striate.data.prepare import normalise, prepare, prepare_file
from striate.data.readers import list_files, read
from striate.device import pick_device
from striate.errors import DataError
from striate.spec import Spec

__all__ = ["Model", "Prediction", "load", "predict_stream", "write_csv", "write_jsonl"]

Array = np.ndarray[Any, np.dtype[Any]]
Inputs = str | Path | Array | torch.Tensor | Sequence[str | Path | Array]


@dataclass(frozen=True)
class Prediction:
    """The answer for one input; either `label` or `error` is None.

    Args:
        path: the file as it was named; "a.npz:x#17" for row 17 of its array x, "#17" for the
            array at 17.
        label: the most probable class.
        probability: of `label`, 0 to 1, calibrated.
        probabilities: of every class, in the order of `Spec.classes`; empty after an error.
        error: why there is no answer.
    """

    path: str
    label: str | None
    probability: float | None
    probabilities: dict[str, float]
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the object that `striate predict` prints for this input."""
        return {
            "path": self.path,
            "class": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "error": self.error,
        }


@dataclass(frozen=True)
class Model:
    """A trained network that takes files and arrays as they are; `load` makes one."""

    bundle: Bundle
    device: torch.device

    @property
    def spec(self) -> Spec:
        """What one sample is."""
        return self.bundle.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the network's outputs."""
        return self.bundle.spec.classes

    @property
    def temperature(self) -> float:
        """What logits are divided by, so that probabilities are honest."""
        return self.bundle.temperature

    def probabilities(self, samples: Array) -> Array:
        """Return the probabilities of prepared samples.

        Two batches that hold the same sample answer alike up to the rounding of float32 sums,
        whose order torch chooses by batch size: about 1e-6.

        Shape: (N, C, *S) of `Spec.dtype` -> (N, K) float64
        Math:  softmax(logits / temperature), in float64
        """
        batch = torch.from_numpy(normalise(samples, self.spec)).to(self.device)
        if batch.dim() == 4:  # the layout of evaluation, so that sums round alike
            batch = batch.contiguous(memory_format=torch.channels_last)
        weight = next(self.bundle.model.parameters(), batch)
        with torch.inference_mode():
            logits = self.bundle.model(batch.to(weight.dtype)).cpu().double()
        answer: Array = (logits / self.temperature).softmax(1).cpu().numpy()
        return answer

    def predict(self, inputs: Inputs, batch: int = 64) -> list[Prediction]:
        """Return one answer an input, in input order; an unreadable file is a row with an error.

        Args:
            inputs: a file, a folder, or a sequence of them; or one sample (*S), (C, *S) or
                (*S, C); or a batch (N, C, *S), (N, *S, C) or, of the network's own size, (N, *S);
                or a sequence of samples. Floats are 0 (black) to 1 (white).
            batch: samples that the network sees at once.

        Raises:
            ValueError: an array can be read in two ways, or in none.
        """
        if isinstance(inputs, str | Path):
            return list(predict_stream(self, list_files([inputs], self.spec.kind), batch))
        if isinstance(inputs, torch.Tensor):
            inputs = inputs.detach().cpu().numpy()
        if isinstance(inputs, np.ndarray):
            samples = list(_samples(inputs, self.spec))
        elif any(isinstance(item, np.ndarray | torch.Tensor) for item in inputs):
            samples = [_sample(item, place, self.spec) for place, item in enumerate(inputs)]
        else:
            paths = list_files(cast(Sequence[str | Path], inputs), self.spec.kind)
            return list(predict_stream(self, paths, batch))
        _check_batch(batch)
        named = [(f"#{place}", prepare(sample, self.spec)) for place, sample in enumerate(samples)]
        return [
            row
            for start in range(0, len(named), batch)
            for row in _answers(self, named[start : start + batch])
        ]


def load(path: str | Path, device: str = "auto") -> Model:
    """Read a bundle, or the bundle of a run folder.

    Args:
        device: auto (the fastest that is there), cpu, cuda, cuda:1 or mps.

    Raises:
        BundleError: the bundle is missing, damaged or of another version.
        RecipeError: this machine has no such device.
    """
    place = pick_device(device)
    return Model(load_bundle(path, place), place)


def predict_stream(
    model: Model, paths: Iterable[str | Path], batch: int = 64
) -> Iterator[Prediction]:
    """Yield one answer a path, in order, while threads decode the next ones.

    At most two batches are in memory, however many paths there are; and the arrays of one NPZ,
    each row of which gets an answer.

    Args:
        paths: files; taken as they are needed.
        batch: samples that the network sees at once.
    """
    _check_batch(batch)
    todo = (source for path in paths for source in _sources(Path(path), model.spec))
    ahead: deque[tuple[str, Future[Array | str]]] = deque()
    with ThreadPoolExecutor(min(cpu_count() or 1, 16)) as pool:
        try:
            while True:
                for name, source in islice(todo, 2 * batch - len(ahead)):
                    ahead.append((name, pool.submit(_prepared, source, model.spec)))
                if not ahead:
                    return
                now = [ahead.popleft() for _ in range(min(batch, len(ahead)))]
                yield from _answers(model, [(path, sample.result()) for path, sample in now])
        finally:
            for _, sample in ahead:
                sample.cancel()


def write_csv(rows: Iterable[Prediction], file: TextIO, classes: Sequence[str]) -> None:
    """Write path, class, probability, one probability a class, and error: one line an answer.

    Args:
        file: opened with `newline=""` and, for names that are no UTF-8, "surrogateescape".
    """
    writer = csv.writer(file, lineterminator="\n")
    each = [f"probability:{name}" for name in classes]
    writer.writerow(["path", "class", "probability", *each, "error"])
    for row in rows:
        chances = [row.probabilities.get(name) for name in classes]
        writer.writerow([row.path, row.label, row.probability, *chances, row.error])


def write_jsonl(rows: Iterable[Prediction], file: TextIO) -> None:
    """Write one JSON object an answer, one a line."""
    for row in rows:
        file.write(json.dumps(row.to_json()) + "\n")


def _sources(path: Path, spec: Spec) -> Iterator[tuple[str, Path | Array | str]]:
    """Yield name and source of what a file holds: itself, every row of an NPZ, or why none."""
    if path.suffix.lower() != ".npz" or spec.kind in ("sound", "text"):
        yield str(path), path
        return
    try:
        samples = read(path, labelled=False, axes=spec.axes)
    except DataError as error:
        yield str(path), str(error)
        return
    assert samples.arrays is not None
    for name, row in zip(samples.names, samples.arrays, strict=True):
        yield f"{path}:{name}", row


def _prepared(source: Path | Array | str, spec: Spec) -> Array | str:
    """Return the sample, or why there is none."""
    if isinstance(source, str):
        return source
    try:
        return prepare_file(source, spec) if isinstance(source, Path) else prepare(source, spec)
    except (DataError, ValueError) as error:  # ValueError: its channels cannot become the spec's
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


def _answers(model: Model, inputs: Sequence[tuple[str, Array | str]]) -> Iterator[Prediction]:
    """Answer one batch; an input that is a text says why there is no sample."""
    samples = [sample for _, sample in inputs if not isinstance(sample, str)]
    rows = iter(model.probabilities(np.stack(samples)) if samples else ())
    for path, sample in inputs:
        yield _failed(path, sample) if isinstance(sample, str) else _row(model, path, next(rows))


def _row(model: Model, path: str, chances: Array) -> Prediction:
    if not np.isfinite(chances).all():
        return _failed(path, "the network's answer is not finite")
    best = int(chances.argmax())
    each = dict(zip(model.classes, chances.tolist(), strict=True))
    return Prediction(path, model.classes[best], float(chances[best]), each, None)


def _failed(path: str, error: str) -> Prediction:
    return Prediction(path, None, None, {}, error)


def _sample(item: Any, place: int, spec: Spec) -> Array:
    """Read one item of a sequence of arrays."""
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu().numpy()
    if not isinstance(item, np.ndarray):
        raise ValueError(f"inputs must be all files or all arrays; item {place} is {item!r:.80}")
    one = {way: array for way, array in _readings(item, spec).items() if "N" not in way}
    sample: Array = _only(one, item, spec)[0]
    return sample


def _samples(array: Array, spec: Spec) -> Array:
    """Find the axes of one sample or a batch: any of `_readings` -> (N, C, *S)."""
    return _only(_readings(array, spec), array, spec)


def _only(found: dict[str, Array], array: Array, spec: Spec) -> Array:
    """Return the one reading there is, its values checked."""
    if len(found) != 1:
        ways = " or ".join(found) or "no batch or sample"
        raise ValueError(
            f"inputs of shape {array.shape} can be read as {ways}; give (N, C, *S): the network "
            f"takes (N, {', '.join(map(str, spec.shape))}), and pictures are resized to that"
        )
    (samples,) = found.values()
    if samples.dtype.kind == "f":
        low, high = (samples.min(), samples.max()) if samples.size else (0, 0)
        whole = spec.dtype != "float32"
        if not np.isfinite([low, high]).all() or (whole and not 0 <= low <= high <= 1):
            raise ValueError(
                f"floats must lie within 0 (black) and 1 (white); got {low} to {high}; scale "
                "them, or give uint8 or uint16"
            )
        return samples.astype(np.float32)
    if samples.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"inputs must be uint8, uint16 or float; got {samples.dtype}")
    return samples


def _readings(array: Array, spec: Spec) -> dict[str, Array]:
    """Return every way to read an array as (N, C, *S); the network's own shape is the only one."""
    shape, channels = array.shape, {1, 3, 4, spec.channels}
    if shape == spec.shape:
        return {"(C, *S)": array[None]}
    if shape[1:] == spec.shape:
        return {"(N, C, *S)": array}
    if len(shape) == spec.axes:
        return {"(*S)": array[None, None]}
    found = {}
    if len(shape) == spec.axes + 1:
        if shape[0] in channels:
            found["(C, *S)"] = array[None]
        if shape[-1] in channels:
            found["(*S, C)"] = np.moveaxis(array, -1, 0)[None]
        if shape[1:] == spec.size and shape[0] != 1:
            found["(N, *S)"] = array[:, None]
    if len(shape) == spec.axes + 2:
        if shape[1] in channels:
            found["(N, C, *S)"] = array
        if shape[-1] in channels:
            found["(N, *S, C)"] = np.moveaxis(array, -1, 1)
    return found


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise ValueError(f"batch must be at least 1; got {batch}")
