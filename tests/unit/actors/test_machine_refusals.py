"""Refused proposals and the state machine: what is taken back is what was not appended, no more.

The loop tells of a refusal some time after it happened, and the machine may have executed more
since. Taking that back would answer "not done" for a write that is in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors import commands
from actors.commands import TransactionId
from actors.machine import StateMachine
from actors.protocol import Op, Reply, Request, Status
from actors.raft.messages import Applied, Entry, EntryKind
from actors.raft.ready import RefusalReason, Role, SoftState
from actors.replica import Replica, Speculation
from actors.server import Proposal
from actors.service import Executed, Item
from actors.sessions import Sessions

OVERLOADED, NOT_LEADER = RefusalReason.OVERLOADED, RefusalReason.NOT_LEADER


class FakeService:
    def __init__(self) -> None:
        self.sessions = Sessions()
        self.replies: list[Reply] = []

    def reply_all(self, pairs: Sequence[tuple[Item, Reply]]) -> None:
        self.replies += [reply for _, reply in pairs]

    def committed(self, executed: Executed, index: int) -> Reply:
        return Reply(executed.item.request.id, Status.DONE, index)


class Bench:
    """A machine that leads in term 1; entry 1 is its NOOP, entry 2 names the cluster."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.posted: list[Any] = []
        self.machine = StateMachine(
            Replica(),
            self.service,  # type: ignore[arg-type]
            post=self.posted.append,
            applied=lambda index: self.posted.append(Applied(index)),
            run_reads=lambda task: task(),
            new_cluster_id=lambda: "ab" * 16,
            on_cluster=lambda name: None,
            replication_timeout_ms=60_000,
        )
        self.index = 0
        self.lead(1)
        self.commit(self.proposals()[-1])

    def lead(self, term: int) -> None:
        self.machine.role_changed(SoftState(Role.LEADER, term, 1))
        self.append(term, EntryKind.NOOP, b"")

    def append(self, term: int, kind: EntryKind, data: bytes) -> None:
        self.index += 1
        self.machine.apply([Entry(self.index, term, kind, data)])

    def commit(self, proposal: Proposal) -> None:
        for kind, data in proposal.payloads:
            self.append(proposal.term, kind, data)

    def execute(self, identity: int) -> Proposal:
        """A batch of one request that changes nothing, executed and proposed."""
        item = Item(7, Request(identity, Op.RUN), 0.0, 0.0)
        ids = (TransactionId(7, identity, 0),)
        payload = commands.encode_transactions(ids, [])
        self.machine._propose(payload, ids, [Executed(item)])
        return self.proposals()[-1]

    def proposals(self) -> list[Proposal]:
        return [event for event in self.posted if isinstance(event, Proposal)]

    def pending(self) -> list[Speculation]:
        return list(self.machine.replica.pending)

    def answers(self) -> list[tuple[int, Status]]:
        replies, self.service.replies = self.service.replies, []
        return [(reply.id, reply.status) for reply in replies]


def test_who_does_not_lead_keeps_no_write_waiting() -> None:
    bench = Bench()
    bench.machine.role_changed(SoftState(Role.FOLLOWER, 2, 3))
    bench.answers()
    for identity, op in [(1, Op.RUN), (2, Op.COMMIT)]:
        bench.machine.submit_writes([Item(7, Request(identity, op, term=1), 600.0, 0.0)])
        assert bench.answers() == [(identity, Status.NOT_LEADER)]
    # A leader keeps them until it is ready.
    bench.machine.role_changed(SoftState(Role.LEADER, 3, 1))
    bench.machine.submit_writes([Item(7, Request(3, Op.RUN, term=3), 600.0, 0.0)])
    assert bench.answers() == []
    assert len(bench.machine._waiting) == 1


def test_a_refused_batch_takes_all_behind_it_along() -> None:
    bench = Bench()
    first, second, third = (bench.execute(identity) for identity in (11, 12, 13))
    assert first.generation == second.generation == third.generation
    bench.machine.proposal_refused(second.token, OVERLOADED)
    assert bench.answers() == [(12, Status.OVERLOADED), (13, Status.OVERLOADED)]
    assert [s.version for s in bench.pending()] == [first.token]
    bench.commit(first)
    assert bench.answers() == [(11, Status.DONE)]


def test_what_is_executed_after_a_refusal_is_of_a_new_generation() -> None:
    bench = Bench()
    refused = bench.execute(11)
    bench.machine.proposal_refused(refused.token, OVERLOADED)
    assert bench.execute(12).generation > refused.generation


def test_a_late_refusal_does_not_take_back_what_came_since() -> None:
    bench = Bench()
    first, second = bench.execute(11), bench.execute(12)
    bench.machine.proposal_refused(first.token, OVERLOADED)
    bench.answers()
    since = bench.execute(13)
    bench.machine.proposal_refused(second.token, NOT_LEADER)
    assert bench.answers() == []
    bench.commit(since)
    assert bench.answers() == [(13, Status.DONE)]


def test_a_refusal_from_an_earlier_leadership_does_not_either() -> None:
    bench = Bench()
    lost = bench.execute(11)
    bench.machine.role_changed(SoftState(Role.FOLLOWER, 2, 2))
    bench.lead(3)
    since = bench.execute(12)
    assert since.generation > lost.generation
    bench.machine.proposal_refused(lost.token, NOT_LEADER)
    assert bench.answers() == []
    bench.commit(since)
    assert bench.answers() == [(12, Status.DONE)]


def test_what_was_dropped_with_the_leadership_is_answered_by_nobody() -> None:
    """It may be committed yet: the gateway asks the next leader."""
    bench = Bench()
    bench.execute(11)
    bench.machine.role_changed(SoftState(Role.FOLLOWER, 2, 2))
    assert bench.answers() == []
    assert bench.pending() == []
