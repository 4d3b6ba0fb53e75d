import re
from inspect import signature
from math import prod

import pytest
import torch

from striate import models
from striate.analysis import profile
from striate.errors import RecipeError
from striate.models import CARDS, MODELS, build, card_of, published
from striate.spec import Spec

PUBLISHED = {
    "tdnn": 392 + 123,  # C-14
    "lecun1989": 1_068 + 2_592 + 5_790 + 310,  # C-10
    "lenet1": 104 + 8 + 512 + 24 + 1_930,  # C-11
    "tdnn2d": 128 + 1_443,
    "siann1991": 260 + 2_510 + 251 * 10,
    "lenet5": 61_706,  # C-13
    "lenet5_1998": 156 + 12 + 1_516 + 32 + 48_120 + 10_164,  # C-12
    "simard2003": 132_540,  # C-17
    "ciresan_mlp": 12_115_010,  # C-18
    "ciresan_mnist": 76_040,  # C-19
    "ciresan_cifar": 1_660_710,  # C-19
    "ciresan_gtsrb": 1_543_443,  # C-19
    "ciresan_hwdb": 3_483_655,  # C-19
    "ciresan_norb": 271_156,
    "alexnet": 60_965_224,  # C-21
    "alexnet_ungrouped": 62_378_344,  # C-21
    "nin": 966_986,  # C-25
    "allcnn_c": 1_369_738,  # C-25
    "deepface": 118_923_774,  # C-25
    "googlenet": 6_998_552,  # C-22
    "resnet18": 11_689_512,  # C-23
    "resnet34": 21_797_672,  # C-23
    "resnet50": 25_557_032,  # C-23
    "resnet101": 44_549_160,  # C-23
    "resnet152": 60_192_808,  # C-23
    "resnet20": 269_722,  # C-23
    "resnet56": 853_018,  # C-23
    "resnet110": 1_727_962,  # C-23
    "capsnet": 6_804_224,  # C-24
    "chaos_small": 6_405,  # C-20
    "chaos_medium": 76_040,  # C-20
    "chaos_large": 383_160,  # C-20
}
WITH_OPTIONS = [
    ("lenet5", {"table": True}, 60_806),  # C-13
    ("lenet5_1998", {"outputs": "linear"}, 60_850),  # C-13
    ("lenet5_1998", {"outputs": "trained"}, 60_840),
    ("googlenet", {"aux": True}, 13_378_280),  # C-22
    ("capsnet", {"decoder": True}, 8_215_568),  # C-24
    ("ciresan_mlp", {"units": "1000-500"}, 841 * 1000 + 1000 + 500_500 + 5_010),
]


@pytest.mark.parametrize(("name", "options", "count"), WITH_OPTIONS)
def test_parameters_with_options(name, options, count):
    net = build(name, **options)
    assert sum(p.numel() for p in net.parameters()) == count
    with torch.inference_mode():
        assert net.eval()(torch.zeros(1, *net.spec.shape)).shape == (1, len(net.spec.classes))


@pytest.mark.parametrize("name", PUBLISHED)
def test_cards_hold_the_published_count(name):
    assert card_of(name)["parameters"] == PUBLISHED[name]


NEURONS = {
    "alexnet": (290_400, 186_624, 64_896, 64_896, 43_264, 4_096, 4_096, 1_000),
    "lecun1989": (768, 192, 30, 10),
    "simard2003": (845, 1_250, 100, 10),
    "ciresan_mlp": (2_500, 2_000, 1_500, 1_000, 500, 10),
    "chaos_small": (3_380, 810, 50, 10),
}


@pytest.mark.parametrize("name", NEURONS)
def test_layers_have_the_published_numbers_of_neurons(name):
    """Count what layers with weights give; the 253,440 printed for AlexNet's first are 290,400."""
    layers = profile(build(name), fields=False).layers
    assert tuple(prod(layer.shape) for layer in layers if layer.parameters) == NEURONS[name]


def test_published_sums_of_neurons():
    assert sum(NEURONS["alexnet"]) == 659_272  # "650,000"
    assert sum(NEURONS["lecun1989"]) + 16 * 16 == 1_256  # inputs among them


@pytest.mark.parametrize(("types", "size"), [(32, 28), (5, 28), (2, 33)])
def test_capsules_are_as_many_as_types_and_places(types, size):
    """1,152 in the paper: 32 types at 6 x 6 places, each of 8 numbers."""
    spec = Spec(channels=1, size=(size, size), classes=tuple("0123456789"))
    net = build("capsnet", spec, maps=16 if types < 32 else 256, types=types)
    layers = {layer.kind: layer for layer in profile(net, fields=False).layers}
    count = types * (((size - 8) - 9) // 2 + 1) ** 2
    assert layers["PrimaryCapsules"].shape == (count, 8)
    assert layers["Capsules"].shape == (10, 16)
    assert (count == 1_152) == (types == 32)


@pytest.mark.parametrize("name", MODELS)
def test_cards_hold_the_count_that_is_built(name):
    assert sum(p.numel() for p in build(name).parameters()) == CARDS[name].parameters


def test_every_network_has_a_card():
    assert set(CARDS) == set(MODELS)


# Networks whose definition names no number of axes, small enough to be asked here.
ANY_AXES = (
    *("fastnet", "lenet5", "lenet5_1998", "lenet1", "lecun1989", "siann1988", "siann1991"),
    *("simard2003", "ciresan_mnist", "ciresan_mlp", "chaos_small", "nin", "allcnn_c"),
    *("resnet18", "resnet20", "resnet50"),
)


@pytest.mark.parametrize("name", ANY_AXES)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_networks_answer_for_any_number_of_axes(name, axes):
    size = {1: (64,), 2: (28, 32), 3: (20, 20, 19)}[axes]
    spec = Spec(channels=2, size=size, classes=("a", "b", "c"))
    options = {"units": "20-10"} if name == "ciresan_mlp" else {}
    net = build(name, spec, **options).eval()
    with torch.inference_mode():
        assert net(torch.randn(2, *spec.shape)).shape == (2, 3)


@pytest.mark.parametrize("name", ["fastnet", "lenet5", "resnet20"])
def test_every_trained_weight_gets_a_gradient(name):
    net = build(name, Spec(channels=1, size=(28, 28), classes=("a", "b")))
    net(torch.randn(4, 1, 28, 28)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_a_typo_gets_a_hint():
    with pytest.raises(RecipeError, match="did you mean 'lenet5'"):
        build("lenet6")


def test_an_unknown_option_gets_a_hint():
    with pytest.raises(RecipeError, match="no option 'widht'; did you mean 'width'"):
        build("fastnet", widht=3)


@pytest.mark.parametrize("value", [[1], "32", 2.5, True, None])
def test_an_option_of_another_type_is_said(value):
    said = re.escape(f"option 'width' of network 'fastnet' must be of type int; got {value!r}")
    with pytest.raises(RecipeError, match=said):
        build("fastnet", width=value)


NUMBERS = {
    (name, key): option.default
    for name, builder in MODELS.items()
    for key, option in signature(builder).parameters.items()
    if option.annotation is int
}


@pytest.mark.parametrize(("name", "key"), NUMBERS)
def test_whole_numbers_have_a_least_value(name, key):
    least = 0 if NUMBERS[name, key] == 0 else 1
    for value in (least - 1, -5):
        said = f"option {key!r} of network {name!r} must be at least {least}; got {value}"
        with pytest.raises(RecipeError, match=said):
            build(name, **{key: value})
    spec = published(name).model_copy(update={"classes": ("a",)})  # some want one for each class
    with torch.inference_mode():
        net = build(name, spec, **{key: least}).eval()
        assert len(net(torch.zeros(1, *net.spec.shape))) == 1


OUT_OF_RANGE = [
    ("fastnet", "momentum", 2.0, "momentum is a share, 0 to 1; got 2.0"),
    ("eegnet", "dropout", -1.0, "cannot be built so: dropout"),
    ("eegnet", "dropout", float("nan"), "option 'dropout' of .* must be a finite number; got nan"),
    ("fastnet", "momentum", "much", "option 'momentum' of .* must be a finite number; got 'much'"),
    ("siann1988", "border", "nope", "border must be one of zero, .* got 'nope'"),
    ("lenet5_1998", "outputs", "nope", "outputs must be fixed, trained or linear; got 'nope'"),
    ("resnet18", "stem", "nope", "stem must be 'imagenet' or 'cifar'; got 'nope'"),
    ("homma1987", "rule", "nope", "rule must be hebb or delta; got 'nope'"),
    ("cresceptron", "pool", "nope", "pool must be max or average; got 'nope'"),
    ("spatial_transformer", "kind", "nope", "'nope'"),
    ("spatial_transformer", "body", "nope", "body must be cnn or mlp; got 'nope'"),
    ("ciresan_mlp", "units", "0", "every number must be at least 1; got '0N'"),
    ("ciresan_mlp", "units", "20-", "'N' is no part such as"),
    ("tdnn", "hidden", 10**15, "'tdnn' cannot be built so: "),
]


@pytest.mark.parametrize(("name", "key", "value", "said"), OUT_OF_RANGE)
def test_an_option_out_of_range_is_refused(name, key, value, said):
    with pytest.raises(RecipeError, match=said):
        build(name, **{key: value})


SMALLEST = {
    "ciresan_mnist": 17,
    "alexnet": 67,
    "capsnet": 17,
    "lenet1": 16,
    "lenet5": 12,
    "lenet5_1998": 12,
    "simard2003": 12,
}


@pytest.mark.parametrize("name", SMALLEST)
def test_a_sample_too_small_is_refused_with_the_layer_and_the_least_side(name):
    least, (channels, *axes) = SMALLEST[name], CARDS[name].shape
    spec = Spec(channels=channels, size=(least,) * len(axes), classes=("a", "b"))
    build(name, spec)
    small = spec.model_copy(update={"size": (least - 1, least + 9)})
    said = (
        rf"'{name}' cannot be built so: a sample of {channels} x {least - 1} x {least + 9} is too "
        rf"small: layer .*, gets maps of \d+ x \d+; enlarge every side to at least {least}$"
    )
    with pytest.raises(RecipeError, match=said):
        build(name, small)


@pytest.mark.parametrize("name", [n for n in MODELS if CARDS[n].parameters < 15e6])
@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (5, 5), (33, 20), (31, 40)])
def test_a_sample_is_refused_when_the_network_is_built_or_answered(name, sides):
    shape = CARDS[name].shape
    size = sides[: len(shape) - 1] if len(shape) < 4 else (*sides, 4)
    spec = Spec(channels=shape[0], size=size, classes=("a", "b"))
    try:
        net = build(name, spec).eval()
    except RecipeError:
        return
    with torch.inference_mode():
        assert len(net(torch.zeros(1, *spec.shape))) == 1


LEAST = {
    "googlenet with aux": 79,
    "lecun1989": 8,
    "nin": 4,
    "googlenet": 31,
    "neocognitron1980": 14,
    "neocognitron1988": 11,
    "committee": 21,
    "spatial_transformer": 20,
    "deepface": 72,
}


@pytest.mark.parametrize("name", LEAST)
def test_the_least_side_is_named(name):
    least, classes = LEAST[name], ("a", "b")
    name, *with_option = name.split(" with ")
    options = dict.fromkeys(with_option, True)
    build(name, Spec(channels=1, size=(least, least), classes=classes), **options)
    with pytest.raises(RecipeError, match=rf"at least {least}\b"):
        build(name, Spec(channels=1, size=(least + 9, least - 1), classes=classes), **options)


@pytest.mark.parametrize(("border", "least"), [("circular", 2), ("reflect", 3), ("mean", 1)])
def test_borders_want_samples_to_take_from(border, least):
    spec = Spec(channels=1, size=(least, 9), classes=("a", "b"))
    assert build("siann1991", spec, border=border)(torch.zeros(2, *spec.shape)).shape == (2, 2)
    if least > 1:
        with pytest.raises(RecipeError, match=f"{border} wants axes of at least {least} samples"):
            build("siann1988", spec.model_copy(update={"size": (9, least - 1)}), border=border)
    with pytest.raises(RecipeError, match=r"border must be one of zero, .*; got 'nope'"):
        build("siann1991", spec, border="nope")


def test_a_line_in_the_table_is_all_that_a_plugin_needs(monkeypatch):
    monkeypatch.setitem(MODELS, "mine", lambda spec, gain=1: torch.nn.Flatten())
    assert isinstance(build("mine", Spec(channels=1, size=(4,)), gain=2), torch.nn.Flatten)
    with pytest.raises(RecipeError, match="no published input; pass a Spec"):
        build("mine")


def test_public_names():
    assert all(hasattr(models, name) for name in models.__all__)
