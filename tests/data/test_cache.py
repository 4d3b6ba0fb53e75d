import errno
import gc
import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data import cache as cache_module
from striate.data import hashes as hashes_module
from striate.data import rows as rows_module
from striate.data.cache import open_cache, statistics
from striate.data.prepare import prepare_file
from striate.data.samples import Samples
from striate.errors import DataError
from striate.spec import Spec

RGB8 = Spec(channels=3, size=(8, 8))


def photo(path, size=(12, 10), mode="RGB", seed=0, **options):
    """Save a smooth random picture; the suffix names the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size).convert(mode).save(path, **options)
    return path


def samples_of(root, *files, **fields):
    n = len(files)
    return Samples(
        root=root,
        kind="image",
        names=tuple(path.relative_to(root).as_posix() for path in files),
        classes=("a", "b"),
        labels=np.arange(n) % 2,
        splits=np.full(n, ""),
        files=tuple(files),
        **fields,
    )


def arrays_of(x, root=Path("memory")):
    n = len(x)
    names = tuple(f"x#{i}" for i in range(n))
    return Samples(root, "image", names, ("a", "b"), np.arange(n) % 2, np.full(n, ""), arrays=x)


def entries(folder):
    return sorted(p.name for p in (folder / "samples").iterdir())


@pytest.fixture
def no_decoding(monkeypatch):
    def forbid(*_):
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(rows_module, "decode", forbid)


def test_rows_are_what_prepare_file_gives(tmp_path):
    files = [
        photo(tmp_path / "a.png"),
        photo(tmp_path / "b.jpg", (200, 150), seed=1),
        photo(tmp_path / "c.bmp", mode="L", seed=2),
        photo(tmp_path / "d.gif", mode="P", seed=3),
    ]
    seen = []
    cache = open_cache(
        samples_of(tmp_path, *files), RGB8, tmp_path / "cache", 2, lambda *at: seen.append(at)
    )
    assert isinstance(cache.x, np.memmap)
    for row, path in zip(cache.x, files, strict=True):
        np.testing.assert_array_equal(row, prepare_file(path, RGB8))
    assert cache.good.all()
    assert cache.sizes.tolist() == [[10, 12], [150, 200], [10, 12], [10, 12]]
    assert cache.modes == ("RGB", "RGB", "L", "P")
    assert cache.notes[0] == ()
    assert "palette expanded" in cache.notes[3]
    assert seen[-1] == (4, 4)


def test_an_unreadable_file_is_named_and_its_row_is_zero(tmp_path):
    whole = photo(tmp_path / "whole.jpg", (64, 64))
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:300])
    empty = tmp_path / "empty.png"
    empty.touch()
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(bomb)
    folder = tmp_path / "folder.png"
    folder.mkdir()
    files = (whole, cut, empty, text, bomb, folder, tmp_path / "gone.png")
    for _ in range(2):  # decoded, then from the cache
        cache = open_cache(samples_of(tmp_path, *files), RGB8, tmp_path / "cache")
        assert cache.good.tolist() == [True] + [False] * 6
        assert not cache.x[1:].any()
        assert [fault.path for fault in cache.faults] == [path.name for path in files[1:]]
        assert {fault.kind for fault in cache.faults} == {"unreadable"}
        for fault, reason in zip(
            cache.faults,
            ("truncated|damaged", "0 bytes", "not an image", "20000", "directory", "No such file"),
            strict=True,
        ):
            assert re.search(reason, fault.detail), fault


def test_fuzzed_files_never_stop_the_build(tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for i, suffix in enumerate(("jpg", "png", "gif", "bmp", "webp", "tif") * 5):
        path = photo(tmp_path / f"{i}.{suffix}", (40, 30), seed=i)
        data = bytearray(path.read_bytes())
        for at in rng.integers(0, len(data), 5):
            data[at] = rng.integers(256)
        path.write_bytes(bytes(data))
        files.append(path)
    cache = open_cache(samples_of(tmp_path, *files), RGB8, tmp_path / "cache")
    assert len(cache.faults) == np.sum(~cache.good)


def test_float_pictures_with_nan_are_left_out(tmp_path):
    x = np.zeros((3, 1, 4, 4), np.float32)
    x[1, 0, 2, 2] = np.nan
    for spec in (
        Spec(channels=1, size=(4, 4), dtype="float32"),
        Spec(channels=1, size=(8, 8), dtype="uint8"),
    ):
        cache = open_cache(arrays_of(x), spec, tmp_path)
        assert cache.good.tolist() == [True, False, True]
        assert cache.faults[0].path == "x#1"
        assert "NaN" in cache.faults[0].detail


def test_a_second_run_decodes_nothing(tmp_path, no_decoding):
    samples = samples_of(tmp_path, *[photo(tmp_path / f"{i}.png", seed=i) for i in range(5)])
    first = open_cache(samples, RGB8, tmp_path / "cache")
    no_decoding()
    second = open_cache(samples, RGB8, tmp_path / "cache")
    for field in ("x", "good", "hashes", "pixels", "sizes", "constant"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    assert (first.modes, first.notes) == (second.modes, second.notes)


def test_a_settled_file_is_not_read_again(tmp_path, monkeypatch, no_decoding):
    samples = samples_of(tmp_path, *[photo(tmp_path / f"é{i}.png", seed=i) for i in range(5)])
    monkeypatch.setattr(hashes_module, "SETTLED_NS", -(10**12))
    first = open_cache(samples, RGB8, tmp_path / "cache")
    no_decoding()
    monkeypatch.setattr(hashes_module, "file_hash", lambda path: pytest.fail(f"{path} was read"))
    assert open_cache(samples, RGB8, tmp_path / "cache").hashes.tolist() == first.hashes.tolist()


def test_a_file_that_was_just_written_is_read_again(tmp_path):
    path = photo(tmp_path / "a.png")
    hashes_module.file_hashes([path], tmp_path, tmp_path / "cache", 1)
    (index,) = (tmp_path / "cache").glob("index-*.json")
    assert json.loads(index.read_text()) == {}


def test_a_changed_file_is_noticed_even_with_its_old_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes_module, "SETTLED_NS", -(10**12))
    path = photo(tmp_path / "a.bmp", seed=0)
    samples = samples_of(tmp_path, path, photo(tmp_path / "b.bmp", seed=1))
    first = open_cache(samples, RGB8, tmp_path / "cache")
    before = path.stat()
    photo(path, seed=7)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    second = open_cache(samples, RGB8, tmp_path / "cache")
    assert (first.hashes != second.hashes).tolist() == [True, False]
    np.testing.assert_array_equal(second.x[0], prepare_file(path, RGB8))
    assert len(entries(tmp_path / "cache")) == 2


def test_equal_files_elsewhere_share_the_entry(tmp_path, no_decoding):
    here = tmp_path / "here"
    photo(here / "a.png")
    shutil.copytree(here, tmp_path / "there")
    open_cache(samples_of(here, here / "a.png"), RGB8, tmp_path / "cache")
    no_decoding()
    open_cache(
        samples_of(tmp_path / "there", tmp_path / "there" / "a.png"), RGB8, tmp_path / "cache"
    )


@pytest.mark.parametrize(
    "change", [{"channels": 1}, {"size": (4, 8)}, {"resize": "crop"}, {"dtype": "uint16"}]
)
def test_another_spec_is_another_entry(tmp_path, change):
    samples = samples_of(tmp_path, photo(tmp_path / "a.png"))
    open_cache(samples, RGB8, tmp_path / "cache")
    other = RGB8.model_copy(update=change)
    assert open_cache(samples, other, tmp_path / "cache").x.shape == (1, *other.shape)
    assert len(entries(tmp_path / "cache")) == 2


@pytest.mark.parametrize("field", Spec.model_fields)
def test_whatever_shapes_a_row_makes_another_entry(tmp_path, field):
    """A field that is added to Spec shapes rows, unless somebody says that it does not."""
    other = {"kind": "sound", "channels": 2, "size": (9,), "resize": "crop", "dtype": "float32"}
    other |= {"mean": (1.0,), "std": (2.0,), "step": (0.5,), "unit": "s", "frequencies": (0.0, 1.0)}
    other |= {"words": ("good",), "classes": ("a", "b"), "task": "another"}
    samples = samples_of(tmp_path, tmp_path / "missing")
    open_cache(samples, Spec(channels=1, size=(8,)), tmp_path / "cache")
    changed = Spec(channels=1, size=(8,)).model_copy(update={field: other[field]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic writes a task that does not exist yet
        open_cache(samples, changed, tmp_path / "cache")
    same = field in ("mean", "std", "task", "classes")
    assert len(entries(tmp_path / "cache")) == (1 if same else 2)


def test_texts_are_not_taken_from_an_entry_of_another_vocabulary(tmp_path):
    for i, text in enumerate(("good film", "bad film")):
        (tmp_path / f"{i}.txt").write_text(text)
    samples = replace(samples_of(tmp_path, *sorted(tmp_path.glob("*.txt"))), kind="text")
    spec = Spec(kind="text", channels=1, size=(2,), dtype="uint16", words=("good", "bad"))
    turned = spec.model_copy(update={"words": ("bad", "good")})
    rows = [open_cache(samples, s, tmp_path / "cache").x[:, 0, 0] for s in (spec, turned, spec)]
    assert [row.tolist() for row in rows] == [[2, 3], [3, 2], [2, 3]]


@pytest.mark.parametrize("name", ["x.npy", "facts.npz"])
@pytest.mark.parametrize("keep", [0, 100])
def test_a_damaged_entry_is_built_again(tmp_path, name, keep):
    samples = samples_of(tmp_path, photo(tmp_path / "a.png"))
    before = np.array(open_cache(samples, RGB8, tmp_path / "cache").x)
    gc.collect()
    (entry,) = (tmp_path / "cache" / "samples").iterdir()
    os.truncate(entry / name, keep)
    np.testing.assert_array_equal(open_cache(samples, RGB8, tmp_path / "cache").x, before)
    assert entries(tmp_path / "cache") == [entry.name]


def test_the_first_of_two_runs_wins(tmp_path, monkeypatch):
    samples = samples_of(tmp_path, photo(tmp_path / "a.png"))
    ready = threading.Barrier(2, timeout=30)
    write = cache_module._write

    def together(job, folder):
        rows = write(job, folder)
        ready.wait()
        return rows

    monkeypatch.setattr(cache_module, "_write", together)
    found = []
    runs = [
        threading.Thread(target=lambda: found.append(open_cache(samples, RGB8, tmp_path / "cache")))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    np.testing.assert_array_equal(found[0].x, found[1].x)
    assert len(entries(tmp_path / "cache")) == 1


def test_a_file_that_changes_while_it_is_decoded_does_not_poison_the_entry(tmp_path, monkeypatch):
    path, calm = photo(tmp_path / "a.png", seed=0), photo(tmp_path / "b.png", seed=1)
    samples = samples_of(tmp_path, path, calm)
    old = path.read_bytes()
    write = cache_module._write

    def meanwhile(job, folder):
        photo(path, seed=5)
        return write(job, folder)

    monkeypatch.setattr(cache_module, "_write", meanwhile)
    cache = open_cache(samples, RGB8, tmp_path / "cache")
    np.testing.assert_array_equal(cache.x[0], prepare_file(path, RGB8))
    monkeypatch.setattr(cache_module, "_write", write)
    path.write_bytes(old)
    again = open_cache(samples, RGB8, tmp_path / "cache")
    np.testing.assert_array_equal(again.x[0], prepare_file(path, RGB8))
    assert again.hashes[0] != cache.hashes[0]


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    samples = samples_of(tmp_path, photo(tmp_path / "a.png"))
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "named"))
    open_cache(samples, RGB8)
    assert len(entries(tmp_path / "named")) == 1


def test_a_full_disk_leaves_the_previous_state_and_says_what_it_wanted(tmp_path):
    folder = tmp_path / "cache"
    samples = samples_of(tmp_path, *[photo(tmp_path / f"{i}.png", seed=i) for i in range(3)])
    open_cache(samples, RGB8, folder)
    before = entries(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"want 589,824 bytes in .*cache.*STRIATE_CACHE"):
            open_cache(samples, Spec(channels=3, size=(256, 256)), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(folder) == before


def test_too_little_room_is_said_before_anything_is_decoded(tmp_path, monkeypatch, no_decoding):
    samples = samples_of(tmp_path, photo(tmp_path / "a.png"))
    usage = shutil.disk_usage(tmp_path)._replace(free=50)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage)
    no_decoding()
    with pytest.raises(DataError, match=r"want 192 bytes .*50 bytes are free"):
        open_cache(samples, RGB8, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_written_is_said_once_and_the_rows_stay_in_memory(tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, so no folder")
    files = [photo(tmp_path / "a.png"), photo(tmp_path / "b.jpg", (90, 90)), tmp_path / "gone.png"]
    samples = samples_of(tmp_path, *files)
    with caplog.at_level(logging.WARNING, "striate"):
        cache = open_cache(samples, RGB8, blocked)
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text
    assert "STRIATE_CACHE" in caplog.text
    np.testing.assert_array_equal(cache.x, open_cache(samples, RGB8, tmp_path / "cache").x)
    assert cache.good.tolist() == [True, True, False]


def test_a_failure_while_writing_leaves_no_folder(tmp_path, monkeypatch):
    samples = samples_of(tmp_path, photo(tmp_path / "a.png"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "_settle", full)
    with pytest.raises(DataError, match="No space left on device"):
        open_cache(samples, RGB8, tmp_path / "cache")

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cache(samples, RGB8, tmp_path / "cache", progress=interrupt)
    assert entries(tmp_path / "cache") == []


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path):
    for name, age in (("old", 90_000), ("young", 10)):
        left = tmp_path / "cache" / "samples" / f".building-{name}"
        left.mkdir(parents=True)
        (left / "x.npy").touch()
        before = (left / "x.npy").stat().st_mtime - age
        os.utime(left / "x.npy", (before, before))
    open_cache(samples_of(tmp_path, photo(tmp_path / "a.png")), RGB8, tmp_path / "cache")
    assert entries(tmp_path / "cache")[0] == ".building-young"
    assert len(entries(tmp_path / "cache")) == 2


def pixel_hashes(tmp_path, *files, spec=RGB8):
    return open_cache(samples_of(tmp_path, *files), spec, tmp_path / "cache").pixels.tolist()


def test_one_picture_in_several_formats_has_one_hash(tmp_path):
    files = [photo(tmp_path / f"a.{suffix}") for suffix in ("png", "bmp", "tif")]
    files.append(photo(tmp_path / "b.webp", lossless=True))
    files.append(photo(tmp_path / "c.png", mode="RGBA"))
    assert len(set(pixel_hashes(tmp_path, *files))) == 1
    assert len(set(pixel_hashes(tmp_path, files[0], photo(tmp_path / "d.png", seed=1)))) == 2


def test_grey_saved_as_colour_is_grey(tmp_path):
    grey = photo(tmp_path / "a.png", mode="L")
    colour = tmp_path / "b.png"
    Image.open(grey).convert("RGB").save(colour)
    assert len(set(pixel_hashes(tmp_path, grey, colour))) == 1


def test_transparency_and_shape_make_another_picture(tmp_path):
    one = photo(tmp_path / "a.png")
    faint = tmp_path / "b.png"
    picture = Image.open(one).convert("RGBA")
    picture.putalpha(100)
    picture.save(faint)
    wide, tall = tmp_path / "wide.png", tmp_path / "tall.png"
    Image.new("L", (6, 4), 9).save(wide)
    Image.new("L", (4, 6), 9).save(tall)
    assert len(set(pixel_hashes(tmp_path, one, faint, wide, tall))) == 4


def test_a_large_jpeg_and_its_lossless_copy_have_one_hash(tmp_path):
    jpeg = photo(tmp_path / "a.jpg", (160, 120))
    copy = tmp_path / "b.png"
    Image.open(jpeg).save(copy)
    other = photo(tmp_path / "c.jpg", (160, 120), seed=1)
    cache = open_cache(samples_of(tmp_path, jpeg, copy, other), RGB8, tmp_path / "cache")
    assert cache.pixels[0] == cache.pixels[1] != cache.pixels[2]
    np.testing.assert_array_equal(cache.x[0], prepare_file(jpeg, RGB8))


def test_one_jpeg_with_other_metadata_has_one_hash(tmp_path):
    jpeg = photo(tmp_path / "a.jpg", (160, 120))
    tagged = tmp_path / "b.jpg"
    data = jpeg.read_bytes()
    tagged.write_bytes(data[:2] + b"\xff\xfe\x00\x07hello" + data[2:])
    cache = open_cache(samples_of(tmp_path, jpeg, tagged), RGB8, tmp_path / "cache")
    assert cache.hashes[0] != cache.hashes[1]
    assert cache.pixels[0] == cache.pixels[1]


def test_constant_pictures_are_found(tmp_path):
    red = tmp_path / "red.png"
    Image.new("RGB", (20, 20), (255, 0, 0)).save(red)
    cache = open_cache(samples_of(tmp_path, red, photo(tmp_path / "a.png")), RGB8, tmp_path / "c")
    assert cache.constant.tolist() == [True, False]
    x = np.zeros((3, 2, 9, 9), np.uint8)
    x[1, 1, 8, 7] = 1
    x[2, 0] = 5
    direct = open_cache(arrays_of(x), Spec(channels=2, size=(9, 9)), tmp_path)
    assert direct.constant.tolist() == [True, False, True]


def test_matching_arrays_are_used_without_a_copy_or_a_file(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (7, 3, 8, 8), dtype=np.uint8)
    x[3] = x[0]
    cache = open_cache(arrays_of(x), RGB8, tmp_path / "cache")
    assert cache.x is x
    assert not (tmp_path / "cache").exists()
    assert cache.hashes[3] == cache.hashes[0]
    assert len(set(cache.hashes)) == 6
    assert set(cache.modes) == {"3 x uint8"}
    assert cache.sizes.tolist() == [[8, 8]] * 7


def test_other_arrays_are_prepared_once(tmp_path, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (70, 1, 6, 6), dtype=np.uint8)
    cache = open_cache(arrays_of(x), RGB8, tmp_path / "cache")
    assert cache.x.shape == (70, 3, 8, 8)
    assert cache.sizes[0].tolist() == [6, 6]
    monkeypatch.setattr(rows_module, "prepare", lambda *_: pytest.fail("prepared again"))
    again = open_cache(arrays_of(x), RGB8, tmp_path / "cache")
    np.testing.assert_array_equal(cache.x, again.x)
    np.testing.assert_array_equal(cache.hashes, again.hashes)


@settings(max_examples=20, deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    n=st.integers(1, 50),
    channels=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_statistics_equal_the_textbook(dtype, n, channels, seed):
    rng = np.random.default_rng(seed)
    x = (rng.random((n, channels, 4, 3)) * np.iinfo("uint8").max).astype(dtype)
    index = np.flatnonzero(rng.random(n) < 0.7)
    index = index if len(index) else np.array([0])
    chosen = x[index].astype(np.float64)
    mean, std = statistics(x, index)
    np.testing.assert_allclose(mean, chosen.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(std, chosen.std(axis=(0, 2, 3)), rtol=1e-6)


def test_many_chunks_merge_without_loss():
    x = np.random.default_rng(0).integers(30_000, 30_100, (300, 1, 64, 64), dtype=np.uint16)
    mean, std = statistics(x, np.arange(300))
    np.testing.assert_allclose(mean, x.mean(dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(std, x.std(dtype=np.float64), rtol=1e-9)


def test_a_constant_channel_gets_one_grey_level():
    x = np.full((5, 1, 4, 4), 77, np.uint8)
    assert statistics(x, np.arange(5)) == ((77.0,), (1.0,))
    assert statistics(x.astype(np.uint16), np.arange(5))[1] == (257.0,)


def test_statistics_are_bounded_and_seeded():
    x = np.random.default_rng(0).integers(0, 256, (10_500, 1, 2, 2), dtype=np.uint8)
    index = np.arange(10_500)
    assert statistics(x, index, seed=1) == statistics(x, index, seed=1)
    assert statistics(x, index, seed=1) != statistics(x, index, seed=2)
    with pytest.raises(ValueError, match="index must name at least one row"):
        statistics(x, np.array([], int))


def test_the_torch_free_modules_do_not_import_torch():
    code = (
        "import sys, striate.data.split; "
        "slow = {'torch', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(slow) if slow else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ}, timeout=60)
