import time

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from striate.errors import RecipeError
from striate.recipe import Recipe
from striate.train.evaluate import predict
from striate.train.loop import State, fit, steps

FAST = Recipe(epochs=6)


def accuracy(model, loader):
    logits, labels = predict(model, loader)
    return (logits.argmax(1) == labels).mean()


@pytest.mark.parametrize(
    ("optimizer", "axes"), [("muon", 2), ("muon", 3), ("sgd", 2), ("adamw", 2)]
)
def test_every_optimizer_learns(bars, optimizer, axes):
    model, loader, ordered = bars(axes=axes)
    fit(model, loader, FAST.model_copy(update={"optimizer": optimizer}))
    assert accuracy(model, ordered) > 0.9


def test_a_series_is_learned_too(bars):
    model, loader, _ = bars(axes=1, size=32)
    assert fit(model, loader, FAST)[-1] < 0.2  # one class: the loss still has to fall


def test_same_seed_gives_the_same_losses(bars):
    def losses():
        model, loader, _ = bars()
        return fit(model, loader, Recipe(epochs=2))

    assert losses() == losses()


def test_another_seed_gives_other_losses(bars):
    assert fit(*bars(seed=0)[:2], Recipe(epochs=1)) != fit(*bars(seed=1)[:2], Recipe(epochs=1))


def test_epochs_count_updates(bars):
    model, loader, _ = bars(count=100)
    assert len(loader) == 7
    assert len(fit(model, loader, Recipe(epochs=2.5))) == 18  # 17.5, begun is done


def test_a_time_budget_ends_training(bars):
    model, loader, _ = bars()
    begun = time.monotonic()
    *_, last = steps(model, loader, Recipe(seconds=0.5))
    assert 0.5 <= time.monotonic() - begun < 2
    assert 0.5 < last.progress < 1


def test_leaving_the_loop_stops(bars):
    model, loader, _ = bars()
    for step in steps(model, loader, FAST):
        if step.index == 2:
            break
    assert loader.step == 2


def test_the_first_update_moves_every_trained_weight(bars):
    model, loader, _ = bars(model="lenet5", size=28)
    before = [p.clone() for p in model.parameters()]
    next(steps(model, loader, FAST))
    assert all(bool((a != b).any()) for a, b in zip(before, model.parameters(), strict=True))


def test_accumulated_batches_equal_one_large_batch(bars):
    def weights(batch, accumulate):
        model, loader, _ = bars(count=64, batch=batch, model="lenet5", size=28)
        recipe = Recipe(epochs=1, accumulate=accumulate, optimizer="sgd", ema=0)
        for _ in steps(model.double(), Double(loader), recipe):
            pass
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.allclose(weights(32, 1), weights(8, 4), atol=1e-12)


class Double:
    """A loader whose batches are float64."""

    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return ((x.double(), y) for x, y in self.loader)


def test_a_torch_data_loader_does(bars):
    model, _, ordered = bars()
    batches = [(x, y) for x, y in ordered]
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    fit(model, DataLoader(TensorDataset(x, y), 16, shuffle=True), FAST)
    assert accuracy(model, ordered) > 0.9


def test_own_loss_sees_model_and_batch(bars):
    model, loader, _ = bars()
    seen = []

    def loss(net, x, y):
        seen.append(len(y))
        return net(x).square().mean()

    fit(model, loader, Recipe(epochs=1), loss=loss)
    assert sum(seen) == 128


def test_clipping_bounds_the_update(bars):
    model, loader, _ = bars(model="lenet5", size=28)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    recipe = Recipe(epochs=1, optimizer="sgd", lr=1.0, clip=1e-3, momentum=0, weight_decay=0, ema=0)
    next(steps(model, loader, recipe))
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm() <= 1.0001e-3


def test_a_loss_that_is_not_finite_stops_before_the_update(bars):
    model, loader, _ = bars(model="lenet5", size=28)
    state = State.start(model, FAST)
    run = steps(model, loader, FAST, state=state, loss=lambda m, x, y: m(x).sum() * hole[0])
    hole = [1.0]
    next(run)
    before = [p.detach().clone() for p in model.parameters()]
    hole[0] = float("nan")
    with pytest.raises(RecipeError, match=r"loss became nan at update 2.*lower the learning rate"):
        next(run)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_recipe_without_a_budget_is_refused(bars):
    model, loader, _ = bars()
    with pytest.raises(RecipeError, match="wants epochs or seconds above 0"):
        next(steps(model, loader, Recipe()))


def test_training_ends_on_the_slow_weights(bars):
    model, loader, _ = bars()
    state = State.start(model, FAST)
    for _ in steps(model, loader, FAST, state=state):
        pass
    for fast, slow in zip(state.lookahead.fast, state.lookahead.slow, strict=True):
        assert torch.equal(fast, slow)


class Means(torch.nn.Module):
    """Learns by a rule of its own: the running mean of each class."""

    grows = ("mean",)

    def __init__(self, classes, values):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(classes, values), requires_grad=False)
        self.course = []

    def forward(self, x):
        return -torch.cdist(x.flatten(1), self.mean)

    def learn(self, x, y, progress):
        self.course.append(progress)
        for sample, k in zip(x.flatten(1), y.tolist(), strict=True):
            self.mean[k] += 0.1 * (sample - self.mean[k])
        return torch.nn.functional.cross_entropy(self(x), y)


def test_a_rule_of_its_own_takes_the_place_of_the_gradient():
    torch.manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.randn(90, 1, 6) + 3 * torch.nn.functional.one_hot(y, 6)[:, None]
    model = Means(3, 6)
    loader = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=True)
    losses = fit(model, loader, Recipe(epochs=3))
    assert losses[-1] < losses[0]
    assert model.course == sorted(model.course)
    assert 0 < model.course[0] < model.course[-1] < 1
    assert (model(x).argmax(1) == y).float().mean() > 0.8


@pytest.mark.parametrize(("optimizer", "l1"), [("muon", 0.5), ("sgd", 1.0), ("adamw", 0.5)])
def test_an_l1_penalty_leaves_the_weights_that_the_data_hold_up(optimizer, l1):
    torch.manual_seed(0)
    x = torch.randn(400, 20)
    y = (x[:, 3] > 0).long()
    batches = list(zip(x.split(20), y.split(20), strict=True))
    recipe = Recipe(optimizer=optimizer, lr=0.05, weight_decay=0, schedule="constant", ema=0)
    zero = {}
    for penalty in (0.0, l1):
        model = torch.nn.Linear(20, 2)
        fit(model, batches, recipe.model_copy(update={"l1": penalty, "epochs": 20}))
        zero[penalty] = int((model.weight == 0).sum())
        assert model.weight[1, 3] - model.weight[0, 3] > 0.2
        assert (model.bias != 0).all()
    assert zero[0.0] == 0
    assert zero[l1] > 20  # of 38 that tell nothing


def test_an_l1_penalty_alone_takes_learning_rate_times_penalty():
    model = torch.nn.Linear(3, 2)
    before = model.weight.detach().clone()
    recipe = Recipe(optimizer="sgd", lr=0.1, l1=0.5, weight_decay=0, epochs=1, ema=0)
    recipe = recipe.model_copy(update={"schedule": "constant"})
    (step,) = steps(model, [(None, None)], recipe, loss=lambda model, x, y: 0 * model.weight.sum())
    expected = before.sign() * (before.abs() - 0.1 * 0.5).clamp(min=0)
    torch.testing.assert_close(model.weight.detach(), expected)
    assert step.loss == 0
