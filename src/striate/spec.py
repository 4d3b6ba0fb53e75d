"""What one sample is: the contract between data, model, bundle and server. No torch here."""

from math import prod
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["DTYPES", "Spec"]

# The arrays a sample may be stored as, with the raw values that mean black and white.
DTYPES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "float32": (0.0, 1.0)}


class Spec(BaseModel):
    """Shape, units and classes of one sample (C, *S).

    It travels from the data through the model and the bundle to the server; `data.prepare` turns
    any decoded file into a sample of it, in training and in serving alike.

    Args:
        kind: what was read: files of the kinds of `data.kinds`, or arrays of one to three axes.
        channels: C, number of input channels.
        size: S, extent of each spatial axis in samples, slowest axis first: (H, W) for an image.
        resize: how a file of another size becomes `size`: `stretch` keeps all of the content,
            `crop` keeps the aspect ratio and cuts what juts out at the centre, `pad` keeps both
            and fills with middle grey.
        dtype: the array type of a prepared sample; its value range is in `DTYPES`.
        mean: per-channel mean, in raw units of `dtype`, subtracted first.
        std: per-channel deviation, in raw units of `dtype`, divided by next; above 0.
        step: distance between neighbouring samples along each axis, in `unit`.
        unit: "px", "s" or "mm".
        frequencies: of a sound, the ends of its bands, lowest and highest, in Hz.
        words: of a text, what the numbers 2, 3, ... mean; 0 is no word, 1 an unknown one.
        task: what the network answers.
        classes: class names, in the order of the network's outputs.

    Raises:
        ValueError: a list has not one value per channel or axis, or a number is out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image", "sound", "text", "series", "volume"] = "image"
    channels: int
    size: tuple[int, ...]
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    step: tuple[float, ...] = ()
    unit: Literal["px", "s", "mm"] = "px"
    frequencies: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    task: Literal["classification"] = "classification"
    classes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1; got {self.channels}")
        if not 1 <= len(self.size) <= 3 or min(self.size) < 1:
            raise ValueError(f"size must have 1 to 3 axes of at least 1 sample; got {self.size}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values and len(values) != self.channels:
                raise ValueError(
                    f"{name} must have {self.channels} values, one a channel; got {values}"
                )
        if self.std and min(self.std) <= 0:
            raise ValueError(f"std must be above 0 in every channel; got {self.std}")
        if self.step and len(self.step) != self.axes:
            raise ValueError(f"step must have {self.axes} values, one an axis; got {self.step}")
        if self.kind == "sound" and (self.axes != 1 or not self.step or len(self.frequencies) != 2):
            raise ValueError(
                "a sound must have size (frames,), step (seconds,) and two frequencies; got "
                f"{self.size}, {self.step}, {self.frequencies}"
            )
        if self.kind == "text" and (self.shape != (1, *self.size[:1]) or self.mean):
            raise ValueError(
                f"a text must be (1, words) without a mean; got {self.shape}, {self.mean}"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class names must differ; got {self.classes}")
        return self

    @property
    def axes(self) -> int:
        """Number of spatial axes: 1 series, 2 image, 3 volume or video."""
        return len(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        return (self.channels, *self.size)

    @property
    def values(self) -> int:
        """Numbers in one sample."""
        return prod(self.shape)

    @property
    def fits_pictures(self) -> bool:
        """Whether floats of this mean and deviation can lie between 0 (black) and 1 (white).

        Math: 0 <= x <= 1  =>  0 <= mean <= 1 and std <= 1/2
        Source: Popoviciu 1935
        """
        if self.dtype != "float32":
            return True
        slack = 1e-6  # of rounding
        inside = all(-slack <= mean <= 1 + slack for mean in self.mean)
        return inside and all(std <= 0.5 + slack for std in self.std)

    def check_unit(self, dtype: str) -> None:
        """Refuse whole numbers, whose white is 1, where the network knows floats of another unit.

        Raises:
            ValueError: samples of `dtype` cannot have this mean or deviation.
        """
        if dtype != "float32" and not self.fits_pictures:
            raise ValueError(
                f"the network learnt floats that are no shares of white (mean {self.mean}), "
                f"and {dtype} samples are read as 0 (black) to 1 (white): give floats of the same "
                "unit, or train on values divided by their white"
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """Raw values that mean black and white."""
        return DTYPES[self.dtype]
