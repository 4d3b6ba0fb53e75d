"""Golden samples: whole files, spread over the held-out samples, and never a lost training."""

from dataclasses import replace

import numpy as np
import pytest

from striate.data.layout import KIND_OF_AXES
from striate.data.material import gather
from striate.data.readers import read
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


@pytest.mark.parametrize("shape", [(3, 20), (5, 3), (1, 5, 6, 7), (4, 5, 6, 7), (3, 5, 6, 4)])
def test_series_and_volumes_are_kept_as_the_npz_that_is_read_as_they_are(material, tmp_path, shape):
    axes = len(shape) - 1
    x = np.random.default_rng(0).normal(size=(60, *shape)).astype(np.float32)
    samples = replace(material.samples, files=None, arrays=x)
    spec = material.spec.model_copy(update={"kind": KIND_OF_AXES[axes], "size": shape[1:]})
    held = replace(material, samples=samples, spec=spec, cache=replace(material.cache, x=x))
    (name, (content, _)), *_ = golden_samples(held, np.array([7, 9]), lambda row: [1.0]).items()
    assert name == "7.npz"
    (tmp_path / name).write_bytes(content)
    assert np.array_equal(read(tmp_path / name, labelled=False, axes=axes).arrays, x[[7]])


def test_a_volume_whose_channels_would_be_looked_for_elsewhere_is_not_kept(material):
    x = np.zeros((60, 2, 5, 6, 4), np.float32)  # the last axis would be taken for channels
    samples = replace(material.samples, files=None, arrays=x)
    spec = material.spec.model_copy(update={"kind": "volume"})
    held = replace(material, samples=samples, spec=spec, cache=replace(material.cache, x=x))
    assert rows(held, [1, 2, 3]) == []


def test_arrays_that_no_picture_holds_leave_none(material):
    cache = replace(material.cache, x=np.zeros((60, 2, 16, 16), np.uint8))
    samples = replace(material.samples, files=None, arrays=cache.x)
    assert rows(replace(material, samples=samples, cache=cache), [1, 2, 3]) == []
