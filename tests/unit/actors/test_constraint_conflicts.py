"""Transactions that meet at a uniqueness constraint: who comes second may run again."""

from __future__ import annotations

import pytest
from machines import GATEWAY, Machines

from actors.protocol import Op, Reply, Request, Status
from actors.service import Item
from bolt.status import CONSTRAINT_VALIDATION_FAILED, OUTDATED

MERGE = "MERGE (u:User {key: 1}) SET u.seen = true"
CREATE = "CREATE (:User {key: 1})"


@pytest.fixture
def machines() -> Machines:
    machines = Machines(1)
    machines.lead(1)
    constraint = machines.write("CREATE CONSTRAINT ON (u:User) ASSERT u.key IS UNIQUE")
    assert machines.done(constraint) == [Status.DONE]
    return machines


def begin(machines: Machines) -> Request:
    request, replica = machines.request(Op.BEGIN), machines.leader.machine.replica
    item = Item(GATEWAY, request, machines.now + 600, machines.now)
    reply = machines.leader.service.begin(
        item, replica.view().fork(), replica.allocator, replica.view_version, replica.applied_index
    )
    assert reply.status is Status.DONE
    return request


def run(machines: Machines, transaction: Request, query: str) -> Reply:
    inside = machines.request(Op.RUN, query, tx=transaction.id)
    return machines.leader.service.run_inside(
        Item(GATEWAY, inside, machines.now + 600, machines.now)
    )


def commit(machines: Machines, *transactions: Request) -> list[tuple[Status, str]]:
    requests = [machines.request(Op.COMMIT, tx=opened.id) for opened in transactions]
    machines.submit(*requests)
    machines.settle()
    replies = machines.leader.take()
    return [(replies[r.id].status, replies[r.id].head.decode()) for r in requests]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("query", [MERGE, CREATE])
def test_the_second_one_is_told_to_run_again(
    machines: Machines, query: str, together: bool
) -> None:
    first, second = begin(machines), begin(machines)
    for transaction in (first, second):
        assert run(machines, transaction, query).status is not Status.FAILED
    if together:
        (one, _), two = commit(machines, first, second)
    else:
        ((one, _),), (two,) = commit(machines, first), commit(machines, second)
    assert one is Status.DONE
    assert two == (Status.FAILED, OUTDATED)
    assert machines.nodes() == 1


def test_run_again_merge_finds_it_and_create_hears_why_not(machines: Machines) -> None:
    assert machines.done(machines.write(CREATE)) == [Status.DONE]
    again = begin(machines)
    assert run(machines, again, MERGE).status is not Status.FAILED
    assert commit(machines, again)[0][0] is Status.DONE
    hopeless = run(machines, begin(machines), CREATE)
    assert (hopeless.status, hopeless.head.decode()) == (
        Status.FAILED,
        CONSTRAINT_VALIDATION_FAILED,
    )
    assert machines.nodes() == 1
