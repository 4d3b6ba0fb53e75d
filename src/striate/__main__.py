"""The command `striate`, also as `python -m striate`."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; the clock of `--seconds` started with the process."""
    from striate.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
