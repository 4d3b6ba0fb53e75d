"""CapsNet: parts vote for wholes."""

from math import prod

import torch
from torch import Tensor, nn

from striate.layers import (
    Brightness,
    Capsules,
    PrimaryCapsules,
    conv,
    euclidean_loss,
    margin_loss,
    measured_shape,
    shares,
)
from striate.spec import Spec

__all__ = ["CapsNet", "capsnet"]

PRIMARY, DIGIT = 8, 16  # numbers in a primary capsule and in one of a class
DRAWING = 0.0005  # weight of the decoder's squared error


class CapsNet(nn.Module):
    """Two convolutions, primary capsules, capsules of the classes.

    Shape: (N, C, *S) -> (N, K), the capsules' lengths, 0 to 1
    Math:  it learns by the margin loss of the lengths, + 0.0005 |drawn - sample|^2 with a decoder

    Args:
        spec: what a sample is.
        maps: of the first convolution.
        types: of primary capsules.
        rounds: of routing.
        decoder: add the net that draws a sample from its class's capsule.
    """

    def __init__(self, spec: Spec, maps: int, types: int, rounds: int, decoder: bool) -> None:
        super().__init__()
        axes = spec.axes
        self.features = nn.Sequential(
            conv(axes, spec.channels, maps, 9), nn.ReLU(inplace=True),
            conv(axes, maps, types * PRIMARY, 9, stride=2), PrimaryCapsules(PRIMARY),
        )  # fmt: skip
        count, _ = measured_shape(self.features, spec.channels, spec.size)
        self.light = Brightness(spec.mean, spec.std, *spec.value_range)
        self.capsules = Capsules(count, PRIMARY, len(spec.classes), DIGIT, rounds)
        self.decoder = nn.Sequential(
            nn.Linear(len(spec.classes) * DIGIT, 512), nn.ReLU(inplace=True),
            nn.Linear(512, 1024), nn.ReLU(inplace=True),
            nn.Linear(1024, prod(spec.shape)), nn.Sigmoid(),
        ) if decoder else None  # fmt: skip

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Return the lengths; while learning to draw, also the capsules and the light to draw."""
        vectors = self.vectors(x)
        lengths = vectors.norm(dim=2)
        if self.training and self.decoder is not None:
            return lengths, vectors, self.light(x).flatten(1)
        return lengths

    def criterion(
        self,
        answer: Tensor | tuple[Tensor, Tensor, Tensor],
        y: Tensor,
        *,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of an answer to samples of y, (N,) classes or (N, K) shares."""
        if isinstance(answer, Tensor):
            return margin_loss(answer, y, weights=weights)
        lengths, vectors, light = answer
        drawn = self.draw(vectors, shares(y, lengths).argmax(1))
        error = euclidean_loss(drawn, light, weights=weights)
        return margin_loss(lengths, y, weights=weights) + DRAWING * 2 * error

    def vectors(self, x: Tensor) -> Tensor:
        """Return the capsules of the classes: (N, K, 16)."""
        return self.capsules(self.features(x))

    def draw(self, vectors: Tensor, y: Tensor) -> Tensor:
        """Return what the decoder makes of the capsule of class y alone: (N, C prod(S)), 0 to 1.

        Raises:
            ValueError: the net was built without a decoder.
        """
        if self.decoder is None:
            raise ValueError("this CapsNet has no decoder; build it with decoder=True")
        mask = nn.functional.one_hot(y, vectors.shape[1]).to(vectors)
        return self.decoder(torch.flatten(vectors * mask[:, :, None], 1))


def capsnet(
    spec: Spec, maps: int = 256, types: int = 32, rounds: int = 3, decoder: bool = False
) -> nn.Module:
    """Build CapsNet: 6,804,224 parameters on 1 x 28 x 28, 10 classes; 8,215,568 with decoder.

    Shape: (N, C, *S) -> (N, K)
    Args:
        maps: of the first convolution.
        types: of primary capsules, 8 numbers each.
        rounds: of routing by agreement.
        decoder: add the net that draws a sample from its capsule.
    Raises:
        ValueError: an axis is shorter than 17 samples.

    Source: Sabour, Frosst, Hinton 2017, Dynamic Routing Between Capsules, arXiv:1710.09829.
    """
    return CapsNet(spec, maps, types, rounds, decoder)
