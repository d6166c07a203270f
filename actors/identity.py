"""Who a data directory belongs to: ``identity.json``, the lock, the incarnation number.

A directory belongs to one server of one cluster for ever. The cluster's id is drawn by its first
leader and comes through the log (``actors.commands``), so a directory learns it when that entry is
applied; from then on a server refuses, and is refused by, members of any other cluster. The
*incarnation* counts the starts on this directory: peers drop an older incarnation when a newer one
introduces itself. The lock (``flock``) is held for as long as the process lives, so two
incarnations on one directory cannot run at once.

A directory also has a name of its own, drawn when it is made. A server remembers with which
directory each other member came when it first met it (``peers``), and takes nothing from that id
and another directory: a server that lost its disk has forgotten what it voted for and what it
acknowledged, so it must come back under a new id. A server that was removed from its cluster
notes that too (``removed``) and does not start again: its id is used up.

Format 1 had no directory id, no peers and no ``removed``; it is read, and format 2 is written at
the next start. Format 2::

    {"format": 2, "server_id": 2, "cluster_id": "0f3a...", "incarnation": 7,
     "directory": "5c1e...", "removed": false, "peers": {"1": "ab12...", "3": "77f0..."}}
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from actors.disk import FileDisk
from actors.errors import DAMAGED, DirectoryRefused, ServerRemoved

__all__ = ["FORMAT_VERSION", "DataDirectory", "Identity", "removed_text"]

FORMAT_VERSION = 2
# Digits of a directory's name: 64 bits.
DIRECTORY_DIGITS = 16
CLUSTER_DIGITS = 32

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
    directory: str = ""  # 16 hexadecimal digits; "" only in what format 1 wrote
    removed: bool = False  # this server was removed from its cluster: its id is used up
    peers: Mapping[int, str] = field(default_factory=dict)  # server id -> its directory


class DataDirectory:
    """A locked data directory; use ``DataDirectory.open``."""

    def __init__(self, path: Path, lock: int, identity: Identity) -> None:
        self.path = path
        self.disk = FileDisk(path)
        self._lock = lock
        self._writing = threading.Lock()  # the state machine and the server loop both write
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
    def holds_identity(path: Path) -> bool:
        """Whether a server has run on that directory."""
        return (path / _IDENTITY).is_file()

    @staticmethod
    def open(path: Path, server_id: int) -> DataDirectory:
        """Lock the directory, check whose it is, and count a new incarnation.

        Raises:
            ServerRemoved: the server was removed from its cluster.
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
            if found is not None and found.removed:
                raise ServerRemoved(removed_text(server_id, path))
            if (path / "recovering" / "plan.json").exists():
                raise DirectoryRefused(
                    f"A recovery of {path} was interrupted. Finish it: memgraph_ha recover {path}"
                )
            before = found or Identity(FORMAT_VERSION, server_id, "", 0)
            identity = replace(
                before,
                format=FORMAT_VERSION,
                incarnation=before.incarnation + 1,
                directory=before.directory or secrets.token_hex(DIRECTORY_DIGITS // 2),
            )
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
            self._change(cluster_id=cluster_id)

    def remember_peer(self, server_id: int, directory: str) -> None:
        """The directory with which another member came first; durable on return.

        Called by one thread.
        """
        known = self.identity.peers
        assert known.get(server_id, directory) == directory
        self._change(peers={**known, server_id: directory})

    def mark_removed(self) -> None:
        """This server is no member of its cluster any more; durable on return."""
        if not self.identity.removed:
            self._change(removed=True)

    def bytes_on_disk(self) -> int:
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                try:
                    total += os.stat(os.path.join(folder, name)).st_size
                except FileNotFoundError:
                    continue  # removed by a compaction meanwhile
        return total

    @staticmethod
    def lock(path: Path) -> int:
        """Take the directory's lock; a descriptor to be closed. ``DirectoryRefused`` if in use."""
        return _take_lock(path)

    def close(self) -> None:
        os.close(self._lock)

    def _change(self, **fields: Any) -> None:
        with self._writing:
            self.identity = replace(self.identity, **fields)
            self._write()

    def _write(self) -> None:
        text = json.dumps(asdict(self.identity), indent=2) + "\n"
        self.disk.replace(_IDENTITY, text.encode())


def removed_text(server_id: int, directory: Path | str) -> str:
    """What an operator should know of a server that was removed from its cluster."""
    return (
        f"Server {server_id} was removed from the cluster and cannot be used under this id again; "
        f"its data is still in {directory}. To run a server on this host, give it an id that was "
        "never used, for example: memgraph_ha --server_id N --join (with an entry for N in the "
        "coordination file), and then ADD SERVER N AT 'host:rpc_port'."
    )


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
        if fields["format"] not in (1, FORMAT_VERSION):
            raise DirectoryRefused(
                f"{file} has format {fields['format']}; this version reads formats up to "
                f"{FORMAT_VERSION}. Start the version that wrote it."
            )
        peers = {int(k): v for k, v in fields.pop("peers", {}).items()}
        identity = Identity(**fields, peers=peers)
        _check_fields(identity)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
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
    if not isinstance(identity.removed, bool):
        raise ValueError(f"removed is {identity.removed!r}")
    if identity.cluster_id != "":
        _check_digits("cluster_id", identity.cluster_id, CLUSTER_DIGITS)
    if identity.format == FORMAT_VERSION:
        _check_digits("directory", identity.directory, DIRECTORY_DIGITS)
    for server_id, directory in identity.peers.items():
        if server_id < 1:
            raise ValueError(f"peers names a server {server_id}")
        _check_digits(f"the directory of server {server_id}", directory, DIRECTORY_DIGITS)


def _check_digits(name: str, value: object, count: int) -> None:
    if not (isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{count}}}", value)):
        raise ValueError(f"{name} is {value!r}")
