"""SHOW RAFT INFO at a gateway whose server is away."""

from __future__ import annotations

import asyncio

import pytest

from actors import limits
from actors.bolt_session import _failure_of
from actors.errors import NotDone
from actors.information import gather_raft_info
from actors.router import Router
from actors.transport import Introduction
from bolt.status import DATABASE_UNAVAILABLE, retryable

SERVER = Introduction("server", 1, 1, None)


def silent_router() -> Router:
    return Router(1, lambda _server, _data: None, replication_timeout_s=1.0)


def test_a_server_that_is_not_there_can_be_asked_again() -> None:
    async def test() -> None:
        with pytest.raises(NotDone, match="Server 1") as caught:
            await gather_raft_info(silent_router())
        code, message = _failure_of(caught.value)
        assert (code, message) == (DATABASE_UNAVAILABLE, str(caught.value))
        assert retryable(code)

    asyncio.run(test())


def test_so_can_one_that_is_lost_while_it_is_asked() -> None:
    async def test() -> None:
        router = silent_router()
        router.meet(SERVER)
        asked = asyncio.ensure_future(gather_raft_info(router))
        await asyncio.sleep(0)
        router.lost(SERVER)
        with pytest.raises(NotDone):
            await asked

    asyncio.run(test())


def test_and_one_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORAGE_INFO_SECONDS_MAX", 0.0)

    async def test() -> None:
        router = silent_router()
        router.meet(SERVER)
        with pytest.raises(NotDone):
            await gather_raft_info(router)

    asyncio.run(test())
