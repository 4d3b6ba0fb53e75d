import numpy as np

from striate.data.symmetry import keeps_class_mirrored


def arrows(count=400, sided=True):
    """Class 0 is bright on the left, class 1 on the right; or in the middle and at the rim."""
    random = np.random.default_rng(0)
    x = random.integers(0, 60, (count, 1, 12, 12)).astype(np.uint8)
    y = np.arange(count) % 2
    place = [slice(0, 4), slice(8, 12)] if sided else [slice(4, 8), slice(0, 12, 11)]
    for i in range(count):
        x[i, :, :, place[y[i]]] += 120
    return x, y


def test_classes_that_differ_by_side_do_not_survive_the_mirror():
    x, y = arrows(sided=True)
    assert keeps_class_mirrored(x, y, np.arange(len(x))) is False


def test_symmetric_classes_survive_the_mirror():
    x, y = arrows(sided=False)
    assert keeps_class_mirrored(x, y, np.arange(len(x)))


def test_where_nothing_can_be_learned_nothing_is_claimed():
    x, _ = arrows(sided=False)
    y = np.random.default_rng(3).integers(0, 2, len(x))
    assert keeps_class_mirrored(x, y, np.arange(len(x))) is None


def test_a_handful_of_samples_says_nothing():
    x, y = arrows(sided=False)
    assert keeps_class_mirrored(x, y, np.arange(10)) is None
