"""Recurrent convolution: maps that hear from below, from beside, from above, step by step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["RecurrentConvolution"]


class RecurrentConvolution(nn.Module):
    """Update a map from its input, its neighbours and, where given, from a map above it.

    Shape: (N, C, *S), optionally a map above (N, A, *S) -> (N, O, *S)
    Math:  y_0 = f(W x + b);  y_t = f(W x + L y_(t-1) + B a + b)

    Args:
        forward_: x -> (N, O, *S), with the bias.
        lateral: (N, O, *S) -> (N, O, *S), of the same size.
        backward_: a -> (N, O, *S); None: there is nothing above.
        steps: of the recurrence, at least 0.
        transfer: f.

    Raises:
        ValueError: `steps` is below 0.

    Source: Liang, Hu 2015, Recurrent Convolutional Neural Network for Object Recognition, and
        Behnke 2003, Hierarchical Neural Networks for Image Interpretation.
    """

    def __init__(
        self,
        forward_: nn.Module,
        lateral: nn.Module,
        backward_: nn.Module | None = None,
        *,
        steps: int = 3,
        transfer: Callable[[Tensor], Tensor] = torch.sigmoid,
    ) -> None:
        super().__init__()
        if steps < 0:
            raise ValueError(f"steps must be at least 0; got {steps}")
        self.forward_, self.lateral, self.backward_ = forward_, lateral, backward_
        self.steps, self.transfer = steps, transfer

    def forward(self, x: Tensor, above: Tensor | None = None) -> Tensor:
        """Return the map after the last step."""
        drive = self.forward_(x)
        if above is not None and self.backward_ is not None:
            drive = drive + self.backward_(above)
        y = self.transfer(drive)
        for _ in range(self.steps):
            y = self.transfer(drive + self.lateral(y))
        return y

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"steps={self.steps}"
