"""What comes out of a Raft core: values that say what to do, and nothing that does it.

The contract of ``Ready``. The server takes Readys in order, and for each

1. writes what is to be persisted: first ``log_reset``, then ``entries``, with ``hard_state`` in
   the same atomic write; and the bytes of ``snapshot_chunks`` (those need no sync, but a whole
   snapshot may be durable only after this write and all before it);
2. sends ``messages`` at once, without waiting for the disk;
3. when this Ready and all before it are durable, sends ``messages_after_persist`` and steps
   ``Persisted(sequence)``. Several Readys may share one sync and one ``Persisted``;
4. applies ``committed`` in order and steps ``Applied``; answers reads and proposals.

Promises that rest on the disk (votes, acknowledged entries) are only ever found in
``messages_after_persist``, so "persist before you answer" is a field and not a convention.
``sequence`` is 0 exactly if there is nothing to write and nothing that waits for a write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NamedTuple

from actors.raft.membership import Membership
from actors.raft.messages import Entry, PeerMessage, SnapshotChunk

__all__ = [
    "HardState",
    "ProgressState",
    "ProgressStatus",
    "Proposed",
    "ReadReady",
    "Ready",
    "RefusalReason",
    "Refused",
    "Restored",
    "Role",
    "SnapshotMark",
    "SnapshotWanted",
    "SoftState",
    "Status",
]


class Role(IntEnum):
    """What a server is at the moment."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class ProgressState(IntEnum):
    """How a leader sends to one follower."""

    # Where the logs part is unknown: one empty Append at a time.
    PROBE = 0
    # Logs match: entries are pipelined.
    REPLICATE = 1
    # The entries needed are compacted: a snapshot is on its way.
    SNAPSHOT = 2


class RefusalReason(IntEnum):
    """Why something proposed was not appended, or not done. In each case it certainly was not."""

    NOT_LEADER = 0
    OVERLOADED = 1
    # Leadership is being handed over: ask the new leader in a moment.
    TRANSFERRING = 2
    # Changes of membership alone. The one before is not committed yet.
    CHANGE_IN_PROGRESS = 3
    # The new leader's own first entry is not committed yet: try again in a moment.
    NOT_READY = 4
    # That id is, or was, a member's, or is below one: take one above ``last_used_id``.
    ID_USED = 5
    UNKNOWN_MEMBER = 6
    # Nobody would be left to vote.
    LAST_VOTER = 7
    TOO_MANY = 8
    # A voter to be, or a leader to be, lacks too much of the log.
    NOT_CAUGHT_UP = 9
    # Too few of those who would vote afterwards are alive: nothing could be committed any more.
    NO_MAJORITY = 10
    # No such change exists: a voter that never was a learner, an address that is too long, ...
    IMPOSSIBLE = 11


class HardState(NamedTuple):
    """What a server must never forget, always written together. ``vote`` 0: none in ``term``."""

    term: int
    vote: int


class SoftState(NamedTuple):
    """What others may like to know and nobody needs to store. ``leader`` 0: unknown.

    ``removed``: this server has applied an entry that says that it is no member any more.
    """

    role: Role
    term: int
    leader: int
    removed: bool = False


class SnapshotMark(NamedTuple):
    """The last entry that a snapshot covers; (0, 0) is the empty state."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    term: int


class Proposed(NamedTuple):
    """A proposal, or a change of membership, was appended as first_index..last_index of ``term``.

    That is not committed: it happened if and only if those indexes commit with that term.
    """

    token: int
    term: int
    first_index: int
    last_index: int


class Refused(NamedTuple):
    """A proposal was not appended."""

    token: int
    reason: RefusalReason


class ReadReady(NamedTuple):
    """The read may be served as soon as the state machine has applied ``index``."""

    token: int
    index: int  # type: ignore[assignment]  # hides tuple.index


class SnapshotWanted(NamedTuple):
    """Read at most ``max_bytes`` of a local snapshot at ``offset``, answer SnapshotChunkRead.

    (index, term) is the snapshot under way to ``peer``. Where it is gone, answer with the newest
    one at offset 0. No answer is no harm: the request comes again.
    """

    peer: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    term: int
    offset: int
    max_bytes: int


_NO_HARD_STATE = HardState(0, 0)
_NO_SNAPSHOT = SnapshotMark(0, 0)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a server found on its disk: input of a new core.

    ``entries`` follow ``snapshot`` without a gap. ``membership`` is what is stored with the
    snapshot; None if there is no snapshot, or no CONFIG entry came before its end.
    """

    hard_state: HardState = _NO_HARD_STATE
    snapshot: SnapshotMark = _NO_SNAPSHOT
    entries: tuple[Entry, ...] = ()
    membership: Membership | None = None

    @classmethod
    def from_disk(
        cls,
        hard_state: HardState,
        snapshot: SnapshotMark,
        entries: Sequence[Entry],
        membership: Membership | None = None,
    ) -> Restored:
        """Put a snapshot and a stored log together that need not fit.

        ``entries`` are consecutive and may begin before the snapshot's end, or, after a crash
        between installing a snapshot and resetting the log, end before it or contradict it. The
        rule of the paper (figure 13, 6 and 7): entries after the snapshot stay only if the log
        has the snapshot's last entry.

        Raises:
            ValueError: entries are missing between the snapshot and the log.
        """
        if not entries or entries[-1].index <= snapshot.index:
            return cls(hard_state, snapshot, (), membership)
        first = entries[0].index
        if first > snapshot.index + 1:
            raise ValueError(
                f"the log begins at {first} but the snapshot ends at {snapshot.index}: entries "
                "between are missing; this server must be restored from its peers"
            )
        if first <= snapshot.index and entries[snapshot.index - first].term != snapshot.term:
            return cls(hard_state, snapshot, (), membership)
        return cls(hard_state, snapshot, tuple(entries[snapshot.index + 1 - first :]), membership)


@dataclass(frozen=True, slots=True)
class Ready:
    """All that a server has to do now; see the module's text for the order."""

    sequence: int = 0
    hard_state: HardState | None = None
    # The stored log is to be emptied and goes on after this snapshot.
    log_reset: SnapshotMark | None = None
    # Append from entries[0].index, dropping what is stored there and after it.
    entries: tuple[Entry, ...] = ()
    messages: tuple[PeerMessage, ...] = ()
    messages_after_persist: tuple[PeerMessage, ...] = ()
    committed: tuple[Entry, ...] = ()
    proposed: tuple[Proposed, ...] = ()
    refused: tuple[Refused, ...] = ()
    reads: tuple[ReadReady, ...] = ()
    reads_failed: tuple[int, ...] = ()
    # Accepted in order. Offset 0 begins a new file; after the one with ``last``, make it
    # durable, load it and step SnapshotRestored or SnapshotRefused. Entries handed out in
    # ``committed`` before are older; none are handed out until then.
    snapshot_chunks: tuple[SnapshotChunk, ...] = ()
    snapshot_requests: tuple[SnapshotWanted, ...] = ()
    soft_state: SoftState | None = None
    # The membership in force, if it is another one than before. Nothing to store: the log has it.
    membership: Membership | None = None

    def __str__(self) -> str:
        """The fields that say something, each entry as index/term."""
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or value == () or value == 0:
                continue
            if field.name in ("entries", "committed"):
                value = " ".join(f"{entry.index}/{entry.term}" for entry in value)
            parts.append(f"{field.name}={value}")
        return f"Ready({', '.join(parts)})"


@dataclass(frozen=True, slots=True)
class ProgressStatus:
    """A leader's view of one follower. ``heard_ms``: time of its last answer."""

    peer: int
    state: ProgressState
    match_index: int
    next_index: int
    inflight_messages: int
    inflight_bytes: int
    heard_ms: int
    # Bytes of the snapshot that the follower has taken; 0 outside SNAPSHOT.
    snapshot_offset: int


@dataclass(frozen=True, slots=True)
class Status:
    """A core at one moment, for SHOW and for metrics."""

    server_id: int
    role: Role
    term: int
    vote: int
    leader: int
    commit_index: int
    applied_index: int
    persisted_index: int
    first_index: int
    last_index: int
    snapshot: SnapshotMark
    log_bytes: int
    uncommitted_bytes: int
    pending_reads: int
    # Messages of peers that were malformed or impossible.
    dropped: int
    # True between the last chunk of a received snapshot and SnapshotRestored.
    installing: bool
    # The membership in force, and whether its entry is committed as far as this server knows.
    membership: Membership
    membership_committed: bool
    # See SoftState.
    removed: bool
    # Whom a leader is handing over to; 0: nobody.
    transferring_to: int
    # Of a leader: each member but itself, and for a moment those just removed.
    progress: tuple[ProgressStatus, ...]
