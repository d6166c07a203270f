"""Pre-votes, leases, and news of dead peers (dissertation, 4.2.3 and 9.6)."""

from __future__ import annotations

import pytest
from bench import append, candidate, elect, entries, leader, make, step

from actors.raft.messages import (
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PeerDown,
    PreVoteReply,
    PreVoteRequest,
    Tick,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import Role


def test_a_pre_candidate_changes_neither_term_nor_vote_and_writes_nothing() -> None:
    core = make([1], term=3, vote=2)
    done = step(core, Tick(100))
    assert done.of(PreVoteRequest) == [PreVoteRequest(4, 1, peer, 1, 1) for peer in (2, 3)]
    assert (core.role, core.term, core.status().vote) == (Role.PRE_CANDIDATE, 3, 2)
    assert [ready.sequence for ready in done.readies] == [0]


def test_a_lost_pre_vote_leads_nowhere() -> None:
    core = make(term=3)
    step(core, Tick(100), PreVoteReply(3, 2, 1, False), PreVoteReply(3, 3, 1, False))
    assert (core.role, core.term) == (Role.FOLLOWER, 3)


def test_a_refusal_with_a_later_term_teaches_it() -> None:
    core = make(term=3)
    step(core, Tick(100), PreVoteReply(8, 2, 1, False))
    assert (core.role, core.term) == (Role.FOLLOWER, 8)


def test_a_grant_for_another_term_does_not_count() -> None:
    core = make(term=3)
    step(core, Tick(100), PreVoteReply(9, 2, 1, True), PreVoteReply(5, 3, 1, True))
    assert (core.role, core.term) == (Role.PRE_CANDIDATE, 3)


def test_a_pre_vote_for_a_term_that_has_come_is_refused_with_that_term() -> None:
    core = make(term=3)
    assert step(core, PreVoteRequest(3, 2, 1, 9, 2)).messages == [PreVoteReply(3, 1, 2, False)]
    assert step(core, PreVoteRequest(2, 2, 1, 9, 2)).messages == [PreVoteReply(3, 1, 2, False)]


@pytest.mark.parametrize("kind", [PreVoteRequest, VoteRequest])
def test_a_follower_that_hears_a_leader_ignores_requests_for_votes(
    kind: type[PreVoteRequest] | type[VoteRequest],
) -> None:
    core = make(term=1)
    step(core, Tick(50), Heartbeat(1, 2, 1, 0, 0, True))
    core.advance_clock(149)
    assert step(core, kind(2, 3, 1, 9, 1)).messages == []
    assert (core.term, core.dropped) == (1, 0)
    core.advance_clock(150)
    assert len(step(core, kind(2, 3, 1, 9, 1)).messages) == 1


def test_a_leader_with_a_live_majority_ignores_them_and_one_without_does_not() -> None:
    core = leader()
    assert step(core, VoteRequest(5, 3, 1, 9, 4)).messages == []
    core.advance_clock(core.deadline_ms + 150)
    step(core, HeartbeatReply(core.term, 2, 1, 0))
    assert step(core, VoteRequest(5, 3, 1, 9, 4)).messages == []
    core.advance_clock(core.deadline_ms + 350)
    assert step(core, VoteRequest(5, 3, 1, 9, 4)).of(VoteReply) == [VoteReply(5, 1, 3, True)]


def test_without_check_quorum_votes_are_never_ignored() -> None:
    core = make(term=1, check_quorum=False)
    step(core, Heartbeat(1, 2, 1, 0, 0, True))
    assert step(core, VoteRequest(2, 3, 1, 9, 1)).of(VoteReply) == [VoteReply(2, 1, 3, True)]


def test_a_server_whose_term_ran_ahead_answers_an_old_leader_so_that_it_steps_down() -> None:
    core = make(term=7)
    for message in (append(core, (0, 0), term=6), Heartbeat(6, 2, 1, 0, 0, True)):
        assert step(core, message).messages == [AppendReply(7, 1, 2, False, 0, 0, 0)]
    other = leader(term=4)
    step(other, AppendReply(7, 2, 1, False, 0, 0, 0))
    assert (other.role, other.term) == (Role.FOLLOWER, 7)


def test_such_an_answer_that_comes_late_does_not_disturb_a_leader_of_its_term() -> None:
    core = leader()
    before = core.status().progress
    step(core, AppendReply(core.term, 2, 1, False, 0, 0, 0))
    assert core.status().progress == before


def test_granting_a_vote_resets_the_timer_and_refusing_does_not_in_the_same_term() -> None:
    core = make([2], term=2)
    core.advance_clock(60)
    step(core, VoteRequest(2, 2, 1, 0, 0))
    assert core.deadline_ms == 100
    step(core, VoteRequest(2, 2, 1, 1, 2))
    assert core.deadline_ms == 160


def test_a_single_server_elects_itself() -> None:
    core = make(voters=(1,))
    step(core, Tick(100))
    assert (core.role, core.term, core.commit_index) == (Role.LEADER, 1, 1)


def test_a_candidate_that_times_out_asks_again_before_raising_the_term_once_more() -> None:
    core = make()
    candidate(core)
    step(core, Tick(core.deadline_ms))
    assert (core.role, core.term) == (Role.PRE_CANDIDATE, 1)


def test_when_the_leaders_process_ends_a_follower_campaigns_soon() -> None:
    core = make(term=1)
    step(core, Tick(50), Heartbeat(1, 2, 1, 0, 0, True))
    step(core, PeerDown(3))
    assert (core.leader, core.deadline_ms) == (2, 150)
    step(core, PeerDown(2))
    assert (core.leader, core.deadline_ms) == (0, 51)
    # And no lease keeps it from voting for a quicker one.
    assert step(core, PreVoteRequest(2, 3, 1, 9, 1)).messages == [PreVoteReply(2, 1, 3, True)]


def test_when_a_followers_process_ends_the_leader_stops_pipelining() -> None:
    core = leader()
    step(core, PeerDown(2), PeerDown(9))
    assert core.status().progress[0].state.name == "PROBE"
    assert core.role is Role.LEADER


def test_a_false_report_of_death_does_no_harm() -> None:
    core = make(term=1)
    step(core, append(core, (0, 0), entries([1])))
    step(core, PeerDown(2))
    step(core, append(core, (1, 1), entries([1], 2)))
    assert (core.leader, core.last_index) == (2, 2)


def test_the_soft_state_is_told_when_it_changes_and_only_then() -> None:
    core = make()
    done = elect(core)
    states = [ready.soft_state for ready in done.readies if ready.soft_state]
    assert states == [
        (Role.PRE_CANDIDATE, 0, 0, False),
        (Role.CANDIDATE, 1, 0, False),
        (Role.LEADER, 1, 1, False),
    ]
    assert [r.soft_state for r in step(core, Tick(core.deadline_ms)).readies] == [None]
