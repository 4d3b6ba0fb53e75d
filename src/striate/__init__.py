"""Striate: labelled data in, a convolutional network that can be trusted out."""

from importlib import import_module
from typing import Any

__all__ = [
    "Recipe",
    "Spec",
    "accelerate",
    "analysis",
    "bundle",
    "data",
    "deploy",
    "errors",
    "kernels",
    "load",
    "models",
    "train",
]
__version__ = "0.1.0"

_HOMES = {
    "Recipe": "recipe",
    "Spec": "spec",
    "accelerate": "kernels.accelerated",
    "load": "deploy.predict",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used: torch takes seconds, `striate --help` must not."""
    if name in _HOMES:
        return getattr(import_module(f"striate.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"striate.{name}")
    raise AttributeError(f"module 'striate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
