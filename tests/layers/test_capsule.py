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


def test_gradients():
    layer = Capsules(3, 2, 4, 3, rounds=1).double()
    u = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, u)
