"""Rows: one sample prepared for the cache, and what was found out about it on the way."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.data.decode import decode
from striate.data.hashes import UNREAD, chunks, digest
from striate.data.prepare import at_least, prepare
from striate.data.sound import decode_sound, prepare_sound
from striate.data.text import decode_text, prepare_text, tokens
from striate.errors import DataError
from striate.files import read_regular
from striate.spec import DTYPES, Spec

__all__ = [
    "Row",
    "array_facts",
    "array_row",
    "file_row",
    "full_hash",
    "picture_hash",
    "row_facts",
]

_NOT_FINITE = "holds NaN or infinite values; replace them"


@dataclass(frozen=True)
class Row:
    """Hold one prepared sample and its facts.

    Args:
        digest: hash of the file's bytes, or of the array's.
        x: (C, *S) of the Spec; None where the sample is unreadable.
        pixels: `picture_hash` of what was decoded; of `x` where that was reduced.
        constant: True where each channel of `x` is one value.
        size: upright full size as found.
        reduced: True where a JPEG was decoded at a smaller size.
        mode: as in `Cache.modes`.
        notes: what was said in decoding.
        reason: why the sample is unreadable; "" where it is not.
    """

    digest: bytes
    x: np.ndarray | None = None
    pixels: bytes = UNREAD
    constant: bool = False
    size: tuple[int, ...] = ()
    reduced: bool = False
    mode: str = ""
    notes: tuple[str, ...] = ()
    reason: str = ""


def file_row(path: Path, spec: Spec) -> Row:
    """Read, decode and prepare one file; a file that cannot be decoded gives a reason."""
    try:
        data = read_regular(path)
    except (OSError, ValueError) as error:
        return Row(UNREAD, reason=getattr(error, "strerror", None) or str(error))
    found = digest(data)
    if spec.kind != "image":
        return (_sound_row if spec.kind == "sound" else _text_row)(data, found, spec)
    try:
        decoded = decode(data, at_least(spec))
    except DataError as error:
        return Row(found, reason=str(error))
    x = prepare(decoded.array, spec)
    reduced = decoded.array.shape[1:] != decoded.size
    # What was decoded at a reduced scale is no more the picture than what was prepared of it.
    pixels = digest(f"{decoded.size}".encode(), x) if reduced else picture_hash(decoded.array)
    return Row(
        digest=found,
        x=x,
        pixels=pixels,
        constant=bool(_constant(x[None])[0]),
        size=decoded.size,
        reduced=reduced,
        mode=decoded.mode,
        notes=decoded.notes,
    )


def _sound_row(data: bytes, found: bytes, spec: Spec) -> Row:
    """Decode and prepare a sound; its hash is that of its wave."""
    try:
        sound = decode_sound(data)
    except DataError as error:
        return Row(found, reason=str(error))
    x = prepare_sound(sound, spec)
    frames = round(len(sound.wave) / sound.rate / spec.step[0])
    heard = digest(f"{sound.rate} {sound.wave.shape}".encode(), sound.wave)
    same, mode = bool(_constant(x[None])[0]), f"{sound.rate} Hz"
    return Row(found, x, heard, same, (frames,), mode=mode, notes=sound.notes)


def _text_row(data: bytes, found: bytes, spec: Spec) -> Row:
    """Read and prepare a text; its hash is that of its words."""
    try:
        text = decode_text(data)
    except DataError as error:
        return Row(found, reason=str(error))
    words, x = tokens(text), prepare_text(text, spec)
    said = digest(" ".join(words).encode())
    same = bool(_constant(x[None])[0])
    return Row(found, x, said, same, (len(words),), mode="text")


def array_row(array: np.ndarray, spec: Spec) -> Row:
    """Prepare one sample that is an array already; one that cannot be gives a reason."""
    array = np.ascontiguousarray(array)
    found = digest(array)
    if not _finite(array[None])[0]:
        return Row(found, reason=_NOT_FINITE)
    try:
        x = prepare(array, spec)
    except ValueError as error:
        return Row(found, reason=str(error))
    same = bool(_constant(x[None])[0])
    return Row(found, x, picture_hash(array), same, array.shape[1:], mode=_mode(array))


def _mode(array: np.ndarray) -> str:
    """Return what stands for Pillow's mode where the sample (C, *S) is an array."""
    return f"{len(array)} x {array.dtype}"


def picture_hash(array: np.ndarray) -> bytes:
    """Hash what a viewer sees of (C, *S): no opaque alpha, three equal channels as one."""
    if len(array) == 4 and (array[3] == DTYPES[array.dtype.name][1]).all():
        array = array[:3]
    if len(array) == 3 and (array[0] == array[1]).all() and (array[0] == array[2]).all():
        array = array[:1]
    return digest(f"{array.dtype} {array.shape}".encode(), np.ascontiguousarray(array))


def full_hash(path: Path) -> bytes:
    """Hash a file's picture at full size; nothing where it has become unreadable meanwhile."""
    try:
        return picture_hash(decode(path).array)
    except DataError:
        return b""


def _finite(rows: np.ndarray) -> np.ndarray:
    """Return which of (n, C, *S) hold finite numbers only."""
    if rows.dtype.kind != "f":
        return np.ones(len(rows), bool)
    return np.isfinite(rows).reshape(len(rows), -1).all(axis=1)


def _constant(rows: np.ndarray) -> np.ndarray:
    """Return which of (n, C, *S) have one value a channel; most fall at a first coarse look."""
    flat = rows.reshape(*rows.shape[:2], -1)
    step = max(1, flat.shape[2] // 8)
    same = (flat[:, :, ::step] == flat[:, :, :1]).all(axis=(1, 2))
    for i in np.flatnonzero(same):
        same[i] = (flat[i] == flat[i, :, :1]).all()
    return same


def row_facts(rows: list[Row], axes: int) -> dict[str, np.ndarray]:
    """Return all but the pixels as arrays; the few different texts stand once."""
    says: dict[tuple[str, tuple[str, ...], str], int] = {}
    said = [says.setdefault((row.mode, row.notes, row.reason), len(says)) for row in rows]
    return {
        "good": np.array([not row.reason for row in rows], bool),
        "pixels": np.frombuffer(b"".join(row.pixels for row in rows), np.uint8),
        "constant": np.array([row.constant for row in rows], bool),
        "sizes": np.array([row.size or (0,) * axes for row in rows], np.int32).reshape(-1, axes),
        "said": np.array(said, np.int32),
        "says": np.array(json.dumps(list(says))),
    }


def array_facts(arrays: np.ndarray, hashes: list[bytes]) -> dict[str, np.ndarray]:
    """Return the facts of arrays that need no preparation."""
    good = np.concatenate([_finite(chunk) for chunk in chunks(arrays)])
    mode = _mode(arrays[0])
    return {
        "good": good,
        "pixels": np.frombuffer(b"".join(hashes), np.uint8),
        "constant": np.concatenate([_constant(chunk) for chunk in chunks(arrays)]) & good,
        "sizes": np.tile(np.array(arrays.shape[2:], np.int32), (len(arrays), 1)),
        "said": np.where(good, 0, 1),
        "says": np.array(json.dumps([[mode, [], ""], [mode, [], _NOT_FINITE]])),
    }
