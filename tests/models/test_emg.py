"""C-55: who fired when, at 20 dB; the adjoint is exact."""

import pytest
import torch

from striate.models import build
from striate.models.emg import firings
from striate.spec import Spec

SPEC = Spec(channels=1, size=(2000,), dtype="float32", classes=())


def templates(units=4, taps=24):
    """Action potentials of two or three phases, each of energy 1."""
    time = torch.arange(taps) - taps / 2
    drawn = []
    for k in range(units):
        width = 1.5 + 0.9 * k
        wave = -time / width * torch.exp(-((time / width) ** 2) / 2)
        if k % 2:
            wave = (1 - (time / width) ** 2) * torch.exp(-((time / width) ** 2) / 2)
        drawn.append(wave / wave.norm())
    return torch.stack(drawn)


def recorded(shapes, seed, length=2000, decibels=20.0):
    """A signal of trains that fire every 80 samples or so, and the trains."""
    draw = torch.Generator().manual_seed(seed)
    trains = torch.zeros(1, len(shapes), length)
    for k in range(len(shapes)):
        time = int(torch.randint(0, 60, (1,), generator=draw))
        while time < length - 40:
            trains[0, k, time] = 1
            time += 80 + int(torch.randint(-25, 26, (1,), generator=draw))
    clean = torch.nn.functional.conv_transpose1d(trains, shapes[:, None])[..., :length]
    noise = torch.randn(clean.shape, generator=draw) * clean.std() * 10 ** (-decibels / 20)
    return clean + noise, clean, trains


def f1(found, true, reach=5):  # 1 ms at 5 kHz
    near = torch.nn.functional.max_pool1d(true, 2 * reach + 1, 1, reach) > 0
    heard = torch.nn.functional.max_pool1d(found.float(), 2 * reach + 1, 1, reach) > 0
    right, recalled = (found & near).sum(), (heard & (true > 0)).sum()
    precision, recall = right / found.sum(), recalled / true.sum()
    return float(2 * precision * recall / (precision + recall))


def test_who_fired_when_at_20_decibels():
    shapes, scores, errors = templates(), [], []
    net = build("emg1988", SPEC, taps=24, steps=100)
    net.set_templates(shapes)
    for seed in range(3):
        signal, clean, trains = recorded(shapes, seed)
        with torch.no_grad():
            y = net(signal)
            errors.append(float((net.mixed(y) - clean).norm() / clean.norm()))
        scores.append(f1(firings(y), trains))
    assert sum(scores) / 3 >= 0.90
    assert sum(errors) / 3 <= 0.2


def test_the_adjoint_is_exact():
    net = build("emg1988", SPEC, taps=9).double()
    y = torch.randn(2, 4, 50, dtype=torch.float64)
    s = torch.randn(2, 1, 50, dtype=torch.float64)
    left, right = (net.mixed(y) * s).sum(), (y * net.matched(s)).sum()
    assert abs(left - right) <= 1e-10 * abs(left)


def test_it_learns_templates_by_backpropagation():
    torch.manual_seed(0)
    shapes = templates(2)
    net = build("emg1988", SPEC, units=2, taps=24, steps=20)
    net.set_templates(shapes + 0.1 * torch.randn(shapes.shape))
    signal, _, trains = recorded(shapes, 0)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    losses = []
    for _ in range(30):
        loss = net.criterion(net(signal), trains)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_firings_are_single():
    y = torch.zeros(1, 1, 20)
    y[0, 0, 8], y[0, 0, 9], y[0, 0, 15] = 0.5, 0.45, 0.2
    found = firings(y)[0, 0].nonzero()[:, 0].tolist()
    assert len(found) == 1
    assert found[0] in (8, 9)


def test_numbers_are_checked():
    with pytest.raises(Exception, match=r"taps 1 to 2000; got 4, 50, 3000"):
        build("emg1988", SPEC, taps=3000)
    with pytest.raises(Exception, match=r"an electromyogram is \(1, T\)"):
        build("emg1988", Spec(channels=2, size=(20,)))
