"""The files of a bundle as a folder or one `.zip`: checked when read, all or nothing when written.

`config.json` carries, under "striate", the format version and the SHA-256 of every other file and
of itself. That finds damage; it is no signature, whoever rewrites a bundle can rewrite it too.
No torch here, so that a server without it can read a bundle.
"""

import errno
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from striate import __version__
from striate.errors import BundleError

__all__ = ["CONFIG", "FORMAT", "encode", "parse_object", "read", "refuse_existing", "write"]

CONFIG = "config.json"
FORMAT = 1
LARGEST = 8 * 2**30  # bytes, unpacked
RATIO = 100  # unpacked bytes a byte of .zip; weights hardly shrink, more is a bomb
DATE = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes

AGAIN = "copy the bundle again, or save it anew"


class _Stamp(BaseModel):
    format: int
    version: str
    files: dict[str, str]
    seal: str


# Reading


def read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the config and the content of every file that it lists, all of them checked.

    Raises:
        BundleError: one is missing, changed, unsafe or of another format version.
    """
    if path.is_dir():
        return _checked(path, lambda name: _file(path, name))
    if not path.is_file():
        raise BundleError(f"no bundle at {path}; wanted the folder or .zip that training wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            prefix = _prefix(archive, path)
            return _checked(path, lambda name: _entry(archive, prefix + name))
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise BundleError(f"{path} is no readable .zip: {error}; {AGAIN}") from None


def parse_object(content: bytes, name: str, path: Path) -> dict[str, Any]:
    """Return the JSON object in file `name` of the bundle at `path`."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {name} is no JSON: {error}; {AGAIN}") from None
    if not isinstance(value, dict):
        raise BundleError(f"{path}: {name} must hold a JSON object, got {value!r:.40}; {AGAIN}")
    return value


def _checked(
    path: Path, content: Callable[[str], bytes]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    config = parse_object(_content(path, CONFIG, content), CONFIG, path)
    stamp = _stamp(config, path)
    files, left = {}, LARGEST
    for name, wanted in stamp.files.items():
        if not _is_safe(name):
            raise BundleError(f"{path}: {CONFIG} lists {name!r}, which lies outside of the bundle")
        files[name] = _content(path, name, content)
        left -= len(files[name])
        if sha256(files[name]).hexdigest() != wanted:
            raise BundleError(
                f"{path}: {name} is not what was saved, its checksum differs; {AGAIN}"
            )
        if left < 0:
            raise BundleError(f"{path}: a bundle may hold {LARGEST} bytes; this one is larger")
    return config, files


def _content(path: Path, name: str, content: Callable[[str], bytes]) -> bytes:
    try:
        return content(name)
    except (KeyError, FileNotFoundError):
        raise BundleError(f"{path}: {name} is missing; {AGAIN}") from None
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise BundleError(f"{path}: {name} cannot be read: {error}; {AGAIN}") from None


def _stamp(config: dict[str, Any], path: Path) -> _Stamp:
    stamp = config.get("striate")
    if not isinstance(stamp, dict):
        raise BundleError(f"{path}: {CONFIG} has no 'striate' entry: Striate did not write this")
    if (found := stamp.get("format")) != FORMAT:
        raise BundleError(
            f"{path}: {CONFIG} says bundle format {found!r}, written by striate "
            f"{stamp.get('version', '?')}; striate {__version__} reads format {FORMAT}; install "
            "the version that wrote it, or train anew"
        )
    try:
        checked = _Stamp.model_validate(stamp)
    except ValidationError:
        checked = None
    if checked is None or checked.seal != _seal(config):
        raise BundleError(f"{path}: {CONFIG} is not what was saved, its seal differs; {AGAIN}")
    return checked


def _seal(config: dict[str, Any]) -> str:
    """SHA-256 of the config without its seal, whatever its spaces and the order of its keys."""
    stamp = {key: value for key, value in config["striate"].items() if key != "seal"}
    text = json.dumps({**config, "striate": stamp}, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _is_safe(name: str) -> bool:
    """Tell whether `name` stays inside of the folder on every system."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name)


def _file(root: Path, name: str) -> bytes:
    file = root / name
    if not file.is_file():  # a device or a pipe would never end
        raise FileNotFoundError(name)
    return file.read_bytes()


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    entry = archive.getinfo(name)
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise OSError("it is encrypted or packed in a rare way; wanted stored or deflated")
    return archive.read(name)  # never more than the size that `_prefix` has added up


def _prefix(archive: zipfile.ZipFile, path: Path) -> str:
    """Refuse a hostile archive; return the folder in it that holds the bundle: "" or "name/"."""
    names = archive.namelist()
    for name in names:
        if not _is_safe(name):
            raise BundleError(f"{path}: {name!r} would lie outside of the bundle; do not trust it")
    size = sum(entry.file_size for entry in archive.infolist())
    if size > min(LARGEST, RATIO * max(path.stat().st_size, 2**20)):
        raise BundleError(
            f"{path}: {path.stat().st_size} bytes would unpack to {size}, more than a bundle may "
            f"({LARGEST} bytes, {RATIO} times its size); do not trust it"
        )
    depths = sorted((n.count("/"), n) for n in names if PurePosixPath(n).name == CONFIG)
    return depths[0][1].removesuffix(CONFIG) if depths else ""


# Writing


def write(path: Path, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a new folder, or a new file where `path` ends in `.zip`, in one instant.

    Everything goes to a hidden neighbour first, is flushed to the disk, and is then renamed.

    Raises:
        BundleError: `path` exists or cannot be written; nothing is left behind.
    """
    sums = {name: sha256(content).hexdigest() for name, content in files.items()}
    sealed = {**config, "striate": {"format": FORMAT, "version": __version__, "files": sums}}
    sealed["striate"]["seal"] = _seal(sealed)
    everything = {CONFIG: encode(sealed), **files}
    part = path.parent / f".{path.name}.{uuid4().hex[:8]}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (_write_zip if path.suffix.lower() == ".zip" else _write_folder)(part, everything)
        refuse_existing(path)  # somebody may have been faster
        part.rename(path)
        _flush(path.parent)
    except OSError as error:
        raise BundleError(_unwritten(path, everything, error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            part.unlink(missing_ok=True)


def refuse_existing(path: Path) -> None:
    """Raise BundleError where anything, even a dangling link, stands at `path`."""
    if os.path.lexists(path):
        raise BundleError(f"{path} exists and is never overwritten; name another place")


def encode(value: Mapping[str, Any]) -> bytes:
    """Return JSON that a person can read too."""
    return json.dumps(value, indent=2, allow_nan=False).encode() + b"\n"


def _write_folder(part: Path, files: Mapping[str, bytes]) -> None:
    folders = {part, *((part / name).parent for name in files)}
    for folder in sorted(folders):
        folder.mkdir()
    for name, content in files.items():
        with (part / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    for folder in folders:
        _flush(folder)


def _write_zip(part: Path, files: Mapping[str, bytes]) -> None:
    with part.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name, DATE)
                entry.create_system, entry.external_attr = 3, 0o100644 << 16  # the same everywhere
                archive.writestr(entry, content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Make a folder's entries durable, where the system knows how to."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _unwritten(path: Path, files: Mapping[str, bytes], error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        wanted = sum(len(content) for content in files.values())
        return (
            f"the disk is full: {path} needs {wanted} bytes; free some, or name another place "
            "(nothing was changed)"
        )
    why = error.strerror or str(error)
    return f"{path} cannot be written: {why}; name a folder that you may write to"
