"""Reading ends; replacing leaves the old or the new, never half of one, and nothing beside it."""

import os

import pytest

from striate.files import cache_folder, read_regular, replacing


def test_the_cache_is_where_the_environment_says_or_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STRIATE_CACHE", "")
    assert cache_folder() == tmp_path / ".cache" / "striate"
    monkeypatch.delenv("STRIATE_CACHE")
    assert cache_folder() == tmp_path / ".cache" / "striate"


def test_a_pipe_and_a_device_are_refused_before_they_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=r"not a regular file.*copy what it gives"):
            read_regular(tmp_path / name)


def test_a_regular_file_is_read_and_a_folder_is_called_one(tmp_path):
    (tmp_path / "file").write_bytes(b"all of it")
    assert read_regular(tmp_path / "file") == b"all of it"
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


@pytest.mark.parametrize("settle", [False, True])
def test_the_new_takes_the_place_of_the_old(tmp_path, settle):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path, settle=settle) as file:
        file.write("é")
        assert path.read_text() == "old"
    assert path.read_bytes() == "é".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_taken_over(tmp_path):
    path = tmp_path / "a.txt"
    (tmp_path / ".a.txt.part").write_text("half of something that was longer")
    with replacing(path) as file:
        file.write("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_at_once_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path, shared=True) as first:
        with replacing(path, shared=True) as second:
            second.write("second")
        first.write("first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_stays_where_writing_fails(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(path, "wb") as file:
        file.writelines([b"half", "text"])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "no" / "a.txt"):
        pass


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for text in ("new", "newer"):  # first without a target
        with replacing(link) as file:
            file.write(text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert list((tmp_path / "there").iterdir()) == [target]


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe, settle=True) as file:
        file.write("é")
    assert os.read(reader, 10) == "é".encode()
    os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(IsADirectoryError), replacing(tmp_path):
        pass


def test_a_name_that_is_no_utf8_is_written_escaped(tmp_path):
    with replacing(tmp_path / "a.txt") as file:
        file.write(os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "a.txt").read_text("utf-8") == r"caf\udce9"
