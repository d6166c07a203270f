"""Flow control, probing, limits, commit propagation: how a leader talks to its followers."""

from __future__ import annotations

import pytest
from bench import acknowledge, append, command, elect, entries, leader, make, readies, step

from actors.raft.core import RaftCore
from actors.raft.messages import (
    Append,
    AppendReply,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    PeerReset,
    Persisted,
    Propose,
    Tick,
    Unreachable,
)
from actors.raft.ready import ProgressState, ProgressStatus, RefusalReason, Role


def progress(core: RaftCore, peer: int) -> ProgressStatus:
    return next(each for each in core.status().progress if each.peer == peer)


def sent(messages: list[Append], peer: int) -> list[int]:
    return [entry.index for m in messages if m.receiver == peer for entry in m.entries]


def test_no_entries_leave_before_a_probe_is_answered() -> None:
    core = make([1, 1])
    assert sent(elect(core).of(Append), 2) == []
    assert step(core, command(), command()).of(Append) == []
    done = step(core, AppendReply(core.term, 2, 1, True, 2, 0, 0))
    assert sent(done.of(Append), 2) == [3, 4, 5]
    assert progress(core, 2).state is ProgressState.REPLICATE
    assert progress(core, 3).state is ProgressState.PROBE


def test_many_proposals_make_one_append_for_each_follower() -> None:
    core = leader()
    done = step(core, *[command(token) for token in range(50)])
    assert len(done.of(Append)) == 2
    assert len(done.proposed) == 50
    first, second = done.of(Append)
    assert first.entries is second.entries


def test_entries_are_pipelined_until_the_window_of_messages_is_full() -> None:
    core = leader(inflight_messages_max=3, append_entries_max=2)
    done = step(core, *[command(token) for token in range(20)])
    assert sent(done.of(Append), 2) == [2, 3, 4, 5, 6, 7]
    assert progress(core, 2).inflight_messages == 3
    done = acknowledge(core, [2], 3)
    assert sent(done.of(Append), 2) == [8, 9]
    done = acknowledge(core, [2], 7)
    assert sent(done.of(Append), 2) == [10, 11, 12, 13]


def test_the_window_of_bytes_is_kept() -> None:
    core = leader(inflight_bytes_max=1000, append_bytes_max=500)
    step(core, *[command(token, bytes(200)) for token in range(20)])
    status = progress(core, 2)
    assert 1000 <= status.inflight_bytes < 1500
    acknowledge(core, [2])
    assert progress(core, 2).inflight_bytes == 0


def test_appends_are_limited_in_bytes() -> None:
    core = leader(append_bytes_max=700)
    done = step(core, *[command(token, bytes(200)) for token in range(7)])
    sizes = [len(m.entries) for m in done.of(Append) if m.receiver == 2]
    assert sizes == [2, 2, 2, 1]


def test_a_reordered_acknowledgement_does_not_move_a_follower_back() -> None:
    core = leader()
    step(core, command(), command())
    acknowledge(core, [2], 3)
    acknowledge(core, [2], 2)
    assert progress(core, 2).match_index == 3


def test_a_stale_refusal_changes_nothing() -> None:
    core = leader()
    step(core, command())
    acknowledge(core, [2], 2)
    before = progress(core, 2)
    step(core, AppendReply(core.term, 2, 1, False, 1, 0, 0), AppendReply(1, 2, 1, False, 0, 0, 0))
    assert progress(core, 2) == before
    core = make([1, 1, 1])
    elect(core)
    step(core, AppendReply(2, 2, 1, False, 2, 1, 1))
    assert progress(core, 2).next_index == 4


def test_a_refusal_while_pipelining_starts_a_probe_at_what_is_known() -> None:
    core = leader(append_entries_max=1)
    step(core, command(), command(), command())
    acknowledge(core, [2], 2)
    done = step(core, AppendReply(core.term, 2, 1, False, 3, 2, 1))
    assert [(m.previous_index, m.entries) for m in done.of(Append)] == [(2, ())]
    done = step(core, AppendReply(core.term, 2, 1, True, 2, 0, 0))
    assert sent(done.of(Append), 2) == [3, 4]


def test_a_follower_that_lost_its_disk_is_not_counted_again() -> None:
    core = leader()
    step(core, command())
    acknowledge(core, [2])
    step(core, PeerReset(2))
    for _ in range(3):
        step(core, AppendReply(core.term, 2, 1, False, 2, 0, 0))
    assert progress(core, 2).match_index == 2
    assert progress(core, 2).state is ProgressState.PROBE


def test_a_lost_probe_is_repeated_when_a_heartbeat_is_answered() -> None:
    core = make([1])
    elect(core)
    assert step(core, Tick(core.deadline_ms)).of(Append) == []
    done = step(core, HeartbeatReply(core.term, 2, 1, 0))
    assert [m.receiver for m in done.of(Append)] == [2]


def test_a_lost_last_append_is_found_out_by_a_heartbeat() -> None:
    core = leader()
    step(core, command())
    assert step(core, HeartbeatReply(core.term, 2, 1, 0)).of(Append) == []
    step(core, Tick(core.deadline_ms))
    done = step(core, HeartbeatReply(core.term, 2, 1, 0))
    assert [(m.previous_index, m.entries) for m in done.of(Append)] == [(2, ())]
    step(core, AppendReply(core.term, 2, 1, False, 2, 1, 1))
    done = step(core, AppendReply(core.term, 2, 1, True, 1, 0, 0))
    assert sent(done.of(Append), 2) == [2]


def test_a_full_window_does_not_stop_that() -> None:
    core = leader(inflight_messages_max=1)
    step(core, command())
    step(core, Tick(core.deadline_ms))
    assert step(core, HeartbeatReply(core.term, 2, 1, 0)).of(Append)


@pytest.mark.parametrize("event", [PeerReset(2), Unreachable(2)])
def test_after_trouble_a_follower_is_probed_again(event: PeerReset | Unreachable) -> None:
    core = leader()
    step(core, command())
    done = step(core, event)
    assert progress(core, 2).state is ProgressState.PROBE
    assert [(m.receiver, m.previous_index, m.entries) for m in done.of(Append)] == [(2, 1, ())]


def test_events_about_strangers_are_ignored() -> None:
    core = leader()
    assert step(core, PeerReset(9), Unreachable(9)).messages == []
    assert step(make(), PeerReset(2), Unreachable(2)).messages == []


def test_a_new_commit_index_is_spread_soon_and_asks_for_no_answer() -> None:
    core = leader(commit_notice_ms=3)
    step(core, command())
    assert acknowledge(core, [2]).of(Heartbeat) == []
    done = step(core, Tick(core.deadline_ms))
    assert [(m.receiver, m.commit, m.answer) for m in done.of(Heartbeat)] == [(2, 2, False)]
    acknowledge(core, [3])
    done = step(core, Tick(core.deadline_ms))
    assert [(m.receiver, m.commit, m.answer) for m in done.of(Heartbeat)] == [(3, 2, False)]
    follower = make(term=1, server_id=3)
    step(follower, append(follower, (0, 0), entries([1, 1])))
    assert step(follower, done.of(Heartbeat)[0].__class__(1, 2, 3, 2, 0, False)).messages == []
    assert follower.commit_index == 2


def test_the_commit_index_travels_with_entries_where_some_flow() -> None:
    core = leader()
    step(core, command(1))
    core.step(AppendReply(core.term, 2, 1, True, 2, 0, 0))
    core.step(command(2))
    (ready, *_) = readies(core)
    assert [m.commit for m in ready.messages if isinstance(m, Append)] == [2, 2]
    assert not [m for m in ready.messages if isinstance(m, Heartbeat)]


def test_a_heartbeat_never_promises_more_than_what_is_known_to_match() -> None:
    core = leader()
    step(core, command())
    acknowledge(core, [2])
    beats = step(core, Tick(core.deadline_ms)).of(Heartbeat)
    assert [(beat.receiver, beat.commit) for beat in beats] == [(2, 2), (3, 1)]


def test_proposals_are_refused_where_nobody_leads_and_when_too_much_is_uncommitted() -> None:
    assert step(make(), command(4)).refused == [(4, RefusalReason.NOT_LEADER)]
    core = leader(uncommitted_bytes_max=500)
    refused = step(core, *[command(token, bytes(100)) for token in range(5)]).refused
    assert refused == [(token, RefusalReason.OVERLOADED) for token in (3, 4)]
    acknowledge(core, [2])
    core.step(command(9, bytes(100)))
    assert not core.was_refused(9)
    core.step(command(10, bytes(501)))
    assert core.was_refused(10)


def test_entries_without_data_count_too() -> None:
    core = leader(uncommitted_bytes_max=500)
    empty = Propose(3, tuple((EntryKind.COMMAND, b"") for _ in range(8)))
    assert step(core, empty).refused == [(3, RefusalReason.OVERLOADED)]


def test_the_uncommitted_tail_of_an_earlier_term_counts() -> None:
    core = make([1] * 20, uncommitted_bytes_max=200)
    elect(core)
    assert step(core, command()).refused


def test_check_quorum_a_leader_that_hears_no_majority_steps_down() -> None:
    core = leader(voters=range(1, 6))
    start_ms = core.deadline_ms
    for now_ms in range(start_ms, start_ms + 400, 10):
        step(core, Tick(now_ms), HeartbeatReply(core.term, 2, 1, 0), HeartbeatReply(1, 3, 1, 0))
    assert core.role is Role.LEADER
    for now_ms in range(start_ms + 400, start_ms + 650, 10):
        core.step(Tick(now_ms))
        if core.role is Role.LEADER:
            step(core, HeartbeatReply(core.term, 2, 1, 0))
    assert (core.role, core.leader) == (Role.FOLLOWER, 0)


def test_without_check_quorum_it_stays() -> None:
    core = leader(check_quorum=False)
    step(core, Tick(100_000))
    assert core.role is Role.LEADER


def test_a_leader_sends_heartbeats_while_its_disk_is_busy() -> None:
    core = leader()
    core.step(Propose(1, ((EntryKind.COMMAND, bytes(1000)),)))
    (write,) = readies(core)
    core.step(Tick(core.deadline_ms))
    (ready,) = readies(core)
    assert len([m for m in ready.messages if isinstance(m, Heartbeat)]) == 2
    core.step(Persisted(write.sequence))


def test_a_deposed_leader_says_nothing_about_its_proposals() -> None:
    """The outcome is unknown until their indexes commit, with their term or another."""
    core = leader()
    step(core, command(5))
    done = step(core, append(core, (1, 1), entries([2], 2), term=2, commit=2))
    assert done.refused == []
    assert [(entry.index, entry.term) for r in done.readies for entry in r.committed] == [(2, 2)]
