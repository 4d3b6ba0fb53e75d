"""Columns that learn alone, widths that are what they say."""

import pytest
import torch

from striate.models import build
from striate.models.committee import Width
from striate.spec import Spec

SPEC = Spec(channels=1, size=(29, 29), classes=tuple("0123456789"))


def test_seven_columns():
    assert sum(p.numel() for p in build("committee").parameters()) == 7 * 76_040


@pytest.mark.parametrize("width", [10, 14, 20])
def test_ink_is_drawn_to_its_width_around_its_middle(width):
    light = torch.zeros(2, 1, 29, 29)
    light[0, 0, 5:24, 3:9] = 1
    light[1, 0, 5:24, 8:28] = 1
    drawn = Width(width)(light)
    inked = drawn.amax((1, 2)) > 0.5
    assert inked.sum(1).tolist() == pytest.approx([width, width], abs=1)
    place = torch.arange(29.0)
    for row, middle in zip(inked, (5.5, 17.5), strict=True):
        nearest = min(max(middle, width / 2 - 0.5), 28.5 - width / 2)  # that leaves all of it in
        assert place[row].mean().item() == pytest.approx(nearest, abs=1)
    assert ((drawn.amax((1, 3)) > 0.5).sum(1) == 19).all()  # the height stays


def test_width_0_and_empty_pictures_stay():
    light = torch.rand(1, 1, 29, 29)
    assert Width(0)(light) is light
    empty = torch.zeros(1, 1, 29, 29)
    torch.testing.assert_close(Width(10)(empty), empty)


def test_the_answer_is_the_mean_of_the_columns():
    net, x = build("committee", SPEC, columns=3), torch.rand(2, 1, 29, 29)
    alone = net.train()(x)
    assert alone.shape == (3, 2, 10)
    torch.testing.assert_close(net.eval()(x).exp(), alone.softmax(2).mean(0))


def test_no_column_hears_of_another():
    net, x, y = build("committee", SPEC, columns=2), torch.rand(4, 1, 29, 29), torch.arange(4)
    net.criterion(net(x), y).backward()
    both = [p.grad.clone() for p in net.columns[0].parameters()]
    net.zero_grad()
    net.criterion(net(x)[:1], y).backward()
    for one, p in zip(both, net.columns[0].parameters(), strict=True):
        torch.testing.assert_close(one, p.grad)


def test_there_must_be_a_column():
    with pytest.raises(Exception, match=r"'columns' .* must be at least 1; got 0"):
        build("committee", SPEC, columns=0)
