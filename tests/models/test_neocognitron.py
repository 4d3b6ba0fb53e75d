"""C-16, C-37, C-52: sizes, the golden S-cell, five digits learnt without a teacher."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from striate.analysis import profile
from striate.models import build
from striate.models.neocognitron import CCells, SCells, seeds
from striate.spec import Spec

# Strokes of five digits, as corners of a line; x to the right, y down, 0 to 1.
STROKES = (
    ((0, 0.3), (0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3)),
    ((0.3, 0.2), (0.5, 0), (0.5, 1)),
    ((0, 0.25), (0.25, 0), (0.75, 0), (1, 0.25), (1, 0.4), (0, 1), (1, 1)),
    (
        *((0, 0.1), (0.3, 0), (0.8, 0), (1, 0.25), (0.8, 0.48), (0.4, 0.48), (0.8, 0.48)),
        *((1, 0.75), (0.8, 1), (0.3, 1), (0, 0.9)),
    ),
    ((0.75, 1), (0.75, 0), (0, 0.65), (1, 0.65)),
)


def drawn(tall=9, thick=2):
    """Five digits, 0 to 4, drawn in the middle of 16 x 16."""
    pictures = []
    for corners in STROKES:
        picture = Image.new("L", (16, 16))
        wide = 0.75 * tall
        line = [((15 - wide) / 2 + wide * x, (15 - tall) / 2 + tall * y) for x, y in corners]
        ImageDraw.Draw(picture).line(line, fill=255, width=thick)
        pictures.append(torch.from_numpy(np.array(picture, np.float32))[None] / 255)
    return torch.stack(pictures)


def cell(r, q=1.0):
    cells = SCells(1, 1, 3, 0, selectivity=r, speed=q, share=1.0)
    bar = torch.zeros(1, 3, 3)
    bar[:, :, 1] = 1
    cells.reinforce(bar, 0, 0, 0)
    return cells, bar


@pytest.mark.parametrize(("r", "wanted"), [(1.5, 0.166667), (4.0, 0.210526)])
def test_the_golden_s_cell(r, wanted):
    cells, bar = cell(r)
    assert cells.inhibition(bar[None]).item() == pytest.approx(0.577350, abs=1e-6)
    assert cells.b.item() == pytest.approx(0.288675, abs=1e-6)
    assert cells(bar[None]).item() == pytest.approx(wanted, abs=1e-6)
    assert cells(bar.roll(1, 2)[None]).item() == 0
    assert cells(bar.mT[None]).item() == 0


@pytest.mark.parametrize("r", [0.5, 1.5, 4.0])
def test_strong_learning_ends_at_one_and_the_threshold_is_r_over_1_plus_r(r):
    cells, bar = cell(r, q=1e5)
    assert cells(bar[None]).item() == pytest.approx(1, abs=1e-3)
    theta = r / (1 + r)
    other = torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(1))
    for share in torch.linspace(0, 1, 9):
        window = share * bar + (1 - share) * other
        cosine = F.cosine_similarity(window.flatten(), bar.flatten(), dim=0)
        wanted = max(0.0, (cosine.item() - theta) / (1 - theta))
        assert cells(window[None]).item() == pytest.approx(wanted, abs=2e-3)


def test_sizes_and_counts_of_1980():
    rows = profile(build("neocognitron1980"), fields=False).layers
    shapes = [row.shape for row in rows if row.kind in ("SCells", "CCells")]
    assert shapes == [(24, s, s) for s in (16, 10, 8, 6, 2, 1)]
    assert sum(torch.Size(shape).numel() for shape in shapes) + 256 == 11_320
    assert sum(p.numel() for p in build("neocognitron1980").parameters()) == 29_472


def test_c_cells_do_not_care_for_a_small_shift():
    cells = CCells(5, 2, 4.0, inhibited=True)
    u = torch.zeros(1, 2, 16, 16)
    u[0, 0, 7, 7] = 1
    here, there = cells(u), cells(u.roll(1, 3))
    assert here.shape == (1, 2, 10, 10)
    assert (here * there).sum() > 0.5 * (here * here).sum()
    assert (cells(torch.full_like(u, 0.3))[:, :, 3:6, 3:6].abs() < 1e-6).all()  # all alike: shunted


def test_seeds_are_the_largest_of_their_column_and_one_a_plane():
    u = torch.zeros(3, 8, 8)
    u[0, 1, 1], u[0, 6, 6], u[1, 0, 0], u[2, 6, 1] = 0.9, 0.8, 0.5, 0.4
    assert seeds(u, 5) == [(0, 1, 1), (2, 6, 1)]  # every column with plane 1's cell has plane 0's
    assert seeds(u, 0) == [(0, 1, 1)]
    assert seeds(torch.zeros(2, 4, 4), 5) == []


def agreement(net, digits):
    winners = net.planes(digits).argmax(1)
    same = []
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            moved = net.planes(digits.roll((dy, dx), (2, 3)))
            same.append((moved.argmax(1) == winners).float().mean().item())
    return len(set(winners.tolist())), sum(same) / len(same)


@pytest.mark.slow
def test_five_digits_get_planes_of_their_own_wherever_they_are():
    spec = Spec(channels=1, size=(16, 16), classes=("0", "1", "2", "3", "4"))
    digits, y, kinds, same = drawn(), torch.arange(5), [], []
    for seed in range(10):
        torch.manual_seed(seed)
        net = build("neocognitron1980", spec)
        untrained, _ = agreement(net, digits)
        assert untrained <= 3
        for turn in range(20):
            net.learn(digits, y, turn / 20)
        distinct, share = agreement(net, digits)
        kinds.append(distinct)
        same.append(share)
        if distinct == 5:
            assert (net(digits).argmax(1) == y).all()
    assert sum(kind == 5 for kind in kinds) >= 8
    assert sum(same) / len(same) >= 0.88


def test_series_are_refused():
    with pytest.raises(Exception, match="wants pictures"):
        build("neocognitron1980", Spec(channels=1, size=(28,), classes=("a", "b")))
