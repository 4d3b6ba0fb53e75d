"""Columns that learn alone, widths that are what they say."""

import pytest
import torch
import torch.nn.functional as F

from striate.models import build
from striate.models.committee import Turned, Width
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


def test_a_column_turns_its_pictures_while_learning_and_only_then():
    ramp = torch.arange(29.0).expand(200, 1, 29, 29)
    turned = Turned(10)
    assert turned.eval()(ramp) is ramp
    torch.manual_seed(0)
    moved = turned.train()(ramp)[:, 0, 8:21, 8:21]  # a plane, where no border is mirrored
    slopes = [moved.diff(dim=k) for k in (2, 1)]
    for slope in slopes:
        torch.testing.assert_close(slope, slope[:, :1, :1].expand_as(slope), rtol=0, atol=1e-4)
    along, across = (slope[:, 0, 0] for slope in slopes)
    assert 0.98 / 1.1 < along.min() < 0.95 < 1.05 < along.max() < 1.1  # cos 10 degrees is 0.985
    assert 0.2 < across.abs().max() < (0.174 + 0.1) * 1.1
    assert 0.5 < (moved[:, 6, 6] - 14).abs().max() <= 1.0001  # the middle moves by a pixel


def test_columns_see_pictures_of_their_own():
    net, seen = build("committee", SPEC, columns=2, turn=10), []
    for column in net.columns:
        column[1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        column[0][1].width = 0
    x = torch.rand(2, 1, 29, 29)
    net.train()(x)
    assert not torch.equal(*seen)
    seen.clear()
    net.eval()(x)
    assert torch.equal(*seen)


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


def test_smoothing_is_the_label_smoothing_of_every_column():
    net, y = build("committee", SPEC, columns=2, smoothing=0.1), torch.tensor([3, 1])
    answer = net(torch.rand(2, 1, 29, 29)).detach()
    wanted = sum(F.cross_entropy(one, y, label_smoothing=0.1) for one in answer)
    torch.testing.assert_close(net.criterion(answer, y), wanted)
    torch.testing.assert_close(net.criterion(answer, F.one_hot(y, 10).float()), wanted)


def test_there_must_be_a_column():
    with pytest.raises(Exception, match=r"'columns' .* must be at least 1; got 0"):
        build("committee", SPEC, columns=0)


def test_a_turn_is_an_angle():
    with pytest.raises(Exception, match=r"turn must lie in 0 to 180 degrees; got -1"):
        build("committee", SPEC, turn=-1)


def test_smoothing_is_a_share():
    with pytest.raises(Exception, match=r"smoothing must lie in 0 to under 1; got 1"):
        build("committee", SPEC, smoothing=1)
