"""Section 5 of the Raft paper (extended version), sentence by sentence; each test is one."""

from __future__ import annotations

from random import Random

import pytest
from bench import (
    acknowledge,
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
    terms_of,
)

from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    PreVoteRequest,
    Tick,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import Restored, Role

# 5.1 Basics


@pytest.mark.parametrize("before", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_a_server_whose_term_is_smaller_takes_the_larger_one(before: Role) -> None:
    core = make()
    if before is Role.CANDIDATE:
        candidate(core)
    elif before is Role.LEADER:
        elect(core)
    assert core.role is before
    step(core, append(core, (0, 0), term=7))
    assert core.term == 7


@pytest.mark.parametrize("before", [Role.CANDIDATE, Role.LEADER])
def test_a_candidate_or_leader_whose_term_is_out_of_date_becomes_a_follower_at_once(
    before: Role,
) -> None:
    core = make()
    candidate(core) if before is Role.CANDIDATE else elect(core)
    step(core, AppendReply(9, 2, 1, False, 0, 0, 0))
    assert (core.role, core.term, core.leader) == (Role.FOLLOWER, 9, 0)


def test_a_server_rejects_a_request_with_a_stale_term() -> None:
    core = make([1, 2], term=5)
    done = step(core, append(core, (2, 2), entries([4], 3), term=4, commit=2))
    assert done.of(AppendReply) == [AppendReply(5, 1, 2, False, 0, 0, 0)]
    assert (core.last_index, core.commit_index, core.leader) == (2, 0, 0)
    assert step(core, VoteRequest(4, 2, 1, 9, 4)).of(VoteReply) == [VoteReply(5, 1, 2, False)]


# 5.2 Leader election


def test_servers_begin_as_followers() -> None:
    core = make([1, 1])
    assert (core.role, core.leader, core.commit_index) == (Role.FOLLOWER, 0, 0)


def test_a_server_stays_a_follower_while_it_hears_from_a_leader() -> None:
    core = make(term=1)
    for now_ms in range(50, 1000, 50):
        step(core, Tick(now_ms), Heartbeat(1, 2, 1, 0, 0, True))
    assert core.role is Role.FOLLOWER


def test_a_leader_sends_heartbeats_to_all_followers() -> None:
    core = leader()
    done = step(core, Tick(core.deadline_ms))
    assert [message.receiver for message in done.of(Heartbeat)] == [2, 3]


def test_a_follower_that_hears_nothing_over_the_election_timeout_begins_an_election() -> None:
    core = make()
    step(core, Tick(99))
    assert role(core) is Role.FOLLOWER
    step(core, Tick(100))
    assert role(core) is Role.PRE_CANDIDATE


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_candidate_increments_its_term_votes_for_itself_and_asks_all_others(
    pre_vote: bool,
) -> None:
    core = make([1, 2], pre_vote=pre_vote)
    done = candidate(core)
    assert (core.role, core.term, core.status().vote) == (Role.CANDIDATE, 3, 1)
    assert done.of(VoteRequest) == [VoteRequest(3, 1, peer, 2, 2) for peer in (2, 3)]


@pytest.mark.parametrize("size", range(1, 10))
def test_a_candidate_wins_with_votes_of_a_majority_and_not_before(size: int) -> None:
    core = make(voters=range(1, size + 1))
    candidate(core)
    votes = 1
    for peer in range(2, size + 1):
        assert (core.role is Role.LEADER) == (votes > size / 2)
        step(core, VoteReply(core.term, peer, 1, True))
        votes += 1
    assert core.role is Role.LEADER


def test_the_same_vote_twice_counts_once() -> None:
    core = make(voters=range(1, 6))
    candidate(core)
    step(core, *[VoteReply(core.term, 2, 1, True)] * 3)
    assert core.role is Role.CANDIDATE


def test_a_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served() -> None:
    core = make(check_quorum=False)
    assert step(core, VoteRequest(1, 2, 1, 0, 0)).of(VoteReply) == [VoteReply(1, 1, 2, True)]
    assert step(core, VoteRequest(1, 3, 1, 5, 1)).of(VoteReply) == [VoteReply(1, 1, 3, False)]
    assert step(core, VoteRequest(1, 2, 1, 0, 0)).of(VoteReply) == [VoteReply(1, 1, 2, True)]


def test_a_vote_survives_a_restart() -> None:
    core = make(term=4, vote=3)
    assert step(core, VoteRequest(4, 2, 1, 9, 4)).of(VoteReply) == [VoteReply(4, 1, 2, False)]
    assert step(core, VoteRequest(4, 3, 1, 9, 4)).of(VoteReply) == [VoteReply(4, 1, 3, True)]


@pytest.mark.parametrize("later", [0, 3])
def test_a_candidate_follows_a_leader_whose_term_is_at_least_its_own(later: int) -> None:
    core = make()
    candidate(core)
    step(core, append(core, (0, 0), term=core.term + later, sender=3))
    assert (core.role, core.leader, core.term) == (Role.FOLLOWER, 3, 1 + later)


def test_a_candidate_stays_one_when_a_smaller_term_claims_to_lead() -> None:
    core = make(term=4)
    candidate(core)
    step(core, append(core, (0, 0), term=3))
    assert (core.role, core.term) == (Role.CANDIDATE, 5)


def test_a_candidate_whose_votes_split_starts_a_new_election_with_a_larger_term() -> None:
    core = make(pre_vote=False)
    candidate(core)
    candidate(core)
    assert (core.role, core.term) == (Role.CANDIDATE, 2)


def test_a_candidate_that_a_majority_refuses_is_a_follower_again() -> None:
    core = make()
    candidate(core)
    step(core, VoteReply(1, 2, 1, False), VoteReply(1, 3, 1, False))
    assert (core.role, core.term) == (Role.FOLLOWER, 1)


def test_election_timeouts_are_drawn_from_the_interval_anew_each_time() -> None:
    config = CoreConfig(1, (1, 2, 3), 100, 200, 10, commit_notice_ms=0)
    core = RaftCore(config, Restored(), Random(1), 0)
    draws = set()
    for _ in range(300):
        now_ms = core.deadline_ms
        step(core, Tick(now_ms))
        draws.add(core.deadline_ms - now_ms)
    assert min(draws) >= 100
    assert max(draws) <= 200
    assert len(draws) > 80


# 5.3 Log replication


def test_a_leader_appends_a_command_and_sends_it_to_all_followers_in_parallel() -> None:
    core = leader()
    core.step(command(7, b"abc"))
    first = readies(core)[0]
    assert [(entry.index, entry.data) for entry in first.entries] == [(2, b"abc")]
    sent = [message for message in first.messages if isinstance(message, Append)]
    assert [(m.receiver, m.previous_index, m.entries) for m in sent] == [
        (2, 1, first.entries),
        (3, 1, first.entries),
    ]
    assert first.proposed == ((7, 1, 2, 2),)


@pytest.mark.parametrize("size", range(1, 10))
def test_an_entry_is_committed_once_a_majority_has_it_and_not_before(size: int) -> None:
    core = leader(voters=range(1, size + 1))
    step(core, command())
    for have, peer in enumerate(range(2, size + 1), 1):
        assert (core.commit_index == 2) == (have > size / 2)
        acknowledge(core, [peer])
    assert core.commit_index == 2


def test_committing_an_entry_commits_all_before_it_those_of_earlier_leaders_too() -> None:
    core = make([1, 2, 3])
    elect(core)
    assert core.commit_index == 0
    done = acknowledge(core, [2])
    assert core.commit_index == 4
    assert done.committed == [1, 2, 3, 4]


def test_a_leader_includes_its_commit_index_in_what_it_sends() -> None:
    core = leader()
    step(core, command())
    acknowledge(core, [2])
    done = step(core, command())
    assert {message.commit for message in done.of(Append)} == {2}


def test_a_follower_applies_an_entry_once_it_knows_that_it_is_committed_and_in_order() -> None:
    core = make(term=1)
    assert step(core, append(core, (0, 0), entries([1, 1, 1]))).committed == []
    assert step(core, append(core, (3, 1), commit=2)).committed == [1, 2]
    assert step(core, Heartbeat(1, 2, 1, 3, 0, True)).committed == [3]


def test_a_follower_commits_nothing_beyond_what_an_append_shows_to_match() -> None:
    core = make([1, 1, 1, 1], term=2)
    step(core, append(core, (2, 1), commit=4))
    assert core.commit_index == 2


def test_a_leader_retries_for_ever_until_a_follower_has_everything() -> None:
    core = leader()
    step(core, command())
    step(core, AppendReply(core.term, 3, 1, False, 2, 1, 1))
    for _ in range(5):
        # The follower has the first entry, is sent the second, and loses it.
        done = step(core, AppendReply(core.term, 3, 1, True, 1, 0, 0))
        assert [m.entries[0].index for m in done.of(Append) if m.receiver == 3] == [2]
        step(core, AppendReply(core.term, 3, 1, False, 2, 1, 1))


@pytest.mark.parametrize(
    ("previous", "accepted"),
    [((0, 0), True), ((1, 1), True), ((2, 2), True), ((3, 2), False), ((2, 1), False)],
)
def test_a_follower_refuses_entries_unless_it_has_the_one_before_with_its_term(
    previous: tuple[int, int], accepted: bool
) -> None:
    core = make([1, 2], term=3)
    reply = step(core, append(core, previous)).of(AppendReply)[0]
    assert (reply.success, reply.index) == (accepted, previous[0])


@pytest.mark.parametrize(
    ("previous", "new", "result"),
    [
        ((2, 2), [3], [1, 2, 3]),
        ((1, 1), [3, 4], [1, 3, 4]),
        ((0, 0), [1], [1, 2, 2]),
        ((0, 0), [3], [3]),
    ],
)
def test_conflicting_entries_of_a_follower_are_replaced_and_only_those(
    previous: tuple[int, int], new: list[int], result: list[int]
) -> None:
    core = make([1, 2, 2], term=4)
    step(core, append(core, previous, entries(new, previous[0] + 1)))
    assert terms_of(core) == result


def test_a_new_leader_begins_just_after_the_last_entry_of_its_log() -> None:
    core = make([1, 1, 2])
    done = elect(core)
    assert [(m.previous_index, m.previous_term, m.entries) for m in done.of(Append)] == [
        (3, 2, ()),
        (3, 2, ()),
    ]


def test_a_leader_never_overwrites_or_deletes_entries_of_its_own_log() -> None:
    core = leader([1, 1])
    before = terms_of(core)
    step(core, append(core, (0, 0), entries([core.term]), sender=2))
    assert terms_of(core) == before
    assert core.role is Role.LEADER
    assert core.dropped == 1


def test_after_a_refusal_the_leader_goes_back_until_the_logs_match_and_then_forward() -> None:
    core = make([1, 1, 1])
    elect(core)
    done = step(core, AppendReply(2, 2, 1, False, 3, 1, 1))
    probe = done.of(Append)[0]
    assert (probe.previous_index, probe.entries) == (1, ())
    done = step(core, AppendReply(2, 2, 1, True, 1, 0, 0))
    assert [entry.index for entry in done.of(Append)[0].entries] == [2, 3, 4]


# 5.4 Safety


@pytest.mark.parametrize(
    ("mine", "last", "granted"),
    [
        ([1], (1, 1), True),
        ([1], (2, 1), True),
        ([1, 1], (1, 1), False),
        ([1], (1, 2), True),
        ([2], (1, 1), False),
        ([1, 1], (1, 2), True),
        ([2], (5, 1), False),
        ([], (0, 0), True),
    ],
)
def test_a_voter_refuses_a_candidate_whose_log_is_less_up_to_date(
    mine: list[int], last: tuple[int, int], granted: bool
) -> None:
    core = make(mine, term=5)
    assert step(core, VoteRequest(6, 2, 1, *last)).of(VoteReply)[0].granted is granted
    assert core.term == 6
    core = make(mine, term=5)
    done = step(core, PreVoteRequest(6, 2, 1, *last))
    assert [message.granted for message in done.messages] == [granted]  # type: ignore[union-attr]
    assert core.term == 5


@pytest.mark.parametrize(("acknowledged", "commit"), [(1, 0), (2, 0), (3, 3)])
def test_only_entries_of_the_own_term_are_committed_by_counting(
    acknowledged: int, commit: int
) -> None:
    core = make([1, 2])
    elect(core)
    acknowledge(core, [2, 3], acknowledged)
    assert core.commit_index == commit


# 5.5 Crashes


def test_requests_that_arrive_twice_do_no_harm() -> None:
    core = make(term=1)
    message = append(core, (0, 0), entries([1, 1]), commit=1)
    step(core, message)
    step(core, append(core, (2, 1), entries([1], 3)))
    done = step(core, message)
    assert terms_of(core) == [1, 1, 1]
    assert done.of(AppendReply) == [AppendReply(1, 1, 2, True, 2, 0, 0)]
    assert not done.committed


# Figure 2: state on disk before answers


def test_term_and_vote_are_durable_before_a_vote_is_answered() -> None:
    core = make()
    core.step(VoteRequest(1, 2, 1, 0, 0))
    ready = readies(core)[0]
    assert ready.hard_state == (1, 2)
    assert not [message for message in ready.messages if isinstance(message, VoteReply)]
    assert ready.messages_after_persist == (VoteReply(1, 1, 2, True),)


def test_entries_are_durable_before_they_are_acknowledged() -> None:
    core = make(term=1)
    core.step(append(core, (0, 0), entries([1])))
    ready = readies(core)[0]
    assert ready.entries == entries([1])
    assert ready.messages == ()
    assert ready.messages_after_persist == (AppendReply(1, 1, 2, True, 1, 0, 0),)


def test_a_candidate_asks_for_votes_only_when_its_own_is_durable() -> None:
    core = make(pre_vote=False)
    core.step(Tick(100))
    ready = readies(core)[0]
    assert ready.messages == ()
    assert len(ready.messages_after_persist) == 2
    settle(core)
