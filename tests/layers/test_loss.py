"""Laws: golden values of each loss, exact gradients, classes equal their one-hot shares."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from striate.layers import (
    SquaredError,
    euclidean_loss,
    hinge_loss,
    map_loss,
    margin_loss,
    nll_loss,
    sigmoid_loss,
    softmax_loss,
)

LOSSES = {
    "softmax": softmax_loss,
    "nll": nll_loss,
    "sigmoid": sigmoid_loss,
    "squared": SquaredError(-1, 1),
    "hinge": hinge_loss,
    "squared hinge": partial(hinge_loss, power=2),
    "margin": margin_loss,
    "map": map_loss,
}


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_golden_values():
    """C-33."""
    assert softmax_loss(double([1, 2, 3]), torch.tensor([2])).item() == pytest.approx(
        0.407606, abs=1e-6
    )
    ones = torch.ones(1, 3)
    assert sigmoid_loss(double([0, 2, -2]), ones).item() == pytest.approx(2.947003, abs=1e-6)
    assert euclidean_loss(double([1, 2]), double([0, 4])).item() == 2.5
    assert SquaredError(0, 1)(double([0.5, 0.25]), torch.tensor([0])).item() == pytest.approx(
        0.15625
    )
    assert hinge_loss(double([2, 0.5, -3]), torch.tensor([0])).item() == 1.5
    assert hinge_loss(double([2, 0.5, -3]), torch.tensor([0]), power=2).item() == 2.25
    lengths = double([0.95, 0.05], [0.5, 0.4])  # the right one is 0.4 too short, another 0.3 long
    wanted = (0.4**2 + 0.5 * 0.3**2) / 2
    assert margin_loss(lengths, torch.tensor([0, 0])).item() == pytest.approx(wanted)
    wanted = 1 + torch.log(torch.exp(double(-1, -2, -0.5)).sum()).item()
    assert map_loss(double([1, 2]), torch.tensor([0]), 0.5).item() == pytest.approx(wanted)


@pytest.mark.parametrize("shift", [123.0, -1000.0, 1000.0])
def test_softmax_is_shift_invariant_and_finite(shift):
    """C-39."""
    logits, y = double([1000, 0], [-1000, 0]), torch.tensor([0, 0])
    assert softmax_loss(logits, y).item() == 500
    some = torch.randn(4, 7, dtype=torch.float64)
    y = torch.arange(4)
    torch.testing.assert_close(softmax_loss(some, y), softmax_loss(some + shift, y))


def test_softmax_and_nll_are_torchs():
    logits, y = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 3, 2, 1, 1])
    torch.testing.assert_close(softmax_loss(logits, y), F.cross_entropy(logits, y))
    torch.testing.assert_close(nll_loss(logits, y), F.nll_loss(logits, y))


def test_map_without_rubbish_is_softmax_of_negative_distances():
    distances, y = torch.rand(5, 4, dtype=torch.float64) * 9, torch.tensor([0, 3, 2, 1, 1])
    torch.testing.assert_close(map_loss(distances, y, float("inf")), softmax_loss(-distances, y))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    torch.manual_seed(0)
    answer = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(lambda a: LOSSES[name](a, y), (answer,))
    target = torch.rand(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: LOSSES[name](a, target), (answer,))


@pytest.mark.parametrize("name", LOSSES)
def test_the_further_from_the_truth_the_larger_the_loss(name):
    """From the right answer on, straight away from it: to the least sure, then to another class."""
    ends = {  # what is best of class 0, and what is best of class 1
        "nll": (double([0.9, 0.05, 0.05]).log(), double([0.05, 0.9, 0.05]).log()),
        "margin": (double([0.95, 0.05, 0.05]), double([0.05, 0.95, 0.05])),
        "map": (double([0.0, 4, 4]), double([4.0, 0, 4])),
    }
    right, wrong = ends.get(name, (double([1.0, -1, -1]), double([-1.0, 1, -1])))
    losses = [
        LOSSES[name](right + share * (wrong - right), torch.tensor([0])).item()
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert losses == sorted(losses)
    assert losses[-1] > losses[1] > 0


def test_euclidean_gradient():
    answer = torch.rand(3, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: euclidean_loss(a, torch.zeros_like(a)), (answer,))


@pytest.mark.parametrize("name", LOSSES)
def test_classes_equal_their_shares(name):
    answer, y = torch.rand(3, 4), torch.tensor([0, 3, 1])
    torch.testing.assert_close(LOSSES[name](answer, y), LOSSES[name](answer, F.one_hot(y, 4)))


INF = float("inf")


@pytest.mark.parametrize(
    ("name", "row", "wanted"),
    [
        ("nll", [0.0, -INF], 0.0),
        ("softmax", [0.0, -INF], 0.0),
        ("softmax", [1.0, -INF], 0.0),
        ("map", [0.0, INF], 0.313262),  # log(1 + exp(-1)): rubbish alone is left
    ],
)
def test_a_share_of_0_counts_0_of_infinity_too(name, row, wanted):
    answer = double(row).requires_grad_()
    for y in (torch.tensor([0]), double([1, 0])):
        loss = LOSSES[name](answer, y)
        assert loss.item() == pytest.approx(wanted, abs=1e-6)
        (slope,) = torch.autograd.grad(loss, answer)
        assert slope.isfinite().all()
    assert LOSSES[name](answer, torch.tensor([1])).item() == INF


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("y", "said"),
    [
        (torch.tensor([0, 3]), "y must be integers 0 to 2; got 3"),
        (torch.tensor([-1, 0]), "y must be integers 0 to 2; got -1"),
        (torch.tensor([0.0, 1]), r"y must be \(2,\) integers 0 to 2; got \(2,\) of torch.float32"),
    ],
)
def test_impossible_classes_are_named(name, y, said):
    with pytest.raises(ValueError, match=said):
        LOSSES[name](torch.rand(2, 3), y)


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_multiplies_the_loss_of_its_sample(name):
    answer, y = torch.rand(4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    answer[2] = INF  # of weight 0
    weights = torch.tensor([2.0, 0.5, 0.0, 1.0])
    for target in (y, F.one_hot(y, 3).double(), double(*[[0.2, 0.3, 0.5]] * 4)):
        each = [LOSSES[name](answer[i : i + 1], target[i : i + 1]) for i in (0, 1, 3)]
        wanted = (2 * each[0] + 0.5 * each[1] + each[2]) / 4
        torch.testing.assert_close(LOSSES[name](answer, target, weights=weights), wanted)
    for wrong, said in (
        (weights[:2], r"\(2,\) of at least 0.5"),
        (-weights, r"\(4,\) of at least -2"),
    ):
        with pytest.raises(ValueError, match=r"weights must be \(4,\) .* at least 0; got " + said):
            LOSSES[name](answer, y, weights=wrong)


@pytest.mark.parametrize("name", ["sigmoid", "squared", "hinge", "squared hinge", "margin"])
@pytest.mark.parametrize("row", [[2.0, 0], [0.5, -0.1], [float("nan"), 0]])
def test_no_share_is_taken_for_a_weight_where_a_loss_is_not_linear_in_it(name, row):
    with pytest.raises(ValueError, match="y must hold shares of 0 to 1, the weight of a sample"):
        LOSSES[name](double([0.3, 0.4]), double(row))


def test_several_classes_may_be_right_at_once():
    """The row of two ones is no sample of weight 2."""
    answer, both = double([0.3, 0.4, -1]), double([1, 1, 0])
    wanted = F.binary_cross_entropy_with_logits(answer, both, reduction="sum")
    torch.testing.assert_close(sigmoid_loss(answer, both), wanted)
    assert margin_loss(answer, both).item() == pytest.approx(0.6**2 + 0.5**2)


@pytest.mark.parametrize("name", LOSSES)
def test_no_batch_and_no_classes_are_named(name):
    for y in (torch.tensor([0, 1, 2]), torch.rand(3)):
        with pytest.raises(ValueError, match=r"the answer \(N, K\); got \(3,\) for an answer"):
            LOSSES[name](torch.rand(3), y)
    with pytest.raises(ValueError, match=r"y must have at least one sample; got \(0,\)"):
        LOSSES[name](torch.rand(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="answer must have at least one sample"):
        euclidean_loss(torch.zeros(0, 3), torch.zeros(0, 3))


@pytest.mark.parametrize("name", LOSSES)
def test_classes_may_be_of_any_integer_type(name):
    answer, y = torch.rand(3, 4), torch.tensor([0, 3, 1])
    for kind in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(LOSSES[name](answer, y.to(kind)), LOSSES[name](answer, y))


def test_wrong_arguments_are_named():
    with pytest.raises(
        ValueError, match=r"y must be \(2,\) classes or \(2, 3\) shares; got \(4,\)"
    ):
        softmax_loss(torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64))
    for one in (torch.zeros(2), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"answer must be \(N, \*\), N samples; got \("):
            euclidean_loss(one, one)
    with pytest.raises(ValueError, match=r"target must be \(2, 3\) like the answer; got \(2,\)"):
        euclidean_loss(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="margin must be above 0, power 1 or 2; got 0 and 3"):
        hinge_loss(torch.zeros(1, 2), torch.tensor([0]), 0, 3)
    with pytest.raises(ValueError, match="rubbish must be above 0; got -1"):
        map_loss(torch.zeros(1, 2), torch.tensor([0]), -1)
    with pytest.raises(ValueError, match="margin must be above 0, power 1 or 2; got nan and 1"):
        hinge_loss(torch.zeros(1, 2), torch.tensor([0]), float("nan"))
    with pytest.raises(ValueError, match="rubbish must be above 0; got nan"):
        map_loss(torch.zeros(1, 2), torch.tensor([0]), float("nan"))
