"""Sound: the bytes of a WAV, FLAC, OGG or AIFF file -> log-mel bands, a series (bands, frames)."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from striate.errors import DataError
from striate.files import open_regular, read_regular
from striate.spec import Spec

__all__ = [
    "SUFFIXES",
    "Sound",
    "SoundHeader",
    "decode_sound",
    "log_mel",
    "prepare_sound",
    "probe_sound",
]

# File names that are taken for sounds, in lower case.
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".aif", ".aiff"})

BANDS, STEP, FREQUENCIES = 16, 0.01, (0.0, 4000.0)  # of a Spec that nobody chose, s and Hz
WINDOW = 0.025  # of a spectrum, in seconds
FLOOR = 1e-9  # power added before the logarithm: -90 dB of full scale


@dataclass(frozen=True)
class Sound:
    """Hold one decoded sound.

    Args:
        wave: (T,) float32, channels averaged, full scale 1.
        rate: samples a second.
        notes: what a user might not expect, one sentence each.
    """

    wave: np.ndarray
    rate: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SoundHeader:
    """Say how long a sound is, in seconds, and its rate, in samples a second."""

    seconds: float
    rate: int


def decode_sound(source: Path | bytes) -> Sound:
    """Decode a sound file.

    Raises:
        DataError: it is no sound, damaged or empty, or soundfile is missing; the text gives the
            reason without the path.
    """
    soundfile = _soundfile()
    try:
        data = source if isinstance(source, bytes) else read_regular(source)
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    if not data:
        raise DataError("the file is empty (0 bytes)")
    try:
        wave, rate = soundfile.read(BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise DataError(f"is not a whole sound file: {_reason(error)}") from error
    if not len(wave):
        raise DataError("holds no sound: 0 samples")
    if not np.isfinite(wave).all():
        raise DataError("holds NaN or infinite values; replace them")
    count = wave.shape[1]
    notes = (f"{count} channels averaged",) if count > 1 else ()
    return Sound(wave.mean(axis=1, dtype=np.float32), int(rate), notes)


def probe_sound(path: Path) -> SoundHeader:
    """Read the header of a sound file.

    Raises:
        DataError: as `decode_sound`.
    """
    soundfile = _soundfile()
    try:
        with open_regular(path) as file:
            found = soundfile.info(file)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise DataError(f"is not a whole sound file: {_reason(error)}") from error
    return SoundHeader(found.frames / max(1, found.samplerate), found.samplerate)


def _reason(error: Exception) -> str:
    """Return libsndfile's own words: soundfile puts the address of an open file before them."""
    return str(getattr(error, "error_string", error))


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise DataError("reading sound wants soundfile: pip install 'striate[audio]'") from error
    return soundfile


def prepare_sound(sound: Sound, spec: Spec) -> np.ndarray:
    """Return the log-mel bands of a sound, from its start, as long as `spec` says.

    Shape: -> (bands, frames) float32; what is missing at the end is silence
    """
    bands = log_mel(sound.wave, sound.rate, spec.channels, spec.step[0], spec.frequencies)
    frames = spec.size[0]
    silence = np.full((spec.channels, max(0, frames - bands.shape[1])), decibels(0.0), np.float32)
    return np.concatenate([bands[:, :frames], silence], axis=1)


def decibels(power: Any) -> Any:
    """Return power in dB of full scale, -90 for none."""
    return 10 * np.log10(np.asarray(power) + FLOOR)


def log_mel(
    wave: np.ndarray,
    rate: int,
    bands: int = BANDS,
    step: float = STEP,
    frequencies: tuple[float, ...] = FREQUENCIES,
) -> np.ndarray:
    """Return the energy of bands of equal width in mel, in dB, every `step` seconds.

    Shape: (T,) -> (bands, ceil(T / (step rate))) float32
    Math:  10 log10(sum_f w_bf |STFT(t, f)|^2 + 1e-9); Hamming windows of 25 ms around each time;
           w triangles of sum 1 between equal steps of m = 2595 log10(1 + f / 700); a band above
           half the rate is silent

    Args:
        rate: samples a second.
        bands: number of triangles.
        step: between frames, in seconds.
        frequencies: lower end of the first band and upper end of the last, in Hz.

    Source: Davis, Mermelstein 1980; Waibel et al. 1989 for 16 bands every 10 ms.
    """
    span = max(2, round(WINDOW * rate))
    times = np.arange(max(1, int(np.ceil(len(wave) / (step * rate)))))
    starts = np.rint(times * step * rate).astype(np.int64)
    padded = np.pad(wave, (span // 2, span + int(step * rate) + 1))
    frames = padded[starts[:, None] + np.arange(span)] * np.hamming(span)
    count = 1 << (span - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, count)) ** 2 / np.square(np.hamming(span)).sum()
    return decibels(power @ _triangles(count, rate, bands, frequencies).T).T.astype(np.float32)


def _triangles(count: int, rate: int, bands: int, frequencies: tuple[float, ...]) -> np.ndarray:
    """Return the weight of each of count // 2 + 1 frequencies in each band."""
    ends = 2595 * np.log10(1 + np.array(frequencies) / 700)
    corners = 700 * (10 ** (np.linspace(ends[0], ends[1], bands + 2) / 2595) - 1)
    place = np.arange(count // 2 + 1) * rate / count
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (place - low) / (middle - low), (high - place) / (high - middle)
    weight = np.clip(np.minimum(rising, falling), 0, None)
    return weight / np.maximum(weight.sum(1, keepdims=True), 1e-12)
