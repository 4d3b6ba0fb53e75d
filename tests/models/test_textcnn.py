"""Kim's network: the count by hand, and that padding is not heard."""

import pytest
import torch

from striate.models import build
from striate.spec import Spec

SPEC = Spec(channels=1, size=(12,), dtype="float32", classes=("bad", "good"))


def test_the_count_by_hand():
    net = build("textcnn", SPEC, vocabulary=50, width=8, maps=5)
    convolutions = 5 * 8 * (3 + 4 + 5) + 15
    assert sum(p.numel() for p in net.parameters()) == 50 * 8 + convolutions + 15 * 2 + 2


def test_padding_is_not_heard():
    net = build("textcnn", SPEC, vocabulary=50, width=8, maps=5).eval()
    with torch.no_grad():
        net.windows[0].bias += 3.0  # what an empty window would shout
    words = torch.randint(1, 50, (4, 1, 7)).float()
    short = net(words)
    for before, after in ((0, 1), (0, 9), (3, 2)):
        torch.testing.assert_close(net(torch.nn.functional.pad(words, (before, after))), short)


def test_an_empty_text_is_answered():
    assert build("textcnn", SPEC).eval()(torch.zeros(1, 1, 12)).isfinite().all()


def test_words_that_are_not_in_the_vocabulary_are_refused():
    net = build("textcnn", SPEC, vocabulary=50)
    with pytest.raises(ValueError, match="numbers of words from 0 to 49; got 3 to 50"):
        net(torch.tensor([[[3.0, 50.0]]]))


def test_pictures_are_refused():
    with pytest.raises(Exception, match=r"a text is \(1, T\)"):
        build("textcnn", Spec(channels=1, size=(4, 4), classes=("a", "b")))
