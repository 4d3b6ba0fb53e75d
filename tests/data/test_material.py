import re

import numpy as np
import pytest
from PIL import Image

from striate.data.cache import statistics
from striate.data.material import gather, refuse_too_many_bad
from striate.data.split import save_split
from striate.errors import DataError


def spoil(photos, count):
    """Cut the first files of a class short."""
    for path in sorted((photos / "down").iterdir())[:count]:
        path.write_bytes(path.read_bytes()[:60])


def test_one_call_gives_all_that_training_needs(photos):
    material = gather(photos, size=16)
    split = material.split
    assert material.spec.shape == material.cache.x.shape[1:] == (3, 16, 16)
    assert material.spec.classes == material.samples.classes == ("across", "down")
    parts = np.concatenate([split.train, split.validation, split.test])
    assert np.array_equal(np.sort(parts), np.arange(60))
    assert material.audit.faults == ()


def test_mean_and_deviation_are_those_of_the_training_split_alone(photos):
    material = gather(photos, size=16)
    own = statistics(material.cache.x, material.split.train)
    assert (material.spec.mean, material.spec.std) == own
    assert own != statistics(material.cache.x, np.arange(60))


def test_shares_seed_and_rule_are_passed_on(photos):
    material = gather(photos, size=16, validation=0.5, test=0, seed=3, resize="pad")
    assert len(material.split.validation) == 30
    assert len(material.split.test) == 0
    assert material.split.seed == 3
    assert material.spec.resize == "pad"


def test_a_bad_file_is_left_out_and_named(photos):
    spoil(photos, 1)
    material = gather(photos, size=16, bad=0.02)
    (fault,) = material.cache.faults
    assert fault.path == "down/00.png"
    parts = np.concatenate([getattr(material.split, s) for s in ("train", "validation", "test")])
    assert material.samples.names.index("down/00.png") not in parts


def test_too_many_bad_files_are_refused_with_the_first_five(photos):
    spoil(photos, 7)
    with pytest.raises(DataError) as caught:
        gather(photos, size=16)
    text = str(caught.value)
    assert text.startswith("at most 0.01 of the files may be unreadable; 7 of 60 are (down/00.png:")
    assert len(re.findall(r"down/\d\d\.png: truncated", text)) == 5
    assert text.endswith("; ...); mend or remove them, or allow more with --bad 0.12")


@pytest.mark.parametrize("count", [1, 7, 29])
def test_the_share_that_the_message_names_is_enough(photos, count):
    spoil(photos, count)
    cache = gather(photos, size=16, bad=1, test=0, validation=0).cache
    with pytest.raises(DataError, match=r"--bad [\d.]+$") as caught:
        gather(photos, size=16)
    share = float(str(caught.value).rpartition(" ")[2])
    assert count / 60 <= share <= count / 60 + 0.011
    refuse_too_many_bad(cache, share)


def test_exactly_the_share_is_allowed(photos):
    spoil(photos, 6)
    assert len(gather(photos, size=16, bad=0.1).cache.faults) == 6


def test_a_run_that_goes_on_keeps_its_spec_and_its_split(photos, tmp_path):
    before = gather(photos, size=16, seed=1)
    manifest = tmp_path / "split.json"
    save_split(manifest, before.split, before.samples, before.cache)
    again = gather(photos, seed=2, spec=before.spec, manifest=manifest)
    assert again.spec == before.spec
    for name in ("train", "validation", "test"):
        assert np.array_equal(getattr(again.split, name), getattr(before.split, name))
    Image.new("RGB", (20, 20), "red").save(photos / "down" / "00.png")
    with pytest.raises(DataError, match=r"no longer match .*1 changed: 'down/00.png'"):
        gather(photos, spec=before.spec, manifest=manifest)


def test_progress_is_said_while_files_are_decoded(photos):
    told = []
    gather(photos, size=16, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)
