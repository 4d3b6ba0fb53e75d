import copy
import errno

import pytest
import torch
from safetensors.torch import load_file

from striate.errors import DataError, RecipeError
from striate.recipe import Recipe
from striate.train import resume
from striate.train.loop import State, steps
from striate.train.resume import newest, restore, store, telling_what_is_kept, whole_or_none

RECIPE = Recipe(epochs=3)


def begin(bars, optimizer="muon", **options):
    model, loader, _ = bars(**options)
    recipe = RECIPE.model_copy(update={"optimizer": optimizer})
    return model, loader, recipe, State.start(model, recipe)


@pytest.mark.parametrize("optimizer", ["muon", "sgd", "adamw"])
@pytest.mark.parametrize("stop", [1, 7, 13])
def test_a_run_that_goes_on_ends_bit_identical(bars, tmp_path, optimizer, stop):
    model, loader, recipe, state = begin(bars, optimizer)
    for _ in steps(model, loader, recipe, state=state):
        pass
    whole = copy.deepcopy(model.state_dict())

    model, loader, recipe, state = begin(bars, optimizer)
    for step in steps(model, loader, recipe, state=state):
        if step.index == stop:
            store(tmp_path, step.state, {"position": loader.step})
            break

    torch.manual_seed(999)
    model, loader, recipe, state = begin(bars, optimizer, seed=0)
    loader.step = restore(tmp_path, state)["position"]
    assert state.index == stop
    for _ in steps(model, loader, recipe, state=state):
        pass
    assert all(torch.equal(v, whole[k]) for k, v in model.state_dict().items())


def test_the_newest_whole_slot_counts(bars, tmp_path):
    _, _, _, state = begin(bars)
    for index in (3, 5, 8):
        state.index = index
        store(tmp_path, state, {"n": index})
    assert newest(tmp_path)[1]["facts"] == {"n": 8}
    newest_slot = newest(tmp_path)[0]
    weights = newest_slot / "tensors.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])  # as a kill or a bad disk leaves it
    assert newest(tmp_path)[1]["facts"] == {"n": 5}


def test_nothing_pickled_is_written(bars, tmp_path):
    _, _, _, state = begin(bars)
    store(tmp_path, state, {})
    files = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["state.json", "tensors.safetensors"]
    assert load_file(next(tmp_path.rglob("*.safetensors")))


def test_an_empty_folder_is_refused(bars, tmp_path):
    _, _, _, state = begin(bars)
    with pytest.raises(DataError, match="holds none that is whole; start a new run"):
        restore(tmp_path, state)


def test_to_go_on_wants_a_whole_state_or_none_at_all(bars, tmp_path):
    _, _, _, state = begin(bars)
    assert whole_or_none(tmp_path) is None
    store(tmp_path, state, {})
    store(tmp_path, state, {})
    (tmp_path / "a" / "state.json").write_text("{")
    assert whole_or_none(tmp_path)[0].name == "b"
    (tmp_path / "b" / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"a and b in .* are damaged: restore .*start a new run"):
        whole_or_none(tmp_path)


def test_a_training_that_fails_says_what_is_kept(bars, tmp_path):
    _, _, _, state = begin(bars)
    with pytest.raises(RecipeError, match=r"^lower it$"), telling_what_is_kept(tmp_path):
        raise RecipeError("lower it")
    state.index = 7
    store(tmp_path, state, {})
    with (
        pytest.raises(RecipeError, match=rf"^lower it; update 7 is kept in {tmp_path / 'a'}$"),
        telling_what_is_kept(tmp_path),
    ):
        raise RecipeError("lower it")


def test_another_network_is_refused(bars, tmp_path):
    _, _, _, state = begin(bars)
    store(tmp_path, state, {})
    _, _, _, other = begin(bars, model="lenet5", size=28)
    with pytest.raises(RecipeError, match="belongs to another network or optimizer"):
        restore(tmp_path, other)


def test_a_full_disk_leaves_the_last_state_whole(bars, tmp_path, monkeypatch):
    _, _, _, state = begin(bars)
    store(tmp_path, state, {"n": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume, "save_file", full)
    with pytest.raises(DataError, match="No space left on device; the last one is still whole"):
        store(tmp_path, state, {"n": 2})
    assert newest(tmp_path)[1]["facts"] == {"n": 1}
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(DataError, match=r"it was the first, so nothing is kept; .* start anew"):
        store(tmp_path / "new", state, {"n": 1})
