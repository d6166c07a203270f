"""Transfer of leadership (dissertation, 3.10), from both sides."""

from __future__ import annotations

import pytest
from bench import acknowledge, append, candidate, change, command, entries, leader, make, role, step

from actors.raft.core import RaftCore
from actors.raft.membership import MemberRole
from actors.raft.messages import (
    AddMember,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PeerDown,
    PreVoteRequest,
    ReadIndex,
    RemoveMember,
    SnapshotChunk,
    Tick,
    TimeoutNow,
    TransferLeadership,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import RefusalReason, Role


def beat(core: RaftCore) -> list[TimeoutNow]:
    """A heartbeat that all followers answer."""
    done = step(core, Tick(core.deadline_ms))
    for peer in core._state.peers:
        step(core, HeartbeatReply(core.term, peer, core.server_id, 0))
    return done.of(TimeoutNow)


# The leader


def test_a_follower_that_has_everything_is_told_at_once() -> None:
    core = leader()
    done = step(core, TransferLeadership(7, 3))
    assert done.of(TimeoutNow) == [TimeoutNow(1, 1, 3, 1)]
    assert (core.role, core.status().transferring_to) == (Role.LEADER, 3)
    assert done.refused == []


def test_one_that_lacks_entries_gets_them_first() -> None:
    core = leader()
    step(core, command())
    acknowledge(core, [2])
    assert step(core, TransferLeadership(7, 3)).of(TimeoutNow) == []
    assert acknowledge(core, [3]).of(TimeoutNow) == [TimeoutNow(1, 1, 3, 2)]


def test_meanwhile_nothing_is_proposed_or_changed_and_reads_go_on() -> None:
    core = leader()
    step(core, TransferLeadership(7, 3))
    refused = RefusalReason.TRANSFERRING
    assert step(core, command(8)).refused == [(8, refused)]
    assert change(core, AddMember(4, MemberRole.LEARNER)) is refused
    assert step(core, TransferLeadership(9, 2)).refused == [(9, refused)]
    step(core, ReadIndex(5))
    done = step(core, HeartbeatReply(1, 2, 1, core._state.context_counter))
    assert done.reads == [(5, 1)]
    assert core.last_index == 1


def test_the_old_leader_steps_down_for_the_request_that_it_wanted() -> None:
    core = leader()
    step(core, TransferLeadership(7, 3))
    done = step(core, VoteRequest(2, 3, 1, 1, 1, transfer=True))
    assert done.of(VoteReply) == [VoteReply(2, 1, 3, True)]
    assert (core.role, core.status().transferring_to) == (Role.FOLLOWER, 0)


def test_a_lost_request_is_repeated_and_after_an_election_timeout_it_is_given_up() -> None:
    core = leader()
    core.advance_clock(core.deadline_ms - 1)
    start_ms = core._state.now_ms
    step(core, TransferLeadership(7, 3))
    told = beat(core)
    assert told == [TimeoutNow(1, 1, 3, 1)]
    while core._state.now_ms < start_ms + 190:
        beat(core)
        assert core.status().transferring_to == 3
    assert step(core, command(8)).refused
    done = step(core, Tick(start_ms + 200))
    assert done.refused == [(7, RefusalReason.NOT_CAUGHT_UP)]
    assert core.role is Role.LEADER
    assert step(core, command(8)).proposed == [(8, 1, 2, 2)]


def test_target_0_is_the_voter_that_has_most() -> None:
    core = leader()
    step(core, command())
    acknowledge(core, [3])
    assert step(core, TransferLeadership(7)).of(TimeoutNow) == [TimeoutNow(1, 1, 3, 2)]


def test_target_0_is_nobody_who_is_dead_silent_or_without_a_vote() -> None:
    core = leader(voters=(1, 2))
    assert change(core, AddMember(3, MemberRole.LEARNER)) is None
    for _ in range(2):
        acknowledge(core, [2, 3])
    step(core, PeerDown(2))
    nobody = [(7, RefusalReason.NOT_CAUGHT_UP)]
    assert step(core, TransferLeadership(7)).refused == nobody
    acknowledge(core, [2])
    core.advance_clock(core._state.now_ms + 101)
    assert step(core, TransferLeadership(7)).refused == nobody
    acknowledge(core, [2])
    assert step(core, TransferLeadership(7)).refused == []
    assert core.status().transferring_to == 2


@pytest.mark.parametrize("target", [1, 4, 9])
def test_only_another_voter_can_take_over(target: int) -> None:
    core = leader()
    assert change(core, AddMember(4, MemberRole.LEARNER)) is None
    acknowledge(core, [2, 3])
    refused = step(core, TransferLeadership(7, target)).refused
    assert refused == [(7, RefusalReason.UNKNOWN_MEMBER)]


def test_only_a_leader_hands_over() -> None:
    assert step(make(), TransferLeadership(7, 2)).refused == [(7, RefusalReason.NOT_LEADER)]


def test_a_cluster_of_one_has_nobody_to_hand_over_to() -> None:
    core = leader(voters=(1,))
    assert step(core, TransferLeadership(7)).refused == [(7, RefusalReason.NOT_CAUGHT_UP)]


def test_a_change_under_way_does_not_stand_in_the_way() -> None:
    core = leader()
    assert change(core, RemoveMember(2)) is None
    done = step(core, TransferLeadership(7, 3))
    assert done.of(TimeoutNow) == []
    assert acknowledge(core, [3]).of(TimeoutNow) == [TimeoutNow(1, 1, 3, 2)]


def test_a_leader_cut_off_in_the_middle_steps_down_like_any_other() -> None:
    core = leader()
    step(core, TransferLeadership(7, 3))
    while role(core) is Role.LEADER and core._state.now_ms < 1000:
        step(core, Tick(core.deadline_ms))
    assert role(core) is Role.FOLLOWER


# The successor


def follower() -> RaftCore:
    core = make(term=1)
    step(core, append(core, (0, 0), entries([1, 1])))
    return core


def test_it_campaigns_at_once_without_asking_whether_it_could_win() -> None:
    core = follower()
    done = step(core, TimeoutNow(1, 2, 1, 2))
    assert done.of(PreVoteRequest) == []
    assert done.of(VoteRequest) == [VoteRequest(2, 1, p, 2, 1, transfer=True) for p in (2, 3)]
    step(core, VoteReply(2, 3, 1, True))
    assert core.role is Role.LEADER


def test_its_requests_wait_for_its_disk_like_any_candidates() -> None:
    core = follower()
    core.step(TimeoutNow(1, 2, 1, 2))
    ready = core.ready()
    assert ready is not None
    assert ready.messages == ()
    assert len(ready.messages_after_persist) == 2


@pytest.mark.parametrize("last_index", [0, 1, 3])
def test_one_that_is_behind_or_ahead_of_what_the_leader_meant_does_nothing(
    last_index: int,
) -> None:
    core = follower()
    assert step(core, TimeoutNow(1, 2, 1, last_index)).messages == []
    assert (core.role, core.term, core.dropped) == (Role.FOLLOWER, 1, 0)


def test_one_of_an_earlier_term_means_nothing() -> None:
    core = make([1, 1], term=3)
    assert step(core, TimeoutNow(2, 2, 1, 2)).messages == []
    assert core.term == 3


def test_one_of_a_later_term_tells_who_leads() -> None:
    core = make([1, 1], term=1)
    done = step(core, TimeoutNow(2, 2, 1, 2))
    assert (core.role, core.term) == (Role.CANDIDATE, 3)
    assert len(done.of(VoteRequest)) == 2


def test_one_of_somebody_who_does_not_lead_is_dropped() -> None:
    core = follower()
    assert step(core, TimeoutNow(1, 3, 1, 2)).messages == []
    assert core.dropped == 1


def test_a_leader_is_not_told() -> None:
    core = leader()
    assert step(core, TimeoutNow(1, 2, 1, 1)).messages == []
    assert (core.role, core.dropped) == (Role.LEADER, 1)


def test_a_repeated_one_finds_a_candidate_and_changes_nothing() -> None:
    core = follower()
    step(core, TimeoutNow(1, 2, 1, 2))
    assert step(core, TimeoutNow(1, 2, 1, 2)).messages == []
    assert (core.role, core.term) == (Role.CANDIDATE, 2)


def test_a_learner_and_a_server_in_the_middle_of_a_snapshot_do_nothing() -> None:
    learner = make([1, 1], term=1, voters=(2, 3))
    assert step(learner, TimeoutNow(1, 2, 1, 2)).messages == []
    core = follower()
    step(core, SnapshotChunk(1, 2, 1, 6, 1, 0, b"x", True, 1))
    assert step(core, TimeoutNow(1, 2, 1, 2)).of(VoteRequest) == []


# The others


def test_those_who_hear_the_leader_vote_for_whom_it_wants() -> None:
    core = make([1], term=1)
    step(core, Heartbeat(1, 2, 1, 0, 0, True))
    assert step(core, VoteRequest(2, 3, 1, 1, 1)).messages == []
    done = step(core, VoteRequest(2, 3, 1, 1, 1, transfer=True))
    assert done.of(VoteReply) == [VoteReply(2, 1, 3, True)]


def test_not_with_a_log_that_lacks_something() -> None:
    core = make([1, 1], term=1)
    done = step(core, VoteRequest(2, 3, 1, 1, 1, transfer=True))
    assert done.of(VoteReply) == [VoteReply(2, 1, 3, False)]


def test_an_election_after_a_failed_one_is_an_ordinary_one() -> None:
    core = follower()
    step(core, TimeoutNow(1, 2, 1, 2))
    done = candidate(core)
    assert {m.transfer for m in done.of(VoteRequest)} == {False}


def test_an_answer_of_the_new_term_ends_it() -> None:
    core = leader()
    step(core, TransferLeadership(7, 3))
    done = step(core, AppendReply(2, 3, 1, False, 0, 0, 0))
    assert (core.role, core.term, done.refused) == (Role.FOLLOWER, 2, [])
