import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data import augment as augment_module
from striate.data.augment import (
    INDEX,
    PLACE,
    VALUE,
    Augment,
    Draw,
    _regular,
    affine,
    elastic,
    mixup,
)
from striate.errors import RecipeError


def read(x, text, epoch=0, rows=None, seed=0):
    rows = np.arange(len(x)) if rows is None else np.asarray(rows)
    augment, draw = Augment.parse(text), Draw(seed, epoch, rows)
    raw, outside = augment.read(x, draw, torch.device("cpu"))
    values = raw.float()
    if outside is not None:
        values = values.masked_fill(outside, 0.0)
    return augment.change(values, draw)


def pictures(axes=2, count=8, size=9):
    return np.random.default_rng(1).integers(1, 256, (count, 3, *[size] * axes), dtype=np.uint8)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", [*INDEX, *PLACE, *VALUE])
def test_every_change_keeps_the_shape_for_any_axes(name, axes):
    x = pictures(axes)
    assert read(x, name).shape == x.shape


@pytest.mark.parametrize("name", [*INDEX, *PLACE, *VALUE])
def test_a_sample_is_changed_alike_in_any_batch(name):
    x = pictures()
    whole = read(x, name, epoch=3)
    some = read(x, name, epoch=3, rows=[6, 2])
    assert torch.allclose(some[0], whole[6], atol=1e-3)
    assert torch.allclose(some[1], whole[2], atol=1e-3)


@pytest.mark.parametrize("name", ["crop", "affine", "elastic", "zoom", "jitter", "cutout"])
def test_epochs_and_seeds_differ(name):
    x = pictures()
    assert not torch.equal(read(x, name), read(x, name, epoch=1))
    assert not torch.equal(read(x, name), read(x, name, seed=1))


def test_flip_alternates_so_that_two_epochs_show_both_sides():
    x = pictures()
    first, second, third = (read(x, "flip", epoch=e) for e in range(3))
    assert torch.equal(first.flip(-1), second)
    assert torch.equal(first, third)
    plain = torch.from_numpy(x).float()
    turned = (first != plain).flatten(1).any(1)
    assert turned.any()
    assert not turned.all()


def test_crop_shows_a_shifted_window_with_mirrored_border():
    x = pictures(axes=1, count=200)
    seen = read(x, "crop=2").numpy()
    for before, after in zip(x.astype(np.float32), seen, strict=True):
        wide = np.pad(before, ((0, 0), (2, 2)), mode="reflect")
        assert any(np.array_equal(wide[:, s : s + 9], after) for s in range(5))


def test_translate_fills_with_the_mean():
    x = pictures(axes=2, count=200)
    seen = read(x, "translate=2").numpy()
    for before, after in zip(x.astype(np.float32), seen, strict=True):
        wide = np.pad(before, ((0, 0), (2, 2), (2, 2)))
        windows = (wide[:, a : a + 9, b : b + 9] for a in range(5) for b in range(5))
        assert any(np.array_equal(window, after) for window in windows)


def test_cutout_clears_one_box():
    x = pictures(count=100)
    seen = read(x, "cutout=4")
    empty = (seen == 0).all(1)
    assert empty.flatten(1).sum(1).max() == 16
    for hole in empty:
        ys, xs = np.nonzero(hole.numpy())
        assert len(ys) == (np.ptp(ys) + 1) * (np.ptp(xs) + 1)


def test_affine_of_nothing_is_the_identity():
    x = pictures()
    assert torch.allclose(read(x, "affine=0"), torch.from_numpy(x).float(), atol=1e-3)


def test_zoom_of_all_keeps_a_constant_constant():
    x = np.full((4, 1, 8, 8), 7, np.uint8)
    assert torch.allclose(read(x, "zoom=0.3"), torch.full((4, 1, 8, 8), 7.0), atol=1e-4)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_zoom_is_linear_interpolation_along_every_axis(axes):
    x = torch.randn(5, 2, 9, 8, 7)[(..., *[0] * (3 - axes))]
    for axis in range(axes):
        start, side = torch.rand(2, 5) * 0.5
        seen, size = augment_module._stretch(x, axis, start, side), x.shape[2 + axis]
        for k, (first, part) in enumerate(zip(start.tolist(), side.tolist(), strict=True)):
            place = (first + (np.arange(size) + 0.5) / size * part) * size - 0.5
            lines = x[k].movedim(1 + axis, -1).flatten(0, -2).numpy()
            wanted = np.stack([np.interp(place, np.arange(size), line) for line in lines])
            shown = seen[k].movedim(1 + axis, -1).flatten(0, -2)
            np.testing.assert_allclose(shown, wanted, atol=1e-5)


def test_jitter_keeps_grey_grey():
    x = np.repeat(pictures(count=4)[:, :1], 3, axis=1)
    seen = read(x, "jitter=0.3")
    assert torch.allclose(seen[:, 0], seen[:, 2], atol=1e-3)


def test_mixup_keeps_the_mass_of_the_targets():
    x, y = torch.randn(6, 1, 4), torch.eye(6)
    mixed, shares = mixup(x, y, Draw(0, 0, np.arange(6)), 0.4)
    assert torch.allclose(shares.sum(1), torch.ones(6))
    assert torch.allclose(mixed.sum(0), x.sum(0), atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**63), st.integers(0, 10**6), st.integers(0, 10**7))
def test_draws_lie_in_their_range(seed, epoch, sample):
    draw = Draw(seed, epoch, np.array([sample]))
    assert 0 <= draw.uniform()[0, 0] < 1
    assert -2 <= draw.integers(-2, 2)[0, 0] <= 2


def test_draws_are_uniform_and_independent_of_neighbours():
    draw = Draw(5, 2, np.arange(20_000))
    u = draw.uniform(2).numpy()
    assert abs(u.mean() - 0.5) < 0.01
    assert abs(u.var() - 1 / 12) < 0.003
    assert abs(np.corrcoef(u[:, 0], u[:, 1])[0, 1]) < 0.03
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "no augmentation is called 'flop'; did you mean 'flip'"),
        ("crop=x", "crop wants a number of at least 0; got 'x'"),
        ("crop=-1", "crop wants a number of at least 0; got '-1'"),
    ],
)
def test_a_wrong_text_is_refused(text, message):
    with pytest.raises(RecipeError, match=message):
        Augment.parse(text)


def test_none_is_no_change():
    assert Augment.parse("none") == Augment.parse("") == Augment()


@pytest.mark.parametrize("shape", [(64,), (29, 29), (12, 14, 10)])
def test_elastic_moves_neighbours_together(shape):
    place = np.stack(np.meshgrid(*[np.arange(s, dtype="f4") for s in shape], indexing="ij"))
    x = np.repeat(place[None], 16, 0)  # each value says where it was
    moved = read(x, "elastic=34").numpy() - x
    inside = (slice(None), slice(None), *[slice(4, -4)] * len(shape))
    moved = moved[inside]
    assert 0.1 < moved.std() < 12
    step = np.diff(moved, axis=-1)
    assert step.std() < 0.5 * moved.std()


def test_elastic_of_the_paper_moves_by_one_or_two_pixels():
    place = np.stack(np.meshgrid(*[np.arange(29, dtype="f4")] * 2, indexing="ij"))
    moved = read(np.repeat(place[None], 64, 0), "elastic=34").numpy() - place
    assert moved[..., 8:-8, 8:-8].std() == pytest.approx(1.38, abs=0.15)


def test_changes_of_place_follow_one_another_and_sample_once():
    """A picture of its own places says where it was taken: the last change is asked first."""
    count, size = 8, (29, 29)
    still = _regular(count, size)
    draw, again = (Draw(0, 0, np.arange(count)) for _ in range(2))
    shown = Augment.parse("affine=15,elastic=34").change(still.movedim(-1, 1), draw)
    places = affine(elastic(still, again, 34), again, 15)
    inside = (places.abs() < 0.9).all(-1)
    assert inside.any()
    torch.testing.assert_close(shown.movedim(1, -1)[inside], places[inside], atol=1e-5, rtol=0)


def test_two_changes_of_place_blur_no_more_than_one():
    draw = torch.Generator().manual_seed(0)
    x = torch.nn.functional.avg_pool2d(torch.randn(64, 1, 31, 31, generator=draw), 2, 1)

    def fine(words):
        y = Augment.parse(words).change(x, Draw(0, 0, np.arange(64)))
        return float(y.diff(dim=3).square().mean() / x.diff(dim=3).square().mean())

    assert fine("affine=10,elastic=10") > 0.97 * fine("affine=10")
    apart = fine("affine=10,jitter=0,elastic=10")  # what stands between parts them
    assert apart < 0.95 * fine("affine=10,elastic=10")


def test_elastic_of_nothing_changes_nothing():
    x = pictures()
    torch.testing.assert_close(read(x, "elastic=0"), torch.from_numpy(x).float(), atol=1e-3, rtol=0)
