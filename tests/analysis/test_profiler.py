"""Published counts read off the modules; MACs by hand; a table that says it all."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from striate import accelerate, analysis
from striate.analysis import profiler
from striate.kernels import accelerated, reason
from striate.kernels.dispatch import NAMES
from striate.models import MODELS, build, published
from striate.spec import Spec


@pytest.mark.parametrize(
    ("name", "connections"),
    [("lecun1989", 64_660), ("lenet5_1998", 340_908), ("lenet1", 98_442)],
)
def test_published_connections(name, connections):
    """C-10, C-12."""
    assert analysis.profile(build(name), fields=False).connections == connections


def test_layers_of_the_zip_code_net():
    """C-10."""
    found = analysis.profile(build("lecun1989"), fields=False)
    counted = [(row.parameters, row.connections) for row in found.layers if row.parameters]
    assert counted == [(1_068, 19_968), (2_592, 38_592), (5_790, 5_790), (310, 310)]
    assert found.parameters == 9_760


def test_layers_of_lenet5():
    """C-12."""
    found = analysis.profile(build("lenet5_1998"), fields=False)
    rows = {row.connections: row.parameters for row in found.layers if row.connections}
    assert rows == {
        122_304: 156, 5_880: 12, 151_600: 1_516, 2_000: 32, 48_120: 48_120, 10_164: 10_164, 840: 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_have_all_parameters_of_the_whole_and_its_links(name, monkeypatch):
    monkeypatch.setattr("striate.analysis.profiler.REPEATS", 1)
    spec = published(name)
    smaller = tuple(s if s <= 128 else s // 2 for s in spec.size)
    net = build(name, spec.model_copy(update={"size": smaller}))
    found = analysis.profile(net, fields=False)
    assert sum(row.parameters for row in found.layers) == found.parameters
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert sum(row.macs for row in found.layers) <= found.macs  # the rest stands between them
    unlinked = {row.kind for row in found.layers if row.parameters and not row.connections}
    assert unlinked <= {"BatchNorm1d", "BatchNorm2d", "Embedding"}


def test_layers_that_only_training_runs_count_in_the_whole_alone():
    spec = Spec(channels=1, size=(96, 96), classes=("a", "b"))
    plain, helped = (
        analysis.profile(build("googlenet", spec, aux=aux), fields=False) for aux in (False, True)
    )
    assert helped.parameters > plain.parameters
    assert sum(row.parameters for row in helped.layers) == plain.parameters


def test_links_of_layers_that_hold_their_norms():
    found = analysis.profile(build("eegnet"), fields=False)
    rows = {row.name: (row.parameters, row.connections) for row in found.layers}
    assert rows["spatial"] == (16 * 64, 16 * 64 * 128)
    assert rows["head"] == (64 * 4 + 4, 260)


def test_links_of_a_deconvolution():
    spec = Spec(channels=1, size=(100,))
    found = analysis.profile(build("emg1988", spec, units=3, taps=8, steps=5), fields=False)
    matched, thresholds = 3 * 100 * 8, 3 * 100
    assert found.connections == matched + thresholds + 5 * 2 * matched


def test_parameters_beside_parts_have_a_row_and_count_nothing_twice():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv1d(1, 2, 3, padding=1, bias=False)
            self.bias = nn.Parameter(torch.zeros(2, 1))

        def forward(self, x):
            return self.inner(x) + self.bias

    inner, whole = analysis.profile(nn.Sequential(Shifted()), (1, 8)).layers
    assert (inner.name, inner.parameters, inner.connections, inner.macs) == ("0.inner", 6, 48, 48)
    assert (whole.name, whole.parameters, whole.connections, whole.macs) == ("0", 2, 16, 0)
    assert whole.receptive_field == (3,)
    assert whole.seconds >= 0


def test_macs_and_shapes_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5))
    found = analysis.profile(net, (3, 8, 8))
    conv, _, _, linear = found.layers
    assert (conv.shape, conv.macs) == ((8, 3, 3), 9 * 8 * 27)
    assert conv.connections == 9 * 8 * 28
    assert (linear.shape, linear.macs, linear.connections) == ((5,), 360, 365)
    assert found.macs == conv.macs + linear.macs
    assert (conv.receptive_field, conv.jump) == ((3, 3), (2, 2))
    assert all(row.seconds >= 0 for row in found.layers)


def test_products_between_layers_are_counted_too():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 6))
            self.after = nn.ReLU()

        def forward(self, x):
            return self.after(x.flatten(1) @ self.weight.T)

    found = analysis.profile(Product(), (1, 6))
    assert (found.macs, found.parameters) == (24, 24)


def test_grouped_and_transposed_connections():
    net = nn.Sequential(
        nn.Conv1d(4, 8, 3, groups=2, bias=False), nn.ConvTranspose1d(8, 2, 4, stride=2)
    )
    first, second = analysis.profile(net, (4, 10)).layers
    assert first.connections == 8 * 8 * 2 * 3
    assert second.connections == 8 * 8 * 2 * 4 + 2 * 18


def test_shared_layers_run_twice_and_weigh_once():
    one = nn.Conv1d(2, 2, 3, padding=1)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = one

        def forward(self, x):
            return self.one(self.one(x))

    rows = analysis.profile(Twice(), (2, 8)).layers
    assert [row.parameters for row in rows] == [14, 0]
    assert [row.receptive_field for row in rows] == [(3,), (5,)]


@pytest.mark.parametrize(("bias", "count"), [(False, 25), (True, 26)])
@pytest.mark.parametrize("size", [(28, 28), (96, 96), (64, 31)])
def test_counts_do_not_depend_on_the_sample_of_a_convolution(size, bias, count):
    """C-05."""
    found = analysis.profile(nn.Conv2d(1, 1, 5, bias=bias), (1, *size), fields=False)
    assert found.parameters == count
    assert found.connections == count * (size[0] - 4) * (size[1] - 4)


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ((1, 100, 100), 10_000),
        ((3, 32, 32), 3_072),
        ((3, 200, 200), 120_000),
        ((3, 1000, 1000), 3_000_000),
    ],
)
def test_a_fully_connected_neuron(shape, weights):
    """C-04, C-80: three million weights are those of one neuron."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(weights, 1))
    assert analysis.profile(net, shape, fields=False).connections == weights + 1


def test_json_and_table():
    found = analysis.profile(build("lenet5"))
    row = found.to_json()["layers"][0]
    assert set(row) == {
        *("name", "kind", "shape", "parameters", "connections", "macs"),
        *("receptive_field", "jump", "kernel", "seconds"),
    }
    text = str(found)
    assert "61,706" in text
    assert text.splitlines()[0].split()[:3] == ["layer", "kind", "shape"]


def test_a_jump_that_cannot_be_told_is_a_question_mark():
    text = str(analysis.profile(nn.AdaptiveAvgPool1d(2), (1, 8)))
    assert re.search(r"  4 +\?  ", text.splitlines()[1])


def test_layers_may_be_called_by_keyword():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return self.c(input=x)

    plain, named = (
        analysis.profile(net, (1, 8, 8)).layers[0] for net in (nn.Conv2d(1, 2, 3), Named())
    )
    assert replace(named, name="", seconds=0) == replace(plain, name="", seconds=0)


@pytest.mark.parametrize("wrap", [lambda y: {"y": y}, lambda y: [None, {"y": (y,)}]])
def test_a_layer_may_give_its_answer_in_a_dict(wrap):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return wrap(x + self.shift)

    row = analysis.profile(Wrapped(), (3, 8)).layers[0]
    assert (row.shape, row.parameters, row.receptive_field) == ((3, 8), 1, (1,))


def test_a_layer_that_gives_no_tensor_is_named():
    class Empty(nn.Module):
        def forward(self, x):
            return "done"

    with pytest.raises(ValueError, match=r"layer 1 must give a tensor, or some .* got str"):
        analysis.profile(nn.Sequential(nn.ReLU(), Empty()), (3, 8))


@pytest.mark.parametrize("shape", ["3x8x8", (3, "8"), 3, (3, 8.0)])
def test_a_shape_that_is_no_shape_is_refused(shape):
    with pytest.raises(TypeError, match=r"must be a Spec or \(C, \*S\), whole numbers; got"):
        analysis.profile(nn.Conv2d(3, 1, 3), shape)


class Series(nn.Module):
    """Give a layer (N, T, C)."""

    def __init__(self, layer, inputs=1):
        super().__init__()
        self.layer, self.inputs = layer, inputs

    def forward(self, x):
        return self.layer(*[x.transpose(1, 2)] * self.inputs)[0]


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_links_of_recurrent_layers(kind, gates):
    """By hand: 10 steps, each gate 6 units of 8 inputs, 6 feedbacks and two biases."""
    net = Series(kind(8, 6, batch_first=True))
    found = analysis.profile(net, (8, 10), fields=False)
    assert found.connections == 10 * gates * 6 * (8 + 6 + 2) == 10 * found.parameters
    assert found.macs == found.layers[0].macs == 10 * gates * 6 * (8 + 6)
    both = Series(kind(8, 6, 2, batch_first=True, bidirectional=True, bias=False))
    twice = analysis.profile(both, (8, 10), fields=False)
    assert twice.connections == twice.macs == 10 * 2 * gates * 6 * (8 + 6 + 12 + 6)


def test_links_of_attention():
    """By hand: 10 positions, four projections of 8 by 8 with biases; then 10 x 10 pairs, twice."""
    net = Series(nn.MultiheadAttention(8, 2, batch_first=True), 3)
    found = analysis.profile(net, (8, 10), fields=False)
    (row,) = found.layers
    assert row.parameters == found.parameters == 4 * (8 * 8 + 8)
    assert row.connections == found.connections == 10 * 4 * (8 * 8 + 8)
    assert row.macs == found.macs == 10 * 4 * 8 * 8 + 2 * 10 * 10 * 8


def test_layers_whose_links_nobody_knows_are_named():
    class Secret(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(8, 8))

        def forward(self, x):
            return x @ self.w

    found = analysis.profile(nn.Sequential(nn.BatchNorm1d(3), Secret()), (3, 8), fields=False)
    assert found.uncounted() == ["1"]
    assert "connections are not known, and counted as 0, of 1; " in str(found)
    assert "not known" not in str(analysis.profile(build("lenet1"), fields=False))


def test_a_model_of_its_own_needs_a_sample():
    with pytest.raises(ValueError, match=r"must be a Spec or \(C, \*S\) for a model"):
        analysis.profile(nn.Conv1d(1, 1, 3))
    with pytest.raises(ValueError, match=r"each at least 1; got \(0, 4\)"):
        analysis.profile(nn.Conv1d(1, 1, 3), (0, 4))
    with pytest.raises(ValueError, match=r"cannot take a sample \(2, 8\)"):
        analysis.profile(nn.Conv1d(1, 1, 3), (2, 8))
    with pytest.raises(ValueError, match="batch must be at least 1; got 0"):
        analysis.profile(nn.Conv1d(1, 1, 3), (1, 8), batch=0)


def test_a_spec_will_do():
    spec = Spec(channels=1, size=(16,), classes=("a", "b"))
    assert analysis.profile(nn.Conv1d(1, 3, 3), spec).layers[0].shape == (3, 14)


def test_layers_that_give_less_than_before_are_named():
    net = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.MaxPool1d(2), nn.Conv1d(4, 8, 1))
    found = analysis.profile(net, (1, 16), fields=False)
    assert [layer.kind for layer in found.narrowing()] == ["MaxPool1d"]


def test_who_computes_it_changes_no_count_and_no_field(monkeypatch):
    if reason():
        pytest.skip(reason())
    monkeypatch.setattr(accelerated, "SMALL", 0)
    monkeypatch.setattr("striate.kernels.convolution.fastest", lambda _, attempt: attempt(4))
    plain = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 4, 3, padding=1, padding_mode="circular"),
    )  # fmt: skip
    slow, fast = (
        analysis.profile(net, (3, 12, 12), batch=4)
        for net in (plain, accelerate(copy.deepcopy(plain)))
    )
    assert [replace(row, kernel=None, seconds=0) for row in fast.layers] == [
        replace(row, kernel=None, seconds=0) for row in slow.layers
    ]
    assert [row.kernel for row in slow.layers] == ["pytorch", None, "pytorch"]
    assert fast.layers[0].kernel in {*NAMES.values(), "tried at first use"}
    assert [row.kernel for row in fast.layers[1:]] == [None, "pytorch"]
    assert str(slow).splitlines()[1].endswith("  pytorch")


def test_without_kernels_none_is_shown(monkeypatch):
    monkeypatch.setattr(profiler, "reason", lambda: "none were built")
    found = analysis.profile(nn.Conv2d(1, 1, 3), (1, 8, 8))
    assert found.layers[0].kernel is None
    assert str(found).splitlines()[0].endswith("  ms")
