"""Neurons whose weights are filters in time: multiplication becomes convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.spec import Spec

__all__ = ["Homma", "homma1987"]

RIDGE = 1e-3  # of the mean energy a channel, added before the inverse


class Homma(nn.Module):
    """One layer of neurons with filters, learnt in one look at the means of the classes.

    Shape: (N, C, T) -> (N, K), the largest response over all times
    Math:  y_k(t) = f((sum_c w_kc * x_c)(t)), f = tanh, less the mean of all neurons at t (lateral
           inhibition). At every frequency, X (C x P) the class means and Y = 1:
           Hebb    W = Y X^H: matched filters;
           delta   W = Y X^H (X X^H + ridge)^-1: what the delta rule tends to

    Args:
        spec: what a sample is.
        rule: "hebb" or "delta".
    """

    total: Tensor
    count: Tensor

    def __init__(self, spec: Spec, rule: str) -> None:
        super().__init__()
        if spec.axes != 1:
            raise ValueError(f"this network wants series (C, T); got {spec.shape}")
        if rule not in ("hebb", "delta"):
            raise ValueError(f"rule must be hebb or delta; got {rule!r}")
        shape = (len(spec.classes), *spec.shape)
        self.rule = rule
        self.w = nn.Parameter(torch.zeros(shape[0], shape[1], 2 * shape[2]), requires_grad=False)
        self.register_buffer("total", torch.zeros(shape))
        self.register_buffer("count", torch.zeros(shape[0]))

    def responses(self, x: Tensor) -> Tensor:
        """Return y at all times before the largest is taken: (N, K, T')."""
        span = self.w.shape[2]  # the circle on which the filters were found
        if 2 * x.shape[2] > span:
            span += x.shape[2]  # no circle: nothing wraps around
        spectrum = torch.fft.rfft(x, span)
        filters = torch.fft.rfft(self.w, span)
        y = torch.tanh(torch.fft.irfft(torch.einsum("ncf,kcf->nkf", spectrum, filters), span))
        return y - y.mean(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: 10 times the largest responses."""
        return 10 * self.responses(x).amax(2)

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """Add samples to the means of their classes, then solve for the filters."""
        loss = F.cross_entropy(self.forward(x), y)
        self.total.index_add_(0, y, x)
        self.count += torch.bincount(y, minlength=len(self.count)).to(self.count)
        self.solve()
        return loss

    def solve(self) -> None:
        """Set the filters from the means."""
        span = self.w.shape[2]
        mean = self.total / self.count.clamp(min=1)[:, None, None]
        patterns = torch.fft.rfft(mean.double(), span).permute(2, 0, 1)  # (frequencies, P, C)
        energy = mean.double().square().sum((1, 2)).clamp(min=1e-12)
        matched = patterns.conj() / energy[:, None]  # Y X^H, one row a class
        if self.rule == "delta":
            power = torch.einsum("fpc,fpd->fcd", patterns, patterns.conj())
            level = power.diagonal(dim1=1, dim2=2).real.mean().clamp(min=1e-12)
            power = power + RIDGE * level * torch.eye(power.shape[1], dtype=power.dtype)
            matched = torch.linalg.solve(power, patterns.conj(), left=False)
        around = torch.fft.irfft(matched.permute(1, 2, 0), span)
        self.w.data = around.roll(span // 2, 2).to(self.w.dtype)  # from the earliest time on

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the links of one sample: every filter at every time."""
        return self.w.shape[0] * x[0].numel() * 2 * x.shape[2]


def homma1987(spec: Spec, rule: str = "delta") -> nn.Module:
    """Build the network of neurons with filters in time.

    Shape: (N, C, T) -> (N, K)
    Args:
        rule: "delta", or "hebb" for matched filters.
    Raises:
        ValueError: samples are no series, or the rule is unknown.

    Source: Homma, Atlas, Marks 1987, An Artificial Neural Network for Spatio-Temporal Bipolar
        Patterns: Application to Phoneme Classification, NIPS 0, pages 31 to 40.
    """
    return Homma(spec, rule)
