"""Lessons: experiments of a minute that show what a reference article says, each with a picture.

`striate lesson NAME` runs one. May import errors, data, layers, models, analysis and train.

    lesson        Lesson; the digits and the small training loop that lessons share
    sharing       parameters shared or not; what permuted pixels do
    shifts        invariance, aliasing, spectra of kernels, sizes of pooling windows
    geometry      dilation and receptive fields, padding and borders
    training      rectifiers and tanh, maximum and average, numbers of maps
    film          the neocognitron organising itself
"""

from collections.abc import Callable

from striate.errors import RecipeError, suggest
from striate.lessons.film import organisation
from striate.lessons.geometry import dilation, padding
from striate.lessons.lesson import Lesson
from striate.lessons.sharing import permutation, sharing
from striate.lessons.shifts import aliasing, invariance, pooling, spectrum
from striate.lessons.training import capacity, maximum, rectifier

__all__ = ["LESSONS", "Lesson", "teach"]

LESSONS: dict[str, Callable[[int], Lesson]] = {
    "sharing": sharing,
    "invariance": invariance,
    "aliasing": aliasing,
    "spectrum": spectrum,
    "rectifier": rectifier,
    "dilation": dilation,
    "padding": padding,
    "permutation": permutation,
    "pooling": pooling,
    "maximum": maximum,
    "capacity": capacity,
    "organisation": organisation,
}


def teach(name: str, seed: int = 0) -> Lesson:
    """Run one lesson.

    Raises:
        RecipeError: there is no such lesson.
    """
    if name not in LESSONS:
        raise RecipeError(f"no lesson is called {name!r}; {suggest(name, LESSONS)}")
    return LESSONS[name](seed)
