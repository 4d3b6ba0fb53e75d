"""Golden samples: whole files, spread over the held-out samples, and never a lost training."""

from dataclasses import replace

import numpy as np
import pytest

from striate.data.material import gather
from striate.golden import golden_samples


@pytest.fixture
def material(photos):
    return gather(photos, size=16)


def rows(material, index, most=4):
    found = golden_samples(material, np.array(index), lambda row: [float(row)], most)
    assert all(name.split(".")[0] == str(int(answer[0])) for name, (_, answer) in found.items())
    return [int(answer[0]) for _, answer in found.values()]


def test_samples_are_spread_evenly_and_come_as_their_files(material):
    index = list(range(10, 31))
    assert rows(material, index) == [10, 15, 20, 25]
    found = golden_samples(material, np.array(index), lambda row: [])
    assert found["15.png"][0] == material.samples.files[15].read_bytes()


def test_fewer_samples_than_wanted_are_all_taken(material):
    assert rows(material, [3, 7]) == [3, 7]
    assert rows(material, []) == []


def test_a_file_that_is_gone_or_changed_is_passed_over_for_the_next(material):
    files = material.samples.files
    files[10].unlink()
    files[15].write_bytes(files[16].read_bytes())
    assert rows(material, list(range(10, 31))) == [20, 25, 30, 11]


def test_all_files_gone_leave_none(material):
    for path in material.samples.files:
        path.unlink()
    assert rows(material, list(range(60))) == []


def test_arrays_that_no_picture_holds_leave_none(material):
    cache = replace(material.cache, x=np.zeros((60, 2, 16, 16), np.uint8))
    samples = replace(material.samples, files=None, arrays=cache.x)
    assert rows(replace(material, samples=samples, cache=cache), [1, 2, 3]) == []
