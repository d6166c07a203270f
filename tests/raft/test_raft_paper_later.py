"""What comes after section 5: changes of membership, log compaction, clients (paper, 6 to 8), and
the chapters of the dissertation that this core follows. ``test_raft_paper.py`` explains."""

from __future__ import annotations

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
    step,
    terms_of,
)

from actors.raft.core import RaftCore
from actors.raft.membership import MemberEntry, MemberRole, Membership
from actors.raft.messages import (
    AddMember,
    Append,
    AppendReply,
    ChangeMembership,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    PreVoteRequest,
    ReadIndex,
    RemoveMember,
    SetRole,
    SnapshotChunk,
    SnapshotReply,
    SnapshotRestored,
    SnapshotSaved,
    Tick,
    TimeoutNow,
    TransferLeadership,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import ReadReady, RefusalReason, Role, SnapshotMark

LEARNER, JOINING, VOTER = MemberRole.LEARNER, MemberRole.JOINING, MemberRole.VOTER


def config_entry(index: int, term: int, *voters: int, last_used_id: int = 0) -> Entry:
    """An entry that makes these the members; all of them vote."""
    members = tuple(MemberEntry(voter, VOTER) for voter in voters)
    data = Membership(members, max(last_used_id, *voters)).encode()
    return Entry(index, term, EntryKind.CONFIG, data)


def change(token: int, what: AddMember | RemoveMember | SetRole) -> ChangeMembership:
    return ChangeMembership(token, what)


def beat(core: RaftCore, *peers: int) -> None:
    """Let a heartbeat pass that these followers answer."""
    step(core, Tick(core.deadline_ms))
    step(core, *[HeartbeatReply(core.term, peer, core.server_id, 0) for peer in peers])


# Dissertation, 4.1: one server at a time


def test_a_membership_is_in_force_as_soon_as_it_is_in_the_log_of_the_leader() -> None:
    """Dissertation, 4.1: the new configuration takes effect when it is appended, not when it is
    committed."""
    core = leader()
    done = step(core, change(1, AddMember(4, LEARNER)))
    assert core.membership.ids == (1, 2, 3, 4)
    assert not core.status().membership_committed
    assert 4 in [message.receiver for message in done.of(Append)]


def test_a_membership_is_in_force_as_soon_as_it_is_in_the_log_of_a_follower() -> None:
    """Dissertation, 4.1: a server always uses the latest configuration in its log, committed or
    not."""
    core = make(term=1)
    done = step(core, append(core, (0, 0), [config_entry(1, 1, 1, 2, 3, 4)]))
    assert set(core.membership.voters) == {1, 2, 3, 4}
    assert [ready.membership for ready in done.readies if ready.membership] == [core.membership]
    assert core.commit_index == 0


def test_a_membership_that_is_replaced_in_the_log_falls_back_to_the_one_before() -> None:
    """Dissertation, 4.1: a server must be ready to fall back to the previous configuration in its
    log."""
    core = make(term=1)
    step(core, append(core, (0, 0), [config_entry(1, 1, 1, 2, 3, 4)]))
    step(core, append(core, (1, 1), [config_entry(2, 1, 1, 2, 3, 4, 5)]))
    step(core, append(core, (1, 1), entries([2], 2), term=2, sender=3))
    assert set(core.membership.voters) == {1, 2, 3, 4}
    step(core, append(core, (0, 0), entries([3]), term=3, sender=3))
    assert set(core.membership.voters) == {1, 2, 3}


def test_a_change_is_committed_by_a_majority_of_the_new_membership() -> None:
    """Dissertation, 4.1: the entry that holds the configuration is itself committed by its
    majority."""
    core = leader()
    step(core, change(1, AddMember(4, LEARNER)))
    acknowledge(core, [2, 3, 4])
    step(core, change(2, SetRole(4, VOTER)))
    index = core.last_index
    assert set(core.membership.voters) == {1, 2, 3, 4}
    acknowledge(core, [2])
    assert core.commit_index == index - 1
    acknowledge(core, [4])
    assert core.commit_index == index


def test_the_next_change_waits_until_the_one_before_is_committed() -> None:
    """Dissertation, 4.1: one change at a time, or majorities might not meet."""
    core = leader()
    step(core, change(1, AddMember(4, LEARNER)))
    assert step(core, change(2, RemoveMember(3))).refused == [(2, RefusalReason.CHANGE_IN_PROGRESS)]
    acknowledge(core, [2])
    assert step(core, change(3, RemoveMember(3))).refused == []


def test_a_new_leader_changes_nothing_before_it_has_committed_in_its_term() -> None:
    """Dissertation, 4.1 with the correction published later: else two leaders' changes need not
    meet."""
    core = make([1, 1])
    elect(core)
    acknowledge(core, [2, 3], 2)
    assert step(core, change(1, RemoveMember(3))).refused == [(1, RefusalReason.NOT_READY)]
    acknowledge(core, [2])
    assert step(core, change(2, RemoveMember(3))).refused == []


@pytest.mark.parametrize("committed", [False, True])
def test_a_new_leader_inherits_a_change_that_is_not_committed(committed: bool) -> None:
    """Dissertation, 4.1: the entry stands in its log like any other; until it is committed, no
    other change."""
    core = make(term=1)
    step(core, append(core, (0, 0), [config_entry(1, 1, 1, 2, 3, 4)]))
    elect(core)
    assert set(core.membership.voters) == {1, 2, 3, 4}
    acknowledge(core, [2, 3] if committed else [2])
    refused = step(core, change(1, RemoveMember(4))).refused
    assert [reason for _, reason in refused] == ([] if committed else [RefusalReason.NOT_READY])


def test_votes_of_a_majority_of_the_membership_in_force_are_needed() -> None:
    """Dissertation, 4.1, 6 (paper): elections too go by the newest configuration in the candidate's
    log."""
    core = make(term=1)
    step(core, append(core, (0, 0), [config_entry(1, 1, 1, 2, 3, 4, 5)]))
    candidate(core)
    step(core, VoteReply(core.term, 2, 1, True))
    assert role(core) is Role.CANDIDATE
    step(core, VoteReply(core.term, 5, 1, True))
    assert role(core) is Role.LEADER


def test_votes_of_strangers_do_not_count() -> None:
    """Dissertation, 4.1: a majority of the members, and of nobody else."""
    core = make()
    candidate(core)
    step(core, VoteReply(core.term, 8, 1, True), VoteReply(core.term, 9, 1, True))
    assert core.role is Role.CANDIDATE


def test_a_server_takes_entries_of_a_leader_that_is_not_in_its_membership() -> None:
    """Dissertation, 4.1 (paper, 6): else a server could never be added; its log is empty and names
    nobody."""
    core = make(voters=(), server_id=9)
    done = step(core, append(core, (0, 0), [config_entry(1, 1, 1, 9)], term=1, sender=1))
    assert done.of(AppendReply) == [AppendReply(1, 9, 1, True, 1, 0, 0)]
    assert (core.leader, core.membership.voters) == (1, (1, 9))


def test_a_server_votes_for_a_candidate_that_is_not_in_its_membership() -> None:
    """Dissertation, 4.1 (paper, 6): its vote may be needed, and its own configuration may be the
    older one."""
    core = make([1])
    assert step(core, VoteRequest(2, 7, 1, 1, 1)).of(VoteReply) == [VoteReply(2, 1, 7, True)]


def test_a_server_that_belongs_to_nothing_does_not_campaign() -> None:
    """Dissertation, 4.2.1: a new server waits until it is told of a cluster."""
    core = make(voters=(), server_id=9)
    for _ in range(5):
        assert step(core, Tick(core.deadline_ms)).messages == []
    assert (core.role, core.term) == (Role.FOLLOWER, 0)


# Dissertation, 4.2.1: new servers catch up first


def test_a_learner_does_not_count_for_commits() -> None:
    """Dissertation, 4.2.1: a new server is a non-voting member until it has caught up."""
    core = leader()
    step(core, change(1, AddMember(4, LEARNER)), command())
    acknowledge(core, [4])
    assert core.commit_index == 1
    acknowledge(core, [2])
    assert core.commit_index == core.last_index


def test_a_server_becomes_a_voter_only_when_it_has_caught_up() -> None:
    """Dissertation, 4.2.1: before that its vote would only make majorities harder to get."""
    core = leader()
    assert step(core, change(1, AddMember(4, VOTER))).refused == [(1, RefusalReason.NOT_CAUGHT_UP)]
    step(core, change(2, AddMember(4, JOINING)))
    acknowledge(core, [2])
    assert set(core.membership.voters) == {1, 2, 3}
    step(core, AppendReply(core.term, 4, 1, True, core.last_index, 0, 0))
    assert set(core.membership.voters) == {1, 2, 3, 4}


# Dissertation, 4.2.2: removing the leader


def test_a_leader_that_is_removed_does_not_count_itself() -> None:
    """Dissertation, 4.2.2: it manages a cluster that does not include itself."""
    core = leader()
    step(core, change(1, RemoveMember(1)))
    acknowledge(core, [2])
    assert (core.commit_index, core.role) == (1, Role.LEADER)
    acknowledge(core, [3])
    assert core.commit_index == 2


def test_a_leader_that_is_removed_steps_down_when_that_is_committed() -> None:
    """Dissertation, 4.2.2: not before, because until then the entry could be lost with it."""
    core = leader()
    step(core, change(1, RemoveMember(1)))
    assert role(core) is Role.LEADER
    acknowledge(core, [2, 3])
    assert role(core) is Role.FOLLOWER
    assert core.removed
    assert step(core, Tick(core.deadline_ms)).messages == []


def test_a_server_whose_removal_is_not_committed_may_still_campaign() -> None:
    """Dissertation, 4.2.2: it may be needed until then: its log may be the only one that others
    accept. Its own vote does not count."""
    core = make(term=1)
    step(core, append(core, (0, 0), [config_entry(1, 1, 2, 3, last_used_id=3)]))
    done = candidate(core)
    assert [m.receiver for m in done.of(VoteRequest)] == [2, 3]
    step(core, VoteReply(core.term, 2, 1, True))
    assert role(core) is Role.CANDIDATE
    step(core, VoteReply(core.term, 3, 1, True))
    assert role(core) is Role.LEADER


def test_a_server_whose_removal_is_committed_does_not_campaign() -> None:
    """Dissertation, 4.2.2: from then on nobody needs it."""
    core = make(term=1)
    step(core, append(core, (0, 0), [config_entry(1, 1, 2, 3, last_used_id=3)], commit=1))
    step(core, Tick(core.deadline_ms))
    assert core.role is Role.FOLLOWER


# Dissertation, 4.2.3 (paper, 6): disruptive servers


@pytest.mark.parametrize("kind", [PreVoteRequest, VoteRequest])
def test_requests_for_votes_are_ignored_while_a_leader_is_heard(
    kind: type[PreVoteRequest] | type[VoteRequest],
) -> None:
    """Dissertation, 4.2.3: within the minimum election time-out of hearing from a leader a server
    neither votes nor takes over the term, so that removed servers disturb nobody."""
    core = make(term=1)
    step(core, Tick(50), Heartbeat(1, 2, 1, 0, 0, True))
    core.advance_clock(149)
    assert step(core, kind(5, 3, 1, 9, 1)).messages == []
    assert core.term == 1
    core.advance_clock(150)
    assert len(step(core, kind(5, 3, 1, 9, 1)).messages) == 1


# Dissertation, 3.10: transfer of leadership


def test_a_leader_that_hands_over_takes_no_more_proposals() -> None:
    """Dissertation, 3.10, step 1."""
    core = leader()
    step(core, command())
    step(core, TransferLeadership(1, 2))
    assert step(core, command(2)).refused == [(2, RefusalReason.TRANSFERRING)]


def test_the_successor_is_told_when_it_has_the_whole_log() -> None:
    """Dissertation, 3.10, steps 2 and 3: its log must match before it is asked to campaign."""
    core = leader()
    step(core, command())
    assert step(core, TransferLeadership(1, 2)).of(TimeoutNow) == []
    assert acknowledge(core, [3]).of(TimeoutNow) == []
    assert acknowledge(core, [2]).of(TimeoutNow) == [TimeoutNow(core.term, 1, 2, 2)]


def test_the_successor_campaigns_without_waiting_for_its_time_out() -> None:
    """Dissertation, 3.10, step 3: as if the time-out had passed, and without a pre-vote."""
    core = make([1], term=1)
    done = step(core, Heartbeat(1, 2, 1, 0, 0, True), TimeoutNow(1, 2, 1, 1))
    assert (core.role, core.term) == (Role.CANDIDATE, 2)
    assert done.of(VoteRequest) == [VoteRequest(2, 1, peer, 1, 1, True) for peer in (2, 3)]


@pytest.mark.parametrize("last", [1, 3])
def test_a_server_that_is_not_as_far_as_the_leader_thinks_does_not_campaign(last: int) -> None:
    """Dissertation, 3.10: only a server with the whole log is asked; a request that comes late, or
    to one that has lost its way, is for nothing."""
    core = make([1, 1], term=1)
    step(core, Heartbeat(1, 2, 1, 0, 0, True), TimeoutNow(1, 2, 1, last))
    assert (core.role, core.term) == (Role.FOLLOWER, 1)


def test_such_a_candidate_is_voted_for_although_the_leader_is_heard() -> None:
    """Dissertation, 3.10 with 4.2.3: the request says that the leader itself wants it."""
    core = make([1], term=1)
    step(core, Heartbeat(1, 2, 1, 0, 0, True))
    request = VoteRequest(2, 3, 1, 1, 1, True)
    assert step(core, request).of(VoteReply) == [VoteReply(2, 1, 3, True)]


def test_a_transfer_is_given_up_after_an_election_time_out() -> None:
    """Dissertation, 3.10: if it does not happen in about that time, the leader takes proposals
    again."""
    core = leader()
    started_ms = core.status().progress[0].heard_ms
    step(core, command(), TransferLeadership(1, 2))
    while core.deadline_ms <= started_ms + 190:
        beat(core, 2, 3)
        assert step(core, command(2)).refused
    for _ in range(3):
        beat(core, 2, 3)
    assert step(core, command(3)).refused == []


# 7 Log compaction


def test_a_snapshot_takes_the_place_of_the_entries_up_to_its_last_one() -> None:
    """7: once a snapshot is durable, all entries up to its last included index may be deleted; its
    index and term stay, for the consistency check of the next entry."""
    core = leader([1, 1])
    step(core, SnapshotSaved(3, 2, 4))
    assert (core.log.first_index, core.log.snapshot) == (4, (3, 2))
    done = step(core, command())
    assert {(m.previous_index, m.previous_term) for m in done.of(Append)} == {(3, 2)}


def test_a_snapshot_covers_only_what_is_committed_and_applied() -> None:
    """7: each server snapshots on its own, and just its committed entries."""
    core = leader([1, 1])
    step(core, command())
    with pytest.raises(AssertionError):
        core.step(SnapshotSaved(4, 2, 5))


def test_a_snapshot_keeps_the_membership_of_its_last_entry() -> None:
    """7: the snapshot includes the latest configuration as of its last index."""
    core = leader()
    step(core, change(1, AddMember(4, LEARNER)))
    acknowledge(core, [2, 3])
    step(core, SnapshotSaved(2, 1, 3, core.membership))
    assert core.membership.learners == (4,)
    restored = make(server_id=9, voters=(), snapshot=SnapshotMark(0, 0), term=1)
    step(restored, SnapshotChunk(1, 1, 9, 2, 1, 0, b"x", True, 1))
    step(restored, SnapshotRestored(2, 1, core.membership))
    assert restored.membership == core.membership


def test_a_follower_gets_a_snapshot_when_the_entries_that_it_needs_are_gone() -> None:
    """7: InstallSnapshot is for followers whose next entry the leader has discarded."""
    core = make(snapshot=SnapshotMark(3, 2))
    elect(core)
    done = step(core, AppendReply(core.term, 2, 1, False, 3, 0, 0))
    assert [(w.peer, w.index, w.offset) for w in done.snapshot_requests] == [(2, 3, 0)]


def chunk(core: RaftCore, offset: int, data: bytes, total: int, **fields: int) -> SnapshotChunk:
    """Piece of a snapshot at 5/3."""
    at = {"term": core.term, "index": 5, "snapshot_term": 3, **fields}
    return SnapshotChunk(
        at["term"],
        2,
        core.server_id,
        at["index"],
        at["snapshot_term"],
        offset,
        data,
        offset + len(data) == total,
        total,
    )


def test_a_piece_of_a_snapshot_of_an_earlier_term_is_refused() -> None:
    """7, figure 13 (1)."""
    core = make(term=4)
    done = step(core, chunk(core, 0, b"ab", 2, term=3))
    assert done.of(AppendReply) == [AppendReply(4, 1, 2, False, 0, 0, 0)]
    assert done.snapshot_chunks == []


def test_the_pieces_are_stored_in_order_from_a_new_file_on() -> None:
    """7, figure 13 (2, 3 and 4): offset 0 begins a file, each piece is stored at its offset and
    answered, and more is waited for until the last."""
    core = make(term=4)
    assert step(core, chunk(core, 2, b"cd", 4)).snapshot_chunks == []
    done = step(core, chunk(core, 0, b"ab", 4))
    assert [c.offset for c in done.snapshot_chunks] == [0]
    assert done.of(SnapshotReply)[-1].offset == 2
    done = step(core, chunk(core, 2, b"cd", 4))
    assert [(c.offset, c.last) for c in done.snapshot_chunks] == [(2, True)]


def test_each_piece_counts_as_hearing_from_the_leader() -> None:
    """7: its arrival resets the election time-out."""
    core = make(term=4)
    core.advance_clock(90)
    step(core, chunk(core, 0, b"ab", 4))
    assert (core.leader, core.deadline_ms) == (2, 190)


def test_an_unfinished_older_snapshot_gives_way_to_a_newer_one() -> None:
    """7, figure 13 (5): a partial snapshot with a smaller index is discarded."""
    core = make(term=4)
    step(core, chunk(core, 0, b"ab", 4))
    done = step(core, chunk(core, 0, b"xy", 4, index=6))
    assert [(c.index, c.offset) for c in done.snapshot_chunks] == [(6, 0)]
    assert step(core, chunk(core, 2, b"cd", 4)).snapshot_chunks == []


def test_a_snapshot_older_than_the_state_is_not_stored() -> None:
    """7, figure 13: a snapshot is for what a server does not have; an older one, sent twice or by
    mistake, must not take the place of newer state."""
    core = make(snapshot=SnapshotMark(7, 3), term=4)
    done = step(core, chunk(core, 0, b"ab", 2))
    assert done.snapshot_chunks == []
    assert done.of(AppendReply) == [AppendReply(4, 1, 2, True, 7, 0, 0)]


def test_a_snapshot_of_what_the_log_holds_discards_nothing_after_it() -> None:
    """7, figure 13 (6): if the log has the snapshot's last entry, what follows is kept."""
    core = make([3] * 7, term=4)
    done = step(core, chunk(core, 0, b"ab", 2))
    assert (terms_of(core), core.commit_index) == ([3] * 7, 5)
    assert done.snapshot_chunks == []


@pytest.mark.parametrize("terms", [[], [1, 1], [1] * 8])
def test_a_snapshot_that_the_log_does_not_hold_takes_its_place(terms: list[int]) -> None:
    """7, figure 13 (7 and 8): the whole log is discarded, and the state machine reset."""
    core = make(terms, term=4)
    step(core, chunk(core, 0, b"ab", 2))
    done = step(core, SnapshotRestored(5, 3))
    assert done.log_reset == [5, 3]
    assert (core.log.first_index, core.last_index, core.commit_index) == (6, 5, 5)


# 8 Client interaction; dissertation, 6.2 and 6.4


def test_a_leader_begins_its_term_with_an_entry_of_its_own() -> None:
    """8: a blank entry, so that it learns which of its entries are committed."""
    core = make([1, 1])
    done = elect(core)
    assert done.entries == [Entry(3, 2, EntryKind.NOOP, b"")]


def test_a_read_waits_until_that_entry_is_committed() -> None:
    """8; dissertation, 6.4 (step 1): before, a new leader does not know the newest commit."""
    core = make([1, 1])
    elect(core)
    for _ in range(3):
        done = step(core, ReadIndex(5), Tick(core.deadline_ms))
        assert {message.context for message in done.of(Heartbeat)} == {0}
    assert acknowledge(core, [2]).of(Heartbeat)[-1].context > 0


def test_a_read_is_served_at_the_commit_index_of_when_it_was_asked() -> None:
    """Dissertation, 6.4 (steps 2 and 4): the read index is saved when the read begins, and the
    state machine must have come that far."""
    core = leader()
    step(core, command())
    acknowledge(core, [2])
    done = step(core, ReadIndex(9))
    context = done.of(Heartbeat)[0].context
    step(core, command())
    acknowledge(core, [2])
    done = step(core, HeartbeatReply(core.term, 2, 1, context))
    assert done.reads == [ReadReady(9, 2)]


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_a_read_waits_for_a_majority_that_still_follows(size: int) -> None:
    """8; dissertation, 6.4 (step 3): heartbeats to a majority, sent after the read came, show that
    no newer leader is there."""
    core = leader(voters=range(1, size + 1))
    context = step(core, ReadIndex(9)).of(Heartbeat)[0].context
    confirmed = 1
    for peer in range(2, size + 1):
        done = step(core, HeartbeatReply(core.term, peer, 1, context))
        confirmed += 1
        assert bool(done.reads) == (confirmed == size // 2 + 1)


def test_answers_from_before_the_read_prove_nothing() -> None:
    """Dissertation, 6.4 (step 3): the round must begin after the read."""
    core = leader()
    context = step(core, ReadIndex(1)).of(Heartbeat)[0].context
    step(core, ReadIndex(2))
    assert [r.token for r in step(core, HeartbeatReply(core.term, 2, 1, context)).reads] == [1]


def test_a_learners_answer_confirms_no_read() -> None:
    """Dissertation, 6.4 with 4.2.1."""
    core = leader()
    step(core, change(1, AddMember(4, LEARNER)))
    acknowledge(core, [2, 3])
    context = step(core, ReadIndex(9)).of(Heartbeat)[0].context
    assert step(core, HeartbeatReply(core.term, 4, 1, context)).reads == []
    assert step(core, HeartbeatReply(core.term, 3, 1, context)).reads == [(9, 2)]


def test_a_leader_that_hears_no_majority_for_an_election_time_out_steps_down() -> None:
    """Dissertation, 6.2: so that its clients go elsewhere."""
    core = leader()
    last_ms = core.status().progress[0].heard_ms
    step(core, ReadIndex(9))
    while core.deadline_ms <= last_ms + 200:
        assert role(core) is Role.LEADER
        step(core, Tick(core.deadline_ms))
    done = step(core, Tick(core.deadline_ms))
    assert role(core) is Role.FOLLOWER
    assert done.reads_failed == [9]


# Dissertation, 9.6: pre-vote


def test_a_term_is_raised_only_when_a_majority_would_vote() -> None:
    """Dissertation, 9.6: a candidate first asks, and increments its term only if it learns that it
    could win."""
    core = make(voters=range(1, 6))
    step(core, Tick(100), PreVoteReply(1, 2, 1, True))
    assert (core.role, core.term) == (Role.PRE_CANDIDATE, 0)
    step(core, PreVoteReply(1, 3, 1, True))
    assert (core.role, core.term) == (Role.CANDIDATE, 1)


def test_answering_a_pre_vote_changes_nothing_and_writes_nothing() -> None:
    """Dissertation, 9.6: it is not a vote; term, vote and time-out stay."""
    core = make([1, 1], term=3)
    core.advance_clock(50)
    core.step(PreVoteRequest(4, 2, 1, 2, 1))
    ready = readies(core)[0]
    assert ready.messages == (PreVoteReply(4, 1, 2, True),)
    assert (ready.sequence, core.term, core.status().vote, core.deadline_ms) == (0, 3, 0, 100)


def test_a_pre_vote_is_not_given_while_a_leader_is_heard() -> None:
    """Dissertation, 9.6: a server that was cut off and comes back must not unseat a leader that
    works."""
    core = leader()
    beat(core, 2, 3)
    assert step(core, PreVoteRequest(core.term + 1, 3, 1, 99, core.term)).messages == []
    assert core.role is Role.LEADER
