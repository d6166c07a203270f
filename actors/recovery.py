"""Making a cluster of one out of what a single server has left, when the majority is lost for good.

Raft alone cannot do this, and rightly: a minority does not know what the others have acknowledged.
So a person decides, on one surviving directory, with the server stopped, and this happens:

1. The state is built from the newest snapshot and *all* entries of the log behind it, committed or
   not: what this server has is kept, what it never got is lost.
2. A new data set is written to ``recovering/``: a snapshot of that state, one term later, in which
   this server is the only member, under a new cluster id; and a log that begins behind it.
3. The old files are moved to ``before-recovery-<time>/``, the new ones take their places, and the
   identity is written anew. All of it is listed in ``recovering/plan.json`` before the first file
   is moved; should the power fail in between, the server refuses to start and the same command
   goes on where it stopped.

The new cluster id is what keeps the old members out, should they ever come back: they belong to
another cluster. Ids that were used stay used; servers that are added get new ones.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from actors.disk import FileDisk
from actors.errors import DirectoryRefused
from actors.identity import FORMAT_VERSION, DataDirectory, Identity
from actors.quarantine import is_open_case
from actors.raft.membership import MemberEntry, MemberRole, Membership
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import HardState, Restored, SnapshotMark
from actors.replica import Replica, load_root
from actors.snapshots import SnapshotStore
from actors.wal import Recovered, WriteAheadLog
from graph.snapshot import write_snapshot

__all__ = ["RECOVERING", "Findings", "Recovery"]

RECOVERING = "recovering"
_PLAN = f"{RECOVERING}/plan.json"
_IDENTITY = "identity.json"
_PARTS = ("raft", "snapshots")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a directory holds."""

    server_id: int
    cluster_id: str  # "" if it never knew
    term: int
    vote: int
    snapshot: SnapshotMark
    last_index: int
    last_term: int
    entries: int  # in the log, behind the snapshot
    torn_bytes: int
    membership: Membership | None  # the newest; None: only the configuration files say
    interrupted: bool  # an earlier recovery was begun and not finished


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done once the new files are complete."""

    cluster_id: str
    folder: str


class Recovery:
    """See the module. Holds the directory's lock until ``close``.

    Raises:
        DirectoryRefused: in use, none of ours, damaged, or of a server whose state was found wrong.
        CorruptionError: the log or the snapshot was written by a later version.
        DiskFailure: a write failed; run it again.
    """

    def __init__(self, path: Path, server_id: int) -> None:
        if DataDirectory.inspect(path, server_id) is None:
            raise DirectoryRefused(f"{path} is not a data directory of rayft: nothing to recover.")
        self.path = path
        self._lock = DataDirectory.lock(path)
        try:
            self._identity = self._read_identity(server_id)
            self._disk = FileDisk(path)
            if is_open_case(self._disk):
                raise DirectoryRefused(
                    f"{path}: the state of this server was found wrong (diverged.json), so nothing "
                    "can be recovered from it. Use the directory of another server, or restore a "
                    "backup into a new cluster."
                )
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        os.close(self._lock)

    def _read_identity(self, server_id: int) -> Identity:
        identity = DataDirectory.inspect(self.path, server_id)
        assert identity is not None
        return identity

    # ----------------------------------------------------------------- looking

    def look(self) -> Findings:
        """What is there; nothing is changed."""
        identity = self._identity
        if self._plan() is not None:
            return Findings(
                identity.server_id,
                identity.cluster_id,
                *(0, 0, SnapshotMark(0, 0), 0, 0, 0, 0, None),
                interrupted=True,
            )
        recovered, restored = self._read()
        entries, mark = restored.entries, restored.snapshot
        return Findings(
            identity.server_id,
            identity.cluster_id,
            recovered.hard_state.term,
            recovered.hard_state.vote,
            mark,
            entries[-1].index if entries else mark.index,
            entries[-1].term if entries else mark.term,
            len(entries),
            recovered.torn_bytes,
            _newest_membership(restored),
            interrupted=False,
        )

    def _read(self) -> tuple[Recovered, Restored]:
        missing = [part for part in _PARTS if not (self.path / part).is_dir()]
        if missing:
            raise DirectoryRefused(f"{self.path} has no {' and no '.join(missing)} in it.")
        disk = _ReadOnlyDisk(self.path)
        recovered = WriteAheadLog(disk).open()
        snapshots = SnapshotStore(disk)
        mark, membership = SnapshotMark(0, 0), None
        name = snapshots.newest()
        try:
            if name is not None:
                meta = snapshots.meta(name)
                mark = SnapshotMark(meta.index, meta.term)
                membership = meta.decoded_membership()
            restored = Restored.from_disk(recovered.hard_state, mark, recovered.entries, membership)
        except ValueError as error:
            raise DirectoryRefused(f"{self.path}: {error}") from error
        return recovered, restored

    # ----------------------------------------------------------------- doing

    def run(self, time: str) -> str:
        """Make the cluster of one; the new cluster id. ``time``: of day, as in file names."""
        plan = self._plan()
        if plan is None:
            plan = _Plan(secrets.token_hex(16), f"before-recovery-{time}")
            self._build(plan)
        self._swap(plan)
        return plan.cluster_id

    def _build(self, plan: _Plan) -> None:
        """Write the new files, and the plan last of all."""
        disk, me = self._disk, self._identity.server_id
        recovered, restored = self._read()
        replica = self._state(restored)
        index = replica.applied_index
        term = max(recovered.hard_state.term, replica.applied_term) + 1
        membership = _alone(me, _newest_membership(restored))
        # What a new leader's first entry does: it ends a large transaction that is not complete.
        replica.apply(Entry(index + 1, term, EntryKind.NOOP, b""))
        replica.apply(Entry(index + 2, term, EntryKind.CONFIG, membership.encode()))
        replica.cluster_id = plan.cluster_id
        captured = replica.capture()
        assert captured is not None
        meta, root = captured
        for part in ("", *_PARTS):
            _empty(disk, f"{RECOVERING}/{part}".rstrip("/"))
        SnapshotStore(disk, f"{RECOVERING}/snapshots").save(meta, write_snapshot(root))
        wal = WriteAheadLog(disk, f"{RECOVERING}/raft")
        wal.open()
        wal.append(HardState(term, me), (), SnapshotMark(meta.index, meta.term))
        wal.sync()
        wal.close()
        disk.replace(_PLAN, json.dumps(asdict(plan)).encode())

    def _state(self, restored: Restored) -> Replica:
        replica = Replica()
        snapshots = SnapshotStore(_ReadOnlyDisk(self.path))
        name = snapshots.newest()
        if name is not None:
            meta, stream = snapshots.load(name)
            replica.restore(meta, load_root(stream))
        for entry in restored.entries:
            replica.apply(entry)
        return replica

    def _swap(self, plan: _Plan) -> None:
        """Put the new files in the place of the old ones; may be done again from any point."""
        disk, path = self._disk, self.path
        disk.make_directory(plan.folder)
        if not (path / plan.folder / _IDENTITY).exists():
            disk.replace(f"{plan.folder}/{_IDENTITY}", (path / _IDENTITY).read_bytes())
        for part in _PARTS:
            if not (path / RECOVERING / part).exists():
                continue
            if (path / part).exists():
                disk.rename(part, f"{plan.folder}/{part}")
            disk.rename(f"{RECOVERING}/{part}", part)
        identity = replace(
            self._identity,
            format=FORMAT_VERSION,
            cluster_id=plan.cluster_id,
            directory=secrets.token_hex(8),
            removed=False,
            peers={},
        )
        disk.replace(_IDENTITY, (json.dumps(asdict(identity), indent=2) + "\n").encode())
        disk.remove(_PLAN)
        (path / RECOVERING).rmdir()

    def _plan(self) -> _Plan | None:
        try:
            return _Plan(**json.loads(self._disk.read(_PLAN)))
        except FileNotFoundError:
            return None


def _newest_membership(restored: Restored) -> Membership | None:
    for entry in reversed(restored.entries):
        if entry.kind is EntryKind.CONFIG:
            return Membership.decode(entry.data)
    return restored.membership


def _alone(server_id: int, before: Membership | None) -> Membership:
    """This server as the only member. Its place is noted anew when it leads."""
    me = MemberEntry(server_id, MemberRole.VOTER)
    last_used_id = max(server_id, before.last_used_id if before else 0)
    return Membership((me,), last_used_id)


def _empty(disk: FileDisk, directory: str) -> None:
    """Make a directory, or empty it of what an interrupted attempt left there."""
    disk.make_directory(directory)
    for name in disk.names(directory):
        if (disk.root / directory / name).is_file():
            disk.remove(f"{directory}/{name}")


class _MemoryFile:
    """Takes what is written and forgets it."""

    def __init__(self, size: int) -> None:
        self._size = size

    def write(self, data: bytes) -> None:
        self._size += len(data)

    def sync(self) -> None:
        pass

    def size(self) -> int:
        return self._size

    def close(self) -> None:
        pass


class _ReadOnlyDisk(FileDisk):
    """Reads the real files; whatever would change them does nothing."""

    def make_directory(self, path: str) -> None:
        pass

    def append(self, path: str) -> _MemoryFile:
        return _MemoryFile(self.size(path) if (self.root / path).exists() else 0)

    def truncate(self, path: str, size: int) -> None:
        pass

    def rename(self, source: str, target: str) -> None:
        pass

    def remove(self, path: str) -> None:
        pass

    def replace(self, path: str, data: bytes) -> None:
        pass
