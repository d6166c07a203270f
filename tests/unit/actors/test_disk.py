"""The real disk: what it promises to the log, and that no failure goes unheard."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.disk import FileDisk
from actors.errors import DiskFailure


def no_space(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_append_read_and_truncate(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    disk.make_directory("raft")
    disk.make_directory("raft")
    file = disk.append("raft/a")
    file.write(b"hello ")
    file.write(b"world")
    file.sync()
    assert file.size() == disk.size("raft/a") == 11
    file.close()
    assert disk.read("raft/a") == b"hello world"
    assert disk.read("raft/a", 6, 3) == b"wor"
    assert disk.read("raft/a", 6) == b"world"
    assert disk.read("raft/a", 20, 3) == b""
    disk.truncate("raft/a", 5)
    file = disk.append("raft/a")
    assert file.size() == 5
    file.write(b"!")
    file.close()
    assert disk.read("raft/a") == b"hello!"


def test_names_rename_and_remove(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    disk.make_directory("d")
    for name in ("c", "a", "b"):
        disk.append(f"d/{name}").close()
    assert disk.names("d") == ["a", "b", "c"]
    disk.rename("d/c", "d/a")
    disk.remove("d/b")
    disk.remove("d/b")
    assert disk.names("d") == ["a"]


def test_replace_is_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    (tmp_path / "f.tmp").write_bytes(b"left by a crash")
    disk.replace("f", b"one")
    assert disk.read("f") == b"one"
    disk.replace("f", b"two")
    assert disk.read("f") == b"two"
    assert disk.names(".") == ["f"]


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    disk.make_directory("d")
    disk.append("d/f").close()
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "d" / "f").stat().st_mode & 0o777 == 0o600


def test_a_write_that_takes_only_a_part_is_carried_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    file = FileDisk(tmp_path).append("f")
    file.write(b"0123456789")
    assert (tmp_path / "f").read_bytes() == b"0123456789"
    assert file.size() == 10
    file.close()


def test_a_failing_write_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = FileDisk(tmp_path).append("f")
    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(DiskFailure, match="No space left"):
        file.write(b"x")
    assert file.size() == 0
    file.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").symlink_to("/dev/full")
    file = FileDisk(tmp_path).append("f")
    with pytest.raises(DiskFailure, match="write failed"):
        file.write(b"x")
    file.close()


def test_a_failing_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = FileDisk(tmp_path).append("f")
    file.write(b"x")
    monkeypatch.setattr(os, "fdatasync", no_space)
    with pytest.raises(DiskFailure, match="sync failed"):
        file.sync()
    file.close()


def test_a_failing_directory_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FileDisk(tmp_path)
    disk.append("f").close()
    monkeypatch.setattr(os, "fsync", no_space)
    for change in (
        lambda: disk.append("new"),
        lambda: disk.rename("f", "g"),
        lambda: disk.remove("g"),
        lambda: disk.truncate("new", 0),
        lambda: disk.make_directory("d"),
    ):
        with pytest.raises(DiskFailure):
            change()


def test_what_cannot_be_done_at_all_is_told(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "r.tmp").mkdir()
    for change in (
        lambda: disk.append("missing/f"),
        lambda: disk.truncate("missing", 0),
        lambda: disk.rename("missing", "x"),
        lambda: disk.make_directory("file/d"),
        lambda: disk.remove("r.tmp"),
        lambda: disk.replace("r", b""),
    ):
        with pytest.raises(DiskFailure):
            change()


def test_every_new_name_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose directory entry was not synced is not there after a power cut."""
    disk = FileDisk(tmp_path)
    synced: list[Path] = []
    monkeypatch.setattr(
        FileDisk, "_sync_directory", staticmethod(lambda directory: synced.append(directory))
    )
    disk.make_directory("d")
    disk.append("d/f").close()
    disk.rename("d/f", "d/g")
    disk.remove("d/g")
    assert synced == [tmp_path, tmp_path / "d", tmp_path / "d", tmp_path / "d"]
    disk.append("f").close()
    del synced[:]
    disk.append("f").close()
    assert synced == []
