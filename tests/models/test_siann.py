import torch

from striate.models import build
from striate.spec import Spec

SPEC = Spec(channels=1, size=(12, 12), classes=tuple("abc"))


def test_maps_move_with_the_picture_and_answers_stay():
    x = torch.randn(1, 1, 12, 12, dtype=torch.float64)
    maps, answers = build("siann1991", SPEC, maps=True).double(), build("siann1991", SPEC).double()
    for shift in ((1, 0), (5, 7)):
        moved = x.roll(shift, (2, 3))
        torch.testing.assert_close(maps(moved), maps(x).roll(shift, (2, 3)))
        torch.testing.assert_close(answers(moved), answers(x))


def test_units_over_all_places_break_it():
    net = build("siann1988", SPEC, border="circular").double()
    x = torch.randn(1, 1, 12, 12, dtype=torch.float64)
    assert (net(x.roll(3, 2)) - net(x)).abs().max() > 1e-4
