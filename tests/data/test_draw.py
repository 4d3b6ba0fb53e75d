from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.cache import Cache
from striate.data.draw import draw, units
from striate.data.samples import Samples


def drawn(labels, together=None, share=0.25, most=10**6, seed=0):
    """Draw from the rows 100, 101, ...; return how many of each class."""
    labels = np.asarray(labels)
    rows = 100 + np.arange(len(labels))
    together = rows if together is None else np.asarray(together)
    taken = draw(rows, labels, together, share, most, np.random.default_rng(seed))
    assert set(taken) <= set(rows)
    return taken, np.bincount(labels[taken - 100], minlength=labels.max() + 1)


def opened(pixels, groups=None, good=None):
    """Samples and cache of n pictures, equal where `pixels` are."""
    n = len(pixels)
    names = tuple(f"f{i}" for i in range(n))
    samples = Samples(
        root=Path("x"),
        kind="image",
        names=names,
        classes=("a", "b"),
        labels=np.arange(n) % 2,
        splits=np.full(n, ""),
        files=tuple(map(Path, names)),
        groups=None if groups is None else np.array(groups),
    )
    cache = Cache(
        x=np.zeros((n, 1, 2, 2), np.uint8),
        good=np.ones(n, bool) if good is None else np.array(good),
        hashes=np.array([f"{i:032x}" for i in range(n)]),
        pixels=np.array(list(pixels)),
        sizes=np.full((n, 2), 2),
        modes=("L",) * n,
        notes=((),) * n,
        faults=(),
    )
    return samples, cache


CLASSES = st.lists(st.integers(0, 4), min_size=2, max_size=80)


@settings(max_examples=80, deadline=None)
@given(labels=CLASSES, sizes=st.integers(1, 9), share=st.floats(0.01, 0.95), seed=st.integers(0, 9))
def test_units_are_taken_whole(labels, sizes, share, seed):
    together = np.random.default_rng(seed).integers(0, len(labels) // sizes + 1, len(labels))
    taken, _ = drawn(labels, together, share, seed=seed)
    inside = np.isin(100 + np.arange(len(labels)), taken)
    assert not set(together[inside]) & set(together[~inside])


@settings(max_examples=80, deadline=None)
@given(labels=CLASSES, share=st.floats(0.01, 0.95), seed=st.integers(0, 9))
def test_each_class_has_its_share_within_one_and_something_on_both_sides(labels, share, seed):
    _, counts = drawn(labels, share=share, seed=seed)
    for held, n in zip(counts, np.bincount(labels), strict=True):
        assert abs(held - share * n) <= 1
        assert n < 2 or 1 <= held < n


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=8, max_size=30), share=st.floats(0.1, 0.9))
def test_shares_are_kept_within_one_unit(sizes, share):
    together = np.repeat(np.arange(len(sizes)), sizes)
    _, (held,) = drawn(np.zeros_like(together), together, share)
    assert abs(held - share * len(together)) <= max(sizes)


def test_no_class_loses_all_its_units_to_one_side():
    labels = np.repeat([0, 1, 2], 10)
    together = np.repeat(np.arange(6), 5)  # two units of each class
    _, counts = drawn(labels, together, share=0.2)
    assert counts.tolist() == [5, 5, 5]


def test_a_class_that_is_one_unit_is_not_drawn():
    _, counts = drawn([0] * 6 + [1] * 6, [7] * 6 + list(range(20, 26)), share=0.5)
    assert counts.tolist() == [0, 3]


def test_no_more_than_the_most_is_drawn():
    _, counts = drawn(np.repeat([0, 1], [300, 100]), share=0.5, most=40)
    assert counts.tolist() == [30, 10]


def test_one_seed_draws_one_set_and_another_another():
    labels = np.repeat([0, 1], 50)
    first, again, other = (drawn(labels, seed=seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_samples_without_ties_are_units_of_their_own():
    assert len(set(units(*opened("abcde")).tolist())) == 5


def test_copies_and_groups_tie_samples_also_by_way_of_others():
    # 0 and 1 are copies, 1 and 2 a group, 2 and 4 copies; 3 is alone, as "" is no group.
    number = units(*opened("aabcb", groups=["", "g", "g", "", ""]))
    assert number[0] == number[1] == number[2] == number[4] != number[3]


def test_unreadable_samples_are_nobodys_copies():
    number = units(*opened("aab", good=[True, False, True]))
    assert len(set(number.tolist())) == 3


def test_nothing_to_draw_from_one_sample():
    taken, _ = drawn([0], share=0.9)
    assert taken.size == 0


def test_rows_come_back_in_the_order_given():
    rows = np.array([9, 4, 7, 1, 8, 2, 3, 0])
    taken = draw(rows, np.zeros(8, int), rows, 0.5, 99, np.random.default_rng(0))
    assert taken.tolist() == [row for row in rows if row in set(taken.tolist())]
    assert len(taken) == 4
