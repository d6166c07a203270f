"""SHOW TRANSACTION OUTCOME in the gateway: its spelling, and asking until somebody answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from test_router import REPLICATION_TIMEOUT, Servers, run

from actors.errors import NotLeader, Overloaded
from actors.protocol import DIALECTS, Op, Status
from actors.statements import (
    RequestFailed,
    answer_statement,
    bookmark_index,
    checked_name,
    transaction_name,
)
from bolt import status as codes
from bolt.packer import Packer
from bolt.records import decode_records


def ask(servers: Servers, text: str, **parameters: Any) -> asyncio.Task[Any]:
    packed = Packer().pack(parameters) if parameters else b""
    return asyncio.create_task(
        answer_statement(servers.router, text.encode(), packed, DIALECTS[0], -1)
    )


@pytest.mark.parametrize(
    ("text", "parameters", "name", "since"),
    [
        ("SHOW TRANSACTION OUTCOME 'a'", {}, b"a", 0),
        (' show transaction\toutcome "it\'s" ;', {}, b"it's", 0),
        (r"SHOW TRANSACTION OUTCOME 'it\'s \\ all'", {}, rb"it's \ all", 0),
        ("SHOW TRANSACTION OUTCOME 'a' SINCE 'rayft:v1:12'", {}, b"a", 12),
        ("SHOW TRANSACTION OUTCOME $id", {"id": "b"}, b"b", 0),
        ("SHOW TRANSACTION OUTCOME $id since $then", {"id": "b", "then": "rayft:v1:7"}, b"b", 7),
    ],
)
def test_what_is_asked_of_the_leader(
    text: str, parameters: dict[str, Any], name: bytes, since: int
) -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = ask(servers, text, **parameters)
        to, sent = await servers.next()
        assert (to, sent.op, sent.name, sent.cursor, sent.term) == (2, Op.SETTLE, name, since, 5)
        servers.answer(sent, Status.DONE, 99)
        reply = await task
        assert decode_records(reply.body, DIALECTS[0]) == [
            [name.decode(), "committed", "rayft:v1:99"]
        ]

    run(test)


@pytest.mark.parametrize(
    ("status", "word"), [(Status.ABSENT, "not committed"), (Status.FORGOTTEN, "unknown")]
)
def test_the_other_two_answers(status: Status, word: str) -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = ask(servers, "SHOW TRANSACTION OUTCOME 'a'")
        _, sent = await servers.next()
        servers.answer(sent, status, 4)
        assert decode_records((await task).body, DIALECTS[0]) == [["a", word, None]]

    run(test)


def test_it_is_asked_again_when_the_leader_is_lost_or_deposed() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = ask(servers, "SHOW TRANSACTION OUTCOME 'a'")
        await servers.next()
        servers.kill(2)
        servers.elect(3, 6)
        to, sent = await servers.next()
        assert to == 3
        servers.answer(sent, Status.NOT_LEADER, 7)
        await servers.quiet()
        servers.elect(1, 7)
        to, sent = await servers.next()
        assert to == 1
        servers.answer(sent, Status.ABSENT)
        assert decode_records((await task).body, DIALECTS[0]) == [["a", "not committed", None]]

    run(test)


def test_nobody_answers_in_time() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = ask(servers, "SHOW TRANSACTION OUTCOME 'a'")
        await servers.next()
        await servers.skip(REPLICATION_TIMEOUT + 1.0)
        with pytest.raises(NotLeader, match="Ask again"):
            await task

    run(test)


def test_overload_is_said() -> None:
    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        task = ask(servers, "SHOW TRANSACTION OUTCOME 'a'")
        _, sent = await servers.next()
        servers.answer(sent, Status.OVERLOADED)
        with pytest.raises(Overloaded):
            await task

    run(test)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SHOW TRANSACTION OUTCOME", codes.STATEMENT_SYNTAX_ERROR),
        ("SHOW TRANSACTION OUTCOME a", codes.STATEMENT_SYNTAX_ERROR),
        ("SHOW TRANSACTION OUTCOME 'a' SINCE", codes.STATEMENT_SYNTAX_ERROR),
        ("SHOW TRANSACTION OUTCOME 'a' 'b'", codes.STATEMENT_SYNTAX_ERROR),
        ("SHOW TRANSACTION OUTCOME ''", codes.STATEMENT_ARGUMENT_ERROR),
        (f"SHOW TRANSACTION OUTCOME '{'x' * 129}'", codes.STATEMENT_ARGUMENT_ERROR),
        ("SHOW TRANSACTION OUTCOME 'a' SINCE 'FB:kcwQ'", codes.INVALID_BOOKMARK),
        ("SHOW TRANSACTION OUTCOME $id", "Neo.ClientError.Statement.ParameterMissing"),
    ],
)
def test_mistakes_are_named(text: str, code: str) -> None:
    async def test(servers: Servers) -> None:
        with pytest.raises(RequestFailed) as caught:
            await ask(servers, text)
        assert caught.value.code == code

    run(test)


@pytest.mark.parametrize("text", ["SHOW TRANSACTIONS", "MATCH (n) RETURN n", "SHOW INDEXES", ""])
def test_everything_else_is_cypher(text: str) -> None:
    async def test(servers: Servers) -> None:
        assert await ask(servers, text) is None

    run(test)


def test_names_in_transaction_metadata() -> None:
    assert transaction_name({}) == b""
    assert transaction_name({"tx_metadata": {"app": "x"}}) == b""
    assert transaction_name({"tx_metadata": None}) == b""
    assert transaction_name({"tx_metadata": {"rayft.transaction_id": "\N{SNOWMAN}"}}) == (
        "\N{SNOWMAN}".encode()
    )
    for wrong in ("", "x" * 129, 7, None, b"x", ["x"]):
        with pytest.raises(RequestFailed, match="1 to 128 bytes"):
            transaction_name({"tx_metadata": {"rayft.transaction_id": wrong}})
    assert checked_name("x" * 128) == b"x" * 128


def test_bookmarks() -> None:
    assert bookmark_index("rayft:v1:12") == 12
    for wrong in ("rayft:v1:", "rayft:v2:1", "rayft:v1:1 ", 12, None):
        with pytest.raises(RequestFailed):
            bookmark_index(wrong)


def test_bytes_under_way_in_a_gateway_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from actors import limits
    from actors.protocol import Request

    monkeypatch.setattr(limits, "OUTSTANDING_BYTES_MAX", 1_000)

    async def test(servers: Servers) -> None:
        servers.elect(2, 5)
        router = servers.router

        def write(size: int) -> asyncio.Task[Any]:
            request = Request(router.new_id(), Op.RUN, query=b"x" * size)
            return asyncio.create_task(router.write(request))

        first = write(5_000)  # one alone is always sent
        _, sent = await servers.next()
        second = write(1)
        with pytest.raises(Overloaded, match="5000 bytes under way"):
            await second
        servers.answer(sent, Status.DONE)
        await first
        third = write(900)
        _, sent = await servers.next()
        servers.answer(sent, Status.DONE)
        await third

    run(test)
