"""The table of networks. To add one: write its file, add its line to MODELS and to CARDS.

Whole numbers among a builder's options count something: at least 1 of it, or 0 where 0 is the
default and means that the builder chooses, or that there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from math import isfinite
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
from striate.models.committee import committee
from striate.models.cresceptron import cresceptron
from striate.models.deepface import deepface
from striate.models.denker import denker1989
from striate.models.eegnet import eegnet
from striate.models.emg import emg1988
from striate.models.fastnet import fastnet, initialise
from striate.models.googlenet import googlenet
from striate.models.homma import homma1987
from striate.models.lenet import lecun1989, lenet1, lenet5, lenet5_1998
from striate.models.neocognitron import neocognitron1980
from striate.models.neocognitron1988 import neocognitron1988
from striate.models.neocognitron2003 import add_if_silent, neocognitron2003
from striate.models.nin import allcnn_c, nin
from striate.models.pyramid import pyramid_fillin, pyramid_superresolution
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
from striate.models.tdnn import tdnn, tdnn2d, yamaguchi1990
from striate.models.textcnn import textcnn
from striate.models.transformer import spatial_transformer
from striate.models.unet import unet
from striate.spec import Spec

__all__ = [
    "CARDS",
    "MODELS",
    "Card",
    "build",
    "card_of",
    "has_own_rule",
    "initialise",
    "known",
    "published",
]

_BUILDERS: tuple[Callable[..., nn.Module], ...] = (
    *(fastnet, neocognitron1980, homma1987, neocognitron1988, siann1988, emg1988, tdnn),
    *(denker1989, lecun1989, lenet1, tdnn2d, yamaguchi1990, siann1991, cresceptron, lenet5),
    *(lenet5_1998, pyramid_superresolution, pyramid_fillin, neocognitron2003, add_if_silent),
    *(
        committee,
        textcnn,
        simard2003,
        ciresan_mlp,
        ciresan_mnist,
        ciresan_cifar,
        ciresan_gtsrb,
        ciresan_hwdb,
    ),
    *(ciresan_norb, alexnet, alexnet_ungrouped, nin, allcnn_c, deepface, googlenet),
    *(resnet18, resnet34, resnet50, resnet101, resnet152, resnet20, resnet56, resnet110),
    *(spatial_transformer, unet, capsnet, chaos_small, chaos_medium, chaos_large, eegnet),
)
MODELS: dict[str, Callable[..., nn.Module]] = {build.__name__: build for build in _BUILDERS}


@dataclass(frozen=True)
class Card:
    """What was published: who, when, the input (C, *S), classes, the result, parameters.

    Networks that grow have few parameters before they learn. `rule` says how a network learns.
    """

    year: int
    authors: str
    shape: tuple[int, ...]
    classes: int
    headline: str
    parameters: int
    rule: str = "backpropagation"


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
    "neocognitron1980": Card(
        1980, "Fukushima", (1, 16, 16), 10, "five digits, shifted and deformed", 29_472,
        "competition without a teacher",
    ),
    "homma1987": Card(
        1987, "Homma, Atlas, Marks", (16, 16), 30,
        "30 model phonemes all right; one miss, one false alarm by Hebb's rule", 15_360,
        "delta rule",
    ),
    "neocognitron1988": Card(
        1988, "Fukushima", (1, 19, 19), 10, "handwritten digits", 37_406, "taught by stages",
    ),
    "siann1988": Card(1988, "Zhang", (1, 28, 28), 10, "shifted characters", 81_180),
    "emg1988": Card(1988, "Graupe, Liu, Moschytz", (1, 2000), 0, "who fired when", 133),
    "tdnn": Card(1989, _WAIBEL, (16, 15), 3, "b, d, g 98.5 %", 515),
    "denker1989": Card(
        1989, "Denker et al.", (1, 16, 16), 10, "templates made by hand, ZIP codes", 7_850,
    ),
    "lecun1989": Card(1989, "LeCun et al.", (1, 16, 16), 10, "ZIP codes 5.0 % error", 9_760),
    "lenet1": Card(1990, "LeCun et al.", (1, 28, 28), 10, "MNIST 1.7 % error", 2_578),
    "tdnn2d": Card(
        1990, "Hampshire, Waibel", (16, 15), 3,
        "six speakers, 98.4 % with nets combined, 95.9 % with one TDNN", 1_571,
    ),
    "yamaguchi1990": Card(
        1990, "Yamaguchi, Sakamoto, Akabane, Fujimoto", (16, 100), 28, "28 words 97.1 %", 28_980,
    ),
    "siann1991": Card(
        1991, _ZHANG, (1, 28, 28), 10,
        "medical images, a map a class; mammograms Az about 0.91 (1994)", 5_280,
    ),
    "cresceptron": Card(
        1992, "Weng, Ahuja, Huang", (1, 64, 64), 10, "recognition and segmentation", 0, "growth",
    ),
    "lenet5": Card(1998, _LECUN, (1, 32, 32), 10, "MNIST 0.95 % error (the RBF form)", 61_706),
    "lenet5_1998": Card(
        1998, _LECUN, (1, 32, 32), 10, "MNIST 0.95 % error, 0.8 % with distortions", 60_000,
    ),
    "pyramid_superresolution": Card(
        2001, "Behnke", (1, 16, 16), 0, "pictures four times as fine", 235,
    ),
    "pyramid_fillin": Card(2001, "Behnke", (1, 28, 28), 0, "occluded digits", 14_469),
    "neocognitron2003": Card(
        2003, "Fukushima", (1, 65, 65), 10, "ETL1 digits 98.6 %, of those trained on 100 %", 800,
        "competition with labels",
    ),
    "add_if_silent": Card(
        2013, "Fukushima", (1, 65, 65), 10, "cells made once, never changed", 800, "add if silent",
    ),
    "simard2003": Card(
        2003, "Simard, Steinkraus, Platt", (1, 29, 29), 10,
        "MNIST 0.4 % error with elastic distortions, 0.6 % with affine ones", 132_540,
    ),
    "ciresan_mlp": Card(
        2010, _BIG, (1, 29, 29), 10, "MNIST 0.35 % error", 12_115_010,
    ),
    "committee": Card(
        2012, _CIRESAN, (1, 29, 29), 10, "MNIST 0.23 % error, 35 columns", 532_280,
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
    "textcnn": Card(2014, "Kim", (1, 56), 2, "sentences: sentiment, questions", 1_860_902),
    "resnet18": Card(2015, _HE, (3, 224, 224), 1000, _IMAGENET, 11_689_512),
    "resnet34": Card(2015, _HE, (3, 224, 224), 1000, _IMAGENET, 21_797_672),
    "resnet50": Card(2015, _HE, (3, 224, 224), 1000, _IMAGENET, 25_557_032),
    "resnet101": Card(2015, _HE, (3, 224, 224), 1000, _IMAGENET, 44_549_160),
    "resnet152": Card(
        2015, _HE, (3, 224, 224), 1000, "ImageNet top-5 4.49 % error, 3.57 % as an ensemble",
        60_192_808,
    ),
    "resnet20": Card(2015, _HE, (3, 32, 32), 10, "CIFAR-10 8.75 % error", 269_722),
    "resnet56": Card(2015, _HE, (3, 32, 32), 10, "CIFAR-10 6.97 % error", 853_018),
    "resnet110": Card(2015, _HE, (3, 32, 32), 10, "CIFAR-10 6.43 % error", 1_727_962),
    "spatial_transformer": Card(
        2015, "Jaderberg, Simonyan, Zisserman, Kavukcuoglu", (1, 28, 28), 10,
        "MNIST turned / also scaled and moved / projected / elastic 0.7 / 0.5 / 0.8 / 1.2 % error; "
        "a CNN without it 1.2 / 0.8 / 1.5 / 1.4, fully connected 2.1 / 5.2 / 3.1 / 3.2", 41_724,
    ),
    "unet": Card(2015, _UNET, (1, 256, 256), 2, "a class for every pixel", 31_036_546),
    "capsnet": Card(
        2017, _HINTON, (1, 28, 28), 10,
        "MNIST 0.25 % error (a plain CNN 0.39), MultiMNIST 5.2, affNIST 79 % right (66)", 6_804_224,
    ),
    "chaos_small": Card(2017, _CHAOS, (1, 29, 29), 10, "up to 103 times on 244 threads", 6_405),
    "chaos_medium": Card(2017, _CHAOS, (1, 29, 29), 10, "up to 103 times on 244 threads", 76_040),
    "chaos_large": Card(2017, _CHAOS, (1, 29, 29), 10, "up to 103 times on 244 threads", 383_160),
    "eegnet": Card(2018, "Lawhern et al.", (64, 128), 4, "four brain-computer interfaces", 2_388),
}  # fmt: skip


def has_own_rule(name: str) -> bool:
    """Tell whether a network learns by a rule of its own; unknown ones do not."""
    return name in CARDS and CARDS[name].rule != Card.rule


def known(name: str) -> str:
    """Return the name of a network.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in MODELS:
        raise RecipeError(f"no network is called {name!r}; {suggest(name, MODELS)}")
    return name


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
    builder = MODELS[known(name)]
    takes = {k: v for k, v in signature(builder).parameters.items() if k != "spec"}
    for key, value in options.items():
        if key not in takes:
            raise RecipeError(
                f"network {name!r} has no option {key!r}; "
                f"{suggest(key, takes) if takes else 'it has none'}"
            )
        if wanted := _wanted(takes[key], value):
            raise RecipeError(f"option {key!r} of network {name!r} must be {wanted}; got {value!r}")
    if spec is None and name not in CARDS:
        raise RecipeError(f"network {name!r} has no published input; pass a Spec")
    sample = spec or published(name)
    try:
        net = builder(sample, **options)
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:  # torch's own, too
        raise RecipeError(f"network {name!r} cannot be built so: {error}") from error
    net.spec = sample  # type: ignore[assignment]  # for whoever asks what it takes
    return net


def _wanted(option: Parameter, value: Any) -> str:
    """Return what a value of this option must be; nothing where it is."""
    kind, default = option.annotation, option.default
    if kind in (int, str, bool) and type(value) is not kind:
        return f"of type {kind.__name__}"
    if kind is float and (type(value) not in (int, float) or not isfinite(value)):
        return "a finite number"
    least = min(1, default) if isinstance(default, int) else 1
    return f"at least {least}" if kind is int and value < least else ""


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
