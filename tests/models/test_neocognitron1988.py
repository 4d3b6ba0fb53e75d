"""Sizes of the stages, a teacher who is listened to."""

import pytest
import torch
import torch.nn.functional as F

from striate.analysis import profile
from striate.models import build
from striate.models.neocognitron1988 import LINES, typical
from striate.spec import Spec


def test_sizes_of_the_stages():
    rows = profile(build("neocognitron1988"), fields=False).layers
    shapes = [row.shape for row in rows if row.kind in ("SCells", "CCells")]
    assert shapes == [
        *((12, 19, 19), (8, 11, 11), (38, 11, 11), (22, 7, 7)),
        *((32, 7, 7), (30, 7, 7), (16, 3, 3)),
    ]


def test_twelve_lines_of_eight_orientations():
    assert len(LINES) == 12
    assert sorted({orientation for _, orientation in LINES}) == list(range(8))
    net = build("neocognitron1988")
    line = torch.zeros(1, 1, 19, 19)
    line[..., 9, 3:16] = 1
    said = net.simple[0](line)[0, :, 9, 9]
    assert said.argmax() == 0  # the horizontal line
    assert said[0] == pytest.approx(1, abs=1e-3)


def test_what_is_taught_is_known():
    torch.manual_seed(0)
    spec = Spec(channels=1, size=(19, 19), classes=("cross", "square", "stroke"))
    x = torch.zeros(3, 1, 19, 19)
    x[0, 0, 9, 3:16] = x[0, 0, 3:16, 9] = 1
    x[1, 0, 4:15, 4] = x[1, 0, 4:15, 14] = x[1, 0, 4, 4:15] = x[1, 0, 14, 4:15] = 1
    x[2, 0, torch.arange(3, 16), torch.arange(3, 16)] = 1
    net, y = build("neocognitron1988", spec, planes=6), torch.arange(3)
    for turn in range(40):
        net.learn(x, y, turn / 40)
    assert (net(x).argmax(1) == y).all()
    assert (net(x.roll(1, 3)).argmax(1) == y).all()
    assert net.taught[1] <= 38
    assert net.taught[2] <= 32


def test_typical_rows_are_one_of_each_heap_near_its_middle():
    torch.manual_seed(0)
    middle = torch.eye(4, 6)
    rows = torch.cat([m + 0.1 * torch.randn(30, 6) for m in middle])
    rows *= torch.rand(len(rows), 1) + 0.5  # their length does not matter
    near = (F.normalize(rows) @ middle.T).amax(1)
    for _ in range(20):
        found = typical(rows, 4)
        assert (found // 30).tolist() == [0, 1, 2, 3]
        assert near[found].min() > near.mean()
    assert len(typical(rows, 1000)) <= len(rows)
    assert not len(typical(rows[:0], 4))


def test_joined_planes_are_those_most_alike():
    net = build("neocognitron1988", parts=19)  # 11 groups
    cells = net.simple[1]
    cells.a.data.normal_(generator=torch.Generator().manual_seed(0))
    for twin in range(8):
        cells.a.data[18 - twin] = cells.a[twin] * 3
    net.taught[1] = 19
    net._merge(1)
    merge = net.merge(1)
    assert (merge.sum(0) == 1).all()
    assert all(torch.equal(merge[:, twin], merge[:, 18 - twin]) for twin in range(8))


def test_darkness_teaches_nothing_and_a_class_not_shown_is_never_answered():
    torch.manual_seed(0)
    net = build("neocognitron1988")
    net.learn(torch.full((4, 1, 19, 19), -1.0), torch.arange(4), 0.0)
    assert net.taught.tolist()[:3] == [12, 0, 0]
    x = torch.rand(40, 1, 19, 19).round()
    for turn in range(3):
        net.learn(x, torch.arange(40) % 7, turn / 3)
    assert net(x).argmax(1).max() < 7
    assert net.merge(3).sum(1).tolist()[7:] == [0, 0, 0]
    assert net.merge(3).sum() == 7 + 6  # one each, and the six left to the loosest shown


def test_too_few_planes_are_refused():
    with pytest.raises(
        Exception, match="planes must be at least one for each of 10 classes; got 4"
    ):
        build("neocognitron1988", planes=4)
