import csv
import json

from striate.train.log import Log


def row(epoch):
    return {"epoch": epoch, "seconds": 1.5, "loss": 0.25, "lr": 0.1, "validation_accuracy": 0.5}


def test_rows_go_to_both_files_and_one_plain_line_to_stderr(tmp_path, capsys):
    with Log(tmp_path) as log:
        log.epoch(row(1.0))
        log.step(0.5, 0.2, None)
    table = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [float(r["loss"]) for r in table] == [0.25]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "epoch"
    out = capsys.readouterr()
    assert out.out == ""
    assert "epoch 1  1.5 s  loss 0.2500  validation 50.00%" in out.err


def test_quiet_says_nothing(tmp_path, capsys):
    with Log(tmp_path, quiet=True) as log:
        log.say("x")
        log.epoch(row(1.0))
    assert capsys.readouterr().err == ""


def test_a_run_that_goes_on_keeps_its_history(tmp_path):
    with Log(tmp_path, [row(1.0)], quiet=True) as log:
        log.epoch(row(2.0))
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_markup_in_a_name_is_shown_as_it_is(tmp_path, capsys):
    with Log(tmp_path) as log:
        log.say("[bold]data[/bold]")
    assert "[bold]data[/bold]" in capsys.readouterr().err
