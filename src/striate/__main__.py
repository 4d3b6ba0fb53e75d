"""The command `striate`, also as `python -m striate`."""

import logging
import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> None:
    """Run the command line; the clock of `--seconds` started with the process."""
    from striate.cli import run

    leave(run())


def leave(code: int) -> NoReturn:
    """Leave at once: to unload torch would take up to a second and 100 MB, and saves nobody."""
    from striate.cli import unwritten

    logging.shutdown()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        code = code or unwritten(error)
    os._exit(code)


if __name__ == "__main__":
    main()
