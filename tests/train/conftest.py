import numpy as np
import pytest
import torch

from striate.data.loader import Loader
from striate.models import build
from striate.spec import Spec


@pytest.fixture
def bars():
    """Make (model, training loader, loader in order): one noisy bar a sample, across or down."""

    def make(count=128, size=12, axes=2, batch=16, model="fastnet", seed=0, **options):
        random = np.random.default_rng(seed)
        x = random.integers(0, 60, (count, 1, *[size] * axes)).astype(np.uint8)
        y = np.arange(count) % axes
        for i in range(count):
            np.moveaxis(x[i, 0], y[i], 0)[random.integers(size)] += 150
        names = tuple(f"axis{a}" for a in range(axes))
        spec = Spec(channels=1, size=(size,) * axes, classes=names, mean=(40.0,), std=(45.0,))
        torch.manual_seed(seed)
        net = build(model, spec, **({"width": 8} if model == "fastnet" else {}))
        train = Loader(x, y, spec, batch=batch, shuffle=True, seed=seed, **options)
        return net, train, Loader(x, y, spec, batch=batch)

    return make
