from torch import nn

from striate.analysis.diagram import blocks, diagram
from striate.analysis.profiler import profile

NET = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)
)


def test_layers_of_one_shape_are_one_block():
    found = blocks(profile(NET, (1, 8, 8), fields=False).layers)
    assert [block.shape for block in found] == [(4, 8, 8), (4, 4, 4), (64,), (3,)]
    assert found[0].kinds == ("Conv2d", "ReLU")
    assert [block.parameters for block in found] == [40, 0, 0, 195]


def test_a_picture_has_a_box_a_block_and_the_input():
    measured = profile(NET, (1, 8, 8), fields=False)
    picture = diagram(measured, (1, 8, 8))
    assert picture.count("<rect") == 5
    assert "Conv2d" in picture
    assert 'aria-label="Sequential: 235 parameters, 5 layers"' in picture


def test_of_many_blocks_the_middle_is_left_out():
    deep = nn.Sequential(*[nn.Conv1d(1, 1, 2) for _ in range(40)])
    picture = diagram(profile(deep, (1, 64), fields=False), (1, 64))
    assert "..." in picture
    assert picture.count("<rect") == 16
