"""C-07, and that what is measured is what the arithmetic of a stack says, on any graph."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from striate.analysis.profiler import profile
from striate.analysis.receptive import receptive_fields, units
from striate.layers import stack_receptive_field
from striate.models import build


def fields(model, *shape):
    return receptive_fields(model, torch.rand(1, *shape))


def by_name(model, *shape):
    names = [name for name, _ in units(model)]
    return dict(zip(names, fields(model, *shape), strict=True))


def test_lenet5():
    """C-07."""
    found = [field.size[0] for field in fields(build("lenet5"), 1, 32, 32)]
    assert list(dict.fromkeys(found)) == [5, 6, 14, 16, 32]


def test_three_small_kernels_see_what_a_large_one_sees():
    """C-07."""
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(3)])
    assert [field.size for field in fields(net, 1, 16, 12)] == [(3, 3), (5, 5), (7, 7)]


def test_dilation():
    """C-06."""
    net = nn.Sequential(*[nn.Conv1d(1, 1, 3, dilation=d) for d in (1, 2, 4)])
    assert [field.size for field in fields(net, 1, 40)] == [(3,), (7,), (15,)]


layer = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))


@settings(max_examples=25, deadline=None)
@given(st.lists(layer, min_size=1, max_size=4), st.integers(0, 2), st.integers(40, 61))
@example([(2, 3, 1), (2, 2, 1), (2, 1, 2), (3, 1, 2)], 1, 40)  # 41 samples of 40
def test_stacks_measure_what_the_formula_says(stack, padding, size):
    sizes, layers = [size], []
    for k, s, d in stack:
        border = min(padding, d * (k - 1) // 2)
        layers.append(nn.Conv1d(1, 1, k, s, border, d))
        sizes.append((sizes[-1] + 2 * border - d * (k - 1) - 1) // s + 1)
    if min(sizes) < 2:
        return
    jump = 1
    wanted = stack_receptive_field(stack)
    for field, want, (_, stride, _), after in zip(
        fields(nn.Sequential(*layers), 1, size), wanted, stack, sizes[1:], strict=True
    ):
        jump *= stride
        assert field.jump in ((jump,), (None,))  # hidden by the borders, it may be unknown
        if after < 4:  # perhaps no position sees with all of its taps
            continue
        if want + jump > size:  # perhaps no border shows the end of it
            assert field.size[0] <= max(want, size)
        else:
            assert field.size == (want,)


def test_branches_see_the_most_that_one_of_them_sees():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.small, self.large = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 7, padding=3)
            self.after = nn.ReLU()

        def forward(self, x):
            return self.after(self.small(x) + self.large(x))

    found = by_name(Sum(), 1, 20, 20)
    assert [found[name].size[0] for name in ("small", "large", "after")] == [3, 7, 7]


def test_axes_are_told_apart():
    net = nn.Sequential(nn.Conv2d(1, 1, (3, 5)), nn.MaxPool2d((2, 1)))
    first, second = fields(net, 1, 20, 20)
    assert (first.size, first.jump) == ((3, 5), (1, 1))
    assert (second.size, second.jump) == ((4, 5), (2, 1))


def test_a_padded_stack_is_seen_whole_where_a_side_shows_it():
    net = nn.Sequential(*[nn.Conv1d(1, 1, 3, padding=1) for _ in range(3)])
    assert [field.size[0] for field in fields(net, 1, 5)] == [3, 5, 7]


@pytest.mark.parametrize(
    ("name", "layer", "jump"),
    [
        ("resnet20", "blocks.7.residual.0", 4),
        ("fastnet", "groups.2.same.0.0", 8),
        ("neocognitron1980", "simple.2", 4),
    ],
)
def test_a_field_as_large_as_the_input_keeps_its_jump(name, layer, jump):
    """A044: strides multiplied, though both borders cut off what every position sees."""
    rows = {row.name: row for row in profile(build(name)).layers}
    assert rows[layer].jump == (jump, jump)


def test_samples_that_nobody_sees_cut_off_nothing_else():
    net = nn.Sequential(nn.Conv1d(1, 1, 3, 2), nn.Conv1d(1, 1, 25, padding=12))  # 31 is unseen
    assert [(field.size, field.jump) for field in fields(net, 1, 32)] == [
        ((3,), (2,)), ((51,), (2,)),
    ]  # fmt: skip


def test_a_jump_that_no_input_shows_is_unknown():
    """Two positions of halves, however long the input; the borders might hide some of each."""
    field = fields(nn.AdaptiveAvgPool1d(2), 1, 8)[0]
    assert (field.size, field.jump) == ((4,), (None,))


def test_a_model_that_takes_one_size_alone_shows_the_jump_until_it_fails():
    net = nn.Sequential(
        nn.MaxPool1d(4), nn.Conv1d(1, 1, 9, padding=4), nn.Flatten(), nn.Linear(4, 2)
    )
    assert [field.jump for field in fields(net, 1, 16)] == [(4,), (4,), (0,), (0,)]


def test_a_network_that_adds_an_axis_keeps_its_fields():
    rows = profile(build("tdnn2d")).layers
    first, second = (row for row in rows if row.kind == "Conv2d")
    assert (first.receptive_field, first.jump) == ((3,), (1,))
    assert (second.receptive_field, second.jump) == ((7,), (1,))
    assert (rows[-1].receptive_field, rows[-1].jump) == ((15,), (0,))
    rows = {row.name: row for row in profile(build("eegnet")).layers}
    assert (rows["temporal.1"].receptive_field, rows["temporal.1"].jump) == ((64,), (1,))
    assert (rows["first.2"].receptive_field, rows["first.2"].jump) == ((67,), (4,))


def test_a_recurrent_layer_sees_along_time_and_not_along_its_features():
    class Recurrent(nn.Module):
        def __init__(self, both):
            super().__init__()
            self.before = nn.Conv1d(3, 4, 5, stride=2)
            self.over = nn.GRU(4, 6, batch_first=True, bidirectional=both)

        def forward(self, x):
            return self.over(self.before(x).transpose(1, 2))[0]

    for both in (False, True):
        before, over = fields(Recurrent(both), 3, 24)
        assert (before.size, before.jump) == ((5,), (2,))
        assert (over.size, over.jump) == ((24,), (2,))


def test_channels_that_see_nothing_are_no_positions():
    class Wider(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(1, 2, 31, padding=15)
            self.wider = nn.ZeroPad3d((0, 0, 0, 0, 0, 3))  # three channels of zeros

        def forward(self, x):
            return self.wider(self.inner(x))

    assert [field.size for field in fields(Wider(), 1, 8, 8)] == [(8, 8)] * 2


def test_turned_axes_are_followed():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(1, 1, (3, 1), stride=(2, 1))

        def forward(self, x):
            return self.inner(x.transpose(2, 3))

    field = fields(Turned(), 1, 12, 9)[0]
    assert (field.size, field.jump) == ((1, 3), (1, 2))


@pytest.mark.parametrize("shape", [(1, 12), (1, 12, 9)])
def test_positions_in_a_row_have_no_field(shape):
    class Row(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = (nn.Conv1d, nn.Conv2d)[len(shape) - 2](1, 6, 3)
            self.row = nn.Identity()

        def forward(self, x):
            return self.row(self.maps(x).flatten(1)[:, :, None].expand(-1, -1, 2))

    maps, row = fields(Row(), *shape)
    assert set(maps.size) == {3}
    assert row is None
    found = profile(Row(), shape).layers[1]
    assert found.receptive_field is found.jump is None


def test_flattened_layers_see_everything():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 4))
    assert [field.size for field in fields(net, 1, 8, 8)] == [(3, 3), (8, 8), (8, 8)]
    assert fields(net, 1, 8, 8)[-1].jump == (0, 0)


def test_upsampling_halves_the_jump():
    net = nn.Sequential(nn.MaxPool1d(2), nn.Upsample(scale_factor=2))
    assert [field.jump for field in fields(net, 1, 16)] == [(2,), (1,)]


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(nn.Conv1d(1, 1, 3), nn.Dropout())
    net[0].eval()
    before = [module.training for module in net.modules()]
    fields(net, 1, 9)
    assert [module.training for module in net.modules()] == before
    assert not any(module._forward_hooks for module in net.modules())


def test_a_model_that_gives_nan_is_refused():
    class Bad(nn.Module):
        def forward(self, x):
            return x / 0 * 0

    with pytest.raises(ValueError, match="gives NaN for a finite sample"):
        fields(Bad(), 1, 4)
