"""The pages for users: their examples run, their command lines parse, their tables are true."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.nn import Conv2d
from typer.main import get_command

from striate.cli import app, run
from striate.data.audit import KINDS
from striate.data.augment import INDEX, PLACE, VALUE
from striate.data.material import gather
from striate.lessons import LESSONS
from striate.recipe import Recipe
from striate.run import train
from striate.spec import Spec
from striate.train.choices import PASSES, SEEN, UPDATES, WIDTHS, complete
from striate.train.optimizers import OPTIMIZERS
from striate.train.schedules import SCHEDULES

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
EXECUTED = [ROOT / "README.md", *DOCS]
PAGES = [*EXECUTED, ROOT / "CONTRIBUTING.md"]
COMMANDS = get_command(app).commands
SHELL = {"", "console", "sh", "bash"}

RUN = "runs/photos-fastnet-1"
SHORT = ["--epochs", "1", "--set", "model.width=8"]
TINY = Recipe(epochs=8, checkpoint=1000, model_options={"width": 8}, threads=1)


def name(path):
    return path.relative_to(ROOT).as_posix()


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    """Return (language, code) of every fenced block of a page."""
    return re.findall(r"^```([^\n`]*)\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)


def prose(page):
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def table(page, heading):
    """Return the cells of every table row below a heading, down to the next one."""
    section = re.split(r"^#+ ", text(page).split(f"# {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    rows = [line[1:-1].split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def keys(cell):
    return re.findall(r"`([^`]+)`", cell)


def command_lines(code):
    """Return the words of every `striate ...` in lines of a shell."""
    found = []
    for line in code.splitlines():
        words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        words.whitespace_split = True
        parts = [[]]
        for word in words:
            if set(word) <= set("&|;<>()"):
                parts.append([])
            elif parts[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
                parts[-1].append(word)
        found += [part[1:] for part in parts if part and part[0] == "striate"]
    return found


def options(command):
    made = command.make_context(command.name, [], resilient_parsing=True).command
    return {"--help"}.union(*({*p.opts, *p.secondary_opts} for p in made.params))


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder as the pages speak of it: photos/, a.jpg, b.jpg and one trained run."""
    home = tmp_path_factory.mktemp("docs")
    random = np.random.default_rng(0)
    for place, shape in (("across", (20, 1, 1)), ("down", (1, 20, 1))):
        (home / "photos" / place).mkdir(parents=True)
        for i in range(30):
            wave = 90 * np.sin(np.arange(20) * 1.5 + random.uniform(0, 6)).reshape(shape) + 128
            pixels = (wave + random.normal(0, 12, (20, 20, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(home / "photos" / place / f"{i:02}.png")
        file = {"across": "a.jpg", "down": "b.jpg"}[place]
        Image.fromarray(pixels).save(home / file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("STRIATE_CACHE", str(home.parent / "docs-cache"))
        train("photos", gather("photos", size=16), TINY, Path(RUN), quiet=True)
    return home


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """An own copy of that folder, to work in."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize("page", EXECUTED, ids=name)
def test_the_examples_run(page, home):
    names = {"__name__": "__main__"}
    examples = [code for language, code in blocks(page) if language == "python"]
    for number, code in enumerate(examples, 1):
        exec(compile(code, f"{name(page)}, example {number}", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page):
    assert {language for language, _ in blocks(page)} <= {*SHELL, "python"}
    assert text(page).count("\n```") == 2 * len(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_command_lines_parse(page):
    for language, code in blocks(page):
        for first, *rest in command_lines(code) if language in SHELL else ():
            assert first in COMMANDS, f"striate {first}"
            COMMANDS[first].make_context(first, rest)  # raises where an option is unknown


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_exist(page):
    for words in re.findall(r"`striate ([^`]+)`", prose(page)):
        first, *rest = shlex.split(words)
        assert first in {*COMMANDS, "--help"}, words
        for word in rest:
            if word.startswith("--"):
                assert word in options(COMMANDS[first]), words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_in_sentences_exist(page):
    known = set().union(*map(options, COMMANDS.values()))
    for words in re.findall(r"`(--[^`]+)`", prose(page)):
        assert words.split()[0] in known, words


def test_a_wrong_command_line_is_found():
    assert command_lines("a && striate train x --epoch 3 | striate predict b - # c") == [
        ["train", "x", "--epoch", "3"],
        ["predict", "b", "-"],
    ]
    with pytest.raises(Exception, match="--epoch"):
        COMMANDS["train"].make_context("train", ["x", "--epoch", "3"])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http:", "https:")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_every_statement_of_the_article_is_shown_by_something_that_exists():
    page = text("docs/article.md")
    rows = re.findall(r"^\| (A\d{3}) \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    assert [row for row, _, _ in rows] == [f"A{n:03}" for n in range(1, 180)]
    for row, _, shown in rows:
        for file, test in re.findall(r"`([\w/]+\.py)::(\w+)`", shown):
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), row
        for lesson in re.findall(r"lesson `(\w+)`", shown):
            assert lesson in LESSONS, row
        assert "`" in shown or shown == "correction", row


def test_every_page_is_in_the_index():
    for page in DOCS:
        assert page.name == "index.md" or f"({page.name})" in text("docs/index.md")


def test_the_readme_begins_with_the_two_commands():
    language, code = blocks("README.md")[0]
    first, second = (line.partition("#")[0].rstrip() for line in code.splitlines())
    assert language == ""
    assert first == "pip install '.[all]' && striate train"
    assert second == "pip install '.[all,test]' && pytest -n auto"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("A163", "5 x 5 and 9 x 9; 7 and 15 are a stack of 1, 2, 4"),
        ("A151", "2 in all, 1 on each side"),
        ("A105", "3 million for each fully connected neuron"),
    ],
)
def test_the_page_of_the_article_states_what_it_corrects(row, words):
    """C-80."""
    rows = [line for line in text("docs/article.md").splitlines() if line.startswith(f"| {row} ")]
    assert len(rows) == 1
    assert words in rows[0]


def test_no_file_carries_the_licence_of_somebody_else():
    """C-83: code under CC BY-NC-SA, as that of BlurPool and APS, is not in here."""
    foreign = re.compile(r"CC[ -]BY|Creative Commons|NonCommercial|All rights reserved", re.I)
    files = [p for p in (ROOT / "src").rglob("*") if p.suffix in (".py", ".h", ".cpp", ".html")]
    assert len(files) > 100
    found = [name(p) for p in files if foreign.search(p.read_text(encoding="utf-8"))]
    assert found == []


def test_the_page_of_the_data_explains_every_kind():
    rows = table("docs/data.md", "What check finds")
    assert {row[0][1:-1]: row[1] for row in rows if row[0].startswith("`")} == KINDS


def test_the_page_of_the_data_names_every_key_of_a_split(home):
    named = [key for row in table("docs/data.md", "The split") for key in keys(row[0])]
    np.savez("arrays.npz", x=np.arange(40 * 64).reshape(40, 8, 8) % 251, y=np.arange(40) % 2)
    assert run(["train", "arrays.npz", *SHORT, "--out", "runs/arrays"]) == 0
    written = [json.loads(Path(r, "split.json").read_text()) for r in (RUN, "runs/arrays")]
    assert set(named) == set(written[0]) | set(written[1])
    entry = next(row for row in table("docs/data.md", "The split") if row[0] == "`entries`")
    assert keys(entry[1]) == list(written[0]["entries"][0])


def test_the_page_of_the_training_has_every_field():
    rows = [row for row in table("docs/training.md", "Every option") if row[0].startswith("`")]
    fields = Recipe.model_fields.items()
    assert {row[0][1:-1]: (row[1][1:-1], row[2]) for row in rows} == {
        field: (json.dumps(f.get_default(call_default_factory=True)), f.description)
        for field, f in fields
    }


def test_the_page_of_the_training_says_what_auto_decides():
    heading, spec = 'What "auto" decides', Spec(channels=1, size=(8, 8))
    rows = table("docs/training.md", heading)
    rules = {row[0]: row[1] for row in rows if len(row) == 3}
    assert f"{SEEN:,} / n" in rules["epochs"]
    assert f"{UPDATES} updates" in rules["epochs"]
    assert f"{PASSES:g} passes" in rules["network width"]
    assert ", ".join(map(str, WIDTHS)) in rules["network width"]
    examples = [row for row in rows if row[0].replace(",", "").isdigit()]
    assert len(examples) == 5
    for count, batch, epochs in examples:
        train = np.arange(int(count.replace(",", "")))
        chosen = complete(Recipe(augment="none"), spec, train, train, train)
        assert (chosen.batch, chosen.epochs) == (int(batch), float(epochs)), count


def test_the_page_of_the_training_lists_optimizers_and_schedules():
    rows = [row for row in table("docs/training.md", "Optimizers") if row[0].startswith("`")]
    assert {keys(row[0])[0] for row in rows} == {*OPTIMIZERS, *SCHEDULES}
    for name, _, lr, decay in [row for row in rows if len(row) == 4]:
        first = OPTIMIZERS[keys(name)[0]](Conv2d(1, 1, 3), Recipe()).param_groups[0]
        assert (first["lr"], first["weight_decay"]) == (float(lr), float(decay.split(",")[0]))


def test_the_page_of_the_training_lists_augmentations():
    rows = table("docs/training.md", "Augmentations")
    shown = {keys(row[0])[0]: float((row[1] or "0").split()[0]) for row in rows[2:]}
    assert shown == {name: amount for name, (_, amount) in {**INDEX, **PLACE, **VALUE}.items()}


def test_the_page_of_the_training_names_every_file_of_a_run(home):
    heading = "The run folder, stopping and resuming"
    named = {key.rstrip("/") for row in table("docs/training.md", heading) for key in keys(row[0])}
    assert named == {path.name for path in Path(RUN).iterdir()}


def test_the_page_of_the_training_names_every_key_of_json(home, capsys):
    printed = {}
    for command, rest in {
        "train": ["photos", *SHORT, "--out", "runs/json", "--json"],
        "evaluate": [RUN, "photos", "--json"],
        "check": ["photos", "--json"],
        "models": ["--json"],
        "predict": [RUN, "a.jpg", "--json", "--out", "answers.jsonl"],
    }.items():
        assert run([command, *rest]) == 0, command
        printed[command] = capsys.readouterr().out or Path("answers.jsonl").read_text()
    for row in table("docs/training.md", "What --json prints")[2:]:
        found = json.loads(printed.pop(*keys(row[0])))
        assert keys(row[1]) == list(found[0] if isinstance(found, list) else found), row[0]
    assert not printed


def test_the_page_of_the_bundle_names_its_files_and_keys(home):
    files = {key.rstrip("/") for row in table("docs/bundle.md", "Bundle") for key in keys(row[0])}
    assert files == {path.name for path in Path(RUN, "bundle").iterdir()}
    config = json.loads(Path(RUN, "bundle", "config.json").read_text())
    rows = {keys(row[0])[0]: keys(row[1]) for row in table("docs/bundle.md", "config.json")[2:]}
    assert set(config) <= set(rows) <= {*config, "num_features"}
    for key in ("striate", "pretrained_cfg"):
        assert set(rows[key]) == set(config[key])


def test_the_page_of_the_bundle_names_the_columns_of_a_prediction(home, capsys):
    rows = table("docs/bundle.md", "Rows")[2:]
    assert run(["predict", RUN, "a.jpg", "--out", "answers.csv"]) == 0
    header = Path("answers.csv").read_text().splitlines()[0].split(",")
    assert dict.fromkeys(re.sub(":.*", ":NAME", column) for column in header) == dict.fromkeys(
        keys(row[0])[0] for row in rows
    )
