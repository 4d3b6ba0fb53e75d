"""Golden samples: raw files with the answers to them, by which a bundle can be replayed."""

from collections.abc import Callable
from io import BytesIO

import numpy as np

from striate.data.hashes import digest
from striate.data.layout import laid_out
from striate.data.material import Material
from striate.data.prepare import to_bytes
from striate.files import read_regular

__all__ = ["golden_samples"]


def golden_samples(
    material: Material, index: np.ndarray, answer: Callable[[int], list[float]], most: int = 4
) -> dict[str, tuple[bytes, list[float]]]:
    """Return file name -> (raw file, answer) of some samples, as `bundle.save` takes them.

    They are spread evenly over `index`. A sample whose file is gone or has changed since it was
    read is passed over for the next: no training is lost for it.

    Args:
        index: (n,) rows of the samples to choose from.
        answer: gives the probabilities of one row.
        most: samples to return at most; there are fewer where no file can hold the others.
    """
    step = max(1, len(index) // most)
    golden: dict[str, tuple[bytes, list[float]]] = {}
    for place in sorted(range(len(index)), key=lambda i: i % step):
        row = int(index[place])
        if len(golden) < most and (raw := _raw(material, row)):
            name, content = raw
            golden[name] = (content, answer(row))
    return golden


def _raw(material: Material, row: int) -> tuple[str, bytes] | None:
    """Return name and content of a file that decodes to the sample; None where there is none."""
    try:
        if material.samples.files is None:
            x = material.cache.x[row]
            if material.spec.kind in ("series", "volume"):
                return f"{row}.npz", _npz(x)
            return f"{row}.{'tif' if x.dtype == np.float32 else 'png'}", to_bytes(x)
        path = material.samples.files[row]
        content = read_regular(path)
    except (OSError, ValueError):  # the file is gone, or no format holds such samples
        return None
    same = digest(content).hex().encode() == material.cache.hashes[row]
    return (f"{row}{path.suffix.lower()}", content) if same else None


def _npz(x: np.ndarray) -> bytes:
    """Write one sample (C, *S) as an NPZ that is read as it.

    Raises:
        ValueError: in no order of its axes would it be.
    """
    file = BytesIO()
    for batch in (x[None], np.moveaxis(x, 0, -1)[None]):
        if np.array_equal(laid_out(batch, x.ndim - 1, "golden")[0][0], x):
            np.savez(file, x=batch)
            return file.getvalue()
    raise ValueError(f"the channels of {x.shape} would be looked for elsewhere")
