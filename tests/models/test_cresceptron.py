"""C-53: growth that stops; recall of every view; the answer followed back to its pixels."""

import itertools
import sys

import pytest
import torch

from striate.models import build
from striate.models.cresceptron import Cresceptron
from striate.spec import Spec

SPEC = Spec(channels=1, size=(24, 24), classes=("cross", "ring"))


def views(count=10, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.zeros(count, 1, 24, 24), torch.arange(count) % 2
    place = torch.arange(24.0)
    for n in range(count):
        dy, dx = (torch.rand(2, generator=draw) * 2 - 1).tolist()
        v, h = place[:, None] - 11.5 - dy, place[None] - 11.5 - dx
        ring = (torch.hypot(v, h) - 7).abs() < 1.3
        cross = ((v.abs() < 1.3) | (h.abs() < 1.3)) & (torch.maximum(v.abs(), h.abs()) < 9)
        x[n, 0] = (ring if y[n] else cross).float()
    return x, y


def grown(**options):
    net = build("cresceptron", SPEC, **options)
    x, y = views()
    net.learn(x, y, 0.0)
    return net, x, y


def test_every_view_is_recalled_and_the_second_pass_adds_nothing():
    net, x, y = grown()
    before = net.planes()
    assert min(before) > 0
    assert (net(x).argmax(1) == y).all()
    net.learn(x, y, 0.9)
    assert net.planes() == before


@pytest.mark.parametrize("batch", [1, 3, 4, 10])
def test_whatever_the_batches_a_second_pass_adds_nothing_and_every_view_is_recalled(batch):
    """C-53: a batch that makes a level grow changes what the levels above say of earlier views."""
    net = build("cresceptron", SPEC)
    x, y = views(12)
    for _ in range(2):
        for part in torch.arange(12).split(batch):
            net.learn(x[part], y[part], 0.0)
        counts = net.planes()
        assert (net(x).argmax(1) == y).all()
        for part in torch.arange(12).flip(0).split(batch):  # in another order too
            net.learn(x[part], y[part], 0.5)
        assert net.planes() == counts


def test_the_views_that_are_gone_over_again_are_the_last(monkeypatch):
    monkeypatch.setattr(sys.modules[Cresceptron.__module__], "KEPT", 4)
    net = build("cresceptron", SPEC)
    x, y = views(6)
    for part in torch.arange(6).split(2):
        net.learn(x[part], y[part], 0.0)
    assert torch.equal(net.views, x[2:])
    assert torch.equal(net.shown, y[2:])


def test_a_view_that_two_classes_share_is_not_learnt_for_ever():
    net = build("cresceptron", SPEC)
    x, _ = views(2)
    net.learn(x[[0, 0]], torch.tensor([0, 1]), 0.0)
    before = net.planes()
    net.learn(x[[0, 0]], torch.tensor([0, 1]), 0.5)
    assert net.planes() == before


def test_planes_never_become_fewer():
    net = build("cresceptron", SPEC)
    x, y = views()
    counts = []
    for n in range(10):
        net.learn(x[n : n + 1], y[n : n + 1], 0.0)
        counts.append(net.planes())
    assert all(
        a <= b for one, two in itertools.pairwise(counts) for a, b in zip(one, two, strict=True)
    )


def test_two_things_on_a_large_picture_are_told_apart_by_their_pixels():
    net, x, _ = grown()
    canvas = torch.zeros(1, 1, 64, 64)
    canvas[..., 4:28, 4:28] = x[0]
    canvas[..., 36:60, 34:58] = x[1]
    for label, where in ((0, (4, 4)), (1, (36, 34))):
        mask = net.segment(canvas, torch.tensor([label]))[0] > 0.05
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[where[0] : where[0] + 24, where[1] : where[1] + 24] = True
        assert mask.any()
        assert (mask & inside).sum() > 0.9 * mask.sum()


def test_options_are_checked():
    with pytest.raises(Exception, match="pool must be max or average; got 'min'"):
        build("cresceptron", SPEC, pool="min")
    with pytest.raises(Exception, match="blur must be 0 or above; got -1"):
        build("cresceptron", blur=-1)
    with pytest.raises(Exception, match="squares of at least 8 pixels"):
        build("cresceptron", Spec(channels=1, size=(24, 20), classes=("a", "b")))


def test_without_blur_nodes_are_what_the_pooling_says():
    torch.manual_seed(0)
    spec = Spec(channels=1, size=(16, 16), dtype="float32", classes=("a", "b"))
    net, plain = build("cresceptron", spec), build("cresceptron", spec, blur=0)
    x = torch.rand(2, 1, 16, 16)
    for one in (net, plain):
        one.learn(x, torch.arange(2), 0.0)
    edges = plain.edges(plain.light(x))
    for one, same in ((plain, True), (net, False)):
        level = one.levels[0]
        assert torch.equal(level(edges), level.reduce(level.detect(edges))) is same
