import os
import re
import signal
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from striate.data.material import gather
from striate.recipe import Recipe
from striate.session import Keeper, Session, interruptible, short_budget, weights_of
from striate.train.log import Log
from striate.train.loop import State, Step
from striate.train.resume import newest

RECIPE = Recipe(epochs=2, batch=8, augment="none", optimizer="sgd", size=16, ema=0)


@pytest.fixture
def material(photos):
    return gather(photos, size=16)


@pytest.fixture
def session(material, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    log = Log(tmp_path, quiet=True)
    device = torch.device("cpu")
    return Session(tmp_path, RECIPE, material, log, time.monotonic(), 0.0, device, model, None)


def step(session, state, loss=1.0):
    state.index += 1
    return Step(state.index, 0.1 * state.index, 0.5, torch.tensor(loss), 1.0, state)


def test_what_is_left_is_the_budget_less_the_wall_clock_and_the_end(session):
    session.recipe = RECIPE.model_copy(update={"seconds": 100})
    session.before, session.each = 30.0, 0.0
    assert session.left() == pytest.approx(69, abs=1)
    session.each = 1.0
    held = len(session.material.split.validation) + len(session.material.split.test)
    assert session.left() == pytest.approx(69 - 1.2 * held, abs=1)
    session.recipe = session.recipe.model_copy(update={"test_time": True, "augment": "flip"})
    held += 6 * len(session.material.split.test)
    assert session.left() == pytest.approx(69 - 1.2 * held, abs=1)


@pytest.mark.parametrize(
    ("budget", "trained", "warns"),
    [(1, 0.1, True), (8, 1.9, True), (8, 2.1, False), (0, 0.1, False)],
)
def test_a_budget_that_all_else_eats_is_warned_of(session, budget, trained, warns):
    session.recipe = RECIPE.model_copy(update={"seconds": budget})
    session.before, session.born = 3.0, time.monotonic() - 5.0  # 8 s in all
    state = State.start(session.model, RECIPE)
    state.seconds, state.index = trained, 4
    said = short_budget(session, state)
    assert bool(said) == warns
    if warns:
        rest = 8 - trained
        assert said.startswith(f"warning: start-up, scoring and saving took {rest:.1f} s; ")
        assert f"of --seconds {budget} that left {trained} s to train (updates: 4); " in said
        assert re.search(r"--seconds 1[3-6] would give training about half", said)


@pytest.mark.parametrize(("budget", "warns"), [(6, True), (7, False), (0, False)])
def test_a_budget_that_is_overrun_is_warned_of(session, budget, warns):
    session.recipe = RECIPE.model_copy(update={"seconds": budget})
    session.before, session.born = 3.0, time.monotonic() - 5.0  # 8 s in all
    state = State.start(session.model, RECIPE)
    state.seconds, state.index = 7.0, 4
    said = short_budget(session, state)
    assert said.startswith("warning: the run took 8.0 s of --seconds 6 (updates: 4): ") == warns
    assert bool(said) == warns


def test_training_batches_are_shuffled_and_scoring_batches_are_not(session):
    rows = session.material.split.train
    assert session.loader(rows, train=True).shuffle
    y = torch.cat([y for _, y in session.loader(rows)])
    assert y.tolist() == session.material.samples.labels[rows].tolist()


def test_without_weights_the_loss_has_none(material):
    assert weights_of(material, RECIPE) is None


def test_sample_weights_keep_their_ratio_and_average_one(material):
    given = np.random.default_rng(0).uniform(0.5, 2, len(material.samples))
    object.__setattr__(material.samples, "weights", given)
    weights = weights_of(material, RECIPE)
    assert weights[material.split.train].mean() == pytest.approx(1)
    assert np.allclose(weights / weights[0], given / given[0])


def test_an_epoch_leaves_a_row(session):
    loader = session.loader(session.material.split.train, train=True)
    keeper, state = Keeper(session, loader), State.start(session.model, RECIPE)
    for loss in (1.0, 3.0):
        loader.step = len(loader) if loss == 3.0 else 1
        keeper.follow(step(session, state, loss))
    (row,) = session.log.history
    assert row["loss"] == 2.0
    assert 0 <= row["validation_accuracy"] <= 1


def test_an_update_may_step_over_the_end_of_an_epoch(session):
    loader = session.loader(session.material.split.train, train=True)
    batches = len(loader)
    keeper, state = Keeper(session, loader), State.start(session.model, RECIPE)
    rows = []
    for loader.step in (batches - 1, batches + 2, batches + 3, 4 * batches + 1):
        keeper.follow(step(session, state))
        rows.append(len(session.log.history))
    assert rows == [0, 1, 1, 2]


@pytest.mark.parametrize(("ends", "count"), [((1,), 1), ((1, 2), 1), ((), 0)])
def test_what_is_left_of_an_epoch_leaves_a_row_that_is_stored(session, ends, count):
    loader = session.loader(session.material.split.train, train=True)
    assert len(loader) > 2
    keeper, state = Keeper(session, loader), State.start(session.model, RECIPE)
    for loader.step in ends:
        keeper.follow(step(session, state))
    keeper.close(state)
    keeper.close(state)
    assert len(session.log.history) == count
    found = newest(session.folder / "state")
    assert len(found[1]["facts"]["history"] if found else []) == count


def test_checkpoints_follow_the_clock(session):
    session.recipe = RECIPE.model_copy(update={"checkpoint": 1000})
    loader = session.loader(session.material.split.train, train=True)
    keeper, state = Keeper(session, loader), State.start(session.model, RECIPE)
    loader.step = 1
    keeper.follow(step(session, state))
    assert newest(session.folder / "state") is None
    keeper.stored -= 1001
    keeper.follow(step(session, state))
    _, stored = newest(session.folder / "state")
    assert (stored["index"], stored["facts"]["position"]) == (2, 1)


def test_weights_that_are_not_finite_are_never_stored(session):
    loader = session.loader(session.material.split.train, train=True)
    keeper, state = Keeper(session, loader), State.start(session.model, RECIPE)
    assert keeper.store(state)
    state.index = 7
    with torch.no_grad():
        session.model[1].bias[0] = float("nan")
    assert not keeper.store(state)
    assert newest(session.folder / "state")[1]["index"] == 0


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)


def test_one_interrupt_is_asked_for_and_waits():
    with interruptible() as asked:
        assert not asked()
        interrupt()
        assert asked()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_does_not_wait():
    with interruptible() as asked:
        interrupt()
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_somebody_else_stays():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        with interruptible() as asked:
            interrupt()
            assert not asked()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [1]


def test_another_thread_than_the_main_one_is_left_alone():
    answers = []

    def work():
        with interruptible() as asked:
            answers.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
