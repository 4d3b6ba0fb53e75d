"""Hashes: what tells one content from another, learnt without reading a file twice.

An index in the cache folder remembers each file's hash with its size, times and inode; a file whose
stat is unchanged is not read again. All hashes are blake2b of 16 bytes.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

__all__ = ["UNREAD", "chunks", "digest", "file_hash", "file_hashes", "hex_array", "row_hashes"]

logger = logging.getLogger("striate")

SIZE = 16
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
        with open(path, "rb") as file:
            return file_digest(file, lambda: blake2b(digest_size=SIZE)).digest()
    except (OSError, ValueError):
        return UNREAD


def file_hashes(files: Iterable[Path], root: Path, folder: Path, threads: int) -> list[bytes]:
    """Return the hash of each file; read only those that the index does not know as they are.

    Args:
        root: names the index; each root has its own.
        folder: where the indexes lie; one that cannot be written only costs time.
    """
    paths = [os.fspath(path) for path in files]
    index = folder / f"index-{INDEX_FORMAT}-{digest(os.fsencode(root.resolve())).hex()}.json"
    known = _read(index)
    now = time.time_ns()
    stats = [_stat(path) for path in paths]
    hashes = [
        bytes.fromhex(known[path][-1]) if stat and known.get(path, ())[:-1] == stat else UNREAD
        for path, stat in zip(paths, stats, strict=True)
    ]
    unread = [i for i, stat in enumerate(stats) if stat and hashes[i] == UNREAD]
    with ThreadPoolExecutor(threads) as pool:
        for i, fresh in zip(unread, pool.map(file_hash, [paths[i] for i in unread]), strict=True):
            hashes[i] = fresh
    if unread:
        seen = zip(paths, stats, hashes, strict=True)
        _write(
            index,
            {
                path: [*stat, value.hex()]
                for path, stat, value in seen
                if value != UNREAD and max(stat[1:3]) < now - SETTLED_NS
            },
        )
    return hashes


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
    temporary = index.with_name(f".{index.name}-{uuid4().hex}")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(entries), "ascii")
        os.replace(temporary, index)
    except OSError as error:
        logger.debug("the index %s is not written (%s): files are read again", index, error)
        with suppress(OSError):
            temporary.unlink()
