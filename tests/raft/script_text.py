"""How scripts show values of the Raft core: one short line each, places as index/term."""

from __future__ import annotations

from collections.abc import Sequence

from actors.raft.core import RaftCore
from actors.raft.membership import MemberEntry, MemberRole, Membership
from actors.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    PeerMessage,
    PreVoteReply,
    PreVoteRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import ProgressState, ProgressStatus, Ready, Role, SnapshotMark, SoftState

# More entries than this are shown as the first, the last and how many.
_ENTRIES_SHOWN_MAX = 6

# Data up to here is shown as it is; longer data that repeats one letter as "a*500".
_DATA_SHOWN_MAX = 12


def data_text(data: bytes) -> str:
    """What a client wrote."""
    if len(data) > _DATA_SHOWN_MAX and len(set(data)) == 1:
        return f"{chr(data[0])}*{len(data)}"
    return data.decode("ascii", "backslashreplace")


def entry_text(entry: Entry) -> str:
    """For example ``3/2 b``; a piece of a larger command ends in a hyphen."""
    place = f"{entry.index}/{entry.term}"
    match entry.kind:
        case EntryKind.NOOP:
            return f"{place} noop"
        case EntryKind.FRAGMENT:
            return f"{place} {data_text(entry.data)}-"
        case EntryKind.CONFIG:
            return f"{place} members {members_text(Membership.decode(entry.data))}"
        case _:
            return f"{place} {data_text(entry.data)}"


def members_text(membership: Membership) -> str:
    """For example ``1 2 3 4(learner) 5(joining for 2)``; voters have no remark."""
    return " ".join(_member_text(member) for member in membership.members) or "nobody"


def _member_text(member: MemberEntry) -> str:
    remarks = [] if member.role is MemberRole.VOTER else [member.role.name.lower()]
    if member.replaces:
        remarks.append(f"for {member.replaces}")
    if member.address:
        remarks.append(f"at {member.address}")
    return f"{member.server_id}({' '.join(remarks)})" if remarks else str(member.server_id)


def entries_text(entries: Sequence[Entry]) -> str:
    """Entries with commas between; the middle of many is left out."""
    if len(entries) > _ENTRIES_SHOWN_MAX:
        first, last = entry_text(entries[0]), entry_text(entries[-1])
        return f"{first} .. {last} ({len(entries)} entries)"
    return ", ".join(entry_text(entry) for entry in entries)


def mark_text(mark: SnapshotMark) -> str:
    """For example ``3/2``."""
    return f"{mark.index}/{mark.term}"


def _last(index: int, term: int) -> str:
    return f"log ends at {index}/{term}"


def _verdict(granted: bool) -> str:
    return "yes" if granted else "no"


def message_text(message: PeerMessage) -> str:
    """For example ``1->2 Append term 2: after 3/1 entries 4/2 b; commit 3``."""
    kind = type(message).__name__
    return f"{message.sender}->{message.receiver} {kind} term {message.term}: {_content(message)}"


def _content(message: PeerMessage) -> str:
    match message:
        case VoteRequest(transfer=True):
            return f"{_last(message.last_index, message.last_term)}, asked by the leader"
        case PreVoteRequest() | VoteRequest():
            return _last(message.last_index, message.last_term)
        case TimeoutNow():
            return f"campaign if your log ends at {message.last_index}"
        case PreVoteReply() | VoteReply():
            return _verdict(message.granted)
        case Append():
            place = f"{message.previous_index}/{message.previous_term}"
            what = f"then {entries_text(message.entries)}" if message.entries else "probe"
            return f"after {place} {what}; commit {message.commit}"
        case AppendReply(success=True):
            return f"has all to {message.index}"
        case AppendReply(index=0):
            return "your term is over"
        case AppendReply():
            hint = f"{message.hint_index}/{message.hint_term}"
            return f"not after {message.index}, try {hint}"
        case Heartbeat():
            round_ = f", read round {message.context}" if message.context else ""
            return f"commit {message.commit}{round_}{'' if message.answer else ', no answer'}"
        case HeartbeatReply():
            return f"read round {message.context}" if message.context else "alive"
        case SnapshotChunk():
            end = message.offset + len(message.data)
            mark = f"{message.index}/{message.snapshot_term}"
            return f"of {mark} bytes {message.offset}..{end} of {message.total}"
        case SnapshotReply():
            return f"of {message.index}/{message.snapshot_term} has {message.offset} bytes"
        case _:
            return str(message)


def position_text(now: SoftState) -> str:
    """What a server is, for example ``follower of 2, term 3``."""
    removed = ", removed" if now.removed else ""
    if now.role is Role.FOLLOWER:
        return f"follower of {now.leader or 'nobody'}, term {now.term}{removed}"
    return f"{now.role.name.lower().replace('_', '-')}, term {now.term}{removed}"


def write_text(ready: Ready, replaced_to: int) -> str:
    """What a Ready wants on disk. ``replaced_to``: end of the stored log before it."""
    parts = []
    if ready.hard_state is not None:
        parts.append(f"term {ready.hard_state.term} vote {ready.hard_state.vote or 'none'}")
    if ready.log_reset is not None:
        parts.append(f"log begins anew after {mark_text(ready.log_reset)}")
    if ready.entries:
        parts.append(entries_text(ready.entries))
        if ready.log_reset is None and ready.entries[0].index <= replaced_to:
            parts[-1] += f" in place of {span(ready.entries[0].index, replaced_to)}"
    if ready.snapshot_chunks:
        parts.append("pieces of a snapshot")
    return "; ".join(parts) or "nothing new"


def span(first: int, last: int) -> str:
    """For example ``4..6``, or ``4``."""
    return f"{first}..{last}" if last > first else str(first)


def progress_text(progress: ProgressStatus) -> str:
    """A leader's view of one follower."""
    text = (
        f"{progress.peer}: {progress.state.name.lower()}, match {progress.match_index}, "
        f"next {progress.next_index}"
    )
    if progress.inflight_messages:
        text += f", in flight {progress.inflight_messages} ({progress.inflight_bytes} bytes)"
    if progress.state is ProgressState.SNAPSHOT:
        text += f", has {progress.snapshot_offset} bytes"
    return text


def status_lines(core: RaftCore) -> Sequence[str]:
    """A server, and if it leads, one line for each follower."""
    status = core.status()
    position = SoftState(status.role, status.term, status.leader, status.removed)
    snapshot = f", snapshot {mark_text(status.snapshot)}" if status.snapshot.index else ""
    head = (
        f"{status.server_id} {position_text(position)}, "
        f"vote {status.vote or 'none'}; log to {status.last_index}, "
        f"on disk {status.persisted_index}, commit {status.commit_index}, "
        f"applied {status.applied_index}{snapshot}"
    )
    if status.installing:
        head += ", installing a snapshot"
    return [head, *(f"  {progress_text(progress)}" for progress in status.progress)]


def membership_text(core: RaftCore) -> str:
    """The membership that a server goes by."""
    status = core.status()
    if not status.membership.members:
        return f"{status.server_id} knows of none"
    certain = "committed" if status.membership_committed else "not known to be committed"
    return f"{status.server_id}: {members_text(status.membership)} ({certain})"


def log_text(core: RaftCore) -> str:
    """The terms of a log's entries, as in the figures of the paper."""
    log = core.log
    terms = [str(log.term_at(i)) for i in range(log.first_index, log.last_index + 1)]
    base = f"up to {log.base_index}/{log.base_term} compacted, then " if log.base_index else ""
    return f"{core.server_id}: {base}{' '.join(terms) or 'empty'} (commit {log.commit_index})"
