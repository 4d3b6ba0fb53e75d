"""in_runs: every item once, in order, few ahead, errors when their turn comes."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data import threads
from striate.data.threads import in_runs


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 100), workers=st.integers(1, 4))
def test_every_item_comes_once_and_in_order(count, workers):
    runs = list(in_runs(list, range(count), workers))
    assert [item for run in runs for item in run] == list(range(count))
    assert all(0 < len(run) <= threads.RUN for run in runs)


def test_only_a_few_runs_are_worked_on_ahead():
    begun = []
    results = in_runs(lambda run: begun.append(run[0]), range(100 * threads.RUN), 2)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 2 * threads.AHEAD + 1
    results.close()
    assert len(begun) <= 2 * threads.AHEAD + 1


def test_runs_are_worked_on_at_once():
    meeting = threading.Barrier(2, timeout=10)
    assert len(list(in_runs(lambda run: meeting.wait(), range(2 * threads.RUN), 2))) == 2


def test_an_error_comes_when_its_turn_comes():
    def refuse(run):
        if run[0] >= threads.RUN:
            raise OSError("no")
        return run[0]

    results = in_runs(refuse, range(10 * threads.RUN), 2)
    assert next(results) == 0
    with pytest.raises(OSError, match="no"):
        next(results)
