"""Replies to a gateway that knows this server before this server knows it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from actors import transport
from actors.protocol import Reply, Status, decode_replies
from actors.transport import Introduction, Transport

KEY = 77


class Gateway:
    """A gateway's handle, which keeps what is delivered."""

    def __init__(self) -> None:
        self.delivered: list[int] = []
        self.watch = self.deliver = self

    def remote(self, *arguments: Any) -> Any:
        if not arguments:
            return Future()
        self.delivered += [reply.id for reply in decode_replies(arguments[1])]
        return None


@pytest.fixture
def server() -> Transport:
    def nothing(*_: int) -> None:
        return

    return Transport(
        1,
        on_down=nothing,
        on_unreachable=nothing,
        on_gateway_down=nothing,
        on_gateway_back=nothing,
    )


def replies(*ids: int, body: bytes = b"") -> list[Reply]:
    return [Reply(i, Status.DONE, body=body) for i in ids]


def introduce(server: Transport) -> list[int]:
    """What a gateway has got, in order, when it is known."""
    handle = Gateway()
    server.meet(Introduction("gateway", 2, 1, handle, key=KEY))
    return handle.delivered


def test_they_are_sent_when_the_gateway_is_introduced(server: Transport) -> None:
    server.reply(KEY, replies(1, 2))
    server.reply(KEY + 1, replies(9))
    server.reply(KEY, replies(3))
    delivered = introduce(server)
    assert delivered == [1, 2, 3]
    server.reply(KEY, replies(4))
    assert delivered == [1, 2, 3, 4]


def test_they_are_bounded(server: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "EARLY_BYTES_MAX", 1_000)
    server.reply(KEY, replies(1, body=bytes(600)))
    server.reply(KEY, replies(2, body=bytes(600)))
    server.reply(KEY, replies(3, body=bytes(600)))
    assert introduce(server) == [3], "what was dropped makes room"


def test_they_are_not_kept_for_ever(server: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reply(KEY, replies(1))
    server._early.sweep()
    monkeypatch.setattr(transport, "EARLY_SECONDS", -1.0)
    server._early.sweep()
    assert introduce(server) == []
