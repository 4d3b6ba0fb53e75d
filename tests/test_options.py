import inspect
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import RecipeError
from striate.options import LENGTH, about, parse_changes, resumed, with_recipe
from striate.recipe import Recipe


@pytest.fixture
def folder(tmp_path):
    recipe = Recipe(epochs=3, batch=16, optimizer="sgd", model_options={"width": 8})
    (tmp_path / "recipe.toml").write_text(recipe.toml())
    return tmp_path


def test_every_field_but_the_network_s_own_is_an_option_without_a_default():
    def command(own: int, options=None):
        """Do it."""

    signature = inspect.signature(with_recipe(command))
    assert set(signature.parameters) == {"own", *Recipe.model_fields} - {"model_options"}
    assert all(signature.parameters[name].default is None for name in Recipe.model_fields
               if name != "model_options")  # fmt: skip


def test_what_is_given_arrives_as_options():
    seen = {}

    def command(own: int, options=None):
        """Do it."""
        seen.update(options, own=own)

    with_recipe(command)(own=1, epochs=2.0, lr=None)
    assert seen == {"own": 1, "epochs": 2.0, "lr": None}


def test_the_help_of_an_option_is_the_field_s_description_with_its_default():
    command = with_recipe(lambda options=None: None)
    for name, parameter in inspect.signature(command).parameters.items():
        help_text = parameter.annotation.__metadata__[0].help
        assert help_text.startswith(f"{Recipe.model_fields[name].description} [")


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("epochs=3", {"epochs": 3}),
        ("lr=1e-3", {"lr": 0.001}),
        ("test_time=true", {"test_time": True}),
        ("augment=crop=4,flip", {"augment": "crop=4,flip"}),
        ("model=lenet5", {"model": "lenet5"}),
        ("model.width=8", {"model_options": {"width": 8}}),
        (" epochs =3", {"epochs": 3}),
    ],
)
def test_a_change_is_read_as_json_or_else_as_text(pair, value):
    assert parse_changes([pair], {}) == value


def test_a_change_leaves_the_other_options_of_the_network():
    assert parse_changes(["model.width=8"], {"depth": 3, "width": 64}) == {
        "model_options": {"depth": 3, "width": 8}
    }
    assert parse_changes(["epochs=1"], {"depth": 3}) == {"epochs": 1}


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.sampled_from(["width", "depth", "momentum"]), st.integers(1, 99)))
def test_the_last_of_several_changes_counts(options):
    pairs = [f"model.{name}={value}" for name, value in options.items()]
    found = parse_changes([f"model.{name}=0" for name in options] + pairs, {})
    assert found.get("model_options", {}) == options


@pytest.mark.parametrize("pair", ["x", "=3", "model.=3", ""])
def test_a_change_without_key_or_value_is_refused(pair):
    with pytest.raises(RecipeError, match=r"wants key=value or model\.OPTION=value; got .*recipe"):
        parse_changes([pair], {})


def test_a_run_that_goes_on_keeps_its_recipe(folder):
    assert resumed(folder, {}) == Recipe.read(folder / "recipe.toml")


def test_only_its_length_may_change(folder):
    assert resumed(folder, {"epochs": 9, "checkpoint": 5}).epochs == 9
    for name in ("batch", "lr", "model_options", "seed", "threads"):
        with pytest.raises(RecipeError, match=f"only {', '.join(LENGTH)} may change, got {name}"):
            resumed(folder, {name: 1})


def test_one_budget_takes_the_place_of_the_other(folder):
    longer = resumed(folder, {"seconds": 60})
    assert (longer.seconds, longer.epochs) == (60, 0)
    both = resumed(folder, {"seconds": 60, "epochs": 7})
    assert (both.seconds, both.epochs) == (60, 7)


def test_a_folder_without_a_recipe_is_no_run(tmp_path):
    with pytest.raises(RecipeError, match=r"wanted the folder of a run.*holds no recipe\.toml"):
        resumed(tmp_path, {})


def test_what_a_run_wrote_of_its_data_is_read(folder):
    (folder / "run.json").write_text(json.dumps({"data": "x", "spec": {}, "version": "1"}))
    assert about(folder) == {"data": "x", "spec": {}}


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", "3"])
def test_a_damaged_run_file_is_named(folder, text):
    if text is not None:
        (folder / "run.json").write_text(text)
    with pytest.raises(RecipeError, match=r"run\.json cannot be read: .*; start a new run"):
        about(folder)
