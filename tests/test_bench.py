import pytest

from striate.bench import measure


@pytest.mark.slow
def test_every_line_has_a_median_and_its_spread():
    first, *lines = measure(quick=True)
    assert "threads" in first
    assert len(lines) == 4
    assert all(" to " in line and "n " in line for line in lines)
