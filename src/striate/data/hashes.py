"""Hashes: what tells one content from another, learnt without reading a file twice.

An index in the cache folder remembers each file's hash with its size, times and inode; a file whose
stat is unchanged is not read again. All hashes are blake2b of 16 bytes.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.threads import in_runs
from striate.files import open_regular, replacing

__all__ = [
    "SIZE",
    "UNREAD",
    "Seen",
    "chunks",
    "digest",
    "file_hash",
    "file_hashes",
    "hex_array",
    "look",
    "remember",
    "row_hashes",
]

logger = logging.getLogger("striate")

SIZE = 16  # bytes of a hash
UNREAD = bytes(SIZE)
# A file changed this shortly before it was read may change again within one tick of its clock.
SETTLED_NS = 2_000_000_000
INDEX_FORMAT = 1


def digest(*parts: Any) -> bytes:
    """Return the hash of the parts' bytes, one after the other."""
    state = blake2b(digest_size=SIZE)
    for part in parts:
        state.update(part)
    return state.digest()


def hex_array(hashes: Iterable[bytes]) -> np.ndarray:
    """Return the hashes as an (n,) array of hexadecimal digits, as bytes: a quarter of a str's."""
    return np.frombuffer(b"".join(hashes).hex().encode(), f"S{2 * SIZE}")


def chunks(arrays: np.ndarray) -> Iterator[np.ndarray]:
    """Yield (n, ...) as contiguous runs of rows of about a megabyte."""
    step = max(1, (1 << 20) // max(1, arrays[:1].nbytes))
    for start in range(0, len(arrays), step):
        yield np.ascontiguousarray(arrays[start : start + step])


def row_hashes(arrays: np.ndarray) -> list[bytes]:
    """Return the hash of each row's bytes."""
    flat = (chunk.reshape(len(chunk), -1) for chunk in chunks(arrays))
    return [blake2b(row.data, digest_size=SIZE).digest() for rows in flat for row in rows]


def file_hash(path: str | Path) -> bytes:
    """Return the hash of the file's bytes; `UNREAD` where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file_digest(file, lambda: blake2b(digest_size=SIZE)).digest()
    except (OSError, ValueError):
        return UNREAD


@dataclass(frozen=True)
class Seen:
    """Files as they were at one moment.

    Args:
        time: nanoseconds since the epoch.
        paths: of the files.
        stats: size, both times and inode of each; [] where there is none.
    """

    time: int
    paths: list[str]
    stats: list[list[int]]


def look(files: Iterable[Path]) -> Seen:
    """Look at the files without reading them."""
    now, paths = time.time_ns(), [os.fspath(path) for path in files]
    return Seen(now, paths, [_stat(path) for path in paths])


def file_hashes(files: Iterable[Path], root: Path, folder: Path, threads: int) -> list[bytes]:
    """Return the hash of each file; read only those that the index does not know as they are.

    Args:
        root: names the index; each root has its own.
        folder: where the indexes lie; one that cannot be written only costs time.
    """
    seen, known = look(files), _read(_index(root, folder))
    hashes = [
        bytes.fromhex(known[path][-1]) if stat and known.get(path, ())[:-1] == stat else UNREAD
        for path, stat in zip(seen.paths, seen.stats, strict=True)
    ]
    unread = [i for i, stat in enumerate(seen.stats) if stat and hashes[i] == UNREAD]

    def read(run: Sequence[int]) -> list[tuple[int, bytes]]:
        return [(i, file_hash(seen.paths[i])) for i in run]

    for found in in_runs(read, unread, threads):
        for i, fresh in found:
            hashes[i] = fresh
    if unread:
        remember(seen, hashes, root, folder)
    return hashes


def remember(seen: Seen, hashes: Iterable[bytes], root: Path, folder: Path) -> None:
    """Write the index: the hashes of what was read after it was `seen`."""
    rows = zip(seen.paths, seen.stats, hashes, strict=True)
    _write(
        _index(root, folder),
        {
            path: [*stat, value.hex()]
            for path, stat, value in rows
            if stat and value != UNREAD and max(stat[1:3]) < seen.time - SETTLED_NS
        },
    )


def _index(root: Path, folder: Path) -> Path:
    return folder / f"index-{INDEX_FORMAT}-{digest(os.fsencode(root.resolve())).hex()}.json"


def _stat(path: str) -> list[int]:
    """Return size, both times and the inode: one changes when the content does. [] if missing."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read(index: Path) -> dict[str, list[Any]]:
    try:
        return dict(json.loads(index.read_text("ascii")))
    except (OSError, ValueError, TypeError):
        return {}


def _write(index: Path, entries: dict[str, list[Any]]) -> None:
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        with replacing(index, shared=True) as file:
            file.write(json.dumps(entries))
    except OSError as error:
        logger.debug("the index %s is not written (%s): files are read again", index, error)
