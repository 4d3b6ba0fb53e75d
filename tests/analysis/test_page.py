from html.parser import HTMLParser

import pytest

from striate.analysis import page

ENTRY = {"value": 0.98611, "low": 0.96794, "high": 0.99405, "n": 360, "method": "wilson"}


def test_a_score_is_written_with_its_interval():
    assert page.cell(ENTRY, True) == '<td class="n">98.6\u00a0% <small>96.8–99.4</small></td>'
    assert page.cell(ENTRY, False) == '<td class="n">0.986 <small>0.968–0.994</small></td>'


def test_what_is_undefined_or_missing_says_so():
    nothing = {**dict.fromkeys(("value", "low", "high")), "n": 0, "method": "wilson"}
    assert page.cell(nothing, True) == page.cell(None, False) == '<td class="n">not defined</td>'


def test_a_narrow_interval_earns_a_second_decimal():
    assert page.ends(ENTRY) == "96.8–99.4"
    assert page.ends({**ENTRY, "low": 0.9963, "high": 0.9977}) == "99.63–99.77"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (123456, "123,456"),
        (13.8342, "13.83"),
        (40123.7, "40,124"),
        (0.00012, "0.00012"),
        ("cpu", "cpu"),
        (True, "True"),
        (None, "None"),
    ],
)
def test_facts_are_short(value, text):
    assert page.plain(value) == text


def test_all_plain_text_is_escaped():
    evil = '<script>"&'
    written = page.bullets([evil]) + page.table(evil, [evil], []) + page.figure("", evil)
    assert "<script>" not in written
    assert written.count("&lt;script&gt;") == 4


def test_tables_have_heads_and_a_caption():
    seen = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            seen.append((tag, dict(attrs)))

    Reader().feed(page.table("all", ["a", "b"], ["<tr><td>1</td><td>2</td></tr>"]))
    assert ("caption", {}) in seen
    assert seen.count(("th", {"scope": "col"})) == 2
