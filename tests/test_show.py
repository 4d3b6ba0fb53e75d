from striate.show import show_cards, show_result


def test_names_stand_in_a_column(capsys):
    card = {"year": 1998, "authors": "A", "parameters": 7, "input": [1, 2], "headline": "h"}
    show_cards([{"name": "short", **card}, {"name": "much-longer", **card}])
    first, second = capsys.readouterr().out.splitlines()
    assert first.index("1998") == second.index("1998")


def test_the_interval_stands_beside_the_accuracy(capsys):
    score = {"value": 0.9, "low": 0.85, "high": 0.94, "n": 200}
    show_result({
        "scores": {"test": {"accuracy": score}}, "model": "m", "parameters": 1, "epochs": 2.0,
        "seconds": 3.0, "device": "cpu", "run": "runs/a", "bundle": "runs/a/bundle",
    })  # fmt: skip
    assert (
        "90.00% of 200 test samples right (95 % interval 85.00% to 94.00%)"
        in capsys.readouterr().out
    )


def test_one_is_no_plural(capsys):
    show_result({
        "scores": {}, "model": "m", "parameters": 1, "epochs": 1.0, "seconds": 3.0,
        "device": "cpu", "run": "runs/a", "bundle": "runs/a/bundle",
    })  # fmt: skip
    assert "1 epoch, 3.0 s" in capsys.readouterr().out
