"""The paper, 5.3 to 5.6: the log, and what makes it safe. ``test_raft_paper.py`` explains."""

from __future__ import annotations

import pytest
from bench import (
    acknowledge,
    append,
    command,
    elect,
    entries,
    leader,
    make,
    readies,
    step,
    terms_of,
)

from actors.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    PreVoteRequest,
    Tick,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import ProgressState, Role

# 5.3 Log replication


def test_a_leader_appends_a_command_and_sends_it_to_all_followers_in_parallel() -> None:
    """5.3, figure 2 (leaders): a command is appended to the own log and sent to every follower,
    before anybody has written it."""
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


def test_an_entry_holds_its_index_its_term_and_its_command() -> None:
    """5.3, figure 2 (log[]): an entry stores a command and the term when the leader received it."""
    core = leader(term=4)
    done = step(core, command(1, b"abc"))
    assert done.entries == [Entry(2, 5, EntryKind.COMMAND, b"abc")]


def test_a_command_is_applied_only_when_it_is_committed() -> None:
    """5.3, figure 2 (leaders): it is applied, and the client answered, once it is safely
    replicated."""
    core = leader()
    assert step(core, command()).committed == []
    assert acknowledge(core, [2]).committed == [2]


@pytest.mark.parametrize("size", range(1, 10))
def test_an_entry_is_committed_once_a_majority_has_it_and_not_before(size: int) -> None:
    """5.3, figure 2 (leaders): a majority of matching logs commits an entry of this term."""
    core = leader(voters=range(1, size + 1))
    step(core, command())
    for have, peer in enumerate(range(2, size + 1), 1):
        assert (core.commit_index == 2) == (have > size / 2)
        acknowledge(core, [peer])
    assert core.commit_index == 2


def test_one_slow_follower_does_not_hold_up_the_others() -> None:
    """5.3: in the normal case one round of requests to a majority commits an entry."""
    core = leader(voters=(1, 2, 3, 4, 5))
    for index in range(2, 30):
        step(core, command())
        acknowledge(core, [2, 3])
        assert core.commit_index == index


def test_committing_an_entry_commits_all_before_it_those_of_earlier_leaders_too() -> None:
    """5.3: everything that precedes a committed entry is committed with it."""
    core = make([1, 2, 3])
    elect(core)
    assert core.commit_index == 0
    done = acknowledge(core, [2])
    assert core.commit_index == 4
    assert done.committed == [1, 2, 3, 4]


def test_a_leader_includes_its_commit_index_in_what_it_sends() -> None:
    """5.3, figure 2 (leaderCommit): so that the others find out what is committed."""
    core = leader()
    step(core, command())
    acknowledge(core, [2])
    done = step(core, command())
    assert {message.commit for message in done.of(Append)} == {2}
    assert {beat.commit for beat in step(core, Tick(core.deadline_ms)).of(Heartbeat)} == {1, 2}


def test_a_follower_applies_an_entry_once_it_knows_that_it_is_committed_and_in_order() -> None:
    """5.3, figure 2 (all servers): entries are applied in the order of the log, each once."""
    core = make(term=1)
    assert step(core, append(core, (0, 0), entries([1, 1, 1]))).committed == []
    assert step(core, append(core, (3, 1), commit=2)).committed == [1, 2]
    assert step(core, append(core, (3, 1), commit=1)).committed == []
    assert step(core, Heartbeat(1, 2, 1, 3, 0, True)).committed == [3]


def test_a_follower_commits_nothing_beyond_what_an_append_shows_to_match() -> None:
    """Figure 2 (AppendEntries, 5): the commit index is at most the index of the last new entry."""
    core = make([1, 1, 1, 1], term=2)
    step(core, append(core, (2, 1), commit=4))
    assert core.commit_index == 2
    step(core, append(core, (2, 1), entries([1], 3), commit=4))
    assert core.commit_index == 3


def test_the_commit_index_never_falls() -> None:
    """Figure 2 (commitIndex): it increases monotonically."""
    core = make([1, 1, 1], term=1)
    step(core, append(core, (3, 1), commit=3))
    step(core, append(core, (3, 1), commit=1), Heartbeat(1, 2, 1, 2, 0, True))
    assert core.commit_index == 3


def test_a_leader_retries_for_ever_until_a_follower_has_everything() -> None:
    """5.3: it goes on even after the entry is committed and the client answered, until all
    followers store all entries."""
    core = leader()
    step(core, command())
    step(core, AppendReply(core.term, 3, 1, False, 2, 1, 1))
    for _ in range(5):
        # The follower has the first entry, is sent the second, and loses it.
        done = step(core, AppendReply(core.term, 3, 1, True, 1, 0, 0))
        assert [m.entries[0].index for m in done.of(Append) if m.receiver == 3] == [2]
        step(core, AppendReply(core.term, 3, 1, False, 2, 1, 1))


def test_a_leader_appends_one_entry_at_an_index_and_never_moves_it() -> None:
    """5.3 (Log Matching, first half): at most one entry for an index in a term."""
    core = leader([1, 1])
    for token in range(5):
        step(core, command(token, b"%d" % token))
    places = [(e.index, e.data) for e in (core.log.entry(i) for i in range(4, 9))]
    assert places == [(4, b"0"), (5, b"1"), (6, b"2"), (7, b"3"), (8, b"4")]


@pytest.mark.parametrize(
    ("previous", "accepted"),
    [((0, 0), True), ((1, 1), True), ((2, 2), True), ((3, 2), False), ((2, 1), False)],
)
def test_a_follower_refuses_entries_unless_it_has_the_one_before_with_its_term(
    previous: tuple[int, int], accepted: bool
) -> None:
    """5.3, figure 2 (AppendEntries, 2): the consistency check, which carries the induction of the
    Log Matching Property."""
    core = make([1, 2], term=3)
    reply = step(core, append(core, previous)).of(AppendReply)[0]
    assert (reply.success, reply.index) == (accepted, previous[0])


def test_a_refused_append_changes_nothing() -> None:
    """Figure 2 (AppendEntries, 2): neither the log nor the commit index."""
    core = make([1, 2], term=3)
    done = step(core, append(core, (2, 1), entries([3, 3], 3), commit=2))
    assert (terms_of(core), core.commit_index, done.entries) == ([1, 2], 0, [])


@pytest.mark.parametrize(
    ("previous", "new", "result"),
    [
        ((2, 2), [3], [1, 2, 3]),
        ((1, 1), [3, 4], [1, 3, 4]),
        ((0, 0), [1], [1, 2, 2]),
        ((0, 0), [1, 2], [1, 2, 2]),
        ((0, 0), [1, 2, 2, 4], [1, 2, 2, 4]),
        ((0, 0), [3], [3]),
        ((1, 1), [], [1, 2, 2]),
    ],
)
def test_conflicting_entries_of_a_follower_are_replaced_and_only_those(
    previous: tuple[int, int], new: list[int], result: list[int]
) -> None:
    """5.3, figure 2 (AppendEntries, 3 and 4): an entry that conflicts is deleted with all that
    follow it, and what is not there yet is appended; entries that are there already stay."""
    core = make([1, 2, 2], term=4)
    step(core, append(core, previous, entries(new, previous[0] + 1)))
    assert terms_of(core) == result


def test_a_new_leader_begins_just_after_the_last_entry_of_its_log() -> None:
    """5.3, figure 2 (nextIndex, matchIndex): initialised anew after each election, to its own end
    and to nothing."""
    core = make([1, 1, 2])
    done = elect(core)
    assert [(m.previous_index, m.previous_term, m.entries) for m in done.of(Append)] == [
        (3, 2, ()),
        (3, 2, ()),
    ]
    assert [(p.match_index, p.next_index) for p in core.status().progress] == [(0, 4), (0, 4)]


def test_a_leader_never_overwrites_or_deletes_entries_of_its_own_log() -> None:
    """5.3 (Leader Append-Only)."""
    core = leader([1, 1])
    before = terms_of(core)
    step(core, append(core, (0, 0), entries([core.term]), sender=2))
    assert terms_of(core) == before
    assert core.role is Role.LEADER
    assert core.dropped == 1


def test_after_a_refusal_the_leader_goes_back_until_the_logs_match_and_then_forward() -> None:
    """5.3, figure 2 (leaders): next index falls with each refusal; where the logs match, all that
    follows is sent."""
    core = make([1, 1, 1])
    elect(core)
    done = step(core, AppendReply(2, 2, 1, False, 3, 1, 1))
    probe = done.of(Append)[0]
    assert (probe.previous_index, probe.entries) == (1, ())
    done = step(core, AppendReply(2, 2, 1, True, 1, 0, 0))
    assert [entry.index for entry in done.of(Append)[0].entries] == [2, 3, 4]


def test_a_success_moves_match_index_and_next_index() -> None:
    """Figure 2 (leaders): what a follower acknowledges is what it has."""
    core = leader()
    step(core, command(), command())
    acknowledge(core, [2], 2)
    progress = core.status().progress[0]
    assert (progress.state, progress.match_index, progress.next_index) == (
        ProgressState.REPLICATE,
        2,
        4,
    )


def test_a_refusal_names_the_conflicting_term_so_that_all_its_entries_are_skipped() -> None:
    """5.3 (the optimisation): one refused request for each conflicting term, not for each entry."""
    core = make([1, *[3] * 100], term=5)
    done = step(core, append(core, (90, 4)))
    assert done.of(AppendReply) == [AppendReply(5, 1, 2, False, 90, 90, 3)]
    other = make([1, *[2] * 50, *[4] * 50], server_id=2, term=4)
    elect(other)
    done = step(other, AppendReply(5, 1, 2, False, 101, 101, 3))
    assert [m.previous_index for m in done.of(Append) if m.receiver == 1] == [51]


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
    """5.4.1, figure 2 (RequestVote, 2): the later last term is more up to date, and with equal
    terms the longer log; pre-votes follow the same rule (dissertation, 9.6)."""
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
    """5.4.2, figure 2 (leaders), figure 8: an entry of an earlier term is committed by one of the
    own term after it, never by its own copies."""
    core = make([1, 2])
    elect(core)
    acknowledge(core, [2, 3], acknowledged)
    assert core.commit_index == commit


def test_entries_of_earlier_terms_keep_their_term_when_they_are_replicated() -> None:
    """5.4.2: an entry keeps its term number over time and across logs."""
    core = make([1, 2])
    elect(core)
    step(core, AppendReply(core.term, 2, 1, False, 2, 0, 0))
    done = step(core, AppendReply(core.term, 2, 1, True, 0, 0, 0))
    sent = done.of(Append)[0].entries
    assert [(entry.index, entry.term) for entry in sent] == [(1, 1), (2, 2), (3, 3)]


def test_what_is_committed_is_never_truncated() -> None:
    """5.4.3 (Leader Completeness, State Machine Safety): no leader can lack a committed entry, so
    a message that would undo one is of no correct server."""
    core = make([1, 1], term=3)
    step(core, append(core, (2, 1), commit=2))
    step(core, append(core, (0, 0), entries([2, 2, 3])))
    assert (terms_of(core), core.dropped) == ([1, 1], 1)


# 5.5 Follower and candidate crashes


def test_requests_that_arrive_twice_do_no_harm() -> None:
    """5.5: requests are idempotent; entries that are in the log already are ignored."""
    core = make(term=1)
    message = append(core, (0, 0), entries([1, 1]), commit=1)
    step(core, message)
    step(core, append(core, (2, 1), entries([1], 3)))
    done = step(core, message)
    assert terms_of(core) == [1, 1, 1]
    assert done.of(AppendReply) == [AppendReply(1, 1, 2, True, 2, 0, 0)]
    assert not done.committed
    assert not done.entries


def test_a_request_is_sent_again_until_it_is_answered() -> None:
    """5.5: a server that is down gets its request again and again."""
    core = make([1])
    elect(core)
    for _ in range(3):
        assert not step(core, Tick(core.deadline_ms)).of(Append)
        beat = Heartbeat(core.term, 1, 2, 0, 0, True)
        other = make([1], server_id=2, term=core.term)
        done = step(core, *step(other, beat).messages)
        assert [(m.receiver, m.previous_index) for m in done.of(Append)] == [(2, 1)]


# 5.6 Timing and availability


def test_heartbeats_must_be_more_frequent_than_time_outs() -> None:
    """5.6: safety does not depend on timing, but a leader that works needs heartbeats well below
    the election time-out; a configuration without that is refused."""
    with pytest.raises(ValueError, match="heartbeat_interval_ms"):
        make(heartbeat_interval_ms=100, election_timeout_min_ms=100)


# Figure 2: what is on the disk before an answer


def test_entries_are_durable_before_they_are_acknowledged() -> None:
    """Figure 2 (persistent state): the log is updated on stable storage before responding."""
    core = make(term=1)
    core.step(append(core, (0, 0), entries([1])))
    ready = readies(core)[0]
    assert ready.entries == entries([1])
    assert ready.messages == ()
    assert ready.messages_after_persist == (AppendReply(1, 1, 2, True, 1, 0, 0),)


def test_a_leaders_own_copy_counts_when_it_is_durable() -> None:
    """Figure 2 (persistent state), for the leader's own log: until then it is no part of a
    majority."""
    core = leader()
    core.step(command())
    ready = readies(core)[0]
    core.step(AppendReply(core.term, 2, 1, True, 2, 0, 0))
    assert core.commit_index == 1
    assert ready.sequence
