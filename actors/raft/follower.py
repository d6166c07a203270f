"""What a follower does with a leader's messages (paper, 5.3 and 7).

By the time these functions run, the message's term is this server's term, and the sender is its
leader. Answers that promise something, and refusals as well, wait for the disk.
"""

from __future__ import annotations

from actors.raft.log import RaftLog
from actors.raft.messages import (
    Append,
    AppendReply,
    Entry,
    Heartbeat,
    HeartbeatReply,
    SnapshotChunk,
    SnapshotRefused,
    SnapshotReply,
    SnapshotRestored,
)
from actors.raft.ready import Role, SnapshotMark
from actors.raft.state import Receiving, State

__all__ = [
    "answer_old_leader",
    "handle_append",
    "handle_heartbeat",
    "handle_snapshot_chunk",
    "handle_snapshot_refused",
    "handle_snapshot_restored",
    "heard_leader",
]


def answer_old_leader(state: State, sender: int) -> None:
    """Tell a leader of an earlier term about this one; index 0 refuses nothing else.

    Without this answer a server whose term ran ahead could never be reached again.
    """
    state.after_persist.append(AppendReply(state.term, state.id, sender, False, 0, 0, 0))


def heard_leader(state: State, sender: int) -> bool:
    """Note a message of this term's leader; False if there cannot be such a leader."""
    if state.role is Role.LEADER or state.leader not in (0, sender):
        state.drop()
        return False
    if state.role is Role.FOLLOWER and state.leader == sender:
        state.reset_election_deadline()
    else:
        state.become_follower(state.term, sender)
    state.leader_heard_ms = state.now_ms
    return True


def handle_heartbeat(state: State, message: Heartbeat) -> None:
    """Keep following; learn the commit index."""
    if not heard_leader(state, message.sender):
        return
    limit = state.log.last_index
    if state.installing is not None:
        limit = min(limit, state.installing.mark.index - 1)
    if message.commit > limit:
        # The leader counts on an acknowledgement that this server never gave, or has lost.
        state.drop()
    else:
        state.log.commit_to(message.commit)
    if message.answer:
        state.outbox.append(HeartbeatReply(state.term, state.id, message.sender, message.context))


def handle_append(state: State, message: Append) -> None:
    """Take entries that follow what this log holds; refuse others with a hint."""
    if not heard_leader(state, message.sender):
        return
    if state.installing is not None:
        _reply_snapshot(state, state.installing.mark, state.installing.offset)
        return
    log = state.log
    previous_index, previous_term = message.previous_index, message.previous_term
    entries = message.entries
    if previous_index < log.commit_index:
        # What is committed here is the same there: begin after it.
        known = log.commit_index - previous_index
        if len(entries) >= known and entries[known - 1].term != log.term_at(log.commit_index):
            state.drop()
            return
        if len(entries) <= known:
            _reply_success(state, log.commit_index)
            return
        entries = entries[known:]
        previous_index, previous_term = log.commit_index, log.term_at(log.commit_index)
    if log.term_at(previous_index) != previous_term:
        _reply_refusal(state, previous_index, previous_term)
        return
    last_new = previous_index + len(entries)
    if not _store(state, entries):
        state.drop()
        return
    log.commit_to(min(message.commit, last_new))
    _reply_success(state, last_new)


def _store(state: State, entries: tuple[Entry, ...]) -> bool:
    """Add what is new; truncate only at a real conflict. False: that would undo a commit."""
    log = state.log
    fresh = _first_missing(log, entries)
    if fresh == len(entries):
        return True
    index = entries[fresh].index
    if index <= log.last_index:
        if index <= log.commit_index:
            return False
        log.truncate(index)
        state.persistence.truncated(index)
    log.append(entries[fresh:] if fresh else entries)
    return True


def _first_missing(log: RaftLog, entries: tuple[Entry, ...]) -> int:
    """Position of the first entry that the log does not hold with the same term."""
    if entries and entries[0].index > log.last_index:
        return 0
    for position, entry in enumerate(entries):
        if log.term_at(entry.index) != entry.term:
            return position
    return len(entries)


def _reply_success(state: State, index: int) -> None:
    """Acknowledge; successive acknowledgements in one Ready travel as the highest of them."""
    waiting = state.after_persist
    if waiting:
        last = waiting[-1]
        if (
            isinstance(last, AppendReply)
            and last.success
            and last.term == state.term
            and last.receiver == state.leader
        ):
            index = max(index, last.index)
            waiting.pop()
    waiting.append(AppendReply(state.term, state.id, state.leader, True, index, 0, 0))


def _reply_refusal(state: State, previous_index: int, previous_term: int) -> None:
    log = state.log
    hint = log.find_conflict_by_term(previous_index, previous_term)
    if hint.index < log.commit_index:
        hint = SnapshotMark(log.commit_index, log.term_at(log.commit_index))
    state.after_persist.append(
        AppendReply(
            state.term, state.id, state.leader, False, previous_index, hint.index, hint.term
        )
    )


# Snapshots


def _reply_snapshot(state: State, mark: SnapshotMark, offset: int) -> None:
    state.after_persist.append(
        SnapshotReply(state.term, state.id, state.leader, mark.index, mark.term, offset)
    )


def handle_snapshot_chunk(state: State, message: SnapshotChunk) -> None:
    """Take the next piece of a snapshot that is ahead of this log; paper, figure 13."""
    if not heard_leader(state, message.sender):
        return
    mark = SnapshotMark(message.index, message.snapshot_term)
    installing, log = state.installing, state.log
    if installing is not None:
        _reply_snapshot(state, mark, installing.offset if installing.mark == mark else 0)
        return
    if mark.index <= log.commit_index or log.term_at(mark.index) == mark.term:
        # Nothing in it is news; at most that all of it is committed.
        log.commit_to(mark.index)
        state.receiving = None
        _reply_success(state, log.commit_index)
        return
    receiving = state.receiving
    if receiving is None or receiving.sender != message.sender or receiving.mark != mark:
        if receiving is not None and receiving.sender == message.sender and mark < receiving.mark:
            return
        if message.offset != 0:
            _reply_snapshot(state, mark, 0)
            return
        receiving = state.receiving = Receiving(message.sender, mark, message.total)
    if message.offset != receiving.offset or message.total != receiving.total:
        _reply_snapshot(state, mark, receiving.offset)
        return
    state.snapshot_chunks.append(message)
    receiving.offset += len(message.data)
    if message.last:
        state.receiving, state.installing = None, receiving
    _reply_snapshot(state, mark, receiving.offset)


def handle_snapshot_restored(state: State, message: SnapshotRestored) -> None:
    """The installed snapshot takes the place of the whole log."""
    installing = state.installing
    mark = SnapshotMark(message.index, message.term)
    assert installing is not None, f"{message}: no snapshot is being installed"
    assert installing.mark == mark, f"{message}: {installing.mark} is being installed"
    state.installing = None
    # While it was installed the log took no entries, so nothing in it can follow the snapshot.
    state.log.reset(mark, message.membership)
    state.note_removal()
    state.persistence.truncated(mark.index + 1)
    state.log_reset = mark
    if state.leader not in (0, state.id):
        _reply_success(state, mark.index)


def handle_snapshot_refused(state: State, message: SnapshotRefused) -> None:
    """The snapshot was no good: wait until the leader asks, and take it from the beginning."""
    installing = state.installing
    assert installing is not None, f"{message}: no snapshot is being installed"
    assert installing.mark == SnapshotMark(message.index, message.term), message
    state.installing = None
