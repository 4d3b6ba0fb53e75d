"""Deconvolution by a network: from the sum of many action potentials back to who fired when."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers import euclidean_loss
from striate.spec import Spec

__all__ = ["Deconvolution", "emg1988", "firings"]

PENALTY = 0.05  # share of a template's energy that a firing has to exceed


class Deconvolution(nn.Module):
    """Explain a signal by templates that occur now and then, step by step.

    Shape: (N, 1, T) -> (N, J, T), how strongly each unit fires at each time
    Math:  s = sum_j h_j * p_j + noise; y <- phi(z + mu H^T (s - H z) - mu lambda), z = y + a share
           of its last change, where H y = sum_j h_j * y_j, H^T its adjoint, phi(x) = max(0, x): a
           network of `steps` equal layers, whose templates, mu and lambda learn

    Args:
        units: J, motor units.
        taps: of a template, in samples.
        steps: of the recurrence.
        penalty: lambda, share of a template's energy that a firing has to exceed.

    Source: Graupe, Liu, Moschytz 1988, Applications of neural networks to medical signal
        processing, 27th IEEE CDC; unrolled as Gregor, LeCun 2010, Learning Fast Approximations of
        Sparse Coding; z as Beck, Teboulle 2009 (FISTA) [algorithm reconstructed].
    """

    def __init__(self, units: int, taps: int, steps: int, penalty: float) -> None:
        super().__init__()
        self.steps, self.penalty = steps, penalty
        drawn = torch.randn(units, 1, taps)
        self.templates = nn.Parameter(drawn / drawn.norm(dim=2, keepdim=True))
        self.speed = nn.Parameter(torch.tensor(1.0))
        self.threshold = nn.Parameter(torch.full((units, 1), penalty))

    def mixed(self, y: Tensor) -> Tensor:
        """Return H y, the signal that these firings make: (N, J, T) -> (N, 1, T)."""
        whole = F.conv_transpose1d(y, self.templates)
        return whole[..., : y.shape[2]]

    def matched(self, s: Tensor) -> Tensor:
        """Return H^T s, what each matched filter says: (N, 1, T) -> (N, J, T)."""
        return F.conv1d(F.pad(s, (0, self.templates.shape[2] - 1)), self.templates)

    def largest(self) -> Tensor:
        """Return the largest eigenvalue of H^T H, over a circle: steps of 1 / it converge."""
        span = 4 * self.templates.shape[2]
        power = torch.fft.rfft(self.templates[:, 0].detach(), span).abs().square().sum(0)
        return power.max().clamp(min=1e-12)

    def forward(self, s: Tensor) -> Tensor:
        """Return the firings."""
        mu = self.speed / self.largest()
        drive = self.matched(s) - self.threshold
        y = start = torch.zeros_like(drive)
        pace = 1.0
        for _ in range(self.steps):
            after = (start + mu * (drive - self.matched(self.mixed(start)))).relu()
            faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
            start = after + (pace - 1) / faster * (after - y)
            y, pace = after, faster
        return y

    def connections(self, x: Tensor, y: Tensor) -> int:
        """Return the links of one sample: filters and thresholds, then there and back each step."""
        return y[0].numel() * (self.templates.shape[2] * (1 + 2 * self.steps) + 1)

    def criterion(self, answer: Tensor, y: Tensor) -> Tensor:
        """Return the squared error against the true firings, (N, J, T)."""
        return euclidean_loss(answer, y)

    @torch.no_grad()
    def set_templates(self, templates: Tensor) -> None:
        """Start from known shapes, (J, taps), such as averages of recorded potentials."""
        self.templates.copy_(templates[:, None])
        self.threshold.copy_(self.penalty * templates.square().sum(1, keepdim=True))


def firings(y: Tensor, level: float = 0.5, apart: int = 5) -> Tensor:
    """Return where units fire: peaks above `level` that are the largest within `apart` samples.

    Shape: (N, J, T) -> (N, J, T) bool
    Math:  the strength of a firing may be spread over neighbouring samples, so that it is the sum
           over three that is compared

    Args:
        level: strength, 1 for the template as it is.
        apart: samples, odd.
    """
    strength = F.avg_pool1d(y, 3, 1, 1) * 3
    peak = F.max_pool1d(strength, apart, 1, apart // 2)
    first = (strength == peak) & (strength > level)
    before = F.pad(first[..., :-1].float(), (1, 0)) > 0  # of two equal neighbours, the first
    return first & ~before


def emg1988(spec: Spec, units: int = 4, taps: int = 0, steps: int = 50) -> nn.Module:
    """Build the deconvolution network for surface or needle electromyograms.

    Shape: (N, 1, T) -> (N, J, T)
    Args:
        units: J, motor units.
        taps: of a template, in samples; 0: an eighth of the signal, 32 at most.
        steps: of the recurrence, at least 1.
    Raises:
        ValueError: samples are no series of one channel, shorter than 2, or a number is out of
            range.

    Source: Graupe, Liu, Moschytz 1988, 27th IEEE Conference on Decision and Control.
    """
    if spec.axes != 1 or spec.channels != 1 or spec.size[0] < 2:
        raise ValueError(f"an electromyogram is (1, T), T at least 2; got {spec.shape}")
    taps = taps or max(2, min(32, spec.size[0] // 8))
    if min(units, steps) < 1 or not 1 <= taps <= spec.size[0]:
        raise ValueError(
            f"units and steps must be at least 1, taps 1 to {spec.size[0]}; got {units}, {steps}, "
            f"{taps}"
        )
    return Deconvolution(units, taps, steps, PENALTY)
