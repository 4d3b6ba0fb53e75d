"""The table of networks. To add one: write its file, add its line to MODELS and to CARDS."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import nn

from striate.errors import RecipeError, suggest
from striate.models.fastnet import fastnet, initialise
from striate.models.lenet import lenet5
from striate.models.resnet import resnet18, resnet20, resnet34, resnet50, resnet56
from striate.spec import Spec

__all__ = ["CARDS", "MODELS", "Card", "build", "card_of", "initialise", "published"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "fastnet": fastnet,
    "lenet5": lenet5,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet20": resnet20,
    "resnet56": resnet56,
}


@dataclass(frozen=True)
class Card:
    """What was published: who, when, the input (C, *S), the number of classes, the result."""

    year: int
    authors: str
    shape: tuple[int, ...]
    classes: int
    headline: str


_HE = "He, Zhang, Ren, Sun"
_LECUN = "LeCun, Bottou, Bengio, Haffner"
CARDS: dict[str, Card] = {
    "fastnet": Card(
        2026, "Striate, after Page and Jordan", (3, 32, 32), 10, "the default; any axes"
    ),
    "lenet5": Card(1998, _LECUN, (1, 32, 32), 10, "MNIST 0.95 % error (the RBF form)"),
    "resnet18": Card(2015, _HE, (3, 224, 224), 1000, "ImageNet, counts of the paper's table 1"),
    "resnet34": Card(2015, _HE, (3, 224, 224), 1000, "ImageNet, counts of the paper's table 1"),
    "resnet50": Card(2015, _HE, (3, 224, 224), 1000, "ImageNet, counts of the paper's table 1"),
    "resnet20": Card(2015, _HE, (3, 32, 32), 10, "CIFAR-10 8.75 % error"),
    "resnet56": Card(2015, _HE, (3, 32, 32), 10, "CIFAR-10 6.97 % error"),
}


def published(name: str) -> Spec:
    """Return the Spec of the published input and classes; classes are named by number."""
    card = CARDS[name]
    names = tuple(str(k) for k in range(card.classes))
    return Spec(channels=card.shape[0], size=card.shape[1:], classes=names)


def build(name: str, spec: Spec | None = None, **options: Any) -> nn.Module:
    """Return network `name` for samples of `spec`, weights freshly drawn.

    Shape: (N, C, *S) -> (N, K) logits

    Args:
        name: a line of MODELS.
        spec: what a sample is; without one, the published input and classes.
        options: keywords of that network's builder.

    Raises:
        RecipeError: there is no such network, option or option value, or the samples are too
            small for it.
    """
    if name not in MODELS:
        raise RecipeError(f"no network is called {name!r}; {suggest(name, MODELS)}")
    builder = MODELS[name]
    known = {k: v.annotation for k, v in signature(builder).parameters.items() if k != "spec"}
    for key, value in options.items():
        if key not in known:
            raise RecipeError(
                f"network {name!r} has no option {key!r}; "
                f"{suggest(key, known) if known else 'it has none'}"
            )
        kind = known[key]
        if kind in (int, str, bool) and type(value) is not kind:
            raise RecipeError(
                f"option {key!r} of network {name!r} must be of type {kind.__name__}; got {value!r}"
            )
    if spec is None and name not in CARDS:
        raise RecipeError(f"network {name!r} has no published input; pass a Spec")
    try:
        return builder(spec or published(name), **options)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"network {name!r} cannot be built so: {error}") from error


def card_of(name: str) -> dict[str, Any]:
    """Return the line of `striate models`: name, year, authors, parameters, input, headline."""
    card = CARDS[name]
    count = sum(p.numel() for p in build(name).parameters())
    return {
        "name": name,
        "year": card.year,
        "authors": card.authors,
        "parameters": count,
        "input": list(card.shape),
        "headline": card.headline,
    }
