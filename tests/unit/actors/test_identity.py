"""Whose a data directory is: one server's, one process's at a time, and never a stranger's."""

from __future__ import annotations

import json
import os
import re
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
    name = directory.identity.directory
    assert directory.identity == Identity(FORMAT_VERSION, 1, "", 1, name, False, {})
    assert re.fullmatch("[0-9a-f]{16}", name)
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
    again = started(tmp_path)
    assert (again.cluster_id, again.incarnation) == (CLUSTER, 2)


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
        {"directory": ""},
        {"directory": "0123"},
        {"directory": 5},
        {"removed": "yes"},
        {"removed": None},
        {"peers": []},
        {"peers": {"two": "0123456789abcdef"}},
        {"peers": {"0": "0123456789abcdef"}},
        {"peers": {"2": "0123"}},
        {"peers": None},
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


def test_a_directory_keeps_its_name_and_no_two_have_the_same(tmp_path: Path) -> None:
    names = [started(tmp_path / str(server)).directory for server in (1, 2, 1, 2)]
    assert names[0] == names[2] != names[1] == names[3]


def test_format_1_is_read_and_written_anew(tmp_path: Path) -> None:
    old = {"format": 1, "server_id": 1, "cluster_id": CLUSTER, "incarnation": 7}
    (tmp_path / "identity.json").write_text(json.dumps(old))
    found = DataDirectory.inspect(tmp_path, 1)
    assert found == Identity(1, 1, CLUSTER, 7)
    new = started(tmp_path)
    assert (new.format, new.cluster_id, new.incarnation) == (FORMAT_VERSION, CLUSTER, 8)
    assert started(tmp_path).directory == new.directory


def test_peers_are_remembered(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, 1)
    directory.remember_peer(2, "ab" * 8)
    directory.remember_peer(3, "cd" * 8)
    directory.remember_peer(3, "cd" * 8)
    with pytest.raises(AssertionError):
        directory.remember_peer(3, "ef" * 8)
    directory.close()
    assert started(tmp_path).peers == {2: "ab" * 8, 3: "cd" * 8}


def test_a_removed_server_does_not_start_again(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, 2)
    directory.mark_removed()
    directory.mark_removed()
    directory.close()
    found = DataDirectory.inspect(tmp_path, 2)
    assert found is not None
    assert found.removed
    before = listing(tmp_path)
    with pytest.raises(DirectoryRefused, match=r"Server 2 was removed.*never used"):
        DataDirectory.open(tmp_path, 2)
    assert listing(tmp_path) == before


def test_bytes_on_disk_counts_all_files(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, 1)
    before = directory.bytes_on_disk()
    (tmp_path / "raft").mkdir()
    (tmp_path / "raft" / "x").write_bytes(b"x" * 100)
    assert directory.bytes_on_disk() == before + 100
    directory.close()
