"""Options of `striate train`: one a field of Recipe, --set key=value, and what --resume keeps."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from striate.errors import RecipeError
from striate.recipe import Recipe

__all__ = ["LENGTH", "about", "parse_changes", "resumed", "with_recipe"]


def _shown(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def with_recipe(function: Callable[..., None]) -> Callable[..., None]:
    """Add one option a field of Recipe to a command."""
    own = list(inspect.signature(function).parameters.values())[:-1]
    fields = []
    for name, field in Recipe.model_fields.items():
        if name == "model_options":
            continue
        shown = f"{field.description} [{_shown(field.default)}]"
        kind = str if not isinstance(field.default, bool | int | float) else type(field.default)
        kind = float if field.annotation is float else kind
        fields.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind | None, typer.Option(help=shown, show_default=False)],
            )
        )

    def command(**values: Any) -> None:
        mine = {p.name: values.pop(p.name) for p in own}
        function(**mine, options=values)

    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    command.__signature__ = inspect.Signature([*keyword, *fields])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*keyword, *fields]}
    return command


def parse_changes(pairs: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Read --set key=value; `model.width=32` is an option of the network.

    Args:
        options: of the network so far; those that no pair names stay.

    Raises:
        RecipeError: a pair has no key or no equals sign.
    """
    changed: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    for pair in pairs:
        key, equal, text = pair.partition("=")
        key = key.strip()
        if not equal or not key.removeprefix("model."):
            raise RecipeError(
                f"--set wants key=value or model.OPTION=value; got {pair!r}; `striate recipe` "
                "lists the keys"
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if key.startswith("model."):
            ours[key.removeprefix("model.")] = value
        else:
            changed[key] = value
    return {**changed, "model_options": {**options, **ours}} if ours else changed


# What may change when a run goes on: its length, and nothing that its numbers rest on.
LENGTH = ("seconds", "epochs", "checkpoint", "device")


def resumed(folder: Path, given: dict[str, Any]) -> Recipe:
    """Return the recipe of a run that is to go on, as long as `given` makes it.

    Raises:
        RecipeError: `folder` is no run's, or `given` would change more than the length.
    """
    if not (folder / "recipe.toml").is_file():
        raise RecipeError(
            f"wanted the folder of a run, such as runs/photos-fastnet-1; {folder} holds no "
            "recipe.toml; name another, or start a new run"
        )
    fixed = sorted(set(given) - set(LENGTH))
    if fixed:
        raise RecipeError(
            f"a run that goes on keeps its recipe; only {', '.join(LENGTH)} may change, got "
            f"{', '.join(fixed)}; start a new run for another recipe"
        )
    stored = Recipe.read(folder / "recipe.toml").model_dump()
    if given.keys() & {"epochs", "seconds"}:  # one budget takes the place of the other
        stored |= {"epochs": 0.0, "seconds": 0.0}
    return Recipe.parse({**stored, **given})


def about(folder: Path) -> dict[str, Any]:
    """Return what a run wrote of its data at its start: "data", where they are, and "spec".

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return {"data": found["data"], "spec": found["spec"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"{folder / 'run.json'} cannot be read: {error}; start a new run"
        ) from None
