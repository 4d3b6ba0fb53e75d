"""Links in aten's graph: what stands behind a convolution, and where its gradients are."""

import pytest
import torch
from functorch.compile import default_partition
from torch import nn
from torch._functorch.aot_autograd import aot_function

from striate.kernels.lanes import CLIP, LOGISTIC, MAX, MEAN, NO_POOLING, STRAIGHT, TANH
from striate.kernels.links import convolved, following

aten = torch.ops.aten


def joint(net, x):
    """Return the graph of a step, forward and backward."""
    seen = []

    def keep(module, *args, **kwargs):
        seen.append(module.graph)
        return default_partition(module, *args, **kwargs)

    parameters = dict(net.named_parameters())
    function = aot_function(
        lambda own, x: torch.func.functional_call(net, own, (x,)),
        fw_compiler=lambda module, _: module, partition_fn=keep,
    )  # fmt: skip
    function(parameters, x)
    return seen[0]


def first(net, x):
    graph = joint(net, x)
    return convolved(
        next(iter(graph.find_nodes(op="call_function", target=aten.convolution.default)))
    )


CASES = {
    "nothing": ((), {"activation": STRAIGHT, "pooling": NO_POOLING}),
    "relu": ((nn.ReLU(),), {"activation": CLIP, "low": 0.0, "high": float("inf")}),
    "relu6": ((nn.ReLU6(),), {"activation": CLIP, "low": 0.0, "high": 6.0}),
    "hardtanh": ((nn.Hardtanh(-0.5, 2.0),), {"activation": CLIP, "low": -0.5, "high": 2.0}),
    "tanh": ((nn.Tanh(),), {"activation": TANH, "inner": 1.0, "outer": 1.0}),
    "sigmoid": ((nn.Sigmoid(),), {"activation": LOGISTIC}),
    "largest": (
        (nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        {"activation": CLIP, "pooling": MAX, "window": (3, 3), "step": (2, 2), "border": (1, 1)},
    ),
    "mean": (
        (nn.AvgPool2d((2, 3), padding=1, count_include_pad=False),),
        {"pooling": MEAN, "window": (2, 3), "step": (2, 3), "counts_border": False, "divisor": 0},
    ),
    "divided": ((nn.AvgPool2d(2, divisor_override=3),), {"pooling": MEAN, "divisor": 3}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_what_stands_behind_is_found_with_its_gradients(name):
    behind, wanted = CASES[name]
    net = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), *behind)
    link = first(net, torch.randn(2, 2, 12, 12))
    assert {key: getattr(link.stage, key) for key in wanted} == wanted
    assert (link.stage.stride, link.stage.padding) == ((2, 2), (1, 1))
    assert set(link.gradients) == {1, 2}
    assert link.dy.op == "placeholder"


@pytest.mark.filterwarnings("ignore")
def test_a_linear_layer_follows_through_flattening():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5, bias=False))
    link = following(first(net, torch.randn(2, 1, 4, 4)).end)
    assert link.bias is None
    assert set(link.gradients) == {0, 1}
    assert tuple(link.weight.meta["val"].shape) == (5, 12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("behind", [nn.Softmax(1), nn.GELU(), nn.MaxPool2d(2, dilation=2)], ids=str)
def test_what_we_do_not_know_ends_a_link(behind):
    link = first(nn.Sequential(nn.Conv2d(1, 3, 3), behind), torch.randn(2, 1, 9, 9))
    assert link.end is link.sum
    assert link.stage.activation == STRAIGHT
    assert link.stage.pooling == NO_POOLING
