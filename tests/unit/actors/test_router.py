"""The router: nothing is done twice by a retry, and nothing that may be done is called undone.

``Servers`` stands for the cluster: it keeps what the router sends, request by request, and a test
answers, announces or kills. A test waits for events, never for time: where a rule is about a
time-out, it moves the loop's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import limits, router
from actors.errors import NotLeader, OutcomeUnknown, Overloaded
from actors.protocol import MESSAGE_BYTES_MAX, Op, Reply, Request, Status, decode_requests
from actors.raft.ready import Role
from actors.router import Router, ServerLost
from actors.transport import Introduction

REPLICATION_TIMEOUT = 30.0
AGES = 1e9


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


class Servers:
    """Servers 1 to 3 behind a router whose home is 1."""

    def __init__(self) -> None:
        self.router = Router(1, self._send, replication_timeout_s=REPLICATION_TIMEOUT)
        self.lives: dict[int, Introduction] = {}
        self.messages: list[tuple[int, list[Request]]] = []
        self.arrived: asyncio.Queue[tuple[int, Request]] = asyncio.Queue()
        self.broken: set[int] = set()
        for server_id in (1, 2, 3):
            self.start(server_id, 1)

    def start(self, server_id: int, incarnation: int) -> None:
        life = self.lives[server_id] = Introduction("server", server_id, incarnation, None)
        assert self.router.meet(life)

    def _send(self, server: Introduction, data: bytes) -> None:
        if server.server_id in self.broken:
            raise ConnectionError
        requests = decode_requests(data)
        self.messages.append((server.server_id, requests))
        for request in requests:
            self.arrived.put_nowait((server.server_id, request))

    async def next(self) -> tuple[int, Request]:
        return await self.arrived.get()

    def answer(self, request: Request, status: Status, index: int = 0, **fields: Any) -> None:
        self.router.replied([Reply(request.id, status, index, attempt=request.attempt, **fields)])

    def kill(self, server_id: int) -> None:
        self.router.lost(self.lives[server_id])

    def elect(self, server_id: int, term: int) -> None:
        """As it is heard: of a candidate first, of the winner then."""
        self.router.announced(server_id, term, 0)
        self.router.announced(server_id, term, server_id)

    def write(self) -> Request:
        return Request(self.router.new_id(), Op.RUN, query=b"CREATE ()")

    async def asked_to_write(self) -> tuple[asyncio.Task[tuple[Reply, int]], Request]:
        """A write under way, and what a server was sent of it."""
        task = asyncio.create_task(self.router.write(self.write()))
        _, sent = await self.next()
        return task, sent

    async def quiet(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def skip(self, seconds: float) -> None:
        await self.quiet()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        loop.skipped += seconds
        await self.quiet()


def run(test: Callable[[Servers], Awaitable[None]]) -> None:
    async def main() -> None:
        servers = Servers()
        await test(servers)
        assert servers.arrived.empty(), "something was sent that the test does not know of"
        assert not servers.router._waiting

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(router, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(router, "GATHER_SECONDS", 0.0)


# --- Writes ---------------------------------------------------------------------------------------


def test_a_write_goes_to_the_leader_with_its_term() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        request = servers.write()
        task = asyncio.create_task(servers.router.write(request))
        to, sent = await servers.next()
        assert (to, sent.id, sent.term, sent.query) == (2, request.id, 5, b"CREATE ()")
        servers.answer(sent, Status.DONE, 17)
        assert (await task)[0].index == 17

    run(test)


def test_a_write_waits_for_a_leader() -> None:
    async def test(servers: Servers) -> None:
        task = asyncio.create_task(servers.router.write(servers.write()))
        await asyncio.sleep(0)
        servers.router.announced(1, 4, 0)
        servers.elect(3, 5)
        to, sent = await servers.next()
        assert (to, sent.term) == (3, 5)
        servers.answer(sent, Status.DONE)
        await task

    run(test)


def test_without_a_leader_nothing_is_sent_and_that_is_said() -> None:
    async def test(servers: Servers) -> None:
        task = asyncio.create_task(servers.router.write(servers.write()))
        await servers.skip(REPLICATION_TIMEOUT)
        assert task.done()
        with pytest.raises(NotLeader, match="Nothing was done"):
            await task

    run(test)


def test_a_leader_that_is_dead_is_not_asked() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        servers.kill(2)
        servers.router.announced(1, 5, 2)  # a follower that has not noticed yet
        task = asyncio.create_task(servers.router.write(servers.write()))
        await servers.skip(REPLICATION_TIMEOUT)
        assert task.done()
        with pytest.raises(NotLeader):
            await task

    run(test)


def test_not_leader_is_tried_again_where_the_news_points() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        request = servers.write()
        task = asyncio.create_task(servers.router.write(request))
        _, sent = await servers.next()
        servers.answer(sent, Status.NOT_LEADER, 6)  # it is in term 6
        await asyncio.sleep(0)
        servers.elect(3, 6)
        to, again = await servers.next()
        assert (to, again.id, again.term) == (3, request.id, 6)
        servers.answer(again, Status.DONE)
        await task

    run(test)


def test_not_leader_without_news_asks_the_same_server_again() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asyncio.create_task(servers.router.write(servers.write()))
        for _ in range(3):
            to, sent = await servers.next()
            assert to == 2
            servers.answer(sent, Status.NOT_LEADER, 5)
        to, sent = await servers.next()
        servers.answer(sent, Status.DONE)
        await task

    run(test)


@pytest.mark.parametrize("stepped_down_first", [True, False])
def test_a_leader_that_stepped_down_is_not_asked_again_in_that_term(
    stepped_down_first: bool,
) -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task, sent = await servers.asked_to_write()
        if stepped_down_first:
            servers.router.announced(2, 5, 0)
        servers.answer(sent, Status.NOT_LEADER, 5)
        await asyncio.sleep(0)
        if not stepped_down_first:
            servers.router.announced(2, 5, 0)
        servers.router.announced(3, 5, 2)  # old news
        await servers.skip(REPLICATION_TIMEOUT)
        assert task.done()
        with pytest.raises(NotLeader):
            await task

    run(test)


def test_refused_until_the_deadline_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not "unknown": the last answer said that it was not done, and it is not sent once more."""
    monkeypatch.setattr(router, "RETRY_SECONDS", AGES)

    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task, sent = await servers.asked_to_write()
        servers.answer(sent, Status.NOT_LEADER, 5)
        await servers.skip(AGES)
        assert task.done()
        with pytest.raises(NotLeader):
            await task

    run(test)


def test_overloaded_is_not_done() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        for ask in (
            servers.router.write(servers.write()),
            servers.router.commit(Request(servers.router.new_id(), Op.COMMIT, tx=1), 2, 5),
        ):
            task = asyncio.create_task(ask)
            _, sent = await servers.next()
            servers.answer(sent, Status.OVERLOADED)
            with pytest.raises(Overloaded):
                await task

    run(test)


def test_no_answer_until_the_deadline_is_unknown() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asyncio.create_task(servers.router.write(servers.write()))
        await servers.next()
        await servers.skip(AGES)
        assert task.done()
        with pytest.raises(OutcomeUnknown):
            await task

    run(test)


# --- Writes whose server is lost ------------------------------------------------------------------


async def lost_write(servers: Servers) -> tuple[asyncio.Task[tuple[Reply, int]], Request]:
    """A write that leader 2 of term 5 has taken with it."""
    servers.elect(2, 5)
    task, sent = await servers.asked_to_write()
    servers.kill(2)
    return task, sent


def test_the_next_leader_says_that_it_was_done() -> None:
    async def test(servers: Servers) -> None:
        task, sent = await lost_write(servers)
        servers.elect(3, 6)
        to, asked = await servers.next()
        assert (to, asked.op, asked.cursor, asked.query) == (3, Op.OUTCOME, sent.id, sent.query)
        assert asked.id != sent.id
        assert asked.acknowledged <= sent.id
        servers.answer(asked, Status.DONE, 44)
        reply, _ = await task
        assert (reply.status, reply.index) == (Status.DONE, 44)

    run(test)


def test_what_was_not_done_is_sent_again_under_its_id() -> None:
    async def test(servers: Servers) -> None:
        task, sent = await lost_write(servers)
        servers.elect(3, 6)
        _, asked = await servers.next()
        servers.answer(asked, Status.ABSENT)
        to, again = await servers.next()
        assert (to, again.op, again.id, again.term) == (3, Op.RUN, sent.id, 6)
        servers.answer(again, Status.DONE, 45)
        assert (await task)[0].index == 45

    run(test)


def test_what_a_deposed_leader_refuses_late_is_not_its_successors_answer() -> None:
    """Found by simulation, seed 26: the successor was asked a second time, and did it twice."""

    async def test(servers: Servers) -> None:
        task, sent = await lost_write(servers)
        servers.elect(3, 6)
        _, asked = await servers.next()
        servers.answer(asked, Status.ABSENT)
        to, again = await servers.next()
        assert (to, again.id) == (3, sent.id)
        servers.answer(sent, Status.NOT_LEADER, 6)
        await servers.skip(1.0)
        assert servers.arrived.empty()
        servers.answer(again, Status.DONE)
        await task

    run(test)


def test_a_leader_of_the_same_term_is_not_asked() -> None:
    """A new life of a server, or late news, may name a leader of term 5: it cannot know."""

    async def test(servers: Servers) -> None:
        task, _ = await lost_write(servers)
        servers.start(2, 2)
        servers.router.announced(2, 5, 2)
        servers.router.announced(3, 5, 2)
        await servers.quiet()
        assert servers.arrived.empty()
        servers.elect(2, 6)
        to, asked = await servers.next()
        assert (to, asked.op) == (2, Op.OUTCOME)
        servers.answer(asked, Status.DONE)
        await task

    run(test)


def test_the_question_itself_survives_the_loss_of_its_server() -> None:
    async def test(servers: Servers) -> None:
        task, sent = await lost_write(servers)
        servers.elect(3, 6)
        await servers.next()
        servers.kill(3)
        servers.elect(1, 7)
        to, asked = await servers.next()
        assert (to, asked.op, asked.cursor) == (1, Op.OUTCOME, sent.id)
        servers.answer(asked, Status.NOT_LEADER, 8)
        await asyncio.sleep(0)
        servers.elect(1, 8)
        to, asked = await servers.next()
        assert (to, asked.op, asked.cursor) == (1, Op.OUTCOME, sent.id)
        servers.answer(asked, Status.DONE)
        await task

    run(test)


def test_what_nobody_remembers_is_unknown() -> None:
    async def test(servers: Servers) -> None:
        task, _ = await lost_write(servers)
        servers.elect(3, 6)
        _, asked = await servers.next()
        servers.answer(asked, Status.FORGOTTEN)
        with pytest.raises(OutcomeUnknown):
            await task

    run(test)


def test_without_a_next_leader_it_is_unknown() -> None:
    async def test(servers: Servers) -> None:
        task, _ = await lost_write(servers)
        await servers.skip(REPLICATION_TIMEOUT)
        assert task.done()
        with pytest.raises(OutcomeUnknown):
            await task

    run(test)


def test_a_question_refused_until_the_deadline_leaves_it_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(router, "RETRY_SECONDS", AGES)

    async def test(servers: Servers) -> None:
        task, _ = await lost_write(servers)
        servers.elect(3, 6)
        _, asked = await servers.next()
        servers.answer(asked, Status.NOT_LEADER, 6)
        await servers.skip(AGES)
        assert task.done()
        with pytest.raises(OutcomeUnknown):
            await task

    run(test)


def test_the_question_is_asked_even_when_the_gateway_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To refuse it as overloaded would tell the client "not done" of what may be done."""
    monkeypatch.setattr(limits, "OUTSTANDING_REQUESTS_MAX", 1)

    async def test(servers: Servers) -> None:
        task, _ = await lost_write(servers)
        with pytest.raises(Overloaded):
            servers.router.new_id()
        servers.elect(3, 6)
        _, asked = await servers.next()
        servers.answer(asked, Status.DONE)
        await task

    run(test)


def test_a_message_that_cannot_be_sent_may_have_been() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        servers.broken.add(2)
        request = servers.write()
        task = asyncio.create_task(servers.router.write(request))
        await asyncio.sleep(0)
        servers.elect(3, 6)
        _, asked = await servers.next()
        assert (asked.op, asked.cursor) == (Op.OUTCOME, request.id)
        servers.answer(asked, Status.DONE)
        await task

    run(test)


# --- Writes whose leader is deposed, and lives ----------------------------------------------------


@pytest.mark.parametrize("candidate_first", [True, False])
def test_a_successor_is_asked_about_what_a_deposed_leader_holds(candidate_first: bool) -> None:
    """Whether the new term was first heard of without a leader must make no difference."""

    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task, sent = await servers.asked_to_write()
        if candidate_first:
            servers.router.announced(3, 6, 0)
            servers.router.announced(2, 6, 0)
        servers.router.announced(3, 6, 3)
        to, asked = await servers.next()
        assert (to, asked.op, asked.cursor) == (3, Op.OUTCOME, sent.id)
        servers.answer(asked, Status.DONE, 9)
        assert (await task)[0].index == 9

    run(test)


def test_a_deposed_leader_may_still_answer() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task, sent = await servers.asked_to_write()
        servers.elect(3, 6)
        servers.answer(sent, Status.DONE, 9)
        assert (await task)[0].index == 9

    run(test)


def test_writes_of_the_new_term_are_not_lost_with_those_of_the_old() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        servers.elect(3, 6)
        task, sent = await servers.asked_to_write()
        servers.router.announced(2, 6, 3)
        await servers.quiet()
        assert not task.done()
        servers.answer(sent, Status.DONE)
        await task

    run(test)


def test_a_step_down_without_a_successor_ends_in_unknown() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asyncio.create_task(servers.router.write(servers.write()))
        await servers.next()
        servers.router.announced(2, 5, 0)
        assert servers.router.leader == 0
        await servers.quiet()
        assert not task.done()
        await servers.skip(REPLICATION_TIMEOUT)
        assert task.done()
        with pytest.raises(OutcomeUnknown):
            await task

    run(test)


def test_a_step_down_with_a_successor_does_not() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task, sent = await servers.asked_to_write()
        servers.router.announced(2, 5, 0)
        servers.elect(2, 6)
        _, asked = await servers.next()
        assert (asked.op, asked.cursor) == (Op.OUTCOME, sent.id)
        servers.answer(asked, Status.DONE)
        await task

    run(test)


def test_what_a_follower_does_not_know_deposes_nobody() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        servers.router.announced(3, 5, 0)
        servers.router.announced(3, 4, 3)
        assert (servers.router.leader, servers.router.term) == (2, 5)

    run(test)


def test_a_candidate_heard_after_its_voters_has_not_stepped_down() -> None:
    """Found by simulation, seed 13: its news takes longer than that of those who elected it."""

    async def test(servers: Servers) -> None:
        servers.router.announced(3, 5, 2, Role.FOLLOWER)
        servers.router.announced(2, 5, 0, Role.CANDIDATE)
        servers.router.announced(2, 5, 2, Role.LEADER)
        assert (servers.router.leader, servers.router.term) == (2, 5)
        servers.router.announced(2, 5, 0, Role.PRE_CANDIDATE)
        assert servers.router.leader == 0

    run(test)


def test_a_term_without_a_leader_leaves_no_trace() -> None:
    """Found by simulation, seed 117: candidates lost terms 6 and 7 with their power."""

    async def test(servers: Servers) -> None:
        servers.elect(2, 4)
        servers.router.announced(3, 6, 0, Role.CANDIDATE)
        servers.router.announced(1, 7, 0, Role.CANDIDATE)
        assert (servers.router.leader, servers.router.term) == (2, 4)
        servers.kill(2)
        servers.router.announced(3, 5, 3, Role.LEADER)
        assert (servers.router.leader, servers.router.term) == (3, 5)

    run(test)


def test_who_led_and_is_in_a_later_term_leads_no_more() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 4)
        servers.router.announced(2, 6, 0, Role.CANDIDATE)
        assert servers.router.leader == 0
        servers.router.announced(3, 4, 2, Role.FOLLOWER)  # old news
        assert servers.router.leader == 0
        servers.router.announced(3, 5, 3, Role.LEADER)
        assert (servers.router.leader, servers.router.term) == (3, 5)

    run(test)


def test_a_refusal_from_a_later_term_does_not_hide_the_next_leader() -> None:
    """The later term may have been lost since; who refused will not lead the one before."""

    async def test(servers: Servers) -> None:
        servers.elect(2, 4)
        task, sent = await servers.asked_to_write()
        servers.answer(sent, Status.NOT_LEADER, 7)
        await servers.quiet()
        servers.router.announced(3, 4, 2, Role.FOLLOWER)  # old news
        await servers.quiet()
        assert servers.arrived.empty()
        servers.router.announced(3, 5, 3, Role.LEADER)
        to, again = await servers.next()
        assert to == 3
        servers.answer(again, Status.DONE)
        await task

    run(test)


# --- Explicit transactions ------------------------------------------------------------------------


def test_a_commit_is_resolved_and_never_sent_again() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        request = Request(servers.router.new_id(), Op.COMMIT, tx=1)
        task = asyncio.create_task(servers.router.commit(request, 2, 5))
        _, sent = await servers.next()
        assert sent.term == 5
        servers.kill(2)
        servers.elect(3, 6)
        _, asked = await servers.next()
        assert (asked.op, asked.cursor, asked.query) == (Op.OUTCOME, request.id, b"")
        servers.answer(asked, Status.ABSENT)
        assert (await task).status is Status.ABSENT

    run(test)


def test_a_commit_to_a_server_that_is_gone_is_resolved_too() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        servers.kill(2)
        request = Request(servers.router.new_id(), Op.COMMIT, tx=1)
        task = asyncio.create_task(servers.router.commit(request, 2, 5))
        await servers.quiet()
        servers.elect(3, 6)
        _, asked = await servers.next()
        servers.answer(asked, Status.ABSENT)
        assert (await task).status is Status.ABSENT

    run(test)


def test_begin_is_tried_again_because_it_does_nothing() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        request = Request(servers.router.new_id(), Op.BEGIN)
        task = asyncio.create_task(servers.router.begin(request))
        await servers.next()
        servers.kill(2)
        servers.elect(3, 6)
        to, sent = await servers.next()
        assert (to, sent.op, sent.id, sent.term) == (3, Op.BEGIN, request.id, 6)
        servers.answer(sent, Status.DONE)
        _, server, term = await task
        assert (server, term) == (3, 6)

    run(test)


# --- Reads ----------------------------------------------------------------------------------------


def read_request(servers: Servers) -> Request:
    return Request(servers.router.new_id(), Op.RUN, read=True, query=b"RETURN 1")


def test_a_read_is_answered_at_home_without_any_leader() -> None:
    async def test(servers: Servers) -> None:
        task = asyncio.create_task(servers.router.read(read_request(servers)))
        to, sent = await servers.next()
        assert to == 1
        servers.answer(sent, Status.DONE)
        assert (await task)[1] == 1

    run(test)


def test_a_read_goes_to_another_server_when_its_server_is_lost() -> None:
    async def test(servers: Servers) -> None:
        task = asyncio.create_task(servers.router.read(read_request(servers)))
        to, first = await servers.next()
        servers.kill(to)
        to, again = await servers.next()
        assert (to != 1, again.id) == (True, first.id)
        servers.kill(to)
        last, again = await servers.next()
        assert {1, to, last} == {1, 2, 3}
        servers.answer(again, Status.DONE)
        assert (await task)[1] == last

    run(test)


def test_a_read_is_not_disturbed_by_an_election() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = asyncio.create_task(servers.router.read(read_request(servers)))
        _, sent = await servers.next()
        servers.elect(3, 6)
        servers.router.announced(3, 6, 0)
        await servers.skip(REPLICATION_TIMEOUT)
        assert not task.done()
        servers.answer(sent, Status.DONE)
        await task

    run(test)


def test_reads_without_any_server_end() -> None:
    async def test(servers: Servers) -> None:
        for server_id in (1, 2, 3):
            servers.kill(server_id)
        task = asyncio.create_task(servers.router.read(read_request(servers)))
        await servers.skip(REPLICATION_TIMEOUT)
        assert task.done()
        with pytest.raises(NotLeader, match="No server"):
            await task

    run(test)


def test_tell_asks_one_server_only() -> None:
    async def test(servers: Servers) -> None:
        pull = Request(servers.router.new_id(), Op.PULL, cursor=3)
        task = asyncio.create_task(servers.router.tell(pull, 3))
        to, _ = await servers.next()
        assert to == 3
        servers.kill(3)
        with pytest.raises(ServerLost):
            await task
        with pytest.raises(ServerLost):
            await servers.router.tell(pull, 3)
        task = asyncio.create_task(servers.router.tell(pull, 2, timeout=5.0))
        await servers.next()
        await servers.skip(5.0)
        assert task.done()
        with pytest.raises(TimeoutError):
            await task

    run(test)


# --- Messages -------------------------------------------------------------------------------------


def test_requests_that_wait_together_travel_together() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        tasks = [asyncio.create_task(servers.router.write(servers.write())) for _ in range(50)]
        sent = [await servers.next() for _ in tasks]
        assert [len(requests) for _, requests in servers.messages] == [50]
        assert [request.id for _, request in sent] == list(range(1, 51))
        for _, request in reversed(sent):
            servers.answer(request, Status.DONE, request.id)
        assert [(await task)[0].index for task in tasks] == list(range(1, 51))

    run(test)


def test_a_message_is_bounded_in_requests_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_REQUESTS_MAX", 4)

    async def test(servers: Servers) -> None:
        sizes = [0] * 9 + [MESSAGE_BYTES_MAX // 2] * 3 + [MESSAGE_BYTES_MAX + 1, 0]
        requests = [
            Request(servers.router.new_id(), Op.RUN, parameters=bytes(size)) for size in sizes
        ]
        tasks = [asyncio.create_task(servers.router.tell(r, 3)) for r in requests]
        sent = [(await servers.next())[1] for _ in tasks]
        assert sent == requests
        assert [len(batch) for _, batch in servers.messages] == [4, 4, 3, 1, 1, 1]
        for request in sent:
            servers.answer(request, Status.DONE)
        await asyncio.gather(*tasks)

    run(test)


def test_a_late_answer_is_ignored() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task, sent = await servers.asked_to_write()
        servers.answer(sent, Status.DONE, 1)
        servers.answer(sent, Status.DONE, 2)
        assert (await task)[0].index == 1
        servers.answer(sent, Status.DONE, 3)

    run(test)


# --- Ids and lives --------------------------------------------------------------------------------


def test_ids_below_the_oldest_open_one_are_acknowledged() -> None:
    async def test(servers: Servers) -> None:
        ids = [servers.router.new_id() for _ in range(4)]
        assert ids == sorted(set(ids))
        assert servers.router.acknowledged() == ids[0]
        servers.router.finish(ids[1])
        assert servers.router.acknowledged() == ids[0]
        servers.router.finish(ids[0])
        assert servers.router.acknowledged() == ids[2]
        assert servers.router.new_id() > ids[3]

    run(test)


def test_requests_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTSTANDING_REQUESTS_MAX", 2)

    async def test(servers: Servers) -> None:
        first, _ = servers.router.new_id(), servers.router.new_id()
        with pytest.raises(Overloaded):
            servers.router.new_id()
        servers.router.finish(first)
        servers.router.new_id()

    run(test)


def test_a_new_life_takes_the_place_of_the_old() -> None:
    async def test(servers: Servers) -> None:
        old = servers.lives[3]
        task = asyncio.create_task(servers.router.tell(servers.write(), 3))
        await servers.next()
        servers.start(3, 2)
        with pytest.raises(ServerLost):
            await task
        assert not servers.router.meet(old)
        servers.router.lost(old)  # its watch ends late
        assert servers.router.alive(3)
        assert servers.router.servers() == [1, 2, 3]

    run(test)


def test_an_older_life_of_a_gateway_is_no_news() -> None:
    async def test(servers: Servers) -> None:
        old = Introduction("gateway", 2, 10, None, "host:1", key=77)
        new = Introduction("gateway", 2, 20, None, "host:2", key=78)
        assert servers.router.meet(new)
        assert not servers.router.meet(old)
        servers.router.lost(old)
        assert servers.router.gateways == {2: new}
        servers.router.lost(new)
        assert servers.router.gateways == {}

    run(test)
