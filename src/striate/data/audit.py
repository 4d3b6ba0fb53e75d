"""Audit: everything that can be known to be wrong before the first training step."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from striate.data.cache import Cache
from striate.data.samples import Fault, Samples, merged

__all__ = [
    "FEW",
    "KINDS",
    "UNBALANCED",
    "Audit",
    "audit",
    "inventory",
    "same_pictures",
    "split_names",
]

# kind -> what it means; faults first, then warnings.
KINDS = {
    "unreadable": "a file cannot be decoded; it is left out of every split",
    "empty-class": "a class has no readable sample",
    "one-sample": "a class has one readable sample, so none can be held out",
    "class-missing": "a class is in one split but not in another",
    "duplicate": "a picture of the same class is twice in one split (same bytes or same pixels)",
    "label-conflict": "the same picture stands in two classes: one of them is mislabelled",
    "leak": "the same picture, or samples of one group, stand in two splits",
    "not-held-out": "no sample of a class is held out, so nothing is known of it (in train)",
    "missing-label": "a class is called as tables call what is missing: NA, null, none, ?, ...",
    "tiny-class": "a class has fewer than 10 readable samples",
    "imbalance": "the largest class has more than 10 times the samples of the smallest",
    "mixed-sizes": "pictures differ in size and are resized to one",
    "mixed-modes": "pictures differ in colour mode and are converted to one",
    "mixed-depths": "pictures differ in bit depth and are scaled to one",
    "value-range": "floats lie beyond the 0 (black) to 1 (white) that picture files are read as",
    "ambiguous": "an array can be read in two ways: how it was, and what to say for the other",
    "constant": "every pixel of a picture is the same",
    "note": "something in decoding that the user might not expect",
    "skipped": "left out on purpose: hidden folders, files that are no images",
}
# How spreadsheets, R, pandas, SQL and Weka write that a value is missing, in lower case.
MISSING = frozenset("na n/a #n/a #na <na> nan -nan null none nil ? -".split())  # noqa: SIM905
FEW = 10
UNBALANCED = 10


@dataclass(frozen=True)
class Audit:
    """Hold what `striate check` prints.

    Args:
        samples: how many there are, unreadable ones included.
        classes: samples as found of each class.
        faults: what should be mended before training.
        warnings: what the user should know.
        inventory: "sizes", "modes" and "dtypes" of the readable samples, each counted.
        skipped: what the reader left out on purpose.
    """

    samples: int
    classes: dict[str, int]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    inventory: dict[str, dict[str, int]]
    skipped: tuple[Fault, ...]

    def to_json(self, data: str) -> dict[str, Any]:
        """Return the object that `striate check --json` prints.

        Args:
            data: what the user named.
        """
        return {
            "data": data,
            "samples": self.samples,
            "classes": self.classes,
            "faults": [asdict(fault) for fault in self.faults],
            "warnings": [asdict(warning) for warning in self.warnings],
        }


def audit(samples: Samples, cache: Cache) -> Audit:
    """Look for everything in `KINDS`."""
    kinds = inventory(cache)
    labels = samples.labels[cache.good & (samples.labels >= 0)]
    counts = np.bincount(labels, minlength=len(samples.classes))
    found = np.bincount(samples.labels[samples.labels >= 0], minlength=len(samples.classes))
    return Audit(
        samples=len(samples),
        classes=dict(zip(samples.classes, found.tolist(), strict=True)),
        faults=(
            *cache.faults,
            *_small_classes(samples, counts, found),
            *_missing_classes(samples, cache, counts),
            *_same_pictures(samples, cache),
            *_parted_groups(samples, cache),
        ),
        warnings=(
            *samples.doubts,
            *_missing_labels(samples, found),
            *_balance(samples, counts),
            *_mixtures(kinds),
            *_beyond_white(samples, cache),
            *_constant(samples, cache),
            *_notes(samples, cache),
            *merged(samples.skipped),
        ),
        inventory=kinds,
        skipped=samples.skipped,
    )


def split_names(samples: Samples) -> np.ndarray:
    """Return the split that each sample is given to; unnamed samples are for training.

    Shape: (n,) of "train", "validation" and "test"
    """
    return np.where(samples.splits == "", "train", samples.splits)


def same_pictures(cache: Cache) -> list[np.ndarray]:
    """Return the readable samples that decode to the same picture, each set of two or more sorted.

    Sets stand in the order of their first samples.
    """
    good = np.flatnonzero(cache.good)
    order = good[np.argsort(cache.pixels[good], kind="stable")]
    fresh = np.flatnonzero(cache.pixels[order[1:]] != cache.pixels[order[:-1]]) + 1
    starts = np.concatenate([[0], fresh])
    sizes = np.diff(np.concatenate([starts, [len(order)]]))
    sets = [order[s : s + n] for s, n in zip(starts, sizes, strict=True) if n > 1]
    return sorted(sets, key=lambda some: int(some[0]))


def _small_classes(samples: Samples, counts: np.ndarray, found: np.ndarray) -> Iterator[Fault]:
    for k in np.flatnonzero(counts < 2):
        name = samples.classes[k]
        if counts[k] == 1:
            yield Fault("one-sample", name, f"class {name!r} has 1 readable sample; wanted >= 2")
        elif found[k]:
            text = f"class {name!r} has {found[k]} samples, and none can be read"
            yield Fault("empty-class", name, text)
        else:
            yield Fault("empty-class", name, f"class {name!r} has no samples")


def _missing_classes(samples: Samples, cache: Cache, counts: np.ndarray) -> Iterator[Fault]:
    """Compare each given split with what is there for training, both ways."""
    names, usable = split_names(samples), cache.good & (samples.labels >= 0)
    there = {
        split: np.bincount(samples.labels[usable & (names == split)], minlength=len(counts))
        for split in ("train", "validation", "test")
        if (names == split).any()
    }
    train = there.pop("train", None)
    for split, here in there.items():
        if train is None:
            continue
        for k in np.flatnonzero((here == 0) != (train == 0)):
            has, lacks, n = (split, "train", here[k]) if here[k] else ("train", split, train[k])
            name = samples.classes[k]
            text = f"class {name!r} has {n} samples in {has} and none in {lacks}"
            yield Fault("class-missing", name, text)


def _same_pictures(samples: Samples, cache: Cache) -> Iterator[Fault]:
    names = split_names(samples)
    for some in same_pictures(cache):
        for m, i in enumerate(some[1:], 1):
            yield from _twins(samples, cache, names, int(i), some[:m])


def _twins(
    samples: Samples, cache: Cache, splits: np.ndarray, i: int, earlier: np.ndarray
) -> Iterator[Fault]:
    """Say what sample i has in common with the earlier samples of the same picture."""
    name, split, label = samples.names[i], splits[i], samples.labels[i]
    same_split, same_label = splits[earlier] == split, samples.labels[earlier] == label

    def like(other: int) -> str:
        what = "file" if cache.hashes[i] == cache.hashes[other] else "picture in other bytes"
        return f"the same {what} as {samples.names[other]}"

    if (twins := earlier[same_split & same_label]).size:
        yield Fault("duplicate", name, like(int(twins[0])))
        return
    if (others := earlier[~same_split]).size:
        other = int(others[0])
        yield Fault("leak", name, f"in {split}, but {like(other)} in {splits[other]}")
    known = (label >= 0) & (samples.labels[earlier] >= 0)
    if (others := earlier[~same_label & known]).size:
        other = int(others[0])
        mine, theirs = samples.classes[label], samples.classes[samples.labels[other]]
        yield Fault("label-conflict", name, f"class {mine!r}, but {like(other)}, class {theirs!r}")


def _parted_groups(samples: Samples, cache: Cache) -> Iterator[Fault]:
    """Find groups whose samples the data themselves give to several splits."""
    if samples.groups is None:
        return
    names = split_names(samples)
    first: dict[tuple[str, str], int] = {}
    for i in np.flatnonzero(cache.good & (samples.groups != "")).tolist():
        first.setdefault((str(samples.groups[i]), str(names[i])), i)
    home: dict[str, tuple[str, int]] = {}
    for (group, split), i in first.items():
        where, other = home.setdefault(group, (split, i))
        if where != split:
            text = f"in {split}, but {samples.names[other]} of the same group {group!r} in {where}"
            yield Fault("leak", samples.names[i], text)


def _missing_labels(samples: Samples, found: np.ndarray) -> Iterator[Fault]:
    """Ask about classes that may be none; they stay, as some class is really called so."""
    for name, count in zip(samples.classes, found.tolist(), strict=True):
        if name.strip().lower() in MISSING:
            text = f"{count} samples have the label {name!r}; if it means none, leave them out"
            yield Fault("missing-label", name, text)


def _balance(samples: Samples, counts: np.ndarray) -> Iterator[Fault]:
    for k in np.flatnonzero((counts >= 2) & (counts < FEW)):
        name = samples.classes[k]
        yield Fault("tiny-class", name, f"class {name!r} has {counts[k]} readable samples")
    if not counts.any():
        return
    large, small = int(counts.argmax()), int(np.where(counts, counts, counts.max()).argmin())
    if counts[large] > UNBALANCED * counts[small]:
        yield Fault(
            "imbalance",
            samples.classes[small],
            f"class {samples.classes[large]!r} has {counts[large]} samples, "
            f"{samples.classes[small]!r} has {counts[small]}: "
            f"{counts[large] / counts[small]:.1f} times fewer",
        )


def inventory(cache: Cache) -> dict[str, dict[str, int]]:
    """Count "sizes" (height x width), "modes" and "dtypes" as found, the most frequent first."""
    sizes, times = np.unique(cache.sizes[cache.good], axis=0, return_counts=True)
    named = {"x".join(map(str, s)): n for s, n in zip(sizes.tolist(), times.tolist(), strict=True)}
    good = cache.good.tolist()
    modes = Counter(mode for mode, whole in zip(cache.modes, good, strict=True) if whole)
    depths: Counter[str] = Counter()
    for mode, n in modes.items():
        depths[_depth(mode)] += n
    return {
        "sizes": dict(Counter(named).most_common()),
        "modes": dict(modes.most_common()),
        "dtypes": dict(depths.most_common()),
    }


def _depth(mode: str) -> str:
    """Return the dtype that a file of this mode, or an array, decodes to."""
    if " x " in mode:
        return mode.split(" x ")[1]
    return {"I": "uint16", "F": "float32"}.get(mode[:1], "uint8")


def _mixtures(kinds: dict[str, dict[str, int]]) -> Iterator[Fault]:
    for kind, key in (("sizes", "sizes"), ("modes", "modes"), ("depths", "dtypes")):
        found = kinds[key]
        if len(found) > 1:
            most = ", ".join(f"{name} ({n})" for name, n in list(found.items())[:3])
            yield Fault(f"mixed-{kind}", "", f"{len(found)} {kind}; the most frequent: {most}")


def _beyond_white(samples: Samples, cache: Cache) -> Iterator[Fault]:
    """Say where floats are none that a usual picture file could be read as."""
    if samples.kind != "image" or cache.x.dtype != np.float32 or not cache.good.any():
        return
    ends = [(x.min(), x.max()) for x, good in zip(cache.x, cache.good, strict=True) if good]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if low < 0 or high > 1:
        text = (
            f"floats from {low:g} to {high:g}; picture files are read as 0 (black) to 1 (white), "
            "so a network that learns from these can answer float files and arrays of the same "
            "unit only; to classify other pictures too, divide by the value that means white"
        )
        yield Fault("value-range", "", text)


def _constant(samples: Samples, cache: Cache) -> Iterator[Fault]:
    for i in np.flatnonzero(cache.constant):
        yield Fault("constant", samples.names[i], "every pixel is the same")


def _notes(samples: Samples, cache: Cache) -> list[Fault]:
    pairs = zip(samples.names, cache.notes, strict=True)
    return merged(Fault("note", name, note) for name, some in pairs for note in some)
