import csv
import json

import numpy as np
import pytest
import torch

from striate import bundle
from striate.data.material import gather
from striate.errors import DataError, RecipeError
from striate.kernels import level, reason
from striate.kernels.accelerated import FastConv2d
from striate.kernels.dispatch import remembered
from striate.models import MODELS
from striate.recipe import Recipe
from striate.run import check_recipe, train
from striate.spec import Spec
from striate.train.resume import newest

SHORT = Recipe(epochs=8, checkpoint=1000, model_options={"width": 8}, threads=1)


@pytest.fixture
def material(photos):
    return gather(photos, size=16)


def test_a_run_leaves_everything_that_the_design_names(material, tmp_path):
    result = train("photos", material, SHORT, tmp_path / "run", quiet=True)
    found = {p.name for p in (tmp_path / "run").iterdir()}
    assert found == {
        "recipe.toml", "split.json", "run.json", "events.jsonl", "metrics.csv",
        "predictions.csv", "report.html", "plots", "state", "bundle",
    }  # fmt: skip
    assert result["scores"]["test"]["accuracy"]["value"] > 0.9
    assert set(result) == {
        "run", "bundle", "seconds", "epochs", "images_per_second", "device", "model",
        "parameters", "skipped", "scores",
    }  # fmt: skip
    assert json.loads(json.dumps(result)) == result
    with open(tmp_path / "run" / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows} == {"validation", "test"}
    assert len(rows) == len(material.split.validation) + len(material.split.test)


def test_the_bundle_answers_as_the_run_scored(material, tmp_path):
    train("photos", material, SHORT, tmp_path / "run", quiet=True)
    from striate.deploy.predict import load

    model = load(tmp_path / "run")
    paths = [material.samples.files[i] for i in material.split.test]
    answers = {str(a.path): a for a in model.predict(paths)}
    with open(tmp_path / "run" / "predictions.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] == "test":
                path = next(p for p in answers if p.endswith(row["path"]))
                assert answers[path].label == row["class"]
                assert answers[path].probability == pytest.approx(
                    float(row["probability"]), abs=1e-4
                )


def test_kernels_of_ours_train_alike_to_the_bit_and_leave_no_trace_in_the_bundle(
    material, tmp_path, monkeypatch
):
    if reason():
        pytest.skip(reason())
    monkeypatch.setattr("striate.kernels.accelerated.SMALL", 0)
    recipe = SHORT.model_copy(update={"precision": "float32", "epochs": 1.0})
    results = []
    for name in ("one", "two"):
        remembered.cache_clear()  # as a new process, with what the first kept on disk
        train("photos", material, recipe, tmp_path / name, quiet=True)
        results.append(bundle.load(tmp_path / name))
    assert remembered()
    one, two = (found.model.state_dict() for found in results)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not any(isinstance(m, FastConv2d) for m in results[0].model.modules())
    events = (tmp_path / "one" / "events.jsonl").read_text().splitlines()
    assert level() in {json.loads(line).get("kernels") for line in events}


@pytest.mark.parametrize("option", ["threads", "processes"])
def test_too_many_workers_are_refused_before_anything_is_written(material, tmp_path, option):
    many = SHORT.model_copy(update={option: 10**6})
    with pytest.raises(RecipeError, match=f"--{option} wants at most .*got 1000000"):
        train("photos", material, many, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_to_insist_on_compiling_is_refused_before_anything_is_written(material, tmp_path):
    wanted = SHORT.model_copy(update={"compile": "on", "processes": 2})
    with pytest.raises(RecipeError, match=r"compile = on wants a CPU.*got fastnet"):
        train("photos", material, wanted, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_golden_files_replay(material, tmp_path):
    train("photos", material, SHORT, tmp_path / "run", quiet=True)
    from striate.deploy.predict import load

    model = load(tmp_path / "run" / "bundle")
    golden = tmp_path / "run" / "bundle" / "golden"
    for name, expected in bundle.load(tmp_path / "run").golden.items():
        answer = model.predict(golden / name)[0]
        seen = [answer.probabilities[c] for c in model.classes]
        assert np.allclose(seen, expected, atol=1e-5)


def test_files_that_vanish_while_it_trains_do_not_stop_a_run(material, tmp_path):
    for row in material.split.test:
        material.samples.files[row].unlink()
    result = train("photos", material, SHORT, tmp_path / "run", quiet=True)
    assert result["scores"]["test"]["accuracy"]["n"] == len(material.split.test)
    assert bundle.load(tmp_path / "run").golden == {}


@pytest.mark.parametrize(
    "compiles",
    [
        "off",
        pytest.param(
            "on",
            marks=[pytest.mark.slow, pytest.mark.skipif(bool(reason()), reason="no kernels")],
        ),
    ],
)
def test_a_run_that_goes_on_ends_like_one_that_never_stopped(
    material, tmp_path, monkeypatch, capfd, compiles
):
    recipe = SHORT.model_copy(update={"compile": compiles})
    whole = train("photos", material, recipe, tmp_path / "whole")
    assert ("compiling the training step" in capfd.readouterr().err) is (compiles == "on")
    assert whole["scores"]["test"]["accuracy"]["value"] > 0.9
    from striate.session import Keeper

    follow = Keeper.follow

    def stop(self, step):
        follow(self, step)
        if step.index == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "follow", stop)
    with pytest.raises(KeyboardInterrupt):
        train("photos", material, recipe, tmp_path / "run", quiet=True)
    monkeypatch.setattr(Keeper, "follow", follow)
    recipe = Recipe.read(tmp_path / "run" / "recipe.toml")
    again = train("photos", material, recipe, tmp_path / "run", resume=True, quiet=True)
    a, b = ((tmp_path / n / "bundle" / "model.safetensors").read_bytes() for n in ("whole", "run"))
    assert a == b
    assert again["scores"] == whole["scores"]
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == len((tmp_path / "whole" / "metrics.csv").read_text().splitlines())


def test_a_finished_run_can_be_made_longer(material, tmp_path):
    train("photos", material, SHORT, tmp_path / "run", quiet=True)
    before = newest(tmp_path / "run" / "state")[1]["index"]
    longer = Recipe.read(tmp_path / "run" / "recipe.toml").model_copy(update={"epochs": 10})
    result = train("photos", material, longer, tmp_path / "run", resume=True, quiet=True)
    assert result["epochs"] == 10
    assert newest(tmp_path / "run" / "state")[1]["index"] > before


@pytest.mark.slow
def test_a_time_budget_chooses_the_width_and_is_kept(material, tmp_path):
    recipe = Recipe(seconds=6, threads=1)
    result = train("photos", material, recipe, tmp_path / "run", quiet=True)
    assert abs(result["seconds"] - 6) < 3
    assert "width" in Recipe.read(tmp_path / "run" / "recipe.toml").model_options


@pytest.mark.parametrize(
    ("changes", "epochs"), [({"epochs": 0.5}, 1), ({"epochs": 2, "accumulate": 3}, 2)]
)
def test_every_training_leaves_a_row_an_epoch_and_one_at_its_end(
    material, tmp_path, changes, epochs
):
    recipe = SHORT.model_copy(update={"batch": 8, **changes})
    result = train("photos", material, recipe, tmp_path / "run", quiet=True)
    with open(tmp_path / "run" / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == epochs
    assert float(rows[-1]["epoch"]) == pytest.approx(result["epochs"], abs=0.001)
    assert (tmp_path / "run" / "plots" / "loss.svg").is_file()


def test_views_are_scored_beside_the_plain_scores(material, tmp_path):
    recipe = SHORT.model_copy(update={"test_time": True, "epochs": 1})
    result = train("photos", material, recipe, tmp_path / "run", quiet=True)
    assert set(result["scores"]) == {"validation", "test", "test_views"}


def test_balanced_weights_give_each_class_the_same_mass(photos):
    for extra in list((photos / "across").iterdir())[10:]:
        extra.unlink()
    from striate.session import weights_of

    material = gather(photos, size=16)
    weights = weights_of(material, Recipe(class_weights="balanced"))
    train_rows = material.split.train
    mass = np.bincount(material.samples.labels[train_rows], weights[train_rows])
    assert mass[0] == pytest.approx(mass[1])
    assert weights[train_rows].mean() == pytest.approx(1)


def test_a_folder_that_exists_is_never_overwritten(material, tmp_path):
    with pytest.raises(DataError, match="exists already; name another with --out"):
        train("photos", material, SHORT, tmp_path, quiet=True)


def test_going_on_with_no_run_is_refused(material, tmp_path):
    with pytest.raises(DataError, match="is no run to go on with"):
        train("photos", material, SHORT, tmp_path / "none", resume=True, quiet=True)


def test_networks_of_values_do_not_read_words():
    spec = Spec(kind="text", channels=1, size=(40,), dtype="float32", classes=("good", "bad"))
    with pytest.raises(RecipeError, match=r"numbers of words.*take --model textcnn"):
        check_recipe(Recipe(), spec)
    check_recipe(Recipe(model="textcnn"), spec)


def test_a_network_that_cannot_answer_is_refused_before_anything_is_written(monkeypatch):
    monkeypatch.setitem(MODELS, "mine", lambda spec: torch.nn.Conv1d(1, 2, 9))
    spec = Spec(channels=1, size=(5,), classes=("a", "b"))
    with pytest.raises(RecipeError, match=r"'mine' cannot answer samples of \(1, 5\): .*[Kk]ernel"):
        check_recipe(Recipe(model="mine"), spec)
