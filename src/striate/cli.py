"""The command line: one function a command; options of `train` are the fields of Recipe.

Torch and the recipe are imported inside the commands, so that help and typing mistakes answer at
once. Data goes to stdout, talk to stderr. Exit 0 done; 1 faults found; 2 the user must change
something.
"""

import codecs
import errno
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperCommand
from typer.main import get_command

from striate import catalogue
from striate.catalogue import Json
from striate.errors import DataError, RecipeError, UserError
from striate.files import replacing
from striate.show import show_audit, show_json, show_result, show_scores

if TYPE_CHECKING:
    from striate.recipe import Recipe

__all__ = ["app", "process_start", "run"]

app = typer.Typer(
    name="striate",
    help="Labelled data in, a convolutional network that can be trusted out.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its imports alone cost as much as all the rest of --help
    add_completion=True,
)
Data = Annotated[str, typer.Argument(help="folder, CSV, Parquet, NPZ, or a name such as mnist")]
BundlePath = Annotated[Path, typer.Argument(help="bundle: a folder, a .zip, or a run folder")]


def _writable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Give bytes of a file name that is no text as they were, and escape what the output lacks."""
    if isinstance(error, UnicodeEncodeError):
        error.end = error.start + 1
        with suppress(UnicodeEncodeError):
            return codecs.lookup_error("surrogateescape")(error)
    return codecs.backslashreplace_errors(error)


codecs.register_error("striate", _writable)


def process_start() -> float:
    """Return the monotonic time at which this process started, in seconds."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rsplit(")", 1)[1].split()[19])
        with open("/proc/uptime", encoding="ascii") as file:
            age = float(file.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - max(0.0, age)
    except (OSError, ValueError, IndexError):
        return time.monotonic() - time.process_time()  # no /proc: the CPU time is near enough


def run(arguments: list[str] | None = None) -> int:
    """Run one command, help without one; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="striate")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return app(given or ["--help"], standalone_mode=False) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except typer.Abort as stop:
        if isinstance(stop.__cause__, EOFError):
            raise stop.__cause__ from None  # typer takes it for Ctrl-D at a prompt; it is a bug
        return 130
    except KeyboardInterrupt:
        return 130
    except typer.Exit as stop:
        return stop.exit_code
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        return unwritten(error)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's own
            print(f"error: {error.format_message()}", file=sys.stderr)
            return int(error.exit_code)
        raise


def unwritten(error: OSError) -> int:
    """Say why standard output cannot be written, if anybody still listens; return the exit code."""
    if error.errno == errno.EPIPE:
        return 1  # quietly, as typer does: `striate predict ... | head`
    print(f"error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
    return 2


def _say(text: str) -> None:
    print(text, file=sys.stderr)


class _Decoding:
    """Say how far decoding is, at most twice a second, and only when it takes long."""

    def __init__(self) -> None:
        self.next = time.monotonic() + 1.0

    def __call__(self, done: int, total: int) -> None:
        """Hear that `done` of `total` files are decoded."""
        now = time.monotonic()
        if now >= self.next or (done == total and now >= self.next - 0.4):
            self.next = now + (0.5 if sys.stderr.isatty() else 10.0)
            _say(f"reading {done} of {total} files")


@app.command()
def check(
    data: Data,
    as_json: Json = False,
    fix: Annotated[
        Path | None, typer.Option(help="write a CSV of the samples without faults here")
    ] = None,
    axes: Annotated[
        int,
        typer.Option(
            min=0, max=3, help="of a sample in an NPZ: 1 series, 2 picture, 3 volume; 0: auto"
        ),
    ] = 0,
) -> None:
    """Audit DATA: unreadable, duplicate, leaking, missing, unbalanced. Exit 1 on faults."""
    from striate.data.audit import audit
    from striate.data.cache import open_cache
    from striate.data.choice import choose_spec
    from striate.data.clean import write_clean
    from striate.data.readers import read

    samples = read(data, axes=axes)
    cache = open_cache(samples, choose_spec(samples), progress=_Decoding())
    found = audit(samples, cache)
    if as_json:
        show_json(found.to_json(data))
    else:
        show_audit(data, found)
    if fix:
        count = write_clean(fix, samples, cache)
        _say(f"{fix}: {count} of {len(samples)} samples; train on it instead of {data}")
    raise typer.Exit(1 if found.faults else 0)


def _train(
    data: str | None,
    out: Path | None,
    resume: Path | None,
    recipe_file: Path | None,
    changes: list[str] | None,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    """Gather options, read the data while torch loads, train, and say how good it is."""
    from striate.options import about, parse_changes, resumed
    from striate.recipe import Recipe

    born = process_start()
    given = {name: value for name, value in options.items() if value is not None}
    if resume:
        if out or recipe_file:
            raise RecipeError("a run that goes on keeps its folder and recipe; leave out --out "
                              "and --recipe, or start a new run without --resume")  # fmt: skip
        recipe = resumed(resume, given | parse_changes(changes or [], {}))
        data = about(resume)["data"] if data is None else data
    else:
        written = Recipe.read(recipe_file) if recipe_file else Recipe()
        given |= parse_changes(changes or [], written.model_options)
        recipe = Recipe.parse({**written.model_dump(), **given})
    data = "digits" if data is None else data  # "" is a variable of the shell that is not set
    loading = Thread(target=import_module, args=("striate.run",), daemon=True)
    loading.start()  # seconds of work, torch above all, that the data need not wait for
    material = _gather(data, recipe, resume, loading)
    loading.join()
    from striate.folder import new_folder
    from striate.run import train

    folder = resume or out or new_folder(data, recipe.model)
    result = train(data, material, recipe, folder, resume=bool(resume), quiet=as_json, born=born)
    if as_json:
        show_json(result)
    else:
        show_result(result)


def _gather(data: str, recipe: "Recipe", resume: Path | None, loading: Thread) -> Any:
    from striate.data.material import gather
    from striate.options import about
    from striate.spec import Spec

    spec = None
    if resume:
        spec = Spec(**about(resume)["spec"])
    say, checked = _Decoding(), False

    def progress(done: int, total: int) -> None:
        nonlocal checked
        if not checked and not loading.is_alive():
            from striate.run import check_recipe

            check_recipe(recipe)  # a misspelt name need not wait for the last file
            checked = True
        say(done, total)

    return gather(
        data,
        axes=recipe.axes,
        size=recipe.size,
        resize=recipe.resize,
        validation=recipe.validation,
        test=recipe.test,
        bad=recipe.bad,
        seed=recipe.seed,
        spec=spec,
        manifest=resume / "split.json" if resume else None,
        progress=progress,
    )


class _WithRecipe(TyperCommand):
    """The command `train`, whose options are made only when it is called.

    They need the recipe, and to import that takes twice as long as all the rest of `--help`.
    """

    def make_context(self, *words: Any, **extra: Any) -> Any:
        """Read the command line by the options of `_options` and the fields of Recipe."""
        from striate.options import with_recipe

        whole = typer.Typer(rich_markup_mode=None, add_completion=False)
        whole.command("train", help=self.help)(with_recipe(_options))
        return get_command(whole).make_context(*words, **extra)


@app.command(cls=_WithRecipe)
def train() -> None:
    """Train a network on DATA and save a bundle and a report of how good it is."""


def _options(
    data: Annotated[
        str | None,
        typer.Argument(help="folder, CSV, Parquet, NPZ, or a name; none: the embedded digits"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder to make [runs/DATA-MODEL-N]")] = None,
    resume: Annotated[Path | None, typer.Option(help="run folder to go on with")] = None,
    recipe: Annotated[Path | None, typer.Option(help="recipe.toml to start from")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, or model.OPTION=value")
    ] = None,
    as_json: Json = False,
    options: dict[str, Any] | None = None,
) -> None:
    _train(data, out, resume, recipe, changes, as_json, options or {})


@app.command()
def evaluate(bundle: BundlePath, data: Data, as_json: Json = False) -> None:
    """Score BUNDLE on DATA: its test split, or all of it; every score with its interval."""
    from striate.assess import evaluate as assess

    result = assess(bundle, data, progress=_Decoding())
    if as_json:
        show_json({key: result[key] for key in ("bundle", "data", "n", "scores")})
    else:
        show_scores(result)
    if seen := result["trained_on"]:
        _say(f"warning: the network was trained on {seen} of these samples; the scores flatter it")
    if left_out := result["skipped"]:
        files = "1 file" if len(left_out) == 1 else f"{len(left_out)} files"
        _say(f"{files} could not be read, and left out:")
        for fault in left_out[:5]:
            _say(f"  {fault['path']}: {fault['detail']}")


@app.command()
def predict(
    bundle: BundlePath,
    files: Annotated[
        list[str] | None, typer.Argument(help="files and folders; - reads names from stdin")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object an answer, one a line, not CSV")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="write here instead of stdout")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
) -> None:
    """Classify FILES, in input order, as CSV or with --json as JSONL. Exit 1 on unreadable ones."""
    from striate.data.readers import find_files
    from striate.data.samples import merged
    from striate.deploy.predict import load, predict_stream, write_csv, write_jsonl

    named = files or ["-"]
    if not files and sys.stdin.isatty():
        raise DataError("wanted files or folders to classify; got none; - reads names from stdin")
    lines = _names() if "-" in named else []
    model = load(bundle, device)
    wanted = [n for name in named for n in (lines if name == "-" else [name]) if n]
    paths, left_out = find_files(wanted, model.spec.kind)
    for fault in merged(left_out):
        _say(f"left out: {fault.detail} ({fault.path})")
    if not paths and "-" not in named:
        raise DataError(
            f"wanted {model.spec.kind} files; got none in {', '.join(named)}: name files or folders"
        )
    asked = failed = 0

    def counted() -> Any:
        nonlocal asked, failed
        for row in predict_stream(model, paths, 64):
            asked, failed = asked + 1, failed + (row.error is not None)
            yield row

    with _output(out) as file:
        if as_json:
            write_jsonl(counted(), file)
        else:
            write_csv(counted(), file, model.classes)
    if failed:
        _say(f"{failed} of {asked} could not be answered; their rows say why")
        raise typer.Exit(1)


def _names() -> list[str]:
    """Read names from stdin, one a line; a mark of UTF-8 at its start is none of the first."""
    if not isinstance(sys.stdin, io.TextIOWrapper):
        return [line.rstrip("\r\n") for line in sys.stdin]
    content = sys.stdin.buffer.read()  # bytes, as file names need not be text
    marked = content.startswith(codecs.BOM_UTF8)
    encoding = "utf-8-sig" if marked else sys.stdin.encoding
    return io.StringIO(content.decode(encoding, "surrogateescape"), None).read().split("\n")


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Open stdout, or a file that replaces an older one only when it is whole."""
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        with replacing(path, newline="", errors="surrogateescape") as file:
            yield file
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; name another with --out"
        ) from error


@app.command()
def recipe() -> None:
    """Print every field of a recipe with its default and meaning, as TOML."""
    from striate.recipe import Recipe

    print(Recipe().toml(), end="")


@app.command()
def bench(
    quick: Annotated[bool, typer.Option(help="a smoke run of seconds")] = False,
) -> None:
    """Measure this machine: data path, training step, start-up; print one line each."""
    from striate.bench import measure

    for line in measure(quick):
        print(line)


for command in catalogue.COMMANDS:
    app.command()(command)
