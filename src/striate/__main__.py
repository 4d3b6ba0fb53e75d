"""The command `striate`, also as `python -m striate`."""

import logging
import os
import sys
from typing import NoReturn

__all__ = ["main"]


# Turns that a thread of OpenMP waits awake for its next work, before it sleeps: some microseconds.
# With PyTorch's 300,000, threads of two processes that share their cores keep each other from work.
SPIN = "2000"


def main() -> None:
    """Run the command line; the clock of `--seconds` started with the process."""
    if "OMP_WAIT_POLICY" not in os.environ:  # read when torch is loaded
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
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
