import torch

from striate.models import build


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
