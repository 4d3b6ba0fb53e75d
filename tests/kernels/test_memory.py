"""Large answers: memory is kept for the next one, and never lent twice."""

import copy
import gc
import pickle
import threading

import pytest
import torch

from striate.kernels import memory
from striate.kernels.memory import Pool, empty


@pytest.fixture
def pool(monkeypatch):
    """An empty pool, for tensors of any size."""
    monkeypatch.setattr(memory, "pool", Pool())
    monkeypatch.setattr(memory, "LARGE", 0)
    return memory.pool


@pytest.mark.parametrize("size", [(5,), (4, 3), (1, 3), (2, 3, 4)])
def test_channels_lie_last_and_it_is_no_view(pool, size):
    x = empty(2, 7, size)
    assert x.shape == (2, 7, *size)
    assert x.movedim(1, -1).is_contiguous()
    assert not x._is_view()
    assert x.fill_(3).sum() == 3 * x.numel()


def test_memory_comes_back_when_nobody_has_it(pool):
    x = empty(2, 3, (8, 8))
    address, part = x.data_ptr(), x[0, 1]
    del x
    assert empty(2, 3, (8, 8)).data_ptr() != address  # a part of it is still seen
    del part
    gc.collect()
    assert {empty(3, 2, (64,)).data_ptr() for _ in range(5)} >= {address}


def test_what_lies_idle_is_no_more_than_what_is_lent(pool):
    for side in range(1, 30):
        empty(1, 1, (side,))
    kept = [empty(1, 1, (100,)), empty(1, 1, (50,))]
    assert sum(block.numel() for block in pool.idle.values()) <= 100
    assert pool.lent == sum(x.numel() for x in kept)


def test_what_a_step_had_lies_ready_for_the_next(pool):
    """Another size in between, while nothing is lent, does not cost it."""

    def step():
        kept = [empty(1, 1, (100 + k,)) for k in range(20)]
        return {x.data_ptr() for x in kept}

    places = step()
    empty(1, 1, (7,))
    assert step() == places


def test_what_was_wanted_long_ago_is_not_kept(pool, monkeypatch):
    monkeypatch.setattr(memory, "WINDOW", 10)
    large = [empty(1, 1, (1000,)) for _ in range(5)]
    large.clear()
    for side in range(1, 31):
        empty(1, 1, (side,))
    assert sum(block.numel() for block in pool.idle.values()) <= 60


def test_two_holders_never_share(pool):
    """Threads that take, fill, check and give back at once."""
    wrong = []

    def work(mark):
        for turn in range(200):
            x = empty(1, 2, (50 + turn % 3,)).fill_(mark)
            y = empty(1, 2, (50,)).fill_(-mark)
            if not ((x == mark).all() and (y == -mark).all()):
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(pool.idle) + len(pool.back) <= 3 * 8


def test_it_is_a_tensor_as_any_other(pool):
    x = empty(2, 3, (4, 4)).normal_()
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.clone()):
        assert torch.equal(other, x)
    x.requires_grad_()
    (x * x).sum().backward()
    assert torch.equal(x.grad, 2 * x)


def test_little_memory_is_torchs(monkeypatch):
    monkeypatch.setattr(memory, "pool", Pool())
    x = empty(1, 2, (3,))
    assert x.untyped_storage().resizable()
    assert not memory.pool.lent


@pytest.mark.parametrize("large", [0, memory.LARGE])
def test_it_is_float32_on_the_cpu_whatever_the_defaults_are(monkeypatch, other_defaults, large):
    monkeypatch.setattr(memory, "LARGE", large)
    monkeypatch.setattr(memory, "pool", Pool())
    with other_defaults:
        x = empty(2, 3, (4, 5))
    assert (x.dtype, x.device.type, x.shape) == (torch.float32, "cpu", (2, 3, 4, 5))
