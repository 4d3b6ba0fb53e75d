import pytest
import torch
from torch import nn

from striate.layers import SquaredError
from striate.train.losses import cross_entropy, loss_of

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 1, 2])


def test_hand_computed():
    loss = cross_entropy()(nn.Identity(), torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([2]))
    assert loss.item() == pytest.approx(0.407606, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_hot_shares_equal_classes(smoothing):
    loss = cross_entropy(smoothing)
    shares = torch.nn.functional.one_hot(Y, 4).double()
    assert torch.allclose(loss(nn.Identity(), X, Y), loss(nn.Identity(), X, shares))


def test_a_doubled_weight_doubles_its_share():
    loss = cross_entropy(0.1)
    shares = torch.nn.functional.one_hot(Y, 4).double()
    alone = [loss(nn.Identity(), X[i : i + 1], shares[i : i + 1]) for i in range(6)]
    shares[2] *= 2
    assert torch.allclose(loss(nn.Identity(), X, shares), (sum(alone) + alone[2]) / 6)


def test_a_share_of_0_counts_0_where_a_probability_is_0():
    logits = torch.tensor([[0.0, -torch.inf, 0.0]], requires_grad=True)
    shares = torch.tensor([[0.5, 0.0, 0.5]])
    value = cross_entropy()(nn.Identity(), logits, shares)
    value.backward()
    assert value.item() == pytest.approx(0.693147, abs=1e-6)
    assert logits.grad.tolist() == [[0, 0, 0]]
    assert cross_entropy(0.1)(nn.Identity(), logits, shares).item() == torch.inf


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (torch.tensor([0, 1, 2, 3, 1, 4]), "y must name 4 classes by 0 to 3; got 4"),
        (torch.tensor([0, 1, -100, 3, 1, 2]), "y must name 4 classes by 0 to 3; got -100"),
        (Y[:5], r"y must be \(6,\) classes or \(6, 4\) shares .*; got \(5,\)"),
        (torch.ones(6, 3), r"y must be \(6,\) classes or \(6, 4\) shares .*; got \(6, 3\)"),
        (torch.ones(1, 4), r"y must be \(6,\) classes or \(6, 4\) shares .*; got \(1, 4\)"),
    ],
)
def test_targets_that_do_not_fit_are_named(y, said):
    with pytest.raises(ValueError, match=said):
        cross_entropy(0.1)(nn.Identity(), X, y)


def test_the_mean_of_no_sample_is_refused():
    with pytest.raises(ValueError, match="of at least one sample; got"):
        cross_entropy()(nn.Identity(), X[:0], Y[:0])


def test_gradient():
    x = X.clone().requires_grad_()
    shares = torch.rand(6, 4, dtype=torch.float64)

    def loss(x):
        logits = x
        mass = shares.sum(1, keepdim=True)
        target = 0.9 * shares + 0.1 / 4 * mass
        return -(target * logits.log_softmax(1)).sum(1).mean()

    assert torch.autograd.gradcheck(loss, x)
    ours = cross_entropy(0.1)(nn.Identity(), X.float(), shares.float())
    assert ours.item() == pytest.approx(loss(X).item(), rel=1e-5)


def test_auxiliary_classifiers_count_three_tenths():
    class Helped(nn.Module):
        def forward(self, x):
            return [x, 2 * x, -x]

    loss = cross_entropy(0.1)
    alone = [loss(nn.Identity(), x, Y) for x in (X, 2 * X, -X)]
    assert torch.allclose(loss(Helped(), X, Y), alone[0] + 0.3 * (alone[1] + alone[2]))


def test_a_network_may_bring_its_own_loss():
    net = torch.nn.Linear(3, 2)
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    assert loss_of(net, 0.1)(net, x, y) == cross_entropy(0.1)(net, x, y)
    net.criterion = lambda answer, y: (answer.sum(1) - y).abs().mean()
    assert loss_of(net, 0.1)(net, x, y) == (net(x).sum(1) - y).abs().mean()


def test_the_weight_of_a_row_multiplies_its_loss_whatever_the_criterion():
    """As the loader gives them: the sums of rows are weights, and mixed rows are shares."""
    net = nn.Identity()
    net.criterion = SquaredError(-1, 1)
    shares = torch.tensor([[1.0, 0, 0, 0], [0, 0.25, 0.75, 0], [0, 0, 0, 1]]).double()
    weights = torch.tensor([2.0, 0.5, 0.0]).double()
    each = [net.criterion(X[i : i + 1], shares[i : i + 1]) for i in range(3)]
    wanted = (2 * each[0] + 0.5 * each[1]) / 3
    torch.testing.assert_close(loss_of(net)(net, X[:3], shares * weights[:, None]), wanted)
