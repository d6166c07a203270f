"""A transaction that is too large for the log fails alone, for good, and leaves no trace."""

from __future__ import annotations

import pytest
from machines import GATEWAY, Machines

from actors import limits
from actors.protocol import Op, Status
from actors.service import Item
from graph.digest import digest

LARGE = "UNWIND range(1, 2000) AS x CREATE (:Large {x: toString(x)})"


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    monkeypatch.setattr(limits, "TRANSACTION_BYTES_MAX", 10_000)
    found = Machines(2)
    found.lead(1)
    return found


def same(machines: Machines) -> bool:
    return len({digest(s.machine.replica.view()) for s in machines.servers.values()}) == 1


def test_it_is_told_what_to_do_and_not_to_try_again(machines: Machines) -> None:
    request = machines.write(LARGE)
    machines.settle()
    reply = machines.leader.take()[request.id]
    assert reply.status is Status.FAILED
    assert reply.head == b"Neo.ClientError.General.LimitReached"
    assert b"several transactions" in reply.body
    assert machines.nodes() == machines.nodes(2) == 0
    assert machines.done(machines.write("CREATE (:Small)")) == [Status.DONE]
    assert machines.nodes() == machines.nodes(2) == 1
    assert same(machines)


def test_its_neighbours_are_done(machines: Machines) -> None:
    requests = [machines.write(q) for q in ("CREATE (:Small)", LARGE, "CREATE (:Small)")]
    assert machines.done(*requests) == [Status.DONE, Status.FAILED, Status.DONE]
    assert machines.nodes() == machines.nodes(2) == 2
    assert same(machines)


def test_together_too_large_but_not_alone(machines: Machines) -> None:
    query = "UNWIND range(1, 500) AS x CREATE (:Some {x: toString(x)})"
    requests = [machines.write(query) for _ in range(8)]
    assert machines.done(*requests) == [Status.DONE] * 8
    assert machines.nodes() == machines.nodes(2) == 4_000
    assert same(machines)


def test_an_explicit_transaction(machines: Machines) -> None:
    begin = machines.request(Op.BEGIN)
    machines.leader.machine.submit_local_reads([Item(GATEWAY, begin, machines.now + 60, 0.0)])
    run = machines.request(Op.RUN, LARGE, tx=begin.id)
    machines.leader.service.run_inside(Item(GATEWAY, run, machines.now + 60, 0.0))
    commit = machines.request(Op.COMMIT, tx=begin.id)
    machines.submit(commit)
    machines.settle()
    reply = machines.leader.take()[commit.id]
    assert (reply.status, reply.head) == (Status.FAILED, b"Neo.ClientError.General.LimitReached")
    assert machines.nodes() == machines.nodes(2) == 0
    assert machines.done(machines.write("CREATE (:Small)")) == [Status.DONE]
    assert same(machines)
