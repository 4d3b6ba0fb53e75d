import os
import subprocess
import sys
from pathlib import Path

import pytest

import striate

ENV = {**os.environ, "PYTHONPATH": str(Path(striate.__file__).parents[1])}


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENV
    )
    return done.stdout.strip()


def test_importing_striate_takes_less_than_0_3_s_and_no_torch():
    def seconds():
        code = (
            "import sys, time; start = time.perf_counter(); import striate;"
            "print(time.perf_counter() - start, 'torch' in sys.modules, 'numpy' in sys.modules)"
        )
        taken, *heavy = run(code).split()
        assert heavy == ["False", "False"]
        return float(taken)

    assert min(seconds() for _ in range(3)) < 0.3


def test_spec_and_recipe_come_without_torch():
    code = "import sys, striate; striate.Spec, striate.Recipe; print('torch' in sys.modules)"
    assert run(code) == "False"


@pytest.mark.parametrize("name", striate.__all__)
def test_every_public_name_resolves(name):
    assert getattr(striate, name) is not None
    assert name in dir(striate)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'striate' has no attribute 'trian'"):
        striate.trian  # noqa: B018
