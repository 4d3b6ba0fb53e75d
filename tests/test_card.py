import re
from pathlib import Path

import pytest

from striate.card import card, reached, write_card
from striate.models import CARDS

PAGES = Path(__file__).parents[1] / "docs" / "systems"


def test_a_card_tells_who_what_how_and_how_well():
    text, picture = card("lecun1989")
    assert text.startswith("# lecun1989\n\nLeCun et al., 1989. Input 1 x 16 x 16; 9,760 parameters")
    assert "64,660 connections" in text
    assert "[certain]" in text
    assert "- **Source**: LeCun et al. 1989" in text
    assert "Published: ZIP codes 5.0 % error." in text
    assert picture.startswith("<svg")
    assert "9,760 parameters" in picture


def test_rows_of_the_layers_add_up():
    text, _ = card("lenet5_1998")
    rows = re.findall(r"^\| \S+ \| \S+ \| \S+ \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE)
    numbers = [(int(p.replace(",", "")), int(c.replace(",", ""))) for p, c in rows]
    assert sum(p for p, _ in numbers) == 60_000
    assert sum(c for _, c in numbers) == 340_908


def test_what_was_reached_names_known_networks():
    assert set(reached()) <= set(CARDS)


def test_a_page_and_a_picture_are_written(tmp_path):
    page = write_card("lenet1", tmp_path / "new")
    assert page.read_text(encoding="utf-8") == card("lenet1")[0]
    assert (tmp_path / "new" / "lenet1.svg").is_file()


def test_every_network_has_a_page():
    assert {page.stem for page in PAGES.glob("*.md")} == set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_a_page_says_which_numbers_are_certain(name):
    """C-82: certain, reconstructed or from memory, in the builder's own words or in MARKS."""
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    about = page.split("\n## ")[0]
    assert re.search(r"\b(certain|reconstructed|memory|of our own)\b", about)


@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "googlenet", "capsnet", "spatial_transformer", "simard2003", "ciresan_mlp"),
        *("deepface", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("resnet20", "resnet56", "resnet110"),
    ],
)
def test_a_figure_from_memory_says_so_beside_it(name):
    """C-82, part D of the contract."""
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert re.search(r"^Published: .* \[from memory\]\.$", page, re.MULTILINE)


@pytest.mark.parametrize(
    "name",
    [
        *("chaos_small", "chaos_medium", "chaos_large", "ciresan_mlp", "deepface"),
        *("ciresan_cifar", "ciresan_gtsrb", "ciresan_hwdb", "neocognitron1988"),
        "neocognitron2003",
    ],
)
def test_a_table_of_layers_from_memory_is_not_called_certain(name):
    about = (PAGES / f"{name}.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert "from memory" in " ".join(about.split())
    assert not re.search(r"\b(tables|sizes|layers|\[)\s*certain", about)


def test_a_variant_of_our_own_is_not_called_the_papers_net():
    about = (PAGES / "unet.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert "variant of our own" in about
    assert "certain" not in about.replace("Certain or not", "")


def test_nothing_is_claimed_on_data_that_are_not_here():
    """C-81: what was reached was reached on data that anybody can get."""
    lacking = re.compile(r"imagenet|norb|gtsrb|hwdb|etl|atr\b|lfw|affnist", re.IGNORECASE)
    records = [record for one in reached().values() for record in one]
    claims = [f"{record['what']} {record['command']}" for record in records]
    assert claims
    assert [claim for claim in claims if lacking.search(claim)] == []
    named = {found[1] for claim in claims if (found := re.match(r"test accuracy on (\w+)", claim))}
    assert named <= {"cifar10", "fsdd", "mnist", "usps"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_its_page_is_current(name):
    text, picture = card(name)
    assert text.count("\n## ") == 2
    said = "write it anew: striate models --out docs/systems"
    assert (PAGES / f"{name}.md").read_text(encoding="utf-8") == text, said
    assert (PAGES / f"{name}.svg").read_text(encoding="utf-8") == picture, said
