"""A trained network on disk: weights, how to rebuild it, what its samples are, how good it is.

    config.json        architecture and options (timm's keys); checksums of all other files
    model.safetensors  weights
    spec.json          what one sample is
    recipe.toml        how it was trained
    scores.json        scores with their intervals; the calibrated temperature
    golden/            a few raw input files, and expected.json with the answers
    README.md          model card

A folder, or the same files as one `.zip` (`container` writes, reads and checks them). Loading
reads JSON, TOML and safetensors: it runs no code from the bundle.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from striate import __version__
from striate.container import encode, parse_object, read, refuse_existing, write
from striate.errors import BundleError, RecipeError, suggest
from striate.models import MODELS, build
from striate.recipe import Recipe
from striate.spec import Spec

__all__ = ["Bundle", "grow_like", "load", "save"]

CROP_MODE = {"stretch": "squash", "crop": "center", "pad": "border"}  # Spec.resize in timm's words
EXPECTED = "golden/expected.json"

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Bundle:
    """What `load` found.

    Args:
        model: the network in evaluation mode; (N, C, *S) normalised -> (N, K) logits.
        name: the network's name in `MODELS`.
        options: what its builder was given besides the spec.
        scores: scores by split, each `{"value", "low", "high", "n", "method"}`.
        temperature: logits are divided by it before the softmax; above 0.
        golden: file name in `golden/` -> expected probabilities, in the order of `spec.classes`.
        path: the folder or .zip that was read.
    """

    model: nn.Module
    name: str
    options: dict[str, Any]
    spec: Spec
    recipe: Recipe
    scores: dict[str, Any]
    temperature: float
    golden: dict[str, list[float]]
    path: Path


class _Config(BaseModel):
    architecture: str
    model_args: dict[str, Any]


class _Scores(BaseModel):
    scores: dict[str, Any]
    temperature: float = Field(gt=0, allow_inf_nan=False)


class _Answer(BaseModel):
    probabilities: list[float]


def save(
    path: str | Path,
    model: nn.Module,
    name: str,
    spec: Spec,
    recipe: Recipe,
    *,
    options: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    temperature: float = 1.0,
    golden: Mapping[str, tuple[bytes, Sequence[float]]] | None = None,
) -> Path:
    """Write a bundle, all or nothing; the same content gives the same bytes.

    Args:
        path: a new folder, or a new file whose name ends in `.zip`.
        model: what `models.build(name, spec, **options)` gave, trained.
        options: numbers, strings, booleans and lists of them.
        scores: scores by split; a value that is not finite is written as null.
        golden: file name -> (the raw file, its probabilities in the order of `spec.classes`).

    Raises:
        BundleError: `path` exists or cannot be written; nothing is left behind.
        ValueError: the model is not what `build` gives, so that nobody could load it.
    """
    path = Path(path)
    refuse_existing(path)
    chosen = _plain(options or {})
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be finite and above 0; got {temperature}")
    if chosen != dict(options or {}):
        raise ValueError(f"options must be numbers, strings, booleans and lists; got {options}")
    tensors = _tensors(getattr(model, "_orig_mod", model))  # what torch.compile wraps
    empty = _build(name, spec, chosen)
    grow_like(empty, tensors)
    if faults := _misfits(empty, tensors):
        raise ValueError(f"model is not what build({name!r}) gives: {'; '.join(faults)}")
    results = _plain(scores or {})
    files = {
        "model.safetensors": bytes_of(tensors, metadata={"format": "pt"}),
        "spec.json": encode(spec.model_dump()),
        "recipe.toml": recipe.toml().encode(),
        "scores.json": encode({"scores": results, "temperature": float(temperature)}),
        **_golden(golden or {}, spec),
        "README.md": _card(name, spec, results).encode("utf-8", "backslashreplace"),
    }
    write(path, _config(model, name, spec, chosen), files)
    return path


def load(path: str | Path, device: str | torch.device = "cpu") -> Bundle:
    """Rebuild the network of a bundle, or of a run folder, in evaluation mode.

    Raises:
        BundleError: it is missing, damaged, of another format version, or names a network that
            this version does not have; the text names the file at fault.
    """
    path = Path(path)
    if (path / "bundle" / "config.json").is_file() and not (path / "config.json").is_file():
        path = path / "bundle"
    header, files = read(path)
    for name in ("model.safetensors", "spec.json", "recipe.toml", "scores.json", EXPECTED):
        if name not in files:
            raise BundleError(f"{path}: {name} is missing from what config.json lists")
    config = _valid(_Config, header, "config.json", path)
    spec = _record(Spec, files, "spec.json", path)
    scores = _record(_Scores, files, "scores.json", path)
    recipe = _recipe(files["recipe.toml"], path)
    model = _restore(config, spec, files["model.safetensors"], path)
    return Bundle(
        model=model.to(device).eval(),
        name=config.architecture,
        options=config.model_args,
        spec=spec,
        recipe=recipe,
        scores=scores.scores,
        temperature=scores.temperature,
        golden=_answers(files, spec, path),
        path=path,
    )


# What is in the files


def _config(model: nn.Module, name: str, spec: Spec, options: dict[str, Any]) -> dict[str, Any]:
    """What a network is, in timm's words where timm has one."""
    low, high = spec.value_range
    cfg: dict[str, Any] = {
        "input_size": list(spec.shape),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": CROP_MODE[spec.resize],
    }
    if spec.mean:
        cfg["mean"] = [(value - low) / (high - low) for value in spec.mean]
    if spec.std:
        cfg["std"] = [value / (high - low) for value in spec.std]
    config: dict[str, Any] = {"architecture": name, "num_classes": len(spec.classes)}
    if isinstance(width := getattr(model, "num_features", None), int):
        config["num_features"] = width
    return config | {
        "label_names": list(spec.classes),
        "model_args": options,
        "pretrained_cfg": cfg,
    }


def _golden(golden: Mapping[str, tuple[bytes, Sequence[float]]], spec: Spec) -> dict[str, bytes]:
    files, answers = {}, {}
    for number, (name, (content, probabilities)) in enumerate(golden.items()):
        if len(probabilities) != len(spec.classes):
            raise ValueError(
                f"golden[{name!r}] must have {len(spec.classes)} probabilities, one a class; "
                f"got {len(probabilities)}"
            )
        row = [float(p) for p in probabilities]
        file = f"{number:02d}-{re.sub(r'[^A-Za-z0-9._-]', '_', PurePosixPath(name).name)[-60:]}"
        files[f"golden/{file}"] = content
        answers[file] = {"class": spec.classes[row.index(max(row))], "probabilities": row}
    return {**files, EXPECTED: encode(answers)}


def _answers(files: dict[str, bytes], spec: Spec, path: Path) -> dict[str, list[float]]:
    answers = {}
    for name, found in parse_object(files[EXPECTED], EXPECTED, path).items():
        row = _valid(_Answer, found, EXPECTED, path).probabilities
        if f"golden/{name}" not in files or len(row) != len(spec.classes):
            raise BundleError(
                f"{path}: {EXPECTED} must have a file and {len(spec.classes)} probabilities for "
                f"golden/{name}; got {len(row)}"
            )
        answers[name] = row
    return answers


def _recipe(content: bytes, path: Path) -> Recipe:
    try:
        return Recipe.parse(tomllib.loads(content.decode()))
    except (RecipeError, ValueError) as error:
        raise BundleError(f"{path}: recipe.toml holds no recipe: {error}") from None


def _record(kind: type[Record], files: dict[str, bytes], name: str, path: Path) -> Record:
    return _valid(kind, parse_object(files[name], name, path), name, path)


def _valid(kind: type[Record], value: Any, name: str, path: Path) -> Record:
    """Check a value that file `name` of the bundle at `path` holds."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{path}: {name} does not fit: {where} {first['msg']}") from None


# What a card says of a kind of samples: the hub's word for the task, and what to predict.
EXAMPLES = {
    "image": ("image-classification", "photos/", "photo.jpg"),
    "sound": ("audio-classification", "sounds/", "sound.wav"),
    "text": ("text-classification", "texts/", "text.txt"),
    "series": ("", "arrays.npz", "arrays.npz"),
    "volume": ("", "arrays.npz", "arrays.npz"),
}


def _card(name: str, spec: Spec, scores: dict[str, Any]) -> str:
    """The model card: what it is, how good it is, how to use it."""
    rows = list(_score_rows(scores))
    metrics = list(dict.fromkeys(path.rpartition(" ")[2] for path, _ in rows))
    table = ["| score | value | 95 % interval | n | method |", "|---|---|---|---|---|"]
    for path, score in rows:
        value, low, high = (_number(score.get(key)) for key in ("value", "low", "high"))
        count, method = score.get("n", ""), score.get("method", "")
        table.append(f"| {path} | {value} | {low} to {high} | {count} | {method} |")
    task, many, one = EXAMPLES[spec.kind]
    head = ["---", "library_name: striate", *([f"pipeline_tag: {task}"] if task else [])]
    head += ["metrics:", *(f"- {metric}" for metric in metrics)] if metrics else []
    size = " x ".join(map(str, spec.size))
    classes = (json.dumps(text, ensure_ascii=False) for text in spec.classes)
    return "\n".join(
        [
            *head,
            "# license: not set; name one before you publish this",
            "---",
            f"# {name}: {len(spec.classes)} classes of {spec.kind}",
            "",
            f"Input: {spec.channels} channels of {size} {spec.dtype} samples.",
            "Any file is brought to it by Striate itself (`spec.json` says how).",
            "",
            "## Scores",
            "",
            *(table if rows else ["None were measured."]),
            "",
            "## Use",
            "",
            "```",
            f"striate predict THIS_FOLDER {many}",
            "```",
            "```python",
            "import striate",
            "",
            f'striate.load("THIS_FOLDER").predict(["{one}"])',
            "```",
            "",
            "## Classes",
            "",
            "```",
            *classes,
            "```",
            "",
        ]
    )


def _score_rows(scores: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    rows: list[tuple[str, dict[str, Any]]] = []
    for key, value in scores.items():
        if isinstance(value, dict):
            here = f"{path} {key}".strip()
            rows += [(here, value)] if "value" in value else _score_rows(value, here)
    return rows


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "?"


def _plain(value: Any) -> Any:
    """Return what JSON can hold: NumPy's numbers as Python's, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | int | float | None):
        return value
    raise TypeError(f"a bundle holds numbers, strings, booleans, lists and mappings; got {value!r}")


# The network and its weights


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Copy the state: safetensors wants dense tensors that share no memory."""
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"model state {name!r} must be a tensor; got {type(value).__name__}")
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
    }


def _build(name: str, spec: Spec, options: dict[str, Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay what they were
        return build(name, spec, **options)


def grow_like(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give the tensors that grow by learning the size that they have in `tensors`.

    A module names them in `grows`; what is in them is for `load_state_dict` to copy.
    """
    for path, module in model.named_modules():
        for name in getattr(module, "grows", ()):
            found, own = tensors.get(f"{path}.{name}" if path else name), getattr(module, name)
            if found is not None and found.dim() == own.dim():
                own.data = own.new_empty(found.shape)


def _misfits(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Say where tensors are not the state of `model`: at most three of each kind."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in tensors.items()}
    faults = [f"{name} is missing" for name in wanted if name not in got][:3]
    faults += [f"{name} is not part of the network" for name in got if name not in wanted][:3]
    faults += [
        f"{name} must have shape {wanted[name]}, got {got[name]}"
        for name in wanted
        if name in got and wanted[name] != got[name]
    ][:3]
    return faults


def _restore(config: _Config, spec: Spec, weights: bytes, path: Path) -> nn.Module:
    name = config.architecture
    if name not in MODELS:
        raise BundleError(
            f"{path}: config.json names the network {name!r}, which striate {__version__} does "
            f"not have; {suggest(name, MODELS)}"
        )
    try:
        model = _build(name, spec, config.model_args)
    except (RecipeError, RuntimeError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: config.json cannot be built into {name!r}: {error}") from error
    try:
        tensors = tensors_of(weights)
    except SafetensorError as error:
        raise BundleError(f"{path}: model.safetensors cannot be read: {error}") from None
    grow_like(model, tensors)
    if faults := _misfits(model, tensors):
        raise BundleError(f"{path}: model.safetensors does not fit {name!r}: {'; '.join(faults)}")
    for key, value in model.state_dict(keep_vars=True).items():
        value.data = value.data.to(tensors[key].dtype)  # bfloat16 stays bfloat16
    model.load_state_dict(tensors)
    return model
