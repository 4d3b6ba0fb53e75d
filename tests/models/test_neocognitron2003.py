"""C-53: what grows stops growing; what is remembered is known; a bundle keeps what has grown."""

import pytest
import torch

from striate import bundle
from striate.errors import RecipeError
from striate.models import build
from striate.models.neocognitron2003 import Edges, Likeness, between
from striate.recipe import Recipe
from striate.spec import Spec

SPEC = Spec(channels=1, size=(24, 24), classes=("a", "b", "c"))


def strokes(count, seed=0):
    """Pictures of one of three strokes each, a little moved and noisy."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.zeros(count, 1, 24, 24), torch.arange(count) % 3
    for n in range(count):
        dy, dx = torch.randint(-2, 3, (2,), generator=draw).tolist()
        if y[n] != 1:
            x[n, 0, 4 + dy : 20 + dy, 11 + dx : 14 + dx] = 1
        if y[n] != 0:
            x[n, 0, 11 + dy : 14 + dy, 4 + dx : 20 + dx] = 1
    return (x + 0.05 * torch.rand(x.shape, generator=draw)).clamp(0, 1), y


def taught(name, rounds=12):
    net = build(name, SPEC)
    x, y = strokes(30)
    for turn in range(rounds):
        for part in range(0, 30, 10):
            net.learn(x[part : part + 10], y[part : part + 10], turn / rounds)
    return net, x, y


def sizes(net):
    return [len(net.stage2.x), len(net.stage3.x), len(net.x)]


@pytest.mark.parametrize("name", ["neocognitron2003", "add_if_silent"])
def test_what_is_taught_is_known(name):
    net, x, y = taught(name)
    assert (net(x).argmax(1) == y).all()
    new, labels = strokes(30, seed=1)
    assert (net(new).argmax(1) == labels).float().mean() > 0.9


def test_the_same_data_again_add_no_cell():
    net, x, y = taught("add_if_silent")
    before = sizes(net)
    assert min(before) > 0
    for progress in (0.0, 0.3, 0.6):
        for part in (slice(0, 7), slice(7, 30)):  # in other batches, too
            net.learn(x[part], y[part], progress)
    assert sizes(net) == before


@pytest.mark.parametrize("seed", range(5))
def test_presenting_everything_once_is_enough(seed):
    net = build("add_if_silent", SPEC, parts=10_000, wholes=10_000)
    x, y = strokes(20, seed)
    y = torch.arange(20) % 2  # labels that the pictures do not follow are the hard ones
    for progress in (0.0, 0.3, 0.6):
        net.learn(x, y, progress)
    before = sizes(net)
    for progress in (0.0, 0.3, 0.6):
        net.learn(x, y, progress)
    assert sizes(net) == before


def test_cells_are_never_changed_by_add_if_silent():
    cells = Likeness(2, 3, 1, 0.5)
    u = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    made = cells.add_where_silent(u, 0.95, 1000)
    kept = cells.x.clone()
    cells.add_where_silent(torch.rand(3, 2, 8, 8), 0.95, 1000)
    assert made > 0
    assert torch.equal(cells.x[:made], kept)


def test_planes_never_exceed_what_was_asked():
    cells = Likeness(1, 3, 1, 0.5)
    cells.add_where_silent(torch.rand(4, 1, 9, 9), 0.9999, 5)
    assert len(cells.x) == 5


def test_a_cell_answers_what_it_remembers_with_one():
    cells = Likeness(2, 3, 0, 0.5)
    u = torch.rand(1, 2, 3, 3)
    cells.add(u)
    assert cells(u).item() == pytest.approx(1, abs=1e-5)
    assert cells(7 * u).item() == pytest.approx(1, abs=1e-5)  # how loud does not matter
    loud = Likeness(2, 3, 0, 0.5, loud=True)
    loud.add(u)
    assert loud(7 * u).item() == pytest.approx(7 * loud(u).item(), rel=1e-5)


@pytest.mark.parametrize(("name", "louder"), [("neocognitron2003", 1), ("add_if_silent", 2)])
def test_only_add_if_silent_says_how_strong_its_input_is(name, louder):
    net, *_ = taught(name)
    u = torch.rand(2, net.stage2.x.shape[1], 9, 9)
    assert torch.allclose(net.stage2(2 * u), louder * net.stage2(u), atol=1e-5)


def test_edges_know_their_direction():
    light = torch.zeros(1, 1, 20, 20)
    light[..., 10:] = 1  # brighter to the right
    said = Edges()(light)[0, :, 10, 9:11].amax(1)
    assert said.argmax() == 0
    assert said[8] < 0.1 * said[0]  # the opposite direction
    assert Edges()(torch.full_like(light, 0.5)).abs().max() < 1e-5


def test_between_two_references_lies_what_is_made_of_them():
    a, b = torch.eye(5)[:2]
    known = torch.stack([a, b])
    made = torch.nn.functional.normalize(0.3 * a + 0.7 * b, dim=0)[None]
    assert between(made @ known.T, known).item() == pytest.approx(1, abs=1e-6)
    beyond = torch.nn.functional.normalize(a - 0.5 * b, dim=0)[None]
    assert between(beyond @ known.T, known).item() == pytest.approx((beyond @ a).item())
    alone = between(made @ known[:1].T, known[:1])
    assert alone.item() == pytest.approx((made @ a).item())


def test_a_bundle_keeps_what_has_grown(tmp_path):
    net, x, _ = taught("add_if_silent")
    bundle.save(tmp_path / "b", net, "add_if_silent", SPEC, Recipe())
    again = bundle.load(tmp_path / "b").model
    assert torch.equal(again(x), net(x))


def test_before_learning_nothing_is_known():
    logits = build("add_if_silent", SPEC)(torch.rand(2, 1, 24, 24))
    assert (logits == logits[0, 0]).all()


@pytest.mark.parametrize("name", ["neocognitron2003", "add_if_silent"])
def test_the_least_picture_is_learnt_and_less_is_refused(name):
    def made(*size):
        return build(name, Spec(channels=1, size=size, classes=("a", "b")))

    net, x, y = made(3, 3), torch.rand(4, 1, 3, 3), torch.tensor([0, 1, 0, 1])
    for progress in (0.0, 0.3, 0.6):
        net.learn(x, y, progress)
    assert net(x).shape == (4, 2)
    for size in ((1, 1), (2, 2), (2, 9)):
        with pytest.raises(RecipeError, match=r"sides must be at least 3 samples; got \("):
            made(*size)


def test_a_dark_picture_is_no_reference():
    """It is like nothing, itself neither: it was remembered until there was no more room."""
    net = build("add_if_silent", Spec(channels=1, size=(9, 9), classes=("a", "b")))
    net.learn(torch.zeros(2, 1, 9, 9), torch.tensor([0, 1]), 0.9)
    assert len(net.x) == 0
