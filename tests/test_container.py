import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from striate import container
from striate.errors import BundleError

CONFIG = {"architecture": "tiny"}
FILES = {"a.bin": bytes(range(256)), "golden/b.txt": "ü".encode()}
NAMES = ["x", "x.zip"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_what_is_read(tmp_path, name):
    container.write(tmp_path / name, CONFIG, FILES)
    config, files = container.read(tmp_path / name)
    assert files == FILES
    assert config["architecture"] == "tiny"
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_content_gives_the_same_bytes(tmp_path, name):
    def content(path):
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return [file.read_bytes() for file in files]

    for folder in ("1", "2"):
        container.write(tmp_path / folder / name, CONFIG, FILES)
    assert content(tmp_path / "1" / name) == content(tmp_path / "2" / name)


def test_a_folder_has_the_usual_permissions(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    (tmp_path / "y").mkdir()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xy"}
    assert len(modes) == 1


def test_every_truncation_of_a_zip_is_refused(tmp_path):
    container.write(tmp_path / "x.zip", CONFIG, FILES)
    whole = (tmp_path / "x.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    for length in range(0, len(whole), 97):
        cut.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=r"cut\.zip"):
            container.read(cut)


def test_a_changed_byte_of_a_zip_never_changes_what_is_read(tmp_path):
    container.write(tmp_path / "x.zip", CONFIG, FILES)
    whole = (tmp_path / "x.zip").read_bytes()
    for place in range(0, len(whole), 41):
        bad = bytearray(whole)
        bad[place] ^= 0x11
        (tmp_path / "bad.zip").write_bytes(bad)
        try:
            config, files = container.read(tmp_path / "bad.zip")
        except BundleError:
            continue
        assert (config["architecture"], files) == ("tiny", FILES)  # e.g. a time stamp


def test_every_truncation_of_a_file_is_refused_by_name(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    for name in FILES:
        whole = (tmp_path / "x" / name).read_bytes()
        (tmp_path / "x" / name).write_bytes(whole[:-1])
        with pytest.raises(BundleError, match=f"{name} is not what was saved"):
            container.read(tmp_path / "x")
        (tmp_path / "x" / name).write_bytes(whole)


def test_a_missing_file_is_named(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    (tmp_path / "x" / "a.bin").unlink()
    with pytest.raises(BundleError, match=r"a\.bin is missing; copy the bundle again"):
        container.read(tmp_path / "x")


def test_a_folder_without_config_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"config\.json is missing"):
        container.read(tmp_path)


def test_a_path_to_nowhere_says_what_was_wanted(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle at .*; wanted the folder or .zip"):
        container.read(tmp_path / "none")


def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    (tmp_path / "x" / "a.bin").unlink()
    os.mkfifo(tmp_path / "x" / "a.bin")
    with pytest.raises(BundleError, match=r"a\.bin is missing"):
        container.read(tmp_path / "x")


def test_files_of_others_do_no_harm(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    (tmp_path / "x" / ".DS_Store").write_bytes(b"?")
    assert container.read(tmp_path / "x")[1] == FILES


def edit(path, change):
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))


def test_a_changed_config_is_refused(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    edit(tmp_path / "x", lambda config: config.update(architecture="huge"))
    with pytest.raises(BundleError, match=r"config\.json is not what was saved, its seal differs"):
        container.read(tmp_path / "x")


def test_a_stamp_of_other_types_is_refused(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    edit(tmp_path / "x", lambda config: config["striate"].update(files=[1]))
    with pytest.raises(BundleError, match="its seal differs"):
        container.read(tmp_path / "x")


def test_another_format_version_is_named(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    edit(tmp_path / "x", lambda config: config["striate"].update(format=2, version="9.1"))
    with pytest.raises(BundleError, match=r"bundle format 2, written by striate 9\.1; .*format 1"):
        container.read(tmp_path / "x")


def test_a_config_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    with pytest.raises(BundleError, match="Striate did not write this"):
        container.read(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "C:x", "..\\x"])
def test_a_config_that_points_outside_is_refused(tmp_path, name):
    container.write(tmp_path / "x", CONFIG, FILES)

    def change(config):
        config["striate"]["files"][name] = "0"
        config["striate"]["seal"] = container._seal(config)

    edit(tmp_path / "x", change)
    with pytest.raises(BundleError, match="lies outside of the bundle"):
        container.read(tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(BundleError, match="outside of the bundle; do not trust it"):
        container.read(tmp_path / "x.zip")


def test_a_zip_bomb_is_refused_unopened(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(200 * 2**20))
    with pytest.raises(BundleError, match="would unpack to 209715200, more than a bundle may"):
        container.read(tmp_path / "x.zip")


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"\x80\x02pickle")
    with pytest.raises(BundleError, match=r"model\.pt is no readable \.zip"):
        container.read(tmp_path / "model.pt")


def test_a_rare_packing_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(BundleError, match="packed in a rare way; wanted stored or deflated"):
        container.read(tmp_path / "x.zip")


def test_a_zip_of_a_later_version_is_refused(tmp_path):
    container.write(tmp_path / "x.zip", CONFIG, FILES)
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99  # the version needed, in the directory
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(BundleError, match=r"no readable \.zip: zip file version 9\.9"):
        container.read(tmp_path / "x.zip")


def test_an_encrypted_entry_is_refused(tmp_path):
    container.write(tmp_path / "x.zip", CONFIG, FILES)
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(BundleError, match=r"config\.json cannot be read: it is encrypted"):
        container.read(tmp_path / "x.zip")


def test_a_zip_of_the_folder_itself_and_any_packing_are_read(tmp_path):
    container.write(tmp_path / "x", CONFIG, FILES)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((tmp_path / "x").rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    assert container.read(tmp_path / "x.zip")[1] == FILES


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_overwritten_not_even_a_dangling_link(tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="exists and is never overwritten"):
        container.write(tmp_path / name, CONFIG, FILES)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"cannot be written: .*; name a folder"):
        container.write(tmp_path / "file" / "x", CONFIG, FILES)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch, name):
    def stop(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(container.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        container.write(tmp_path / name, CONFIG, FILES)
    assert not list(tmp_path.iterdir())


def test_a_kill_while_writing_leaves_no_bundle_that_is_half(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from striate import container;"
        "container.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL);"
        "container.write(Path(sys.argv[1]), {}, {'a': b'a'})"
    )
    source = str(Path(container.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x"], env={**os.environ, "PYTHONPATH": source}
    )
    assert done.returncode < 0
    assert not (tmp_path / "x").exists()
