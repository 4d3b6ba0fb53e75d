"""Files worked on by threads, some at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_runs"]

# Items that one thread takes at a time: to hand over every single one costs more than to hash it.
RUN = 16
AHEAD = 2  # runs a thread that may wait for whoever takes the results

T = TypeVar("T")
R = TypeVar("R")


def in_runs(function: Callable[[Sequence[T]], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """Yield `function` of each run of `items`, in order; only a few runs are worked on ahead.

    Raises:
        Exception: whatever `function` raises, when its turn comes.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for start in range(0, len(items), RUN):
                waiting.append(pool.submit(function, items[start : start + RUN]))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
