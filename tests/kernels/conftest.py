"""The kernels, where they are built; every instruction set that this CPU has."""

from collections import Counter
from contextlib import contextmanager

import pytest
import torch

from striate.kernels import library

LEVELS = ("baseline", "avx2", "avx512")


@pytest.fixture(autouse=True)
def built(request):
    """Skip where no compiler built the library, but for tests of just that."""
    if library.library() is None and "unbuilt" not in request.keywords:
        pytest.skip("Striate's kernels are not built here")


@pytest.fixture(autouse=True)
def same_numbers():
    """What a test draws is the same in every run, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(params=LEVELS)
def level(request):
    """Each instruction set in turn, then the best again."""
    best = library.level()
    if not library.choose(request.param):
        pytest.skip(f"this CPU has no {request.param}")
    yield request.param
    library.choose(best)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["bfloat16", "float64", "meta"])
def other_defaults(request):
    """Return a context in which new tensors have another type, or lie on another device."""
    if request.param == "meta":
        return torch.device("meta")

    @contextmanager
    def typed():
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, request.param))
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    return typed()


@pytest.fixture
def ours(monkeypatch):
    """Return a function that makes every call go to one algorithm."""
    from striate.kernels import dispatch

    def use(algorithm):
        answer = lambda call, attempt: attempt(algorithm)  # noqa: E731
        for module in ("convolution", "pooling"):
            monkeypatch.setattr(f"striate.kernels.{module}.fastest", answer)
        assert dispatch.TORCH == 0

    return use


@pytest.fixture
def always_ours(monkeypatch):
    """Let no call of any size go to PyTorch, and count them by direction."""
    from striate.kernels import accelerated, dispatch, stages

    counts, run = Counter(), stages.run

    def staged(function, *args):
        counts.update(["forward"] if function == "stage_forward" else ["weight", "input"])
        run(function, *args)

    def fastest(call, attempt):
        counts["forward" if call.direction == "pooled" else call.direction] += 1
        if call.winograd:
            return attempt(max(call.winograd))
        return attempt(dispatch.DEPTHWISE if call.depthwise else dispatch.DIRECT)

    for least in ("SMALL", "SMALL_DEPTHWISE", "SMALL_KEPT"):
        monkeypatch.setattr(accelerated, least, 0)
    for module in ("convolution", "pooling"):
        monkeypatch.setattr(f"striate.kernels.{module}.fastest", fastest)
    monkeypatch.setattr(stages, "run", staged)
    return counts


@pytest.fixture
def graphs(monkeypatch):
    """The targets of every graph after it is rewritten."""
    from striate.kernels import compiled

    seen, rewrite = [], compiled.rewrite

    def spy(module):
        changed = rewrite(module)
        seen.append([str(node.target) for node in changed.graph.nodes])
        return changed

    monkeypatch.setattr(compiled, "rewrite", spy)
    return seen
