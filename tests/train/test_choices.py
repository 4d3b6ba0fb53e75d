import numpy as np
import pytest

from striate.recipe import Recipe
from striate.spec import Spec
from striate.train.choices import augmentation, complete, width_for


def spec(channels=3, side=32):
    return Spec(channels=channels, size=(side, side), classes=("a", "b"))


def noise(channels=3, side=32, count=100):
    x = np.random.default_rng(0).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    return x, np.arange(count) % 2, np.arange(count)


@pytest.mark.parametrize("count", [1, 5, 100, 5000, 100_000])
def test_batches_fit_the_data(count):
    x, y, _ = noise(count=8)
    recipe = complete(Recipe(augment="none"), spec(), x, y, np.arange(count))
    assert 1 <= recipe.batch <= min(512, max(16, count))
    assert recipe.epochs >= 8


def test_given_numbers_stay():
    given = Recipe(batch=7, epochs=2, size=24, optimizer="sgd", augment="flip")
    assert complete(given, spec(), *noise()) == given


def test_a_time_budget_needs_no_epochs():
    assert complete(Recipe(seconds=5), spec(), *noise()).epochs == 0


def test_small_pictures_are_not_flipped_where_nothing_is_known():
    assert "flip" not in augmentation(spec(), *noise())  # noise: nothing is known


def test_photographs_are_flipped_unless_the_mirror_spoils_them():
    assert "flip" in augmentation(spec(side=64), *noise(side=64))


def test_series_are_moved_in_time_and_neither_turned_nor_scaled():
    x, y, train = noise(side=70)
    series = Spec(kind="series", channels=3, size=(4900,), classes=("a", "b"))
    assert augmentation(series, x.reshape(100, 3, -1), y, train) == "translate=350"


def test_volumes_of_which_nothing_is_known_are_not_flipped():
    volume = Spec(kind="volume", channels=3, size=(64, 64, 1), classes=("a", "b"))
    assert "flip" not in augmentation(volume, noise(side=64)[0][..., None], *noise(side=64)[1:])


def test_completing_twice_changes_nothing():
    once = complete(Recipe(), spec(), *noise())
    assert complete(once, spec(), *noise()) == once


def test_more_time_makes_a_wider_network():
    widths = [width_for(seconds, 50_000, 1e-3, 64) for seconds in (1, 300, 1200, 10_000)]
    assert widths == sorted(widths)
    assert widths[0] == 16
    assert widths[-1] == 128
