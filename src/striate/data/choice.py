"""Which Spec suits the samples: learnt from the headers of some files."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from striate.data.decode import probe
from striate.data.samples import Samples
from striate.data.sound import BANDS, FREQUENCIES, STEP, probe_sound
from striate.data.text import decode_text, usual_length, vocabulary
from striate.data.threads import in_runs
from striate.errors import DataError
from striate.spec import DTYPES, Spec

__all__ = ["choose_spec"]

MOST_PROBED = 500
MOST_FRAMES = 500  # of a sound, where nobody chose
T = TypeVar("T")


def choose_spec(samples: Samples, size: int = 0, resize: str = "stretch") -> Spec:
    """Return the Spec that suits the samples, by their headers; mean and deviation stay open.

    Colour anywhere makes three channels, alpha in most files four; values are stored as most files
    have them. Pictures of one size up to 256 keep it, others become squares of their median short
    side, a multiple of 16 in 32..128. Series and volumes keep the size they have.

    Args:
        size: side in pixels; 0: from the headers of at most 500 files.
        resize: the rule, as in `Spec`.

    Raises:
        DataError: there are no samples, none can be read, or `size` is not that of series.
    """
    if not len(samples):
        raise DataError(f"no samples in {samples.root}; wanted at least one labelled picture")
    if samples.kind == "sound":
        return _sound_spec(samples, size)
    if samples.kind == "text":
        return _text_spec(samples, size)
    if samples.arrays is not None:
        channels, dtype = samples.arrays.shape[1], str(samples.arrays.dtype)
        sizes = [samples.arrays.shape[2:]]
    else:
        headers = _headers(samples, probe)
        channels = _channels([header.channels for header in headers])
        dtypes = [header.dtype for header in headers]
        dtype = next((d for d in DTYPES if 2 * dtypes.count(d) > len(dtypes)), "uint8")
        sizes = [header.size for header in headers]
    return Spec.model_validate(
        {
            "kind": samples.kind,
            "channels": channels,
            "size": _named_size(samples, sizes[0], size) if size else _size(samples, sizes),
            "resize": resize,
            "dtype": dtype,
            "classes": samples.classes,
        }
    )


def _sound_spec(samples: Samples, frames: int) -> Spec:
    """Return the Spec of sounds: 16 bands every 10 ms, as long as 95 of 100 of them are."""
    seconds = [header.seconds for header in _headers(samples, probe_sound)]
    usual = int(np.ceil(round(np.percentile(seconds, 95) / STEP, 6)))
    return Spec(
        kind="sound",
        channels=BANDS,
        size=(frames or max(1, min(usual, MOST_FRAMES)),),
        dtype="float32",
        step=(STEP,),
        unit="s",
        frequencies=FREQUENCIES,
        classes=samples.classes,
    )


def _text_spec(samples: Samples, length: int) -> Spec:
    """Return the Spec of texts: all words that occur twice, as long as 95 of 100 of them are."""
    if samples.arrays is not None:
        words, usual = samples.words, samples.arrays.shape[2]
    else:
        texts = _headers(samples, decode_text, len(samples))
        words, usual = vocabulary(texts), usual_length(texts)
    return Spec(
        kind="text",
        channels=1,
        size=(length or usual,),
        dtype="uint16",
        words=words,
        classes=samples.classes,
    )


def _headers(samples: Samples, probe: Callable[[Path], T], most: int = 0) -> list[T]:
    """Return what `probe` finds in a seeded choice of the readable files."""
    files = samples.files or ()
    index = np.random.Generator(np.random.PCG64(0)).permutation(len(files))
    index = index[: most or MOST_PROBED]
    chosen = [files[i] for i in sorted(index)]
    look = partial(_probe, probe=probe)
    found = [one for run in in_runs(look, chosen, os.cpu_count() or 1) for one in run]
    headers = [header for header in found if not isinstance(header, _Unread)]
    if not headers:
        names = [samples.names[i] for i in sorted(index)]
        reasons = [f"{name}: {why}" for name, why in zip(names, found, strict=True)][
            :5
        ]  # all unread
        raise DataError(
            f"none of {len(found)} files in {samples.root} can be read; the first: "
            + "; ".join(reasons)
        )
    return headers


class _Unread(str):
    """Why a file cannot be read."""


def _probe(paths: Sequence[Path], probe: Callable[[Path], T]) -> list[T | _Unread]:
    """Return what is found in each file, or why nothing is."""
    found: list[T | _Unread] = []
    for path in paths:
        try:
            found.append(probe(path))
        except DataError as error:
            found.append(_Unread(error))
    return found


def _channels(found: list[int]) -> int:
    """Return 4 where most files have alpha, 3 where any has colour, else 1."""
    return 4 if 2 * found.count(4) > len(found) else 3 if max(found) > 1 else 1


def _named_size(samples: Samples, found: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return a square of side `size`; series and volumes are not resized, so theirs or none."""
    if samples.kind == "image":
        return (size,) * len(found)
    if size != max(found):  # which a recipe of theirs holds
        raise DataError(
            f"{samples.root}: only pictures are resized to --size {size}; this is {samples.kind} "
            f"data of {' x '.join(map(str, found))}: leave --size out, or cut the arrays before"
        )
    return found


def _size(samples: Samples, sizes: list[tuple[int, ...]]) -> tuple[int, ...]:
    if samples.kind != "image" or (len(set(sizes)) == 1 and max(sizes[0]) <= 256):
        return sizes[0]
    side = int(np.median([min(size) for size in sizes])) // 16 * 16
    return (min(max(side, 32), 128),) * len(sizes[0])
