import torch

from striate.layers import LocallyConnected
from striate.models import build
from striate.spec import Spec


def test_local_layers_have_the_published_places():
    spec = Spec(channels=3, size=(152, 152), classes=("a", "b"))
    net = build("deepface", spec)
    places = [m.places for m in net.modules() if isinstance(m, LocallyConnected)]
    assert places == [(55, 55), (25, 25), (21, 21)]


def test_smaller_faces_are_answered():
    spec = Spec(channels=1, size=(72, 72), classes=("a", "b"))
    assert build("deepface", spec).eval()(torch.randn(1, 1, 72, 72)).shape == (1, 2)
