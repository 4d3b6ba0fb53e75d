"""Who computes a call: the estimate, the trial, and what is kept of it."""

import json
import time
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
import torch

from striate.errors import UserError
from striate.kernels import dispatch
from striate.kernels.dispatch import DIRECT, TORCH, Call, estimate, fastest, foreseen


def call(n, c, o, h, w):
    """Return a call of 3 x 3 kernels, stride 1."""
    one, size = (1, 1, 1), (1, h, w)
    return Call("forward", n, c, o, size, size, (1, 3, 3), one, (0, 1, 1), one, 1, 1)


UNCLEAR = call(32, 16, 16, 32, 32)
CLEAR = call(64, 128, 128, 32, 32)


@pytest.fixture(autouse=True)
def forgetful():
    dispatch.remembered.cache_clear()
    yield
    dispatch.remembered.cache_clear()


def slow(algorithm, chosen):
    """Answer after a while, the faster the nearer to `chosen`."""

    def attempt(asked):
        calls.append(asked)
        time.sleep(0.0005 if asked == chosen else 0.02)
        return torch.tensor(float(asked))

    calls = algorithm
    return attempt


def test_estimates_know_what_is_cheap():
    cost = estimate(CLEAR)
    assert min(cost, key=cost.get) == 4
    cost = estimate(call(1, 512, 512, 2, 2))
    assert min(cost, key=cost.get) in (TORCH, DIRECT)  # kernels are transformed for a single tile
    wide = estimate(call(64, 3, 64, 32, 32))
    assert wide[TORCH] / wide[4] < cost_ratio(CLEAR)


def cost_ratio(asked):
    cost = estimate(asked)
    return cost[TORCH] / cost[4]


def test_what_is_clear_is_not_tried(monkeypatch):
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    calls = []
    assert fastest(CLEAR, slow(calls, TORCH)) == 4
    assert calls == [4]
    assert not dispatch._file().exists()  # nor is it written down


def test_who_will_compute_it_is_known_where_it_is_clear_or_was_tried(monkeypatch):
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    assert foreseen(CLEAR) == 4
    assert foreseen(UNCLEAR) is None
    fastest(UNCLEAR, slow([], DIRECT))
    assert foreseen(UNCLEAR) == DIRECT
    monkeypatch.setenv("STRIATE_KERNELS", "torch")
    assert foreseen(CLEAR) == foreseen(UNCLEAR) == TORCH


@pytest.mark.parametrize("chosen", [TORCH, 4])
def test_what_is_not_clear_is_tried_once_and_kept(monkeypatch, chosen):
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    calls = []
    assert fastest(UNCLEAR, slow(calls, chosen)) == chosen
    assert set(calls) >= {TORCH, 4}
    calls.clear()
    fastest(UNCLEAR, slow(calls, chosen))
    assert calls == [chosen]
    dispatch.remembered.cache_clear()  # another process
    calls.clear()
    fastest(UNCLEAR, slow(calls, chosen))
    assert calls == [chosen]


def test_a_disturbed_turn_does_not_decide(monkeypatch):
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    turns = Counter()

    def attempt(algorithm):
        turns[algorithm] += 1
        disturbed = algorithm == 4 and turns[4] < 5
        time.sleep(0.02 if disturbed else 0.0001 if algorithm == 4 else 0.003)
        return algorithm

    monkeypatch.setattr(dispatch, "SECONDS", 1.0)
    assert fastest(UNCLEAR, attempt) == 4
    assert max(turns.values()) <= dispatch.MOST + 2


def test_a_trial_takes_no_more_than_some_calls(monkeypatch):
    """A new size of a picture must not take the time of a hundred pictures."""
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    turns = Counter()

    def attempt(algorithm):
        turns[algorithm] += 1
        return algorithm

    fastest(UNCLEAR, attempt)
    assert sorted(turns.values())[-2] <= dispatch.MOST + 1

    def long(algorithm):
        turns[algorithm] += 1
        time.sleep(0.02)
        return algorithm

    turns.clear()
    fastest(replace(UNCLEAR, n=33), long)
    assert sorted(turns.values())[-2] == dispatch.TRIES + 1


def test_what_caches_do_not_keep_is_tried_cold(monkeypatch):
    """A network comes to it when other tensors have been through the caches."""
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    swept, zero = [], torch.Tensor.zero_
    monkeypatch.setattr(torch.Tensor, "zero_", lambda t: swept.append(t.numel()) or zero(t))
    fastest(UNCLEAR, slow([], 4))
    assert not any(swept)
    swept.clear()
    fastest(replace(UNCLEAR, n=2**22), slow([], 4))
    assert set(swept) == {dispatch.SWEPT}


def test_all_is_tried_where_the_user_asks_for_it(monkeypatch):
    monkeypatch.setenv("STRIATE_KERNELS", "measure")
    calls = []
    assert fastest(CLEAR, slow(calls, TORCH)) == TORCH
    assert len(calls) > 4


@pytest.mark.parametrize("word", ["off", "torch"])
def test_nothing_is_tried_where_the_user_wants_torch(monkeypatch, word):
    monkeypatch.setenv("STRIATE_KERNELS", word)
    calls = []
    assert fastest(UNCLEAR, slow(calls, 4)) == TORCH
    assert calls == [TORCH]


@pytest.mark.parametrize("change", [{"n": 0}, {"out": (1, 0, 5)}])
def test_where_nothing_is_computed_nothing_is_tried(change):
    calls = []
    assert fastest(replace(UNCLEAR, **change), slow(calls, 4)) == TORCH
    assert calls == [TORCH]


def test_an_unknown_word_is_refused(monkeypatch):
    monkeypatch.setenv("STRIATE_KERNELS", "fast")
    with pytest.raises(UserError, match=r"must be auto, measure, torch or off; got 'fast'\. Unset"):
        fastest(UNCLEAR, slow([], 4))


def test_what_another_process_has_kept_meanwhile_stays(monkeypatch):
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    other = replace(UNCLEAR, n=64)
    fastest(UNCLEAR, slow([], 4))
    file, mine = dispatch._file(), dispatch.remembered()
    file.write_text(json.dumps({UNCLEAR.key: DIRECT, other.key: TORCH}))
    fastest(replace(UNCLEAR, n=16), slow([], 4))
    assert mine[UNCLEAR.key] == 4  # this process answers alike to its end
    assert json.loads(file.read_text()) == {**mine, UNCLEAR.key: DIRECT, other.key: TORCH}


@pytest.mark.parametrize("text", ["", "[]", '{"x": 7}', "{"])
def test_a_broken_file_is_forgotten(monkeypatch, text):
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    file = dispatch._file()
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert dispatch.remembered() == {}
    assert fastest(UNCLEAR, slow([], 4)) == 4
    assert UNCLEAR.key in file.read_text()


def test_other_kernels_are_tried_anew(monkeypatch):
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    before = dispatch._file()
    monkeypatch.setattr(dispatch, "GENERATION", dispatch.GENERATION + 1)
    assert dispatch._file() != before


def test_without_a_place_for_the_file_it_is_tried_again(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(dispatch, "level", lambda: "avx512")
    assert fastest(UNCLEAR, slow([], 4)) == 4


def test_only_small_plain_kernels_are_winograds():
    assert set(estimate(CLEAR)) == {0, 1, 2, 4}
    for change in (
        {"stride": (1, 2, 1)}, {"dilation": (1, 2, 2)}, {"groups": 2}, {"kernel": (1, 5, 5)},
        {"kernel": (1, 3, 1), "pad": (0, 1, 0)}, {"kernel": (3, 5, 3)}, {"pad": (0, 3, 1)},
        {"pad": (1, 1, 1)}, {"stride": (2, 1, 1)},
    ):  # fmt: skip
        assert set(estimate(replace(CLEAR, **change))) == {0, 1}


def test_what_overruns_memory_is_never_pytorchs():
    asked = replace(
        CLEAR, direction="weight", kernel=(1, 1, 1), pad=(0, 0, 0), stride=(1, 2, 1), c=3
    )
    assert set(estimate(asked)) == {1}
    for change in (
        {"direction": "forward"}, {"stride": (1, 1, 1)}, {"c": 8}, {"kernel": (1, 3, 1)},
        {"groups": 3, "o": 6},
    ):  # fmt: skip
        assert TORCH in estimate(replace(asked, **change))


def test_lines_and_planes_are_winograds():
    one, line, block = (1, 1, 1), (1, 1, 4000), (8, 32, 32)
    on_line = replace(CLEAR, size=line, out=line, kernel=(1, 1, 3), pad=(0, 0, 1))
    planes = replace(CLEAR, n=8, size=block, out=block, kernel=(3, 3, 3), pad=one)
    for asked, least in ((on_line, 1.4), (planes, 2.5)):
        for direction in ("forward", "input", "weight"):
            cost = estimate(replace(asked, direction=direction))
            assert min(cost, key=cost.get) == 4
            assert cost[TORCH] > least * cost[4]


def test_steps_of_two_have_one_tile():
    half, line = (1, 16, 16), (1, 1, 2000)
    square = replace(CLEAR, out=half, stride=(1, 2, 2))
    on_line = replace(
        CLEAR, size=(1, 1, 4000), out=line, kernel=(1, 1, 3), pad=(0, 0, 1), stride=(1, 1, 2)
    )
    for asked in (square, on_line):
        for direction in ("forward", "input", "weight"):
            cost = estimate(replace(asked, direction=direction))
            assert set(cost) == {0, 1, 4}
            assert min(cost, key=cost.get) == 4
    assert replace(CLEAR, n=1, fixed=True).keeps(4)
    assert not replace(square, n=1, fixed=True).keeps(4)  # eleven times as large as they were
    for change in (
        {"stride": (1, 2, 1)}, {"stride": (1, 3, 3)}, {"kernel": (1, 5, 5)}, {"pad": (0, 3, 1)},
        {"kernel": (3, 3, 3), "size": (8, 32, 32), "out": (6, 16, 16)}, {"groups": 2},
    ):  # fmt: skip
        assert set(estimate(replace(square, **change))) == {0, 1}


def test_planes_in_the_border_cost_nothing():
    """Of 3 planes that a kernel sees, one is in the input where there is but one."""
    flat = replace(CLEAR, c=512, o=512)
    thin = replace(flat, kernel=(3, 3, 3), pad=(1, 1, 1))
    assert estimate(thin)[4] < 1.3 * estimate(flat)[4]
    assert estimate(thin)[TORCH] == 3 * estimate(flat)[TORCH]


def test_taps_that_see_nothing_but_the_border_are_left_out():
    numbers = product((1, 2, 5), range(1, 5), (1, 2), range(5), (1, 2, 3))
    met = 0
    for size, kernel, stride, pad, dilation in numbers:
        out = (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        if out < 1:
            continue
        places = [[j * stride - pad + k * dilation for j in range(out)] for k in range(kernel)]
        seen = [k for k, at in enumerate(places) if any(0 <= one < size for one in at)]
        three = ((1, 1, n) for n in (size, out, kernel, stride, pad, dilation))
        first, end = Call("forward", 1, 1, 1, *three, 1, 1).seen[2]
        assert set(seen) <= set(range(first, end))
        if seen and stride == dilation == 1:
            assert (first, end) == (seen[0], seen[-1] + 1)
        met += end - first < kernel
    assert met > 10
