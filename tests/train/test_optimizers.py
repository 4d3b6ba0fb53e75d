import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from striate.recipe import Recipe
from striate.train.optimizers import OPTIMIZERS, Lookahead, Muon, orthogonalise, shrink


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("shape", [(4, 16), (16, 4), (8, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(2, *shape, dtype=torch.float64)
    values = torch.linalg.svdvals(orthogonalise(matrix, rounds=6))
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(4, 16), (16, 4), (8, 8), (1, 5)])
def test_orthogonalising_is_the_rounds_of_the_source(shape):
    torch.manual_seed(0)
    matrix = torch.randn(2, *shape, dtype=torch.float64)
    x = matrix / matrix.norm(dim=(1, 2), keepdim=True)
    for _ in range(3):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    torch.testing.assert_close(orthogonalise(matrix), x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(orthogonalise(matrix.float()), x.float(), rtol=1e-4, atol=1e-5)


def test_orthogonalising_knows_rows_that_are_nearly_alike():
    torch.manual_seed(0)
    matrix = torch.randn(1, 1, 40, dtype=torch.float64) + 1e-4 * torch.randn(1, 20, 40)
    exact, found = orthogonalise(matrix), orthogonalise(matrix.float())
    assert (found - exact).abs().max() < 1e-4 * exact.abs().max()


def test_orthogonalising_keeps_the_singular_vectors():
    torch.manual_seed(0)
    matrix = torch.randn(1, 5, 9, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix[0], full_matrices=False)
    inside = u.T @ orthogonalise(matrix)[0] @ v.T
    assert (inside - inside.diag().diag()).abs().max() < 1e-10


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_decay_and_biases_and_norms_do_not(name):
    model = net()
    before = copy.deepcopy(model.state_dict())
    optimizer = OPTIMIZERS[name](model, Recipe(weight_decay=0.1, lr=0.5, momentum=0))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for key, value in model.named_parameters():
        if value.dim() >= 2:
            speed = 0.1 if name == "muon" and value.dim() == 2 else 1.0
            expected = before[key] * (1 - 0.5 * speed * 0.1)
            assert torch.allclose(value, expected, atol=1e-7), key
        else:
            assert torch.equal(value, before[key]), key


def test_shrunk_weights_stop_at_zero():
    weights = [torch.tensor([-3.0, -0.25, 0.0, 0.5, 2.0]), torch.tensor([[1.0]])]
    shrink(weights, 0.5)
    assert [w.tolist() for w in weights] == [[-2.5, 0, 0, 0, 1.5], [[0.5]]]


def test_adam_inside_muon_equals_torch_adam():
    ours, theirs = net()[3], net()[3]
    a = Muon([{"params": list(ours.parameters()), "rule": "adam", "lr": 0.01, "momentum": 0.9}])
    b = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.9, 0.99))
    for step in range(5):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.full_like(p, 0.3 - 0.1 * step)
            q.grad = p.grad.clone()
        a.step()
        b.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_muon_update_has_the_same_size_whatever_the_gradient():
    def move(scale):
        model = nn.Conv1d(3, 5, 3, bias=False)
        start = model.weight.detach().clone()
        optimizer = Muon([{"params": [model.weight], "lr": 0.1, "weight_decay": 0.0}])
        torch.manual_seed(1)
        model.weight.grad = scale * torch.randn_like(model.weight)
        optimizer.step()
        return (model.weight - start).norm().item()

    assert move(1e-3) == pytest.approx(move(1e3), rel=1e-3)


def test_frozen_weights_stay():
    model = net()
    model[0].weight.requires_grad_(False)
    optimizer = OPTIMIZERS["muon"](model, Recipe())
    listed = [p for group in optimizer.param_groups for p in group["params"]]
    assert not any(p is model[0].weight for p in listed)


def test_lookahead_is_the_running_mean_it_says():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    slow = Lookahead(model, 0.8)
    nn.init.ones_(model.weight)
    slow.update(4, 1.0)
    assert model.weight.item() == 1.0
    slow.update(5, 1.0)
    assert model.weight.item() == pytest.approx(1 - 0.8**5)


def test_lookahead_averages_running_statistics_too():
    model = nn.BatchNorm1d(2)
    slow = Lookahead(model, 0.9)
    model.running_mean.fill_(1.0)
    slow.update(5, 1.0)
    assert model.running_mean.tolist() == pytest.approx([1 - 0.9**5] * 2)


def test_a_training_too_short_to_average_ends_on_its_last_weights():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    slow = Lookahead(model, 0.8)
    nn.init.ones_(model.weight)
    slow.update(3, 1.0)
    slow.finish(3)
    assert model.weight.item() == 1.0


def test_the_last_updates_are_not_lost():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    slow = Lookahead(model, 0.8)
    slow.update(5, 1.0)
    nn.init.ones_(model.weight)
    slow.finish(7)
    assert model.weight.item() == pytest.approx(1 - 0.8**2)


def test_training_does_not_import_the_compiler():
    code = (
        "import sys, torch\n"
        "from striate import Recipe, models\n"
        "from striate.train import steps\n"
        "x, y = torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.long)\n"
        "list(steps(models.build('fastnet', width=8), [(x, y)] * 6, Recipe(epochs=1)))\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
