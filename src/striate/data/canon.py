"""Data sets of the field's history in forms of their own: USPS, spoken digits, film reviews."""

import gzip
import re
from pathlib import Path

import numpy as np

from striate.data.archives import Part, from_parts
from striate.data.samples import Samples, class_order
from striate.data.text import decode_text, numbers, usual_length, vocabulary
from striate.errors import DataError

__all__ = ["read_fsdd", "read_polarity", "read_usps"]

_SPOKEN = re.compile(r"(\d)_(\w+)_(\d+)\.wav")
_TEST = 5  # recordings 0 to 4 of each digit and speaker are the official test set


def read_usps(folder: Path, labelled: bool = True) -> Samples:
    """Read the ZIP code digits of 1989: zip.train.gz and zip.test.gz, label first, ink 1, paper -1.

    Shape: samples (1, 16, 16) float32, paper 0 and ink 1

    Raises:
        DataError: a file is missing or holds something else.
    """
    parts, grey = [], []
    files = tuple(folder / f"zip.{part}.gz" for part in ("train", "test"))
    for part, file in zip(("train", "test"), files, strict=True):
        try:
            with gzip.open(file, "rt", encoding="ascii") as text:
                rows = np.array([line.split() for line in text], np.float32)
            if rows.ndim != 2 or rows.shape[1] != 257:
                raise ValueError(f"rows of {rows.shape[1:]} numbers")
        except (OSError, EOFError, ValueError) as error:
            raise DataError(
                f"{file}: wanted rows of a label and 256 numbers; got {error}"
            ) from error
        grey.append((rows[:, 1:].reshape(-1, 1, 16, 16) + 1) / 2)
        labels = rows[:, 0].astype(np.int64) if labelled else None
        parts.append(Part(file.name, part, len(rows), labels))
    return from_parts(folder, np.concatenate(grey), parts, None, files)


def read_fsdd(folder: Path, labelled: bool = True) -> Samples:
    """Read the free spoken digit dataset: `{digit}_{speaker}_{index}.wav`, official test split.

    Raises:
        DataError: there is no recording.
    """
    home = folder / "recordings" if (folder / "recordings").is_dir() else folder
    found = [
        (file, match) for file in sorted(home.iterdir()) if (match := _SPOKEN.fullmatch(file.name))
    ]
    if not found:
        raise DataError(f"{home}: wanted recordings such as 7_jackson_32.wav; got none")
    classes = class_order(match[1] for _, match in found) if labelled else ()
    return Samples(
        root=folder,
        kind="sound",
        names=tuple(file.name for file, _ in found),
        classes=classes,
        labels=np.array([classes.index(m[1]) if labelled else -1 for _, m in found], np.int64),
        splits=np.array(["test" if int(m[3]) < _TEST else "train" for _, m in found], "U10"),
        files=tuple(file.absolute() for file, _ in found),
    )


def read_polarity(folder: Path, labelled: bool = True) -> Samples:
    """Read sentences of film reviews, rt-polarity.neg and .pos, Latin-1, one a line.

    Raises:
        DataError: a file is missing or empty.
    """
    classes, files = ("neg", "pos"), (folder / "rt-polarity.neg", folder / "rt-polarity.pos")
    lines = []
    for file in files:
        try:
            lines.append([line for line in decode_text(file).splitlines() if line.strip()])
        except DataError as error:
            raise DataError(f"{file}: wanted sentences; got {error}") from error
    texts = [text for part in lines for text in part]
    words, length = vocabulary(texts), usual_length(texts)
    labels = np.repeat(np.arange(2), [len(part) for part in lines])
    names = [
        f"{file.name}#{n}"
        for file, part in zip(files, lines, strict=True)
        for n in range(len(part))
    ]
    return Samples(
        root=folder,
        kind="text",
        names=tuple(names),
        classes=classes if labelled else (),
        labels=labels.astype(np.int64) if labelled else np.full(len(texts), -1, np.int64),
        splits=np.full(len(texts), "", "U10"),
        arrays=np.stack([numbers(text, words, length) for text in texts]),
        sources=files,
        words=words,
    )
