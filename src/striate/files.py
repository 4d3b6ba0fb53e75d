"""Files that come to an end, that are whole or not there; the folder of what can be made anew."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any
from uuid import uuid4

__all__ = ["cache_folder", "open_regular", "read_regular", "replacing"]


def cache_folder() -> Path:
    """Return $STRIATE_CACHE, or ~/.cache/striate: what lies there can be made or fetched anew."""
    named = os.environ.get("STRIATE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "striate"


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file to read its bytes; a pipe or a device might never give one, or never end.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder is refused by `open` itself
        why = "not a regular file but a pipe, socket or device; copy what it gives into a file"
        raise OSError(errno.EINVAL, why, os.fspath(path))
    return open(path, "rb")


def read_regular(path: str | Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


@contextmanager
def replacing(
    path: Path, mode: str = "w", *, settle: bool = False, shared: bool = False, **how: Any
) -> Iterator[Any]:
    """Yield an open file beside `path` that takes its place in one instant once it is written.

    Whatever goes wrong, what stood at `path` before is still there and still whole. A link stays
    one, and the file it names is replaced. What is no file, a pipe or a device, has no old content
    to keep: it is written to as it stands.

    Args:
        path: to write; text is UTF-8, and what has no UTF-8 is written as \\udce9.
        mode: "w" or "wb".
        settle: wait until the disk has it: then even a power cut leaves the old or the new.
        shared: several processes may write it at once, each beside the others; where one is killed
            its part stays. Else there is one part, and the next writer takes it over.
        how: further arguments of `open`.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    if "b" not in mode:
        how = {"encoding": "utf-8", "errors": "backslashreplace", **how}
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # `open` refuses a folder
        with open(path, mode, **how) as file:
            yield file
        return
    part = path.with_name(f".{path.name}{f'-{uuid4().hex}' * shared}.part")
    try:
        with open(part, mode, **how) as file:
            yield file
            if settle:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
