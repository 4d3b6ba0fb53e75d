import json

import pytest

from striate.cli import run


def test_lessons_are_listed_and_run(tmp_path, capsys):
    assert run(["lesson"]) == 0
    assert "dilation" in capsys.readouterr().out
    assert run(["lesson", "padding", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Padding and borders\n")
    assert (tmp_path / "padding.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((tmp_path / "padding.json").read_text())
    assert kept["numbers"]["valid"]["corner"] == 1
    assert run(["lesson", "padding", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["picture"] == str(tmp_path / "padding.png")


def test_a_card_is_printed_or_written(tmp_path, capsys):
    assert run(["models", "lenet1", "--card"]) == 0
    assert capsys.readouterr().out.startswith("# lenet1\n")
    assert run(["models", "lenet1", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "lenet1.svg").is_file()
    assert (tmp_path / "lenet1.md").is_file()


def test_one_network_is_one_line(capsys):
    assert run(["models", "lenet1", "--json"]) == 0
    assert [card["name"] for card in json.loads(capsys.readouterr().out)] == ["lenet1"]


@pytest.mark.parametrize("words", [["--card"], ["--out", "a"]])
def test_a_page_is_no_json(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert run(["models", "lenet1", "--json", *words]) == 2
    assert "a page is no JSON: say --json, or --card and --out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_not_there_gets_a_hint(capsys):
    assert run(["models", "lenet6"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert run(["lesson", "dilatoin"]) == 2
    assert "did you mean 'dilation'" in capsys.readouterr().err
