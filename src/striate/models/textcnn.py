"""Convolution over words: windows of three, four and five, each heard where it is loudest."""

import torch
from torch import Tensor, nn

from striate.spec import Spec

__all__ = ["TextCNN", "textcnn"]

WINDOWS = (3, 4, 5)
PADDING = 0  # number that stands for no word


class TextCNN(nn.Module):
    """Embed words, slide windows, keep the largest response of each map, classify.

    Shape: (N, 1, T) numbers of words, 0 for none -> (N, K)
    Math:  c_i = phi(w . x_(i:i+h) + b), heard = max_i c_i over windows with at least one word;
           the network hears the same however much padding stands around a text

    Args:
        classes: K.
        vocabulary: numbers of words, 0 among them.
        width: of an embedding.
        maps: of each window.
        dropout: share of the heard values set to 0 while learning.
    """

    def __init__(
        self, classes: int, vocabulary: int, width: int, maps: int, dropout: float
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.windows = nn.ModuleList(nn.Conv1d(width, maps, w, padding=w - 1) for w in WINDOWS)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(maps * len(WINDOWS), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        words = x[:, 0].round().long()
        if words.numel() and not 0 <= int(words.min()) <= int(words.max()) < self.vocabulary:
            raise ValueError(
                f"x must hold numbers of words from 0 to {self.vocabulary - 1}; got "
                f"{int(words.min())} to {int(words.max())}"
            )
        embedded = self.embedding(words).mT
        real = (words != PADDING)[:, None].to(embedded)
        heard = []
        for window, size in zip(self.windows, WINDOWS, strict=True):
            said = window(embedded).relu()
            inside = nn.functional.pad(real, (size - 1, size - 1))
            empty = nn.functional.max_pool1d(inside, size, 1) == 0
            heard.append(said.masked_fill(empty, 0.0).amax(2))
        return self.classifier(self.dropout(torch.cat(heard, 1)))


def textcnn(
    spec: Spec, vocabulary: int = 0, width: int = 300, maps: int = 100, dropout: float = 0.5
) -> nn.Module:
    """Build the convolutional network for sentences, CNN-rand: the embedding is learnt.

    Shape: (N, 1, T) -> (N, K)
    Args:
        vocabulary: numbers of words, 0 (no word) among them; 0: as the Spec says, else 5,000.
        width: of an embedding.
        maps: of each window of 3, 4 and 5 words.
        dropout: share of the heard values set to 0 while learning.
    Raises:
        ValueError: samples are no series of one number a word.

    Source: Kim 2014, Convolutional Neural Networks for Sentence Classification, arXiv:1408.5882.
    """
    if spec.axes != 1 or spec.channels != 1:
        raise ValueError(f"a text is (1, T), one number a word; got {spec.shape}")
    known = vocabulary or (len(spec.words) + 2 if spec.words else 5000)
    return TextCNN(len(spec.classes), known, width, maps, dropout)
