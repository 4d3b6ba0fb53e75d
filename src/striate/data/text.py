"""Text: words to numbers by a vocabulary that travels in the Spec, a series (1, words)."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from striate.errors import DataError
from striate.files import read_regular
from striate.spec import Spec

__all__ = [
    "MOST_LENGTH",
    "SUFFIXES",
    "decode_text",
    "numbers",
    "prepare_text",
    "tokens",
    "usual_length",
    "vocabulary",
]

SUFFIXES = frozenset({".txt"})  # file names that are taken for texts, in lower case
NONE, UNKNOWN, FIRST = 0, 1, 2  # numbers: of no word, of a word not in the vocabulary, of the first
MOST_WORDS = 20_000  # of a vocabulary, below what uint16 can count
MOST_LENGTH = 1000  # words of a text, where nobody chose

_TOKEN = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Return the words of a text in lower case, and its punctuation, in their order."""
    return _TOKEN.findall(text.lower())


def vocabulary(texts: Iterable[str], most: int = MOST_WORDS, least: int = 2) -> tuple[str, ...]:
    """Return the words that occur at least `least` times, the most frequent first."""
    counts = Counter(word for text in texts for word in tokens(text))
    usual = sorted((-count, word) for word, count in counts.items() if count >= least)
    return tuple(word for _, word in usual[:most])


def usual_length(texts: Iterable[str]) -> int:
    """Return how many words 95 of 100 texts do not exceed, at least 8."""
    lengths = [len(tokens(text)) for text in texts]
    return max(8, min(MOST_LENGTH, int(np.ceil(np.percentile(lengths, 95)))))


def numbers(text: str, words: tuple[str, ...], length: int) -> np.ndarray:
    """Return the numbers of a text's words, cut off or followed by 0.

    Shape: -> (1, length) uint16: 0 no word, 1 a word that is not known, 2 + its place for others
    """
    places = _places(words)
    row = [places.get(word, UNKNOWN) for word in tokens(text)[:length]]
    return np.array([row + [NONE] * (length - len(row))], np.uint16)


@lru_cache(maxsize=4)
def _places(words: tuple[str, ...]) -> dict[str, int]:
    return {word: FIRST + place for place, word in enumerate(words)}


def decode_text(source: Path | bytes) -> str:
    """Return the text of a file, UTF-8 or else Latin-1.

    Raises:
        DataError: it cannot be read, is empty, or holds zero bytes as binary files do.
    """
    try:
        data = source if isinstance(source, bytes) else read_regular(source)
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    if not data.strip():
        raise DataError("the file has no text")
    if b"\0" in data:
        raise DataError("is not text: it holds zero bytes; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def prepare_text(text: str, spec: Spec) -> np.ndarray:
    """Return the numbers of a text as `spec` asks: (1, T) uint16."""
    return numbers(text, spec.words, spec.size[0])
