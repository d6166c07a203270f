"""Known bugs put into the core one at a time: the simulation must find each of them.

This tests the harness, not the core. Each bug was shipped by somebody, or is a rule of the core
left out. Two that random runs meet too seldom have scripts of their own: figure 8 in
``test_raft_figures.py``, late completions of writes in ``test_raft_persistence.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from harness import Faults
from test_raft_simulation import run

from actors.raft import changes, election, follower, handover, leader, log, quorum, transfers
from actors.raft.core import _PEER_HANDLERS, RaftCore
from actors.raft.membership import Membership
from actors.raft.messages import AddMember, Append, VoteReply, VoteRequest
from actors.raft.progress import Progress
from actors.raft.ready import Ready, RefusalReason
from actors.raft.state import Leadership, State

SEEDS = 200
HARD = Faults(
    loss=0.05,
    duplication=0.05,
    crash=0.01,
    cut=0.01,
    churn=0.03,
    snapshot=0.1,
    network_ms=10,
    disk_ms=5,
)
HARD_MEMBERS = replace(HARD, members=0.3, snapshot=0.05)
Patch = pytest.MonkeyPatch


def half_is_enough(patch: Patch) -> None:
    patch.setattr(quorum, "majority", lambda voters: max(1, voters // 2))


def commit_one_short(patch: Patch) -> None:
    def value(values: Iterable[int]) -> int:
        ordered = sorted(values)
        return ordered[min(len(ordered) - 1, (len(ordered) - 1) // 2 + 1)]

    patch.setattr(leader, "majority_value", value)


def leader_counts_unpersisted(patch: Patch) -> None:
    original = log.RaftLog.append

    def append(self: log.RaftLog, entries: Any) -> None:
        original(self, entries)
        self.persisted_index = self.last_index

    patch.setattr(log.RaftLog, "append", append)
    patch.setattr(log.RaftLog, "persisted_to", lambda self, index: None)


def answer_before_persisting(patch: Patch) -> None:
    original = RaftCore.ready

    def ready(self: RaftCore) -> Ready | None:
        self._state.outbox += self._state.after_persist
        self._state.after_persist = []
        return original(self)

    patch.setattr(RaftCore, "ready", ready)


def vote_by_index_first(patch: Patch) -> None:
    patch.setattr(
        log.RaftLog,
        "is_up_to_date",
        lambda self, index, term: (index, term) >= (self.last_index, self.last_term),
    )


def vote_for_everyone(patch: Patch) -> None:
    def handle(state: State, message: VoteRequest) -> None:
        state.become_follower(state.term, 0)
        state.vote = message.sender
        state.after_persist.append(VoteReply(state.term, state.id, message.sender, True))

    patch.setitem(_PEER_HANDLERS, VoteRequest, handle)


def truncate_always(patch: Patch) -> None:
    """An old Append throws away what came after it."""

    def store(state: State, entries: tuple[Any, ...]) -> bool:
        if entries:
            index = max(entries[0].index, state.log.commit_index + 1)
            if index <= state.log.last_index:
                state.log.truncate(index)
                state.persistence.truncated(index)
            state.log.append([e for e in entries if e.index > state.log.last_index])
        return True

    patch.setattr(follower, "_store", store)


def skip_previous_term(patch: Patch) -> None:
    """A follower checks that it has the previous index, not its term."""
    original = follower.handle_append

    def handle(state: State, message: Append) -> None:
        term = state.log.term_at(message.previous_index)
        if term >= 0 and term <= message.previous_term:
            message = Append(
                message.term,
                message.sender,
                message.receiver,
                message.previous_index,
                term,
                message.commit,
                message.entries,
            )
        original(state, message)

    patch.setitem(_PEER_HANDLERS, Append, handle)


def read_without_quorum(patch: Patch) -> None:
    def confirm(state: State, leadership: Leadership) -> None:
        state.reads.extend(leadership.reads.confirm(leadership.context))

    patch.setattr(leader, "_confirm_reads", confirm)


def read_before_own_commit(patch: Patch) -> None:
    original = leader.become_leader

    def become(state: State) -> None:
        original(state)
        assert state.leadership is not None
        state.leadership.term_start = 0

    patch.setattr(leader, "become_leader", become)


def commit_beyond_match(patch: Patch) -> None:
    original = leader._send_heartbeat

    def send(state: State, progress: Progress, context: int, *, answer: bool) -> None:
        match, progress.match_index = progress.match_index, state.log.last_index
        original(state, progress, context, answer=answer)
        progress.match_index = match

    patch.setattr(leader, "_send_heartbeat", send)


def lost_appends_never_sent_again(patch: Patch) -> None:
    patch.setattr(Progress, "nudge", property(lambda self: False, lambda self, value: None))


def lost_chunks_never_sent_again(patch: Patch) -> None:
    patch.setattr(transfers, "expire", lambda progress, now_ms: None)


def forget_vote(patch: Patch) -> None:
    original = State.become_follower

    def become(self: State, term: int, new_leader: int) -> None:
        original(self, term, new_leader)
        self.vote = 0

    patch.setattr(State, "become_follower", become)
    patch.setattr("actors.raft.invariants._check_roles", lambda state: None)


# Membership


def _without(reason: RefusalReason) -> Callable[..., RefusalReason | None]:
    """``changes._gate`` that does not know this reason."""
    original = changes._gate

    def gate(state: State, leadership: Leadership) -> RefusalReason | None:
        found = original(state, leadership)
        return None if found is reason else found

    return gate


def change_before_own_commit(patch: Patch) -> None:
    patch.setattr(changes, "_gate", _without(RefusalReason.NOT_READY))


def two_changes_in_flight(patch: Patch) -> None:
    patch.setattr(changes, "_gate", _without(RefusalReason.CHANGE_IN_PROGRESS))


def _reach(patch: Patch, voters: Callable[[State], Iterable[int]]) -> None:
    def reached(state: State, leadership: Leadership, own: int, of: Callable[..., int]) -> int:
        progress = leadership.progress
        return quorum.majority_value(
            [own if v == state.id else of(progress[v]) for v in voters(state)]
        )

    patch.setattr(leader, "_reached", reached)


def learners_count(patch: Patch) -> None:
    _reach(patch, lambda state: state.membership.ids)


def removed_leader_counts_itself(patch: Patch) -> None:
    _reach(patch, lambda state: {*state.membership.voters, state.id})


def commit_with_the_old_configuration(patch: Patch) -> None:
    def voters(state: State) -> Iterable[int]:
        return state.log.configuration_at(state.log.commit_index).membership.voters

    _reach(patch, voters)


def elect_with_the_first_configuration(patch: Patch) -> None:
    def result(state: State) -> quorum.VoteResult:
        return quorum.vote_result(state.votes, state.config.voters or state.membership.voters)

    patch.setattr(election, "_result", result)


def learners_campaign(patch: Patch) -> None:
    patch.setattr(election, "_may_campaign", lambda state: bool(state.membership.voters))


def truncation_keeps_the_configuration(patch: Patch) -> None:
    patch.setattr(log.RaftLog, "_truncate_configurations", lambda self, index: None)
    patch.setattr("actors.raft.invariants._check_configurations", lambda log: None)


def snapshot_without_configuration(patch: Patch) -> None:
    original = log.RaftLog.reset
    patch.setattr(log.RaftLog, "reset", lambda self, mark, membership: original(self, mark))


def restart_without_configuration(patch: Patch) -> None:
    original = log.RaftLog._begin_at
    patch.setattr(log.RaftLog, "_begin_at", lambda self, mark, _: original(self, mark, None))


def vote_before_catching_up(patch: Patch) -> None:
    patch.setattr(changes, "_has_caught_up", lambda state, progress: True)


def ids_used_again(patch: Patch) -> None:
    original = changes._added

    def added(membership: Membership, change: AddMember) -> Any:
        if membership.get(change.server_id) is None:
            membership = replace(membership, last_used_id=change.server_id - 1)
        return original(membership, change)

    patch.setattr(changes, "_added", added)
    patch.setattr("harness_members.Membership.validate", lambda self: None)
    patch.setattr(
        "harness_members.Membership.with_added",
        lambda self, member: Membership(
            tuple(sorted((*self.members, member), key=lambda m: m.server_id)),
            max(self.last_used_id, member.server_id),
        ),
    )


def removed_leader_stays(patch: Patch) -> None:
    patch.setattr(handover, "leave", lambda state, leadership: None)


def errands_are_forgotten(patch: Patch) -> None:
    patch.setattr(changes, "_errand", lambda state, leadership, member: None)


MUTATIONS: list[Callable[[Patch], None]] = [
    answer_before_persisting,
    commit_beyond_match,
    commit_one_short,
    forget_vote,
    half_is_enough,
    leader_counts_unpersisted,
    lost_appends_never_sent_again,
    lost_chunks_never_sent_again,
    read_before_own_commit,
    read_without_quorum,
    skip_previous_term,
    truncate_always,
    vote_by_index_first,
    vote_for_everyone,
]

MEMBER_MUTATIONS: list[Callable[[Patch], None]] = [
    change_before_own_commit,
    commit_with_the_old_configuration,
    elect_with_the_first_configuration,
    errands_are_forgotten,
    ids_used_again,
    learners_campaign,
    learners_count,
    removed_leader_counts_itself,
    removed_leader_stays,
    restart_without_configuration,
    snapshot_without_configuration,
    truncation_keeps_the_configuration,
    two_changes_in_flight,
    vote_before_catching_up,
]


@pytest.mark.parametrize(
    "mutation", MUTATIONS + MEMBER_MUTATIONS, ids=lambda mutation: mutation.__name__
)
def test_the_simulation_finds(mutation: Callable[[Patch], None], monkeypatch: Patch) -> None:
    faults = HARD_MEMBERS if mutation in MEMBER_MUTATIONS else HARD
    mutation(monkeypatch)
    for seed in range(SEEDS):
        try:
            run(seed, faults, 1000)
        except (AssertionError, KeyError, ValueError):
            return
    pytest.fail(f"{mutation.__name__} was not found by {SEEDS} seeds")
