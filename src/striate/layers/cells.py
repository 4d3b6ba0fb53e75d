"""Cells of the visual cortex as fixed layers: Gabor simple cells, complex cells, retinotopy."""

from math import cos, pi, sin

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.bounds import whole

__all__ = ["ComplexCells", "SimpleCells", "from_log_polar", "gabor", "hemifields", "log_polar"]

BANDWIDTH = 0.56  # sigma / wavelength of a bandwidth of one octave

FLAT = 1e-12  # a field of lower norm is made of rounding errors


def gabor(
    taps: int,
    wavelength: float,
    angle: float,
    phase: float = 0.0,
    *,
    sigma: float = 0.0,
    aspect: float = 0.5,
) -> Tensor:
    """Return the receptive field of a simple cell: mean 0, Euclidean norm 1.

    Shape: -> (taps, taps) float64
    Math:  exp(-(x'^2 + aspect^2 y'^2) / (2 sigma^2)) cos(2 pi x' / wavelength + phase), where
           x' runs along `angle` and y' across

    Args:
        taps: side, in samples; odd, so that there is a centre.
        wavelength: of the grating, in samples.
        angle: of its normal, in degrees from the x axis.
        phase: in degrees.
        sigma: of the envelope, in samples; 0: 0.56 wavelengths, a bandwidth of one octave.
        aspect: of the envelope.

    Raises:
        ValueError: `taps` is even or below 1, the wavelength is not above 0, or every sample of the
            field is the same, as with a single tap.

    Source: Jones, Palmer 1987; Daugman 1985.
    """
    if taps < 1 or taps % 2 == 0 or wavelength <= 0:
        raise ValueError(f"taps must be odd and wavelength above 0; got {taps}, {wavelength}")
    sigma = sigma or BANDWIDTH * wavelength
    place = torch.arange(taps, dtype=torch.float64) - taps // 2
    x, y, turn = place[None], place[:, None], angle * pi / 180
    along, across = x * cos(turn) + y * sin(turn), -x * sin(turn) + y * cos(turn)
    envelope = torch.exp(-(along**2 + (aspect * across) ** 2) / (2 * sigma**2))
    field = envelope * torch.cos(2 * pi * along / wavelength + phase * pi / 180)
    field = field - field.mean()
    norm = float(field.norm())
    if not norm > FLAT:
        raise ValueError(
            "taps, wavelength, angle and phase must give a field that is not flat; "
            f"got {taps}, {wavelength}, {angle} and {phase}"
        )
    return field / norm


class SimpleCells(nn.Module):
    """Half-wave rectified Gabor filters: every orientation, wavelength and phase at every place.

    Shape: (N, 1, H, W) -> (N, orientations x scales x 4, H, W)
    Math:  s = max(0, <g, patch>), phases 0, 90, 180 and 270 degrees

    Args:
        orientations: angles, evenly over 180 degrees.
        wavelengths: of each scale, in samples.
        taps: side of the receptive fields; 0: seven times the longest wavelength's sigma, which
            holds the answer to gratings across the preferred one to 1 % at every angle.

    Raises:
        ValueError: there is no orientation or wavelength, or as for `gabor`; in the forward pass, x
            is of another shape.

    Source: Hubel, Wiesel 1959; Jones, Palmer 1987.
    """

    PHASES = (0.0, 90.0, 180.0, 270.0)
    bank: Tensor

    def __init__(
        self,
        orientations: int = 8,
        wavelengths: tuple[float, ...] = (4.0, 5.6, 8.0, 11.3),
        taps: int = 0,
    ) -> None:
        super().__init__()
        whole(1, orientations=orientations)
        whole(0, taps=taps)
        if not wavelengths:
            raise ValueError(f"wavelengths must be one or more; got {wavelengths}")
        side = taps or 2 * int(3.5 * BANDWIDTH * max(wavelengths) + 0.5) + 1
        bank = [
            gabor(side, wavelength, 180 * k / orientations, phase)
            for k in range(orientations)
            for wavelength in wavelengths
            for phase in self.PHASES
        ]
        self.register_buffer("bank", torch.stack(bank)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Return the responses, map by orientation, then wavelength, then phase."""
        if x.dim() != 4 or x.shape[1] != 1:
            raise ValueError(f"x must be (N, 1, H, W), grey pictures; got {tuple(x.shape)}")
        wide = F.pad(x, [self.bank.shape[-1] // 2] * 4, "replicate")  # darkness would be an edge
        return F.conv2d(wide, self.bank.to(x)).relu()


class ComplexCells(nn.Module):
    """Energy of the two phases of simple cells: where in the field an edge lies hardly matters.

    Shape: (N, M x 4, H, W) of `SimpleCells` -> (N, M, H, W)
    Math:  c = sqrt(<g_0, patch>^2 + <g_90, patch>^2); <g, .> = s_phase - s_(phase + 180);
           of gradient 0 where both are 0

    Source: Adelson, Bergen 1985, Spatiotemporal energy models.
    """

    def forward(self, simple: Tensor) -> Tensor:
        """Return the energies."""
        if simple.shape[1] % 4:
            raise ValueError(f"simple must have 4 phases a cell; got {simple.shape[1]} maps")
        quarters = simple.unflatten(1, (-1, 4))
        even, odd = quarters[:, :, 0] - quarters[:, :, 2], quarters[:, :, 1] - quarters[:, :, 3]
        silent = (even == 0) & (odd == 0)  # where a length has no derivative
        return torch.hypot(even.masked_fill(silent, 1), odd).masked_fill(silent, 0)


def log_polar(z: Tensor, a: float) -> Tensor:
    """Return the place in the cortex of a place in the right half of the visual field.

    Shape: any complex -> the same
    Math:  w = log(z + a): linear near the fovea, |z| << a, logarithmic far out

    Source: Schwartz 1977, Spatial mapping in the primate sensory projection.
    """
    return torch.log(z + a)


def from_log_polar(w: Tensor, a: float) -> Tensor:
    """Return the place in the visual field: z = exp(w) - a."""
    return torch.exp(w) - a


def hemifields(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the left and the right hemisphere see: each the opposite half of the field.

    Shape: (N, C, *S) -> twice (N, C, *S') with half of the last axis; an odd middle is in both
    """
    width = x.shape[-1]
    return x[..., width // 2 :], x[..., : width - width // 2]
