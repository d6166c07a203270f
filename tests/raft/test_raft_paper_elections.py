"""The paper, 5.1 and 5.2: terms and elections. ``test_raft_paper.py`` explains."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from bench import (
    append,
    candidate,
    command,
    elect,
    entries,
    leader,
    make,
    readies,
    role,
    settle,
    step,
)

from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PeerMessage,
    PreVoteRequest,
    ReadIndex,
    Tick,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import RefusalReason, Restored, Role

# 5.1 Raft basics


@pytest.mark.parametrize(
    "message",
    [
        Append(7, 2, 1, 0, 0, 0, ()),
        Heartbeat(7, 2, 1, 0, 0, True),
        VoteRequest(7, 2, 1, 9, 6),
        VoteReply(7, 2, 1, False),
        AppendReply(7, 2, 1, False, 0, 0, 0),
        HeartbeatReply(7, 2, 1, 0),
    ],
    ids=lambda message: type(message).__name__,
)
@pytest.mark.parametrize("before", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_a_larger_term_in_any_message_is_taken_over(before: Role, message: PeerMessage) -> None:
    """5.1, figure 2 (all servers): terms travel with every message; a server whose current term is
    smaller takes the larger one."""
    core = make(check_quorum=False)
    if before is Role.CANDIDATE:
        candidate(core)
    elif before is Role.LEADER:
        elect(core)
    assert core.role is before
    step(core, message)
    assert core.term == 7
    assert core.role is Role.FOLLOWER


@pytest.mark.parametrize("before", [Role.CANDIDATE, Role.LEADER])
def test_a_candidate_or_leader_whose_term_is_out_of_date_becomes_a_follower_at_once(
    before: Role,
) -> None:
    """5.1: a candidate or leader that discovers a larger term reverts to follower immediately."""
    core = make()
    candidate(core) if before is Role.CANDIDATE else elect(core)
    step(core, AppendReply(9, 2, 1, False, 0, 0, 0))
    assert (core.role, core.term, core.leader) == (Role.FOLLOWER, 9, 0)


def test_a_server_rejects_a_request_with_a_stale_term() -> None:
    """5.1, figure 2 (both receivers, 1): a request of an earlier term is refused, and changes
    nothing."""
    core = make([1, 2], term=5)
    done = step(core, append(core, (2, 2), entries([4], 3), term=4, commit=2))
    assert done.of(AppendReply) == [AppendReply(5, 1, 2, False, 0, 0, 0)]
    assert (core.last_index, core.commit_index, core.leader) == (2, 0, 0)
    assert step(core, VoteRequest(4, 2, 1, 9, 4)).of(VoteReply) == [VoteReply(5, 1, 2, False)]


@pytest.mark.parametrize("message", [VoteReply(1, 3, 1, True), AppendReply(1, 3, 1, True, 9, 0, 0)])
def test_an_answer_of_an_earlier_term_counts_for_nothing(message: PeerMessage) -> None:
    """5.1: a server ignores answers that belong to a term that is over."""
    core = make(term=2)
    candidate(core)
    step(core, message)
    assert core.role is Role.CANDIDATE
    core = leader(term=2)
    step(core, command())
    before = core.status().progress
    step(core, message)
    assert (core.status().progress, core.commit_index) == (before, 1)


def test_the_term_never_falls() -> None:
    """5.1: current terms increase monotonically, whatever arrives."""
    core = make(term=3)
    terms = [core.term]
    for term in (2, 5, 4, 5, 1, 9, 6):
        step(core, append(core, (0, 0), term=term), VoteRequest(term, 3, 1, 0, 0))
        terms.append(core.term)
    assert terms == [3, 3, 5, 5, 5, 5, 9, 9]


def test_a_follower_issues_no_requests_on_its_own() -> None:
    """5.1: followers are passive; they only answer leaders and candidates."""
    core = make([1, 1], term=1)
    step(core, Heartbeat(1, 2, 1, 0, 0, True))
    for now_ms in range(1, 100):
        assert step(core, Tick(now_ms)).messages == []


def test_a_follower_sends_clients_to_the_leader() -> None:
    """5.1: a client that asks a follower is redirected; what it wanted certainly did not happen."""
    core = make(term=1)
    done = step(core, Heartbeat(1, 3, 1, 0, 0, True))
    states = [ready.soft_state for ready in done.readies if ready.soft_state]
    assert states[-1].leader == 3
    done = step(core, command(7), ReadIndex(8))
    assert done.refused == [(7, RefusalReason.NOT_LEADER)]
    assert done.reads_failed == [8]
    assert core.last_index == 0


# 5.2 Leader election


def test_servers_begin_as_followers() -> None:
    """5.2, figure 2 (volatile state): a server starts as a follower and knows nothing committed."""
    core = make([1, 1])
    assert (core.role, core.leader, core.commit_index, core.applied_index) == (
        Role.FOLLOWER,
        0,
        0,
        0,
    )


@pytest.mark.parametrize("kind", ["heartbeat", "append"])
def test_a_server_stays_a_follower_while_it_hears_from_a_leader(kind: str) -> None:
    """5.2: it remains a follower as long as it gets valid requests of a leader."""
    core = make(term=1)
    message = Heartbeat(1, 2, 1, 0, 0, True) if kind == "heartbeat" else append(core, (0, 0))
    for now_ms in range(50, 1000, 50):
        step(core, Tick(now_ms), message)
    assert core.role is Role.FOLLOWER


def test_a_stale_leader_does_not_keep_a_server_a_follower() -> None:
    """5.2: only valid requests count, and those of an earlier term are not."""
    core = make(term=4)
    step(core, Tick(60), Heartbeat(3, 2, 1, 0, 0, True), append(core, (0, 0), term=3))
    step(core, Tick(100))
    assert core.role is Role.PRE_CANDIDATE


def test_a_leader_sends_heartbeats_to_all_followers() -> None:
    """5.2, figure 2 (leaders): periodic heartbeats go to all followers while it is idle."""
    core = leader()
    for _ in range(3):
        done = step(core, Tick(core.deadline_ms))
        assert [message.receiver for message in done.of(Heartbeat)] == [2, 3]


def test_a_new_leader_makes_itself_known_at_once() -> None:
    """5.2, figure 2 (leaders): on election it sends an empty AppendEntries to every server, so that
    no other election begins."""
    core = make([1])
    done = elect(core)
    assert [(m.receiver, m.entries) for m in done.of(Append)] == [(2, ()), (3, ())]
    other = make([1], server_id=2, term=2, vote=1)
    other.advance_clock(99)
    step(other, done.of(Append)[0])
    assert (other.leader, other.deadline_ms) == (1, 199)


def test_a_follower_that_hears_nothing_over_the_election_timeout_begins_an_election() -> None:
    """5.2, figure 2 (followers): no communication over the election time-out starts an election."""
    core = make()
    step(core, Tick(99))
    assert role(core) is Role.FOLLOWER
    step(core, Tick(100))
    assert role(core) is Role.PRE_CANDIDATE


def test_a_granted_vote_starts_the_time_out_anew_and_a_refused_one_does_not() -> None:
    """Figure 2 (followers): the time-out counts from the last request of a leader or the last vote
    granted to a candidate."""
    core = make([1], term=1)
    core.advance_clock(60)
    step(core, VoteRequest(1, 2, 1, 0, 0))
    assert core.deadline_ms == 100
    step(core, VoteRequest(1, 3, 1, 1, 1))
    assert core.deadline_ms == 160


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_candidate_increments_its_term_votes_for_itself_and_asks_all_others(
    pre_vote: bool,
) -> None:
    """5.2, figure 2 (candidates): on conversion it increments its term, votes for itself, and asks
    all other servers in parallel."""
    core = make([1, 2], pre_vote=pre_vote)
    done = candidate(core)
    assert (core.role, core.term, core.status().vote) == (Role.CANDIDATE, 3, 1)
    assert done.of(VoteRequest) == [VoteRequest(3, 1, peer, 2, 2) for peer in (2, 3)]


def test_a_candidate_draws_its_time_out_anew() -> None:
    """5.2, figure 2 (candidates): each candidate restarts its time-out when an election begins, and
    waits for it before the next one."""
    core = make(pre_vote=False)
    step(core, Tick(130))
    assert (core.role, core.term, core.deadline_ms) == (Role.CANDIDATE, 1, 230)
    step(core, Tick(229))
    assert core.term == 1


@pytest.mark.parametrize("size", range(1, 10))
def test_a_candidate_wins_with_votes_of_a_majority_and_not_before(size: int) -> None:
    """5.2, figure 2 (candidates): votes of a majority of all servers make a leader."""
    core = make(voters=range(1, size + 1))
    candidate(core)
    votes = 1
    for peer in range(2, size + 1):
        assert (core.role is Role.LEADER) == (votes > size / 2)
        step(core, VoteReply(core.term, peer, 1, True))
        votes += 1
    assert core.role is Role.LEADER


def test_the_same_vote_twice_counts_once() -> None:
    """5.2: what counts is how many servers voted, not how many answers came."""
    core = make(voters=range(1, 6))
    candidate(core)
    step(core, *[VoteReply(core.term, 2, 1, True)] * 3)
    assert core.role is Role.CANDIDATE


def test_votes_of_an_earlier_election_do_not_count_in_the_next() -> None:
    """5.2: a majority must vote for the candidate in the same term."""
    core = make(voters=range(1, 6), pre_vote=False)
    candidate(core)
    step(core, VoteReply(1, 2, 1, True))
    candidate(core)
    step(core, VoteReply(2, 3, 1, True), VoteReply(1, 4, 1, True))
    assert (core.role, core.term) == (Role.CANDIDATE, 2)


def test_a_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served() -> None:
    """5.2, figure 2 (RequestVote, 2): one vote in a term, to whoever asks first; the same answer if
    that one asks again."""
    core = make(check_quorum=False)
    assert step(core, VoteRequest(1, 2, 1, 0, 0)).of(VoteReply) == [VoteReply(1, 1, 2, True)]
    assert step(core, VoteRequest(1, 3, 1, 5, 1)).of(VoteReply) == [VoteReply(1, 1, 3, False)]
    assert step(core, VoteRequest(1, 2, 1, 0, 0)).of(VoteReply) == [VoteReply(1, 1, 2, True)]


def test_a_candidate_does_not_vote_for_another_one_in_its_term() -> None:
    """5.2: it has voted for itself."""
    core = make()
    candidate(core)
    assert step(core, VoteRequest(1, 2, 1, 9, 1)).of(VoteReply) == [VoteReply(1, 1, 2, False)]


def test_a_new_term_frees_the_vote() -> None:
    """5.2, figure 2 (votedFor): the vote is for the current term only."""
    core = make(term=4, vote=3)
    assert step(core, VoteRequest(5, 2, 1, 9, 4)).of(VoteReply) == [VoteReply(5, 1, 2, True)]


def test_a_vote_survives_a_restart() -> None:
    """5.2, figure 2 (persistent state): a server that restarts does not vote twice in a term."""
    core = make(term=4, vote=3)
    assert step(core, VoteRequest(4, 2, 1, 9, 4)).of(VoteReply) == [VoteReply(4, 1, 2, False)]
    assert step(core, VoteRequest(4, 3, 1, 9, 4)).of(VoteReply) == [VoteReply(4, 1, 3, True)]


@pytest.mark.parametrize("later", [0, 3])
def test_a_candidate_follows_a_leader_whose_term_is_at_least_its_own(later: int) -> None:
    """5.2, figure 2 (candidates): AppendEntries of a legitimate leader make it a follower."""
    core = make()
    candidate(core)
    step(core, append(core, (0, 0), term=core.term + later, sender=3))
    assert (core.role, core.leader, core.term) == (Role.FOLLOWER, 3, 1 + later)


def test_a_candidate_stays_one_when_a_smaller_term_claims_to_lead() -> None:
    """5.2: a request with a smaller term is refused, and the candidate continues."""
    core = make(term=4)
    candidate(core)
    step(core, append(core, (0, 0), term=3))
    assert (core.role, core.term) == (Role.CANDIDATE, 5)


def test_a_candidate_whose_votes_split_starts_a_new_election_with_a_larger_term() -> None:
    """5.2, figure 2 (candidates): without a winner each candidate times out and begins again, with
    its term incremented."""
    core = make(pre_vote=False)
    candidate(core)
    candidate(core)
    assert (core.role, core.term) == (Role.CANDIDATE, 2)


def test_a_candidate_that_a_majority_refuses_is_a_follower_again() -> None:
    """5.2: it lost; nothing is to be had in this term any more."""
    core = make()
    candidate(core)
    step(core, VoteReply(1, 2, 1, False), VoteReply(1, 3, 1, False))
    assert (core.role, core.term) == (Role.FOLLOWER, 1)


def test_election_timeouts_are_drawn_from_the_interval_anew_each_time() -> None:
    """5.2: time-outs are chosen at random from a fixed interval, so that split votes are rare."""
    config = CoreConfig(1, (1, 2, 3), 100, 200, 10, commit_notice_ms=0)
    core = RaftCore(config, Restored(), Random(1), 0)
    draws = []
    for _ in range(300):
        now_ms = core.deadline_ms
        step(core, Tick(now_ms))
        draws.append(core.deadline_ms - now_ms)
    assert min(draws) >= 100
    assert max(draws) <= 200
    assert len(set(draws)) > 80
    assert sum(a == b for a, b in pairwise(draws)) < 20


# Figure 2: what is on the disk before an answer


def test_term_and_vote_are_durable_before_a_vote_is_answered() -> None:
    """Figure 2 (persistent state): updated on stable storage before responding."""
    core = make()
    core.step(VoteRequest(1, 2, 1, 0, 0))
    ready = readies(core)[0]
    assert ready.hard_state == (1, 2)
    assert not [message for message in ready.messages if isinstance(message, VoteReply)]
    assert ready.messages_after_persist == (VoteReply(1, 1, 2, True),)


def test_a_candidate_asks_for_votes_only_when_its_own_is_durable() -> None:
    """Figure 2 (persistent state), for the vote that a candidate gives itself."""
    core = make(pre_vote=False)
    core.step(Tick(100))
    ready = readies(core)[0]
    assert ready.messages == ()
    assert len(ready.messages_after_persist) == 2
    settle(core)


def test_a_pre_vote_asks_about_the_next_term_and_the_end_of_the_log() -> None:
    """Dissertation, 9.6: the question is what the real request would be."""
    core = make([1, 2], term=3)
    done = step(core, Tick(100))
    assert done.of(PreVoteRequest) == [PreVoteRequest(4, 1, peer, 2, 2) for peer in (2, 3)]
    assert core.term == 3
