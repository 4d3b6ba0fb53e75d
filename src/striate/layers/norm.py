"""Normalisation by the neighbourhood: across maps, and across places."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.bounds import at_least, whole

__all__ = [
    "Brightness",
    "LocalContrastNorm",
    "LocalResponseNorm",
    "gaussian",
    "local_contrast",
    "local_response",
]


class Brightness(nn.Module):
    """Undo a normalisation: black is 0, white is 1, for cells that know no negative light.

    Shape: (N, C, *S) -> the same
    Math:  y = max(0, (x std + mean - black) / (white - black)); max(0, x) without a mean

    Args:
        mean: subtracted from each channel before, in raw units; none: nothing was.
        std: that each channel was divided by, in raw units.
        black: raw value.
        white: raw value, another than black.

    Raises:
        ValueError: a std is not above 0, white is black, or there are other numbers of means than
            of stds, or of either than of channels, where they are more than one.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        black: float = 0.0,
        white: float = 1.0,
    ) -> None:
        super().__init__()
        if not all(one > 0 for one in std):
            raise ValueError(f"std must be above 0; got {tuple(std)}")
        if not abs(white - black) > 0:
            raise ValueError(f"white must differ from black {black}; got {white}")
        if mean and std and len(mean) != len(std):
            raise ValueError(
                f"mean and std must be one a channel each; got {tuple(mean)} and {tuple(std)}"
            )
        known = bool(mean)
        scale = torch.tensor(tuple(std) or (1.0,)) / (white - black if known else 1.0)
        shift = (torch.tensor(tuple(mean) or (0.0,)) - black) / (white - black)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift if known else torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the light."""
        channels = max(len(self.scale), len(self.shift))
        if x.dim() < 2 or channels not in (1, x.shape[1]):
            wanted = f"(N, {channels}, *S) for the mean and std of {channels} channels"
            raise ValueError(f"x must be {wanted}; got {tuple(x.shape)}")
        shape = (1, -1, *[1] * (x.dim() - 2))
        return (x * self.scale.view(shape) + self.shift.view(shape)).clamp(min=0)


def local_response(
    x: Tensor, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> Tensor:
    """Divide each value by the activity of the maps beside it, at the same place.

    Shape: (N, C, *S) -> (N, C, *S)
    Math:  y_c = x_c / (k + alpha sum_j x_j^2)^beta, j from c - n // 2 to c + (n - 1) // 2.
           `alpha` multiplies the sum, as in the paper; torch and Caffe divide it by n.

    Args:
        n: maps in the sum, the value's own included; those beyond the first and last count as 0.

    Raises:
        ValueError: `n` is below 1.

    Source: Krizhevsky, Sutskever, Hinton 2012, ImageNet Classification with Deep Convolutional
        Neural Networks, section 3.3.
    """
    whole(1, n=n)
    squares = F.pad(x.square().movedim(1, -1), (n // 2, (n - 1) // 2))
    activity = squares.unfold(-1, n, 1).sum(-1).movedim(-1, 1)
    return x * (k + alpha * activity).pow(-beta)


class LocalResponseNorm(nn.Module):
    """Competition between maps; see `local_response`. Without parameters.

    Raises:
        ValueError: `n` is below 1.
    """

    def __init__(self, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        whole(1, n=n)
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        """Return x divided by the activity around it."""
        return local_response(x, self.n, self.k, self.alpha, self.beta)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"n={self.n}, k={self.k}, alpha={self.alpha}, beta={self.beta}"


def gaussian(taps: int, axes: int, sigma: float) -> Tensor:
    """Return a sampled Gaussian of sum 1.

    Shape: -> (taps,) * axes, float64
    """
    place = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    line = torch.exp(-place.square() / (2 * sigma**2))
    kernel = line
    for _ in range(axes - 1):
        kernel = kernel[..., None] * line
    return kernel / kernel.sum()


def _check_neighbourhood(taps: int, sigma: float, floor: float | None) -> None:
    """Refuse a neighbourhood without a centre or a width, and a floor below 0."""
    if not hasattr(taps, "__index__") or taps < 1 or taps % 2 == 0 or not sigma > 0:
        raise ValueError(f"taps must be odd and sigma above 0; got {taps} and {sigma}")
    at_least(0, floor=0 if floor is None else floor)


def local_contrast(
    x: Tensor,
    taps: int = 9,
    sigma: float = 2.0,
    *,
    divide: bool = True,
    floor: float | None = None,
) -> Tensor:
    """Subtract the weighted mean of the neighbourhood over all maps, then divide by its spread.

    Shape: (N, C, *S) -> (N, C, *S)
    Math:  v = x - sum_cp w_p x_(c, i + p) / (C sum of w inside);
           y = v / max(floor, spread), spread = sqrt(the same mean of v^2).
           At the border the weights that lie inside are scaled to sum 1. The gradient of a spread
           of 0 is 0.

    Args:
        taps: side of the neighbourhood, in samples; odd.
        sigma: of its Gaussian weights, in samples.
        divide: False stops after subtraction.
        floor: least divisor, at least 0; None is each sample's mean spread.

    Raises:
        ValueError: `taps` is even or below 1, `sigma` is not above 0, or `floor` is below 0.

    Source: Jarrett, Kavukcuoglu, Ranzato, LeCun 2009, What is the Best Multi-Stage Architecture
        for Object Recognition?, section 2.
    """
    _check_neighbourhood(taps, sigma, floor)
    axes = x.dim() - 2
    kernel = gaussian(taps, axes, sigma).to(x)[None, None]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]

    def mean(values: Tensor) -> Tensor:
        total = convolve(values.mean(1, keepdim=True), kernel, padding=taps // 2)
        inside = convolve(torch.ones_like(values[:1, :1]), kernel, padding=taps // 2)
        return total / inside

    v = x - mean(x)
    if not divide:
        return v
    energy = mean(v.square())
    flat = energy <= 0  # where a root has no derivative; below 0 by rounding
    spread = energy.masked_fill(flat, 1).sqrt().masked_fill(flat, 0)
    least = spread.flatten(1).mean(1).view(-1, *[1] * (x.dim() - 1)) if floor is None else floor
    divisor = torch.maximum(spread, torch.as_tensor(least).to(x))
    return v / torch.where(divisor > 0, divisor, torch.ones_like(divisor))


class LocalContrastNorm(nn.Module):
    """Contrast within a neighbourhood; see `local_contrast`. Without parameters.

    Raises:
        ValueError: `taps` is even or below 1, `sigma` is not above 0, or `floor` is below 0.
    """

    def __init__(
        self,
        taps: int = 9,
        sigma: float = 2.0,
        *,
        divide: bool = True,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        _check_neighbourhood(taps, sigma, floor)
        self.taps, self.sigma, self.divide, self.floor = taps, sigma, divide, floor

    def forward(self, x: Tensor) -> Tensor:
        """Return x without its local mean and in units of its local spread."""
        return local_contrast(x, self.taps, self.sigma, divide=self.divide, floor=self.floor)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"taps={self.taps}, sigma={self.sigma}, divide={self.divide}, floor={self.floor}"
