"""Make a folder of JPEGs: 500x375, quality 90, no two alike, in two class folders."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)


def cuts(photos: list[Path], random: np.random.Generator) -> Iterator[Image.Image]:
    """Yield windows of the photographs, each at a place and of a size of its own."""
    while True:
        for path in photos:
            with Image.open(path) as photo:
                whole = photo.convert("RGB")
            scale = min(whole.width / SIZE[0], whole.height / SIZE[1]) * random.uniform(0.7, 1)
            width, height = scale * SIZE[0], scale * SIZE[1]
            left = random.uniform(0, whole.width - width)
            top = random.uniform(0, whole.height - height)
            box = (left, top, left + width, top + height)
            yield whole.resize(SIZE, Image.Resampling.BICUBIC, box)


def synthetic(random: np.random.Generator) -> Iterator[Image.Image]:
    """Yield clouds of colour with the detail of a photograph at every scale."""
    while True:
        picture = np.zeros((SIZE[1], SIZE[0], 3))
        for side in (4, 16, 64, 250):
            noise = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            layer = Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)
            picture += np.asarray(layer) / side**0.5
        picture *= 255 / picture.max()
        yield Image.fromarray(picture.astype(np.uint8))


def main() -> None:
    """Write the files that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder of photographs; absent: synthetic ones")
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    chosen = parser.parse_args()
    random = np.random.default_rng(0)
    photos = sorted(chosen.source.rglob("*.jpg"))
    pictures = cuts(photos, random) if photos else synthetic(random)
    for name in ("one", "two"):
        (chosen.folder / name).mkdir()
    for i, picture in zip(range(chosen.count), pictures, strict=False):
        picture.save(chosen.folder / ("one", "two")[i % 2] / f"{i:05}.jpg", quality=90)


if __name__ == "__main__":
    main()
