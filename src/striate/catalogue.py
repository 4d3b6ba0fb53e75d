"""Commands that show what Striate has: its networks, their cards and costs, its lessons.

Torch is imported inside the commands, as in `cli`, which puts them among its own.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from striate.errors import DataError, RecipeError
from striate.files import replacing
from striate.show import show_cards, show_json, show_lesson

__all__ = ["COMMANDS", "Json", "lesson", "models", "profile"]

Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")]


def models(
    name: Annotated[str | None, typer.Argument(help="of one network; none: all of them")] = None,
    card: Annotated[
        bool, typer.Option("--card", help="print its page: history, layers, what was reached")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="folder for page and picture, in place of printing")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the networks, or show the card of one."""
    from striate.models import CARDS, card_of, known

    names = [known(name)] if name else list(CARDS)
    if (card or out) and as_json:
        raise RecipeError("a page is no JSON: say --json, or --card and --out, not both")
    if card or out:
        _show_pages(names, out)
        return
    cards = [card_of(one) for one in names]
    if as_json:
        show_json(cards)
        return
    show_cards(cards)


def _show_pages(names: list[str], out: Path | None) -> None:
    """Print the cards, or write them with their pictures into a folder."""
    from striate.card import card, write_card

    for name in names:
        if out is None:
            print(card(name)[0])
            continue
        try:
            print(write_card(name, out))
        except OSError as error:
            raise DataError(
                f"{out} cannot be written: {error.strerror or error}; name another with --out"
            ) from error


def profile(
    target: Annotated[str, typer.Argument(help="network from `striate models`, or a bundle")],
    size: Annotated[
        str | None, typer.Option(help="of a sample, CxH or CxHxW ..., in place of its own")
    ] = None,
    fields: Annotated[bool, typer.Option(help="measure what each layer sees")] = True,
    batch: Annotated[
        int, typer.Option(min=1, help="samples at once, which decides on kernels and times")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Print what a network costs, layer by layer: shapes, parameters, connections, MACs, time."""
    from striate import bundle, models
    from striate.analysis.profiler import profile as measure
    from striate.device import pick_device, place

    if target in models.MODELS or not Path(target).exists():
        spec = _sized(models.published(models.known(target)), size)
        net = models.build(target, spec)
    else:
        found = bundle.load(target)
        net, spec = found.model, found.spec
        if size:
            raise RecipeError("a bundle has a size of its own; leave out --size, or name a network")
    net = place(net, pick_device("cpu"), spec.axes)
    measured = measure(net, spec, fields=fields, batch=batch)
    if as_json:
        show_json({**measured.to_json(), "model": target})
    else:
        print(measured)


def lesson(
    name: Annotated[str | None, typer.Argument(help="none: list them")] = None,
    out: Annotated[Path, typer.Option(help="folder for picture and numbers")] = Path("lessons"),
    seed: Annotated[int, typer.Option(help="of data order and weights")] = 0,
    as_json: Json = False,
) -> None:
    """Run an experiment of a minute that shows what an article says; write picture and numbers."""
    from striate.lessons import LESSONS, teach

    if name is None:
        rows = {key: (run.__doc__ or "").splitlines()[0] for key, run in LESSONS.items()}
        if as_json:
            show_json(rows)
        else:
            print("\n".join(f"{key:13} {text}" for key, text in rows.items()))
        return
    found = teach(name, seed)
    record = {"lesson": name, "title": found.title, "text": found.text, "numbers": found.numbers}
    picture = out / f"{name}{found.suffix}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / f"{name}.json") as file:
            file.write(json.dumps(record, indent=1))
        content = found.picture
        picture.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise DataError(
            f"{out} cannot be written: {error.strerror or error}; name another with --out"
        ) from error
    if as_json:
        show_json({**record, "picture": str(picture)})
    else:
        show_lesson(found, picture)


def _sized(spec: Any, size: str | None) -> Any:
    """Return the Spec with another shape, written CxHxW."""
    if size is None:
        return spec
    try:
        channels, *sides = (int(part) for part in size.lower().split("x"))
        return type(spec)(channels=channels, size=tuple(sides), classes=spec.classes)
    except ValueError:
        raise RecipeError(
            f"--size wants channels and 1 to 3 sides, such as 3x64x64; got {size!r}"
        ) from None


COMMANDS = (models, profile, lesson)
