"""Capsules: vectors whose length says whether something is there and whose direction says how."""

import torch
from torch import Tensor, nn

from striate.layers.bounds import whole

__all__ = ["Capsules", "PrimaryCapsules", "route", "squash"]


def squash(s: Tensor, dim: int = -1) -> Tensor:
    """Shrink vectors to lengths below 1, their direction kept.

    Shape: any -> the same
    Math:  v = s |s| / (1 + |s|^2); squash((3, 4)) = (15, 20) / 26

    Source: Sabour, Frosst, Hinton 2017, Dynamic Routing Between Capsules, arXiv:1710.09829, eq. 1.
    """
    most = torch.finfo(s.dtype).max
    scale = s.detach().abs().sum(dim, keepdim=True).clamp(1, most).reciprocal()
    part = s * scale  # its square does not overflow
    square = part.square().sum(dim, keepdim=True)
    zero = square == 0  # where |s| has no derivative
    length = square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
    return part * (length / (scale.square() + square))


def route(votes: Tensor, rounds: int = 3) -> tuple[Tensor, Tensor]:
    """Let capsules agree: a vote counts the more, the more it is like the outcome.

    Shape: (N, I, J, D) -> (N, J, D), and the couplings (N, I, J), which sum to 1 over J
    Math:  b = 0; repeat: c = softmax_J(b), v = squash(sum_i c_ij votes_ij), b += votes . v.
           Gradients pass through the last round alone.

    Args:
        rounds: at least 1.

    Raises:
        ValueError: `rounds` is below 1, or the votes are of another shape.

    Source: Sabour, Frosst, Hinton 2017, procedure 1.
    """
    whole(1, rounds=rounds)
    if votes.dim() != 4:
        raise ValueError(f"votes must be (N, I, J, D); got {tuple(votes.shape)}")
    logits = votes.new_zeros(votes.shape[:3])
    fixed = votes.detach()
    for _ in range(rounds - 1):
        found = squash(torch.einsum("nij,nijd->njd", logits.softmax(2), fixed))
        logits = logits + torch.einsum("nijd,njd->nij", fixed, found)
    couplings = logits.softmax(2)
    return squash(torch.einsum("nij,nijd->njd", couplings, votes)), couplings


class PrimaryCapsules(nn.Module):
    """Read the maps of a convolution as capsules, `size` maps each.

    Shape: (N, C, *S) -> (N, C / size prod(S), size)

    Args:
        size: numbers in a capsule.

    Raises:
        ValueError: the maps cannot be dealt out to capsules of that size.
    """

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        whole(1, size=size)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return squashed capsules."""
        if x.shape[1] % self.size:
            raise ValueError(f"size must divide the {x.shape[1]} maps; got {self.size}")
        capsules = x.unflatten(1, (-1, self.size)).movedim(2, -1)
        return squash(capsules.flatten(1, -2))

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"size={self.size}"


class Capsules(nn.Module):
    """Capsules that vote for capsules, with a matrix for every pair, and routing by agreement.

    Shape: (N, I, E) -> (N, J, D)
    Math:  votes_ij = W_ij u_i, then `route`; I J E D parameters

    Args:
        inputs: I, capsules that vote.
        size: E, numbers in each.
        out: J, capsules voted for.
        out_size: D, numbers in each.
        rounds: of the routing, at least 1.

    Raises:
        ValueError: a number is below 1, or u is of another shape.

    Source: Sabour, Frosst, Hinton 2017, section 4.
    """

    def __init__(self, inputs: int, size: int, out: int, out_size: int, rounds: int = 3) -> None:
        super().__init__()
        whole(1, inputs=inputs, size=size, out=out, out_size=out_size, rounds=rounds)
        self.rounds = rounds
        self.weight = nn.Parameter(torch.randn(inputs, out, size, out_size) * 0.1)

    def forward(self, u: Tensor) -> Tensor:
        """Return what the capsules agree on."""
        if u.shape[1:] != self.weight.shape[::2][:2]:
            wanted = tuple(self.weight.shape[::2][:2])
            raise ValueError(f"u must be (N, {wanted[0]}, {wanted[1]}); got {tuple(u.shape)}")
        votes = torch.einsum("nie,ijed->nijd", u, self.weight)
        return route(votes, self.rounds)[0]

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the weighted links of one sample: one a weight."""
        return self.weight.numel()

    def extra_repr(self) -> str:
        """Return the sizes."""
        inputs, out, size, out_size = self.weight.shape
        return f"{inputs} x {size} -> {out} x {out_size}, rounds={self.rounds}"
