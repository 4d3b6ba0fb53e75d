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


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_its_page_is_current(name):
    text, picture = card(name)
    assert text.count("\n## ") == 2
    said = "write it anew: striate models --out docs/systems"
    assert (PAGES / f"{name}.md").read_text(encoding="utf-8") == text, said
    assert (PAGES / f"{name}.svg").read_text(encoding="utf-8") == picture, said
