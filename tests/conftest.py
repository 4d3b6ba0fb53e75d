import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes on two cores must not crawl

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True, scope="session")
def every_warning():
    """What torch says once a process it says each time: no test depends on those before it."""
    import torch

    torch.set_warn_always(True)


@pytest.fixture(autouse=True)
def own_arithmetic():
    """A training flushes denormals and sets threads; the next test must not inherit that."""
    yield
    if "torch" in sys.modules:
        import torch  # a thread of the command may still be at it: this waits

        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def shared_data():
    """Real data sets, where they are."""
    named = os.environ.get("STRIATE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name a folder with STRIATE_DATA")
    return folder


@pytest.fixture
def photos(tmp_path):
    """Sixty pictures of bright and dark stripes: two classes that a small network can learn."""
    random = np.random.default_rng(0)
    for name in ("across", "down"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(30):
            wave = 90 * np.sin(np.arange(20) * 1.5 + random.uniform(0, 6))[:, None] + 128
            picture = np.repeat(wave, 24, axis=1)
            picture = picture[..., None] + random.normal(0, 12, (20, 24, 3))
            picture = picture.clip(0, 255).astype(np.uint8)
            if name == "down":
                picture = picture.swapaxes(0, 1)[:20, :20]
            Image.fromarray(picture).save(tmp_path / "photos" / name / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def benchmarks(monkeypatch):
    """The scripts import one another as they do when they are run."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCHMARKS:
            del sys.modules[name]
