import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from striate.data import hashes
from striate.data.hashes import (
    UNREAD,
    chunks,
    digest,
    file_hash,
    file_hashes,
    hex_array,
    row_hashes,
)

LONG_AGO = 1_000_000_000  # seconds since 1970


@pytest.fixture
def folder(tmp_path):
    """Two settled files, an empty place for the index, and the paths read."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(name.encode() * 10)
    return root


@pytest.fixture
def reads(monkeypatch):
    """What is read from disk, in order; the clock of every file is long settled."""
    seen = []
    monkeypatch.setattr(hashes, "SETTLED_NS", -(10**18))
    monkeypatch.setattr(
        hashes, "file_hash", lambda path: (seen.append(os.path.basename(path)), file_hash(path))[1]
    )
    return seen


def hashed(root, *names):
    return file_hashes([root / name for name in names], root, root.parent / "index", 2)


def test_a_hash_is_blake2b_of_16_bytes_over_all_parts():
    assert digest(b"ab", b"", b"c") == blake2b(b"abc", digest_size=16).digest()


def test_hexadecimal_text_is_that_of_each_hash():
    some = [digest(b"a"), UNREAD, digest(b"b")]
    assert hex_array(some).astype(str).tolist() == [value.hex() for value in some]
    assert hex_array([]).shape == (0,)


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=4, max_side=6)))
def test_rows_hash_like_their_bytes(x):
    expected = [digest(row.tobytes()) for row in x]
    assert row_hashes(x) == expected
    assert row_hashes(np.asfortranarray(x)) == expected


def test_chunks_are_runs_of_about_a_megabyte_that_make_up_the_whole():
    x = np.arange(5 * 300_000, dtype=np.uint8).reshape(5, 300_000)
    parts = list(chunks(x))
    assert [len(part) for part in parts] == [3, 2]
    assert np.array_equal(np.concatenate(parts), x)
    assert [len(part) for part in chunks(np.zeros((2, 3 << 20), np.uint8))] == [1, 1]
    assert list(chunks(np.zeros((0, 4)))) == []


def test_a_file_hashes_like_its_bytes_and_an_unreadable_one_like_nothing(folder):
    assert file_hash(folder / "a") == digest(b"a" * 10)
    assert file_hash(folder / "none") == file_hash(folder) == file_hash("\0") == UNREAD


def test_only_files_that_the_index_does_not_know_are_read(folder, reads):
    first = hashed(folder, "a", "b")
    assert sorted(reads) == ["a", "b"]
    reads.clear()
    assert hashed(folder, "a", "b") == first == [digest(b"a" * 10), digest(b"b" * 10)]
    assert reads == []


def test_a_changed_file_is_read_again_and_no_other(folder, reads):
    hashed(folder, "a", "b")
    reads.clear()
    (folder / "b").write_bytes(b"other")
    assert hashed(folder, "a", "b")[1] == digest(b"other")
    assert reads == ["b"]


def test_a_change_that_keeps_size_and_time_is_noticed(folder, reads):
    os.utime(folder / "a", (LONG_AGO, LONG_AGO))
    hashed(folder, "a")
    (folder / "a").write_bytes(b"A" * 10)
    os.utime(folder / "a", (LONG_AGO, LONG_AGO))
    assert hashed(folder, "a") == [digest(b"A" * 10)]


def test_a_file_that_was_just_written_is_not_remembered(folder, reads, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED_NS", 10**18)
    hashed(folder, "a")
    hashed(folder, "a")
    assert reads == ["a", "a"]


def test_a_missing_file_is_unread_until_it_is_there(folder, reads):
    assert hashed(folder, "a", "c") == [digest(b"a" * 10), UNREAD]
    (folder / "c").write_bytes(b"c")
    assert hashed(folder, "a", "c")[1] == digest(b"c")


def test_each_root_has_its_own_index(folder, reads):
    hashed(folder, "a")
    file_hashes([folder / "a"], folder.parent, folder.parent / "index", 1)
    assert len(list((folder.parent / "index").iterdir())) == 2
    assert reads == ["a", "a"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', "[1]"])
def test_a_damaged_index_only_costs_time(folder, reads, content):
    hashed(folder, "a")
    (index,) = (folder.parent / "index").iterdir()
    index.write_text(content)
    assert hashed(folder, "a") == [digest(b"a" * 10)]


def test_an_index_that_cannot_be_written_only_costs_time(folder):
    (folder.parent / "index").write_text("a file stands where the folder should")
    assert hashed(folder, "a") == [digest(b"a" * 10)]


def test_the_index_is_replaced_whole(folder, reads):
    hashed(folder, "a")
    hashed(folder, "a", "b")
    assert len(list((folder.parent / "index").iterdir())) == 1
    assert Path(folder.parent / "index").is_dir()
