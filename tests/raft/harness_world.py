"""What surrounds one core in the harness: its disk, its state machine, and how bad the world is."""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field
from random import Random

from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.membership import Membership
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import HardState, Ready, Restored, SnapshotMark

NO_MARK = SnapshotMark(0, 0)
NO_HARD_STATE = HardState(0, 0)


def digest_after(digest: int, entry: Entry) -> int:
    return zlib.crc32(b"%d:%d:%s" % (entry.index, entry.term, entry.data), digest)


@dataclass
class Disk:
    """What survives a crash, and the writes that may not."""

    hard_state: HardState = NO_HARD_STATE
    base: SnapshotMark = NO_MARK
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMark = NO_MARK
    snapshot_data: bytes = b""
    pending: deque[Ready] = field(default_factory=deque)

    def complete_one(self) -> Ready:
        ready = self.pending.popleft()
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.log_reset is not None:
            self.base, self.entries = ready.log_reset, []
        if ready.entries:
            keep = ready.entries[0].index - self.base.index - 1
            assert 0 <= keep <= len(self.entries), "a write left a gap in the stored log"
            self.entries[keep:] = ready.entries
        return ready

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is durable, in the log or under the snapshot."""
        if index <= max(self.snapshot.index, self.base.index):
            return True
        position = index - self.base.index - 1
        return position < len(self.entries) and self.entries[position].term == term

    def compact(self, keep_from: int) -> None:
        count = keep_from - 1 - self.base.index
        if 0 < count <= len(self.entries):
            last = self.entries[count - 1]
            self.base = SnapshotMark(last.index, last.term)
            del self.entries[:count]


@dataclass
class Machine:
    """A state machine: a running checksum over what it applied."""

    index: int = 0
    term: int = 0
    digest: int = 0
    # Of the last CONFIG entry.
    membership: Membership | None = None
    queue: deque[Entry] = field(default_factory=deque)

    def apply(self, entry: Entry) -> None:
        assert entry.index == self.index + 1, f"{entry.index} after {self.index}"
        self.digest = digest_after(self.digest, entry)
        self.index, self.term = entry.index, entry.term
        if entry.kind is EntryKind.CONFIG:
            self.membership = Membership.decode(entry.data)

    def image(self) -> bytes:
        members = b"" if self.membership is None else self.membership.encode().hex().encode()
        text = b"%d %d %d %s" % (self.index, self.term, self.digest, members)
        return text.ljust(100, b" ")

    def load(self, image: bytes) -> None:
        index, term, digest, *members = image.split()
        self.index, self.term, self.digest = int(index), int(term), int(digest)
        self.membership = None
        if members:
            self.membership = Membership.decode(bytes.fromhex(members[0].decode()))
        self.queue.clear()


@dataclass
class Faults:
    """How bad the world is; drawn from the seed, so that runs differ in kind.

    ``loss`` and ``duplication`` are of messages; ``crash``, ``cut``, ``churn``, ``snapshot`` and
    ``members`` are chances at each turn of the client; delays are the longest, in milliseconds.
    """

    loss: float = 0.0
    duplication: float = 0.0
    crash: float = 0.0
    cut: float = 0.0
    churn: float = 0.0
    snapshot: float = 0.0
    refusal: float = 0.0
    members: float = 0.0
    network_ms: int = 4
    disk_ms: int = 2

    @classmethod
    def draw(cls, random: Random) -> Faults:
        def sometimes(high: float) -> float:
            return random.random() * high if random.random() < 0.6 else 0.0

        return cls(
            loss=sometimes(0.2),
            duplication=sometimes(0.2),
            crash=sometimes(0.02),
            cut=sometimes(0.02),
            churn=sometimes(0.04),
            snapshot=sometimes(0.4),
            refusal=sometimes(0.9),
            members=sometimes(0.3),
            network_ms=random.choice((3, 10, 10, 40)),
            disk_ms=random.choice((1, 5, 5, 30)),
        )


class Server:
    """One core and its world; ``core`` is None while it is down."""

    def __init__(self, config: CoreConfig, random: Random) -> None:
        self.config = config
        self.random = random
        self.disk = Disk()
        self.machine = Machine()
        self.core: RaftCore | None = None
        self.held: deque[Ready] = deque()
        self.incoming = bytearray()
        self.install: tuple[SnapshotMark, bytes] | None = None
        # Removed and stopped, or lost with its disk: it does not come back.
        self.retired = False

    def start(self, now_ms: int) -> RaftCore:
        disk = self.disk
        self.machine = Machine()
        if disk.snapshot != NO_MARK:
            self.machine.load(disk.snapshot_data)
        restored = Restored.from_disk(
            disk.hard_state, disk.snapshot, disk.entries, self.machine.membership
        )
        # The same rule on the disk.
        disk.entries, disk.base = list(restored.entries), disk.snapshot
        self.core = RaftCore(self.config, restored, self.random, now_ms)
        return self.core

    def crash(self) -> None:
        self.core = None
        self.disk.pending.clear()
        self.held.clear()
        self.incoming.clear()
        self.install = None
