"""Cells of the cortex: C-51 and B1."""

from math import pi

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.layers import (
    ComplexCells,
    SimpleCells,
    from_log_polar,
    gabor,
    hemifields,
    log_polar,
)

SIDE, WAVE = 31, 8.0


def grating(angle, phase):
    place = torch.arange(SIDE, dtype=torch.float64) - SIDE // 2
    turn = torch.tensor(angle * pi / 180, dtype=torch.float64)
    along = place[None] * turn.cos() + place[:, None] * turn.sin()
    return torch.cos(2 * pi * along / WAVE + phase)


def test_fields_have_no_mean_and_unit_norm():
    for angle in (0, 30, 90):
        for phase in (0, 90, 180, 270):
            field = gabor(SIDE, WAVE, angle, phase)
            assert abs(float(field.sum())) < 1e-12
            assert float(field.norm()) == pytest.approx(1)
    torch.testing.assert_close(gabor(SIDE, WAVE, 0, 180), -gabor(SIDE, WAVE, 0, 0))


def responses(angle, steps=64):
    phases = torch.arange(steps, dtype=torch.float64) * 2 * pi / steps
    x = torch.stack([grating(angle, phase) for phase in phases])[:, None]
    simple = SimpleCells(1, (WAVE,), SIDE).double()(x)
    middle = SIDE // 2
    return simple[:, 0, middle, middle], ComplexCells()(simple)[:, 0, middle, middle]


def modulation(line):
    spectrum = torch.fft.rfft(line)
    return float(2 * spectrum[1].abs() / spectrum[0].abs())


def test_a_drifting_grating_tells_simple_from_complex():
    simple, whole = responses(0)
    assert modulation(simple) == pytest.approx(pi / 2, abs=0.01)
    assert modulation(whole) <= 1e-6
    assert float(whole.std() / whole.mean()) < 1e-3


@pytest.mark.parametrize("wave", [4.0, 5.6, 8.0, 11.3])
def test_no_cell_answers_to_what_lies_across_at_any_angle(wave):
    """C-51, for the fields that SimpleCells chooses by itself."""
    cells = SimpleCells(8, (wave,)).double()
    middle = cells.bank.shape[-1] // 2
    place = torch.arange(2 * middle + 1, dtype=torch.float64) - middle
    for k in range(8):
        answers = []
        for angle in (180 * k / 8, 180 * k / 8 + 90):
            turn = torch.tensor(angle * pi / 180, dtype=torch.float64)
            along = place[None] * turn.cos() + place[:, None] * turn.sin()
            drift = torch.arange(4, dtype=torch.float64)[:, None, None] * (pi / 2)
            x = torch.cos(2 * pi * along / wave + drift)[:, None]
            answers.append(ComplexCells()(cells(x))[:, k, middle, middle].mean())
        assert answers[1] <= 0.01 * answers[0]


def test_the_depth_of_one_place_answers_edge_by_edge():
    """All maps look at the same region there, and each orientation has a map of its own."""
    cells = nn.Sequential(SimpleCells(8, (WAVE,), SIDE), ComplexCells()).double()
    middle = SIDE // 2
    depth = [cells(grating(180 * k / 8, 0.3)[None, None])[0, :, middle, middle] for k in range(8)]
    assert [int(answers.argmax()) for answers in depth] == list(range(8))


def test_orientation_is_tuned():
    energies = [float(responses(angle)[1].mean()) for angle in (0, 10, 20, 90)]
    assert energies[0] > energies[1] > energies[2] > energies[3]
    assert (energies[3] / energies[0]) ** 2 <= 0.01


def test_a_uniform_field_moves_nothing():
    simple = SimpleCells(4, (WAVE,), SIDE).double()(torch.ones(1, 1, 61, 61).double())
    assert simple.abs().max() < 1e-12  # at the border, too


def test_an_edge_can_hide_from_a_simple_cell_but_not_from_a_complex_one():
    x = torch.zeros(13, 1, SIDE, SIDE, dtype=torch.float64)
    for k, shift in enumerate(range(-6, 7)):
        x[k, :, :, SIDE // 2 + shift :] = 1
    simple = SimpleCells(1, (WAVE,), SIDE).double()(x)
    middle = SIDE // 2
    assert (simple[:, 0, middle, middle] <= 1e-12).any()
    whole = ComplexCells()(simple)[:, 0, middle, middle]
    assert float(whole.min() / whole.max()) > 0.2


def test_the_retina_is_mapped_and_back():
    z = torch.complex(torch.rand(100).double() * 40, torch.randn(100).double() * 20)
    assert (from_log_polar(log_polar(z, 0.5), 0.5) - z).abs().max() < 1e-9
    step = 1e-4
    sizes = [float(abs(log_polar(z + step, 0.5) - log_polar(z, 0.5))) for z in
             (torch.tensor(r, dtype=torch.complex128) for r in (1.0, 10.0, 100.0))]  # fmt: skip
    assert sizes[0] > sizes[1] > sizes[2]


def test_impossible_cells_are_said():
    with pytest.raises(ValueError, match="taps must be odd and wavelength above 0"):
        gabor(4, 8.0, 0)
    with pytest.raises(ValueError, match="simple must have 4 phases a cell; got 3 maps"):
        ComplexCells()(torch.zeros(1, 3, 4, 4))


def test_white_noise_finds_the_receptive_field():
    field = gabor(11, 5.0, 30.0)
    noise = torch.randn(20_000, 11, 11, generator=torch.Generator().manual_seed(0)).double()
    said = (noise * field).sum((1, 2)).clamp(min=0)
    average = (said[:, None, None] * noise).mean(0)
    assert F.cosine_similarity(average.flatten(), field.flatten(), dim=0) >= 0.95


def test_fields_of_neighbours_overlap_less_and_less_with_distance():
    envelope = F.pad(gabor(15, 6.0, 0.0).abs(), (0, 15))
    shared = [float((envelope * envelope.roll(step, 1)).sum()) for step in range(0, 12, 3)]
    assert shared == sorted(shared, reverse=True)
    assert shared[-1] < 0.2 * shared[0]


def test_each_hemisphere_sees_the_other_half_of_the_field():
    x = torch.zeros(1, 1, 4, 6)
    x[..., :3] = 1  # something on the left
    left, right = hemifields(x)
    assert left.sum() == 0
    assert right.sum() == x.sum()
    left, right = hemifields(torch.arange(5.0))
    assert (left.tolist(), right.tolist()) == ([2, 3, 4], [0, 1, 2])


def test_silence_has_a_gradient_and_energies_are_those_of_hypot():
    simple = torch.rand(2, 8, 5, 5, dtype=torch.float64)
    simple[:, :, 0] = 0
    simple[:, ::2, 1] = 0  # one of the two phases alone
    simple.requires_grad_()
    energy = ComplexCells()(simple)
    quarters = simple.detach().unflatten(1, (2, 4))
    even, odd = quarters[:, :, 0] - quarters[:, :, 2], quarters[:, :, 1] - quarters[:, :, 3]
    assert torch.equal(energy, torch.hypot(even, odd))
    energy.sum().backward()
    assert simple.grad.isfinite().all()
    assert not simple.grad[:, :, 0].any()
    assert simple.grad[:, 1::2, 1].all()


@pytest.mark.parametrize("shape", [(1, 1, 20), (1, 20, 20), (1, 3, 9, 9), (1, 1, 9, 9, 9)])
def test_what_is_no_grey_picture_is_named(shape):
    with pytest.raises(ValueError, match=r"x must be \(N, 1, H, W\), grey pictures; got ") as said:
        SimpleCells(2, (4.0,))(torch.zeros(shape))
    assert str(said.value).endswith(f"got {shape}")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: gabor(1, 4.0, 0.0), "a field that is not flat; got 1, 4.0, 0.0 and 0.0"),
        (lambda: gabor(9, 2.0, 0.0, 90.0), "a field that is not flat; got 9, 2.0, 0.0 and 90.0"),
        (lambda: SimpleCells(0), "orientations must be at least 1; got 0"),
        (lambda: SimpleCells(1.5), "orientations must be a whole number; got 1.5"),
        (lambda: SimpleCells(4, ()), r"wavelengths must be one or more; got \(\)"),
        (lambda: SimpleCells(4, taps=-1), "taps must be at least 0; got -1"),
        (lambda: SimpleCells(4, taps=4), "taps must be odd and wavelength above 0; got 4"),
    ],
)
def test_impossible_cells_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
