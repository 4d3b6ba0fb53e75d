"""Activations that torch does not have: scaled and folded tanh, maxout, Euclidean outputs."""

import torch
from torch import Tensor, nn

from striate.layers.bounds import floating, whole

__all__ = ["AbsTanh", "Maxout", "RBFOutput", "ScaledTanh", "scaled_tanh"]

AMPLITUDE, SLOPE = 1.7159, 2 / 3  # with them f(1) = 1 and f(-1) = -1, to six digits


def scaled_tanh(x: Tensor, amplitude: float = AMPLITUDE, slope: float = SLOPE) -> Tensor:
    """Return A tanh(S x); targets of +-1 lie inside its range, where it still has a slope.

    Shape: any -> the same
    Source: LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document
        Recognition, appendix A.
    """
    return amplitude * torch.tanh(slope * x)


class ScaledTanh(nn.Module):
    """A tanh(S x); see `scaled_tanh`."""

    def __init__(self, amplitude: float = AMPLITUDE, slope: float = SLOPE) -> None:
        super().__init__()
        self.amplitude, self.slope = amplitude, slope

    def forward(self, x: Tensor) -> Tensor:
        """Return A tanh(S x)."""
        return scaled_tanh(x, self.amplitude, self.slope)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"amplitude={self.amplitude}, slope={self.slope:.6g}"


class AbsTanh(nn.Module):
    """|tanh(x)|: what an edge is matters, not its sign.

    Shape: any -> the same
    Source: Jarrett, Kavukcuoglu, Ranzato, LeCun 2009 (absolute value rectification).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return |tanh(x)|."""
        return torch.tanh(x).abs()


class Maxout(nn.Module):
    """The largest of `pieces` neighbouring maps.

    Shape: (N, C, *S) -> (N, C / pieces, *S)

    Args:
        pieces: maps that compete.

    Raises:
        ValueError: `pieces` is below 1 or does not divide C.

    Source: Goodfellow, Warde-Farley, Mirza, Courville, Bengio 2013, Maxout Networks,
        arXiv:1302.4389.
    """

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        whole(1, pieces=pieces)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """Return the winners."""
        if x.shape[1] % self.pieces:
            raise ValueError(f"pieces must divide the {x.shape[1]} maps; got {self.pieces}")
        return x.unflatten(1, (-1, self.pieces)).amax(2)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"pieces={self.pieces}"


class RBFOutput(nn.Module):
    """Squared Euclidean distances to one centre a class: the nearer to 0, the more alike.

    Shape: (N, D) -> (N, K)
    Math:  y_k = sign sum_d (x_d - w_kd)^2

    Args:
        centres: (K, D), such as pictures of the characters in +-1.
        trainable: whether the centres move.
        sign: -1 makes them logits.

    Raises:
        ValueError: the centres are no matrix, or integers that should move; in the forward pass, x
            has another number of features.

    Source: LeCun, Bottou, Bengio, Haffner 1998, section II.B.
    """

    def __init__(self, centres: Tensor, *, trainable: bool = False, sign: int = 1) -> None:
        super().__init__()
        if centres.dim() != 2:
            raise ValueError(f"centres must be (K, D); got {tuple(centres.shape)}")
        self.sign = sign
        if trainable:
            floating(centres=centres)
            self.centres = nn.Parameter(centres.clone())
        else:
            self.register_buffer("centres", centres.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the distances."""
        if x.dim() != 2 or x.shape[1] != self.centres.shape[1]:
            raise ValueError(f"x must be (N, {self.centres.shape[1]}); got {tuple(x.shape)}")
        return self.sign * (x[:, None] - self.centres).square().sum(2)

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the weighted links of one sample: one a number of a centre."""
        return self.centres.numel()

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"classes={self.centres.shape[0]}, features={self.centres.shape[1]}"
