"""What is there decides the reader: class folders, tables, arrays, or files to predict."""

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.archives import has_idx, read_idx, read_npz
from striate.data.cifar import find_cifar, read_cifar
from striate.data.kinds import ENDINGS, KINDS, kind_of
from striate.data.layout import KIND_OF_AXES
from striate.data.named import NAMES, read_named
from striate.data.samples import SPLITS, Fault, Samples, class_order, need_two_classes
from striate.data.tables import TABLES, read_table
from striate.errors import DataError

__all__ = ["find_files", "list_files", "read"]

# A table of one of these names in a folder says what is in the folder.
_FOLDER_TABLES = ("metadata.csv", "labels.csv")
# Folders that programs leave among the files of people: unpackers, Python, file servers, Windows.
_PROGRAMS = {"__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN"}

# Words that are names of classes as well: splits only where every folder is one.
_WEAK = ("training", "testing")


def read(
    path: str | Path, labelled: bool = True, home: Path | None = None, axes: int = 0
) -> Samples:
    """Read labelled samples, whatever form they are in.

    Class folders (`<class>/**`, or `train|val|valid|validation|test/<class>/**`), a table (CSV,
    TSV or Parquet; or a folder with a metadata.csv or labels.csv), an NPZ, a folder of IDX files,
    a CIFAR folder, or a name: digits, mnist, fashion-mnist, cifar10, usps, fsdd. A path that
    exists wins over a name. Files are neither opened nor decoded.

    Args:
        path: a file, a folder or a name.
        labelled: False reads files and arrays to predict: labels are -1, and folders are no
            classes.
        home: the cache folder, where downloads go; None is `files.cache_folder()`.
        axes: spatial axes of a sample in an NPZ, 1 to 3; 0: from its shape.

    Raises:
        DataError: nothing is there, or it does not hold what it should.
    """
    samples = _read(path, labelled, home, axes)
    if axes and axes != (found := _axes(samples)):
        raise DataError(
            f"{path}: wanted {KIND_OF_AXES[axes]} samples, of axes {axes}; got {samples.kind} "
            f"samples, of axes {found}: only the arrays of an NPZ can be read in several ways"
        )
    return samples


def _axes(samples: Samples) -> int:
    """Return how many spatial axes a sample has."""
    if samples.arrays is not None:
        return samples.arrays.ndim - 2
    return 2 if samples.kind == "image" else 1


def _read(path: str | Path, labelled: bool, home: Path | None, axes: int) -> Samples:
    if not str(path).strip():
        raise DataError(
            "wanted a folder, a file or a name; got an empty text: is a variable of the shell not "
            "set? Name the data"
        )
    root = Path(path)
    if not root.exists():
        return read_named(str(path), labelled, home)
    if root.is_dir():
        return _read_folder(root, labelled)
    suffix = root.suffix.lower()
    if suffix in TABLES:
        return read_table(root, labelled)
    if suffix == ".npz":
        return read_npz(root, labelled, axes)
    if not labelled:
        return _unlabelled(root.parent, [(root.name, root)], [], kind_of([root]))
    raise DataError(
        f"{root}: wanted a folder of class folders, a table ({', '.join(TABLES)}), an .npz, or "
        f"one of the names {', '.join(NAMES)}; got a file {suffix or 'without a suffix'}"
    )


def list_files(paths: Sequence[str | Path], kind: str = "image") -> list[Path]:
    """Return files in the order named; a folder becomes the files of a kind below it, sorted.

    Args:
        paths: files and folders. A file is taken whatever its name, and if it is missing too:
            whoever decodes it says so.
        kind: as in `Spec.kind`.
    """
    return find_files(paths, kind)[0]


def find_files(paths: Sequence[str | Path], kind: str) -> tuple[list[Path], list[Fault]]:
    """Return what `list_files` returns, and what was left out of the folders."""
    files: list[Path] = []
    walk = _Walk(kind)
    for path in map(Path, paths):
        if path.is_dir():
            files += [file for _, file in sorted(walk.files(path, ""))]
        else:
            files.append(path)
    return files, walk.skipped


@dataclass
class _Walk:
    """Walk folders in the order of names, noting what is left out."""

    kind: str = "image"
    skipped: list[Fault] = field(default_factory=list)

    def leave_out(self, name: str, why: str) -> None:
        """Note one thing that is not read."""
        self.skipped.append(Fault("skipped", name, why))

    def entries(self, folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
        """Yield name and path of all that is visible in a folder."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error
        for entry in entries:
            name, is_folder = entry.name, entry.is_dir()
            if is_folder and (name.startswith(".") or name in _PROGRAMS):
                self.leave_out(prefix + name, "a folder of a program, not of a person")
            elif is_folder and (_is_run(Path(entry)) or _holds_runs(Path(entry))):
                self.leave_out(prefix + name, "what `striate train` wrote, not data")
            elif name.startswith("."):
                self.leave_out(prefix + name, "a hidden file")
            else:
                yield name, folder / name

    def folders(self, folder: Path, prefix: str, loose: str) -> list[tuple[str, Path]]:
        """Return the visible folders in a folder; `loose` says why a file is left out."""
        found = []
        for name, path in self.entries(folder, prefix):
            if path.is_dir():
                found.append((name, path))
            else:
                self.leave_out(prefix + name, loose)
        return found

    def files(
        self, folder: Path, prefix: str, above: frozenset[str] = frozenset()
    ) -> Iterator[tuple[str, Path]]:
        """Yield name and path of every file of the kind below a folder."""
        real = os.path.realpath(folder)
        if real in above:
            self.leave_out(prefix.rstrip("/"), "a link to a folder that it lies in")
            return
        for name, path in self.entries(folder, prefix):
            if path.is_dir():
                yield from self.files(path, f"{prefix}{name}/", above | {real})
            elif path.suffix.lower() in ENDINGS[self.kind]:
                yield prefix + name, path
            else:
                article = "an" if self.kind == "image" else "a"
                self.leave_out(prefix + name, f"not {article} {self.kind}, by its name")


def _read_folder(root: Path, labelled: bool) -> Samples:
    """Read what a folder holds."""
    if found := find_cifar(root):
        return read_cifar(*found, labelled)
    if has_idx(root):
        return read_idx(root, labelled)
    tables = [root / name for name in _FOLDER_TABLES if (root / name).is_file()]
    if len(tables) > 1:
        raise DataError(f"{root}: wanted one table; got {' and '.join(t.name for t in tables)}")
    if tables and labelled:
        samples = read_table(tables[0], labelled)
        return replace(samples, skipped=(*samples.skipped, *_unnamed(root, tables[0], samples)))
    if not labelled:
        walk, files = _most(lambda walk: list(walk.files(root, "")))
        return _unlabelled(root, sorted(files), walk.skipped, walk.kind)
    return _class_folders(root)


def _unnamed(root: Path, table: Path, samples: Samples) -> Iterator[Fault]:
    """Yield the files below a folder that its table passes over."""
    named = {os.path.abspath(file) for file in samples.files or ()}
    for name, file in _Walk(samples.kind).files(root, ""):
        if os.path.abspath(file) not in named:
            yield Fault("skipped", name, f"not in {table.name}")


def _most(
    look: Callable[["_Walk"], list[Any]], enough: Callable[[list[Any]], bool] = bool
) -> tuple["_Walk", list[Any]]:
    """Look for images; where there are none, for enough of another kind; return walk and find."""
    walks = []
    for kind in KINDS:
        walk = _Walk(kind)
        found = look(walk)
        if found and (kind == "image" or enough(found)):
            return walk, found
        walks.append(walk)
    return walks[0], []


def _unlabelled(
    root: Path, found: list[tuple[str, Path]], skipped: list[Fault], kind: str
) -> Samples:
    if not found:
        raise DataError(f"{root}: wanted image, sound or text files; got none{_left_out(skipped)}")
    names, files = zip(*found, strict=True)
    return Samples(
        root=root,
        kind=kind,
        names=names,
        classes=(),
        labels=np.full(len(names), -1, np.int64),
        splits=np.full(len(names), "", "U10"),
        files=tuple(Path(os.path.abspath(file)) for file in files),
        skipped=tuple(skipped),
    )


def _class_folders(root: Path) -> Samples:
    """Read `<class>/**` or `<split>/<class>/**`; one class map over all splits."""
    walk = _Walk()
    places = list(_class_places(root, walk))
    if not places:
        raise DataError(
            f"{root}: wanted class folders with images, as in cats/1.jpg or train/cats/1.jpg, or "
            f"a table labels.csv, IDX or CIFAR files; got {_summary(root)}"
        )
    classes = class_order(name for _, name, _, _ in places)
    need_two_classes(root, classes)
    index = {name: place for place, name in enumerate(classes)}

    def look(walk: _Walk) -> list[tuple[str, Path, int, str]]:
        return [
            (name, file, index[label], split)
            for split, label, prefix, folder in places
            for name, file in walk.files(folder, prefix)
        ]

    # A note here and there makes no data set of texts: every class has to have some.
    inside, found = _most(look, lambda some: len({row[2] for row in some}) == len(classes))
    skipped = walk.skipped + inside.skipped
    if not found:
        raise DataError(
            f"{root}: wanted image, sound or text files in {len(classes)} class folders; got none"
            f"{_left_out(skipped)}"
        )
    names, files, labels, splits = zip(*sorted(found), strict=True)
    return Samples(
        root=root,
        kind=inside.kind,
        names=names,
        classes=classes,
        labels=np.array(labels, np.int64),
        splits=np.array(splits, "U10"),
        files=tuple(Path(os.path.abspath(file)) for file in files),
        skipped=tuple(skipped),
    )


def _class_places(root: Path, walk: _Walk) -> Iterator[tuple[str, str, str, Path]]:
    """Yield split, class, prefix of names and path of every class folder."""
    top = walk.folders(root, "", "not in a class folder")
    splits = [(name, path) for name, path in top if name.lower() in SPLITS]
    if len(splits) < len(top):
        splits = [(name, path) for name, path in splits if name.lower() not in _WEAK]
    # A folder called "train" of pictures is a class beside "car", a split beside "test".
    if not any(_has_folders(path) for _, path in splits):
        if splits and len(splits) == len(top):
            raise DataError(
                f"{root}: wanted class folders in {' and '.join(name for name, _ in splits)}, "
                f"as in {splits[0][0]}/cats/1.jpg; got files only"
            )
        yield from (("", _class_name(name), f"{name}/", path) for name, path in top)
        return
    for name, _ in top:
        if name not in dict(splits):
            walk.leave_out(name, f"a folder beside the splits {', '.join(n for n, _ in splits)}")
    for split, folder in splits:
        loose = "in a split, but not in a class folder"
        for name, path in walk.folders(folder, f"{split}/", loose):
            yield SPLITS[split.lower()], _class_name(name), f"{split}/{name}/", path


def _class_name(name: str) -> str:
    """Return one spelling of a name that file systems spell in two ways; \\xe9 of a byte, no UTF-8.

    A class is written into cards, tables, reports and JSON, and has to read alike in all of them.
    """
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() for _, path in _Walk().entries(folder, ""))


def _is_run(folder: Path) -> bool:
    """Tell whether a folder is what a training writes."""
    return all((folder / name).is_file() for name in ("recipe.toml", "run.json"))


def _holds_runs(folder: Path) -> bool:
    """Tell whether a folder holds runs and nothing else; of one that was cut off, its events."""
    runs = False
    try:
        with os.scandir(folder) as entries:
            for path in (Path(entry) for entry in entries if not entry.name.startswith(".")):
                if not (path / "events.jsonl").is_file():
                    return False
                runs = runs or _is_run(path)
    except OSError:  # whoever reads it says why
        return False
    return runs


def _summary(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}" if names else "an empty folder"


def _left_out(skipped: Sequence[Fault]) -> str:
    if not skipped:
        return ""
    return f"; {len(skipped)} were left out, the first {skipped[0].path}: {skipped[0].detail}"
