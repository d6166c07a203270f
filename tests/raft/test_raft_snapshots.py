"""Compaction, sending and receiving snapshots (paper, 7)."""

from __future__ import annotations

from typing import Any

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
    step,
    terms_of,
)

from actors.raft.core import RaftCore
from actors.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PeerReset,
    Persisted,
    ReadIndex,
    SnapshotChunk,
    SnapshotChunkRead,
    SnapshotRefused,
    SnapshotReply,
    SnapshotRestored,
    SnapshotSaved,
    Tick,
)
from actors.raft.ready import ProgressState, Role, SnapshotMark

DATA = b"0123456789"


def compacted() -> RaftCore:
    """A leader of term 1 with entries 1..6 applied and a snapshot of them; 3 has nothing."""
    core = make()
    elect(core)
    acknowledge(core, [2], 0)
    step(core, *[command(token) for token in range(5)])
    acknowledge(core, [2])
    step(core, SnapshotSaved(6, 1, 7))
    assert core.log.first_index == 7
    return core


def chunk(core: RaftCore, offset: int, **other: Any) -> SnapshotChunk:
    data = other.pop("data", DATA[offset : offset + 4])
    fields: dict[str, Any] = {
        "term": core.term,
        "sender": 2,
        "receiver": 1,
        "index": 6,
        "snapshot_term": 1,
        "offset": offset,
        "data": data,
        "last": offset + len(data) == len(DATA),
        "total": len(DATA),
    }
    return SnapshotChunk(**{**fields, **other})


def answer(core: RaftCore, peer: int, offset: int, mark: SnapshotMark | None = None) -> Any:
    mark = mark or core.log.snapshot
    data = DATA[offset : offset + 4]
    last = offset + len(data) == len(DATA)
    return SnapshotChunkRead(peer, *mark, offset, data, last, len(DATA))


def alive(core: RaftCore, *peers: int) -> list[HeartbeatReply]:
    return [HeartbeatReply(core.term, peer, 1, 0) for peer in peers]


def replied(core: RaftCore, offset: int, index: int = 6) -> SnapshotReply:
    return SnapshotReply(core.term, 3, 1, index, 1, offset)


def state(core: RaftCore) -> ProgressState:
    return next(p.state for p in core.status().progress if p.peer == 3)


# Compaction


def test_a_saved_snapshot_compacts_the_log_and_keeps_what_it_is_told_to() -> None:
    core = leader(voters=(1,))
    step(core, *[command(token) for token in range(9)])
    step(core, SnapshotSaved(8, 1, 5))
    assert (core.log.first_index, core.log.snapshot) == (5, (8, 1))
    step(core, SnapshotSaved(4, 1, 5))
    assert core.log.snapshot == (8, 1)
    step(core, SnapshotSaved(10, 1, 99))
    assert (core.log.first_index, core.last_index) == (11, 10)
    step(core, command())
    assert core.commit_index == 11


def test_a_snapshot_beyond_what_is_applied_is_a_bug_of_the_server() -> None:
    core = leader()
    with pytest.raises(AssertionError):
        core.step(SnapshotSaved(2, 1, 1))


# Sending


def test_a_follower_that_needs_compacted_entries_is_sent_a_snapshot() -> None:
    core = make([1] * 4, snapshot=SnapshotMark(6, 1), term=1)
    elect(core)
    # The follower's log is empty: the probe after entry 10 is refused, with nothing to hint at.
    done = step(core, AppendReply(core.term, 3, 1, False, 10, 0, 0))
    assert [(wanted.peer, wanted.index) for wanted in done.snapshot_requests] == [(3, 6)]
    assert not done.of(Append)
    assert state(core) is ProgressState.SNAPSHOT


def wanting() -> RaftCore:
    core = compacted()
    done = step(core, PeerReset(3))
    assert done.snapshot_requests == [(3, 6, 1, 0, 256 * 1024)]
    return core


def test_a_snapshot_is_sent_a_chunk_at_a_time() -> None:
    core = wanting()
    for offset in (0, 4, 8):
        done = step(core, answer(core, 3, offset))
        (sent,) = done.of(SnapshotChunk)
        assert (sent.offset, sent.data, sent.last) == (offset, DATA[offset:][:4], offset == 8)
        done = step(core, replied(core, min(offset + 4, 10)))
        assert [wanted.offset for wanted in done.snapshot_requests] == (
            [offset + 4] if offset < 8 else []
        )
    done = step(core, AppendReply(core.term, 3, 1, True, 6, 0, 0))
    assert state(core) is ProgressState.REPLICATE
    assert [m.commit for m in done.of(Heartbeat) if m.receiver == 3] == [6]


def test_entries_are_not_sent_meanwhile_and_all_afterwards() -> None:
    core = wanting()
    done = step(core, command(9))
    assert [m.receiver for m in done.of(Append)] == [2]
    done = step(core, AppendReply(core.term, 3, 1, True, 6, 0, 0))
    assert [[e.index for e in m.entries] for m in done.of(Append)] == [[7]]


def test_a_lost_chunk_is_read_and_sent_again() -> None:
    core = wanting()
    step(core, answer(core, 3, 0))
    requests = []
    for now_ms in range(core.deadline_ms, core.deadline_ms + 1100, 10):
        requests += step(core, Tick(now_ms), *alive(core, 2, 3)).snapshot_requests
    assert [wanted.offset for wanted in requests] == [0]


def test_reads_do_not_put_off_that_a_lost_chunk_is_sent_again() -> None:
    """Found by simulation, seed 16769: each round of reads is a heartbeat."""
    core = wanting()
    step(core, answer(core, 3, 0))
    requests = []
    for now_ms in range(core.deadline_ms, core.deadline_ms + 1500, 4):
        core.advance_clock(now_ms)
        if now_ms >= core.deadline_ms:
            core.step(Tick(now_ms))
        done = step(core, ReadIndex(now_ms))
        beats = done.of(Heartbeat)
        replies = [HeartbeatReply(core.term, b.receiver, 1, b.context) for b in beats]
        requests += done.snapshot_requests + step(core, *replies).snapshot_requests
    assert [wanted.offset for wanted in requests] == [0]


def test_nothing_is_read_for_a_silent_follower_until_it_answers_again() -> None:
    core = wanting()
    step(core, answer(core, 3, 0))
    requests = []
    for now_ms in range(core.deadline_ms, core.deadline_ms + 5000, 10):
        requests += step(core, Tick(now_ms), *alive(core, 2)).snapshot_requests
    assert requests == []
    done = step(core, *alive(core, 3))
    assert [(wanted.peer, wanted.offset) for wanted in done.snapshot_requests] == [(3, 0)]


def test_a_transfer_goes_on_where_the_follower_is() -> None:
    core = wanting()
    step(core, answer(core, 3, 0))
    assert [w.offset for w in step(core, replied(core, 8)).snapshot_requests] == [8]
    step(core, replied(core, 11))
    assert core.dropped == 1
    core = wanting()
    step(core, answer(core, 3, 0), replied(core, 4), answer(core, 3, 4))
    done = step(core, replied(core, 0))
    assert [wanted.offset for wanted in done.snapshot_requests] == [0]


def test_an_old_answer_sends_nothing_twice() -> None:
    core = wanting()
    step(core, answer(core, 3, 0))
    step(core, replied(core, 4))
    step(core, answer(core, 3, 4))
    done = step(core, replied(core, 4), replied(core, 4))
    assert done.snapshot_requests == []
    assert done.of(SnapshotChunk) == []


def test_a_superseded_snapshot_is_replaced_from_the_beginning() -> None:
    core = wanting()
    step(core, answer(core, 3, 0), replied(core, 4))
    step(core, command())
    acknowledge(core, [2])
    step(core, SnapshotSaved(7, 1, 8))
    (sent,) = step(core, answer(core, 3, 0)).of(SnapshotChunk)
    assert (sent.index, sent.offset) == (7, 0)
    # One that the server can still read is finished.
    core = wanting()
    step(core, answer(core, 3, 0), replied(core, 4))
    step(core, command())
    acknowledge(core, [2])
    step(core, SnapshotSaved(7, 1, 8))
    (sent,) = step(core, answer(core, 3, 4, SnapshotMark(6, 1))).of(SnapshotChunk)
    assert (sent.index, sent.offset) == (6, 4)


def test_a_follower_that_installed_a_snapshot_too_old_by_now_gets_the_next_one() -> None:
    core = wanting()
    step(core, command())
    acknowledge(core, [2])
    step(core, SnapshotSaved(7, 1, 8))
    done = step(core, AppendReply(core.term, 3, 1, True, 6, 0, 0))
    assert [(wanted.index, wanted.offset) for wanted in done.snapshot_requests] == [(7, 0)]


def test_a_follower_that_has_everything_is_asked_how_its_installation_goes() -> None:
    core = wanting()
    for offset in (0, 4, 8):
        step(core, answer(core, 3, offset), replied(core, min(offset + 4, 10)))
    asked: list[SnapshotChunk] = []
    for now_ms in range(core.deadline_ms, core.deadline_ms + 1100, 10):
        asked += step(core, Tick(now_ms), *alive(core, 2, 3)).of(SnapshotChunk)
    assert [(m.offset, m.data, m.last) for m in asked] == [(10, b"", True)]


# Receiving


def test_chunks_are_taken_in_order_and_the_rest_is_asked_for() -> None:
    core = make(term=1)
    done = step(core, chunk(core, 0))
    assert [c.offset for c in done.snapshot_chunks] == [0]
    assert done.of(SnapshotReply) == [SnapshotReply(1, 1, 2, 6, 1, 4)]
    done = step(core, chunk(core, 8), chunk(core, 0))
    assert done.snapshot_chunks == []
    assert [m.offset for m in done.of(SnapshotReply)] == [4, 4]
    done = step(core, chunk(core, 4), chunk(core, 8))
    assert [c.offset for c in done.snapshot_chunks] == [4, 8]
    assert [m.offset for m in done.of(SnapshotReply)] == [8, 10]
    assert core.status().installing


def test_the_answer_waits_until_the_chunk_is_written() -> None:
    core = make(term=1)
    core.step(chunk(core, 0))
    (ready,) = readies(core)
    assert ready.sequence > 0
    assert ready.messages == ()
    assert len(ready.messages_after_persist) == 1


def test_a_transfer_that_begins_in_the_middle_is_sent_back_to_the_beginning() -> None:
    core = make(term=1)
    done = step(core, chunk(core, 4))
    assert done.snapshot_chunks == []
    assert [m.offset for m in done.of(SnapshotReply)] == [0]


def test_an_installed_snapshot_takes_the_place_of_the_log() -> None:
    core = make([1, 1, 1], term=2)
    step(core, chunk(core, 0), chunk(core, 4), chunk(core, 8))
    core.step(SnapshotRestored(6, 1))
    (ready,) = readies(core)
    assert ready.log_reset == (6, 1)
    assert ready.sequence > 0
    assert ready.messages_after_persist == (AppendReply(2, 1, 2, True, 6, 0, 0),)
    core.step(Persisted(ready.sequence))
    assert (core.log.first_index, core.last_index, core.applied_index) == (7, 6, 6)
    done = step(core, append(core, (6, 1), entries([2], 7), commit=7))
    assert done.committed == [7]


def test_a_snapshot_that_brings_nothing_new_is_answered_with_what_is_committed() -> None:
    core = make([1] * 8, term=1)
    step(core, append(core, (8, 1), commit=7))
    done = step(core, chunk(core, 0))
    assert done.snapshot_chunks == []
    assert done.of(AppendReply) == [AppendReply(1, 1, 2, True, 7, 0, 0)]


def test_a_log_that_has_the_snapshots_last_entry_keeps_what_follows() -> None:
    core = make([1] * 8, term=1)
    done = step(core, chunk(core, 0))
    assert done.of(AppendReply) == [AppendReply(1, 1, 2, True, 6, 0, 0)]
    assert (core.commit_index, core.last_index) == (6, 8)
    assert done.committed == [1, 2, 3, 4, 5, 6]


def test_a_log_that_contradicts_the_snapshot_is_dropped_whole() -> None:
    core = make([1] * 5 + [2] * 4, term=3)
    marks = {"snapshot_term": 3}
    for offset in (0, 4, 8):
        step(core, chunk(core, offset, **marks))
    step(core, SnapshotRestored(6, 3))
    assert (terms_of(core), core.last_index) == ([], 6)


def installing() -> RaftCore:
    core = make([1, 1, 1], term=2)
    step(core, append(core, (3, 1), commit=2))
    step(core, chunk(core, 0), chunk(core, 4), chunk(core, 8))
    return core


def test_while_it_installs_a_server_applies_nothing_and_takes_no_entries() -> None:
    core = installing()
    done = step(core, append(core, (3, 1), entries([2], 4), commit=4))
    assert done.of(SnapshotReply) == [SnapshotReply(2, 1, 2, 6, 1, 10)]
    assert (core.last_index, done.committed) == (3, [])
    done = step(core, Heartbeat(2, 2, 1, 3, 0, True))
    assert (core.commit_index, done.committed) == (3, [])


def test_while_it_installs_a_server_keeps_its_timer_but_does_not_campaign() -> None:
    core = installing()
    for _ in range(3):
        step(core, Tick(core.deadline_ms))
    assert core.role is Role.FOLLOWER


def test_a_refused_snapshot_is_taken_again_from_the_beginning() -> None:
    core = installing()
    step(core, SnapshotRefused(6, 1))
    done = step(core, chunk(core, 10, data=b""))
    assert [m.offset for m in done.of(SnapshotReply)] == [0]
    done = step(core, chunk(core, 0))
    assert [c.offset for c in done.snapshot_chunks] == [0]


def test_an_installing_server_answers_the_question_how_it_goes() -> None:
    core = installing()
    done = step(core, chunk(core, 10, data=b""))
    assert done.snapshot_chunks == []
    assert [m.offset for m in done.of(SnapshotReply)] == [10]


def test_another_snapshot_does_not_interrupt_an_installation() -> None:
    core = installing()
    done = step(core, chunk(core, 0, index=9, snapshot_term=2))
    assert done.snapshot_chunks == []
    assert done.of(SnapshotReply) == [SnapshotReply(2, 1, 2, 9, 2, 0)]
    step(core, SnapshotRestored(6, 1))
    assert core.last_index == 6


def test_a_newer_snapshot_replaces_one_that_is_arriving_and_an_older_one_does_not() -> None:
    core = make(term=2)
    step(core, chunk(core, 0))
    done = step(core, chunk(core, 0, index=9))
    assert [c.index for c in done.snapshot_chunks] == [9]
    done = step(core, chunk(core, 0))
    assert done.snapshot_chunks == []


def test_a_new_leaders_snapshot_begins_anew() -> None:
    core = make(term=2)
    step(core, chunk(core, 0))
    done = step(core, chunk(core, 4, sender=3, term=3))
    assert done.snapshot_chunks == []
    assert [m.offset for m in done.of(SnapshotReply)] == [0]
    done = step(core, chunk(core, 0, sender=3))
    assert [(c.offset, c.sender) for c in done.snapshot_chunks] == [(0, 3)]


def test_a_log_that_catches_up_makes_the_transfer_needless() -> None:
    core = make(term=2)
    step(core, chunk(core, 0))
    step(core, append(core, (0, 0), entries([1] * 6), commit=6))
    done = step(core, chunk(core, 4))
    assert done.snapshot_chunks == []
    assert done.of(AppendReply) == [AppendReply(2, 1, 2, True, 6, 0, 0)]


def test_a_candidate_that_wins_forgets_what_was_arriving() -> None:
    core = make(term=2)
    step(core, chunk(core, 0))
    elect(core)
    assert not step(core, chunk(core, 4)).snapshot_chunks
    assert core.dropped == 1


def test_restored_when_nothing_is_installed_is_a_bug_of_the_server() -> None:
    with pytest.raises(AssertionError):
        make().step(SnapshotRestored(6, 1))
    core = make()
    candidate(core)
    with pytest.raises(AssertionError):
        core.step(SnapshotRefused(6, 1))
