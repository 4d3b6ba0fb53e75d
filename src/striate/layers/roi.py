"""Regions of interest: any rectangle of a map -> the same number of values."""

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from striate.layers.bounds import floating, one_of, whole

__all__ = ["RoIAlign", "RoIPool", "roi_align", "roi_pool"]

CONVENTIONS = ("overlap", "disjoint")


def roi_pool(
    x: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    scale: float = 1.0,
    convention: str = "overlap",
) -> Tensor:
    """Take the maximum of each bin of each rectangle.

    Shape: (N, C, H, W), (R, 5) -> (R, C, *size)
    Math:  overlap: bin i of n covers floor(i L / n) to ceil((i + 1) L / n), L the side in samples,
           so neighbours share a sample where n does not divide L (Caffe, torchvision);
           disjoint: floor(i L / n) to floor((i + 1) L / n), each sample in one bin (the figure of
           the encyclopaedia). The gradient goes to the largest sample of a bin, of equal
           ones to the first, row by row.

    Args:
        boxes: a row is the number of the sample and x0, y0, x1, y1, both corners included, in
            samples of the picture that `scale` reduces to the map.
        size: bins along H and W.
        scale: samples of the map per sample of the picture, such as 1/16.
        convention: "overlap" or "disjoint".

    Raises:
        ValueError: a box lies outside the map or is empty, names no sample, or has fewer samples
            than bins where bins may not overlap; the convention is unknown, the size no pair of
            at least 1, or the scale not above 0.

    Source: Girshick 2015, Fast R-CNN, arXiv:1504.08083, section 2.1.
    """
    one_of(CONVENTIONS, convention=convention)
    _check_bins(size, scale)
    _check(x, boxes)
    corners = torch.floor(boxes[:, 1:].double() * scale + 0.5).long().tolist()
    pooled = []
    for sample, (x0, y0, x1, y1) in zip(boxes[:, 0].long().tolist(), corners, strict=True):
        if not (0 <= x0 <= x1 < x.shape[3] and 0 <= y0 <= y1 < x.shape[2]):
            raise ValueError(
                f"box {x0, y0, x1, y1} must lie inside the map of {x.shape[3]} x {x.shape[2]} "
                "(x0 <= x1, y0 <= y1, corners included)"
            )
        rows, columns = (
            _bins(low, high - low + 1, count, convention)
            for low, high, count in ((y0, y1, size[0]), (x0, x1, size[1]))
        )
        cells = [_largest(x[sample, :, a:b, c:d]) for a, b in rows for c, d in columns]
        pooled.append(torch.stack(cells, 1).view(x.shape[1], *size))
    return torch.stack(pooled) if pooled else x.new_zeros(0, x.shape[1], *size)


def _largest(cell: Tensor) -> Tensor:
    """Return the maximum of each map; amax would share the gradient out among equal ones."""
    flat = cell.flatten(1)
    return flat.gather(1, flat.argmax(1, keepdim=True))[:, 0]


def _bins(start: int, length: int, count: int, convention: str) -> list[tuple[int, int]]:
    """Return where each bin begins and ends along one axis."""
    if convention == "disjoint" and length < count:
        raise ValueError(f"a box of {length} samples cannot be cut into {count} disjoint bins")
    low = [start + i * length // count for i in range(count)]
    if convention == "disjoint":
        return list(zip(low, [*low[1:], start + length], strict=True))
    return [(a, start - (-(i + 1) * length // count)) for i, a in enumerate(low)]


def _check_bins(size: tuple[int, int], scale: float) -> None:
    """Refuse numbers of bins and scales that no map has."""
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"size must be (bins along H, bins along W); got {size}")
    whole(1, size=size)
    if not 0 < scale < inf:
        raise ValueError(f"scale must be above 0 and finite; got {scale}")


def _check(x: Tensor, boxes: Tensor) -> None:
    """Refuse boxes that name no sample or begin before the picture, and shapes that do not fit."""
    if not isinstance(boxes, Tensor):  # such as a list for every sample
        raise ValueError(
            "boxes must be a tensor (R, 5), a row (sample, x0, y0, x1, y1); "
            f"got {type(boxes).__name__}"
        )
    if x.dim() != 4 or boxes.dim() != 2 or boxes.shape[1] != 5:
        raise ValueError(
            "x must be (N, C, H, W) and boxes (R, 5), a row (sample, x0, y0, x1, y1); "
            f"got {tuple(x.shape)} and {tuple(boxes.shape)}"
        )
    for row in boxes.tolist():
        sample, *corners = row
        if not (0 <= sample < len(x) and sample == int(sample)):
            raise ValueError(f"boxes must name samples 0 to {len(x) - 1}; got {sample:g} in {row}")
        if not all(0 <= corner < inf for corner in corners):
            raise ValueError(
                f"boxes must lie inside the map, no corner below 0 or infinite; got {row}"
            )


def roi_align(
    x: Tensor, boxes: Tensor, size: tuple[int, int], scale: float = 1.0, points: int = 2
) -> Tensor:
    """Take the mean of each bin of each rectangle, read between the samples; nothing is rounded.

    Shape: (N, C, H, W), (R, 5) -> (R, C, *size)
    Math:  mean over points^2 places a bin of the bilinear interpolation of x; the centre of
           sample i lies at i + 1/2

    Args:
        boxes: rows (sample, x0, y0, x1, y1), edges in samples of the picture.
        size: bins along H and W.
        scale: samples of the map per sample of the picture.
        points: places read along each axis of a bin.

    Raises:
        ValueError: a box lies outside the map or is empty, or names no sample; a number of bins or
            points is below 1, the scale not above 0, or x holds integers.

    Source: He, Gkioxari, Dollar, Girshick 2017, Mask R-CNN, arXiv:1703.06870, section 3.
    """
    _check_bins(size, scale)
    whole(1, points=points)
    _check(x, boxes)
    floating(x=x)  # its means would be rounded
    # Half a number has too few digits for the places; from float32 on they are exact in its own.
    exact = torch.promote_types(x.dtype, torch.float32)
    edges = boxes[:, 1:].to(x.device, exact) * scale
    low, high = edges[:, :2], edges[:, 2:]
    limit = edges.new_tensor([x.shape[3], x.shape[2]])
    outside = ((low < 0) | (high <= low) | (high > limit)).any(1)
    if outside.any():
        raise ValueError(
            f"boxes must lie inside the map of {x.shape[3]} x {x.shape[2]} with x0 < x1 and "
            f"y0 < y1; got {edges[outside][0].tolist()} on the map"
        )
    maps = x[boxes[:, 0].long()].to(exact)
    along_y = _between(x.shape[2], low[:, 1], high[:, 1], size[0], points)
    along_x = _between(x.shape[3], low[:, 0], high[:, 0], size[1], points)
    return torch.einsum("rph,rchw,rqw->rcpq", along_y, maps, along_x).to(x.dtype)


def _between(side: int, low: Tensor, high: Tensor, count: int, points: int) -> Tensor:
    """Return the weight of each sample in each bin along one axis: (R, count, side)."""
    share = (torch.arange(count * points).to(low) + 0.5) / (count * points)
    place = low[:, None] + share * (high - low)[:, None] - 0.5
    place = place.clamp(0, side - 1)
    samples = torch.arange(side, device=low.device)
    hats = (1 - (place[:, :, None] - samples).abs()).clamp(min=0)
    return hats.view(len(low), count, points, side).mean(2)


class RoIPool(nn.Module):
    """The maximum of each bin of each rectangle; see `roi_pool`. Without parameters.

    Raises:
        ValueError: as for `roi_pool`.
    """

    def __init__(
        self, size: tuple[int, int], scale: float = 1.0, convention: str = "overlap"
    ) -> None:
        super().__init__()
        one_of(CONVENTIONS, convention=convention)
        _check_bins(size, scale)
        self.how: dict[str, Any] = {"size": size, "scale": scale, "convention": convention}

    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        """Return (R, C, *size)."""
        return roi_pool(x, boxes, **self.how)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return ", ".join(f"{key}={value!r}" for key, value in self.how.items())


class RoIAlign(nn.Module):
    """The mean of each bin of each rectangle; see `roi_align`. Without parameters.

    Raises:
        ValueError: as for `roi_align`.
    """

    def __init__(self, size: tuple[int, int], scale: float = 1.0, points: int = 2) -> None:
        super().__init__()
        _check_bins(size, scale)
        whole(1, points=points)
        self.how: dict[str, Any] = {"size": size, "scale": scale, "points": points}

    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        """Return (R, C, *size)."""
        return roi_align(x, boxes, **self.how)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return ", ".join(f"{key}={value!r}" for key, value in self.how.items())
