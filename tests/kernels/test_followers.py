"""What follows an answer in aten's graph: found where nobody else reads what lies between."""

from math import inf

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from striate.kernels.followers import behind_of
from striate.kernels.nodes import call

aten = torch.ops.aten
X = torch.randn(2, 3, 4, 5)


def found(function):
    """Return what stands behind the sine in a function's graph, by name."""
    graph = make_fx(function, tracing_mode="fake")(X, X[:, :1]).graph
    (sine,) = graph.find_nodes(op="call_function", target=aten.sin.default)
    behind = behind_of(sine)
    nodes = (behind.sum, behind.addend, behind.activation)
    return [None if node is None else node.name for node in nodes], behind.bounds


@pytest.mark.parametrize(
    ("function", "names", "bounds"),
    [
        (lambda x, row: aten.relu(x.sin() + x), ["add", "x_1", "relu"], (0.0, inf)),
        (lambda x, row: x + x.sin(), ["add", "x_1", None], (-inf, inf)),
        (lambda x, row: aten.hardtanh(x.sin(), 0, 6), [None, None, "hardtanh"], (0.0, 6.0)),
        (lambda x, row: aten.hardtanh(x.sin()), [None, None, "hardtanh"], (-1.0, 1.0)),
        (lambda x, row: aten.tanh(x.sin() + x), ["add", "x_1", None], (-inf, inf)),
        (lambda x, row: aten.relu(x.sin() + row), [None, None, None], (-inf, inf)),
        (lambda x, row: aten.relu(x.sin() - x), [None, None, None], (-inf, inf)),
    ],
)
def test_a_sum_of_one_shape_and_bounds_are_found(function, names, bounds):
    assert found(function) == (names, bounds)


def test_silu_is_found_beside_its_gradient():
    def trained(x, row):
        y = x.sin()
        return aten.silu(y), aten.silu_backward(row, y)

    names, bounds = found(trained)
    assert names[2].startswith("silu")
    assert bounds == (-inf, inf)


def test_what_is_read_elsewhere_ends_it():
    def twice(x, row):
        y = x.sin()
        z = y + x
        return aten.relu(z), z.exp()

    assert found(twice) == (["add", "x_1", None], (-inf, inf))
    assert found(lambda x, row: (y := x.sin()) + y)[0] == [None, None, None]


def test_what_stands_for_it_is_read_in_the_place_of_all():
    graph = make_fx(lambda x: aten.relu(x.sin() + x).exp(), tracing_mode="fake")(X).graph
    (sine,) = graph.find_nodes(op="call_function", target=aten.sin.default)
    behind = behind_of(sine)
    with graph.inserting_before(behind.sum):
        other = call(sine, aten.cos.default, sine.args[0])
    behind.replace(other)
    graph.eliminate_dead_code()
    assert [user.target for user in other.users] == [aten.exp.default]
    assert [node.target for node in graph.nodes if node.op == "call_function"] == [
        aten.cos.default, aten.exp.default,
    ]  # fmt: skip
