"""Split: who trains, who calibrates, who scores; drawn once, written down and held to.

Equal pictures and the samples of one group never part in a split drawn here. Splits that the data
name are kept as they are; `audit` says what is wrong with them.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.audit import split_names
from striate.data.cache import Cache
from striate.data.draw import draw, units
from striate.data.hashes import SIZE, digest, file_hash
from striate.data.samples import Fault, Samples
from striate.errors import DataError
from striate.files import replacing

__all__ = ["SPLITS", "Split", "load_split", "make_split", "save_split", "trained_hashes", "unheld"]

SPLITS = ("train", "validation", "test")
VERSION = 1
NAMED = 5


@dataclass(frozen=True)
class Split:
    """Hold the rows of each split, sorted; unreadable samples are in none.

    Args:
        train: indices into `Samples`.
        validation: indices into `Samples`; may be empty.
        test: indices into `Samples`; may be empty.
        seed: that it was drawn with.
        shares: of validation and of test that were asked for.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    seed: int = 0
    shares: tuple[float, float] = (0.0, 0.0)

    def names(self, n: int) -> np.ndarray:
        """Return the split of each of n samples, "" where it is in none.

        Shape: (n,) of str
        """
        names = np.full(n, "", "U10")
        for split in SPLITS:
            names[getattr(self, split)] = split
        return names


def make_split(
    samples: Samples,
    cache: Cache,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    most_validation: int = 2000,
) -> Split:
    """Keep the splits that the data name, and draw by class what they do not.

    Validation is drawn from train where the data name none; test only where they name neither.
    A class keeps at least one sample in train; where it has one to spare, one goes to test, and
    where it has another, one to validation.

    Args:
        validation: share of what test leaves, 0 to below 1; 0 draws none.
        test: share of all, 0 to below 1; 0 draws none.
        seed: draws the same split whatever the order of the files.
        most_validation: samples that a drawn validation split may have.

    Raises:
        DataError: one class only, one sample a class, or a class without samples in train.
        ValueError: a share is out of range.
    """
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be a share from 0 to below 1; got {share}")
    usable = cache.good & (samples.labels >= 0)
    where = np.where(usable, split_names(samples), "").astype("U10")
    given = set(samples.splits.tolist()) & {"validation", "test"}
    _check_classes(samples, where)
    test, validation = 0 if given else test, 0 if "validation" in given else validation
    _check_counts(samples, where, test + validation > 0)
    # Rows of arrays lie in an order of their own; files are put in one.
    order = np.arange(len(samples))
    if samples.files is not None:
        order = np.array(sorted(range(len(samples)), key=samples.names.__getitem__))
    together = units(samples, cache)
    rng = np.random.Generator(np.random.PCG64(seed))
    for name, share, most in (
        ("test", test, len(order)),
        ("validation", validation, most_validation),
    ):
        rows = order[where[order] == "train"]
        if share:
            where[draw(rows, samples.labels[rows], together[rows], share, most, rng)] = name
    train, held, scored = (np.flatnonzero(where == name) for name in SPLITS)
    return Split(train, held, scored, seed, (validation, test))


def _check_classes(samples: Samples, where: np.ndarray) -> None:
    """Refuse what leaves some class without samples to learn from."""
    names = samples.classes
    if len(names) < 2:
        raise DataError(
            f"wanted at least 2 classes to tell apart; got {', '.join(map(repr, names)) or 'none'} "
            f"in {samples.root}: put the files of each class into a folder of its own"
        )
    there = {split: set(samples.labels[where == split].tolist()) for split in SPLITS}
    if not there["train"]:
        raise DataError(
            f"no sample of {samples.root} is left to train on: {np.sum(where == '')} cannot be "
            f"used, {np.sum(where != '')} are given to validation or test"
        )
    for split in ("test", "validation"):
        if alien := sorted(there[split] - there["train"]):
            raise DataError(
                f"{split} has classes that train lacks: {_listed([names[k] for k in alien])}; "
                "wanted the same class names in both: rename folders or labels, or add samples"
            )
    if lacking := sorted(set(range(len(names))) - there["train"]):
        raise DataError(
            f"classes without a readable sample: {_listed([names[k] for k in lacking])}; "
            "add files, or remove the class"
        )


def _check_counts(samples: Samples, where: np.ndarray, drawn: bool) -> None:
    """Refuse one sample a class, where some should be held out of them."""
    counts = np.bincount(samples.labels[where == "train"])
    if drawn and counts.max() < 2:
        raise DataError(
            f"every class of {samples.root} has one sample; wanted at least 2 a class to hold any "
            "out: add files, or set validation and test to 0"
        )


def _listed(names: Sequence[str]) -> str:
    """Quote the first names and count the rest."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(repr, names[:NAMED])) + more


def unheld(split: Split, samples: Samples, cache: Cache) -> list[Fault]:
    """Say of which classes no sample is held out to score them, why, and what to do."""
    held = split.test if len(split.test) else split.validation
    share = split.shares[1] if len(split.test) else max(split.shares)
    labels, together = samples.labels, units(samples, cache)
    causes: dict[str, list[str]] = {}
    for k in np.setdiff1d(labels[split.train], labels[held]).tolist():
        parts = together[split.train[labels[split.train] == k]]
        causes.setdefault(_cause(parts, share), []).append(samples.classes[k])
    return [
        Fault("not-held-out", "", f"no sample of {_listed(names)} will be scored: {why}")
        for why, names in causes.items()
    ]


def _cause(parts: np.ndarray, share: float) -> str:
    """Say why no sample of a class is held out, by the units of its training samples."""
    if not share:
        return "none was asked for, or the data's own split has none; set --test, or name some"
    if len(parts) == 1:
        return "a class keeps its only sample to learn from; add samples"
    if len(np.unique(parts)) == 1:
        return (
            "its samples are all of one group or of equal pictures, which never part; give it "
            "several groups, or other pictures"
        )
    return "it has too few samples for these shares; add samples, or raise --test"


def save_split(path: Path, split: Split, samples: Samples, cache: Cache) -> None:
    """Write the manifest: every sample's class, split, group, weight and hash, under one signature.

    Args:
        path: of the JSON file; what stood there stays until the new file is whole.

    Raises:
        DataError: the file cannot be written.
    """
    names = split.names(len(samples))
    document = {
        "version": VERSION,
        "data": samples.root.resolve().name,
        "seed": split.seed,
        "shares": dict(zip(("validation", "test"), split.shares, strict=True)),
        "classes": list(samples.classes),
        "counts": {name: len(getattr(split, name)) for name in SPLITS},
        **(_array_record(names, samples, cache) if samples.files is None else {}),
        "entries": [] if samples.files is None else _entries(names, samples, cache),
    }
    document["signature"] = _signature(document)
    try:
        with replacing(path) as file:
            file.write(json.dumps(document))
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}); name another folder"
        ) from error


def load_split(path: Path, samples: Samples, cache: Cache) -> Split:
    """Read a manifest and hold the data to it.

    Raises:
        DataError: the manifest is damaged, or the data are not those that it was written for; the
            text names up to 5 changed, 5 missing and 5 new files.
    """
    document = _read(path)
    if document["classes"] != list(samples.classes):
        raise DataError(
            f"{path} was written for the classes {_listed(document['classes'])}; "
            f"got {_listed(samples.classes)}: restore the data, or start a new run"
        )
    if samples.files is None:
        names = _array_splits(path, document, samples, cache)
    else:
        names = _file_splits(path, document["entries"], samples, cache)
    train, held, scored = (np.flatnonzero(names == name) for name in SPLITS)
    shares = document["shares"]
    return Split(train, held, scored, document["seed"], (shares["validation"], shares["test"]))


def trained_hashes(path: Path) -> set[str]:
    """Return the hashes of the files, or of the rows of arrays, that a manifest put into training.

    Raises:
        DataError: the manifest is damaged.
    """
    document = _read(path)
    rows = base64.b64decode(document.get("trained", "")).hex()
    found = {entry["hash"] for entry in document["entries"] if entry["split"] == "train"}
    return found | {rows[start : start + 2 * SIZE] for start in range(0, len(rows), 2 * SIZE)}


def _signature(document: dict[str, Any]) -> str:
    """Hash the document without its signature."""
    body = {key: value for key, value in document.items() if key != "signature"}
    return digest(json.dumps(body, sort_keys=True).encode()).hex()


def _read(path: Path) -> dict[str, Any]:
    """Return a manifest that is whole and of this version."""
    try:
        document = json.loads(path.read_text("ascii"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); start a new run") from error
    except ValueError as error:
        raise DataError(f"{path} is not a whole JSON file ({error}); start a new run") from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise DataError(f"{path} is of version {version}; wanted {VERSION}: start a new run")
    if document.get("signature") != _signature(document):
        raise DataError(f"{path} was changed after it was written; restore it, or start a new run")
    return document


def _entries(names: np.ndarray, samples: Samples, cache: Cache) -> list[dict[str, Any]]:
    """Return one record a file, by name: all that a training rests on."""
    classes = (*samples.classes, "")  # the label -1 of unlabelled files
    hashes = cache.hashes.astype(str).tolist()
    columns = {
        "path": samples.names,
        "class": [classes[label] for label in samples.labels.tolist()],
        "split": names.tolist(),
        "hash": hashes,
        **{name: values.tolist() for name, values in _columns(samples).items()},
    }
    rows = sorted(zip(*columns.values(), strict=True))
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _columns(samples: Samples) -> dict[str, np.ndarray]:
    """Return what a table says beside label and split, where it does."""
    given = {"group": samples.groups, "weight": samples.weights}
    return {name: values for name, values in given.items() if values is not None}


def _file_splits(
    path: Path, entries: list[dict[str, Any]], samples: Samples, cache: Cache
) -> np.ndarray:
    """Return each file's recorded split, if all are as recorded."""
    recorded = {entry["path"]: entry for entry in entries}
    present = set(samples.names)
    missing = [name for name in recorded if name not in present]
    new = [name for name in samples.names if name not in recorded]
    splits = np.array([recorded.get(name, {}).get("split", "") for name in samples.names], "U10")
    now = {entry["path"]: entry for entry in _entries(splits, samples, cache)}
    other = _contradicted(splits, samples) | ((splits != "") & ~cache.good)
    changed = [
        name
        for name, moved in zip(samples.names, other.tolist(), strict=True)
        if name in recorded and (moved or now[name] != recorded[name])
    ]
    if changed or missing or new:
        _refuse(path, samples, changed, missing, new)
    return splits


def _contradicted(splits: np.ndarray, samples: Samples) -> np.ndarray:
    """Return which samples the data themselves now give to another split."""
    given, result = split_names(samples), np.zeros(len(samples), bool)
    for name in ("validation", "test"):
        if (given == name).any():
            result |= (splits != "") & ((given == name) != (splits == name))
    return result


def _refuse(
    path: Path, samples: Samples, changed: list[str], missing: list[str], new: list[str]
) -> None:
    """Say which files do not match."""
    found = (("changed", changed), ("missing", missing), ("new", new))
    texts = [f"{len(some)} {what}: {_listed(some)}" for what, some in found if some]
    raise DataError(
        f"the data in {samples.root} no longer match {path} "
        f"({'; '.join(texts) or 'other rows, labels, groups or weights'}); "
        "restore them, or start a new run, which splits anew"
    )


def _array_record(names: np.ndarray, samples: Samples, cache: Cache) -> dict[str, Any]:
    """Return what stands for the entries of arrays: hashes, and one bit a row and split."""
    return {
        "sources": [{"path": p.name, "hash": file_hash(p).hex()} for p in samples.sources],
        "samples": len(samples),
        "rows": _rows_hash(samples, cache),
        "trained": _packed(cache.hashes[names == "train"]),
        "splits": {
            split: base64.b64encode(np.packbits(names == split).tobytes()).decode()
            for split in SPLITS
        },
    }


def _packed(hashes: np.ndarray) -> str:
    """Return hexadecimal hashes in two thirds of their length, for JSON."""
    digits = "".join(hashes.astype(str).tolist())
    return base64.b64encode(bytes.fromhex(digits)).decode()


def _rows_hash(samples: Samples, cache: Cache) -> str:
    """Hash all rows, labels and given splits in order, and groups and weights where there are."""
    given = "\n".join(samples.splits.tolist()).encode()
    more = [json.dumps([name, v.tolist()]).encode() for name, v in _columns(samples).items()]
    return digest(cache.hashes.tobytes(), samples.labels.astype("<i8"), given, *more).hex()


def _array_splits(
    path: Path, document: dict[str, Any], samples: Samples, cache: Cache
) -> np.ndarray:
    """Return each row's recorded split, if all rows are as recorded."""
    if document.get("rows") != _rows_hash(samples, cache):
        before = {source["path"]: source["hash"] for source in document.get("sources", [])}
        now = {p.name: file_hash(p).hex() for p in samples.sources}
        changed = [name for name in now if name in before and before[name] != now[name]]
        missing = [name for name in before if name not in now]
        _refuse(path, samples, changed, missing, [name for name in now if name not in before])
    names = np.full(len(samples), "", "U10")
    for split, bits in document["splits"].items():
        packed = np.frombuffer(base64.b64decode(bits), np.uint8)
        names[np.unpackbits(packed, count=len(samples)).astype(bool)] = split
    return names
