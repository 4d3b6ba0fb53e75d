"""Layers of units: biases learnt, fixed or absent, and connections that drop out."""

import torch
from torch import Tensor, nn

from striate.layers.bounds import one_of, whole

__all__ = ["DropConnect", "linear"]

BIASES = ("learnt", "fixed", "none")


def linear(features: int, out: int, bias: str = "learnt", value: float = 0.0) -> nn.Linear:
    """Return torch's fully connected layer, its bias as it is wanted.

    Shape: (N, *, features) -> (N, *, out)
    Math:  y = W x + b

    Args:
        features: numbers that come in.
        out: units.
        bias: "learnt"; "fixed", which no optimizer changes; or "none".
        value: of a fixed bias, the same for all units.

    Raises:
        ValueError: a number is below 1, or the bias of an unknown kind.
    """
    whole(1, features=features, out=out)
    one_of(BIASES, bias=bias)
    layer = nn.Linear(features, out, bias=bias != "none")
    if bias == "fixed":
        nn.init.constant_(layer.bias, value).requires_grad_(False)
    return layer


class DropConnect(nn.Linear):
    """A fully connected layer that learns without some of its connections, others each time.

    Every sample draws its own; the rest count for more, so that the mean stays. In evaluation
    all connections count once (the paper draws from a Gaussian of their mean and variance).

    Shape: (N, features) -> (N, out)
    Math:  y_no = sum_i m_noi w_oi x_ni / (1 - share), m ~ Bernoulli(1 - share), the bias a
           connection to an input of 1

    Args:
        features: numbers that come in.
        out: units.
        share: of the connections that drop out, 0 to below 1.
        bias: whether there is one.

    Raises:
        ValueError: a number is out of range; in training, x is not (N, features).

    Source: Wan, Zeiler, Zhang, LeCun, Fergus 2013, Regularization of Neural Networks using
        DropConnect, ICML.
    """

    def __init__(self, features: int, out: int, share: float = 0.5, *, bias: bool = True) -> None:
        whole(1, features=features, out=out)
        if not 0 <= share < 1:
            raise ValueError(f"share must be 0 to below 1; got {share}")
        super().__init__(features, out, bias=bias)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return the units."""
        if not self.training or not self.share:
            return super().forward(x)
        if x.dim() != 2 or x.shape[1] != self.in_features:
            raise ValueError(f"x must be (N, {self.in_features}); got {tuple(x.shape)}")
        keep = 1 - self.share
        mask = x.new_empty(len(x), *self.weight.shape).bernoulli_(keep)
        y = torch.einsum("noi,oi,ni->no", mask, self.weight, x)
        if self.bias is not None:
            y = y + torch.empty_like(y).bernoulli_(keep) * self.bias
        return y / keep

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{super().extra_repr()}, share={self.share}"
