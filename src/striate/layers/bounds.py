"""What arguments may be: numbers, choices and indices out of bounds are refused by name."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["at_least", "floating", "indices", "one_of", "per_axis", "whole"]


def at_least(least: float, **numbers: float | Sequence[float]) -> None:
    """Refuse numbers below `least`, alone or in a sequence.

    Args:
        least: the smallest number allowed.
        numbers: by the name of their argument.

    Raises:
        ValueError: a number is below `least`, or not a number.
    """
    for name, value in numbers.items():
        for number in _each(value):
            try:
                within = number >= least
            except TypeError:  # no number at all
                within = False
            if not within:  # nan is not at least anything
                raise ValueError(f"{name} must be at least {least}; got {value}")


def _each(value: float | Sequence[float]) -> Sequence[float]:
    return value if isinstance(value, Sequence) else (value,)


def whole(least: float, **numbers: int | Sequence[int]) -> None:
    """Refuse numbers that are not whole or below `least`, alone or in a sequence.

    Args:
        least: the smallest number allowed.
        numbers: by the name of their argument, of Python or NumPy.

    Raises:
        ValueError: a number is not whole, or below `least`.
    """
    for name, value in numbers.items():
        for number in _each(value):  # in every forward pass: loops cost half of what all() does
            if not hasattr(number, "__index__"):
                kind = "whole numbers" if isinstance(value, Sequence) else "a whole number"
                raise ValueError(f"{name} must be {kind}; got {value!r}")
            if number < least:
                raise ValueError(f"{name} must be at least {least}; got {value}")


def per_axis(axes: int, least: float = 1, **numbers: int | Sequence[int]) -> list[tuple[int, ...]]:
    """Return each argument as one whole number an axis; one number alone stands for all axes.

    Args:
        axes: how many there are.
        least: the smallest number allowed.
        numbers: by the name of their argument.

    Raises:
        ValueError: an argument has another number of numbers, or one not whole or below `least`.
    """
    found = []
    for name, value in numbers.items():
        each = tuple(value) if isinstance(value, Sequence) else (value,) * axes
        if len(each) != axes:
            raise ValueError(
                f"{name} must be one number, or one for each of {axes} axes; got {each}"
            )
        whole(least, **{name: value})
        found.append(tuple(map(int, each)))  # those of NumPy are printed oddly
    return found


def floating(**tensors: Tensor) -> None:
    """Refuse tensors of integers, in which what a layer computes would be rounded away.

    Args:
        tensors: by the name of their argument.

    Raises:
        ValueError: a tensor holds neither floating point nor complex numbers.
    """
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            raise ValueError(f"{name} must hold floating point numbers; got {tensor.dtype}")


def one_of(choices: Iterable[str], **names: str) -> None:
    """Refuse words that are not among `choices`.

    Args:
        choices: the words allowed.
        names: by the name of their argument.

    Raises:
        ValueError: a word is unknown.
    """
    known = tuple(choices)
    for name, value in names.items():
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def indices(length: int, count: int, **tensors: Tensor) -> None:
    """Refuse what does not number `length` things by 0 to `count` - 1.

    Looking at the values waits for the device that holds them, once a tensor.

    Args:
        length: how many numbers there must be.
        count: how many different ones there may be.
        tensors: by the name of their argument.

    Raises:
        ValueError: something is no tensor, of another shape, holds no integers, or one that is out
            of range.
    """
    for name, index in tensors.items():
        if not isinstance(index, Tensor):
            raise ValueError(f"{name} must be a tensor ({length},) of integers; got {index!r}")
        whole = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
        if index.shape != (length,) or not whole:
            raise ValueError(
                f"{name} must be ({length},) integers 0 to {count - 1}; "
                f"got {tuple(index.shape)} of {index.dtype}"
            )
        if not length:
            continue
        low, high = torch.stack(index.aminmax()).tolist()
        if low < 0 or high >= count:
            raise ValueError(
                f"{name} must be integers 0 to {count - 1}; got {low if low < 0 else high}"
            )
