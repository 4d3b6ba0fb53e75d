"""Which Spec suits the samples: learnt from the headers of some files."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from striate.data.decode import Header, probe
from striate.data.samples import Samples
from striate.data.threads import in_runs
from striate.errors import DataError
from striate.spec import DTYPES, Spec

__all__ = ["choose_spec"]

MOST_PROBED = 500


def choose_spec(samples: Samples, size: int = 0, resize: str = "stretch") -> Spec:
    """Return the Spec that suits the samples, by their headers; mean and deviation stay open.

    Colour anywhere makes three channels, alpha in most files four; values are stored as most files
    have them. Pictures of one size up to 256 keep it, others become squares of their median short
    side, a multiple of 16 in 32..128.

    Args:
        size: side in pixels; 0: from the headers of at most 500 files.
        resize: the rule, as in `Spec`.

    Raises:
        DataError: there are no samples, or none can be read.
    """
    if not len(samples):
        raise DataError(f"no samples in {samples.root}; wanted at least one labelled picture")
    if samples.arrays is not None:
        channels, dtype = samples.arrays.shape[1], str(samples.arrays.dtype)
        sizes = [samples.arrays.shape[2:]]
    else:
        headers = _headers(samples)
        channels = _channels([header.channels for header in headers])
        dtypes = [header.dtype for header in headers]
        dtype = next((d for d in DTYPES if 2 * dtypes.count(d) > len(dtypes)), "uint8")
        sizes = [header.size for header in headers]
    return Spec.model_validate(
        {
            "kind": samples.kind,
            "channels": channels,
            "size": (size,) * len(sizes[0]) if size else _size(sizes),
            "resize": resize,
            "dtype": dtype,
            "classes": samples.classes,
        }
    )


def _headers(samples: Samples) -> list[Header]:
    """Return the headers of a seeded choice of the readable files."""
    files = samples.files or ()
    index = np.random.Generator(np.random.PCG64(0)).permutation(len(files))[:MOST_PROBED]
    chosen = [files[i] for i in sorted(index)]
    found = [one for run in in_runs(_probe, chosen, os.cpu_count() or 1) for one in run]
    headers = [header for header in found if isinstance(header, Header)]
    if not headers:
        names = [samples.names[i] for i in sorted(index)]
        reasons = [f"{name}: {why}" for name, why in zip(names, found, strict=True)][:5]
        raise DataError(
            f"none of {len(found)} files in {samples.root} can be read; the first: "
            + "; ".join(reasons)
        )
    return headers


def _probe(paths: Sequence[Path]) -> list[Header | str]:
    """Return each file's header, or why there is none."""
    found: list[Header | str] = []
    for path in paths:
        try:
            found.append(probe(path))
        except DataError as error:
            found.append(str(error))
    return found


def _channels(found: list[int]) -> int:
    """Return 4 where most files have alpha, 3 where any has colour, else 1."""
    return 4 if 2 * found.count(4) > len(found) else 3 if max(found) > 1 else 1


def _size(sizes: list[tuple[int, ...]]) -> tuple[int, ...]:
    if len(set(sizes)) == 1 and max(sizes[0]) <= 256:
        return sizes[0]
    side = int(np.median([min(size) for size in sizes])) // 16 * 16
    return (min(max(side, 32), 128),) * len(sizes[0])
