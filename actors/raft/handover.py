"""Handing leadership over (dissertation, 3.10): before a clean stop, on request, after removal.

The leader takes no more proposals, waits until its chosen successor has the whole log, and tells
it to campaign at once (TimeoutNow); ``election.py`` has the receiver's part. The request for
votes says that the leader wants it, so that nobody's lease stands in its way, and the old leader
steps down because of the higher term. If nothing comes of it within an election time-out, the
leader goes on as before; a message that arrives later than that finds another log end and asks
for nothing.

A leader that has been voted out of the membership leaves: it steps down as soon as it has told
its successor, and at the end of the time-out in any case.
"""

from __future__ import annotations

from actors.raft.messages import TimeoutNow, TransferLeadership
from actors.raft.progress import Progress
from actors.raft.ready import ProgressState, RefusalReason, Refused
from actors.raft.state import Handover, Leadership, State

__all__ = ["expire", "handle_transfer", "leave", "proceed", "repeat"]


def handle_transfer(state: State, message: TransferLeadership) -> None:
    """Begin to hand over, or say at once why not."""
    leadership = state.leadership
    if leadership is None:
        _refuse(state, message.token, RefusalReason.NOT_LEADER)
        return
    if leadership.handover is not None:
        _refuse(state, message.token, RefusalReason.TRANSFERRING)
        return
    target = message.target or _best_successor(state, leadership)
    if target == 0:
        _refuse(state, message.token, RefusalReason.NOT_CAUGHT_UP)
    elif target not in state.other_voters:
        _refuse(state, message.token, RefusalReason.UNKNOWN_MEMBER)
    else:
        leadership.handover = _handover(state, target, message.token)


def leave(state: State, leadership: Leadership) -> None:
    """This leader has no vote any more: hand over to the best voter, and step down."""
    target = _best_successor(state, leadership)
    if target:
        leadership.handover = _handover(state, target, None)
    else:
        state.become_follower(state.term, 0)


def _handover(state: State, target: int, token: int | None) -> Handover:
    return Handover(target, state.now_ms + state.config.election_timeout_max_ms, token)


def _refuse(state: State, token: int, reason: RefusalReason) -> None:
    state.refused.append(Refused(token, reason))


def _best_successor(state: State, leadership: Leadership) -> int:
    """The voter that has most of the log, of those heard lately; 0 if there is none."""
    candidates = [
        leadership.progress[voter]
        for voter in state.other_voters
        if _may_succeed(state, leadership.progress[voter])
    ]
    best = max(
        candidates, key=lambda progress: (progress.match_index, -progress.peer), default=None
    )
    return best.peer if best is not None else 0


def _may_succeed(state: State, progress: Progress) -> bool:
    silent_ms = state.now_ms - progress.heard_ms
    return (
        progress.state is ProgressState.REPLICATE
        and silent_ms <= state.config.election_timeout_min_ms
    )


def proceed(state: State, leadership: Leadership) -> None:
    """Tell the successor as soon as it has everything."""
    handover, log = leadership.handover, state.log
    if handover is None or handover.told:
        return
    if leadership.progress[handover.target].match_index < log.last_index:
        return
    handover.told = True
    state.outbox.append(TimeoutNow(state.term, state.id, handover.target, log.last_index))
    if handover.token is None:
        state.become_follower(state.term, 0)


def repeat(leadership: Leadership) -> None:
    """At a heartbeat: what the successor was told may have been lost."""
    if leadership.handover is not None:
        leadership.handover.told = False


def expire(state: State, leadership: Leadership) -> None:
    """Give up when the time is over."""
    handover = leadership.handover
    if handover is None or state.now_ms < handover.deadline_ms:
        return
    leadership.handover = None
    if handover.token is None:
        state.become_follower(state.term, 0)
    else:
        _refuse(state, handover.token, RefusalReason.NOT_CAUGHT_UP)
