import numpy as np
import pytest

from striate.recipe import Recipe
from striate.spec import Spec
from striate.train.choices import augmentation, complete, hurried, size_for


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


def sizes(seconds, coarse=2, samples=50_000, each=1e-3):
    """The sizes for budgets on a machine where a quarter of the positions take half the time."""
    asked = []

    def time(stride):
        asked.append(stride)
        return each / 2 if stride else each

    return size_for(lambda: seconds, samples, time, coarse), asked


def test_more_time_makes_a_wider_network():
    found = [sizes(seconds, coarse=0)[0][0] for seconds in (1, 300, 1200, 10_000)]
    widths = [size["width"] for size in found]
    assert widths == sorted(widths)
    assert found[0] == {"width": 16}
    assert found[-1] == {"width": 64, "widen": 4}
    assert sizes(2 * 300 * 2**1.5 - 1, coarse=0)[0][0] == {"width": 64}  # not yet 6 passes


def test_short_of_time_the_stem_is_coarse():
    found = [sizes(seconds)[0][0] for seconds in (1, 150, 250, 300, 1200)]
    assert [size.get("stride", 0) for size in found] == [2, 2, 2, 0, 0]
    assert [size["width"] for size in found] == [32, 48, 64, 32, 64]


def test_where_the_coarse_stem_is_slow_the_usual_one_is_not_tried():
    assert sizes(1)[1] == [2]
    assert sizes(300)[1] == [2, 0]


def test_the_passes_are_those_of_the_chosen_network():
    assert sizes(100, coarse=0)[0] == ({"width": 16}, pytest.approx(2 * 2**1.5))
    assert sizes(5)[0] == ({"width": 32, "stride": 2}, pytest.approx(0.2))


def test_few_updates_want_small_batches_of_unchanged_samples():
    asked, full = Recipe(), complete(Recipe(), spec(), *noise()).model_copy(update={"batch": 256})
    assert hurried(full, asked, 10, 50_000) == full
    short = hurried(full, asked, 0.5, 50_000)
    assert (short.batch, short.augment) == (128, "none")
    some = hurried(full, asked, 1.2, 50_000)
    assert (some.batch, some.augment) == (128, full.augment)


def test_what_the_user_named_stays_however_short_the_time():
    asked = Recipe(batch=256, augment="flip")
    assert hurried(asked, asked, 0.1, 50_000) == asked
