"""Regions of interest: C-30, torchvision as the oracle where it is installed, the laws."""

import pytest
import torch

from striate.layers import RoIAlign, RoIPool, roi_align, roi_pool

FIGURE = torch.tensor(
    [
        [0.88, 0.44, 0.14, 0.16, 0.37, 0.77, 0.96, 0.27],
        [0.19, 0.45, 0.57, 0.16, 0.63, 0.29, 0.71, 0.70],
        [0.66, 0.26, 0.82, 0.64, 0.54, 0.73, 0.59, 0.26],
        [0.85, 0.34, 0.76, 0.84, 0.29, 0.75, 0.62, 0.25],
        [0.32, 0.74, 0.21, 0.39, 0.34, 0.03, 0.33, 0.48],
        [0.20, 0.14, 0.16, 0.13, 0.73, 0.65, 0.96, 0.32],
        [0.19, 0.69, 0.09, 0.86, 0.88, 0.07, 0.01, 0.48],
        [0.83, 0.24, 0.97, 0.04, 0.24, 0.35, 0.50, 0.91],
    ]
)[None, None]
BOX = torch.tensor([[0.0, 0, 3, 6, 7]])


@pytest.mark.parametrize(
    ("convention", "wanted"),
    [("disjoint", [[0.85, 0.84], [0.97, 0.96]]), ("overlap", [[0.85, 0.96], [0.97, 0.96]])],
)
def test_both_conventions_of_the_figure(convention, wanted):
    found = RoIPool((2, 2), convention=convention)(FIGURE, BOX)
    torch.testing.assert_close(found, torch.tensor([[wanted]]))


def boxes_in(generator, count, samples, width, height):
    x = torch.sort(torch.randint(width, (count, 2), generator=generator), 1)[0]
    y = torch.sort(torch.randint(height, (count, 2), generator=generator), 1)[0]
    sample = torch.randint(samples, (count, 1), generator=generator)
    return torch.cat([sample, x[:, :1], y[:, :1], x[:, 1:], y[:, 1:]], 1).float()


@pytest.mark.parametrize("seed", range(5))
def test_overlapping_bins_equal_torchvision(seed):
    ops = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 2, 14, 17, generator=generator)
    boxes = boxes_in(generator, 20, 3, 17, 14)
    for scale in (1.0, 0.5):
        pictured = torch.cat([boxes[:, :1], boxes[:, 1:] / scale], 1)
        wanted = ops.roi_pool(x, pictured, (3, 4), scale)
        torch.testing.assert_close(roi_pool(x, pictured, (3, 4), scale), wanted)


@pytest.mark.parametrize("seed", range(5))
def test_align_equals_torchvision(seed):
    ops = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 2, 14, 17, generator=generator)
    low = torch.rand(20, 2, generator=generator) * torch.tensor([12.0, 9.0])
    high = low + 0.5 + torch.rand(20, 2, generator=generator) * 4
    sample = torch.randint(3, (20, 1), generator=generator).float()
    boxes = torch.cat([sample, low, high], 1)
    wanted = ops.roi_align(x, boxes, (3, 4), 1.0, 2, aligned=True)
    torch.testing.assert_close(roi_align(x, boxes, (3, 4)), wanted, atol=1e-5, rtol=1e-5)


def test_the_gradient_reaches_the_largest_alone():
    x = FIGURE.double().requires_grad_()
    roi_pool(x, BOX, (2, 2), convention="disjoint").sum().backward()
    assert x.grad.sum() == 4
    assert (x.grad[0, 0] > 0).sum() == 4
    assert x.grad[0, 0, 7, 2] == 1


@pytest.mark.parametrize("convention", ["overlap", "disjoint"])
def test_of_equal_samples_the_first_gets_the_gradient(convention):
    x = torch.zeros(1, 2, 4, 6, requires_grad=True)
    box = torch.tensor([[0.0, 0, 0, 5, 3]])
    roi_pool(x, box, (2, 3), convention=convention).sum().backward()
    wanted = torch.zeros(4, 6)
    wanted[::2, ::2] = 1
    assert torch.equal(x.grad, wanted.expand(1, 2, 4, 6))


def test_at_ties_the_gradient_is_that_of_torchvision():
    ops = pytest.importorskip("torchvision.ops")
    x = torch.randint(-1, 2, (1, 3, 8, 9), generator=torch.Generator().manual_seed(0)).float()
    boxes, grads = torch.tensor([[0.0, 1, 0, 7, 6], [0, 0, 2, 8, 7]]), []
    for pool in (roi_pool, ops.roi_pool):
        each = x.clone().requires_grad_()
        pool(each, boxes, (3, 4)).square().sum().backward()
        grads.append(each.grad)
    assert torch.equal(*grads)


def test_gradients():
    x = torch.randn(1, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0, 1.0, 2, 6, 6]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, boxes, (2, 3)), x)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, boxes, (2, 3)), x)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([0, 0, 0, 9, 3], "must lie inside the map of 8 x 8"),
        ([0, -1, 0, 3, 3], "must lie inside"),
        ([0, 5, 0, 3, 3], "must lie inside"),
        ([0, -0.4, 0, 3, 3], "must lie inside .* no corner below 0"),
        ([0, 0, float("nan"), 3, 3], "must lie inside .* got .*nan"),
        ([0, 0, 0, float("inf"), 3], "must lie inside .* got .*inf"),
        ([1, 0, 0, 3, 3], "must name samples 0 to 0; got 1 in"),
        ([0.9, 0, 0, 3, 3], "must name samples 0 to 0; got 0.9 in"),
        ([-0.5, 0, 0, 3, 3], "must name samples 0 to 0; got -0.5 in"),
        ([float("nan"), 0, 0, 3, 3], "must name samples 0 to 0; got nan in"),
    ],
)
def test_boxes_outside_are_said(box, said):
    for layer in (RoIPool((2, 2)), RoIAlign((2, 2))):
        with pytest.raises(ValueError, match=said):
            layer(FIGURE, torch.tensor([box]).float())


@pytest.mark.parametrize("kind", [RoIPool, RoIAlign])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"scale": 0}, "scale must be above 0 and finite; got 0"),
        ({"scale": float("nan")}, "scale must be above 0 and finite; got nan"),
        ({"scale": float("inf")}, "scale must be above 0 and finite; got inf"),
        ({"size": (2, 2, 2)}, r"size must be \(bins .* got \(2, 2, 2\)"),
        ({"size": 2}, r"size must be \(bins .* got 2"),
        ({"size": (2.5, 2)}, r"size must be whole numbers; got \(2.5, 2\)"),
        ({"size": (2, 0)}, r"size must be at least 1; got \(2, 0\)"),
    ],
)
def test_impossible_bins_are_named(kind, how, said):
    with pytest.raises(ValueError, match=said):
        kind(**{"size": (2, 2), **how})
    with pytest.raises(ValueError, match=said):
        {RoIPool: roi_pool, RoIAlign: roi_align}[kind](FIGURE, BOX, **{"size": (2, 2), **how})


def test_layers_of_unknown_ways_are_refused():
    with pytest.raises(ValueError, match="convention must be one of overlap, disjoint; got 'x'"):
        RoIPool((2, 2), 1.0, "x")
    with pytest.raises(ValueError, match="points must be at least 1; got 0"):
        RoIAlign((2, 2), 1.0, 0)
    with pytest.raises(ValueError, match=r"points must be a whole number; got 1\.5"):
        RoIAlign((2, 2), 1.0, 1.5)


def test_maps_and_boxes_of_another_kind_are_named():
    for layer in (RoIPool((2, 2)), RoIAlign((2, 2))):
        with pytest.raises(ValueError, match=r"boxes must be a tensor \(R, 5\), .* got list"):
            layer(FIGURE, [BOX[:, 1:]])
    with pytest.raises(ValueError, match=r"x must hold floating point numbers; got torch\.int64"):
        roi_align(FIGURE.long(), BOX, (2, 2))
    assert roi_pool(FIGURE.long(), BOX, (2, 2)).dtype == torch.int64  # a maximum is exact


def test_align_is_as_exact_as_the_numbers_of_the_map():
    x = torch.arange(9.0, dtype=torch.float64).expand(1, 1, 9, 9)  # its value is its column
    boxes = torch.tensor([[0, 1.0, 1, 8, 8]], dtype=torch.float64)
    wanted = 1 + 7 * (torch.arange(3, dtype=torch.float64) + 0.5) / 3 - 0.5
    found = roi_align(x, boxes, (1, 3))[0, 0, 0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_align_of_half_numbers_is_as_exact_as_they_can_be_stored(kind):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 60, 60, generator=generator).to(kind)
    low = torch.rand(20, 2, generator=generator, dtype=torch.float64) * 40
    boxes = torch.cat([torch.zeros(20, 1), low, low + 17.3], 1)
    exact = roi_align(x.double(), boxes, (3, 4), 0.93)
    error = (roi_align(x, boxes.float(), (3, 4), 0.93).double() - exact).abs()
    assert (error <= torch.finfo(kind).eps * exact.abs() + 1e-5).all()


def test_too_few_samples_for_disjoint_bins_are_said():
    with pytest.raises(ValueError, match="2 samples cannot be cut into 3 disjoint bins"):
        roi_pool(FIGURE, torch.tensor([[0.0, 0, 0, 1, 7]]), (2, 3), convention="disjoint")
    with pytest.raises(ValueError, match="convention must be one of overlap, disjoint"):
        roi_pool(FIGURE, BOX, (2, 2), convention="caffe")


def test_no_boxes_give_no_regions():
    assert roi_pool(FIGURE, torch.zeros(0, 5), (2, 3)).shape == (0, 1, 2, 3)
    assert roi_align(FIGURE, torch.zeros(0, 5), (2, 3)).shape == (0, 1, 2, 3)
