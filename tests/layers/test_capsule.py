"""Capsules: C-24, C-34, and what routing has to keep."""

import pytest
import torch

from striate.layers import Capsules, PrimaryCapsules, route, squash


def test_squash_of_3_4():
    v = squash(torch.tensor([3.0, 4.0]))
    assert v.tolist() == pytest.approx([0.576923, 0.769231], abs=1e-6)
    assert float(v.norm()) == pytest.approx(0.961538, abs=1e-6)


def test_squash_keeps_directions_and_stays_below_1():
    s = torch.randn(100, 8, dtype=torch.float64) * 100
    v = squash(s)
    assert (v.norm(dim=1) < 1).all()
    torch.testing.assert_close(torch.cosine_similarity(s, v), torch.ones(100).double())
    zero = torch.zeros(2, 3, requires_grad=True)
    squash(zero).sum().backward()
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [0.0, 1e-16, 5e-8, 1e-3, 1.0, 1e20, 3e38])
def test_squash_holds_for_every_length(kind, length):
    s = torch.tensor([0.6, -0.8], dtype=kind) * length
    s.requires_grad_()
    v = squash(s)
    wanted = length * length / (1 + length * length)
    torch.testing.assert_close(v, torch.tensor([0.6, -0.8], dtype=kind) * wanted)
    if length:
        assert float(v.detach().norm()) == pytest.approx(wanted, rel=1e-6)
    v.sum().backward()
    assert s.grad.isfinite().all()


def test_gradients_of_squash():
    s = torch.randn(5, 3, dtype=torch.float64) * torch.tensor([[1e-3], [0.1], [1], [9], [99]])
    s.requires_grad_()
    assert torch.autograd.gradcheck(squash, s)
    assert torch.autograd.gradgradcheck(squash, s)


@pytest.mark.parametrize("name", ["inputs", "size", "out", "out_size", "rounds"])
@pytest.mark.parametrize("value", [0, -1])
def test_capsules_of_nothing_are_named(name, value):
    how = {"inputs": 4, "size": 8, "out": 10, "out_size": 16, "rounds": 3, name: value}
    with pytest.raises(ValueError, match=f"^{name} must be at least 1; got {value}"):
        Capsules(**how)


def test_couplings_sum_to_1_and_agreement_is_rewarded():
    votes = torch.randn(2, 20, 5, 4)
    votes[:, :, 3] = torch.tensor([1.0, 0, 0, 0])  # all agree on capsule 3
    v, couplings = route(votes)
    torch.testing.assert_close(couplings.sum(2), torch.ones(2, 20))
    assert (couplings.mean(1).argmax(1) == 3).all()
    assert (v.norm(dim=2) < 1).all()
    _, even = route(votes, 1)
    assert torch.equal(even, torch.full_like(even, 1 / 5))


def test_sizes_of_the_paper():
    primary, digits = PrimaryCapsules(8), Capsules(1152, 8, 10, 16)
    u = primary(torch.randn(2, 256, 6, 6))
    assert u.shape == (2, 1152, 8)
    assert digits(u).shape == (2, 10, 16)
    assert sum(p.numel() for p in digits.parameters()) == 1_474_560


def test_what_does_not_divide_is_said():
    with pytest.raises(ValueError, match="size must divide the 10 maps; got 8"):
        PrimaryCapsules(8)(torch.zeros(1, 10, 2, 2))
    with pytest.raises(ValueError, match=r"u must be \(N, 4, 2\); got \(1, 3, 2\)"):
        Capsules(4, 2, 3, 5)(torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="rounds must be at least 1; got 0"):
        route(torch.zeros(1, 1, 1, 1), 0)
    with pytest.raises(ValueError, match=r"votes must be \(N, I, J, D\); got \(2, 3, 4\)"):
        route(torch.zeros(2, 3, 4))


def test_gradients():
    layer = Capsules(3, 2, 4, 3, rounds=1).double()
    u = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, u)
