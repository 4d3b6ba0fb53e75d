"""The shape of the code base itself: import direction, mirrored tests, short files, plain names."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOME = ROOT / "src" / "striate"
FILES = sorted(HOME.rglob("*.py"))
SOURCES = sorted(p for p in HOME.rglob("csrc/*") if p.suffix in (".h", ".hpp", ".cpp"))

# What each part may import: the diagram of the architecture. Every name stands on a line above,
# so there can be no cycle. "data.prepare" is that one file of a part.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "spec": set(),
    "files": set(),
    "recipe": {"errors"},
    "container": {"errors"},
    "kernels": {"errors", "files"},
    "device": {"errors", "kernels"},
    "layers": {"errors", "kernels"},
    "models": {"errors", "spec", "layers"},
    "data": {"errors", "spec", "files"},
    "bundle": {"errors", "spec", "recipe", "container", "models"},
    "train": {"errors", "spec", "recipe", "data", "bundle", "kernels", "files"},
    "analysis": {"errors", "spec", "layers", "kernels", "files"},
    "deploy": {
        *("errors", "spec", "container", "data.prepare", "data.readers", "bundle", "device"),
    },
    "summary": {"recipe", "data", "layers", "train", "analysis", "files"},
    "session": {"recipe", "data", "train", "analysis", "models", "device"},
    "trial": {"recipe", "models", "train", "session"},
    "golden": {"data", "files"},
    "folder": {"errors", "train"},
    "run": {
        *("errors", "spec", "recipe", "models", "data", "bundle", "train", "analysis"),
        *("summary", "session", "trial", "golden", "folder", "files", "device", "kernels"),
    },
    "assess": {"errors", "spec", "data", "bundle", "train", "analysis", "summary", "device"},
    "bench": {"errors", "spec", "recipe", "models", "data", "train", "device"},
    "lessons": {"errors", "spec", "recipe", "data", "layers", "models", "train", "analysis"},
    "card": {"analysis", "models"},
    "options": {"errors", "recipe"},
    "show": set(),
    "catalogue": {
        *("errors", "bundle", "models", "device", "analysis", "card", "lessons", "show", "files"),
    },
    "cli": {
        *("errors", "spec", "recipe", "models", "data", "bundle", "train", "analysis", "deploy"),
        *("options", "catalogue", "show", "folder", "run", "assess", "bench", "files"),
    },
    "__main__": {"errors", "cli"},
    "__init__": set(),  # imports its parts by name, when they are first used
}

# `from striate import __version__` is a fact about the distribution, not an import of a part.
VERSION = "striate.__version__"

# Imports inside functions: the command line's own, optional dependencies, and these.
LATE = {"cli.py", "catalogue.py", "__main__.py", "__init__.py", "analysis/__init__.py"}
OPTIONAL = {"pyarrow", "soundfile", "tifffile"}
LAZY: dict[tuple[str, str], str] = {
    ("models/neocognitron1988.py", "sklearn"): "takes a second, for one network's teacher",
    ("train/compilation.py", "torch"): "torch._dynamo takes 3 s, which a short training saves",
    ("train/compilation.py", "striate"): "the backend of torch.compile, which imports it",
}

# What takes seconds to import, and the parts that must do without when they are imported.
HEAVY = {"torch", "torchvision", "sklearn", "scipy", "matplotlib.pyplot"}
LIGHT = re.compile(
    r"striate(\.(errors|spec|recipe|container|show|catalogue|cli|__main__"
    r"|analysis(\.(?!profiler$|receptive$|aliasing$|equivariance$|diagram$).+)?"
    r"|data(\.(?!loader$|augment$).+)?))?"
)

NO_NAMES = {"utils", "helpers", "base", "manager", "common", "core", "misc", "tools"}


def place(path):
    return path.relative_to(HOME).as_posix()


def part(path):
    return path.relative_to(HOME).parts[0].removesuffix(".py")


def module(path):
    parts = ["striate", *path.relative_to(HOME).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(node):
    """Yield (statement, full name) of every import below `node`."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from ((child, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            dots = "." * child.level
            yield from ((child, f"{dots}{child.module}.{a.name}") for a in child.names)


def functions(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


def on_import(node):
    """Yield the statements that run when a module is imported, type checking's own left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from on_import(child)


def allowed(mine, name):
    """Tell whether part `mine` may import `name`, e.g. striate.data.prepare.normalise."""
    rest = name.removeprefix("striate.").split(".")
    ways = {rest[0], ".".join(rest[:2])}
    return rest[0] == mine or bool(ways & MAY_IMPORT[mine]) or name == VERSION


def test_the_diagram_has_no_cycle():
    above = set()
    for name, below in MAY_IMPORT.items():
        assert {target.partition(".")[0] for target in below} <= above, name
        above.add(name)


@pytest.mark.parametrize("path", FILES, ids=place)
def test_imports_point_downwards(path):
    assert part(path) in MAY_IMPORT, f"{part(path)} has no line in MAY_IMPORT"
    for _, name in imports(tree(path)):
        if name.partition(".")[0] == "striate":
            assert allowed(part(path), name), f"{part(path)} may not import {name}"


@pytest.mark.parametrize(
    ("mine", "name", "answer"),
    [
        ("models", "striate.layers.conv", True),
        ("models", "striate.train.loop.steps", False),
        ("deploy", "striate.data.prepare.normalise", True),
        ("deploy", "striate.data.cache.Cache", False),
        ("spec", "striate.__version__", True),
        ("spec", "striate.data", False),
    ],
)
def test_a_planted_import_is_judged_rightly(mine, name, answer):
    assert allowed(mine, name) is answer


@pytest.mark.parametrize("path", FILES, ids=place)
def test_imports_are_from_a_named_file(path):
    for node, name in imports(tree(path)):
        assert not name.startswith("."), f"line {node.lineno}: write striate. instead of a dot"
        assert not name.endswith(".*"), f"line {node.lineno}: name what is imported"
        if isinstance(node, ast.Import):
            assert name.partition(".")[0] != "striate", f"line {node.lineno}: from {name} import y"


@pytest.mark.parametrize("path", [p for p in FILES if place(p) not in LATE], ids=place)
def test_imports_stand_at_the_top(path):
    for function in functions(path):
        for node, name in imports(function):
            root = name.partition(".")[0]
            known = root in OPTIONAL or (place(path), root) in LAZY
            assert known, f"line {node.lineno}: import {name} at the top, or give a reason in LAZY"


def test_every_lazy_import_is_still_there():
    for (file, root), reason in LAZY.items():
        names = {name.partition(".")[0] for f in functions(HOME / file) for _, name in imports(f)}
        assert root in names, f"{file} no longer imports {root} ({reason})"


@cache
def loads(name):
    """Return what importing one of our modules imports, as full names of modules."""
    found = set()
    for node in on_import(tree(MODULES[name])):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for _, full in imports(node):
                parent = full.rpartition(".")[0]
                ours = full.partition(".")[0] == "striate"
                found.add(full if full in MODULES or not ours else parent)
    return found


def chain(name):
    """Return the way from a module of ours to a heavy one, if there is any."""
    ways, seen = [[name]], {name}
    while ways:
        way = ways.pop()
        for target in loads(way[-1]):
            if any(f"{target}.".startswith(f"{heavy}.") for heavy in HEAVY):
                return [*way, target]
            parents = [target.rsplit(".", n)[0] for n in range(target.count(".") + 1)]
            for each in parents:  # importing a.b imports a first
                if each in MODULES and each not in seen:
                    seen.add(each)
                    ways.append([*way, each])
    return None


@pytest.mark.parametrize("name", [n for n in MODULES if LIGHT.fullmatch(n)])
def test_what_must_start_at_once_imports_nothing_heavy(name):
    way = chain(name)
    assert way is None, " -> ".join(way)


def test_the_search_for_heavy_imports_finds_them():
    assert chain("striate.bundle")[-1].startswith("torch")


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_sources_in_c_are_short_and_narrow(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400, f"{len(lines)} lines; split it along a noun"
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize("path", FILES, ids=place)
def test_files_and_functions_are_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{lines} lines; split it along a noun"
    for node in functions(path):
        assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_file_is_a_noun_at_most_two_levels_deep(path):
    assert path.stem not in NO_NAMES
    assert len(path.relative_to(HOME).parts) <= 2


@pytest.mark.parametrize("path", [f for f in FILES if not f.stem.startswith("__")], ids=place)
def test_a_module_has_its_test_file(path):
    twin = ROOT / "tests" / path.relative_to(HOME).with_name(f"test_{path.name}")
    assert twin.exists(), f"write {twin.relative_to(ROOT)}"


@pytest.mark.parametrize("path", FILES, ids=place)
def test_whatever_is_public_says_what_it_does(path):
    assert ast.get_docstring(tree(path)), "a module begins with a docstring"
    nodes = list(tree(path).body)
    for node in nodes:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            nodes += node.body
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        if isinstance(node, kinds) and not node.name.startswith("_"):
            if node.name == "forward" or is_override(node):
                continue  # the class says it
            assert ast.get_docstring(node), f"line {node.lineno}: {node.name} has no docstring"


def is_override(node):
    return any("overload" in ast.unparse(d) or "override" in ast.unparse(d)
               for d in node.decorator_list)  # fmt: skip


@pytest.mark.parametrize("name", [n for n in MODULES if not n.endswith("__main__")])
def test_every_public_name_resolves(name):
    found = import_module(name)
    for public in getattr(found, "__all__", ()):
        assert getattr(found, public) is not None


def test_the_table_of_places_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("## Where do I change") :]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    named = [name for row in rows for name in re.findall(r"`([\w/]+\.(?:py|html))`", row)]
    assert len(named) > 20
    for name in named:
        assert (HOME / name).exists() or (ROOT / name).exists(), f"{name} does not exist"


def test_the_table_of_places_names_every_file():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in FILES:
        if not path.stem.startswith("__"):
            assert f"`{place(path)}`" in text, f"say in CONTRIBUTING.md what to change in {path}"
