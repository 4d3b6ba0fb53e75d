"""Sizes of the stages, a teacher who is listened to."""

import pytest
import torch

from striate.analysis import profile
from striate.models import build
from striate.models.neocognitron1988 import LINES
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


def test_too_few_planes_are_refused():
    with pytest.raises(
        Exception, match="planes must be at least one for each of 10 classes; got 4"
    ):
        build("neocognitron1988", planes=4)
