"""Shift-invariant nets: maps in, maps out, and no place that is special."""

from math import prod

from torch import nn

from striate.layers import Convolution, GlobalPool
from striate.layers.tiling import BORDERS
from striate.spec import Spec

__all__ = ["siann1988", "siann1991"]


LEAST = {"circular": 2, "reflect": 3}  # samples that these borders of 2 take from within


def _shared(spec: Spec, channels: int, out: int, border: str) -> Convolution:
    """Return shared kernels that keep the size, large enough for logistic units to learn from."""
    kernels = Convolution(spec.axes, channels, out, 5, padding="same", border=border)
    nn.init.xavier_normal_(kernels.weight, gain=4)  # a logistic function rises by 1/4
    return kernels


def _maps(spec: Spec, width: int, border: str) -> list[nn.Module]:
    """Two hidden groups of shared kernels that keep the size."""
    if border not in BORDERS:
        raise ValueError(f"border must be one of {', '.join(BORDERS)}; got {border!r}")
    least = LEAST.get(border, 1)
    if min(spec.size) < least:
        raise ValueError(f"border {border} wants axes of at least {least} samples; got {spec.size}")
    layers: list[nn.Module] = []
    channels = spec.channels
    for _ in range(2):
        layers += [_shared(spec, channels, width, border), nn.Sigmoid()]
        channels = width
    return layers


def siann1988(spec: Spec, width: int = 10, border: str = "zero") -> nn.Module:
    """Build the net of 1988: shared kernels, then one layer of units over all places.

    Shape: (N, C, *S) -> (N, K)
    Args:
        width: maps of each hidden group [reconstructed, as is the kernel of 5].
        border: beyond the border, see `layers.pad`.
    Raises:
        ValueError: `border` is unknown, or an axis is shorter than it wants: circular 2, reflect 3.

    Source: Zhang 1988, Shift-invariant pattern recognition neural network and its optical
        architecture; Zhang, Itoh, Tanida, Ichioka 1990, Applied Optics 29(32).
    """
    units = nn.Linear(width * prod(spec.size), len(spec.classes))
    return nn.Sequential(*_maps(spec, width, border), nn.Flatten(), units)


def siann1991(
    spec: Spec, width: int = 10, border: str = "circular", maps: bool = False
) -> nn.Module:
    """Build the net of 1991: a map for every class, nothing fully connected.

    260 + 2,510 + 251 K parameters on one channel [sizes reconstructed]. With circular borders a
    shifted input shifts the maps by exactly as much.

    Shape: (N, C, *S) -> (N, K), or (N, K, *S) with `maps`
    Args:
        width: maps of each hidden group.
        border: beyond the border, see `layers.pad`.
        maps: give the classes' maps out instead of their largest values.
    Raises:
        ValueError: as of `siann1988`.

    Source: Zhang, Itoh, Tanida, Ichioka 1991; Zhang, Doi, Giger, Wu, Nishikawa, Schmidt 1994,
        Medical Physics 21(4).
    """
    out = _shared(spec, width, len(spec.classes), border)
    net = nn.Sequential(*_maps(spec, width, border), out)
    return net if maps else net.append(GlobalPool("max"))
