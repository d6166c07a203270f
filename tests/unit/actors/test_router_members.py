"""The router and the members: statements about the cluster, who may read, how a gateway ends."""

from __future__ import annotations

import asyncio

import pytest
from test_router import REPLICATION_TIMEOUT, Servers, quick, run

from actors import limits
from actors.administration_gateway import AdministrationFailed, gather_administration
from actors.errors import NotLeader, OutcomeUnknown, Overloaded
from actors.protocol import Op, Request, Status
from actors.routing import routing_table
from actors.transport import Introduction
from bolt.packer import Packer

__all__ = ["quick"]  # the fixture: without pauses

PACK = Packer().pack
STATEMENT = b"REMOVE SERVER 3"


def asked(servers: Servers, query: bytes = STATEMENT, **mode: bool) -> asyncio.Task[object]:
    return asyncio.create_task(gather_administration(servers.router, query, **mode))


# --- Statements about the cluster -----------------------------------------------------------------


def test_a_statement_goes_to_the_leader_and_its_table_comes_back() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asked(servers)
        to, sent = await servers.next()
        assert (to, sent.op, sent.term, sent.query) == (2, Op.ADMINISTER, 5, STATEMENT)
        assert sent.cursor == 0
        servers.answer(sent, Status.DONE, body=PACK([["result"], [["done"]]]))
        assert await task == (["result"], [["done"]])

    run(test)


def test_who_does_not_lead_was_not_asked() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asked(servers)
        _, sent = await servers.next()
        servers.answer(sent, Status.NOT_LEADER, 6)
        servers.elect(3, 6)
        to, again = await servers.next()
        assert (to, again.cursor) == (3, 0), "the first one has certainly not done it"
        servers.answer(again, Status.DONE, body=PACK([["result"], []]))
        await task

    run(test)


@pytest.mark.parametrize("dies", [True, False])
def test_the_next_leader_is_told_that_it_may_be_done(dies: bool) -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asked(servers)
        await servers.next()
        if dies:
            servers.kill(2)
            servers.elect(1, 5)  # heard late: a leader of the same term cannot know
            await servers.quiet()
            assert servers.arrived.empty()
        servers.elect(3, 6)
        to, again = await servers.next()
        assert (to, again.term, again.cursor) == (3, 6, 1)
        servers.answer(again, Status.DONE, body=PACK([["result"], []]))
        await task

    run(test)


def test_without_another_leader_the_outcome_is_unknown() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asked(servers)
        await servers.next()
        servers.kill(2)
        await servers.skip(REPLICATION_TIMEOUT)
        with pytest.raises(OutcomeUnknown, match="SHOW SERVERS"):
            await task

    run(test)


def test_without_an_answer_the_outcome_is_unknown() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asked(servers)
        await servers.next()
        await servers.skip(limits.ADMINISTRATION_SECONDS_MAX)
        with pytest.raises(OutcomeUnknown):
            await task

    run(test)


def test_without_any_leader_nothing_is_done() -> None:
    async def test(servers: Servers) -> None:
        task = asked(servers)
        await servers.skip(REPLICATION_TIMEOUT)
        with pytest.raises(NotLeader):
            await task

    run(test)


def test_refusals_and_overload_are_handed_on() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asked(servers)
        _, sent = await servers.next()
        servers.answer(sent, Status.FAILED, head=b"Neo.X", body=b"because")
        with pytest.raises(AdministrationFailed, match="because") as caught:
            await task
        assert caught.value.code == "Neo.X"
        task = asked(servers)
        _, sent = await servers.next()
        servers.answer(sent, Status.OVERLOADED)
        with pytest.raises(Overloaded):
            await task

    run(test)


@pytest.mark.parametrize(
    ("query", "mode", "message"),
    [
        (b"REMOVE SERVER", {}, "server id"),
        (STATEMENT, {"inside": True}, "outside of transactions"),
        (STATEMENT, {"read": True}, "read access mode"),
    ],
)
def test_what_is_wrong_is_not_sent(query: bytes, mode: dict[str, bool], message: str) -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        with pytest.raises(AdministrationFailed, match=message):
            await asked(servers, query, **mode)

    run(test)


def test_servers_are_shown_everywhere() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        for mode in ({"inside": True}, {"read": True}):
            task = asked(servers, b"SHOW SERVERS", **mode)
            _, sent = await servers.next()
            servers.answer(sent, Status.DONE, body=PACK([["id"], [[1]]]))
            assert await task == (["id"], [[1]])

    run(test)


def test_a_transaction_of_an_earlier_term_is_certainly_not_committed() -> None:
    """Its leader handed over and lives on: it must not be asked, and nobody must wait."""

    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        servers.elect(3, 6)
        request = Request(servers.router.new_id(), Op.COMMIT, tx=1)
        assert (await servers.router.commit(request, 2, 5)).status is Status.ABSENT
        # One that only reads relies on no term.
        request = Request(servers.router.new_id(), Op.COMMIT, tx=1)
        task = asyncio.create_task(servers.router.commit(request, 2, 0))
        _, sent = await servers.next()
        servers.answer(sent, Status.DONE)
        assert (await task).status is Status.DONE

    run(test)


# --- Who may read ---------------------------------------------------------------------------------


async def reader(servers: Servers) -> int:
    """Who is asked for a read in read mode."""
    request = Request(servers.router.new_id(), Op.RUN, read=True)
    task = asyncio.create_task(servers.router.read(request))
    to, sent = await servers.next()
    servers.answer(sent, Status.DONE)
    await task
    return to


def test_reads_go_to_a_server_that_may_read() -> None:
    async def test(servers: Servers) -> None:
        assert await reader(servers) == 1, "nobody has said anything: its own server"
        servers.router.readers_announced(5, (2, 3))
        assert {await reader(servers) for _ in range(6)} == {2, 3}
        servers.router.readers_announced(5, (1, 2, 3))
        assert await reader(servers) == 1
        servers.router.readers_announced(4, (2,))  # of an older term, late
        assert await reader(servers) == 1

    run(test)


def test_if_nobody_else_is_there_its_own_server_reads() -> None:
    async def test(servers: Servers) -> None:
        servers.router.readers_announced(5, (2, 3))
        servers.kill(2)
        servers.kill(3)
        assert await reader(servers) == 1

    run(test)


def test_the_routing_table_lists_members_that_may_read() -> None:
    async def test(servers: Servers) -> None:
        for server in (1, 2, 3, 4):
            gateway = Introduction("gateway", server, 1, None, f"host:{server}", key=server)
            servers.router.meet(gateway)
        servers.elect(2, 5)
        servers.router.readers_announced(5, (1, 2, 4))
        table = {
            s["role"]: s["addresses"] for s in routing_table(servers.router, "neo4j")["servers"]
        }
        assert table == {
            "WRITE": ["host:2"],
            "READ": ["host:1", "host:4"],
            "ROUTE": ["host:1", "host:2", "host:4"],
        }

    run(test)


def test_servers_of_another_cluster_are_not_asked() -> None:
    async def test(servers: Servers) -> None:
        def server(server_id: int, incarnation: int, cluster: str) -> Introduction:
            return Introduction("server", server_id, incarnation, None, cluster_id=cluster)

        assert servers.router.meet(server(2, 2, "old"))
        assert servers.router.meet(server(1, 2, "new")), "its own server"
        assert servers.router.servers() == [1, 3], "server 3 has not said of which cluster it is"
        assert not servers.router.meet(server(2, 3, "old"))
        assert servers.router.meet(server(2, 4, "new"))
        assert servers.router.servers() == [1, 2, 3]

    run(test)


# --- A gateway that ends --------------------------------------------------------------------------


def test_a_gateway_that_ends_finishes_and_begins_nothing() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task, sent = await servers.asked_to_write()
        servers.router.leaving = True
        for refused in (
            servers.router.write(servers.write()),
            servers.router.read(Request(servers.router.new_id(), Op.RUN, read=True)),
            servers.router.begin(Request(servers.router.new_id(), Op.BEGIN)),
        ):
            with pytest.raises(NotLeader, match="Nothing was done"):
                await refused
        servers.answer(sent, Status.DONE, 9)
        assert (await task)[0].index == 9
        commit = Request(servers.router.new_id(), Op.COMMIT, tx=3)
        task = asyncio.create_task(servers.router.commit(commit, 2, 5))  # type: ignore[arg-type]
        _, sent = await servers.next()
        servers.answer(sent, Status.DONE)
        await task

    run(test)
