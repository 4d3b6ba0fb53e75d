"""Learning-rate factor, 0 to 1, as a function of progress, 0 to 1.

Progress is the larger of the shares of updates and of time spent, read half a step in: one
schedule serves both budgets, and none starts or ends at zero.
"""

from collections.abc import Callable
from math import cos, pi

__all__ = ["SCHEDULES"]


def onecycle(progress: float) -> float:
    """Rise linearly from 1/5 over the first fifth, then fall linearly to 1/50."""
    if progress < 0.2:
        return 0.2 + 0.8 * progress / 0.2
    return 1 + (0.02 - 1) * (progress - 0.2) / 0.8


def linear(progress: float) -> float:
    """Fall linearly from 1 to 0."""
    return 1 - progress


def cosine(progress: float) -> float:
    """Fall along half a cosine from 1 to 0, after a warm-up over the first twentieth."""
    return min(1.0, progress / 0.05) * 0.5 * (1 + cos(pi * progress))


def constant(progress: float) -> float:
    """Stay at 1."""
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {
    "onecycle": onecycle,
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
}
