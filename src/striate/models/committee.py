"""A committee of columns: equal networks that see the sample drawn to different widths."""

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers import Brightness, shares, softmax_loss
from striate.models.ciresan import ciresan_mnist
from striate.spec import Spec

__all__ = ["Committee", "Turned", "Width", "committee"]

WIDTHS = (0, 10, 12, 14, 16, 18, 20)  # of the ink in pixels, in 29; 0: as it is
INK = 0.3  # share of white from which a pixel is ink


class Width(nn.Module):
    """Draw the ink of a picture to one width around its middle.

    The middle stays where it is, so that a column learns from moved digits too, or comes as near
    as the picture has room [certain are the widths alone].

    Shape: (N, C, H, W) -> the same
    Math:  bilinear; height stays

    Args:
        width: of the ink, in pixels; 0 changes nothing.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width

    def forward(self, light: Tensor) -> Tensor:
        """Return the pictures."""
        if not self.width:
            return light
        side = light.shape[3]
        inked = light.amax((1, 2)) > INK
        place = torch.arange(side, device=light.device).expand_as(inked)
        left = torch.where(inked, place, side).amin(1).to(light)
        right = torch.where(inked, place, -1).amax(1).to(light)
        blank = right < left  # nothing to draw: leave it
        left, right = left.masked_fill(blank, 0), right.masked_fill(blank, side - 1)
        scale = ((right - left + 1) / self.width).masked_fill(blank, 1)
        middle = (left + right + 1) / side - 1
        room = max(0.0, 1 - self.width / side)
        shift = middle - scale * middle.clamp(-room, room)
        turn = light.new_zeros(len(light), 2, 3)
        turn[:, 0, 0], turn[:, 0, 2], turn[:, 1, 1] = scale, shift, 1
        grid = F.affine_grid(turn, list(light.shape), align_corners=False)
        return F.grid_sample(light, grid, align_corners=False)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"width={self.width:g}"


class Turned(nn.Module):
    """Turn, scale, shear and move every picture by chance while learning; asked, change nothing.

    A column with one of its own sees other pictures than its neighbours, and errs otherwise.

    Shape: (N, C, H, W) -> the same
    Math:  x(A p + b), bilinear; A = turn by up to `degrees` x shear by up to s x scales of
        1 / (1 + s) to 1 + s, s = degrees / 100; b up to a pixel

    Args:
        degrees: at least 0; 0 changes nothing.
    """

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = degrees

    def forward(self, light: Tensor) -> Tensor:
        """Return the pictures."""
        if not (self.training and self.degrees):
            return light
        share = self.degrees / 100
        dice = 2 * torch.rand(6, len(light), device=light.device) - 1
        angle, shear = dice[0] * (self.degrees * pi / 180), dice[1] * share
        wide, high = ((1 + share) ** dice[k] for k in (2, 3))
        row_x = torch.stack([angle.cos() * wide, (shear - angle.sin()) * high])
        row_y = torch.stack([angle.sin() * wide, angle.cos() * high])
        moved = dice[4:] * 2 / torch.tensor(light.shape[:1:-1]).to(dice)[:, None]
        theta = torch.stack([*row_x, moved[0], *row_y, moved[1]], 1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(light.shape), align_corners=False)
        return F.grid_sample(light, grid, padding_mode="reflection", align_corners=False)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"degrees={self.degrees:g}"


class Committee(nn.Module):
    """Columns that learn alone and answer together.

    Shape: (N, C, H, W) -> (N, K), the log of the mean of their probabilities; while learning,
        (columns, N, K)

    Args:
        spec: what a sample is.
        widths: of each column.
        turn: degrees, see `Turned`.
        smoothing: share of every label spread over all classes.
    """

    def __init__(
        self, spec: Spec, widths: list[float], turn: float = 0.0, smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.light = Brightness(spec.mean, spec.std, *spec.value_range)
        self.columns = nn.ModuleList(
            nn.Sequential(_drawn(width, turn), ciresan_mnist(spec)) for width in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the common answer."""
        answers = self.alone(x)
        if self.training:
            return answers
        return answers.log_softmax(2).logsumexp(0) - torch.tensor(len(answers)).log()

    def alone(self, x: Tensor) -> Tensor:
        """Return what every column says for itself: (columns, N, K)."""
        light = self.light(x)
        return torch.stack([column[1](2 * column[0](light) - 1) for column in self.columns])  # type: ignore[index]

    def criterion(self, answer: Tensor, y: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return the sum of the columns' losses: none hears of the others."""
        target = shares(y, answer[0])
        target = target + self.smoothing * (target.mean(1, keepdim=True) - target)
        return torch.stack([softmax_loss(one, target, weights=weights) for one in answer]).sum()


def _drawn(width: float, turn: float) -> nn.Module:
    """Return what a column sees of a picture."""
    return nn.Sequential(Turned(turn), Width(width)) if turn else Width(width)


def committee(spec: Spec, columns: int = 7, turn: float = 0.0, smoothing: float = 0.0) -> nn.Module:
    """Build the multi-column network: `columns` of `ciresan_mnist`, each on another width.

    76,040 parameters a column on 1 x 29 x 29 with 10 classes. The paper has 35: five of each of
    seven widths.

    Shape: (N, C, H, W) -> (N, K)
    Args:
        columns: at least 1; the seven widths take turns.
        turn: degrees up to which every column turns each digit for itself while learning,
            0 to 180; scales, shears and moves go with them. In place of `augment`, whose changes
            are the same for all columns.
        smoothing: share of every label spread over all classes, 0 to under 1: the recipe's
            `label_smoothing` does not reach a network that has a loss of its own.
    Raises:
        ValueError: there is no column, or samples are no pictures of at least 21 pixels a side,
            or `turn` lies outside of 0 to 180, or `smoothing` of 0 to under 1.

    Source: Ciresan, Meier, Schmidhuber 2012, Multi-column Deep Neural Networks for Image
        Classification, arXiv:1202.2745.
    """
    if columns < 1 or spec.axes != 2 or min(spec.size) < 21:
        raise ValueError(
            "a committee wants pictures of at least 21 pixels a side and at least 1 column; got "
            f"{spec.shape} and {columns}"
        )
    if not 0 <= turn <= 180:
        raise ValueError(f"turn must lie in 0 to 180 degrees; got {turn:g}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must lie in 0 to under 1; got {smoothing:g}")
    widths = [spec.size[1] / 29 * WIDTHS[k % len(WIDTHS)] for k in range(columns)]
    return Committee(spec, widths, turn, smoothing)
