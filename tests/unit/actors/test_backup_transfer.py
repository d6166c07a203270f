"""Backup files at the client: whole or not at all, and checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import limits
from actors.backup import BackupResult
from actors.backup_commands import backup as backup_command
from actors.backup_commands import restore as restore_command
from actors.backup_transfer import (
    BackupRefused,
    inspect_backup,
    receive_backup,
    send_backup,
    verify_backup,
)
from graph.digest import digest
from graph.store import Root


def rows() -> list[bytes]:
    result = BackupResult(Root.empty(), 9, 2, "ab" * 16, "2024-02-29T12:00:00Z")
    return [columns[0][0] for _, columns in result.chunks()]


def pieces(size: int) -> list[bytes]:
    data = b"".join(rows())
    return [data[i : i + size] for i in range(0, len(data), size)]


def test_what_was_received_is_there(tmp_path: Path) -> None:
    path = tmp_path / "b"
    seen: list[tuple[int, int]] = []
    head = receive_backup(path, pieces(50), lambda done, size: seen.append((done, size)))
    assert path.read_bytes() == b"".join(rows())
    assert head == inspect_backup(path) == verify_backup(path)
    assert head.digest == digest(Root.empty()).hex()
    assert seen[-1] == (path.stat().st_size, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert path.stat().st_mode & 0o777 == 0o600


class Lost(Exception):
    pass


def test_what_ends_half_way_is_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield pieces(50)[0]
        raise Lost

    path = tmp_path / "b"
    path.write_bytes(b"the one before")
    with pytest.raises(Lost):
        receive_backup(path, broken())
    with pytest.raises(BackupRefused, match="no sound backup"):
        receive_backup(path, pieces(50)[:-1])
    assert path.read_bytes() == b"the one before"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(BackupRefused, match="cannot be written"):
        receive_backup(tmp_path / "missing" / "b", rows())


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "b"
    data = b"".join(rows())
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x20
        path.write_bytes(damaged)
        with pytest.raises(BackupRefused):
            verify_backup(path)
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(BackupRefused):
            inspect_backup(path)


class Server:
    """Takes the steps of a restore; ``fail_at`` one of them."""

    def __init__(self, fail_at: str = "") -> None:
        self.data = b""
        self.steps: list[str] = []
        self.fail_at = fail_at

    def run(self, statement: str, parameters: dict[str, Any]) -> list[list[Any]]:
        verb = statement.removeprefix("RESTORE DATABASE ")
        self.steps.append(verb)
        if verb == self.fail_at:
            raise Lost
        if verb == "PART":
            assert parameters["offset"] == len(self.data)
            self.data += parameters["data"]
        return [["name"]] if verb == "BEGIN" else [["done"]]


def test_a_file_is_sent_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESTORE_PART_BYTES_MAX", 100)
    path, server = tmp_path / "b", Server()
    receive_backup(path, rows())
    seen: list[tuple[int, int]] = []
    head = send_backup(path, server.run, replace=False, progress=lambda *s: seen.append(s))
    assert head.digest == digest(Root.empty()).hex()
    assert server.data == path.read_bytes()
    assert server.steps == ["BEGIN", *["PART"] * -(-len(server.data) // 100), "END"]
    assert seen[-1] == (len(server.data), len(server.data))


@pytest.mark.parametrize(
    ("fail_at", "steps"),
    [
        ("BEGIN", ["BEGIN"]),
        ("PART", ["BEGIN", "PART", "CANCEL"]),
        ("END", ["BEGIN", "PART", "END"]),  # it may have been done
    ],
)
def test_what_fails_is_cancelled_if_it_was_not_ended(
    tmp_path: Path, fail_at: str, steps: list[str]
) -> None:
    path, server = tmp_path / "b", Server(fail_at)
    receive_backup(path, rows())
    with pytest.raises(Lost):
        send_backup(path, server.run, replace=True)
    assert server.steps == steps


def test_a_damaged_file_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, server = tmp_path / "b", Server()
    path.write_bytes(b"".join(rows())[:-1])
    with pytest.raises(BackupRefused):
        send_backup(path, server.run, replace=True)
    receive_backup(path, rows())
    monkeypatch.setattr(limits, "RESTORE_BYTES_MAX", 10)
    with pytest.raises(BackupRefused, match="at most 10"):
        send_backup(path, server.run, replace=True)
    assert server.steps == []


def test_commands_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    path = tmp_path / "b"
    nobody = f"--address=127.0.0.1:{unused_tcp_port}"
    assert backup_command([str(path), nobody]) == 1
    assert "no answer" in capsys.readouterr().err
    assert not path.exists()
    receive_backup(path, rows())
    assert backup_command([str(path), nobody]) == 1
    assert "--force" in capsys.readouterr().err
    assert backup_command([str(path), "--verify"]) == 0
    assert "is sound: 0 nodes" in capsys.readouterr().out
    assert restore_command([str(path), nobody]) == 1
    path.write_bytes(b"odd")
    assert backup_command([str(path), "--verify"]) == 1
    assert restore_command([str(path), nobody]) == 1
    assert "no sound backup" in capsys.readouterr().err
    assert backup_command([]) == restore_command([]) == 2
    assert backup_command(["x", "--address=nowhere"]) == 2
    assert restore_command(["--help"]) == 0


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
