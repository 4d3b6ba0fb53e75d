"""Mistakes of the user, not of the programmer: the command line prints these without a traceback.

    UserError
    ├── DataError     a file, folder or label does not hold what it should
    ├── RecipeError   an option or a name is unknown or impossible
    ├── BundleError   a bundle is missing, damaged or of another version
    └── ExportError   an exported network does not answer as the trained one does

Every text says what was wanted, what was got, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["BundleError", "DataError", "ExportError", "RecipeError", "UserError", "suggest"]


class UserError(Exception):
    """The user must change something. Exit code 2."""


class DataError(UserError):
    """A file or folder cannot be read, or does not hold what it should."""


class RecipeError(UserError):
    """A recipe names something unknown or asks for something impossible."""


class BundleError(UserError):
    """A bundle is missing, damaged or of another version."""


class ExportError(UserError):
    """An exported network gives other answers than the trained one."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error text: the nearest known name, or all of them."""
    names = list(known)
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
