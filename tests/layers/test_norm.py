"""Local response and local contrast: C-35, torch as the oracle, what they are blind to."""

import pytest
import torch
import torch.nn.functional as F

from striate.layers import Brightness, LocalContrastNorm, LocalResponseNorm


def test_response_of_channels_1_to_6():
    x = torch.arange(1.0, 7).view(1, 6, 1, 1)
    wanted = [0.594292, 1.187871, 1.780140, 2.370419, 2.963466, 3.557354]
    torch.testing.assert_close(
        LocalResponseNorm()(x).flatten(), torch.tensor(wanted), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_response_is_torchs_with_alpha_times_n(n, axes):
    x = torch.randn(2, 7, *[4] * axes, dtype=torch.float64)
    wanted = F.local_response_norm(x, n, alpha=n * 0.1, beta=0.6, k=1.5)
    torch.testing.assert_close(LocalResponseNorm(n, 1.5, 0.1, 0.6)(x), wanted)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_contrast_does_not_see_brightness_or_scale(axes):
    x = torch.randn(2, 3, *[12] * axes, dtype=torch.float64)
    norm = LocalContrastNorm(5, 1.0)
    torch.testing.assert_close(norm(7 * x + 3), norm(x))
    plain = LocalContrastNorm(5, 1.0, divide=False)
    torch.testing.assert_close(plain(x + 3), plain(x))
    assert plain(torch.ones_like(x)).abs().max() < 1e-12
    assert norm(torch.ones_like(x)).isfinite().all()


def test_where_contrast_is_low_it_is_not_blown_up():
    x = torch.zeros(1, 1, 20, 20, dtype=torch.float64)
    x[..., 10:] = torch.randn(20, 10)
    x[..., :10] = 1e-3 * torch.randn(20, 10)
    assert LocalContrastNorm(5, 1.0)(x)[..., :7].abs().max() < 0.1


@pytest.mark.parametrize("layer", [LocalResponseNorm(3), LocalContrastNorm(3, 1.0)])
def test_gradients(layer):
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


@pytest.mark.parametrize("how", [{"taps": 4}, {"taps": 0}, {"sigma": 0.0}])
def test_impossible_neighbourhoods_are_said(how):
    with pytest.raises(ValueError, match="taps must be odd and sigma above 0"):
        LocalContrastNorm(**how)(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="n must be at least 1; got 0"):
        LocalResponseNorm(0)(torch.zeros(1, 1, 4, 4))


def test_brightness_undoes_a_normalisation():
    raw = torch.tensor([[[0.0, 51.0, 255.0]], [[102.0, 0.0, 204.0]]])[None]
    mean, std = torch.tensor([40.0, 90.0]), torch.tensor([50.0, 20.0])
    x = (raw - mean.view(1, 2, 1, 1)) / std.view(1, 2, 1, 1)
    light = Brightness((40.0, 90.0), (50.0, 20.0), 0, 255)(x)
    torch.testing.assert_close(light, raw / 255)


def test_brightness_without_a_mean_is_the_light_itself():
    x = torch.tensor([[[0.3, -0.1]]])
    assert torch.equal(Brightness()(x), x.clamp(min=0))
    assert torch.equal(Brightness((), (), 0, 255)(x), x.clamp(min=0))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LocalResponseNorm(0), "n must be at least 1; got 0"),
        (lambda: LocalContrastNorm(4), r"taps must be odd and sigma above 0; got 4 and 2\.0"),
        (lambda: LocalContrastNorm(2.5), r"taps must be odd and sigma above 0; got 2\.5 and 2\.0"),
        (lambda: LocalContrastNorm(3, 1, floor=-1), "floor must be at least 0; got -1"),
        (lambda: LocalResponseNorm(1.5), "n must be a whole number; got 1.5"),
        (lambda: Brightness((1, 2), (1,)), r"mean and std must be .* got \(1, 2\) and \(1,\)"),
        (lambda: LocalContrastNorm(9, 0.0), r"taps must be odd and sigma above 0; got 9 and 0\.0"),
        (lambda: Brightness((0.5,), (0.0,)), r"std must be above 0; got \(0\.0,\)"),
        (lambda: Brightness((0.5,), (-1.0,)), r"std must be above 0; got \(-1\.0,\)"),
        (lambda: Brightness((0.5,), (1.0,), 2.0, 2.0), r"white must differ from black 2\.0; got 2"),
    ],
)
def test_impossible_norms_are_refused_when_they_are_made(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("how", [((1, 2), (3, 4)), ((), (3, 4)), ((1, 2), ())])
def test_light_of_other_channels_is_named(how):
    assert Brightness(*how)(torch.ones(1, 2, 3)).shape == (1, 2, 3)
    with pytest.raises(ValueError, match=r"x must be \(N, 2, \*S\) for .* got \(1, 3, 4, 4\)"):
        Brightness(*how)(torch.ones(1, 3, 4, 4))


@pytest.mark.parametrize("floor", [None, 0.0, 0.1])
def test_darkness_has_a_gradient(floor):
    x = torch.zeros(2, 2, 9, 9, dtype=torch.float64)
    x[1, :, 5:] = torch.randn(2, 4, 9, dtype=torch.float64)  # the other sample stays dark
    x.requires_grad_()
    y = LocalContrastNorm(5, 1.0, floor=floor)(x)
    (y * torch.randn_like(y)).sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
