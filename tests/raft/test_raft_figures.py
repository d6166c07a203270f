"""The scenarios of figures 7 and 8 of the Raft paper, and of its figure 13 (snapshots)."""

from __future__ import annotations

import pytest
from bench import acknowledge, append, candidate, elect, entries, make, settle, step, terms_of

from actors.raft.core import RaftCore
from actors.raft.messages import (
    Append,
    AppendReply,
    PreVoteReply,
    PreVoteRequest,
    Tick,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import Role

# Figure 7: logs of followers that are possible when the leader of term 8 comes to power.
#
#   index      1 2 3 4 5 6 7 8 9 10 11 12
#   leader     1 1 1 4 4 5 5 6 6 6
LEADER = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
FOLLOWERS = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


def pump(*cores: RaftCore) -> list[object]:
    """Deliver everything among these cores until they are quiet; what was delivered."""
    delivered: list[object] = []
    while True:
        messages = [message for core in cores for message in settle(core).messages]
        by_id = {core.server_id: core for core in cores}
        messages = [message for message in messages if message.receiver in by_id]
        if not messages:
            return delivered
        for message in messages:
            delivered.append(message)
            by_id[message.receiver].step(message)


@pytest.mark.parametrize("name", FOLLOWERS)
def test_figure_7_the_leader_makes_every_follower_equal(name: str) -> None:
    follower = make(FOLLOWERS[name], server_id=2, term=7)
    core = make(LEADER, term=7)
    elect(core)
    core.step(Tick(core.deadline_ms))
    delivered = pump(core, follower)
    assert terms_of(follower) == terms_of(core) == [*LEADER, 8]
    refused = [m for m in delivered if isinstance(m, AppendReply) and not m.success]
    # Whole terms are skipped: two probes find the place even in (f).
    assert len(refused) <= 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [("a", (9, 6)), ("b", (4, 4)), ("e", (7, 4)), ("f", (10, 3))],
)
def test_figure_7_what_a_follower_says_when_it_refuses(name: str, hint: tuple[int, int]) -> None:
    follower = make(FOLLOWERS[name], server_id=2, term=8)
    done = step(follower, append(follower, (10, 6), sender=1))
    assert done.of(AppendReply) == [AppendReply(8, 2, 1, False, 10, *hint)]


def test_figure_8_an_entry_of_an_earlier_term_on_a_majority_is_not_committed() -> None:
    """(c): S1 leads again in term 4 and has copied its entry of term 2 to a majority of five."""
    s1 = make([1, 2], voters=(1, 2, 3, 4, 5), term=3)
    elect(s1)
    acknowledge(s1, [2, 3], 2)
    assert s1.commit_index == 0
    # (e): once an entry of its own term is there as well, both are committed.
    acknowledge(s1, [2, 3], 3)
    assert s1.commit_index == 3


def test_figure_8_the_entry_of_the_earlier_term_may_still_be_overwritten() -> None:
    """(d): S5, with an entry of term 3, wins the votes of S2, S3, S4 and overwrites it."""
    followers = [make([1, 2], server_id=i, voters=(1, 2, 3, 4, 5), term=4) for i in (2, 3)]
    followers.append(make([1], server_id=4, voters=(1, 2, 3, 4, 5), term=2))
    s5 = make([1, 3], server_id=5, voters=(1, 2, 3, 4, 5), term=4)
    s5.step(Tick(s5.deadline_ms))
    pump(s5, *followers)
    assert s5.role is Role.LEADER
    assert [terms_of(follower) for follower in followers] == [[1, 3, 5]] * 3
    assert s5.commit_index == 3


def test_a_crash_before_the_vote_is_durable_does_not_let_old_votes_count() -> None:
    """A candidate crashes before its term is durable. Its requests must not have left: else,
    campaigning again in the same term with a shorter log, it would win by the first grants."""
    core = make(term=1, pre_vote=False)
    core.step(append(core, (0, 0), entries([1])))
    core.step(Tick(100))
    assert core.role is Role.CANDIDATE
    ready = core.ready()
    assert ready is not None
    # Entry 1 and term 2 are in one write; nothing may leave that relies on them.
    assert ready.entries
    assert ready.hard_state is not None
    assert not [m for m in ready.messages if isinstance(m, VoteRequest)]


def test_a_pre_vote_reaches_a_server_whose_term_ran_ahead() -> None:
    """A server cut off with a higher term comes back: the others learn its term and go on."""
    ahead = make([1], server_id=3, term=9)
    others = [make([1], server_id=i, term=1) for i in (1, 2)]
    leader = others[0]
    elect(leader)
    leader.step(Tick(leader.deadline_ms))
    pump(leader, *others[1:], ahead)
    # The stuck server answered with its term, so the old leader stepped down.
    assert leader.term == 9
    # Its first attempt teaches the other follower the term, its second succeeds.
    for _ in range(2):
        others[1].step(Tick(others[1].deadline_ms))
        for core in (leader, ahead):
            core.advance_clock(others[1].deadline_ms)
        pump(*others, ahead)
    assert ahead.leader == others[1].server_id == 2


def test_a_pre_vote_does_not_disturb() -> None:
    core = make([1, 1], term=3)
    candidate_term = core.term + 1
    done = step(core, PreVoteRequest(candidate_term, 2, 1, 2, 1))
    assert done.of(PreVoteReply) == [PreVoteReply(4, 1, 2, True)]
    assert (core.term, core.status().vote) == (3, 0)
    assert not done.readies[0].sequence


def test_a_vote_in_the_same_term_as_its_own_candidacy_is_refused() -> None:
    core = make()
    candidate(core)
    assert step(core, VoteRequest(1, 2, 1, 9, 1)).of(VoteReply) == [VoteReply(1, 1, 2, False)]


def test_an_old_append_that_arrives_late_truncates_nothing() -> None:
    core = make(term=1)
    step(core, append(core, (0, 0), entries([1, 1, 1, 1])))
    step(core, append(core, (0, 0), entries([1, 1])))
    step(core, append(core, (1, 1)))
    assert terms_of(core) == [1, 1, 1, 1]
    assert isinstance(append(core, (0, 0)), Append)
