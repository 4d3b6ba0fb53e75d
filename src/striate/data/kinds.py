"""Kinds of files that can be read, told by their names."""

from collections.abc import Sequence
from pathlib import Path

from striate.data import decode, sound, text

__all__ = ["ENDINGS", "KINDS", "kind_of"]

# Kind, as in `Spec.kind` -> the endings of its files, in lower case.
KINDS = {"image": decode.SUFFIXES, "sound": sound.SUFFIXES, "text": text.SUFFIXES}
# The same with what is read from arrays only: no folder is searched for it to learn from.
ENDINGS = {**KINDS, "series": frozenset({".npz"}), "volume": frozenset({".npz"})}


def kind_of(files: Sequence[Path]) -> str:
    """Return the kind of most files; "image" where none can be told."""
    endings = [file.suffix.lower() for file in files]
    counts = {kind: sum(end in known for end in endings) for kind, known in KINDS.items()}
    return max(counts, key=lambda kind: counts[kind])
