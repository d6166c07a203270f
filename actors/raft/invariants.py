"""What must hold in every core after every step; tests call ``check`` after each event.

The cheap ones are asserted where the state changes as well, in ``log.py`` above all. These here
read the whole log and are for tests and for simulation.
"""

from __future__ import annotations

from actors.raft.core import RaftCore
from actors.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog
from actors.raft.membership import Membership
from actors.raft.messages import EntryKind
from actors.raft.progress import Progress
from actors.raft.ready import ProgressState, Role
from actors.raft.state import Leadership, State

__all__ = ["check"]


def check(core: RaftCore, *, whole_log: bool = True) -> None:
    """Verify one core; ``whole_log`` false leaves out what takes a look at every entry.

    Raises:
        AssertionError: the message names the invariant and the values that break it.
    """
    state = core._state
    _check_positions(state.log)
    if whole_log:
        _check_entries(state.log)
    _check_roles(state)
    _check_outgoing(state)
    if state.leadership is not None:
        log = state.log
        assert log.term_at(state.leadership.term_start) == state.term or (
            state.leadership.term_start <= log.base_index
        ), "a leader's own first entry is in its log"
        _check_leadership(state, state.leadership)


def _check_positions(log: RaftLog) -> None:
    order = (
        log.base_index,
        log.snapshot.index,
        log.applied_index,
        log.delivered_index,
        log.commit_index,
        log.last_index,
    )
    assert list(order) == sorted(order), f"base..snapshot..applied..last out of order: {order}"
    assert log.persisted_index <= log.written_index <= log.last_index, (
        f"persisted {log.persisted_index}, written {log.written_index}, last {log.last_index}"
    )
    assert log.delivered_index <= log.persisted_index, "delivered before it was persisted"
    assert len(log._entries) == len(log._ends) == log.last_index - log.base_index


def _check_entries(log: RaftLog) -> None:
    term, size = log.base_term, log._base_offset
    runs = [(log.base_index, term)]
    index = log.base_index
    for entry, end in zip(log._entries, log._ends, strict=True):
        index += 1
        size += len(entry.data) + ENTRY_OVERHEAD_BYTES
        assert entry.index == index, f"entry {entry.index} stands at {index}"
        assert end == size, f"size up to {index} is {size}, not {end}"
        if entry.term != term:
            assert entry.term > term, f"term falls from {term} to {entry.term} at {index}"
            term = entry.term
            runs.append((index, term))
    assert term == log.last_term, f"last term {log.last_term}, last entry's {term}"
    kept = list(zip(log._run_starts, log._run_terms, strict=True))
    assert kept == runs, f"runs of terms {kept}, in the entries {runs}"
    _check_configurations(log)


def _check_configurations(log: RaftLog) -> None:
    base, *later = log._configurations
    assert base.index <= log.base_index, f"the membership at {log.base_index} is unknown"
    stored = [
        (entry.index, Membership.decode(entry.data))
        for entry in log._entries
        if entry.kind is EntryKind.CONFIG
    ]
    assert later == stored, f"memberships {later}, in the entries {stored}"


def _check_roles(state: State) -> None:
    assert (state.role is Role.LEADER) == (state.leadership is not None), state.role
    assert (state.role is Role.LEADER) == (state.leader == state.id), state.leader
    if state.role in (Role.CANDIDATE, Role.LEADER):
        assert state.vote == state.id, f"a {state.role.name} voted for {state.vote}"
    if state.role is Role.LEADER:
        assert state.persistence.durable == state.hard_state, "a leader's term is durable"
    assert state.log.last_term <= state.term, f"entries of a term after {state.term}"
    if state.installing is not None:
        assert state.role is not Role.LEADER, "a leader installs no snapshot"
        assert state.installing.mark.index > state.log.commit_index, "an old snapshot"
        assert state.receiving is None


def _check_outgoing(state: State) -> None:
    for message in state.outbox + state.after_persist:
        assert message.sender == state.id != message.receiver, message
        assert message.receiver >= 1, message


def _check_leadership(state: State, leadership: Leadership) -> None:
    others = {*state.peers, *leadership.removed}
    assert set(leadership.progress) == others, f"sends to {set(leadership.progress)}, not {others}"
    assert not set(leadership.removed) & set(state.peers), "a removed server is a member"
    if leadership.handover is not None:
        assert leadership.handover.target in state.other_voters, "hands over to one without a vote"
    for progress in leadership.progress.values():
        _check_progress(progress, state)


def _check_progress(progress: Progress, state: State) -> None:
    log, config = state.log, state.config
    assert progress.match_index < progress.next_index <= log.last_index + 1, progress.status()
    assert progress.inflight_messages <= config.inflight_messages_max, progress.status()
    assert (progress.transfer is not None) == (progress.state is ProgressState.SNAPSHOT)
    if progress.state is not ProgressState.REPLICATE:
        assert progress.inflight_messages == 0 == progress.inflight_bytes
    if progress.commit_sent:
        assert progress.commit_sent <= log.commit_index
