"""Everything that can be stepped into a Raft core, and what a log is made of.

Two families. *Peer messages* travel between servers (wire form: ``codec.py``); each carries the
sender's term and the ids of both ends. *Local messages* come from the server that owns the core:
time, proposals, reads, and completions of the disk and the state machine. None carries a time
except ``Tick``: the core goes by the newest time that it was told.

Indexes count from 1; 0 is the empty place before the log, and its term is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeAlias

__all__ = [
    "PEER_MESSAGE_TYPES",
    "Append",
    "AppendReply",
    "Applied",
    "Entry",
    "EntryKind",
    "Heartbeat",
    "HeartbeatReply",
    "LocalMessage",
    "Message",
    "PeerDown",
    "PeerMessage",
    "PeerReset",
    "Persisted",
    "PreVoteReply",
    "PreVoteRequest",
    "Propose",
    "ReadIndex",
    "SnapshotChunk",
    "SnapshotChunkRead",
    "SnapshotRefused",
    "SnapshotReply",
    "SnapshotRestored",
    "SnapshotSaved",
    "Tick",
    "Unreachable",
    "VoteReply",
    "VoteRequest",
]


class EntryKind(IntEnum):
    """What an entry is for. The core looks inside none of them."""

    # Appended by each new leader, so that entries of earlier terms can commit (paper, 5.4.2).
    NOOP = 0
    COMMAND = 1
    # Part of a command too large for one message; a COMMAND entry ends it.
    FRAGMENT = 2
    # Reserved for changes of membership.
    CONFIG = 3


class Entry(NamedTuple):
    """One log entry. A named tuple, not a dataclass: it is made a thousand times in a batch."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    term: int
    kind: EntryKind
    data: bytes


# Peer messages


@dataclass(frozen=True, slots=True)
class PreVoteRequest:
    """Would you vote for me? ``term`` is the term that the sender would campaign in."""

    term: int
    sender: int
    receiver: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class PreVoteReply:
    """A grant carries the term asked about, a refusal the sender's own term."""

    term: int
    sender: int
    receiver: int
    granted: bool


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """RequestVote of the paper, figure 2."""

    term: int
    sender: int
    receiver: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class VoteReply:
    """Answer to VoteRequest; leaves only when term and vote are durable."""

    term: int
    sender: int
    receiver: int
    granted: bool


@dataclass(frozen=True, slots=True)
class Append:
    """AppendEntries of the paper, figure 2; without entries it is a probe."""

    term: int
    sender: int
    receiver: int
    previous_index: int
    previous_term: int
    commit: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AppendReply:
    """Answer to Append; leaves only when what it says is durable.

    ``success``: the sender's log equals the leader's up to ``index``; the hints are 0.
    Otherwise ``index`` is the refused ``previous_index`` (0: the Append was of an old term), and
    the hints name the last place at or before it where the sender's term does not exceed the
    leader's ``previous_term``: nothing between can match, so whole terms are skipped.
    """

    term: int
    sender: int
    receiver: int
    success: bool
    index: int
    hint_index: int
    hint_term: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sign of life. ``commit`` never exceeds what is known to match at the receiver.

    ``context`` is the newest read context of the leader (0: none). ``answer`` is false where
    the message only spreads a new commit index.
    """

    term: int
    sender: int
    receiver: int
    commit: int
    context: int
    answer: bool


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """Answer to Heartbeat with its context: the sender still follows in this term."""

    term: int
    sender: int
    receiver: int
    context: int


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Bytes ``offset`` to ``offset + len(data)`` of the snapshot at (index, snapshot_term).

    ``last`` is true exactly if they end at ``total``. Empty data at ``offset == total`` asks a
    receiver that took everything how its installation goes.
    """

    term: int
    sender: int
    receiver: int
    index: int
    snapshot_term: int
    offset: int
    data: bytes
    last: bool
    total: int


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    """The sender has bytes 0 to ``offset`` of that snapshot and wants what follows."""

    term: int
    sender: int
    receiver: int
    index: int
    snapshot_term: int
    offset: int


# Local messages


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes. ``now_ms``: monotonic clock, milliseconds."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class Propose:
    """Append these entries, next to one another, if this server leads.

    ``token`` is the caller's; it comes back in ``Ready.proposed`` or ``Ready.refused``.
    """

    token: int
    payloads: tuple[tuple[EntryKind, bytes], ...]


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """Ask for an index at which a read is linearizable (dissertation, 6.4)."""

    token: int


@dataclass(frozen=True, slots=True)
class Persisted:
    """The Ready of this sequence, and all before it, are durable."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Applied:
    """The state machine has applied all entries up to ``index``."""

    index: int


@dataclass(frozen=True, slots=True)
class SnapshotSaved:
    """A snapshot of the local state machine up to ``index`` is durable.

    Entries before ``keep_from`` may go; those from there on stay for slow followers.
    """

    index: int
    term: int
    keep_from: int


@dataclass(frozen=True, slots=True)
class SnapshotRestored:
    """The snapshot received from the leader is durable and is the state machine's state now."""

    index: int
    term: int


@dataclass(frozen=True, slots=True)
class SnapshotRefused:
    """The snapshot received from the leader could not be loaded; the old state is untouched."""

    index: int
    term: int


@dataclass(frozen=True, slots=True)
class SnapshotChunkRead:
    """Answer to ``SnapshotWanted``: a piece of a local snapshot, to be sent to ``peer``."""

    peer: int
    index: int
    term: int
    offset: int
    data: bytes
    last: bool
    total: int


@dataclass(frozen=True, slots=True)
class PeerReset:
    """A new incarnation of that peer: what was in flight to it is gone."""

    peer: int


@dataclass(frozen=True, slots=True)
class PeerDown:
    """That peer's process has ended. If it led, an election need not wait for the time-out."""

    peer: int


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A message to that peer could not be delivered."""

    peer: int


PeerMessage: TypeAlias = (
    PreVoteRequest
    | PreVoteReply
    | VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | SnapshotChunk
    | SnapshotReply
)

LocalMessage: TypeAlias = (
    Tick
    | Propose
    | ReadIndex
    | Persisted
    | Applied
    | SnapshotSaved
    | SnapshotRestored
    | SnapshotRefused
    | SnapshotChunkRead
    | PeerReset
    | PeerDown
    | Unreachable
)

Message: TypeAlias = PeerMessage | LocalMessage

PEER_MESSAGE_TYPES: tuple[type[PeerMessage], ...] = (
    PreVoteRequest,
    PreVoteReply,
    VoteRequest,
    VoteReply,
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    SnapshotChunk,
    SnapshotReply,
)
