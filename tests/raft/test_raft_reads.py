"""Linearizable reads by ReadIndex (dissertation, 6.4)."""

from __future__ import annotations

from bench import acknowledge, append, command, elect, leader, make, step

from actors.raft.core import RaftCore
from actors.raft.messages import Heartbeat, HeartbeatReply, ReadIndex, Tick


def reply(core: RaftCore, peer: int, context: int) -> HeartbeatReply:
    return HeartbeatReply(core.term, peer, core.server_id, context)


def test_a_follower_refuses() -> None:
    assert step(make(), ReadIndex(5)).reads_failed == [5]


def test_a_read_needs_a_round_with_a_majority_that_began_after_it() -> None:
    core = leader()
    done = step(core, ReadIndex(5))
    beats = done.of(Heartbeat)
    assert [(beat.receiver, beat.answer) for beat in beats] == [(2, True), (3, True)]
    assert done.reads == []
    assert step(core, reply(core, 2, beats[0].context - 1)).reads == []
    assert step(core, reply(core, 2, beats[0].context)).reads == [(5, 1)]


def test_reads_that_arrive_together_share_a_round() -> None:
    core = leader()
    done = step(core, *[ReadIndex(token) for token in range(100)])
    assert len(done.of(Heartbeat)) == 2
    context = done.of(Heartbeat)[0].context
    assert [read.token for read in step(core, reply(core, 3, context)).reads] == list(range(100))


def test_a_context_is_never_used_for_two_rounds() -> None:
    core = leader()
    contexts = []
    for token in range(5):
        context = step(core, ReadIndex(token)).of(Heartbeat)[0].context
        contexts.append(context)
        step(core, reply(core, 2, context))
    step(core, append(core, (0, 0), term=core.term + 1))
    elect(core)
    acknowledge(core, [2, 3])
    acknowledge(core, [2, 3])
    contexts.append(step(core, ReadIndex(9)).of(Heartbeat)[0].context)
    assert contexts == sorted(set(contexts))


def test_a_new_leader_holds_reads_until_it_has_committed_in_its_term() -> None:
    core = make([1, 1])
    elect(core)
    done = step(core, ReadIndex(5), reply(core, 2, 0), reply(core, 3, 0))
    assert done.reads == done.reads_failed == []
    beats = acknowledge(core, [2]).of(Heartbeat)
    context = max(beat.context for beat in beats)
    assert context > 0
    assert step(core, reply(core, 3, context)).reads == [(5, 3)]


def test_an_answer_to_a_later_round_confirms_earlier_ones() -> None:
    core = leader()
    step(core, ReadIndex(1))
    context = step(core, ReadIndex(2)).of(Heartbeat)[0].context
    assert [read.token for read in step(core, reply(core, 2, context)).reads] == [1, 2]


def test_rounds_under_way_are_bounded_and_reads_wait_for_the_next() -> None:
    core = leader(read_rounds_max=2)
    contexts = [
        beat.context
        for token in range(6)
        for beat in step(core, ReadIndex(token)).of(Heartbeat)
        if beat.receiver == 2
    ]
    assert len(contexts) == 2
    done = step(core, reply(core, 2, contexts[0]))
    assert [read.token for read in done.reads] == [0]
    assert len(done.of(Heartbeat)) == 2
    # Lost rounds do not hold the others up for longer than a heartbeat interval.
    step(core, ReadIndex(6))
    beats = step(core, Tick(core.deadline_ms)).of(Heartbeat)
    done = step(core, reply(core, 3, beats[0].context))
    assert [read.token for read in done.reads] == [1, 2, 3, 4, 5, 6]


def test_a_lost_round_is_repeated_with_the_next_heartbeat() -> None:
    core = leader()
    context = step(core, ReadIndex(1)).of(Heartbeat)[0].context
    beats = step(core, Tick(core.deadline_ms)).of(Heartbeat)
    assert {beat.context for beat in beats} == {context}


def test_too_many_waiting_reads_are_refused() -> None:
    core = leader(pending_reads_max=3)
    done = step(core, *[ReadIndex(token) for token in range(5)])
    assert done.reads_failed == [3, 4]


def test_a_deposed_leader_fails_its_reads() -> None:
    core = leader()
    step(core, ReadIndex(1))
    core.step(ReadIndex(2))
    assert step(core, append(core, (0, 0), term=core.term + 1)).reads_failed == [1, 2]


def test_answers_of_an_earlier_term_confirm_nothing() -> None:
    core = leader()
    step(core, append(core, (0, 0), term=core.term + 1))
    elect(core)
    acknowledge(core, [2, 3])
    acknowledge(core, [2, 3])
    context = step(core, ReadIndex(1)).of(Heartbeat)[0].context
    old = HeartbeatReply(core.term - 1, 2, 1, context)
    assert step(core, old).reads == []


def test_a_cluster_of_one_reads_at_once() -> None:
    core = leader(voters=(1,))
    step(core, command())
    assert step(core, ReadIndex(1)).reads == [(1, 2)]


def test_an_answer_to_a_context_that_was_never_sent_is_dropped() -> None:
    core = leader()
    step(core, ReadIndex(1))
    assert step(core, reply(core, 2, 99)).reads == []
    assert core.dropped == 1
