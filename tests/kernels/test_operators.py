"""Functions as operators of PyTorch: pure, known before they are computed, quick to call first."""

import subprocess
import sys

import pytest
import torch

from striate.kernels import compiled, lanes  # noqa: F401  # they define the operators

OPERATORS = (
    "convolve", "convolve_clipped", "convolve_input", "convolve_input_added", "convolve_weight",
    "normalise", "normalise_backward", "stage", "stage_backward", "arranged", "separable",
    "convolve_pooled", "unpool",
)  # fmt: skip

FIRST = """
import sys, torch
from striate.kernels.convolution import convolution
weight = torch.randn(8, 8, 3, 3, requires_grad=True)
convolution(torch.randn(2, 8, 6, 6), weight).sum().backward()
assert weight.grad is not None
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_a_first_step_imports_no_compiler():
    """It would take seconds, of every process that trains."""
    assert subprocess.run([sys.executable, "-c", FIRST]).returncode == 0


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_changes_nothing_and_may_be_compiled(name):
    one = getattr(torch.ops.striate, name).default
    assert not one._schema.is_mutable
    assert torch.Tag.pt2_compliant_tag in one.tags


def test_shapes_are_known_before_anything_is_computed():
    with torch._subclasses.FakeTensorMode():
        x, weight = torch.empty(2, 8, 9, 7), torch.empty(5, 8, 3, 3)
        y = torch.ops.striate.convolve(x, weight, None, [2, 1], [1, 0], [1, 1], 1)
    assert y.shape == (2, 5, 5, 5)


def test_other_devices_are_refused():
    x, weight = (torch.empty(1, 1, 3, 3, dtype=torch.int32) for _ in range(2))
    sparse = x.to_sparse()
    with pytest.raises(NotImplementedError, match="striate::convolve"):
        torch.ops.striate.convolve(sparse, weight, None, [1, 1], [0, 0], [1, 1], 1)
