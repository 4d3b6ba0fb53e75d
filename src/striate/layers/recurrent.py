"""Recurrent convolution: maps that hear from below, from beside, from above, step by step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from striate.layers.bounds import whole

__all__ = ["RecurrentConvolution"]


def _like(drive: Tensor, given: Tensor, name: str) -> Tensor:
    """Return the maps given; of another shape they would be broadcast to that of the drive."""
    if given.shape != drive.shape:
        raise ValueError(
            f"{name} must give {tuple(drive.shape)} like forward_; got {tuple(given.shape)}"
        )
    return given


class RecurrentConvolution(nn.Module):
    """Update a map from its input, its neighbours and, where given, from a map above it.

    Shape: (N, C, *S), optionally a map above (N, A, *S) -> (N, O, *S)
    Math:  y_0 = f(W x + B a + b);  y_t = f(W x + L y_(t-1) + B a + b); without a, B a is 0

    Args:
        forward_: x -> (N, O, *S), with the bias.
        lateral: (N, O, *S) -> (N, O, *S), of the same size.
        backward_: a -> (N, O, *S); None: there is nothing above.
        steps: of the recurrence, at least 0.
        transfer: f.

    Raises:
        ValueError: `steps` is below 0; in the forward pass, there is no layer for a map above, or
            two of the layers give maps of different shapes.

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
        whole(0, steps=steps)
        self.forward_, self.lateral, self.backward_ = forward_, lateral, backward_
        self.steps, self.transfer = steps, transfer

    def forward(self, x: Tensor, above: Tensor | None = None) -> Tensor:
        """Return the map after the last step."""
        drive = self.forward_(x)
        if above is not None:
            if self.backward_ is None:
                raise ValueError(
                    "above must be None where backward_ is, which would read it; "
                    f"got {tuple(above.shape)}"
                )
            drive = drive + _like(drive, self.backward_(above), "backward_")
        y = self.transfer(drive)
        for _ in range(self.steps):
            y = self.transfer(drive + _like(drive, self.lateral(y), "lateral"))
        return y

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"steps={self.steps}"
