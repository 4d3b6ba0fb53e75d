"""Draw: a share of every class, by whole units of samples that must not part."""

import numpy as np

from striate.data.audit import same_pictures
from striate.data.cache import Cache
from striate.data.samples import Samples

__all__ = ["draw", "units"]


def units(samples: Samples, cache: Cache) -> np.ndarray:
    """Number the samples so that those which must not part have the same number."""
    links = [some.tolist() for some in same_pictures(cache)]
    if samples.groups is not None:
        groups: dict[str, list[int]] = {}
        for i, group in enumerate(samples.groups.tolist()):
            groups.setdefault(group, []).append(i)
        groups.pop("", None)
        links += groups.values()
    parent = list(range(len(samples)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for first, *others in links:
        for i in others:
            parent[root(i)] = root(first)
    return np.array([root(i) for i in range(len(samples))])


def _quotas(counts: np.ndarray, share: float, most: int) -> np.ndarray:
    """Return how many of each class to take: largest remainders, one at least, one always left."""
    ideal = counts * min(share, most / counts.sum())
    quotas = np.floor(ideal).astype(np.int64)
    short = round(ideal.sum()) - quotas.sum()
    quotas[np.argsort(quotas - ideal, kind="stable")[:short]] += 1
    quotas = np.clip(quotas, np.minimum(counts // 2, 1), np.maximum(counts - 1, 0))
    while quotas.sum() > most:
        quotas[quotas.argmax()] -= 1
    return quotas


def draw(
    rows: np.ndarray,
    labels: np.ndarray,
    together: np.ndarray,
    share: float,
    most: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return a share of the rows: whole units, each class by its quota as nearly as they allow.

    Shape: (n,) rows, labels and units -> (m,) rows

    Args:
        rows: in an order that does not depend on the disk.
        labels: the class of each row.
        together: the unit of each row.
        share: of each class to draw, 0 to below 1.
        most: rows to draw at most.
    """
    counts = np.bincount(labels)
    quotas = _quotas(counts, share, most)
    _, first, unit, sizes = np.unique(
        together, return_index=True, return_inverse=True, return_counts=True
    )
    several = np.flatnonzero(sizes > 1)
    several = several[np.argsort(first[several])]
    several = several[np.lexsort((rng.random(len(several)), -sizes[several]))]
    by_unit, ends = np.argsort(unit, kind="stable"), np.cumsum(sizes)
    taken = np.zeros(len(rows), bool)
    held, kept = np.zeros_like(counts), np.zeros_like(counts)
    for u in several:
        members = by_unit[ends[u] - sizes[u] : ends[u]]
        here = np.bincount(labels[members], minlength=len(counts))
        if _belongs_out(here, held, kept, counts, quotas):
            held += here
            taken[members] = True
        else:
            kept += here
    single = np.flatnonzero(sizes[unit] == 1)
    spare = np.bincount(labels[single], minlength=len(counts)) - (kept == 0)
    wanted = np.clip(quotas - held, 0, np.maximum(spare, 0))
    shuffled = single[np.lexsort((rng.random(len(single)), labels[single]))]
    starts = np.searchsorted(labels[shuffled], np.arange(len(counts)))
    rank = np.arange(len(shuffled)) - starts[labels[shuffled]]
    taken[shuffled[rank < wanted[labels[shuffled]]]] = True
    return rows[taken]


def _belongs_out(
    here: np.ndarray, held: np.ndarray, kept: np.ndarray, counts: np.ndarray, quotas: np.ndarray
) -> bool:
    """Tell which side lacks a unit more, by its samples of each class; no class is left out of one.

    Source: Sainte-Laguë 1910: of two sides, the one that would be less full with half of it.
    """
    mine = here > 0
    here, held, kept = here[mine], held[mine], kept[mine]
    counts, quotas = counts[mine], quotas[mine]
    last = held + kept + here == counts
    if (last & (kept == 0)).any() or not quotas.any():
        return False
    if (last & (held == 0) & (quotas > 0)).any():
        return True
    out = (here * (held + here / 2) / np.maximum(quotas, 0.5)).sum()
    stay = (here * (kept + here / 2) / (counts - quotas)).sum()
    return bool(out < stay)
