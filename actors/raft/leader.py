"""What a leader does: heartbeats, replication, commitment, reads (paper, 5.3 and 5.4).

Steps only note what happened. Sending is decided once for each Ready, in ``prepare``: so many
proposals become one Append for each follower, and an Append carries the newest commit index.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from actors.raft import changes, handover, transfers
from actors.raft.log import ENTRY_OVERHEAD_BYTES, UNKNOWN_TERM
from actors.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    PeerReset,
    Propose,
    ReadIndex,
)
from actors.raft.progress import Progress
from actors.raft.quorum import majority_value
from actors.raft.ready import ProgressState, Proposed, RefusalReason, Refused, Role
from actors.raft.state import Leadership, State

__all__ = [
    "advance_commit",
    "become_leader",
    "handle_append_reply",
    "handle_heartbeat_reply",
    "handle_peer_reset",
    "handle_propose",
    "handle_read_index",
    "handle_unreachable",
    "prepare",
    "quorum_contact_ms",
    "tick",
]


def become_leader(state: State) -> None:
    """The election is won: probe every follower and append this term's first entry."""
    assert state.role is Role.CANDIDATE
    state.role = Role.LEADER
    state.leader = state.id
    state.votes = {}
    state.receiving = None
    log = state.log
    first_index = log.last_index + 1
    deadline_ms = state.now_ms + state.config.heartbeat_interval_ms
    state.leadership = Leadership(first_index, deadline_ms)
    changes.sync_members(state, state.leadership)
    log.append((Entry(first_index, state.term, EntryKind.NOOP, b""),))


_match_index = attrgetter("match_index")
_heard_ms = attrgetter("heard_ms")
_context_acked = attrgetter("context_acked")


def _reached(state: State, leadership: Leadership, own: int, of: Callable[[Progress], int]) -> int:
    """What a majority of the voters has reached; ``own`` is this leader's value, which counts only
    if it votes itself (dissertation, 4.2.2)."""
    progress, this = leadership.progress, state.id
    return majority_value(
        [own if voter == this else of(progress[voter]) for voter in state.membership.voters]
    )


def quorum_contact_ms(state: State) -> int:
    """When a majority, this leader included, had last been heard."""
    assert state.leadership is not None
    return _reached(state, state.leadership, state.now_ms, _heard_ms)


def tick(state: State, leadership: Leadership) -> None:
    """Step down if cut off or stalled; send heartbeats and lost snapshot chunks when due."""
    config, now_ms = state.config, state.now_ms
    cut_off = config.check_quorum and (
        now_ms - quorum_contact_ms(state) > config.election_timeout_max_ms
    )
    stalled_ms = now_ms - state.persistence.oldest_ms(now_ms)
    if cut_off or (state.other_voters and stalled_ms > config.persist_stall_max_ms):
        state.become_follower(state.term, 0)
        return
    handover.expire(state, leadership)
    if state.leadership is None:
        return
    if 0 < leadership.commit_notice_deadline_ms <= now_ms:
        _spread_commit(state, leadership)
    if now_ms < leadership.heartbeat_deadline_ms:
        return
    # Only here: rounds of reads, which are heartbeats too, must not put off what is done below.
    leadership.heartbeat_deadline_ms = now_ms + config.heartbeat_interval_ms
    handover.repeat(leadership)
    changes.forget_removed(state, leadership)
    for progress in leadership.progress.values():
        transfers.expire(progress, now_ms)
    # Rounds under way may be lost for good: fresh reads need not wait behind them.
    _start_reads(state, leadership, rounds_max=leadership.reads.rounds + 1)
    _broadcast_heartbeats(state, leadership)


def _broadcast_heartbeats(state: State, leadership: Leadership) -> None:
    for progress in leadership.progress.values():
        _send_heartbeat(state, progress, leadership.context, answer=True)


def _send_heartbeat(state: State, progress: Progress, context: int, *, answer: bool) -> None:
    commit = min(progress.match_index, state.log.commit_index)
    progress.commit_sent = max(progress.commit_sent, commit)
    state.outbox.append(Heartbeat(state.term, state.id, progress.peer, commit, context, answer))


# Proposals and commitment


def handle_propose(state: State, message: Propose) -> None:
    """Append, or say at once why not."""
    assert message.payloads, "Propose without payloads: give at least one entry"
    log = state.log
    if state.leadership is None:
        state.refused.append(Refused(message.token, RefusalReason.NOT_LEADER))
        return
    if state.leadership.handover is not None:
        state.refused.append(Refused(message.token, RefusalReason.TRANSFERRING))
        return
    size = sum(len(data) + ENTRY_OVERHEAD_BYTES for _, data in message.payloads)
    uncommitted = log.bytes_between(log.commit_index, log.last_index)
    if uncommitted + size > state.config.uncommitted_bytes_max:
        state.refused.append(Refused(message.token, RefusalReason.OVERLOADED))
        return
    first = log.last_index + 1
    term = state.term
    before = log.configuration
    log.append(
        [
            Entry(index, term, kind, data)
            for index, (kind, data) in enumerate(message.payloads, first)
        ]
    )
    assert log.configuration is before, "a membership is changed by ChangeMembership"
    state.proposed.append(Proposed(message.token, term, first, log.last_index))


def advance_commit(state: State) -> None:
    """Commit what a majority holds durably, if it is of this term (paper, 5.4.2, figure 8)."""
    leadership = state.leadership
    assert leadership is not None
    log = state.log
    index = _reached(state, leadership, log.persisted_index, _match_index)
    if index > log.commit_index and log.term_at(index) == state.term:
        log.commit_to(index)


# Answers of followers


def _heard(state: State, peer: int) -> Progress | None:
    if state.leadership is None:
        return None
    progress = state.leadership.progress[peer]
    progress.heard_ms = state.now_ms
    return progress


def handle_append_reply(state: State, message: AppendReply) -> None:
    """Move a follower forward, or back to where the logs may match."""
    progress = _heard(state, message.sender)
    if progress is None:
        return
    log = state.log
    if message.index > log.last_index:
        state.drop()
        return
    if not message.success:
        place = log.find_conflict_by_term(message.hint_index, message.hint_term)
        progress.refuse(message.index, place.index)
        return
    news = progress.acknowledge(message.index)
    if progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.transfer is not None:
        if progress.match_index >= log.base_index:
            progress.become_replicate()
        elif progress.match_index >= progress.transfer.mark.index:
            # Installed, but what follows has been compacted meanwhile: one more snapshot.
            progress.become_snapshot(log.snapshot)
    if news:
        advance_commit(state)


def handle_heartbeat_reply(state: State, message: HeartbeatReply) -> None:
    """The follower lives: confirm reads, and see whether something sent to it was lost."""
    progress = _heard(state, message.sender)
    leadership = state.leadership
    if progress is None or leadership is None:
        return
    if message.context > leadership.context:
        state.drop()
        return
    progress.probe_sent = False
    if (
        progress.inflight_messages
        and state.now_ms - progress.appended_ms >= state.config.heartbeat_interval_ms
    ):
        progress.nudge = True
    if message.context > progress.context_acked:
        progress.context_acked = message.context
        _confirm_reads(state, leadership)


def handle_peer_reset(state: State, message: PeerReset) -> None:
    """A new incarnation: nothing that was in flight arrives any more."""
    if state.leadership is not None and message.peer in state.leadership.progress:
        state.leadership.progress[message.peer].become_probe()


def handle_unreachable(state: State, peer: int) -> None:
    """Stop pipelining into the void."""
    if state.leadership is None:
        return
    progress = state.leadership.progress.get(peer)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


# Reads


def handle_read_index(state: State, message: ReadIndex) -> None:
    """Queue a read; it fails at once where nobody can confirm it."""
    leadership = state.leadership
    if leadership is None or leadership.reads.pending >= state.config.pending_reads_max:
        state.reads_failed.append(message.token)
    else:
        leadership.reads.add(message.token)


def _start_reads(state: State, leadership: Leadership, rounds_max: int) -> bool:
    """Give fresh reads an index and a context. Not before this term's own first commit: until
    then the leader does not know what is committed (dissertation, 6.4, step 1)."""
    reads = leadership.reads
    if (
        not reads.has_fresh
        or reads.rounds >= rounds_max
        or state.log.commit_index < leadership.term_start
    ):
        return False
    state.context_counter += 1
    leadership.context = state.context_counter
    reads.start_batch(leadership.context, state.log.commit_index)
    _confirm_reads(state, leadership)
    return True


def _confirm_reads(state: State, leadership: Leadership) -> None:
    confirmed = _reached(state, leadership, leadership.context, _context_acked)
    state.reads.extend(leadership.reads.confirm(confirmed))


# Sending


def prepare(state: State) -> None:
    """Put what every follower should get now into the outbox, small messages first."""
    leadership = state.leadership
    assert leadership is not None
    if leadership.errands:
        changes.drive(state, leadership)
    if leadership.handover is not None:
        handover.proceed(state, leadership)
    if state.leadership is None:
        return
    if leadership.recount:
        leadership.recount = False
        advance_commit(state)
        _confirm_reads(state, leadership)
    if _start_reads(state, leadership, state.config.read_rounds_max):
        _broadcast_heartbeats(state, leadership)
    slices: dict[int, tuple[Entry, ...]] = {}
    for progress in leadership.progress.values():
        if progress.state is ProgressState.REPLICATE:
            _send_entries(state, progress, slices)
        if progress.state is ProgressState.PROBE and not progress.probe_sent:
            _send_probe(state, progress)
        if progress.state is ProgressState.SNAPSHOT:
            transfers.proceed(state, progress)
    if not any(_lacks_commit(state, progress) for progress in leadership.progress.values()):
        leadership.commit_notice_deadline_ms = 0
    elif not state.config.commit_notice_ms:
        _spread_commit(state, leadership)
    elif not leadership.commit_notice_deadline_ms:
        leadership.commit_notice_deadline_ms = state.now_ms + state.config.commit_notice_ms


def _lacks_commit(state: State, progress: Progress) -> bool:
    """Whether a follower that has the entries has not been told that they are committed."""
    return (
        progress.state is ProgressState.REPLICATE
        and min(progress.match_index, state.log.commit_index) > progress.commit_sent
    )


def _spread_commit(state: State, leadership: Leadership) -> None:
    leadership.commit_notice_deadline_ms = 0
    for progress in leadership.progress.values():
        if _lacks_commit(state, progress):
            _send_heartbeat(state, progress, 0, answer=False)


def _send_entries(state: State, progress: Progress, slices: dict[int, tuple[Entry, ...]]) -> None:
    log, config = state.log, state.config
    sent = False
    while progress.next_index <= log.last_index and not progress.window_full(config):
        first = progress.next_index
        if first <= log.base_index:
            progress.become_snapshot(log.snapshot)
            return
        entries = slices.get(first)
        if entries is None:
            entries = slices[first] = log.slice(
                first, log.last_index, config.append_bytes_max, config.append_entries_max
            )
        _send_append(state, progress, entries)
        last = entries[-1].index
        progress.sent_entries(last, log.bytes_between(first - 1, last))
        progress.commit_sent = max(progress.commit_sent, min(log.commit_index, last))
        sent = True
    if sent:
        progress.nudge = False
    elif progress.nudge:
        progress.nudge = False
        if log.term_at(progress.next_index - 1) == UNKNOWN_TERM:
            progress.become_snapshot(log.snapshot)
        else:
            _send_append(state, progress, ())


def _send_probe(state: State, progress: Progress) -> None:
    if state.log.term_at(progress.next_index - 1) == UNKNOWN_TERM:
        progress.become_snapshot(state.log.snapshot)
        return
    _send_append(state, progress, ())
    progress.probe_sent = True


def _send_append(state: State, progress: Progress, entries: tuple[Entry, ...]) -> None:
    previous = progress.next_index - 1
    log = state.log
    progress.appended_ms = state.now_ms
    state.outbox.append(
        Append(
            state.term,
            state.id,
            progress.peer,
            previous,
            log.term_at(previous),
            log.commit_index,
            entries,
        )
    )
