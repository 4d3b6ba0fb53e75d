import pytest
import torch
from torch import nn

from striate.layers import LpPool, avg_pool, batch_norm, conv, max_pool, measured_shape


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_predicted_shape_equals_executed_shape(axes):
    net = nn.Sequential(
        conv(axes, 2, 5, 3, stride=2, pad=1), batch_norm(axes, 5), max_pool(axes, 2),
        avg_pool(axes, 2), nn.Flatten(),
    )  # fmt: skip
    size = (19, 17, 16)[:axes]
    assert measured_shape(net, 2, size) == tuple(net(torch.zeros(2, 2, *size)).shape[1:])


def test_asking_for_a_shape_leaves_the_network_alone():
    net = nn.Sequential(conv(2, 1, 3, 3), batch_norm(2, 3)).train()
    measured_shape(net, 1, (8, 8))
    assert net.training
    assert next(net.parameters()).device.type == "cpu"
    assert net[1].num_batches_tracked == 0


def test_a_kernel_larger_than_the_sample_is_refused():
    with pytest.raises(ValueError, match=r"1 x 4 x 4 is too small"):
        measured_shape(conv(2, 1, 1, 5), 1, (4, 4))


def test_torch_own_classes_come_back():
    assert type(conv(3, 1, 1, 1)) is nn.Conv3d
    assert type(max_pool(1, 2)) is nn.MaxPool1d


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: conv(4, 1, 1, 3), "axes must be 1 to 3; got 4"),
        (lambda: batch_norm(0, 1), "axes must be 1 to 3; got 0"),
        (lambda: max_pool(4, 2), "axes must be 1 to 3; got 4"),
        (lambda: avg_pool(4, 2), "axes must be 1 to 3; got 4"),
        (lambda: conv(2, -1, 1, 3), "channels must be at least 1; got -1"),
        (lambda: conv(2, 1, 0, 3), "out must be at least 1; got 0"),
        (lambda: conv(2, 1, 1, 0), "kernel must be at least 1; got 0"),
        (lambda: conv(2, 1, 1, 3, stride=0), "stride must be at least 1; got 0"),
        (lambda: conv(2, 1, 1, 3, pad=-1), "pad must be at least 0; got -1"),
        (lambda: conv(2, 1, 1, 3, groups=0), "groups must be at least 1; got 0"),
        (lambda: conv(2, 3, 4, 3, groups=2), "groups must divide channels and out; got 2, 3, 4"),
        (lambda: batch_norm(2, 0), "channels must be at least 1; got 0"),
        (lambda: max_pool(2, 0), "kernel must be at least 1; got 0"),
        (lambda: max_pool(2, (2, 0)), r"kernel must be at least 1; got \(2, 0\)"),
        (lambda: max_pool(2, (2,)), r"kernel must be .* one for each of 2 axes; got \(2,\)"),
        (lambda: max_pool(2, 2, (1, 2, 3)), r"stride must be .* 2 axes; got \(1, 2, 3\)"),
        (lambda: max_pool(2, (2, 4), 2, (1, 3)), r"half of the kernel \(2, 4\); got \(1, 3\)"),
        (lambda: max_pool(2, None), "kernel must be a whole number; got None"),
        (lambda: avg_pool(2, 2, (1, 2, 3)), r"stride must be .* 2 axes; got \(1, 2, 3\)"),
        (lambda: conv(2, 1, 1, 2.5), "kernel must be a whole number; got 2.5"),
        (lambda: max_pool(2, 2, 0), "stride must be at least 1; got 0"),
        (lambda: max_pool(2, 2, 1, -1), "pad must be at least 0; got -1"),
        (lambda: max_pool(2, 3, 1, 2), "pad must be at most half of the kernel 3; got 2"),
        (lambda: avg_pool(2, -2), "kernel must be at least 1; got -2"),
        (lambda: avg_pool(2, 2, 0), "stride must be at least 1; got 0"),
    ],
)
def test_impossible_arguments_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_the_layer_that_a_sample_is_too_small_for_is_named():
    net = nn.Sequential(conv(2, 1, 6, 5, pad=2), max_pool(2, 2), conv(2, 6, 16, 5))
    assert measured_shape(net, 1, (10, 11)) == (16, 1, 1)
    said = (
        r"a sample of 1 x 4 x 11 is too small: layer '2', Conv2d\(6, 16, kernel_size=\(5, 5\), .*, "
        "gets maps of 2 x 5; enlarge every side to at least 10"
    )
    with pytest.raises(ValueError, match=said):
        measured_shape(net, 1, (4, 11))


def test_a_sample_that_no_size_would_save_is_told_why():
    said = "a sample of 3 x 9 x 9 does not pass: layer '', Conv2d.* gets maps of 9 x 9: .*channels"
    with pytest.raises(ValueError, match=said):
        measured_shape(conv(2, 1, 6, 5), 3, (9, 9))


@pytest.mark.parametrize("size", [(8,), (8, 6), (4, 6, 2)])
@pytest.mark.parametrize(
    "make",
    [lambda a: max_pool(a, 2), lambda a: avg_pool(a, 2), lambda a: LpPool(2, 2)],
    ids=["max", "average", "norm"],
)
def test_pooling_by_2_keeps_a_half_along_every_axis_and_all_maps(make, size):
    """C-08: a quarter on two axes."""
    x = torch.rand(2, 3, *size)
    y = make(len(size))(x)
    assert y.shape[:2] == (2, 3)
    assert y.numel() * 2 ** len(size) == x.numel()


def test_maximum_and_average_of_1_2_3_4():
    """C-29."""
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert max_pool(2, 2)(x).item() == 4
    assert avg_pool(2, 2)(x).item() == 2.5


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_batch_is_normalised_map_by_map(axes):
    """Mean 0 and variance 1 of a map over all samples and places, then its weight and bias."""
    norm, x = batch_norm(axes, 3).double(), 5 + 2 * torch.randn(8, 3, *[4] * axes).double()
    y = norm(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(3).double())
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)
    still = norm.eval()(x)
    torch.testing.assert_close(norm(x[:1]), still[:1])  # of what was learnt, not of the batch


def test_numbers_are_for_all_axes_or_one_an_axis():
    x = torch.randn(1, 2, 9, 8)
    for listed, plain in (
        (max_pool(2, [2, 2]), max_pool(2, 2)),
        (max_pool(2, [2, 4], [1, 2], [1, 2]), nn.MaxPool2d((2, 4), (1, 2), (1, 2))),
        (avg_pool(2, [2, 3], (1, 2)), nn.AvgPool2d((2, 3), (1, 2))),
    ):
        assert torch.equal(listed(x), plain(x))
    assert str(max_pool(2, 2)) == str(nn.MaxPool2d(2))
    assert str(conv(2, 1, 1, (1, 3), pad=(0, 1))) == str(nn.Conv2d(1, 1, (1, 3), padding=(0, 1)))
