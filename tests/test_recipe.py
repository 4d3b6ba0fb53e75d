import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import RecipeError
from striate.recipe import Recipe


def test_every_field_has_a_default_and_a_description():
    for name, field in Recipe.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


@settings(max_examples=50, deadline=None)
@given(
    lr=st.floats(0, allow_infinity=False),
    seed=st.integers(0, 2**31),
    test_time=st.booleans(),
    model=st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=("C",))),
    options=st.dictionaries(
        st.from_regex(r"[a-z_]+", fullmatch=True),
        st.booleans() | st.integers(0, 99) | st.floats(0, 1),
    ),
)
def test_toml_gives_the_same_recipe_back(lr, seed, test_time, model, options):
    recipe = Recipe(lr=lr, seed=seed, test_time=test_time, model=model, model_options=options)
    again = Recipe.parse(tomllib.loads(recipe.toml()))
    assert again == recipe
    kinds = {key: type(value) for key, value in options.items()}
    assert {key: type(value) for key, value in again.model_options.items()} == kinds


def test_a_file_gives_the_same_recipe_back(tmp_path):
    recipe = Recipe(model="lenet5", seconds=12.5, augment="flip,crop=4")
    (tmp_path / "recipe.toml").write_text(recipe.toml(), encoding="utf-8")
    assert Recipe.read(tmp_path / "recipe.toml") == recipe


def test_whole_numbers_are_those_that_toml_and_torch_hold():
    whole = [name for name, field in Recipe.model_fields.items() if field.annotation is int]
    assert {"seed", "batch", "threads"} <= set(whole)
    for name in whole:
        most = {"axes": 3}.get(name, 2**63 - 1)
        with pytest.raises(RecipeError, match=rf"^{name} .*less than or equal to {most}; got"):
            Recipe.parse({name: 10**23})


def test_the_help_stands_beside_each_field():
    assert "seed = 0  # of split, weights, order and augmentation\n" in Recipe().toml()


def test_a_file_of_a_person_needs_only_what_differs(tmp_path):
    (tmp_path / "r.toml").write_text("seed = 3\nmodel_options = {width = 2.0}\n")
    assert Recipe.read(tmp_path / "r.toml") == Recipe(seed=3, model_options={"width": 2.0})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"sed": 1}, r"no field 'sed'; did you mean 'seed'\?"),
        ({"seconds": -1}, "seconds .*greater than or equal to 0; got -1"),
        ({"momentum": 1}, "momentum .*less than 1; got 1"),
        ({"axes": 4}, "axes .*less than or equal to 3; got 4"),
        ({"schedule": "cosin"}, "schedule .*got 'cosin'"),
        ({"seed": "many"}, "seed .*integer.*got 'many'"),
    ],
)
def test_an_error_names_field_value_and_range(values, text):
    with pytest.raises(RecipeError, match=text):
        Recipe.parse(values)


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"bad\.toml is no readable recipe \(TOML\)"):
        Recipe.read(tmp_path / "bad.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.toml is no readable recipe"):
        Recipe.read(tmp_path / "none.toml")


def test_the_kept_share_of_the_defaults_is_below_one():
    recipe = Recipe()
    assert 0 <= recipe.validation + recipe.test < 1
    assert math.isfinite(recipe.checkpoint)
