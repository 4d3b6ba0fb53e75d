"""The folder of a run: a free name, opening it, and what to say when it cannot be written.

run folder  recipe.toml  split.json  run.json  events.jsonl  metrics.csv  predictions.csv
            report.html  plots/  state/  bundle/
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from striate.errors import DataError
from striate.train.resume import newest

__all__ = ["free", "how_to_go_on", "new_folder", "opened", "unwritten"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def new_folder(data: str, model: str, root: Path = Path("runs")) -> Path:
    """Return the first free `runs/<data>-<model>-<n>`."""
    return free(root / f"{Path(data).name.split('.')[0] or 'data'}-{model}")


def free(stem: Path) -> Path:
    """Return the first `<stem>-<n>` that does not exist."""
    number = 1
    while (path := stem.with_name(f"{stem.name}-{number}")).exists():
        number += 1
    return path


def unwritten(folder: Path, error: OSError | SafetensorError) -> str:
    """Say what could not be written, and what to do."""
    number = getattr(error, "errno", None)
    full = any(n == number or f"(os error {n})" in str(error) for n in FULL)
    todo = "make room" if full else "see that it can be read and written"
    place, why = getattr(error, "filename", None), getattr(error, "strerror", None)
    return (
        f"the run in {folder} stopped at {place or folder}: {why or error}; "
        f"{todo}; {how_to_go_on(folder)}"
    )


def how_to_go_on(folder: Path) -> str:
    """Say what of a stopped run is kept, and the command that goes on with it."""
    found = newest(folder / "state")
    if found is None or not (folder / "recipe.toml").is_file():
        return f"nothing was learnt yet: start anew, {folder} may be removed"
    return f"update {found[1]['index']} is kept: go on with\n  striate train --resume {folder}"


@contextmanager
def opened(folder: Path, resume: bool) -> Iterator[None]:
    """Make the folder of a new run, or open that of one that goes on, and hold it meanwhile.

    Raises:
        DataError: it exists, or is not there to go on with, or cannot be written, or another
            process trains in it: a lock, which dies with its process.
    """
    if folder.exists() != resume:
        raise DataError(
            f"{folder} {'is no run to go on with' if resume else 'exists already'}; name "
            f"{'the folder of a run' if resume else 'another with --out, or go on with --resume'}"
        )
    lock = FileLock(folder / "state" / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=resume)
        (folder / "state").mkdir(exist_ok=True)
        lock.acquire(timeout=0)
        with open(folder / "events.jsonl", "ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # a row that a kill has cut off
    except Timeout as error:
        raise DataError(
            f"another process is training in {folder}, and two would overwrite each other's "
            "states; wait for it, or stop it and go on with --resume"
        ) from error
    except OSError as error:
        raise DataError(
            f"the run folder {folder} cannot be written: {error.strerror}; "
            + ("give the right to write there" if resume else "name another with --out")
        ) from error
    try:
        yield
    finally:
        lock.release()
