"""Time-delay networks: weights shared along time, along frequency too, and events in words."""

from math import prod

from torch import Tensor, nn

from striate.layers import GlobalPool, conv
from striate.spec import Spec

__all__ = ["EventWords", "OverTime", "tdnn", "tdnn2d", "yamaguchi1990"]


class OverTime(nn.Module):
    """Add up what each unit says over all times, and over all bands where there are any left.

    Shape: (N, K, *S) -> (N, K)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums: a sound may come at any time, and be of any length."""
        return x.flatten(2).sum(2)


class AddChannel(nn.Module):
    """Read the bands of a series as an axis: (N, C, T) -> (N, 1, C, T)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with an axis more."""
        return x[:, None]


def tdnn(spec: Spec, hidden: int = 8, units: int = 0) -> nn.Module:
    """Build the TDNN: units that see 3, then 5 times, the same at every time.

    515 parameters on 16 bands x 15 frames with 3 classes: 392 and 123; 16 x 15, 8 x 13, 3 x 9, 3
    [certain]. What it gives out are sums of sigmoids over time, taken as logits.

    Shape: (N, C, T) -> (N, K)
    Args:
        hidden: units of the first layer.
        units: of a layer between it and the outputs, that sees one time; 0: none.
    Raises:
        ValueError: samples are no series, or shorter than 7 frames.

    Source: Waibel, Hanazawa, Hinton, Shikano, Lang 1989, Phoneme Recognition Using Time-Delay
        Neural Networks.
    """
    _series(spec, 7)
    layers: list[nn.Module] = [conv(1, spec.channels, hidden, 3), nn.Sigmoid()]
    if units:
        layers += [conv(1, hidden, units, 1), nn.Sigmoid()]
    last = conv(1, units or hidden, len(spec.classes), 5)
    return nn.Sequential(*layers, last, nn.Sigmoid(), OverTime())


def tdnn2d(spec: Spec, maps: int = 8, invariant: bool = False) -> nn.Module:
    """Build the two-dimensional TDNN: the first units also move along frequency.

    1,571 parameters on 16 bands x 15 frames with 3 classes: 128 and 1,443 [architecture
    reconstructed].

    Shape: (N, C, T) -> (N, K)
    Args:
        maps: of the first layer, 5 bands x 3 frames each.
        invariant: let the second layer move along frequency too, 5 bands x 5 frames.
    Raises:
        ValueError: samples are no series, or have fewer than 9 bands or 7 frames.

    Source: Hampshire, Waibel 1990, Connectionist Architectures for Multi-Speaker Phoneme
        Recognition, NIPS 2.
    """
    _series(spec, 7)
    if spec.channels < 9:
        raise ValueError(f"the 2-D TDNN wants at least 9 bands; got {spec.channels}")
    left = 5 if invariant else spec.channels - 4
    return nn.Sequential(
        AddChannel(), nn.Conv2d(1, maps, (5, 3)), nn.Sigmoid(),
        nn.Conv2d(maps, len(spec.classes), (left, 5)), nn.Sigmoid(), OverTime(),
    )  # fmt: skip


class EventWords(nn.Module):
    """A few event nets for every word, each heard where it is loudest, and a net for every word.

    Shape: (N, C, T) -> (N, K)
    Math:  event = max_t TDNN(x)(t), which has no weights and sends its gradient to one time

    Args:
        bands: C.
        words: K.
        events: of each word.
        hidden: units of each event's net, and of each word's.
    """

    def __init__(self, bands: int, words: int, events: int, hidden: int) -> None:
        super().__init__()
        count = words * events
        self.events = nn.Sequential(
            nn.Conv1d(bands, count * hidden, 3), nn.Sigmoid(),
            nn.Conv1d(count * hidden, count, 5, groups=count), nn.Sigmoid(),
        )  # fmt: skip
        self.heard = GlobalPool("max")
        self.words = nn.Sequential(
            nn.Conv1d(count, words * hidden, 1, groups=words), nn.Tanh(),
            nn.Conv1d(words * hidden, words, 1, groups=words), nn.Tanh(),
        )  # fmt: skip
        self.classifier = nn.Linear(words, words)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the words."""
        heard = self.heard(self.events(x))
        return self.classifier(self.words(heard[:, :, None])[:, :, 0])


def yamaguchi1990(spec: Spec, events: int = 3, hidden: int = 6) -> nn.Module:
    """Build the word recogniser of event nets: the first max pooling over time.

    Shape: (N, C, T) -> (N, K)
    Args:
        events: of each word, a syllable or so each.
        hidden: units of each event's net, and of each word's [both reconstructed].
    Raises:
        ValueError: samples are no series, or shorter than 7 frames.

    Source: Yamaguchi, Sakamoto, Akabane, Fujimoto 1990, A Neural Network for Speaker-Independent
        Isolated Word Recognition, ICSLP.
    """
    _series(spec, 7)
    return EventWords(spec.channels, len(spec.classes), events, hidden)


def _series(spec: Spec, least: int) -> None:
    if spec.axes != 1 or prod(spec.size) < least:
        raise ValueError(
            f"a TDNN wants series (bands, frames) of at least {least} frames; got {spec.shape}"
        )
