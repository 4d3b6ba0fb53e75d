"""Files to samples to batches: read, decode, prepare, audit, split, cache; then load and augment.

Everything here is free of torch except `loader` and `augment`, the last two steps; so names are
imported when they are first used.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Audit": "audit",
    "Augment": "augment",
    "Cache": "cache",
    "Fault": "samples",
    "Loader": "loader",
    "Samples": "samples",
    "Split": "split",
    "choose_spec": "choice",
    "load_split": "split",
    "make_split": "split",
    "normalise": "prepare",
    "open_cache": "cache",
    "prepare_file": "prepare",
    "read": "readers",
    "save_split": "split",
    "statistics": "cache",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"striate.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'striate.data' has no attribute {name!r}")
