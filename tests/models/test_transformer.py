import pytest
import torch

from striate.errors import RecipeError
from striate.models import build
from striate.spec import Spec

SPEC = Spec(channels=1, size=(28, 28), classes=tuple("abc"))


@pytest.mark.parametrize("kind", ["affine", "projective", "thin_plate"])
@pytest.mark.parametrize("body", ["cnn", "mlp"])
def test_at_first_nothing_is_warped(kind, body):
    net = build("spatial_transformer", SPEC, kind=kind, body=body)
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(net[0](x), x, atol=1e-4, rtol=0)
    assert net(x).shape == (2, 3)


def test_the_net_alone_is_its_second_half():
    alone = build("spatial_transformer", SPEC, transform=False)
    both = build("spatial_transformer", SPEC)
    assert [p.shape for p in alone.parameters()] == [p.shape for p in both[1].parameters()]
    with pytest.raises(RecipeError, match="body must be cnn or mlp; got 'rnn'"):
        build("spatial_transformer", SPEC, body="rnn")
