"""Changes of membership, one server at a time (dissertation, chapter 4), in one core."""

from __future__ import annotations

from typing import Any

import pytest
from bench import (
    Low,
    acknowledge,
    append,
    change,
    command,
    config,
    elect,
    entries,
    leader,
    make,
    readies,
    role,
    settle,
    step,
)

from actors.raft.config import VOTERS_MAX, CoreConfig
from actors.raft.core import RaftCore
from actors.raft.membership import MEMBERS_MAX, MemberEntry, MemberRole, Membership
from actors.raft.messages import (
    AddMember,
    Append,
    AppendReply,
    ChangeMembership,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    PeerDown,
    Persisted,
    PreVoteReply,
    PreVoteRequest,
    Propose,
    ReadIndex,
    RemoveMember,
    SetAddress,
    SetRole,
    SnapshotReply,
    Tick,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import HardState, RefusalReason, Restored, Role

V, L, J = MemberRole.VOTER, MemberRole.LEARNER, MemberRole.JOINING
M = MemberEntry
THREE = Membership.of_voters((1, 2, 3))
WITH_LEARNER = THREE.with_added(M(4, L))


def matched(core: RaftCore, *peers: int) -> None:
    """These followers have everything, and know it to be committed."""
    for _ in range(2):
        acknowledge(core, peers)


def voters(core: RaftCore) -> tuple[int, ...]:
    """Who votes; a call, so that a type checker does not think that it stays the same."""
    return core.membership.voters


def grown(role_: MemberRole = L, **settings: Any) -> RaftCore:
    """A leader of 1, 2, 3 with 4 in this role; the change is committed, 4 has nothing yet."""
    core = leader(**settings)
    assert change(core, AddMember(4, role_, "a:4")) is None
    matched(core, 2, 3)
    return core


# In force when it is in the log


def test_a_membership_is_in_force_from_the_moment_it_is_appended() -> None:
    core = leader()
    done = step(core, ChangeMembership(9, AddMember(4, L, "a:4")))
    expected = THREE.with_added(M(4, L, "a:4"))
    assert done.proposed == [(9, 1, 2, 2)]
    assert core.membership == expected
    assert [r.membership for r in done.readies if r.membership] == [expected]
    assert [m.receiver for m in done.of(Append)] == [2, 3, 4]
    assert not core.status().membership_committed
    matched(core, 2)
    assert core.status().membership_committed


def test_a_follower_takes_it_from_the_log_and_falls_back_when_it_is_truncated() -> None:
    core = make([1], term=1)
    new = step(core, append(core, (1, 1), [config(2, 1, WITH_LEARNER)]))
    assert core.membership == WITH_LEARNER
    assert [r.membership for r in new.readies] == [WITH_LEARNER]
    back = step(core, append(core, (1, 1), entries([2], 2), term=2))
    assert core.membership == THREE
    assert [r.membership for r in back.readies] == [THREE]


def test_it_is_a_function_of_the_stored_log() -> None:
    smaller = WITH_LEARNER.with_removed(3)
    log = (*entries([1]), config(2, 1, WITH_LEARNER), config(3, 1, smaller))
    settings = CoreConfig(1, (1, 2, 3))
    core = RaftCore(settings, Restored(HardState(1, 0), entries=log), Low(), 0)
    assert core.membership == smaller
    assert core.ready() is None


def test_a_stored_membership_that_cannot_be_read_is_damage() -> None:
    log = (Entry(1, 1, EntryKind.CONFIG, b"nonsense"),)
    with pytest.raises(ValueError, match="damaged"):
        RaftCore(CoreConfig(1, (1,)), Restored(HardState(1, 0), entries=log), Low(), 0)


def test_a_membership_that_cannot_be_read_is_dropped_like_any_impossible_message() -> None:
    core = make(term=1)
    step(core, append(core, (0, 0), [Entry(1, 1, EntryKind.CONFIG, b"nonsense")]))
    assert (core.dropped, core.last_index) == (1, 0)


def test_a_client_cannot_propose_one() -> None:
    with pytest.raises(AssertionError, match="ChangeMembership"):
        leader().step(Propose(1, ((EntryKind.CONFIG, THREE.encode()),)))


# Passive servers


@pytest.mark.parametrize("others", [(), (1, 2, 3)])
def test_a_server_that_is_nobody_yet_follows_whoever_leads_and_never_campaigns(
    others: tuple[int, ...],
) -> None:
    core = make(server_id=4, voters=others)
    for now_ms in range(100, 1000, 100):
        assert step(core, Tick(now_ms)).messages == []
    done = step(core, append(core, (0, 0), [*entries([1]), config(2, 1, WITH_LEARNER)], term=1))
    assert done.of(AppendReply) == [AppendReply(1, 4, 2, True, 2, 0, 0)]
    assert (core.leader, core.membership) == (2, WITH_LEARNER)
    step(core, Tick(core.deadline_ms))
    assert (core.role, core.leader, core.term) == (Role.FOLLOWER, 0, 1)
    promoted = WITH_LEARNER.with_role(4, V)
    step(core, append(core, (2, 1), [config(3, 1, promoted)], term=1))
    step(core, Tick(core.deadline_ms))
    assert role(core) is Role.PRE_CANDIDATE


def test_it_votes_because_the_candidate_may_know_better() -> None:
    core = make(server_id=4, voters=())
    assert step(core, PreVoteRequest(1, 2, 4, 0, 0)).messages == [PreVoteReply(1, 4, 2, True)]
    assert step(core, VoteRequest(1, 2, 4, 0, 0)).messages == [VoteReply(1, 4, 2, True)]


def test_the_death_of_its_leader_makes_a_learner_wait_for_another() -> None:
    core = make(server_id=4, voters=(1, 2, 3), term=1)
    step(core, Heartbeat(1, 2, 4, 0, 0, True))
    step(core, PeerDown(2))
    assert core.leader == 0
    assert step(core, Tick(core.deadline_ms)).messages == []


# What may be changed, and when


def test_nothing_changes_before_the_leaders_own_first_entry_is_committed() -> None:
    core = make([1])
    elect(core)
    assert change(core, AddMember(4, L)) is RefusalReason.NOT_READY
    acknowledge(core, [2])
    assert change(core, AddMember(4, L)) is None


def test_one_change_at_a_time() -> None:
    core = leader()
    assert change(core, AddMember(4, L)) is None
    assert change(core, AddMember(5, L)) is RefusalReason.CHANGE_IN_PROGRESS
    matched(core, 2)
    assert change(core, AddMember(5, L)) is None


def test_only_a_leader_changes_anything() -> None:
    assert change(make(), RemoveMember(3)) is RefusalReason.NOT_LEADER


def test_no_change_joins_a_log_that_is_full() -> None:
    core = leader(uncommitted_bytes_max=200)
    step(core, command(1, b"x" * 136))
    assert change(core, AddMember(4, L)) is RefusalReason.OVERLOADED


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (AddMember(3, L), RefusalReason.ID_USED),
        (AddMember(0, L), RefusalReason.ID_USED),
        (AddMember(4, V), RefusalReason.NOT_CAUGHT_UP),
        (AddMember(1 << 32, L), RefusalReason.IMPOSSIBLE),
        (AddMember(4, L, "x" * 256), RefusalReason.IMPOSSIBLE),
        (AddMember(4, L, "a\n"), RefusalReason.IMPOSSIBLE),
        (AddMember(4, L, "\ud800"), RefusalReason.IMPOSSIBLE),
        (AddMember(4, L, replaces=3), RefusalReason.IMPOSSIBLE),
        (AddMember(4, J, replaces=9), RefusalReason.UNKNOWN_MEMBER),
        (AddMember(4, J, replaces=4), RefusalReason.UNKNOWN_MEMBER),
        (RemoveMember(9), RefusalReason.UNKNOWN_MEMBER),
        (SetRole(9, L), RefusalReason.UNKNOWN_MEMBER),
        (SetRole(3, J), RefusalReason.IMPOSSIBLE),
        (SetAddress(9, "a:1"), RefusalReason.UNKNOWN_MEMBER),
        (SetAddress(3, "x" * 256), RefusalReason.IMPOSSIBLE),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_its_reason(request_: Any, reason: RefusalReason) -> None:
    core = leader()
    assert change(core, request_) is reason
    assert core.last_index == 1


def test_an_id_is_not_used_twice() -> None:
    core = grown()
    assert change(core, RemoveMember(4)) is None
    matched(core, 2)
    assert change(core, AddMember(4, L)) is RefusalReason.ID_USED
    assert change(core, AddMember(5, L)) is None


def test_somebody_always_votes() -> None:
    core = leader(voters=(1,))
    assert change(core, RemoveMember(1)) is RefusalReason.LAST_VOTER
    assert change(core, SetRole(1, L)) is RefusalReason.LAST_VOTER


@pytest.mark.parametrize("request_", [RemoveMember(2), SetRole(2, L)])
def test_no_change_leaves_too_few_live_voters(request_: Any) -> None:
    core = leader()
    step(core, PeerDown(3))
    assert change(core, request_) is RefusalReason.NO_MAJORITY
    # The dead one may go.
    assert change(core, RemoveMember(3)) is None


def test_a_voter_that_has_not_answered_for_long_does_not_count_as_live() -> None:
    core = leader()
    core.advance_clock(350)
    step(core, HeartbeatReply(core.term, 2, 1, 0))
    assert change(core, RemoveMember(2)) is RefusalReason.NO_MAJORITY


def test_there_are_only_so_many_members_and_voters() -> None:
    core = leader(voters=range(1, VOTERS_MAX + 1))
    new_id = VOTERS_MAX + 1
    assert change(core, AddMember(new_id, J)) is RefusalReason.TOO_MANY
    assert change(core, AddMember(new_id, J, replaces=2)) is None
    acknowledge(core, range(2, VOTERS_MAX + 1))
    while core.membership.last_used_id < MEMBERS_MAX:
        new_id += 1
        assert change(core, AddMember(new_id, L)) is None
        acknowledge(core, range(2, VOTERS_MAX + 1))
    assert change(core, AddMember(new_id + 1, L)) is RefusalReason.TOO_MANY
    assert change(core, SetRole(new_id, J)) is RefusalReason.TOO_MANY
    matched(core, new_id)
    assert change(core, SetRole(new_id, V)) is RefusalReason.TOO_MANY


def test_a_role_and_an_address_can_be_set_to_what_they_are() -> None:
    core = leader()
    assert change(core, SetRole(2, V)) is None
    matched(core, 2, 3)
    assert change(core, SetAddress(2, "b:2")) is None
    assert core.membership.get(2) == M(2, V, "b:2")


# Learners


def test_a_learner_gets_entries_heartbeats_and_snapshots() -> None:
    core = grown()
    done = acknowledge(core, [4], 1)
    assert [m.entries[0].index for m in done.of(Append) if m.receiver == 4] == [2]
    beats = step(core, Tick(core.deadline_ms)).of(Heartbeat)
    assert [beat.receiver for beat in beats] == [2, 3, 4]


def test_a_learner_counts_neither_for_commits_nor_for_reads() -> None:
    core = grown()
    matched(core, 4)
    step(core, command())
    acknowledge(core, [4])
    assert core.commit_index == 2
    acknowledge(core, [2])
    assert core.commit_index == 3
    step(core, ReadIndex(5))
    context = core._state.context_counter
    assert step(core, HeartbeatReply(core.term, 4, 1, context)).reads == []
    assert step(core, HeartbeatReply(core.term, 3, 1, context)).reads == [(5, 3)]


def test_a_learner_keeps_no_leader_in_office() -> None:
    core = grown()
    while role(core) is Role.LEADER and core.deadline_ms < 1000:
        step(core, Tick(core.deadline_ms), HeartbeatReply(core.term, 4, 1, 0))
    assert role(core) is Role.FOLLOWER


def test_a_candidate_asks_no_learner_and_counts_none() -> None:
    core = make([1], term=1)
    step(core, append(core, (1, 1), [config(2, 1, WITH_LEARNER)]))
    done = step(core, Tick(core.deadline_ms))
    assert [m.receiver for m in done.of(PreVoteRequest)] == [2, 3]
    step(core, PreVoteReply(2, 4, 1, True))
    assert role(core) is Role.PRE_CANDIDATE


def test_a_single_voter_with_a_learner_does_not_step_down_when_its_disk_stalls() -> None:
    core = leader(voters=(1,), persist_stall_max_ms=100)
    assert change(core, AddMember(2, L)) is None
    core.step(command())
    readies(core)
    step_at = core.deadline_ms + 500
    core.step(Tick(step_at))
    assert core.role is Role.LEADER


# Joining


def test_a_server_that_joins_gets_a_vote_when_it_has_caught_up_and_not_before() -> None:
    core = grown(J)
    for _ in range(3):
        step(core, command())
        matched(core, 2, 3)
    acknowledge(core, [4], 1)
    assert core.membership.voters == (1, 2, 3, 4)
    assert core.log.entry(core.last_index).kind is EntryKind.CONFIG


def test_what_it_lacks_at_most_is_a_setting() -> None:
    core = grown(J, caught_up_entries_max=1)
    for _ in range(3):
        step(core, command())
        matched(core, 2, 3)
    acknowledge(core, [4], core.last_index - 2)
    assert core.membership.learners == (4,)
    assert change(core, SetRole(4, V)) is RefusalReason.NOT_CAUGHT_UP
    acknowledge(core, [4], core.last_index - 1)
    assert core.membership.voters == (1, 2, 3, 4)


def test_bytes_count_as_well_as_entries() -> None:
    core = grown(J, inflight_bytes_max=300, append_bytes_max=100)
    step(core, command(1, b"x" * 400))
    matched(core, 2, 3)
    acknowledge(core, [4], 2)
    assert core.membership.learners == (4,)
    acknowledge(core, [4], 3)
    assert core.membership.voters == (1, 2, 3, 4)


def test_a_server_that_joins_and_falls_silent_gets_no_vote() -> None:
    core = grown(J, caught_up_entries_max=1)
    for _ in range(3):
        step(core, command())
        matched(core, 2, 3)
    acknowledge(core, [4], 3)
    core.advance_clock(350)
    for peer in (2, 3):
        step(core, HeartbeatReply(core.term, peer, 1, 0))
    acknowledge(core, [2, 3])
    assert core.membership.learners == (4,)


def test_a_learner_that_is_asked_to_join_does() -> None:
    core = grown()
    matched(core, 4)
    assert change(core, SetRole(4, J)) is None
    matched(core, 2, 3, 4)
    assert core.membership.voters == (1, 2, 3, 4)


def test_a_learner_that_has_caught_up_may_be_given_a_vote() -> None:
    core = grown()
    assert change(core, SetRole(4, V)) is RefusalReason.NOT_CAUGHT_UP
    matched(core, 4)
    assert change(core, SetRole(4, V)) is None
    assert core.membership.voters == (1, 2, 3, 4)


def test_a_new_voter_counts_from_the_moment_its_vote_is_in_the_log() -> None:
    core = grown()
    matched(core, 4)
    assert change(core, SetRole(4, V)) is None
    step(core, command())
    acknowledge(core, [2])
    assert core.commit_index == 2  # two of three, but two of four
    acknowledge(core, [4])
    assert core.commit_index == 4


def test_the_death_of_the_newcomer_stops_nothing() -> None:
    core = grown(J)
    matched(core, 4)
    assert core.membership.voters == (1, 2, 3, 4)
    step(core, PeerDown(4))
    matched(core, 2, 3)
    assert core.status().membership_committed
    assert change(core, RemoveMember(4)) is None


# Replacing


def replacing(victim: int = 3) -> RaftCore:
    core = leader()
    assert change(core, AddMember(4, J, "a:4", replaces=victim)) is None
    matched(core, 2, 3)
    return core


def test_a_server_that_replaces_another_votes_first_and_then_the_other_goes() -> None:
    core = replacing()
    matched(core, 4)
    assert core.membership.voters == (1, 2, 3, 4)
    matched(core, 2, 3, 4)
    assert core.membership.members == (M(1, V), M(2, V), M(4, V, "a:4"))


def test_a_dead_server_goes_first_so_that_two_dead_never_count() -> None:
    core = replacing()
    core.advance_clock(350)
    for peer in (2, 4):
        step(core, HeartbeatReply(core.term, peer, 1, 0))
    acknowledge(core, [4])
    assert core.membership.members == (M(1, V), M(2, V), M(4, J, "a:4"))
    matched(core, 2, 4)
    assert core.membership.voters == (1, 2, 4)


def test_a_dead_server_stays_until_its_successor_has_caught_up() -> None:
    core = replacing()
    core.advance_clock(350)
    step(core, HeartbeatReply(core.term, 2, 1, 0), HeartbeatReply(core.term, 4, 1, 0))
    assert core.membership.voters == (1, 2, 3)


def test_a_learner_can_be_replaced_too() -> None:
    core = grown()
    assert change(core, AddMember(5, J, replaces=4)) is None
    matched(core, 2, 3, 5)
    matched(core, 2, 3, 5)
    assert core.membership.members == (M(1, V), M(2, V), M(3, V), M(5, V))


def test_the_next_leader_carries_on() -> None:
    members = THREE.with_added(M(4, J, "a:4", 3)).with_role(4, V)
    core = make([1], term=1)
    step(core, append(core, (1, 1), [config(2, 1, members)], commit=2))
    elect(core)
    assert core.membership.voters == (1, 2, 3, 4)
    matched(core, 2, 3, 4)
    assert core.membership.members == (M(1, V), M(2, V), M(4, V, "a:4"))


def test_replacing_the_leader_ends_with_another_one() -> None:
    core = replacing(victim=1)
    matched(core, 4)
    assert voters(core) == (1, 2, 3, 4)
    acknowledge(core, [2, 3, 4])
    assert voters(core) == (2, 3, 4)
    done = acknowledge(core, [2, 3, 4])
    assert [m.receiver for m in done.of(TimeoutNow)] == [2]
    assert core.role is Role.FOLLOWER


# Removing


def test_a_removed_leader_goes_on_without_counting_itself_until_that_is_committed() -> None:
    core = leader()
    assert change(core, RemoveMember(1)) is None
    assert core.membership.voters == (2, 3)
    step(core, command())
    acknowledge(core, [2])
    assert (core.role, core.commit_index) == (Role.LEADER, 1)
    done = acknowledge(core, [3])
    assert core.commit_index == 3
    assert done.of(TimeoutNow) == [TimeoutNow(1, 1, 2, 3)]
    assert (core.role, core.leader) == (Role.FOLLOWER, 0)
    assert step(core, Tick(core.deadline_ms)).messages == []


def test_a_leader_that_loses_its_vote_hands_over_as_well() -> None:
    core = leader()
    assert change(core, SetRole(1, L)) is None
    done = acknowledge(core, [2, 3])
    assert [m.receiver for m in done.of(TimeoutNow)] == [2]
    assert not core.removed


def test_a_removed_leader_waits_for_its_successor_to_have_everything_but_not_for_ever() -> None:
    core = leader()
    assert change(core, RemoveMember(1)) is None
    step(core, command())
    assert acknowledge(core, [2, 3], 2).of(TimeoutNow) == []
    assert core.role is Role.LEADER
    assert step(core, command(7)).refused == [(7, RefusalReason.TRANSFERRING)]
    for now_ms in range(150, 360, 10):
        step(core, Tick(now_ms), HeartbeatReply(1, 2, 1, 0), HeartbeatReply(1, 3, 1, 0))
    assert role(core) is Role.FOLLOWER


def test_a_removed_leader_without_a_successor_just_steps_down() -> None:
    core = leader(voters=(1, 2))
    assert change(core, RemoveMember(1)) is None
    core.advance_clock(240)
    core.step(AppendReply(1, 2, 1, True, 2, 0, 0))
    core._state.leadership.progress[2].become_probe()  # type: ignore[union-attr]
    assert settle(core).of(TimeoutNow) == []
    assert core.role is Role.FOLLOWER


def test_a_server_knows_that_it_was_removed_when_it_has_applied_that() -> None:
    core = make([1], term=1, server_id=3)
    gone = config(2, 1, THREE.with_removed(3))
    done = step(core, append(core, (1, 1), [gone]))
    assert not core.removed
    done = step(core, Heartbeat(1, 2, 3, 2, 0, True))
    assert core.removed
    assert core.status().removed
    assert [r.soft_state.removed for r in done.readies if r.soft_state] == [True]


def test_a_server_that_was_never_a_member_was_not_removed() -> None:
    core = make(server_id=5, voters=())
    step(core, append(core, (0, 0), [config(1, 1, THREE)], term=1, commit=1))
    assert (core.applied_index, core.removed) == (1, False)


def test_the_leader_tells_the_removed_server_for_a_while_and_then_forgets_it() -> None:
    core = leader()
    assert change(core, RemoveMember(3)) is None
    done = acknowledge(core, [2])
    assert core.commit_index == 2
    done = step(core, Tick(core.deadline_ms))
    assert 3 in [m.receiver for m in done.of(Heartbeat)]
    acknowledge(core, [3])
    done = step(core, Tick(core.deadline_ms))
    assert [m.commit for m in done.of(Heartbeat) if m.receiver == 3] == [2]
    while core._state.now_ms < 400:
        done = step(core, Tick(core.deadline_ms), HeartbeatReply(1, 2, 1, 0))
    assert [m.receiver for m in done.of(Heartbeat)] == [2]
    assert [p.peer for p in core.status().progress] == [2]


def test_a_new_leader_tells_the_server_whose_removal_it_inherits() -> None:
    core = make([1], term=1)
    step(core, append(core, (1, 1), [config(2, 1, THREE.with_removed(3))]))
    done = elect(core)
    assert [m.receiver for m in done.of(Append)] == [2, 3]


def test_answers_of_strangers_are_ignored_even_of_a_later_term() -> None:
    core = leader()
    for answer in (
        AppendReply(9, 4, 1, False, 0, 0, 0),
        HeartbeatReply(9, 4, 1, 0),
        PreVoteReply(9, 4, 1, False),
        VoteReply(9, 4, 1, False),
        SnapshotReply(9, 4, 1, 1, 1, 0),
    ):
        step(core, answer)
    assert (core.role, core.term, core.dropped) == (Role.LEADER, 1, 0)


def test_a_strangers_request_counts_because_it_may_know_better() -> None:
    core = make([1], term=1)
    step(core, append(core, (1, 1), entries([2], 2), term=2, sender=9))
    assert (core.leader, core.term, core.last_index) == (9, 2, 2)
    core = make([1], term=1)
    assert step(core, VoteRequest(2, 9, 1, 1, 1)).of(VoteReply) == [VoteReply(2, 1, 9, True)]


def test_a_removed_server_does_not_disturb_those_who_hear_their_leader() -> None:
    core = leader(voters=(1, 2))
    assert step(core, VoteRequest(7, 9, 1, 50, 6)).messages == []
    assert step(core, PreVoteRequest(7, 9, 1, 50, 6)).messages == []
    assert (core.role, core.term) == (Role.LEADER, 1)


def test_a_server_whose_removal_is_not_committed_may_be_needed_and_so_campaigns() -> None:
    """1 led 1 and 2, and was removed; only it has the entry, and 2 is too far behind to win."""
    members = Membership.of_voters((1, 2)).with_removed(1)
    core = make([1], term=1, voters=(1, 2))
    step(core, append(core, (1, 1), [config(2, 1, members)]))
    done = step(core, Tick(core.deadline_ms))
    assert [m.receiver for m in done.of(PreVoteRequest)] == [2]
    assert core.role is Role.PRE_CANDIDATE  # its own vote does not count
    step(core, PreVoteReply(2, 2, 1, True))
    assert role(core) is Role.CANDIDATE
    step(core, VoteReply(2, 2, 1, True))
    assert role(core) is Role.LEADER
    matched(core, 2)
    assert role(core) is Role.FOLLOWER
    assert core.removed


def test_a_server_whose_removal_is_committed_does_not() -> None:
    core = make([1], term=1)
    step(core, append(core, (1, 1), [config(2, 1, THREE.with_removed(1))], commit=2))
    assert step(core, Tick(core.deadline_ms)).messages == []


def test_a_cluster_grows_from_one_and_shrinks_to_one() -> None:
    core = leader(voters=(1,))
    assert change(core, AddMember(2, J)) is None
    assert core.commit_index == 2
    matched(core, 2)
    assert voters(core) == (1, 2)
    assert core.commit_index == 3
    assert change(core, RemoveMember(2)) is None
    assert (voters(core), core.commit_index) == ((1,), 4)


def test_reads_that_wait_are_confirmed_by_what_is_a_majority_afterwards() -> None:
    core = leader(voters=(1, 2))
    step(core, ReadIndex(5))
    core.step(ChangeMembership(9, RemoveMember(2)))
    assert settle(core).reads == [(5, 1)]


def test_a_demoted_voter_counts_no_more() -> None:
    core = leader()
    assert change(core, SetRole(3, L)) is None
    assert core.membership == Membership((M(1, V), M(2, V), M(3, L)), 3)
    acknowledge(core, [3])
    assert core.commit_index == 1
    acknowledge(core, [2])
    assert core.commit_index == 2


def test_a_commit_counts_what_the_own_disk_holds_only_if_the_leader_votes() -> None:
    core = leader()
    core.step(ChangeMembership(9, RemoveMember(1)))
    (ready,) = readies(core)
    core.step(Persisted(ready.sequence))
    core.step(AppendReply(1, 2, 1, True, 2, 0, 0))
    assert core.commit_index == 1
