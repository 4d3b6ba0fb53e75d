"""C-54 on 30 synthetic patterns; Hebb is the matched filter."""

import pytest
import torch

from striate.models import build
from striate.spec import Spec

SPEC = Spec(channels=16, size=(16,), classes=tuple(str(k) for k in range(30)))


def phonemes(seed=0):
    """30 bipolar patterns: three formants that glide over 16 bands."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.full((30, 16, 16), -1.0)
    time = torch.arange(16)
    for k in range(30):
        for formant in range(3):
            start, end = torch.randint(5 * formant, 5 * formant + 6, (2,), generator=draw).tolist()
            band = (start + (end - start) * time / 15).round().long()
            x[k, band, time] = 1.0
    return x


def taught(rule):
    net = build("homma1987", SPEC, rule=rule)
    net.learn(phonemes(), torch.arange(30), 0.0)
    return net


def test_the_delta_rule_knows_all_patterns():
    x, net = phonemes(), taught("delta")
    assert (net(x).argmax(1) == torch.arange(30)).all()


def test_the_delta_rule_hears_through_noise():
    x, net = phonemes(), taught("delta")
    noise = torch.randn(20, *x.shape, generator=torch.Generator().manual_seed(1))
    noisy = x + noise * 10**-0.5  # 10 dB
    right = (net(noisy.flatten(0, 1)).argmax(1) == torch.arange(30).repeat(20)).float().mean()
    assert right >= 0.95


def test_hebb_is_the_matched_filter():
    x, net = phonemes(), taught("hebb")
    wanted = x.flip(2) / x.square().sum((1, 2), keepdim=True)
    torch.testing.assert_close(net.w.data[..., 1:17], wanted, atol=1e-6, rtol=1e-5)
    assert net.w.data[..., 17:].abs().max() < 1e-6


def test_a_later_sound_is_the_same_sound():
    x, net = phonemes(), taught("delta")
    late = torch.zeros(30, 16, 32)
    late[..., 9:25] = x
    torch.testing.assert_close(
        net(late), net(torch.nn.functional.pad(x, (0, 16))), atol=1e-4, rtol=0
    )


def test_rule_and_shape_are_checked():
    with pytest.raises(Exception, match="rule must be hebb or delta; got 'x'"):
        build("homma1987", rule="x")
    with pytest.raises(Exception, match="wants series"):
        build("homma1987", Spec(channels=1, size=(4, 4), classes=("a", "b")))
