"""C-15, shapes at every step, what feedback carries."""

import pytest
import torch

from striate.models import build
from striate.models.pyramid import Backward
from striate.spec import Spec


def test_235():
    net = build("pyramid_superresolution")
    assert sum(p.numel() for p in net.parameters()) == 235
    assert net.eval()(torch.rand(2, 1, 16, 16)).shape == (2, 1, 64, 64)
    assert net.train()(torch.rand(2, 1, 7, 7)).shape == (10, 2, 1, 28, 28)


def test_weights_between_the_upper_layers():
    net = build("pyramid_fillin")
    assert net.summit.up.weight.numel() == net.summit.down.weight.numel() == 7 * 7 * 8 * 16
    assert net.eval()(torch.rand(2, 1, 28, 28)).shape == (2, 1, 28, 28)


def test_each_corner_has_weights_of_its_own():
    down = Backward(2, 3, 5)
    assert sum(p.numel() for p in down.parameters()) == 5 * 4 * (3 + 1)
    x = torch.randn(1, 3, 4, 4)
    y, corners = down(x), down.corners(x).view(1, 5, 2, 2, 4, 4)
    assert y.shape == (1, 5, 8, 8)
    for row in range(2):
        for column in range(2):
            torch.testing.assert_close(y[..., row::2, column::2], corners[:, :, row, column])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_any_number_of_axes(axes):
    spec = Spec(channels=2, size=(8,) * axes, classes=())
    x = torch.rand(1, *spec.shape)
    assert build("pyramid_superresolution", spec).eval()(x).shape == (1, 2, *[32] * axes)
    assert build("pyramid_fillin", spec, out=3).eval()(x).shape == (1, 3, *[8] * axes)


def test_without_feedback_nothing_comes_down():
    spec = Spec(channels=1, size=(16, 16), classes=())
    for feedback in (True, False):
        net = build("pyramid_fillin", spec, steps=4, feedback=feedback).eval()
        before = net(torch.ones(1, 1, 16, 16))
        with torch.no_grad():
            net.layers[1].bias += 1.0
        assert bool((net(torch.ones(1, 1, 16, 16)) != before).any()) == feedback


def test_later_steps_weigh_more():
    net = build("pyramid_fillin")
    y, answer = torch.zeros(1, 1, 4, 4), torch.zeros(3, 1, 1, 4, 4)
    losses = []
    for step in range(3):
        wrong = answer.clone()
        wrong[step] = 1
        losses.append(net.criterion(wrong, y).item())
    assert losses == pytest.approx([1 / 6, 2 / 6, 3 / 6])


@pytest.mark.slow
def test_it_learns_to_fill_a_hole():
    torch.manual_seed(0)
    spec = Spec(channels=1, size=(8, 8), classes=())
    net = build("pyramid_fillin", spec, steps=5)
    whole = (torch.arange(8) % 2).float().expand(16, 1, 8, 8).clone()
    holed = whole.clone()
    for n in range(16):
        holed[n, 0, n % 5 : n % 5 + 3, (n // 4) : (n // 4) + 3] = 0.125
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        loss = net.criterion(net(holed), whole)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    before = (holed - whole).square().mean()
    assert (net.eval()(holed) - whole).square().mean() < 0.5 * before


def test_sizes_are_checked():
    with pytest.raises(Exception, match=r"multiple of 4; got \(10, 8\)"):
        build("pyramid_fillin", Spec(channels=1, size=(10, 8)))
    with pytest.raises(Exception, match=r"'steps' .* must be at least 1; got 0"):
        build("pyramid_superresolution", steps=0)
