"""Cache: each file decoded once, into memory-mapped rows that all runs on this machine share.

An entry is named by its content: the hashes of all samples in order, what of the Spec shapes a
row, and the versions that decode. So nothing is ever out of date: a changed file makes another
entry, and runs on equal files share one wherever those lie.
"""

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
import PIL
import simplejpeg

from striate.data.hashes import digest, file_hashes, hex_array, look, remember, row_hashes
from striate.data.rows import Row, array_facts, array_row, file_row, full_hash, row_facts
from striate.data.samples import Fault, Samples
from striate.data.threads import in_runs
from striate.errors import DataError
from striate.files import cache_folder
from striate.spec import DTYPES, Spec

__all__ = ["Cache", "open_cache", "statistics"]

logger = logging.getLogger("striate")

# Raise it whenever `decode` or `prepare` give other pixels than before.
FORMAT = 2
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FACTS = ("good", "pixels", "constant", "sizes", "said", "says")
DAY = 86_400
# What of a Spec shapes no row: all of the rest does, and names the entry.
NOT_OF_ROWS = {"mean", "std", "task", "classes"}
MOST_MEASURED = 10_000  # samples whose mean and deviation are taken

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Cache:
    """Hold the prepared samples, one row a sample of `Samples`.

    Two files have equal `pixels` where they decode to the same upright picture, whatever their
    format (see `rows.picture_hash`). A JPEG is hashed as decoded for the cache, possibly at a
    reduced scale; it is decoded in full for the hash where the set also holds pictures of its full
    size that were not reduced.

    Args:
        x: (n, C, *S) of the Spec's dtype, a memory map; rows of unreadable samples are zero.
        good: (n,) bool, False where the sample could not be decoded.
        hashes: (n,) bytes, hex of the file's bytes or of the array row's bytes; zeros where unread.
        pixels: (n,) bytes, hex of the decoded picture.
        sizes: (n, axes) int, upright size as found.
        modes: n modes as found: Pillow's, or "3 x uint8" for arrays.
        notes: what was said in decoding, for each sample.
        faults: kind "unreadable", with the reason.
        constant: (n,) bool, True where each channel of the row is one value.
    """

    x: np.ndarray
    good: np.ndarray
    hashes: np.ndarray
    pixels: np.ndarray
    sizes: np.ndarray
    modes: tuple[str, ...]
    notes: tuple[tuple[str, ...], ...]
    faults: tuple[Fault, ...]
    constant: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class _Job:
    """What to prepare, how, and where to."""

    samples: Samples
    spec: Spec
    folder: Path
    threads: int
    progress: Progress | None

    @property
    def entries(self) -> Path:
        """The folder of all entries; their names begin with the number of samples."""
        return self.folder / "samples"

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.samples), *self.spec.shape)

    @property
    def bytes(self) -> int:
        return len(self.samples) * self.spec.values * np.dtype(self.spec.dtype).itemsize

    def row(self, i: int) -> Row:
        """Prepare sample i."""
        if self.samples.files is not None:
            return file_row(self.samples.files[i], self.spec)
        assert self.samples.arrays is not None
        return array_row(self.samples.arrays[i], self.spec)

    def run(self, indices: Sequence[int]) -> tuple[np.ndarray, list[Row]]:
        """Prepare some samples: their arrays, zero where unreadable, and the rest of their rows."""
        x = np.zeros((len(indices), *self.spec.shape), self.spec.dtype)
        rows = []
        for place, i in enumerate(indices):
            row = self.row(i)
            if row.x is not None:
                x[place] = row.x
            rows.append(replace(row, x=None))
        return x, rows


def open_cache(
    samples: Samples,
    spec: Spec,
    folder: Path | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> Cache:
    """Return every sample prepared as `spec` asks; decode only what no earlier run decoded.

    Arrays that match `spec` already are used as they are, without a copy. Where the folder cannot
    be written the rows stay in memory, and a warning says so.

    Args:
        folder: of the cache; None: `files.cache_folder()`.
        threads: that read and decode; 0: one a processor.
        progress: called with (samples done, samples in all) while decoding.

    Raises:
        DataError: the disk is full; nothing of the unfinished entry is left behind.
    """
    spec = spec.model_copy(update={"mean": (), "std": ()})  # rows are the same whatever they are
    job = _Job(samples, spec, folder or cache_folder(), threads or os.cpu_count() or 1, progress)
    if samples.files is not None:
        if not any(job.entries.glob(f"{len(samples)}-*")):
            return _first(job, samples.files)
        hashes = file_hashes(samples.files, samples.root, job.folder, job.threads)
    elif samples.arrays is not None:
        hashes = row_hashes(samples.arrays)
        if samples.arrays.shape[1:] == spec.shape and samples.arrays.dtype == spec.dtype:
            return _cache(samples, hashes, samples.arrays, array_facts(samples.arrays, hashes))
    found = _read(_entry(job, hashes))
    return _fill(job) if found is None else _cache(samples, hashes, *found)


def _first(job: _Job, files: Sequence[Path]) -> Cache:
    """Prepare files of which no entry can tell: they are read once, not hashed before."""
    seen = look(files)
    cache = _fill(job)
    hashes = [bytes.fromhex(value.decode()) for value in cache.hashes.tolist()]
    remember(seen, hashes, job.samples.root, job.folder)
    return cache


def _entry(job: _Job, hashes: list[bytes]) -> Path:
    """Return the folder of samples with these hashes, prepared like this."""
    arrays = job.samples.arrays
    source = "files" if arrays is None else f"{arrays.dtype} {arrays.shape[1:]}"
    rows = job.spec.model_dump(exclude=NOT_OF_ROWS)
    head = json.dumps([FORMAT, PIL.__version__, simplejpeg.__version__, source, rows]).encode()
    return job.entries / f"{len(hashes)}-{digest(head, *hashes).hex()}"


def _read(entry: Path) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Return rows and facts of a whole entry; None where there is none."""
    try:
        with open(entry / "facts.npz", "rb") as file, np.load(file, allow_pickle=False) as known:
            facts = {name: known[name] for name in FACTS}
        # "c": torch warns of arrays that cannot be written; what is written stays in memory.
        return np.load(entry / "x.npy", mmap_mode="c", allow_pickle=False), facts
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None


def _fill(job: _Job) -> Cache:
    """Prepare every sample into a new entry, or into memory where the folder cannot be written."""
    temporary = job.entries / f".building-{uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        _sweep(temporary.parent)
        if (free := shutil.disk_usage(temporary).free) < job.bytes:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are free")
        rows = _write(job, temporary)
        # The hashes of what was decoded: a file may have changed since it was looked up.
        hashes = [row.digest for row in rows]
        return _cache(job.samples, hashes, *_publish(temporary, _entry(job, hashes)))
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in FULL:
            raise DataError(
                f"the decoded samples want {job.bytes:,} bytes in {job.folder}, which has no room "
                f"({reason}); free some, or name another folder with STRIATE_CACHE"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.warning(
        f"the cache folder {job.folder} cannot be written ({reason}): {job.bytes:,} bytes of "
        "decoded samples stay in memory, and the next run decodes again; "
        "name another folder with STRIATE_CACHE"
    )
    x = np.empty(job.shape, job.spec.dtype)

    def store(start: int, rows: np.ndarray) -> None:
        x[start : start + len(rows)] = rows

    rows = _rows(job, store)
    return _cache(job.samples, [row.digest for row in rows], x, row_facts(rows, job.spec.axes))


def _write(job: _Job, folder: Path) -> list[Row]:
    """Write the two files of an entry, down to the disk."""
    dtype = np.lib.format.dtype_to_descr(np.dtype(job.spec.dtype))
    with open(folder / "x.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": dtype, "fortran_order": False, "shape": job.shape}
        )
        # Written, not mapped: on a full disk a write fails, but a mapped page kills the process.
        rows = _rows(job, lambda _, some: file.write(some.data))
        _settle(file)
    with open(folder / "facts.npz", "wb") as file:
        np.savez(file, allow_pickle=False, **row_facts(rows, job.spec.axes))
        _settle(file)
    return rows


def _sweep(parent: Path) -> None:
    """Remove what killed runs left: unfinished entries that nobody has written to for a day."""
    for old in parent.glob(".building-*/x.npy"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > DAY:
                shutil.rmtree(old.parent)


def _settle(file: IO[bytes]) -> None:
    """Put what was written on the disk: after a power cut an entry is whole or not there."""
    file.flush()
    os.fsync(file.fileno())


def _publish(temporary: Path, entry: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Give the entry its name; where another process was first take its, unless it is damaged."""
    for _ in range(2):
        try:
            os.rename(temporary, entry)
        except OSError:
            if not entry.is_dir():
                raise
        if found := _read(entry):
            return found
        shutil.rmtree(entry)
    raise OSError(errno.EIO, f"what was written to {entry} cannot be read back")


def _rows(job: _Job, store: Callable[[int, np.ndarray], object]) -> list[Row]:
    """Prepare every sample in threads, store the arrays in runs, return the rest."""
    n = len(job.samples)
    rows: list[Row] = []
    for x, some in in_runs(job.run, range(n), job.threads):
        store(len(rows), x)
        rows += some
        if job.progress is not None:
            job.progress(len(rows), n)
    whole = {row.size for row in rows if not row.reason and not row.reduced}
    again = [i for i, row in enumerate(rows) if row.reduced and row.size in whole]
    files = job.samples.files or ()
    for found in in_runs(lambda run: [(i, full_hash(files[i])) for i in run], again, job.threads):
        for i, pixels in found:
            rows[i] = replace(rows[i], pixels=pixels or rows[i].pixels)
    return rows


def _cache(
    samples: Samples, hashes: list[bytes], x: np.ndarray, facts: dict[str, np.ndarray]
) -> Cache:
    said = facts["said"].tolist()
    says = [(mode, tuple(notes), why) for mode, notes, why in json.loads(str(facts["says"]))]
    bad = np.flatnonzero(~facts["good"]).tolist()
    return Cache(
        x=x,
        good=facts["good"],
        hashes=hex_array(hashes),
        pixels=hex_array([facts["pixels"].tobytes()]),
        constant=facts["constant"],
        sizes=facts["sizes"],
        modes=tuple([says[k][0] for k in said]),
        notes=tuple([says[k][1] for k in said]),
        faults=tuple(Fault("unreadable", samples.names[i], says[said[i]][2]) for i in bad),
    )


def statistics(
    x: np.ndarray, index: np.ndarray, seed: int = 0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, in raw units.

    A channel that never varies gets 1/255 of the dtype's range as its deviation: one grey level.

    Shape: (n, C, *S) -> C, C

    Args:
        index: the rows to measure; a seeded choice of 10,000 where there are more.

    Raises:
        ValueError: `index` is empty.
    """
    index = np.asarray(index)
    if not len(index):
        raise ValueError("index must name at least one row; got none")
    if len(index) > MOST_MEASURED:
        index = np.random.Generator(np.random.PCG64(seed)).permutation(index)[:MOST_MEASURED]
    index = np.sort(index)
    step = max(1, (1 << 19) // max(1, x[:1].size))
    count, mean, total = 0, np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for start in range(0, len(index), step):
        rows = x[index[start : start + step]].astype(np.float64)
        rows = rows.reshape(*rows.shape[:2], -1)  # (n, C, values)
        here, values = rows.mean(axis=(0, 2)), rows.shape[0] * rows.shape[2]
        away = here - mean
        # Two runs merge without loss: Chan, Golub and LeVeque 1983, eq. 2.1.
        total += ((rows - here[:, None]) ** 2).sum(axis=(0, 2))
        total += away**2 * count * values / (count + values)
        mean += away * values / (count + values)
        count += values
    std = np.sqrt(total / count)
    low, high = DTYPES[str(x.dtype)]
    std = np.where(std > 1e-6 * np.abs(mean), std, (high - low) / 255)
    return tuple(mean.tolist()), tuple(std.tolist())
