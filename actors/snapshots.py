"""Snapshots on disk: written whole or not at all, checked when read, sent in chunks.

A snapshot file (``snapshot_file.py``) has a ``SnapshotMeta`` as its head and an image of the graph
as its stream.

It is written to a temporary name, synced, renamed, and the directory synced; only then is the log
cut. The one before it is removed after that, unless a follower is being sent it: each chunk that is
read for a follower renews its *lease* on the file. A snapshot that comes from the leader is written
to ``incoming.part`` as its chunks arrive, checked as a whole, and renamed in the same way.

Format 1 had no membership in its meta data; it is still read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

from actors import limits
from actors.disk import AppendFile, Disk
from actors.errors import DAMAGED, DirectoryRefused, DiskFailure
from actors.raft.membership import Membership
from actors.snapshot_file import FileReader, file_pieces
from graph.errors import CorruptionError

__all__ = ["SnapshotMeta", "SnapshotStore", "mark_of"]

FORMAT_VERSION = 2
_READABLE = (1, FORMAT_VERSION)

_MAGIC = b"RFTSNAP1"
# A file is synced each time that it has grown by this: the log's own syncs, on the same disk, must
# not wait for the whole of it.
SYNC_BYTES = 8 * 2**20
_INCOMING = "incoming.part"
# How much larger than the last one the next snapshot is taken to be.
ROOM_PART = 1.25
_LENT_MAX = limits.SNAPSHOT_LEASES_MAX


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """What a snapshot stands for: all entries up to ``index``, the last of them of ``term``."""

    index: int
    term: int
    cluster_id: str
    outcomes: str  # actors.outcomes.OutcomeTable, hexadecimal
    format: int = FORMAT_VERSION
    # actors.raft.membership.Membership as of ``index``, hexadecimal; "" if no entry held one yet.
    membership: str = ""

    def decoded_membership(self) -> Membership | None:
        """Raises ``ValueError`` if it is damaged, or of a later version."""
        return Membership.decode(bytes.fromhex(self.membership)) if self.membership else None


class SnapshotStore:
    """The snapshots of one server.

    ``save`` runs in a thread of its own, one at a time; ``lend`` and what concerns files from the
    leader belong to the log's thread, the rest to the machine's.

    Raises:
        DirectoryRefused: the newest snapshot is damaged.
        DiskFailure: a write or sync failed; the process must end.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str = "snapshots",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._lock = threading.Lock()
        self._leases: dict[int, tuple[str, float]] = {}  # peer: file, until when
        self.directory = directory
        self._incoming: AppendFile | None = None
        disk.make_directory(directory)
        for name in disk.names(directory):
            if name.endswith((".tmp", ".part")):
                disk.remove(self._path(name))

    def names(self) -> list[str]:
        """Names of the snapshots, the oldest first."""
        return [n for n in self._disk.names(self.directory) if n.endswith(".snapshot")]

    def newest(self) -> str | None:
        """Name of the newest snapshot."""
        names = self.names()
        return names[-1] if names else None

    def has_room(self) -> bool:
        """Whether another snapshot, somewhat larger than the last one, would fit on the disk."""
        name = self.newest()
        size = self.size(name) if name is not None else 0
        return self._disk.free_bytes() >= size * ROOM_PART + limits.DISK_FREE_BYTES_MIN // 2

    def save(self, meta: SnapshotMeta, stream: Iterable[bytes]) -> str:
        """Write a snapshot durably and remove the older ones; its name."""
        name = _name(meta.index, meta.term)
        temporary = self._path(name + ".tmp")
        self._disk.remove(temporary)
        file = self._disk.append(temporary)
        try:
            unsynced = 0
            for piece in file_pieces(_MAGIC, asdict(meta), stream):
                file.write(piece)
                unsynced += len(piece)
                if unsynced >= SYNC_BYTES:
                    file.sync()
                    unsynced = 0
            file.sync()
        finally:
            file.close()
        self._disk.rename(temporary, self._path(name))
        self._remove_older(name)
        return name

    def load(self, name: str) -> tuple[SnapshotMeta, Iterator[bytes]]:
        """Meta data, and the stream as an iterator that checks as it goes."""
        meta, reader = self._open(name)
        return meta, self._stream(name, reader)

    def meta(self, name: str) -> SnapshotMeta:
        return self._open(name)[0]

    def size(self, name: str) -> int:
        return self._disk.size(self._path(name))

    # ----------------------------------------------------------------- to followers

    def lend(self, peer: int, index: int, term: int) -> str | None:
        """The file to send to ``peer``: the one asked for if it is there, or else the newest.

        It is not removed before the peer has not asked for ``limits.SNAPSHOT_LEASE_SECONDS``.
        """
        with self._lock:
            names = [n for n in self._disk.names(self.directory) if n.endswith(".snapshot")]
            wanted = _name(index, term)
            name = wanted if wanted in names else names[-1] if names else None
            self._leases.pop(peer, None)
            if name is not None:
                self._leases[peer] = (name, self._clock() + limits.SNAPSHOT_LEASE_SECONDS)
            return name

    def lent(self) -> int | None:
        """Index of the oldest snapshot that is being sent, if any."""
        with self._lock:
            return min((mark_of(name)[0] for name in self._lent()), default=None)

    def _lent(self) -> set[str]:
        """Files with a lease; of too many the oldest lose it."""
        now = self._clock()
        self._leases = {p: lease for p, lease in self._leases.items() if lease[1] >= now}
        return set(sorted({name for name, _ in self._leases.values()})[-_LENT_MAX:])

    def chunk(self, name: str, offset: int, size: int) -> bytes:
        """Raw bytes of the file, to be sent to a follower."""
        return self._disk.read(self._path(name), offset, size)

    # ----------------------------------------------------------------- from the leader

    def receive(self, offset: int, data: bytes) -> None:
        """Append a chunk; a chunk at offset 0 begins anew."""
        if offset == 0:
            self.abandon()
            self._disk.remove(self._path(_INCOMING))
            self._incoming = self._disk.append(self._path(_INCOMING))
        if self._incoming is None or self._incoming.size() != offset:
            raise DiskFailure(f"a snapshot chunk at byte {offset} does not follow what is here")
        self._incoming.write(data)

    def finish(self) -> str:
        """Sync, check and name what was received. ``DirectoryRefused`` if it is damaged."""
        assert self._incoming is not None
        self._incoming.sync()
        self._incoming.close()
        self._incoming = None
        meta, stream = self.load(_INCOMING)
        for _ in stream:
            pass
        name = _name(meta.index, meta.term)
        self._disk.rename(self._path(_INCOMING), self._path(name))
        return name

    def abandon(self) -> None:
        """Close a transfer that will not be finished."""
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None

    def remove(self, name: str) -> None:
        """``name`` cannot be used."""
        self._disk.remove(self._path(name))

    def remove_older(self, name: str) -> None:
        """Called when ``name`` is loaded and the log has been cut to it."""
        self._remove_older(name)

    # ----------------------------------------------------------------- files

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _remove_older(self, name: str) -> None:
        with self._lock:
            kept = self._lent()
            for other in self._disk.names(self.directory):
                if other.endswith(".snapshot") and other < name and other not in kept:
                    self._disk.remove(self._path(other))

    def _open(self, name: str) -> tuple[SnapshotMeta, FileReader]:
        path = self._path(name)
        reader = FileReader(partial(self._disk.read, path), self._disk.size(path), _MAGIC)
        try:
            fields = reader.head()
        except CorruptionError as error:
            raise _damaged(path, error) from error
        if fields["format"] not in _READABLE:
            raise DirectoryRefused(
                f"{path} has format {fields['format']}, this version reads formats up to "
                f"{FORMAT_VERSION}. Start the version that wrote it."
            )
        return SnapshotMeta(**fields), reader

    def _stream(self, name: str, reader: FileReader) -> Iterator[bytes]:
        try:
            yield from reader.stream()
        except CorruptionError as error:
            raise _damaged(self._path(name), error) from error


def _name(index: int, term: int) -> str:
    return f"{index:016d}-{term:08d}.snapshot"


def mark_of(name: str) -> tuple[int, int]:
    """Index and term of the snapshot in a file of that name."""
    index, _, term = name.removesuffix(".snapshot").partition("-")
    return int(index), int(term)


def _damaged(path: str, error: CorruptionError) -> DirectoryRefused:
    return DirectoryRefused(f"the snapshot {path} is damaged: {error.message}. " + DAMAGED)
