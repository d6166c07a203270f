"""The Raft core: a pure step function.

    step(message)  takes one message, of a peer or of the own server, and changes state
    ready()        takes what has accumulated: what to write, send, apply and answer

No clock, no chance, no input or output of its own: time comes with ``Tick`` and
``advance_clock``, chance from the object given, and the effects are a value (``ready.py``). The
same messages in the same order give the same Readys, which is what makes simulation possible.

``step`` never fails for anything that a peer can send; impossible messages are dropped and
counted. It raises AssertionError if the own server breaks its part, for example by confirming a
write that was never handed out: carrying on would risk the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.raft import changes, election, follower, handover, leader, transfers
from actors.raft.config import CoreConfig, Randomness
from actors.raft.log import RaftLog
from actors.raft.membership import Membership
from actors.raft.messages import (
    PEER_MESSAGE_TYPES,
    Append,
    AppendReply,
    Applied,
    ChangeMembership,
    Heartbeat,
    HeartbeatReply,
    Message,
    PeerDown,
    PeerMessage,
    PeerReset,
    Persisted,
    PreVoteReply,
    PreVoteRequest,
    Propose,
    ReadIndex,
    SnapshotChunk,
    SnapshotChunkRead,
    SnapshotRefused,
    SnapshotReply,
    SnapshotRestored,
    SnapshotSaved,
    Tick,
    TimeoutNow,
    TransferLeadership,
    Unreachable,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import Ready, Restored, Role, SnapshotMark, Status
from actors.raft.state import State
from actors.raft.validation import is_possible

__all__ = ["RaftCore"]


class RaftCore:
    """One server's Raft. Not thread-safe: one loop owns it."""

    __slots__ = ("_state",)

    def __init__(
        self, config: CoreConfig, restored: Restored, random: Randomness, now_ms: int
    ) -> None:
        """Begin as a follower with what the disk held.

        ``now_ms`` is a reading of the clock that all later times come from.

        Raises:
            ValueError: the configuration or the restored state is impossible.
        """
        config.validate()
        self._state = State(config, restored, random, now_ms)

    def __repr__(self) -> str:
        state = self._state
        return (
            f"<RaftCore {state.id} {state.role.name} term={state.term} leader={state.leader} "
            f"commit={state.log.commit_index} last={state.log.last_index}>"
        )

    # Input

    def advance_clock(self, now_ms: int) -> None:
        """Tell the time without acting on it. A time before the newest one is ignored."""
        if now_ms > self._state.now_ms:
            self._state.now_ms = now_ms

    def step(self, message: Message) -> None:
        """Take one message.

        Raises:
            AssertionError: the own server broke its part of the contract.
        """
        kind = type(message)
        handler = _LOCAL_HANDLERS.get(kind)
        if handler is not None:
            handler(self._state, message)
        elif kind in _PEER_HANDLERS:
            self._step_peer(message)  # type: ignore[arg-type]
        else:
            raise AssertionError(f"{kind.__name__} is not a message of the core")

    def was_refused(self, token: int) -> bool:
        """Whether the newest Propose, which carried ``token``, was refused since ``ready``."""
        refused = self._state.refused
        return bool(refused) and refused[-1].token == token

    def _step_peer(self, message: PeerMessage) -> None:
        state = self._state
        if (
            message.receiver != state.id
            or message.sender == state.id
            or message.sender < 1
            or not is_possible(message)
        ):
            state.drop()
            return
        if type(message) in _ANSWERS and not _is_known(state, message.sender):
            # Of a server that was removed, or not added after all. Requests of strangers are
            # considered, because they may know a newer membership than this server does.
            return
        if message.term < state.term:
            _answer_old_term(state, message)
        elif message.term == state.term or _enter_term(state, message):
            _PEER_HANDLERS[type(message)](state, message)

    # Output

    def ready(self) -> Ready | None:
        """Take what there is to do now, or None. Call until None: each Ready is bounded."""
        state = self._state
        log, config = state.log, state.config
        if state.leadership is not None:
            leader.prepare(state)
        entries = log.take_unwritten()
        committed = (
            log.take_committed(config.committed_bytes_max, config.unapplied_bytes_max)
            if state.installing is None
            else ()
        )
        hard_state = state.hard_state
        changed = hard_state != state.persistence.issued
        soft_state, membership = state.soft_state, log.membership
        news = soft_state != state.soft_state_given
        members_news = (
            membership is not state.membership_given and membership != state.membership_given
        )
        writes = bool(changed or entries or state.snapshot_chunks or state.log_reset)
        if not (writes or committed or news or members_news or _has_outgoing(state)):
            return None
        sequence = 0
        if writes or (state.after_persist and state.persistence.busy):
            sequence = state.persistence.issue(log.written_index, hard_state, state.now_ms)
        elif state.after_persist:
            # All that they promise is durable already.
            state.outbox += state.after_persist
            state.after_persist = []
        state.soft_state_given, state.membership_given = soft_state, membership
        ready = Ready(
            sequence=sequence,
            hard_state=hard_state if changed else None,
            log_reset=state.log_reset,
            entries=entries,
            messages=tuple(state.outbox),
            messages_after_persist=tuple(state.after_persist),
            committed=committed,
            proposed=tuple(state.proposed),
            refused=tuple(state.refused),
            reads=tuple(state.reads),
            reads_failed=tuple(state.reads_failed),
            snapshot_chunks=tuple(state.snapshot_chunks),
            snapshot_requests=tuple(state.snapshot_requests),
            soft_state=soft_state if news else None,
            membership=membership if members_news else None,
        )
        state.take_outgoing()
        return ready

    # Observation

    @property
    def server_id(self) -> int:
        """Id of this server."""
        return self._state.id

    @property
    def role(self) -> Role:
        """What this server is now."""
        return self._state.role

    @property
    def term(self) -> int:
        """Current term; it may not be durable yet."""
        return self._state.term

    @property
    def leader(self) -> int:
        """Id of this term's leader; 0 if unknown."""
        return self._state.leader

    @property
    def log(self) -> RaftLog:
        """The log in memory; to be read only."""
        return self._state.log

    @property
    def membership(self) -> Membership:
        """The membership in force: the newest in the log, committed or not."""
        return self._state.membership

    @property
    def removed(self) -> bool:
        """Whether this server has applied an entry that says that it is no member any more."""
        return self._state.removed

    @property
    def commit_index(self) -> int:
        """Last index known to be committed."""
        return self._state.log.commit_index

    @property
    def applied_index(self) -> int:
        """Last index that the state machine has applied."""
        return self._state.log.applied_index

    @property
    def last_index(self) -> int:
        """End of the log."""
        return self._state.log.last_index

    @property
    def dropped(self) -> int:
        """Number of peer messages that were malformed or impossible.

        Whoever decodes messages may add those that do not decode.
        """
        return self._state.dropped

    @dropped.setter
    def dropped(self, count: int) -> None:
        self._state.dropped = count

    @property
    def deadline_ms(self) -> int:
        """When the next ``Tick`` is wanted."""
        leadership = self._state.leadership
        if leadership is not None:
            notice_ms = leadership.commit_notice_deadline_ms
            beat_ms = leadership.heartbeat_deadline_ms
            return min(notice_ms, beat_ms) if notice_ms else beat_ms
        return self._state.election_deadline_ms

    def status(self) -> Status:
        """A frozen copy of what is worth showing."""
        state = self._state
        log, leadership = state.log, state.leadership
        return Status(
            server_id=state.id,
            role=state.role,
            term=state.term,
            vote=state.vote,
            leader=state.leader,
            commit_index=log.commit_index,
            applied_index=log.applied_index,
            persisted_index=log.persisted_index,
            first_index=log.first_index,
            last_index=log.last_index,
            snapshot=log.snapshot,
            log_bytes=log.byte_count,
            uncommitted_bytes=log.bytes_between(log.commit_index, log.last_index),
            pending_reads=leadership.reads.pending if leadership else 0,
            dropped=state.dropped,
            installing=state.installing is not None,
            membership=log.membership,
            membership_committed=log.configuration.index <= log.commit_index,
            removed=state.removed,
            transferring_to=(
                leadership.handover.target if leadership and leadership.handover else 0
            ),
            progress=tuple(p.status() for p in leadership.progress.values()) if leadership else (),
        )


def _is_known(state: State, sender: int) -> bool:
    if state.leadership is not None:
        return sender in state.leadership.progress
    return state.membership.get(sender) is not None


def _has_outgoing(state: State) -> bool:
    return bool(
        state.outbox
        or state.after_persist
        or state.proposed
        or state.refused
        or state.reads
        or state.reads_failed
        or state.snapshot_requests
    )


def _answer_old_term(state: State, message: PeerMessage) -> None:
    """A message of an earlier term: tell requesters about this one, ignore answers."""
    match message:
        case Append() | Heartbeat() | SnapshotChunk():
            follower.answer_old_leader(state, message.sender)
        case PreVoteRequest():
            state.outbox.append(PreVoteReply(state.term, state.id, message.sender, False))
        case VoteRequest():
            state.after_persist.append(VoteReply(state.term, state.id, message.sender, False))
        case _:
            pass


def _enter_term(state: State, message: PeerMessage) -> bool:
    """A message of a later term (paper, 5.1); False if it is to be ignored.

    A request for votes that the leader itself wanted is not ignored by those who hear a leader.
    """
    match message:
        case PreVoteRequest():
            # Asks about a term that nobody has entered yet.
            return not election.in_lease(state)
        case PreVoteReply(granted=True):
            return True
        case VoteRequest():
            if not message.transfer and election.in_lease(state):
                return False
            state.become_follower(message.term, 0)
        case Append() | Heartbeat() | SnapshotChunk() | TimeoutNow():
            state.become_follower(message.term, message.sender)
        case _:
            state.become_follower(message.term, 0)
    return True


def _handle_tick(state: State, message: Tick) -> None:
    state.now_ms = max(state.now_ms, message.now_ms)
    if state.leadership is not None:
        leader.tick(state, state.leadership)
    elif state.now_ms >= state.election_deadline_ms:
        election.campaign(state)


def _handle_persisted(state: State, message: Persisted) -> None:
    state.log.persisted_to(state.persistence.complete(message.sequence))
    if state.leadership is not None:
        leader.advance_commit(state)
    else:
        election.own_vote_persisted(state)


def _handle_applied(state: State, message: Applied) -> None:
    state.log.applied_to(message.index)
    state.note_removal()


def _handle_peer_down(state: State, message: PeerDown) -> None:
    if state.leadership is not None:
        leader.handle_unreachable(state, message.peer)
    else:
        election.leader_down(state, message.peer)


def _handle_unreachable(state: State, message: Unreachable) -> None:
    leader.handle_unreachable(state, message.peer)


def _handle_snapshot_saved(state: State, message: SnapshotSaved) -> None:
    log = state.log
    if log.snapshot.index < message.index <= log.applied_index:
        configuration = log.configuration_at(message.index)
        assert configuration.index == 0 or configuration.membership == message.membership, (
            f"the snapshot at {message.index} was stored with {message.membership}, but the log "
            f"has {configuration}: without it the membership would be forgotten"
        )
    log.snapshot_saved(SnapshotMark(message.index, message.term), message.keep_from)


_Handler = Callable[[State, Any], None]

_LOCAL_HANDLERS: dict[type, _Handler] = {
    Tick: _handle_tick,
    Propose: leader.handle_propose,
    ChangeMembership: changes.handle_change,
    TransferLeadership: handover.handle_transfer,
    ReadIndex: leader.handle_read_index,
    Persisted: _handle_persisted,
    Applied: _handle_applied,
    SnapshotSaved: _handle_snapshot_saved,
    SnapshotRestored: follower.handle_snapshot_restored,
    SnapshotRefused: follower.handle_snapshot_refused,
    SnapshotChunkRead: transfers.handle_chunk_read,
    PeerReset: leader.handle_peer_reset,
    PeerDown: _handle_peer_down,
    Unreachable: _handle_unreachable,
}

_PEER_HANDLERS: dict[type, _Handler] = {
    PreVoteRequest: election.handle_pre_vote_request,
    PreVoteReply: election.handle_pre_vote_reply,
    VoteRequest: election.handle_vote_request,
    VoteReply: election.handle_vote_reply,
    Append: follower.handle_append,
    AppendReply: leader.handle_append_reply,
    Heartbeat: follower.handle_heartbeat,
    HeartbeatReply: leader.handle_heartbeat_reply,
    SnapshotChunk: follower.handle_snapshot_chunk,
    SnapshotReply: transfers.handle_snapshot_reply,
    TimeoutNow: election.handle_timeout_now,
}

assert set(_PEER_HANDLERS) == set(PEER_MESSAGE_TYPES)

_ANSWERS = frozenset((PreVoteReply, VoteReply, AppendReply, HeartbeatReply, SnapshotReply))
