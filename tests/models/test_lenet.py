import torch

from striate.models import build
from striate.models.lenet import C3, Subsampling, codes


def test_the_layers_have_the_sizes_of_figure_2():
    net = build("lenet5")
    x, shapes = torch.zeros(1, 1, 32, 32), []
    for layer in net[0]:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[0] == (6, 28, 28)  # C1
    assert shapes[2] == (6, 14, 14)  # S2
    assert shapes[3] == (16, 10, 10)  # C3
    assert shapes[5] == (16, 5, 5)  # S4


def layers_of(net):
    counted = [m for m in net.modules() if list(m.parameters(recurse=False))]
    return [sum(p.numel() for p in m.parameters(recurse=False)) for m in counted]


def test_the_published_form_counts_60_000_layer_by_layer():
    """C-12."""
    assert layers_of(build("lenet5_1998")) == [156, 12, 1_516, 32, 48_120, 10_164]


def test_the_forms_in_between_count_layer_by_layer():
    """C-13: 61,706, 60,806, 60,850 and 60,840 in all."""
    assert layers_of(build("lenet5")) == [156, 2_416, 48_120, 10_164, 850]
    assert layers_of(build("lenet5", table=True)) == [156, 1_516, 48_120, 10_164, 850]
    linear = layers_of(build("lenet5_1998", outputs="linear"))
    assert linear == [156, 12, 1_516, 32, 48_120, 10_164, 850]
    assert layers_of(build("lenet5_1998", outputs="trained"))[-1] == 840


def test_the_net_of_1989_and_lenet_1_layer_by_layer():
    """C-10, C-11."""
    assert layers_of(build("lecun1989")) == [1_068, 2_592, 5_790, 310]
    assert layers_of(build("lenet1")) == [104, 8, 512, 24, 1_930]


def test_the_net_of_1989_looks_beyond_a_white_border():
    net = build("lecun1989")
    shapes, x = [], torch.full((1, 1, 16, 16), -1.0)
    for layer in net:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[1] == (12, 8, 8)
    assert shapes[3] == (12, 4, 4)
    first = net[0](torch.full((1, 1, 16, 16), -1.0))  # white paper: every place sees the same
    assert first.std((2, 3)).max() < 1e-6


def test_outputs_are_distances_to_bitmaps():
    centres = codes(10)
    assert centres.shape == (10, 84)
    assert set(centres.unique().tolist()) == {-1.0, 1.0}
    between = torch.cdist(centres, centres) + 1e3 * torch.eye(10)
    assert between.min() > 2  # no two characters are alike
    net = build("lenet5_1998")
    assert (net(torch.randn(2, 1, 32, 32)) <= 0).all()
    assert codes(26).shape == (26, 84)
    assert torch.equal(codes(26), codes(26))


def test_subsampling_is_a_sum_with_one_coefficient_and_bias_a_map():
    layer = Subsampling(2, 3)
    with torch.no_grad():
        layer.coefficient[1], layer.bias[1] = 2.0, 5.0
    x = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(layer(x)[0, 1, 0, 0], 2 * x[0, 1, :2, :2].sum() + 5)


def test_weights_are_drawn_by_the_inputs_of_their_own_map():
    c3 = build("lenet5_1998")[0][4]
    for row, maps in enumerate(C3):
        mine = c3.weight[c3.links[0] == row].abs()
        bound = 2.4 / (25 * len(maps)) ** 0.5
        assert 0.9 * bound < mine.max() <= bound
