"""Whose a data directory is: one server's, one process's at a time, and never a stranger's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from actors.errors import DirectoryRefused, DiskFailure
from actors.identity import FORMAT_VERSION, DataDirectory, Identity

CLUSTER = "0123456789abcdef" * 2


def listing(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.is_file()}


def started(path: Path, server_id: int = 1) -> Identity:
    directory = DataDirectory.open(path, server_id)
    directory.close()
    return directory.identity


def change(path: Path, **fields: object) -> None:
    file = path / "identity.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_a_new_directory_is_made_and_taken(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "server_1"
    directory = DataDirectory.open(path, 1)
    assert directory.identity == Identity(FORMAT_VERSION, 1, "", 1)
    assert (path / "server.pid").read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o700
    directory.close()


def test_every_start_is_a_new_incarnation(tmp_path: Path) -> None:
    assert [started(tmp_path).incarnation for _ in range(3)] == [1, 2, 3]


def test_the_incarnation_is_on_disk_before_anybody_hears_of_it(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, 1)
    found = DataDirectory.inspect(tmp_path, 1)
    assert found == directory.identity
    directory.close()


def test_the_cluster_is_remembered(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, 1)
    directory.join(CLUSTER)
    directory.join(CLUSTER)
    with pytest.raises(AssertionError):
        directory.join("f" * 32)
    directory.close()
    assert started(tmp_path) == Identity(FORMAT_VERSION, 1, CLUSTER, 2)


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, 1)
    before = listing(tmp_path)
    with pytest.raises(DirectoryRefused, match="in use by another running server"):
        DataDirectory.open(tmp_path, 1)
    assert listing(tmp_path) == before
    directory.close()
    assert started(tmp_path).incarnation == 2


def test_the_lock_is_given_back_when_opening_fails(tmp_path: Path) -> None:
    started(tmp_path)
    (tmp_path / "identity.json.tmp").mkdir()  # so that it cannot be written
    for _ in range(2):
        with pytest.raises(DiskFailure):
            DataDirectory.open(tmp_path, 1)
    (tmp_path / "identity.json.tmp").rmdir()
    assert started(tmp_path).incarnation == 2


def test_another_servers_directory_is_refused(tmp_path: Path) -> None:
    started(tmp_path, 2)
    before = listing(tmp_path)
    with pytest.raises(DirectoryRefused, match="belongs to server 2, not to server 1"):
        DataDirectory.open(tmp_path, 1)
    assert listing(tmp_path) == before


def test_a_foreign_directory_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    for use in (DataDirectory.open, DataDirectory.inspect):
        with pytest.raises(DirectoryRefused, match=r"thesis\.tex"):
            use(tmp_path, 1)
    assert listing(tmp_path) == {"thesis.tex": b"ten years of work"}


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    for use in (DataDirectory.open, DataDirectory.inspect):
        with pytest.raises(DirectoryRefused, match="is not a directory"):
            use(path, 1)
    with pytest.raises(DirectoryRefused, match="cannot be used"):
        DataDirectory.open(path / "below", 1)


def test_what_an_interrupted_first_start_left_is_no_obstacle(tmp_path: Path) -> None:
    for name in ("lock", "identity.json.tmp"):
        (tmp_path / name).write_text("")
    (tmp_path / "log").mkdir()
    assert DataDirectory.inspect(tmp_path, 1) is None
    assert started(tmp_path).incarnation == 1


def test_inspect_touches_nothing(tmp_path: Path) -> None:
    assert DataDirectory.inspect(tmp_path / "missing", 1) is None
    assert not (tmp_path / "missing").exists()
    assert DataDirectory.inspect(tmp_path, 1) is None
    assert listing(tmp_path) == {}
    started(tmp_path)
    before = listing(tmp_path)
    found = DataDirectory.inspect(tmp_path, 1)
    assert found is not None
    assert found.incarnation == 1
    assert listing(tmp_path) == before


def test_a_cut_or_garbled_identity_is_refused(tmp_path: Path) -> None:
    started(tmp_path)
    file = tmp_path / "identity.json"
    good = file.read_bytes()
    damaged = [good[:size] for size in range(len(good.rstrip()))]
    for content in [*damaged, b"\xff\xfe", b"[]", b"null", b"1", b"{}"]:
        file.write_bytes(content)
        with pytest.raises(DirectoryRefused, match="damaged"):
            DataDirectory.inspect(tmp_path, 1)
        assert file.read_bytes() == content


@pytest.mark.parametrize(
    "fields",
    [
        {"server_id": "1"},
        {"server_id": 0},
        {"server_id": True},
        {"incarnation": -1},
        {"incarnation": 1.5},
        {"incarnation": None},
        {"cluster_id": 5},
        {"cluster_id": None},
        {"cluster_id": "0123"},
        {"cluster_id": "g" * 32},
        {"surplus": 1},
    ],
    ids=str,
)
def test_an_impossible_identity_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    started(tmp_path)
    change(tmp_path, **fields)
    with pytest.raises(DirectoryRefused, match="damaged"):
        DataDirectory.open(tmp_path, 1)


def test_a_newer_format_says_what_to_do(tmp_path: Path) -> None:
    started(tmp_path)
    change(tmp_path, format=FORMAT_VERSION + 1, more="fields")
    with pytest.raises(DirectoryRefused, match="Start the version that wrote it"):
        DataDirectory.open(tmp_path, 1)


def test_bytes_on_disk_counts_all_files(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, 1)
    before = directory.bytes_on_disk()
    (tmp_path / "raft").mkdir()
    (tmp_path / "raft" / "x").write_bytes(b"x" * 100)
    assert directory.bytes_on_disk() == before + 100
    directory.close()
