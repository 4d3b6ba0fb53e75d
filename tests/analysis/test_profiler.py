"""Published counts read off the modules; MACs by hand; a table that says it all."""

import pytest
import torch
from torch import nn

from striate import analysis
from striate.models import build
from striate.spec import Spec


@pytest.mark.parametrize(
    ("name", "connections"),
    [("lecun1989", 64_660), ("lenet5_1998", 340_908), ("lenet1", 98_442)],
)
def test_published_connections(name, connections):
    assert analysis.profile(build(name), fields=False).connections == connections


def test_layers_of_the_zip_code_net():
    found = analysis.profile(build("lecun1989"), fields=False)
    counted = [(row.parameters, row.connections) for row in found.layers if row.parameters]
    assert counted == [(1_068, 19_968), (2_592, 38_592), (5_790, 5_790), (310, 310)]
    assert found.parameters == 9_760


def test_layers_of_lenet5():
    found = analysis.profile(build("lenet5_1998"), fields=False)
    rows = {row.connections: row.parameters for row in found.layers if row.connections}
    assert rows == {
        122_304: 156, 5_880: 12, 151_600: 1_516, 2_000: 32, 48_120: 48_120, 10_164: 10_164, 840: 0,
    }  # fmt: skip


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


def test_counts_do_not_depend_on_the_sample_of_a_convolution():
    small, large = (analysis.profile(nn.Conv2d(1, 1, 5), (1, n, n), fields=False) for n in (28, 96))
    assert small.parameters == large.parameters == 26


def test_a_fully_connected_neuron():
    for shape, weights in [((1, 100, 100), 10_000), ((3, 32, 32), 3_072), ((3, 200, 200), 120_000)]:
        net = nn.Sequential(nn.Flatten(), nn.Linear(weights, 1))
        assert analysis.profile(net, shape, fields=False).connections == weights + 1


def test_json_and_table():
    found = analysis.profile(build("lenet5"))
    row = found.to_json()["layers"][0]
    assert set(row) == {
        *("name", "kind", "shape", "parameters", "connections", "macs"),
        *("receptive_field", "jump", "seconds"),
    }
    text = str(found)
    assert "61,706" in text
    assert text.splitlines()[0].split()[:3] == ["layer", "kind", "shape"]


def test_a_model_of_its_own_needs_a_sample():
    with pytest.raises(ValueError, match=r"must be a Spec or \(C, \*S\) for a model"):
        analysis.profile(nn.Conv1d(1, 1, 3))
    with pytest.raises(ValueError, match=r"each at least 1; got \(0, 4\)"):
        analysis.profile(nn.Conv1d(1, 1, 3), (0, 4))
    with pytest.raises(ValueError, match=r"cannot take a sample \(2, 8\)"):
        analysis.profile(nn.Conv1d(1, 1, 3), (2, 8))


def test_a_spec_will_do():
    spec = Spec(channels=1, size=(16,), classes=("a", "b"))
    assert analysis.profile(nn.Conv1d(1, 3, 3), spec).layers[0].shape == (3, 14)


def test_layers_that_give_less_than_before_are_named():
    net = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.MaxPool1d(2), nn.Conv1d(4, 8, 1))
    found = analysis.profile(net, (1, 16), fields=False)
    assert [layer.kind for layer in found.narrowing()] == ["MaxPool1d"]
