"""MaxPool2d and MaxPool3d are torch's to the bit, keep less, and know the second derivative."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.layers import MaxPool2d, MaxPool3d
from striate.layers import pool as pool_module

TORCH = {MaxPool2d: nn.MaxPool2d, MaxPool3d: nn.MaxPool3d}


def both(own, x, *how, **more):
    """Values and gradients of ours and of torch's."""
    results = []
    for layer in (own(*how, **more), TORCH[own](*how, **more)):
        leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        y = layer(leaf)
        torch.manual_seed(1)
        y.backward(torch.randn(y.shape).to(y.dtype))
        results.append((y, leaf.grad))
    return results


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(4, 9), st.integers(4, 9)),
    kernel=st.sampled_from([1, 2, 3, (2, 3)]),
    stride=st.sampled_from([None, 1, 2]),
    pad=st.sampled_from([0, 1]),
    ceil=st.booleans(),
    half=st.booleans(),
    last=st.booleans(),
)
def test_two_axes_equal_torch_to_the_bit(shape, kernel, stride, pad, ceil, half, last):
    x = torch.randint(-3, 4, shape).float()  # whole numbers: many ties
    x = x.bfloat16() if half else x
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    pad = 0 if kernel == 1 else pad
    (y, dx), (wanted, dwanted) = both(MaxPool2d, x, kernel, stride, pad, ceil_mode=ceil)
    assert torch.equal(y, wanted)
    assert torch.equal(dx, dwanted)
    assert y.stride() == wanted.stride() or 1 in y.shape


def test_three_axes_and_dilation_equal_torch_to_the_bit():
    x = torch.randn(3, 2, 7, 8, 9)
    for how in ((2,), (3, 2, 1), (2, 1, 0, 2)):
        for own, wanted in zip(*both(MaxPool3d, x, *how), strict=True):
            assert torch.equal(own, wanted)


def test_pieces_and_long_maps_change_nothing(monkeypatch):
    x = torch.randn(7, 2, 200, 200)  # 40,000 places: more than two bytes count
    monkeypatch.setattr(pool_module, "AT_ONCE", 2 * x[0].numel())
    for own, wanted in zip(*both(MaxPool2d, x, 2), strict=True):
        assert torch.equal(own, wanted)


def test_a_third_is_kept_for_the_backward_pass():
    x = torch.randn(4, 8, 32, 32, dtype=torch.bfloat16, requires_grad=True)

    def kept(layer):
        sizes = []

        def note(tensor):
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            layer(x)
        return sum(sizes)

    assert 3 * kept(MaxPool2d(2)) < kept(nn.MaxPool2d(2))


def test_derivatives_of_first_and_second_order():
    x = torch.randn(2, 2, 5, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(MaxPool2d(2), x)
    assert torch.autograd.gradgradcheck(MaxPool2d(2), x)


def test_nan_is_passed_on():
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    with torch.no_grad():
        x[0, 0, 1, 1] = torch.nan
    assert MaxPool2d(2)(x).isnan().tolist() == [[[[True, False], [False, False]]]]


@pytest.mark.parametrize("how", [([2, 2],), ((2,),), ([2, 3], [1, 2], [1, 0])])
def test_numbers_in_lists_and_of_one_are_torchs(how):
    for own, wanted in zip(*both(MaxPool2d, torch.randn(2, 3, 7, 8), *how), strict=True):
        assert torch.equal(own, wanted)


@pytest.mark.parametrize("x", [torch.randn(2, 6, 6), torch.randn(0, 2, 6, 6)])
def test_no_batch_and_an_empty_batch_are_torchs_own(x):
    assert torch.equal(MaxPool2d(2)(x.requires_grad_()), F.max_pool2d(x, 2))


def test_maps_of_no_channel_are_refused_in_torchs_words():
    with pytest.raises(RuntimeError, match="Expected 3D or 4D"):
        MaxPool2d(2)(torch.randn(1, 0, 4, 4, requires_grad=True))


def test_indices_are_returned_where_asked_for():
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    for own, wanted in zip(
        MaxPool2d(2, return_indices=True)(x), nn.MaxPool2d(2, return_indices=True)(x), strict=True
    ):
        assert torch.equal(own, wanted)
