"""Snapshots on disk: written whole or not at all, checked when read, sent in chunks.

A snapshot file is::

    magic "RFTSNAP1" | meta bytes u32 | meta (JSON) | section ... | end
    section: length u32 | crc32 u32 | bytes        (sections are pieces of one stream)
    end:     length 0 u32 | crc32 of the whole stream u32

It is written to a temporary name, synced, renamed, and the directory synced; only then is the log
cut. The one before it is removed after that, unless a follower is being sent it: each chunk that is
read for a follower renews its *lease* on the file. A snapshot that comes from the leader is written
to ``incoming.part`` as its chunks arrive, checked as a whole, and renamed in the same way.

Format 1 had no membership in its meta data; it is still read.
"""

from __future__ import annotations

import json
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

from actors import limits
from actors.disk import AppendFile, Disk
from actors.errors import DAMAGED, DirectoryRefused, DiskFailure
from actors.raft.membership import Membership

__all__ = ["SnapshotMeta", "SnapshotStore", "mark_of"]

FORMAT_VERSION = 2
_READABLE = (1, FORMAT_VERSION)

_MAGIC = b"RFTSNAP1"
_LENGTH = struct.Struct("<I")
_SECTION = struct.Struct("<II")
# A piece of the stream in the file; also what is held in memory while reading.
SECTION_BYTES_MAX = 16 * 2**20
# The head: nearly all of it is the outcome table, 32 digits for each of at most outcomes.IDS_MAX.
META_BYTES_MAX = 64 * 2**20
# A file is synced each time that it has grown by this: the log's own syncs, on the same disk, must
# not wait for the whole of it.
SYNC_BYTES = 8 * 2**20
_INCOMING = "incoming.part"
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
        self._directory = directory
        self._incoming: AppendFile | None = None
        disk.make_directory(directory)
        for name in disk.names(directory):
            if name.endswith((".tmp", ".part")):
                disk.remove(self._path(name))

    def newest(self) -> str | None:
        """Name of the newest snapshot."""
        names = [n for n in self._disk.names(self._directory) if n.endswith(".snapshot")]
        return names[-1] if names else None

    def save(self, meta: SnapshotMeta, stream: Iterable[bytes]) -> str:
        """Write a snapshot durably and remove the older ones; its name."""
        name = _name(meta.index, meta.term)
        temporary = self._path(name + ".tmp")
        self._disk.remove(temporary)
        file = self._disk.append(temporary)
        try:
            unsynced = 0
            for piece in _file_pieces(meta, stream):
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
        meta, offset = self._read_meta(name)
        return meta, self._sections(name, offset)

    def meta(self, name: str) -> SnapshotMeta:
        return self._read_meta(name)[0]

    def size(self, name: str) -> int:
        return self._disk.size(self._path(name))

    # ----------------------------------------------------------------- to followers

    def lend(self, peer: int, index: int, term: int) -> str | None:
        """The file to send to ``peer``: the one asked for if it is there, or else the newest.

        It is not removed before the peer has not asked for ``limits.SNAPSHOT_LEASE_SECONDS``.
        """
        with self._lock:
            names = [n for n in self._disk.names(self._directory) if n.endswith(".snapshot")]
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
        meta, offset = self._read_meta(_INCOMING)
        for _ in self._sections(_INCOMING, offset):
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
        return f"{self._directory}/{name}"

    def _remove_older(self, name: str) -> None:
        with self._lock:
            kept = self._lent()
            for other in self._disk.names(self._directory):
                if other.endswith(".snapshot") and other < name and other not in kept:
                    self._disk.remove(self._path(other))

    def _read_meta(self, name: str) -> tuple[SnapshotMeta, int]:
        path = self._path(name)
        head = self._disk.read(path, 0, len(_MAGIC) + 2 * _LENGTH.size)
        if not head.startswith(_MAGIC) or len(head) < len(_MAGIC) + 2 * _LENGTH.size:
            raise _damaged(path, "it does not begin as a snapshot")
        length, crc = _SECTION.unpack_from(head, len(_MAGIC))
        text = self._disk.read(path, len(head), min(length, META_BYTES_MAX))
        if len(text) < length or zlib.crc32(text) != crc:
            raise _damaged(path, "its head does not check")
        fields = json.loads(text)
        if fields["format"] not in _READABLE:
            raise DirectoryRefused(
                f"{path} has format {fields['format']}, this version reads formats up to "
                f"{FORMAT_VERSION}. Start the version that wrote it."
            )
        return SnapshotMeta(**fields), len(head) + length

    def _sections(self, name: str, offset: int) -> Iterator[bytes]:
        path = self._path(name)
        total = 0
        while True:
            head = self._disk.read(path, offset, _SECTION.size)
            if len(head) < _SECTION.size:
                raise _damaged(path, "it ends too early")
            length, crc = _SECTION.unpack(head)
            offset += _SECTION.size
            if length == 0:
                if crc != total:
                    raise _damaged(path, "its checksum does not match")
                if self._disk.size(path) != offset:
                    raise _damaged(path, "it goes on after its end")
                return
            data = self._disk.read(path, offset, min(length, SECTION_BYTES_MAX))
            offset += length
            if len(data) < length or zlib.crc32(data) != crc:
                raise _damaged(path, f"the section before byte {offset} does not check")
            total = zlib.crc32(data, total)
            yield data


def _name(index: int, term: int) -> str:
    return f"{index:016d}-{term:08d}.snapshot"


def mark_of(name: str) -> tuple[int, int]:
    """Index and term of the snapshot in a file of that name."""
    index, _, term = name.removesuffix(".snapshot").partition("-")
    return int(index), int(term)


def _file_pieces(meta: SnapshotMeta, stream: Iterable[bytes]) -> Iterator[bytes]:
    text = json.dumps(asdict(meta)).encode()
    assert len(text) <= META_BYTES_MAX
    yield _MAGIC + _SECTION.pack(len(text), zlib.crc32(text)) + text
    total = 0
    for part in stream:
        for start in range(0, len(part), SECTION_BYTES_MAX):
            piece = part[start : start + SECTION_BYTES_MAX]
            total = zlib.crc32(piece, total)
            yield _SECTION.pack(len(piece), zlib.crc32(piece)) + piece
    yield _SECTION.pack(0, total)


def _damaged(path: str, what: str) -> DirectoryRefused:
    return DirectoryRefused(f"the snapshot {path} is damaged: {what}. " + DAMAGED)
