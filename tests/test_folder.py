import errno
import subprocess
import sys

import pytest

from striate.errors import DataError
from striate.folder import how_to_go_on, new_folder, opened, unwritten


def test_folders_are_counted_up(tmp_path):
    assert new_folder("a/photos/", "fastnet", tmp_path).name == "photos-fastnet-1"
    (tmp_path / "photos-fastnet-1").mkdir()
    assert new_folder("a/photos/", "fastnet", tmp_path).name == "photos-fastnet-2"


def test_a_free_name_is_taken_and_opened_again_only_to_go_on(tmp_path):
    folder = tmp_path / "runs" / "one"
    with opened(folder, resume=False):
        pass
    with (
        pytest.raises(DataError, match="exists already; name another with --out"),
        opened(folder, resume=False),
    ):
        pass
    (folder / "events.jsonl").write_bytes(b"one\ntwo\ncut o")
    with opened(folder, resume=True):
        assert (folder / "events.jsonl").read_bytes() == b"one\ntwo\n"
    with (
        pytest.raises(DataError, match="is no run to go on with"),
        opened(tmp_path / "none", resume=True),
    ):
        pass


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from striate.folder import opened\n"
        "with opened(Path(sys.argv[1]), False):\n"
        "    Path(sys.argv[1], 'events.jsonl').write_text('half a ro')\n"
        "    print('holds', flush=True); time.sleep(60)"
    )
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", hold, str(folder)], stdout=subprocess.PIPE) as one:
        assert one.stdout.readline() == b"holds\n"
        with (
            pytest.raises(DataError, match=r"another process is training in .*run,"),
            opened(folder, resume=True),
        ):
            pass
        assert (folder / "events.jsonl").read_text() == "half a ro"
        one.kill()
    with opened(folder, resume=True):  # the lock died with its process
        assert (folder / "events.jsonl").read_text() == ""


def test_a_folder_inside_a_file_is_said(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match=r"cannot be written: .*name another with --out"),
        opened(tmp_path / "file" / "run", resume=False),
    ):
        pass


def test_a_full_disk_asks_for_room_and_tells_that_nothing_is_kept(tmp_path):
    text = unwritten(tmp_path, OSError(errno.ENOSPC, "No space left on device", "a/state"))
    assert "stopped at a/state: No space left on device; make room" in text
    assert how_to_go_on(tmp_path) in text
    assert "nothing was learnt yet" in text
    assert "see that it can be" in unwritten(tmp_path, OSError(errno.EACCES, "denied"))
