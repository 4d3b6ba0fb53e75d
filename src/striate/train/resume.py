"""State of a run on disk: weights, optimizer, position, random state; all or nothing, no pickle.

Two folders take turns, `state/a` and `state/b`: the older one is replaced by renaming a complete
new one into its place, so that a kill at any instant leaves at least one whole. Continued from
it, a run on the CPU ends bit-identical to one that was never stopped.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from striate.bundle import grow_like
from striate.errors import DataError, RecipeError
from striate.train.loop import State

__all__ = ["newest", "restore", "store", "telling_what_is_kept", "whole_or_none"]

SLOTS = ("a", "b")


def store(folder: Path, state: State, facts: dict[str, Any]) -> None:
    """Write `state` and the JSON object `facts` (loader position, history, ...).

    Raises:
        DataError: the disk is full or read-only; what was stored before, if anything, is still
            whole.
    """
    current = newest(folder)
    slot = folder / SLOTS[1 if current and current[0].name == SLOTS[0] else 0]
    part = folder / f"{slot.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        tensors, rest = _flatten(state)
        save_file(tensors, part / "tensors.safetensors")
        text = json.dumps({"index": state.index, "state": rest, "facts": facts})
        seal = _seal(part / "tensors.safetensors", text)
        _write(part / "state.json", json.dumps({"seal": seal, "text": text}))
        shutil.rmtree(slot, ignore_errors=True)
        os.replace(part, slot)
    except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        shutil.rmtree(part, ignore_errors=True)
        why = getattr(error, "strerror", None) or error
        kept = "the last one is still whole; free some space, then go on with --resume"
        none = "it was the first, so nothing is kept; free some space, then start anew"
        raise DataError(
            f"a checkpoint could not be written to {folder}: {why}; {kept if current else none}"
        ) from error


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest whole slot and what `store` wrote beside the tensors."""
    found = []
    for slot in SLOTS:
        try:
            sealed = json.loads((folder / slot / "state.json").read_text(encoding="utf-8"))
            seal = _seal(folder / slot / "tensors.safetensors", sealed["text"])
            if seal == sealed["seal"]:
                found.append((folder / slot, json.loads(sealed["text"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # absent, or cut off by a kill: the other slot counts
    return max(found, key=lambda slot: slot[1]["index"], default=None)


def whole_or_none(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return what `newest` does; None only where nothing was ever stored.

    Raises:
        DataError: all that was stored is damaged. To begin again would write over what a backup,
            or a disk that is mended, may still bring back.
    """
    found, there = newest(folder), [slot for slot in SLOTS if (folder / slot).exists()]
    if there and found is None:
        raise DataError(
            f"wanted a stored state that is whole; {' and '.join(there)} in {folder} are damaged: "
            "restore the folder from a copy, or start a new run; a bundle beside it, if there is "
            "one, is not touched"
        )
    return found


@contextmanager
def telling_what_is_kept(folder: Path) -> Iterator[None]:
    """Add to the error of a training that failed where its last good weights are."""
    try:
        yield
    except RecipeError as error:
        kept = newest(folder)
        if kept is None:
            raise
        raise RecipeError(f"{error}; update {kept[1]['index']} is kept in {kept[0]}") from error


def restore(folder: Path, state: State) -> dict[str, Any]:
    """Put the newest stored state into `state`; return its facts.

    Raises:
        DataError: nothing whole is stored there.
        RecipeError: it belongs to another network or optimizer.
    """
    found = newest(folder)
    if found is None:
        raise DataError(
            f"wanted a stored state to resume from; {folder} holds none that is whole; "
            "start a new run"
        )
    slot, stored = found
    try:
        tensors = load_file(slot / "tensors.safetensors")
        _unflatten(state, tensors, stored["state"])
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise RecipeError(
            f"the state in {slot} belongs to another network or optimizer: {error}; resume with "
            "the run's own recipe"
        ) from error
    state.index = stored["index"]
    facts: dict[str, Any] = stored["facts"]
    return facts


def _flatten(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Name every tensor of the state; what is no tensor goes into JSON."""
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    numbers: dict[str, dict[str, Any]] = {}
    for index, moments in state.optimizer.state_dict()["state"].items():
        for key, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                numbers.setdefault(str(index), {})[key] = value
    if state.lookahead:
        tensors.update({f"slow.{i}": t for i, t in enumerate(state.lookahead.slow)})
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    rest = {
        "numbers": numbers,
        "seconds": state.seconds,
        "peak": state.peak,
        "scaler": state.scaler.state_dict() if state.scaler else None,
    }
    return {k: v.detach().contiguous().clone() for k, v in tensors.items()}, rest


def _unflatten(state: State, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    model = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
    grow_like(state.model, model)
    state.model.load_state_dict(model)
    moments: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            moments.setdefault(int(index), {})[key] = value
    for index, numbers in rest["numbers"].items():
        moments.setdefault(int(index), {}).update(numbers)
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    _keep_layout(state.optimizer)
    if state.lookahead:
        for i, slow in enumerate(state.lookahead.slow):
            slow.copy_(tensors[f"slow.{i}"])
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    if state.scaler and rest["scaler"]:
        state.scaler.load_state_dict(rest["scaler"])
    state.seconds, state.peak = rest["seconds"], rest["peak"]


def _keep_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay moments out like their parameters: another order of sums would change the last bit."""
    for p, moments in optimizer.state.items():
        for key, value in moments.items():
            if isinstance(value, Tensor) and value.shape == p.shape and value.dim() > 0:
                moments[key] = torch.empty_like(p).copy_(value)


def _seal(tensors: Path, text: str) -> str:
    digest = blake2b(text.encode(), digest_size=16)
    with open(tensors, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
