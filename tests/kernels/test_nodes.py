"""Nodes of aten's graph: copies, answers of several, calls that are added."""

import operator

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from striate.kernels.nodes import call, count, numbers, original, parts, readers, sizes, value

aten = torch.ops.aten


def graph():
    def two(x):
        y = aten.relu.default(x)
        values, places = aten.clone.default(aten.clone.default(y)).max(1)
        return values + 1, places, y * 2

    return make_fx(two, tracing_mode="fake")(torch.randn(3, 4)).graph


def only(graph, target):
    (node,) = graph.find_nodes(op="call_function", target=target)
    return node


def test_a_copy_of_a_copy_is_the_original():
    own = graph()
    source = only(own, aten.max.dim).args[0]
    assert source.target is aten.clone.default
    assert original(source) is only(own, aten.relu.default)
    assert original(3.0) == 3.0


def test_who_reads_a_copy_reads_the_node():
    own = graph()
    found = readers(only(own, aten.relu.default))
    assert {node.target for node in found} == {aten.max.dim, aten.mul.Tensor}


def test_answers_of_several_are_known_by_their_number():
    own = graph()
    found = parts(only(own, aten.max.dim))
    assert {k: value(node).dtype for k, node in found.items()} == {
        0: torch.float32, 1: torch.int64,
    }  # fmt: skip


def test_what_a_call_gives_is_known_at_once():
    own = graph()
    relu = only(own, aten.relu.default)
    with own.inserting_after(relu):
        top = call(relu, aten.topk.default, relu, 2)
        with own.inserting_after(top):
            least = call(top, operator.getitem, top, 1)
    assert tuple(value(least).shape) == (3, 2)
    assert value(least).dtype == torch.int64


def test_sizes_are_numbers_where_they_are_known_and_nodes_where_not():
    def two(x):
        return x.sum((2, 3)), x.relu()

    x = torch.randn(4, 3, 5, 6)
    own = make_fx(two, tracing_mode="fake")(x)
    (node,) = own.graph.find_nodes(op="placeholder")
    assert (sizes(node), count(node)) == ([5, 6], 360)
    own = make_fx(two, tracing_mode="symbolic")(x)
    node, relu = own.graph.find_nodes(op="placeholder")[0], only(own.graph, aten.relu.default)
    with own.graph.inserting_before(relu):
        found = [*sizes(node), count(node)]
    assert numbers(readers(node)) == {relu, only(own.graph, aten.sum.dim_IntList)}
    own.graph.output_node().args = (found,)
    own.recompile()
    assert [int(value(one)) for one in found] == [5, 6, 360]
    assert own(torch.randn(2, 3, 7, 8)) == [7, 8, 336]
