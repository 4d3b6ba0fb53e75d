"""Tones land in their bands, time is kept, silence is silence; what is no sound is said."""

import io
import wave

import numpy as np
import pytest
from PIL import Image

from striate.data.choice import choose_spec
from striate.data.prepare import prepare_file
from striate.data.readers import read
from striate.data.sound import decode_sound, log_mel, prepare_sound, probe_sound
from striate.errors import DataError
from striate.spec import Spec

pytest.importorskip("soundfile")
RATE = 8000


def tone(hertz, seconds=0.5, rate=RATE, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def wav(samples, rate=RATE, channels=1):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


SPEC = Spec(
    kind="sound", channels=16, size=(60,), dtype="float32", step=(0.01,), unit="s",
    frequencies=(0.0, 4000.0), classes=("a", "b"),
)  # fmt: skip


def centres():
    mel = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 18)[1:-1]
    return 700 * (10 ** (mel / 2595) - 1)


@pytest.mark.parametrize("band", [2, 7, 14])
@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_a_tone_lands_in_its_band_at_any_rate(band, rate):
    bands = log_mel(tone(centres()[band], rate=rate), rate)
    assert (bands[:, 5:-5].argmax(0) == band).all()


def test_frames_are_as_many_as_hundredths_of_a_second():
    for seconds in (0.01, 0.144, 0.5, 1.0):
        assert log_mel(tone(440, seconds), RATE).shape == (16, round(np.ceil(100 * seconds)))
    assert log_mel(tone(440, 0.5, 22050), 22050).shape == (16, 50)


def test_ten_times_the_level_is_twenty_decibels():
    loud, soft = (log_mel(tone(1000, level=level), RATE)[:, 20].max() for level in (0.5, 0.05))
    assert loud - soft == pytest.approx(20, abs=0.05)


def test_silence_is_minus_90_decibels_and_fills_up():
    assert np.allclose(log_mel(np.zeros(800, "f4"), RATE), -90)
    x = prepare_sound(decode_sound(wav(tone(500, 0.2))), SPEC)
    assert x.shape == (16, 60)
    assert x.dtype == np.float32
    assert np.allclose(x[:, 22:], -90)
    long = prepare_sound(decode_sound(wav(tone(500, 2.0))), SPEC)
    assert long.shape == (16, 60)
    assert long.min() > -90


def test_later_sounds_come_later():
    first = log_mel(tone(700, 0.3), RATE)
    later = log_mel(np.concatenate([np.zeros(1600, "f4"), tone(700, 0.3)]), RATE)
    np.testing.assert_allclose(later[:, 20:50], first, atol=1e-4)


def test_channels_are_averaged_and_said():
    both = np.stack([tone(500), np.zeros(4000, "f4")], 1)
    sound = decode_sound(wav(both.ravel(), channels=2))
    assert sound.notes == ("2 channels averaged",)
    np.testing.assert_allclose(sound.wave, tone(500) / 2, atol=1e-4)


def test_a_folder_of_sounds_is_read_and_prepared_alike(tmp_path):
    for name, hertz in (("low", 300), ("high", 2500)):
        (tmp_path / name).mkdir()
        for n in range(3):
            (tmp_path / name / f"{n}.wav").write_bytes(wav(tone(hertz, 0.3 + 0.1 * n)))
    samples = read(tmp_path)
    assert samples.kind == "sound"
    assert samples.classes == ("high", "low")
    spec = choose_spec(samples)
    assert (spec.kind, spec.shape, spec.unit) == ("sound", (16, 50), "s")
    assert choose_spec(samples, 30).size == (30,)
    assert probe_sound(samples.files[0]).seconds == pytest.approx(0.3)
    row = prepare_file(samples.files[0], spec)
    assert np.array_equal(row, prepare_file(samples.files[0].read_bytes(), spec))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"hello, I am text", "not a whole sound"),
        (wav([]), "0 samples"),
    ],
)
def test_what_is_no_sound_is_said(content, said):
    with pytest.raises(DataError, match=said):
        decode_sound(content)


def test_a_spec_of_sound_is_whole():
    with pytest.raises(ValueError, match="a sound must have size"):
        Spec(kind="sound", channels=16, size=(60,))


def test_a_picture_in_the_place_of_a_sound_is_refused_in_words(tmp_path):
    path = tmp_path / "a.wav"
    Image.new("L", (8, 8)).save(path, "PNG")
    for look in (decode_sound, probe_sound):
        with pytest.raises(DataError, match=r"not a whole sound file: Format not rec") as said:
            look(path)
        assert "0x" not in str(said.value)
