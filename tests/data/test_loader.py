import numpy as np
import pytest
import torch

from striate.data.augment import Augment
from striate.data.loader import Loader
from striate.data.prepare import normalise
from striate.spec import Spec

SPEC = Spec(channels=2, size=(5, 4), classes=("a", "b", "c"), mean=(10.0, 20.0), std=(3.0, 7.0))


def loader(count=17, **options):
    x = np.random.default_rng(0).integers(0, 256, (count, *SPEC.shape), dtype=np.uint8)
    return Loader(x, np.arange(count) % 3, SPEC, **{"batch": 4, **options})


def rows(batches):
    return [len(x) for x, _ in batches]


def test_batches_are_normalised_as_serving_does_to_the_bit():
    batches = loader()
    x, _ = next(iter(batches))
    assert torch.equal(x, torch.from_numpy(normalise(batches.x[:4], SPEC)))


def test_a_last_batch_of_one_joins_the_one_before_in_training_only():
    assert rows(loader(shuffle=True)) == [4, 4, 4, 5]
    assert rows(loader()) == [4, 4, 4, 4, 1]


def test_every_epoch_has_every_sample_once_in_a_new_order():
    batches = loader(shuffle=True)
    first, second = (torch.cat([x for x, _ in batches]) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.flatten(1).sum(1).sort()[0], second.flatten(1).sum(1).sort()[0])


def test_a_loader_put_back_to_a_step_repeats_it_to_the_bit():
    options = {"shuffle": True, "augment": Augment.parse("flip,crop=1,jitter"), "mix": 0.3}
    whole = loader(**options)
    seen = [batch for _ in range(3) for batch in whole]
    again = loader(**options, step=6)
    rest = [batch for _ in range(2) for batch in again]
    assert len(rest) == len(seen) - 6
    for (x, y), (x2, y2) in zip(seen[6:], rest, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


@pytest.mark.parametrize("count", [16, 17])
def test_ranks_share_an_epoch_evenly_and_miss_nothing(count):
    parts = [loader(count, shuffle=True, rank=rank, world=3) for rank in range(3)]
    seen = [[float(v.sum()) for x, _ in part for v in x] for part in parts]
    assert len({len(part) for part in seen}) == 1
    whole = {float(v.sum()) for x, _ in loader(count) for v in x}
    assert {v for part in seen for v in part} == whole


def test_weights_scale_the_targets():
    weights = np.linspace(0.5, 1.5, 17)
    _, y = next(iter(loader(weights=weights)))
    assert torch.allclose(y.sum(1), torch.from_numpy(weights[:4]).float())


def test_pictures_come_channels_last():
    x, _ = next(iter(loader()))
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_sixteen_bit_samples_keep_their_levels():
    spec = Spec(channels=1, size=(4,), classes=("a",), dtype="uint16")
    x = np.array([[[0, 256, 257, 65535]]], np.uint16)
    batch, _ = next(iter(Loader(x, np.zeros(1, np.int64), spec)))
    assert batch[0, 0].tolist() == [0.0, 256.0, 257.0, 65535.0]


def test_an_empty_index_gives_no_batch():
    assert list(loader(index=np.zeros(0, np.int64))) == []


@pytest.mark.parametrize(
    ("options", "message"), [({"batch": 0}, "batch must"), ({"rank": 2, "world": 2}, "rank must")]
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        loader(**options)
