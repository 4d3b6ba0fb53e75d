"""All that a training needs of the data, in one call: read, decode once, check, split, measure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from striate.data.audit import Audit, audit
from striate.data.cache import Cache, open_cache, statistics
from striate.data.choice import choose_spec
from striate.data.readers import read
from striate.data.samples import Samples
from striate.data.split import Split, load_split, make_split, unheld
from striate.errors import DataError
from striate.spec import Spec

__all__ = ["Material", "gather", "refuse_too_many_bad"]


@dataclass(frozen=True)
class Material:
    """Samples, what one of them is, their prepared pixels, their split, and what is wrong.

    Args:
        samples: as read.
        spec: with mean and std of the training split.
        cache: prepared samples.
        split: which samples train, calibrate and score.
        audit: faults and warnings.
    """

    samples: Samples
    spec: Spec
    cache: Cache
    split: Split
    audit: Audit


def gather(
    source: str | Path,
    *,
    axes: int = 0,
    size: int = 0,
    resize: str = "stretch",
    validation: float = 0.1,
    test: float = 0.2,
    bad: float = 0.01,
    seed: int = 0,
    spec: Spec | None = None,
    manifest: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Material:
    """Read `source`, decode every file once, check it and split it.

    Args:
        source: folder, table, archive or name; see `data.readers.read`.
        axes: spatial axes of a sample in an NPZ, 1 to 3; 0 is told by its shape.
        size: side of a sample in pixels; 0 is chosen from the data.
        resize: rule of `Spec.resize`.
        validation: share of the training samples held out to calibrate.
        test: share held out to score, where the data name no test split.
        bad: share of unreadable files, 0 to 1, above which this refuses.
        seed: of the split.
        spec: of an earlier run that goes on; nothing is chosen or measured then.
        manifest: of an earlier run that goes on; the data must still match it.
        progress: called with (done, total) while files are decoded.

    Raises:
        DataError: the data cannot be read, split, or no longer match the manifest.
    """
    samples = read(source, axes=axes)
    chosen = spec or choose_spec(samples, size, resize)
    cache = open_cache(samples, chosen, progress=progress)
    found = audit(samples, cache)
    refuse_too_many_bad(cache, bad)
    if manifest:
        split = load_split(manifest, samples, cache)
    else:
        split = make_split(samples, cache, validation, test, seed)
    found = replace(found, warnings=(*unheld(split, samples, cache), *found.warnings))
    if spec is None and chosen.kind != "text":  # numbers of words have no mean
        mean, std = statistics(cache.x, split.train)
        chosen = chosen.model_copy(update={"mean": mean, "std": std})
    return Material(samples, chosen, cache, split, found)


def refuse_too_many_bad(cache: Cache, share: float) -> None:
    """Stop before training where more files are unreadable than the user allows.

    Raises:
        DataError: with the first five and their reasons.
    """
    count, total = int(np.sum(~cache.good)), len(cache.good)
    if count > share * total:
        some = "; ".join(f"{fault.path}: {fault.detail}" for fault in cache.faults[:5])
        raise DataError(
            f"at most {share:.3g} of the files may be unreadable; {count} of {total} are ({some}"
            f"{'; ...' if count > 5 else ''}); mend or remove them, or allow more with --bad "
            f"{min(1.0, count / total + 0.005):.2f}"
        )
