import numpy as np
import pytest
import torch
from torch import nn

from striate.train.evaluate import _views, count_views, predict


def test_logits_are_the_networks_in_order(bars):
    model, _, ordered = bars()
    logits, labels = predict(model, ordered)
    model.eval()
    with torch.no_grad():
        x, y = ordered.read(np.arange(16))
        assert torch.allclose(torch.from_numpy(logits[:16]).float(), model(x), atol=1e-5)
    assert labels[:16].tolist() == y.tolist()
    assert logits.shape == (128, 2)


@pytest.mark.parametrize("mode", [True, False])
def test_the_models_mode_comes_back(bars, mode):
    model, _, ordered = bars()
    model.train(mode)
    predict(model, ordered)
    assert model.training is mode


def test_running_statistics_do_not_move(bars):
    model, _, ordered = bars()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    predict(model.train(), ordered)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_views_of_an_invariant_network_change_nothing(bars):
    _, _, ordered = bars()
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    plain, _ = predict(net, ordered)
    mirrored, _ = predict(net, ordered, mirror=True)
    assert np.allclose(plain, mirrored, atol=1e-6)


def test_shifted_views_are_averaged(bars):
    _, _, ordered = bars()
    ordered.index = np.arange(1)
    pick = nn.Sequential(nn.Flatten())
    x, _ = ordered.read(np.arange(1))
    wide = torch.nn.functional.pad(x, [1] * 4, mode="replicate")
    mean = (x + wide[:, :, :-2, :-2] + wide[:, :, 2:, 2:]) / 3
    seen, _ = predict(pick, ordered, shift=1)
    assert np.allclose(seen, mean.flatten(1), atol=1e-6)


def test_no_samples_give_no_rows(bars):
    model, _, ordered = bars()
    ordered.index = np.zeros(0, np.int64)
    logits, labels = predict(model, ordered)
    assert logits.shape == (0, 2)
    assert labels.shape == (0,)


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("mirror", [False, True])
def test_views_are_counted_as_they_are_made(shift, mirror):
    assert count_views(shift, mirror) == len(_views(torch.zeros(1, 1, 6, 6), shift, mirror))
