"""Ways from stored pictures to batches, each in a process of its own, timed after the imports.

`batches KIND`  uint8 arrays 32x32x3 in memory -> augmented float batches, on one core
`folder KIND`   JPEG files -> batches of 128 px, a first and a second epoch
KIND is `striate`, `samples` (torchvision, one picture at a time in a DataLoader) or, for `batches`,
`v2` (torchvision's transforms.v2 on whole batches).
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 256


def consume(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Read every batch; return the number of pictures."""
    return sum(len(x) for x, _ in batches)


def rate(epoch: Callable[[], int], times: int) -> float:
    """Return pictures a second: the median of several epochs, after a short warm one."""
    epoch()
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        count = epoch()
        found.append(count / (time.perf_counter() - begun))
    return median(found)


def striate_batches(x: np.ndarray, y: np.ndarray) -> Callable[[], int]:
    """Return one epoch of Striate's loader: mirrored, moved by up to 4 pixels, normalised."""
    from striate.data.augment import Augment
    from striate.data.loader import Loader
    from striate.spec import Spec

    spec = Spec(
        channels=3,
        size=(32, 32),
        classes=tuple("abcdefghij"),
        mean=tuple(255 * v for v in MEAN),
        std=tuple(255 * v for v in STD),
    )
    changes = Augment.parse("flip,crop=4")
    loader = Loader(x, y, spec, batch=BATCH, shuffle=True, augment=changes)
    return lambda: consume(loader)


def samples_batches(x: np.ndarray, y: np.ndarray) -> Callable[[], int]:
    """Return one epoch of a DataLoader over pictures that torchvision changes one by one."""
    from torch.utils.data import DataLoader
    from torchvision import transforms

    from torch_peers import Samples

    moved = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    plain = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    samples = Samples(x, y, transforms.Compose([*moved, *plain]))
    loader = DataLoader(samples, batch_size=BATCH, shuffle=True)
    return lambda: consume(loader)


def v2_batches(x: np.ndarray, y: np.ndarray) -> Callable[[], int]:
    """Return one epoch of transforms.v2 on whole batches: one place and side for all of a batch."""
    from torchvision.transforms import v2

    change = v2.Compose(
        [
            *(v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()),
            *(v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)),
        ]
    )
    pixels, labels = torch.from_numpy(x), torch.from_numpy(y)

    def epoch() -> int:
        order = torch.randperm(len(pixels)).split(BATCH)
        return consume((change(pixels[rows]), labels[rows]) for rows in order)

    return epoch


def time_batches(kind: str, count: int, times: int, seed: int) -> dict[str, float]:
    """Measure pictures a second on one core."""
    torch.set_num_threads(1)
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    y = random.integers(0, 10, count)
    make = {"striate": striate_batches, "samples": samples_batches, "v2": v2_batches}[kind]
    return {"images_per_second": rate(make(x, y), times)}


def striate_folder(folder: Path, seed: int) -> dict[str, float]:
    """Time two epochs of Striate, from a cold cache."""
    from striate.data.augment import Augment
    from striate.data.cache import open_cache, statistics
    from striate.data.choice import choose_spec
    from striate.data.loader import Loader
    from striate.data.readers import read

    stamps = [time.perf_counter()]
    samples = read(folder)
    spec = choose_spec(samples, size=128)
    cache = open_cache(samples, spec)
    mean, std = statistics(cache.x, np.arange(len(samples)))
    spec = spec.model_copy(update={"mean": mean, "std": std})
    changes = Augment.parse("flip,zoom=0.35,jitter=0.2")
    loader = Loader(
        cache.x, samples.labels, spec, batch=64, shuffle=True, augment=changes, seed=seed
    )
    counts = []
    for _ in range(2):
        counts.append(consume(loader))
        stamps.append(time.perf_counter())
    return _epochs(stamps, counts)


def samples_folder(folder: Path, workers: int, seed: int) -> dict[str, float]:
    """Time two epochs of torchvision's ImageFolder in a DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    torch.manual_seed(seed)
    stamps = [time.perf_counter()]
    cut = [transforms.RandomResizedCrop(128), transforms.RandomHorizontalFlip()]
    plain = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    files = ImageFolder(str(folder), transforms.Compose([*cut, *plain]))
    loader = DataLoader(
        files, batch_size=64, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    counts = []
    for _ in range(2):
        counts.append(consume(loader))
        stamps.append(time.perf_counter())
    return _epochs(stamps, counts)


def _epochs(stamps: list[float], counts: list[int]) -> dict[str, float]:
    first, second = (b - a for a, b in pairwise(stamps))
    return {
        "first": first,
        "second": second,
        "first_rate": counts[0] / first,
        "second_rate": counts[1] / second,
    }


def main() -> None:
    """Measure what the command line names and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("batches", "folder"))
    parser.add_argument("kind", choices=("striate", "samples", "v2"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=20_000, help="pictures for `batches`")
    parser.add_argument("--times", type=int, default=5, help="epochs timed for `batches`")
    parser.add_argument("--folder", type=Path, help="of JPEG files for `folder`")
    parser.add_argument("--workers", type=int, default=0, help="processes of a DataLoader")
    chosen = parser.parse_args()
    if chosen.what == "batches":
        result = time_batches(chosen.kind, chosen.images, chosen.times, chosen.seed)
    elif chosen.kind == "striate":
        result = striate_folder(chosen.folder, chosen.seed)
    else:
        result = samples_folder(chosen.folder, chosen.workers, chosen.seed)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
