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

from actors.raft.membership import MemberRole, Membership

__all__ = [
    "PEER_MESSAGE_TYPES",
    "AddMember",
    "Append",
    "AppendReply",
    "Applied",
    "ChangeMembership",
    "Entry",
    "EntryKind",
    "Heartbeat",
    "HeartbeatReply",
    "LocalMessage",
    "MembershipChange",
    "Message",
    "PeerDown",
    "PeerMessage",
    "PeerReset",
    "Persisted",
    "PreVoteReply",
    "PreVoteRequest",
    "Propose",
    "ReadIndex",
    "RemoveMember",
    "SetAddress",
    "SetRole",
    "SnapshotChunk",
    "SnapshotChunkRead",
    "SnapshotRefused",
    "SnapshotReply",
    "SnapshotRestored",
    "SnapshotSaved",
    "Tick",
    "TimeoutNow",
    "TransferLeadership",
    "Unreachable",
    "VoteReply",
    "VoteRequest",
]


class EntryKind(IntEnum):
    """What an entry is for. The core looks inside CONFIG entries alone."""

    # Appended by each new leader, so that entries of earlier terms can commit (paper, 5.4.2).
    NOOP = 0
    COMMAND = 1
    # Part of a command too large for one message; a COMMAND entry ends it.
    FRAGMENT = 2
    # A membership (``membership.py``); in force from the moment that it is in the log.
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
    """RequestVote of the paper, figure 2.

    ``transfer``: the leader itself asked for this election (dissertation, 3.10), so a live
    leader is no reason to ignore it.
    """

    term: int
    sender: int
    receiver: int
    last_index: int
    last_term: int
    transfer: bool = False


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


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks the receiver to campaign at once (dissertation, 3.10).

    It counts only where the log still ends at ``last_index``: one that was delayed asks for
    nothing, neither of a server that is behind nor after the leader has gone on.
    """

    term: int
    sender: int
    receiver: int
    last_index: int


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
class AddMember:
    """Take in a server as LEARNER or as JOINING. ``replaces``: JOINING only; see MemberEntry."""

    server_id: int
    role: MemberRole
    address: str = ""
    replaces: int = 0


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """Let a server go, for ever: its id is not used again."""

    server_id: int


@dataclass(frozen=True, slots=True)
class SetRole:
    """Give a member another role. VOTER asks for one that has caught up; JOINING waits for that."""

    server_id: int
    role: MemberRole


@dataclass(frozen=True, slots=True)
class SetAddress:
    """Note that a member is found elsewhere."""

    server_id: int
    address: str


MembershipChange: TypeAlias = AddMember | RemoveMember | SetRole | SetAddress


@dataclass(frozen=True, slots=True)
class ChangeMembership:
    """Change one member (dissertation, 4.1). Answered like ``Propose``, with one entry.

    A change to what is so already is a change like any other: its entry says the same again.
    """

    token: int
    change: MembershipChange


@dataclass(frozen=True, slots=True)
class TransferLeadership:
    """Hand leadership to ``target``, or, if that is 0, to the voter that has come farthest.

    That it worked shows in ``Ready.soft_state``: another server leads. ``Ready.refused`` tells
    that it cannot be tried, or that it was given up (NOT_CAUGHT_UP) and this server leads on.
    """

    token: int
    target: int = 0


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
    ``membership`` is the one of the last CONFIG entry that the snapshot covers, and is stored
    with it; None if there was none yet.
    """

    index: int
    term: int
    keep_from: int
    membership: Membership | None = None


@dataclass(frozen=True, slots=True)
class SnapshotRestored:
    """The snapshot received from the leader is durable and is the state machine's state now.

    ``membership`` is what is stored with it.
    """

    index: int
    term: int
    membership: Membership | None = None


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
    | TimeoutNow
)

LocalMessage: TypeAlias = (
    Tick
    | Propose
    | ChangeMembership
    | TransferLeadership
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
    TimeoutNow,
)
