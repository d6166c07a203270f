"""Who a data directory belongs to: ``identity.json``, the lock, the incarnation number.

A directory belongs to one server of one cluster for ever. The cluster's id is drawn by its first
leader and comes through the log (``actors.commands``), so a directory learns it when that entry is
applied; from then on a server refuses, and is refused by, members of any other cluster. The
*incarnation* counts the starts on this directory: peers drop an older incarnation when a newer one
introduces itself. The lock (``flock``) is held for as long as the process lives, so two
incarnations on one directory cannot run at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from actors.disk import FileDisk
from actors.errors import DAMAGED, DirectoryRefused

__all__ = ["FORMAT_VERSION", "DataDirectory", "Identity"]

FORMAT_VERSION = 1

_IDENTITY = "identity.json"
_LOCK = "lock"
_PID = "server.pid"
# What may be left of a start that did not get as far as the identity.
_PASSING = (_LOCK, _PID, _IDENTITY + ".tmp", "log")


@dataclass(frozen=True, slots=True)
class Identity:
    """Contents of ``identity.json``."""

    format: int
    server_id: int
    cluster_id: str  # 32 hexadecimal digits, or "" before the first entry was applied
    incarnation: int  # starts so far, this one included


class DataDirectory:
    """A locked data directory; use ``DataDirectory.open``."""

    def __init__(self, path: Path, lock: int, identity: Identity) -> None:
        self.path = path
        self.disk = FileDisk(path)
        self._lock = lock
        self.identity = identity

    @staticmethod
    def inspect(path: Path, server_id: int) -> Identity | None:
        """Check a directory without touching it; ``None`` if it is missing or empty.

        Raises:
            DirectoryRefused: it belongs to another server, or is none of ours.
        """
        if not path.exists():
            return None
        if not path.is_dir():
            raise DirectoryRefused(
                f"{path} is not a directory. Name another --durability_directory."
            )
        try:
            names = set(os.listdir(path)).difference(_PASSING)
        except OSError as error:
            raise _unusable(path, error) from error
        if not names:
            return None
        if _IDENTITY not in names:
            raise DirectoryRefused(
                f"{path} is not empty and has no {_IDENTITY}: it is not a data directory of rayft "
                f"(it holds {', '.join(sorted(names)[:3])}). Name another --durability_directory."
            )
        return _checked(path, server_id)

    @staticmethod
    def open(path: Path, server_id: int) -> DataDirectory:
        """Lock the directory, check whose it is, and count a new incarnation.

        Raises:
            DirectoryRefused: in use by a running server, another server's, or none of ours.
        """
        DataDirectory.inspect(path, server_id)  # a foreign directory is not even given a lock file
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(path, error) from error
        lock = _take_lock(path)
        try:
            found = DataDirectory.inspect(path, server_id)
            before = found or Identity(FORMAT_VERSION, server_id, "", 0)
            identity = replace(before, incarnation=before.incarnation + 1)
            directory = DataDirectory(path, lock, identity)
            directory._write()
            directory.disk.replace(_PID, f"{os.getpid()}\n".encode())
        except BaseException:
            os.close(lock)
            raise
        return directory

    def join(self, cluster_id: str) -> None:
        """Remember the cluster this directory belongs to (once)."""
        assert self.identity.cluster_id in ("", cluster_id)
        if self.identity.cluster_id != cluster_id:
            self.identity = replace(self.identity, cluster_id=cluster_id)
            self._write()

    def bytes_on_disk(self) -> int:
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                try:
                    total += os.stat(os.path.join(folder, name)).st_size
                except FileNotFoundError:
                    continue  # removed by a compaction meanwhile
        return total

    def close(self) -> None:
        os.close(self._lock)

    def _write(self) -> None:
        text = json.dumps(asdict(self.identity), indent=2) + "\n"
        self.disk.replace(_IDENTITY, text.encode())


def _unusable(path: Path, error: OSError) -> DirectoryRefused:
    return DirectoryRefused(
        f"{path} cannot be used: {error.strerror}. Make it readable and writable for this user, or "
        "name another --durability_directory."
    )


def _take_lock(path: Path) -> int:
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise DirectoryRefused(
            f"{path} is in use by another running server. Stop that one first, or name another "
            "--durability_directory."
        ) from error
    return lock


def _checked(path: Path, server_id: int) -> Identity:
    file = path / _IDENTITY
    try:
        fields = json.loads(file.read_text("utf-8"))
        if fields["format"] != FORMAT_VERSION:
            raise DirectoryRefused(
                f"{file} has format {fields['format']}; this version reads format "
                f"{FORMAT_VERSION}. Start the version that wrote it."
            )
        identity = Identity(**fields)
        _check_fields(identity)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DirectoryRefused(f"{file} cannot be read ({error}). " + DAMAGED) from error
    if identity.server_id != server_id:
        raise DirectoryRefused(
            f"{path} belongs to server {identity.server_id}, not to server {server_id}. Start it "
            f"with --server_id {identity.server_id} or name another --durability_directory."
        )
    return identity


def _check_fields(identity: Identity) -> None:
    """Raises ``ValueError`` where a field is not what ``Identity`` says."""
    for name in ("server_id", "incarnation"):
        value = getattr(identity, name)
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} is {value!r}")
    cluster_id = identity.cluster_id
    if cluster_id != "" and not (
        isinstance(cluster_id, str) and re.fullmatch("[0-9a-f]{32}", cluster_id)
    ):
        raise ValueError(f"cluster_id is {cluster_id!r}")
