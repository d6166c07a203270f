"""Which peer messages are possible at all, whatever state the receiver is in.

A peer may be of another version, damaged or hostile. What does not pass here is dropped and
counted before any other code sees it, so that the assertions behind it mean a bug of our own.
"""

from __future__ import annotations

from actors.raft.errors import CodecError
from actors.raft.membership import Membership
from actors.raft.messages import (
    Append,
    AppendReply,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    PeerMessage,
    PreVoteRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteRequest,
)

__all__ = ["NUMBER_MAX", "is_possible"]

# Terms, indexes, offsets and contexts stay below this, so that adding to one never leaves 64 bits.
NUMBER_MAX = 1 << 62

_CONFIG = EntryKind.CONFIG


def _is_place(index: int, term: int, message_term: int) -> bool:
    """Whether (index, term) can be a place in the log of a server in ``message_term``."""
    if index == 0:
        return term == 0
    return 0 < index < NUMBER_MAX and 1 <= term <= message_term


def _is_membership(data: bytes) -> bool:
    try:
        Membership.decode(data)
    except CodecError:
        return False
    return True


def _is_possible_append(message: Append) -> bool:
    index, term = message.previous_index, message.previous_term
    if not _is_place(index, term, message.term) or not 0 <= message.commit < NUMBER_MAX:
        return False
    for entry in message.entries:
        index += 1
        if entry.index != index or not term <= entry.term <= message.term or entry.term < 1:
            return False
        if entry.kind is _CONFIG and not _is_membership(entry.data):
            return False
        term = entry.term
    return True


def _is_possible_chunk(message: SnapshotChunk) -> bool:
    end = message.offset + len(message.data)
    return (
        message.index > 0
        and _is_place(message.index, message.snapshot_term, message.term)
        and 0 <= message.offset <= end <= message.total < NUMBER_MAX
        and message.last == (end == message.total)
        and (len(message.data) > 0 or message.last)
    )


def is_possible(message: PeerMessage) -> bool:
    """Whether some correct server could have sent this message."""
    if not 1 <= message.term < NUMBER_MAX:
        return False
    match message:
        case Append():
            return _is_possible_append(message)
        case AppendReply(success=True):
            return 0 <= message.index < NUMBER_MAX
        case AppendReply():
            return message.hint_index <= message.index < NUMBER_MAX and _is_place(
                message.hint_index, message.hint_term, message.term
            )
        case Heartbeat():
            return 0 <= message.commit < NUMBER_MAX and 0 <= message.context < NUMBER_MAX
        case HeartbeatReply():
            return 0 <= message.context < NUMBER_MAX
        case TimeoutNow():
            return 0 <= message.last_index < NUMBER_MAX
        case VoteRequest() | PreVoteRequest():
            return _is_place(message.last_index, message.last_term, message.term)
        case SnapshotChunk():
            return _is_possible_chunk(message)
        case SnapshotReply():
            return (
                message.index > 0
                and _is_place(message.index, message.snapshot_term, message.term)
                and 0 <= message.offset < NUMBER_MAX
            )
        case _:
            return True
