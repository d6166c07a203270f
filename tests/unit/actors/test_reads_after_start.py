"""A server that has just started shows nothing older than what it had when it stopped.

Its log is on its disk, but what of it is committed it hears from a leader; until then its graph is
that of its snapshot, or empty.
"""

from __future__ import annotations

import asyncio

import pytest
from machines import GATEWAY, Machines, OneMachine

from actors import router
from actors.errors import NotLeader
from actors.protocol import Op, Reply, Request, Status, decode_requests
from actors.router import Router
from actors.service import Item
from actors.transport import Introduction


@pytest.fixture
def machines() -> Machines:
    machines = Machines(2)
    machines.lead(1)
    for _ in range(3):
        assert machines.done(machines.write("CREATE (:N)")) == [Status.DONE]
    return machines


def restart(machines: Machines, server_id: int, uncommitted: int = 0) -> OneMachine:
    """As if a server without a snapshot had found the log on its disk, and then some more."""
    server = machines.servers[server_id] = OneMachine(server_id, lambda: machines.now)
    server.machine.found_in_log = (len(machines.log) + uncommitted, machines.term)
    return server


def read(machines: Machines, server: OneMachine) -> Status:
    request = machines.request(Op.RUN, "MATCH (n) RETURN count(n)", read=True)
    item = Item(GATEWAY, request, machines.now + 60, machines.now)
    server.service.prepare(item)
    server.machine.submit_local_reads([item])
    return server.take()[request.id].status


def test_reads_wait_until_its_old_log_is_applied(machines: Machines) -> None:
    server = restart(machines, 2)
    assert read(machines, server) is Status.NOT_LEADER
    server.machine.apply(machines.log[:-1])
    assert read(machines, server) is Status.NOT_LEADER
    machines.feed(2)
    assert read(machines, server) is Status.DONE


def test_the_end_of_its_log_may_have_been_undone(machines: Machines) -> None:
    server = restart(machines, 2, uncommitted=5)
    machines.feed(2)
    assert read(machines, server) is Status.NOT_LEADER
    machines.lead(1)
    assert server.machine.replica.applied_index < server.machine.found_in_log[0]
    assert read(machines, server) is Status.DONE


def test_a_new_server_has_nothing_to_wait_for() -> None:
    machines = Machines(1)
    assert read(machines, machines.leader) is Status.DONE


def test_a_gateway_asks_the_others_and_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(router, "RETRY_SECONDS", 0.0)
    asked: set[int] = set()
    answers: list[Reply] = []

    def refuse(server: Introduction, data: bytes) -> None:
        asked.add(server.server_id)
        answers.extend(
            Reply(request.id, Status.NOT_LEADER, attempt=request.attempt)
            for request in decode_requests(data)
        )

    async def test() -> None:
        gateway = Router(1, refuse, replication_timeout_s=0.0)
        for server_id in (1, 2, 3):
            gateway.meet(Introduction("server", server_id, 1, None))
        waiting = asyncio.create_task(gateway.read(Request(gateway.new_id(), Op.RUN, read=True)))
        while not waiting.done():
            await asyncio.sleep(0)
            while answers:
                gateway.replied([answers.pop()])
        with pytest.raises(NotLeader, match="Nothing was done"):
            waiting.result()

    asyncio.run(test())
    assert asked
