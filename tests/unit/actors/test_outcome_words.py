"""What may have been done is never called "not done", whatever else went wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import limits
from actors.handle_door import HandleDoor
from actors.protocol import Op, Reply, Request, Status, decode_requests
from actors.router import Router
from actors.service import Executed, Item, QueryService
from actors.sessions import Cursor
from actors.transport import Introduction
from bolt.packer import Packer
from bolt.status import COMMIT_OUTCOME_UNKNOWN, retryable
from graph.engine import Engine, Transaction
from graph.store import IdAllocator, Root


def test_a_committed_write_whose_rows_are_lost_is_not_called_undone() -> None:
    """Found by simulation, seed 18: the next leader knows the outcome and has no rows."""

    async def ask() -> dict[str, Any]:
        router = Router(1, send, replication_timeout_s=1.0)
        router_of.append(router)
        router.meet(Introduction("server", 1, 1, None))
        router.announced(1, 1, 1)
        return await HandleDoor(router, lambda: 1).ask(
            "run", {"session": 1, "query": b"CREATE (n) RETURN n", "parameters": Packer().pack({})}
        )

    def send(_: Introduction, data: bytes) -> None:
        for request in decode_requests(data):
            code = COMMIT_OUTCOME_UNKNOWN.encode()
            reply = Reply(request.id, Status.FAILED, head=code, body=b"committed")
            reply.attempt = request.attempt
            router_of[0].replied([reply])

    router_of: list[Router] = []
    answer = asyncio.run(ask())
    assert answer["error"] == (COMMIT_OUTCOME_UNKNOWN, "committed", "unknown")


def executed_write(service: QueryService) -> Executed:
    root = Root.empty()
    transaction = Transaction(
        service.engine, root, IdAllocator(0, 0), read_only=False, **service.surroundings()
    )
    result = transaction.run(service.engine.prepare("UNWIND range(1, 9) AS i CREATE (n) RETURN i"))
    item = Item(1, Request(7, Op.RUN, count=1), 1e9, 0.0)
    return service.execute(item, result, 0.0)


def failure_of(reply: Reply) -> str:
    assert reply.status is Status.FAILED
    return reply.head.decode()


def test_a_committed_write_whose_cursor_finds_no_room_is_not_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "CURSORS_MAX", 0)
    service = QueryService(Engine(), lambda gateway, replies: None)
    code = failure_of(service.committed(executed_write(service), 3))
    assert code == COMMIT_OUTCOME_UNKNOWN
    assert not retryable(code)


def test_a_committed_write_whose_rows_have_no_form_is_not_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fetch(cursor: Cursor, count: int) -> tuple[bytes, int]:
        raise ValueError("no form in PackStream")

    monkeypatch.setattr(Cursor, "fetch", fetch)
    service = QueryService(Engine(), lambda gateway, replies: None)
    code = failure_of(service.committed(executed_write(service), 3))
    assert code == COMMIT_OUTCOME_UNKNOWN


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


def test_a_statement_whose_message_is_lost_ends_with_its_own_time_out() -> None:
    """Found by simulation, seed 13: it waited ten minutes, whatever its client had asked for."""
    loop = Loop()

    def send(_: Introduction, data: bytes) -> None:
        loop.call_soon(put_forward)

    def put_forward() -> None:
        loop.skipped += 2.0

    async def tell() -> None:
        router = Router(1, send, replication_timeout_s=1.0)
        router.meet(Introduction("server", 1, 1, None))
        request = Request(router.new_id(), Op.RUN, tx=5, timeout_ms=500)
        with pytest.raises(TimeoutError):
            await router.tell(request, 1)

    try:
        loop.run_until_complete(tell())
    finally:
        loop.close()
