"""Options of `striate train`: one a field of Recipe, and --set key=value."""

import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from striate.errors import RecipeError
from striate.recipe import Recipe

__all__ = ["parse_changes", "with_recipe"]


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


def parse_changes(pairs: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """Read --set key=value; `model.width=32` is an option of the network."""
    changed: dict[str, Any] = {}
    options = dict(given.get("model_options", {}))
    for pair in pairs:
        key, equal, text = pair.partition("=")
        if not equal:
            raise RecipeError(f"--set wants key=value; got {pair!r}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if key.startswith("model."):
            options[key.removeprefix("model.")] = value
        else:
            changed[key] = value
    return {**changed, "model_options": options} if options else changed
