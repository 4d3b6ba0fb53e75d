"""The table of networks. To add one: write its file, add its line to MODELS and to CARDS."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import nn

from striate.errors import RecipeError, suggest
from striate.models.alexnet import alexnet, alexnet_ungrouped
from striate.models.capsnet import capsnet
from striate.models.ciresan import (
    chaos_large,
    chaos_medium,
    chaos_small,
    ciresan_cifar,
    ciresan_gtsrb,
    ciresan_hwdb,
    ciresan_mlp,
    ciresan_mnist,
    ciresan_norb,
)
from striate.models.deepface import deepface
from striate.models.eegnet import eegnet
from striate.models.fastnet import fastnet, initialise
from striate.models.googlenet import googlenet
from striate.models.lenet import lecun1989, lenet1, lenet5, lenet5_1998
from striate.models.nin import allcnn_c, nin
from striate.models.resnet import (
    resnet18,
    resnet20,
    resnet34,
    resnet50,
    resnet56,
    resnet101,
    resnet110,
    resnet152,
)
from striate.models.siann import siann1988, siann1991
from striate.models.simard import simard2003
from striate.models.tdnn import tdnn, tdnn2d
from striate.models.transformer import spatial_transformer
from striate.models.unet import unet
from striate.spec import Spec

__all__ = ["CARDS", "MODELS", "Card", "build", "card_of", "initialise", "published"]

_BUILDERS: tuple[Callable[..., nn.Module], ...] = (
    *(fastnet, siann1988, tdnn, lecun1989, lenet1, tdnn2d, siann1991, lenet5, lenet5_1998),
    *(simard2003, ciresan_mlp, ciresan_mnist, ciresan_cifar, ciresan_gtsrb, ciresan_hwdb),
    *(ciresan_norb, alexnet, alexnet_ungrouped, nin, allcnn_c, deepface, googlenet),
    *(resnet18, resnet34, resnet50, resnet101, resnet152, resnet20, resnet56, resnet110),
    *(spatial_transformer, unet, capsnet, chaos_small, chaos_medium, chaos_large, eegnet),
)
MODELS: dict[str, Callable[..., nn.Module]] = {build.__name__: build for build in _BUILDERS}


@dataclass(frozen=True)
class Card:
    """What was published: who, when, the input (C, *S), classes, the result, parameters."""

    year: int
    authors: str
    shape: tuple[int, ...]
    classes: int
    headline: str
    parameters: int


_HE = "He, Zhang, Ren, Sun"
_LECUN = "LeCun, Bottou, Bengio, Haffner"
_CIRESAN = "Ciresan, Meier, Schmidhuber"
_BIG = "Ciresan, Meier, Gambardella, Schmidhuber"
_WAIBEL = "Waibel, Hanazawa, Hinton, Shikano, Lang"
_DEEPFACE = "Taigman, Yang, Ranzato, Wolf"
_UNET = "Ronneberger, Fischer, Brox"
_SZEGEDY = "Szegedy et al."
_HINTON = "Sabour, Frosst, Hinton"
_CHAOS = "Viebke, Memeti, Pllana, Abraham"
_ZHANG = "Zhang, Itoh, Tanida, Ichioka"
_KRIZHEVSKY = "Krizhevsky, Sutskever, Hinton"
_IMAGENET = "ImageNet, counts of the paper's table 1"
CARDS: dict[str, Card] = {
    "fastnet": Card(
        2026, "Striate, after Page and Jordan", (3, 32, 32), 10, "the default; any axes", 564_944,
    ),
    "siann1988": Card(1988, "Zhang", (1, 28, 28), 10, "shifted characters", 81_180),
    "tdnn": Card(1989, _WAIBEL, (16, 15), 3, "b, d, g 98.5 %", 515),
    "lecun1989": Card(1989, "LeCun et al.", (1, 16, 16), 10, "ZIP codes 5.0 % error", 9_760),
    "lenet1": Card(1990, "LeCun et al.", (1, 28, 28), 10, "MNIST 1.7 % error", 2_578),
    "tdnn2d": Card(1990, "Hampshire, Waibel", (16, 15), 3, "six speakers, 98.4 % combined", 1_571),
    "siann1991": Card(1991, _ZHANG, (1, 28, 28), 10, "medical images; a map a class", 5_280),
    "lenet5": Card(1998, _LECUN, (1, 32, 32), 10, "MNIST 0.95 % error (the RBF form)", 61_706),
    "lenet5_1998": Card(1998, _LECUN, (1, 32, 32), 10, "MNIST 0.95 % error", 60_000),
    "simard2003": Card(
        2003, "Simard, Steinkraus, Platt", (1, 29, 29), 10, "MNIST 0.4 % error, elastic", 132_540,
    ),
    "ciresan_mlp": Card(
        2010, _BIG, (1, 29, 29), 10, "MNIST 0.35 % error", 12_115_010,
    ),
    "ciresan_mnist": Card(2012, _CIRESAN, (1, 29, 29), 10, "MNIST 0.23 % error, 35 nets", 76_040),
    "ciresan_cifar": Card(2012, _CIRESAN, (3, 32, 32), 10, "CIFAR-10 11.21 % error", 1_660_710),
    "ciresan_gtsrb": Card(2012, _CIRESAN, (3, 48, 48), 43, "GTSRB 99.46 %, 25 nets", 1_543_443),
    "ciresan_hwdb": Card(2012, _CIRESAN, (1, 48, 48), 3755, "HWDB1.0 6.5 % error", 3_483_655),
    "ciresan_norb": Card(2012, _CIRESAN, (2, 48, 48), 6, "NORB 2.70 % error", 271_156),
    "alexnet": Card(2012, _KRIZHEVSKY, (3, 227, 227), 1000, "ImageNet top-5 15.3 %", 60_965_224),
    "alexnet_ungrouped": Card(2012, _KRIZHEVSKY, (3, 227, 227), 1000, "on one device", 62_378_344),
    "nin": Card(2013, "Lin, Chen, Yan", (3, 32, 32), 10, "CIFAR-10 10.41 % error", 966_986),
    "allcnn_c": Card(
        2014, "Springenberg, Dosovitskiy, Brox, Riedmiller", (3, 32, 32), 10,
        "CIFAR-10 9.08 % error, 7.25 % augmented", 1_369_738,
    ),
    "deepface": Card(2014, _DEEPFACE, (3, 152, 152), 4030, "LFW 97.35 %", 118_923_774),
    "googlenet": Card(2014, _SZEGEDY, (3, 224, 224), 1000, "ImageNet top-5 6.67 %", 6_998_552),
    "resnet18": Card(2015, _HE, (3, 224, 224), 1000, _IMAGENET, 11_689_512),
    "resnet34": Card(2015, _HE, (3, 224, 224), 1000, _IMAGENET, 21_797_672),
    "resnet50": Card(2015, _HE, (3, 224, 224), 1000, _IMAGENET, 25_557_032),
    "resnet101": Card(2015, _HE, (3, 224, 224), 1000, _IMAGENET, 44_549_160),
    "resnet152": Card(2015, _HE, (3, 224, 224), 1000, "top-5 3.57 %, ensemble", 60_192_808),
    "resnet20": Card(2015, _HE, (3, 32, 32), 10, "CIFAR-10 8.75 % error", 269_722),
    "resnet56": Card(2015, _HE, (3, 32, 32), 10, "CIFAR-10 6.97 % error", 853_018),
    "resnet110": Card(2015, _HE, (3, 32, 32), 10, "CIFAR-10 6.43 % error", 1_727_962),
    "spatial_transformer": Card(
        2015, "Jaderberg, Simonyan, Zisserman, Kavukcuoglu", (1, 28, 28), 10,
        "distorted MNIST 0.7 % error", 41_724,
    ),
    "unet": Card(2015, _UNET, (1, 256, 256), 2, "a class for every pixel", 31_036_546),
    "capsnet": Card(2017, _HINTON, (1, 28, 28), 10, "MNIST 0.25 % error", 6_804_224),
    "chaos_small": Card(2017, _CHAOS, (1, 29, 29), 10, "up to 103 times on 244 threads", 6_405),
    "chaos_medium": Card(2017, _CHAOS, (1, 29, 29), 10, "up to 103 times on 244 threads", 76_040),
    "chaos_large": Card(2017, _CHAOS, (1, 29, 29), 10, "up to 103 times on 244 threads", 383_160),
    "eegnet": Card(2018, "Lawhern et al.", (64, 128), 4, "four brain-computer interfaces", 2_388),
}  # fmt: skip


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
    return {
        "name": name,
        "year": card.year,
        "authors": card.authors,
        "parameters": card.parameters,
        "input": list(card.shape),
        "headline": card.headline,
    }
