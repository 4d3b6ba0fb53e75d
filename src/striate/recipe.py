"""Every number that a run depends on, in one place. No torch here.

A field is an option of `striate train` and a key of `recipe.toml`; its description is the help.
"""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from striate.errors import RecipeError, suggest

__all__ = ["Recipe"]

Option = bool | int | float | str
Whole = Annotated[int, Field(le=2**63 - 1)]  # what TOML, numpy and torch hold


class Recipe(BaseModel):
    """How to train. 0 or "auto" lets the data, the budget and the machine decide.

    Raises:
        RecipeError: from `parse` and `read`, with the field, its value and its range.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    model: str = Field("fastnet", description="network: a name from `striate models`")
    model_options: dict[str, Option] = Field(
        default_factory=dict, description="options of the network's builder"
    )
    seconds: float = Field(
        0, ge=0, description="wall clock from process start to saved bundle; 0: by epochs"
    )
    epochs: float = Field(
        0, ge=0, description="passes over the training data; 0: by seconds, or from the data"
    )
    axes: int = Field(
        0, ge=0, le=3, description="of a sample in an NPZ: 1 series, 2 picture, 3 volume; 0: auto"
    )
    size: Whole = Field(0, ge=0, description="side of a sample in pixels; 0: from the data")
    resize: Literal["stretch", "crop", "pad"] = Field(
        "stretch", description="how a file of another size becomes `size`"
    )
    batch: Whole = Field(0, ge=0, description="samples an update; 0: from the data")
    accumulate: Whole = Field(1, ge=1, description="batches whose gradients make one update")
    optimizer: Literal["auto", "sgd", "adamw", "muon"] = Field("auto", description="update rule")
    lr: float = Field(0, ge=0, description="peak learning rate; 0: the optimizer's own")
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last update kept")
    weight_decay: float = Field(
        -1, ge=-1, description="decay of weights, none on biases and norms; -1: the optimizer's own"
    )
    l1: float = Field(
        0, ge=0, description="L1 penalty: what weights lose at a learning rate of 1, none below 0"
    )
    schedule: Literal["onecycle", "linear", "cosine", "constant"] = Field(
        "onecycle", description="course of the learning rate"
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share spread over all classes")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="weight of each class in the loss"
    )
    ema: float = Field(
        0.95, ge=0, lt=1, description="lookahead average of the weights, kept share; 0: off"
    )
    clip: float = Field(0, ge=0, description="largest gradient norm; 0: no limit")
    augment: str = Field(
        "auto",
        description="flip, flips, crop=4, translate=2, zoom=0.35, affine=10, elastic=34, "
        "jitter=0.2, cutout=8: any of them, joined by commas; or none",
    )
    mixup: float = Field(0, ge=0, description="Beta parameter of mixing two samples; 0: off")
    test_time: bool = Field(False, description="average the answers over mirrored, shifted views")
    validation: float = Field(
        0.1, ge=0, lt=1, description="share held out to calibrate, at most 2000 samples"
    )
    test: float = Field(
        0.2, ge=0, lt=1, description="share held out to score, where the data name no test split"
    )
    bad: float = Field(
        0.01, ge=0, le=1, description="share of unreadable files above which training refuses"
    )
    seed: Whole = Field(0, ge=0, description="of split, weights, order and augmentation")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the forward pass; half only where the hardware has it"
    )
    threads: Whole = Field(0, ge=0, description="CPU threads; 0: from the machine's load")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="training steps as graphs, on the CPU; auto: where it lasts minutes"
    )
    processes: Whole = Field(
        1, ge=1, description="workers that train one set of shared weights (CHAOS), on the CPU"
    )
    publication: Literal["layers", "free"] = Field(
        "layers", description="of their gradients: one worker a layer at a time, or no control"
    )
    checkpoint: float = Field(
        30, gt=0, description="seconds between checkpoints; a kill loses at most this much"
    )

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Check a mapping of fields, e.g. from TOML or the command line."""
        for key in values:
            if key not in cls.model_fields:
                raise RecipeError(
                    f"a recipe has no field {key!r}; {suggest(key, cls.model_fields)}"
                )
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            raise RecipeError(
                f"{field} ({cls.model_fields[field].description}): {first['msg'].lower()}; "
                f"got {first['input']!r}"
            ) from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file that `write` or a person wrote."""
        try:
            return cls.parse(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(f"{path} is no readable recipe (TOML): {error}") from None

    def toml(self) -> str:
        """Return the text that `read` turns back into this recipe, help as comments."""
        lines = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            lines.append(f"{name} = {_toml(value)}  # {field.description}")
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(
        value, ensure_ascii=False
    )  # numbers, booleans and strings are written alike in JSON and TOML
