"""A bank that nobody trains."""

import pytest
import torch

from striate.models import build
from striate.models.denker import templates
from striate.spec import Spec


def test_forty_nine_templates_of_mean_0_and_length_1():
    bank = templates()
    assert bank.shape == (49, 7, 7)
    torch.testing.assert_close(bank.mean((1, 2)), torch.zeros(49), atol=1e-6, rtol=0)
    torch.testing.assert_close(bank.flatten(1).norm(dim=1), torch.ones(49))
    alike = bank.flatten(1) @ bank.flatten(1).T - torch.eye(49)
    assert alike.max() < 0.999  # no two are the same


def test_only_the_classifier_learns():
    net = build("denker1989")
    assert [name for name, _ in net.named_parameters()] == ["2.weight", "2.bias"]
    net(torch.rand(2, 1, 16, 16)).sum().backward()
    assert not net[0].bank.requires_grad


def test_a_line_is_found_by_its_own_template():
    net = build("denker1989")
    x = torch.zeros(1, 1, 16, 16)
    x[..., 8, :] = 1
    found = net[0](x)[0].amax((1, 2))
    assert found[:8].argmax() == 0


def test_series_are_refused():
    with pytest.raises(Exception, match="wants pictures"):
        build("denker1989", Spec(channels=1, size=(16,), classes=("a", "b")))
