"""C-74 in the small: one worker is SGD to the bit, nothing is lost, a seed replays, locks hold."""

import sys
import time

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from striate.errors import RecipeError
from striate.models import build
from striate.recipe import Recipe
from striate.spec import Spec
from striate.train.hogwild import Shared, _first_call, check, layers_of, replay, steps, work
from striate.train.loop import State
from striate.train.loop import steps as updates
from striate.train.losses import cross_entropy

SPEC = Spec(channels=1, size=(29, 29), classes=tuple("0123456789"))
RECIPE = Recipe(optimizer="sgd", momentum=0.0, ema=0.0, schedule="linear", epochs=1)
LOSS = cross_entropy()


class Count:
    """A shared counter for one process."""

    def __init__(self):
        self.value = 0

    def get_lock(self):
        from contextlib import nullcontext

        return nullcontext()


def network(seed=0):
    torch.manual_seed(seed)
    return build("chaos_small", SPEC)


def batch(index):
    draw = torch.Generator().manual_seed(index)
    return torch.randn(2, 1, 29, 29, generator=draw), torch.randint(0, 10, (2,), generator=draw)


def shared(model, total=20, locks=()):
    return Shared(model, RECIPE, total, float("inf"), 0.0, Count(), list(locks), torch.zeros(1))


def trained_by_sgd(updates=20, peak=0.1):
    from striate.train.schedules import SCHEDULES

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=peak)
    for index in range(updates):
        optimizer.param_groups[0]["lr"] = peak * SCHEDULES["linear"]((index + 0.5) / updates)
        LOSS(model, *batch(index)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def equal(one, other):
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_one_worker_is_sgd_to_the_bit():
    model = network()
    work(shared(model), batch, LOSS, peak=0.1)
    assert equal(model, trained_by_sgd())


def test_one_replayed_worker_is_sgd_to_the_bit():
    model = network()
    replay(model, batch, RECIPE, LOSS, updates=20, peak=0.1)
    assert equal(model, trained_by_sgd())


def test_workers_shrink_weights_as_one_does():
    recipe = RECIPE.model_copy(update={"l1": 0.1})
    model, alone = network(), network()
    optimizer = State.start(alone, recipe.model_copy(update={"lr": 0.1, "weight_decay": 0}))
    replay(model, batch, recipe, LOSS, updates=20, peak=0.1)
    list(updates(alone, [batch(k) for k in range(20)], recipe, state=optimizer, loss=LOSS))
    assert equal(model, alone)
    assert sum(int((p == 0).sum()) for p in model.parameters()) > 1000


def test_a_seed_replays_the_same_course():
    recipe = RECIPE.model_copy(update={"processes": 4})
    courses, models = [], []
    for seed in (3, 3, 4):
        models.append(network())
        courses.append(replay(models[-1], batch, recipe, LOSS, updates=20, peak=0.1, seed=seed))
    assert courses[0] == courses[1] != courses[2]
    assert equal(models[0], models[1])
    assert not equal(models[0], models[2])
    assert len(courses[0]) == 20 * len(layers_of(models[0]))


def test_layers_are_published_from_the_last_to_the_first():
    recipe = RECIPE.model_copy(update={"processes": 3})
    course = replay(network(), batch, recipe, LOSS, updates=9, peak=0.1)
    for me in range(3):
        own = [layer for worker, layer in course if worker == me]
        assert own == [3, 2, 1, 0] * (len(own) // 4)


def test_a_layer_is_published_while_the_layers_below_still_compute():
    seen = []
    model = network()

    class Watched(Shared):
        def publish(self, layer, lr):
            seen.append((layer, [p.grad is not None for group in self.layers for p in group]))
            super().publish(layer, lr)

    one = Watched(model, RECIPE, 1, float("inf"), 0.0, Count(), [], torch.zeros(1))
    work(one, batch, LOSS, peak=0.1)
    assert [layer for layer, _ in seen] == [3, 2, 1, 0]
    last_first, below = seen[0]
    assert last_first == 3
    assert not any(below[:6])  # nothing below is computed yet


class Lock:
    """Counts who is inside."""

    def __init__(self):
        self.inside = self.most = self.entered = 0

    def __enter__(self):
        self.inside += 1
        self.entered += 1
        self.most = max(self.most, self.inside)

    def __exit__(self, *error):
        self.inside -= 1


def test_every_publication_holds_the_lock_of_its_layer():
    model = network()
    locks = [Lock() for _ in layers_of(model)]
    work(shared(model, 5, locks), batch, LOSS, peak=0.1)
    assert [(lock.entered, lock.most, lock.inside) for lock in locks] == [(5, 1, 0)] * 4


class Pull(nn.Module):
    """A loss whose gradient is always the same: what is published can be counted."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 1)

    def forward(self, x):
        return sum(p.sum() for p in self.parameters()) + 0 * x.sum()


def constant(model, x, y):
    return model(x)


@pytest.mark.parametrize("processes", [1, 3])
def test_nothing_published_is_lost(bars, processes):
    _, loader, _ = bars(count=64)
    model = Pull()
    before = [p.detach().clone() for p in model.parameters()]
    recipe = RECIPE.model_copy(
        update={"processes": processes, "epochs": 10, "schedule": "constant", "weight_decay": 0.0}
    )
    state = State.start(model, recipe.model_copy(update={"lr": 0.125}))
    for _ in steps(model, loader, recipe, loss=constant, state=state):
        pass
    updates = 10 * len(loader)
    assert state.index == updates
    for p, q in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p, q - 0.125 * updates, rtol=0, atol=1e-3)


@pytest.mark.parametrize("publication", ["layers", "free"])
def test_two_workers_learn(bars, publication):
    _, loader, ordered = bars()
    x, y = next(iter(ordered))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), int(y.max()) + 1))
    recipe = RECIPE.model_copy(
        update={"processes": 2, "epochs": 6, "publication": publication, "lr": 0.05}
    )
    before = LOSS(model, x, y).item()
    for _ in steps(model, loader, recipe, loss=LOSS, state=State.start(model, recipe)):
        pass
    assert LOSS(model, x, y).item() < 0.9 * before


def test_running_statistics_have_not_seen_a_first_call(bars):
    _, loader, _ = bars(count=64)
    x, y = loader.batch_at(0)
    norm = nn.BatchNorm2d(x.shape[1])
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(x[0].numel(), int(y.max()) + 2))
    before = [buffer.clone() for buffer in norm.buffers()]
    _first_call(model, loader, LOSS, State.start(model, RECIPE))
    assert all(torch.equal(a, b) for a, b in zip(norm.buffers(), before, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked")
def test_what_a_first_call_costs_is_paid_once_and_is_no_training(bars):
    _, loader, _ = bars(count=64)
    model, paid, payments = Pull(), [], mp.get_context("fork").Value("i", 0)
    recipe = RECIPE.model_copy(update={"processes": 2, "epochs": 2})
    dice = torch.get_rng_state()

    def dear(model, x, y):
        if not paid:
            paid.append(True)
            time.sleep(1)
            with payments.get_lock():
                payments.value += 1
        torch.rand(1)
        return model(x)

    state = State.start(model, recipe)
    for _ in steps(model, loader, recipe, loss=dear, state=state, seconds=30):
        assert torch.equal(torch.get_rng_state(), dice)
    assert payments.value == 1
    assert state.index == 2 * len(loader)
    assert state.seconds < 1


def test_a_loss_that_is_not_finite_stops_everybody(bars):
    _, loader, _ = bars()
    model = Pull()
    recipe = RECIPE.model_copy(update={"processes": 2, "epochs": 50})

    def bad(model, x, y):
        return model(x) * float("nan")

    with pytest.raises(RecipeError, match="the loss became nan at update"):
        for _ in steps(model, loader, recipe, loss=bad, state=State.start(model, recipe)):
            pass


def test_leaving_the_loop_stops_the_workers(bars):
    _, loader, _ = bars()
    model = Pull()
    recipe = RECIPE.model_copy(update={"processes": 2, "epochs": 1e6})
    for step in steps(model, loader, recipe, loss=constant, state=State.start(model, recipe)):
        if step.index > 3:
            break
    before = [p.detach().clone() for p in model.parameters()]
    time.sleep(0.3)  # long enough for hundreds of updates
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_what_workers_cannot_share_is_said():
    with pytest.raises(RecipeError, match=r"leave out --optimizer adamw, --clip 1\.0"):
        check(network(), Recipe(optimizer="adamw", clip=1.0))
    with pytest.raises(RecipeError, match="cannot share batch normalisation"):
        check(build("resnet20"), Recipe())
    assert check(network(), Recipe()).optimizer == "sgd"
