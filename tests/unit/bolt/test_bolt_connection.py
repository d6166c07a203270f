"""A connection from its first byte to its last."""

from __future__ import annotations

from typing import Any

import pytest
from bolt_values import (
    BEGIN,
    COMMIT,
    D5,
    GOODBYE,
    HELLO,
    LOGOFF,
    LOGON,
    RESET,
    ROLLBACK,
    connected,
    discard,
    message,
    opening,
    pull,
    ready,
    record,
    run,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bolt import (
    NEED_DATA,
    PAUSED,
    Begin,
    Commit,
    ConnectionClosed,
    Dialect,
    Discard,
    EncodingError,
    Failure,
    Goodbye,
    Handshake,
    HandshakeReply,
    Hello,
    Ignored,
    IgnoredRequest,
    LocalProtocolError,
    Logon,
    Pull,
    RemoteProtocolError,
    Request,
    Reset,
    Rollback,
    Route,
    Run,
    ServerConnection,
    States,
    Success,
    decode_messages,
    messages,
)
from bolt.framing import frame
from bolt.limits import AUTHENTICATED, STREAMS_MAX, UNAUTHENTICATED
from bolt.messages import RequestTag
from bolt.packer import pack

S = States


def expect_violation(connection: ServerConnection, match: str) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError, match=match) as caught:
        connection.next_event()
    assert connection.state is S.DEFUNCT
    assert connection.next_event() == ConnectionClosed(clean=False)
    return caught.value


def take(connection: ServerConnection, response: Any = None) -> Any:
    """The next event, answered with ``response`` (by default SUCCESS or, if due, IGNORED)."""
    event = connection.next_event()
    if response is None:
        response = Ignored() if isinstance(event, IgnoredRequest) else Success({})
    connection.send(response)
    return event


# --- a whole conversation in bytes ----------------------------------------------------------------

# (client, events, responses, server), as the specification's exchange examples, by hand.
CONVERSATION: list[tuple[str, Any, Any, str]] = [
    (
        "60 60 B0 17  00 00 04 05  00 00 04 04  00 00 00 00  00 00 00 00",
        Handshake((5, 4)),
        HandshakeReply(),
        "00 00 04 05",
    ),
    (
        # HELLO {"user_agent": "Example/5.4.0"}
        "00 1C B1 01 A1 8A 757365725F6167656E74 8D 4578616D706C652F352E342E30 00 00",
        Hello({"user_agent": "Example/5.4.0"}),
        Success({"server": "Neo4j/5.4.0"}),
        "00 16 B1 70 A1 86 736572766572 8B 4E656F346A2F352E342E30 00 00",
    ),
    (
        # LOGON {"scheme": "none"}
        "00 0F B1 6A A1 86 736368656D65 84 6E6F6E65 00 00",
        Logon({"scheme": "none"}),
        Success({}),
        "00 03 B1 70 A0 00 00",
    ),
    (
        # RUN "RETURN $x AS example" {"x": 123} {"mode": "r"}
        "00 24 B3 10 D0 14 52455455524E202478204153206578616D706C65"
        "A1 81 78 7B A1 84 6D6F6465 81 72 00 00",
        Run("RETURN $x AS example", b"\xa1\x81x\x7b", {"mode": "r"}),
        Success({"fields": ["example"]}),
        "00 13 B1 70 A1 86 6669656C6473 91 87 6578616D706C65 00 00",
    ),
    (
        # PULL {"n": 1000}
        "00 08 B1 3F A1 81 6E C9 03 E8 00 00",
        Pull(1000),
        Success({"type": "r"}),
        "00 0A B1 70 A1 84 74797065 81 72 00 00",
    ),
    ("00 02 B0 02 00 00", Goodbye(), None, ""),
]


def converse(cut: int) -> None:
    connection = ServerConnection()
    for client, event, response, server in CONVERSATION:
        data = bytes.fromhex(client)
        for at in range(0, len(data), cut):
            assert connection.next_event() is NEED_DATA
            connection.receive_data(data[at : at + cut])
        assert connection.next_event() == event
        if response is not None:
            assert connection.next_event() is PAUSED
            assert connection.send(response).hex() == bytes.fromhex(server).hex()
    assert connection.state is S.DEFUNCT


def test_conversation() -> None:
    converse(cut=1 << 20)


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_conversation_in_drops(cut: int) -> None:
    converse(cut)


def test_conversation_in_one_packet() -> None:
    connection = ServerConnection()
    connection.receive_data(b"".join(bytes.fromhex(client) for client, *_ in CONVERSATION))
    for _, event, response, server in CONVERSATION:
        assert connection.next_event() == event
        if response is not None:
            assert connection.send(response) == bytes.fromhex(server)


# --- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(4, 3), (4, 4), (5, 0)])
def test_credentials_in_hello(version: tuple[int, int]) -> None:
    connection = connected(version)
    auth = {"scheme": "basic", "principal": "neo4j", "credentials": "secret"}
    connection.receive_data(message(RequestTag.HELLO, {"user_agent": "x/1", **auth}))
    hello = connection.next_event()
    assert hello == Hello({"user_agent": "x/1"}, auth)
    assert "secret" not in repr(hello)
    connection.send(Success({}))
    assert connection.state is S.READY


def test_credentials_in_logon() -> None:
    connection = connected()
    connection.receive_data(HELLO + message(RequestTag.LOGON, {"credentials": "secret"}))
    assert take(connection) == Hello({"user_agent": "test/1.0"})
    assert connection.state is S.AUTHENTICATION
    logon = connection.next_event()
    assert logon == Logon({"credentials": "secret"})
    assert "secret" not in repr(logon)


@pytest.mark.parametrize(
    ("version", "patches", "dialect", "reply"),
    [
        ((5, 4), ["utc"], Dialect(True, True), {}),
        ((4, 4), ["utc", "other"], Dialect(False, True), {"patch_bolt": ["utc"]}),
        ((4, 3), ["utc"], Dialect(False, True), {"patch_bolt": ["utc"]}),
        ((4, 4), ["other"], Dialect(False, False), {}),
        ((4, 4), None, Dialect(False, False), {}),
        ((4, 4), 7, Dialect(False, False), {}),
    ],
)
def test_utc_patch(version: Any, patches: Any, dialect: Dialect, reply: dict[str, Any]) -> None:
    connection = connected(version)
    connection.receive_data(message(RequestTag.HELLO, {"patch_bolt": patches}))
    connection.next_event()
    [response] = decode_messages(connection.send(Success({"server": "Neo4j/5"})), dialect)
    assert response == Success({"server": "Neo4j/5", **reply})
    assert connection.dialect == dialect


def test_route() -> None:
    context, marks = {"address": "a:1"}, ["b:1"]
    for version, last, expected in [
        ((5, 4), {"db": "d", "imp_user": "u"}, Route(context, marks, "d", "u")),
        ((4, 4), {}, Route(context, marks)),
        ((5, 0), None, Route(context, marks)),
        ((4, 3), "d", Route(context, marks, "d")),
        ((4, 3), None, Route(context, marks)),
    ]:
        connection = ready(version)
        connection.receive_data(message(RequestTag.ROUTE, context, marks, last))
        assert connection.next_event() == expected


def test_no_common_version() -> None:
    connection = ServerConnection()
    connection.receive_data(opening((5, 5), (3, 0)))
    error = expect_violation(connection, "no version")
    assert error.farewell == b"\0\0\0\0"
    assert connection.version is None


def test_preference() -> None:
    connection = ServerConnection(preference=[(4, 4)])
    connection.receive_data(opening((5, 4), (4, 4)))
    assert connection.next_event() == Handshake((4, 4))
    assert connection.version == (4, 4)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 20]
)
def test_strangers(data: bytes) -> None:
    connection = ServerConnection()
    connection.receive_data(data)
    connection.receive_data(b"more")
    assert expect_violation(connection, "Bolt identification").farewell == b""
    with pytest.raises(LocalProtocolError):
        _ = connection.dialect


# --- answers that do not fit ----------------------------------------------------------------------


def test_nothing_to_answer() -> None:
    connection = ready()
    for response in (Success({}), Failure("c", "m"), Ignored(), HandshakeReply()):
        with pytest.raises(LocalProtocolError, match="no request"):
            connection.send(response)


def test_answers_to_the_wrong_thing() -> None:
    connection = ServerConnection()
    connection.receive_data(opening((5, 4)))
    connection.next_event()
    with pytest.raises(LocalProtocolError, match="no answer to a handshake"):
        connection.send(Success({}))
    connection.send(HandshakeReply())
    connection.receive_data(HELLO)
    connection.next_event()
    for response in (HandshakeReply(), Ignored()):
        with pytest.raises(LocalProtocolError, match="no answer to HELLO"):
            connection.send(response)
    with pytest.raises(LocalProtocolError, match="could have more"):
        connection.send(Success({"has_more": True}))
    assert connection.next_event() is PAUSED
    connection.send(Success({}))


def test_ignored_request_wants_ignored() -> None:
    connection = ready()
    connection.receive_data(run() + pull())
    take(connection, Failure("c", "m"))
    assert connection.next_event() == IgnoredRequest(RequestTag.PULL)
    with pytest.raises(LocalProtocolError, match="ignored PULL"):
        connection.send(Success({}))
    connection.send(Ignored())


def test_metadata_that_cannot_be_sent() -> None:
    connection = ready()
    connection.receive_data(run())
    connection.next_event()
    with pytest.raises(EncodingError):
        connection.send(Success({"fields": object()}))
    connection.send(Failure("c", "m"))
    assert connection.state is S.FAILED


def test_records_belong_to_pull() -> None:
    connection = ready()
    with pytest.raises(LocalProtocolError):
        connection.records_written()
    connection.receive_data(run() + discard(1) + pull())
    connection.next_event()
    with pytest.raises(LocalProtocolError):
        connection.records_written()
    connection.send(Success({}))
    connection.next_event()
    with pytest.raises(LocalProtocolError):
        connection.records_written()
    connection.send(Success({"has_more": True}))
    connection.next_event()
    connection.records_written()
    connection.records_written()
    connection.send(Success({}))


# --- failures -------------------------------------------------------------------------------------


def test_failure_ignores_until_reset() -> None:
    connection = ready()
    connection.receive_data(BEGIN + run() + pull() + COMMIT)
    take(connection)
    take(connection, Failure("Neo.ClientError.Statement.SyntaxError", "no"))
    assert connection.state is S.FAILED
    assert take(connection) == IgnoredRequest(RequestTag.PULL)
    assert take(connection) == IgnoredRequest(RequestTag.COMMIT)
    connection.receive_data(RESET + run())
    assert take(connection) == Reset()
    assert connection.state is S.READY
    assert isinstance(connection.next_event(), Run)


def test_a_malformed_request_is_ignored_after_a_failure() -> None:
    connection = ready()
    connection.receive_data(run())
    take(connection, Failure("c", "m"))
    connection.receive_data(message(RequestTag.PULL))
    assert take(connection) == IgnoredRequest(RequestTag.PULL)
    connection.receive_data(message(0x33))
    expect_violation(connection, "no request with tag 33")


def test_refused_hello_and_logon_end_the_connection() -> None:
    for data in (HELLO, HELLO + LOGON):
        connection = connected()
        connection.receive_data(data + run())
        if data is not HELLO:
            take(connection)
        take(connection, Failure("Neo.ClientError.Security.Unauthorized", "no"))
        assert connection.state is S.DEFUNCT
        assert isinstance(connection.next_event(), ConnectionClosed)
        connection.receive_data(run())
        assert isinstance(connection.next_event(), ConnectionClosed)


# --- RESET ----------------------------------------------------------------------------------------


def test_reset_overtakes() -> None:
    connection = ready()
    connection.receive_data(BEGIN + run("a") + pull() + run("b"))
    assert isinstance(take(connection), Begin)
    assert isinstance(connection.next_event(), Run)
    assert not connection.interrupt_pending
    connection.receive_data(RESET[:3])
    assert not connection.interrupt_pending
    connection.receive_data(RESET[3:] + run("c"))
    assert connection.interrupt_pending
    assert connection.peek() is None
    connection.send(Ignored())
    assert connection.state is S.INTERRUPTED
    assert take(connection) == IgnoredRequest(RequestTag.PULL)
    assert take(connection) == IgnoredRequest(RequestTag.RUN)
    assert connection.interrupt_pending
    assert connection.next_event() == Reset()
    assert not connection.interrupt_pending
    with pytest.raises(LocalProtocolError):
        connection.send(Ignored())
    connection.send(Success({}))
    assert connection.state is S.READY
    assert take(connection) == Run("c", b"\xa0", {})


@pytest.mark.parametrize("response", [Success({}), Failure("c", "m"), Ignored()])
def test_whatever_the_answer_reset_interrupts(response: Any) -> None:
    connection = ready()
    connection.receive_data(run() + RESET)
    # The RESET came first: nothing was in progress, so the RUN is ignored.
    assert take(connection) == IgnoredRequest(RequestTag.RUN)
    take(connection)
    connection.receive_data(run())
    connection.next_event()
    connection.receive_data(RESET)
    assert connection.state is S.READY
    connection.send(response)
    assert connection.state is S.INTERRUPTED
    assert take(connection) == Reset()
    assert connection.state is S.READY


def test_several_resets() -> None:
    connection = ready()
    connection.receive_data(run() + RESET + pull() + RESET)
    assert take(connection) == IgnoredRequest(RequestTag.RUN)
    assert take(connection) == Reset()
    assert connection.state is S.INTERRUPTED
    assert take(connection) == IgnoredRequest(RequestTag.PULL)
    assert take(connection) == Reset()
    assert connection.state is S.READY


def test_reset_waits_for_authentication() -> None:
    connection = connected()
    connection.receive_data(HELLO + LOGON + RESET)
    assert isinstance(take(connection), Hello)
    assert connection.state is S.AUTHENTICATION
    assert isinstance(take(connection), Logon)
    assert connection.state is S.INTERRUPTED
    assert take(connection) == Reset()
    assert connection.state is S.READY


def test_reset_does_not_spare_an_authentication() -> None:
    """HELLO and LOGON are answered for good, though a RESET waits behind them."""
    connection = connected()
    connection.receive_data(HELLO + LOGON + RESET)
    for tag in ("HELLO", "LOGON"):
        connection.next_event()
        assert connection.interrupt_pending
        with pytest.raises(LocalProtocolError, match=f"no answer to {tag}"):
            connection.send(Ignored())
        connection.send(Success({}))
    assert connection.state is S.INTERRUPTED


def test_reset_does_not_log_on() -> None:
    """RESET leads to READY, but never past an authentication that is due."""
    connection = ready()
    connection.receive_data(LOGOFF)
    connection.next_event()
    connection.receive_data(RESET)
    connection.send(Success({}))
    assert connection.state is S.AUTHENTICATION
    expect_violation(connection, "RESET is not allowed in state AUTHENTICATION")

    connection = connected()
    connection.receive_data(RESET)
    expect_violation(connection, "RESET is not allowed in state NEGOTIATION")


def test_failed_reset_ends_the_connection() -> None:
    connection = ready()
    connection.receive_data(RESET)
    take(connection, Failure("c", "m"))
    assert connection.state is S.DEFUNCT


# --- results in a transaction ---------------------------------------------------------------------


def test_several_results() -> None:
    connection = ready()
    connection.receive_data(BEGIN + run("a") + run("b"))
    take(connection)
    for qid in (0, 1):
        event = connection.next_event()
        assert isinstance(event, Run)
        assert event.qid == qid
        [response] = decode_messages(connection.send(Success({"fields": []})), D5)
        assert response == Success({"fields": [], "qid": qid})
    connection.receive_data(pull(10) + pull(10, qid=0) + discard(qid=0) + run("c") + pull(5))
    assert take(connection) == Pull(10, 1)
    assert connection.state is S.TX_STREAMING
    assert take(connection, Success({"has_more": True})) == Pull(10, 0)
    assert take(connection) == Discard(-1, 0)
    assert connection.state is S.TX_READY
    assert take(connection).qid == 2
    assert take(connection) == Pull(5, 2)
    connection.receive_data(COMMIT + BEGIN + run())
    assert take(connection) == Commit()
    take(connection)
    assert take(connection).qid == 0


@pytest.mark.parametrize("data", [pull(qid=5), discard(qid=5), pull(qid=0), pull()])
def test_results_that_are_not_open(data: bytes) -> None:
    connection = ready()
    connection.receive_data(BEGIN + run("a") + run("b") + pull(qid=0) + pull() + run("c"))
    for _ in range(6):
        take(connection)
    if data == pull():
        connection.receive_data(run("d") + pull())
        take(connection)
        take(connection)
    connection.receive_data(data)
    expect_violation(connection, "no open result")


def test_auto_commit_has_one_result() -> None:
    for data, legal in ((pull(), True), (pull(qid=0), True), (pull(qid=1), False)):
        connection = ready()
        connection.receive_data(run() + data)
        assert take(connection).qid == -1
        if legal:
            assert take(connection) == Pull(-1, -1)
        else:
            expect_violation(connection, "qid 1")


def test_too_many_results() -> None:
    connection = ready()
    connection.receive_data(BEGIN)
    take(connection)
    for _ in range(STREAMS_MAX):
        connection.receive_data(run())
        take(connection)
    connection.receive_data(run())
    expect_violation(connection, "results open")


def test_rollback_and_reset_close_results() -> None:
    connection = ready()
    connection.receive_data(BEGIN + run() + pull())
    for _ in range(3):
        take(connection)
    connection.receive_data(ROLLBACK + BEGIN + run())
    assert take(connection) == Rollback()
    take(connection)
    assert take(connection).qid == 0
    connection.receive_data(RESET)
    take(connection)
    connection.receive_data(BEGIN + run())
    take(connection)
    assert take(connection).qid == 0
    connection.receive_data(pull())
    assert take(connection) == Pull(-1, 0)
    assert connection.state is S.TX_READY


# --- looking ahead --------------------------------------------------------------------------------


def test_peek() -> None:
    connection = ready()
    assert connection.peek() is None
    connection.receive_data(BEGIN + run("a") + pull() + message(RequestTag.PULL))
    assert connection.peek() == Begin({})
    assert connection.peek(1) == Run("a", b"\xa0", {})
    assert connection.peek(2) == Pull(-1)
    assert connection.peek(3) is None
    assert connection.peek(4) is None
    assert connection.peek(-1) is None
    take(connection)
    assert connection.peek() == Run("a", b"\xa0", {})
    assert take(connection) == Run("a", b"\xa0", {}, qid=0)
    assert take(connection) == Pull(-1, 0)
    expect_violation(connection, "PULL")


def test_peek_before_the_handshake() -> None:
    assert ServerConnection().peek() is None


# --- malformed requests ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pack("no structure"),
        b"\xb0",
        b"\xb0\x99",
        b"\xb0\x10",
        b"\xb3\x10" + pack(1) + pack({}) + pack({}),
        b"\xb3\x10" + pack("q") + pack([]) + pack({}),
        b"\xb3\x10" + pack("q") + pack({}) + pack([]),
        b"\xb3\x10" + pack("q") + pack({}) + pack({}) + b"\x01",
        b"\xb3\x10" + pack("q") + b"\xa1\x81\xff\x01" + pack({}),
        b"\xb3\x10" + pack("q") + b"\xa1\x81a\xd6\xff\xff\xff\xff" + pack({}),
        b"\xb3\x10" + pack("q") + b"\xa1\x81a" + b"\x91" * 1000 + b"\x01" + pack({}),
        b"\xb2\x10" + pack("q") + pack({}),
        b"\xb1\x3f" + pack({}),
        b"\xb1\x3f" + pack({"n": 0}),
        b"\xb1\x3f" + pack({"n": -2}),
        b"\xb1\x3f" + pack({"n": True}),
        b"\xb1\x3f" + pack({"n": 1.0}),
        b"\xb1\x3f" + pack({"n": 1, "qid": -2}),
        b"\xb1\x3f" + pack({"n": 1, "qid": "0"}),
        b"\xb1\x3f" + pack([1]),
        b"\xb0\x3f",
        b"\xb1\x12\x01",
        b"\xb1\x0f\x01",
        b"\xb1\x11\x01",
        b"\xb1\x54" + pack("1"),
        b"\xb3\x66" + pack([]) + pack([]) + pack({}),
        b"\xb3\x66" + pack({}) + pack([1]) + pack({}),
        b"\xb3\x66" + pack({}) + pack({}) + pack({}),
        b"\xb3\x66" + pack({}) + pack([]) + pack("db"),
        b"\xb3\x66" + pack({}) + pack([]) + pack({"db": 1}),
        b"\xb3\x66" + pack({}) + pack([]) + pack({"imp_user": 1}),
    ],
)
def test_malformed(body: bytes) -> None:
    connection = ready()
    if body[1:2] == b"\x3f":
        connection.receive_data(run())
        take(connection)
    connection.receive_data(frame(body))
    error = expect_violation(connection, ".")
    [farewell] = decode_messages(error.farewell, D5)
    assert isinstance(farewell, Failure)
    assert farewell.code == error.code
    assert error.code.startswith("Neo.ClientError.Request.Invalid")


def test_valid_requests_before_a_violation_are_answered() -> None:
    connection = ready()
    connection.receive_data(run() + pull() + b"\xff\xff" + b"x" * 10)
    chunk = b"\xff\xff" + b"x" * 0xFFFF
    connection.receive_data(b"x" * (0xFFFF - 10))
    for _ in range(AUTHENTICATED.message_bytes_max // 0xFFFF + 1):
        connection.receive_data(chunk)
    assert isinstance(take(connection), Run)
    assert isinstance(take(connection), Pull)
    expect_violation(connection, "limit of 16777216 bytes")


# --- limits ---------------------------------------------------------------------------------------


def test_a_stranger_has_little_room() -> None:
    connection = connected()
    connection.receive_data(b"\xff\xff")
    expect_violation(connection, "limit of 8192 bytes")

    connection = connected()
    connection.receive_data(message(RequestTag.HELLO, {"a": [[[1]]]}))
    expect_violation(connection, "nested too deeply")

    connection = connected()
    connection.receive_data(message(RequestTag.HELLO, {f"k{i}": i for i in range(64)}))
    expect_violation(connection, "64 elements")


@pytest.mark.parametrize("version", [(5, 4), (5, 0), (4, 3)])
def test_a_friend_has_room(version: tuple[int, int]) -> None:
    connection = ready(version)
    parameters = {"rows": [[i, {"v": [i]}] for i in range(10_000)]}
    connection.receive_data(run("q", parameters))
    assert take(connection).parameters == pack(parameters)


def test_room_stays_after_logoff() -> None:
    connection = ready()
    connection.receive_data(LOGOFF)
    take(connection)
    connection.receive_data(LOGON + run("q", {"x": "y" * 100_000}))
    take(connection)
    assert isinstance(take(connection), Run)


def test_queue_is_bounded() -> None:
    connection = connected()
    connection.receive_data(message(RequestTag.RESET) * 10)
    while not connection.queue_full:
        connection.receive_data(run() * 10)
    assert len(connection._queue) * len(run()) < 2 * UNAUTHENTICATED.queue_bytes_max
    with pytest.raises(LocalProtocolError, match="queue is full"):
        connection.receive_data(run())

    connection = ready()
    batch = run("q", {"x": "y" * (1 << 20)})
    while not connection.queue_full:
        connection.receive_data(batch)
    for event in iter(connection.next_event, NEED_DATA):
        assert isinstance(event, Run)
        connection.send(Failure("c", "m"))
        break
    while connection.next_event() is not NEED_DATA:
        connection.send(Ignored())
    assert not connection.queue_full
    assert connection._queued_bytes == 0


# --- the end --------------------------------------------------------------------------------------


def test_goodbye() -> None:
    connection = ready()
    connection.receive_data(run())
    connection.next_event()
    assert not connection.peer_gone
    connection.receive_data(GOODBYE + run())
    assert connection.peer_gone
    connection.send(Success({}))
    assert connection.next_event() == Goodbye()
    assert connection.next_event() == ConnectionClosed(clean=True)
    with pytest.raises(LocalProtocolError):
        connection.send(Success({}))


def test_half_closed() -> None:
    """A client may close its side behind its last request and still wants the answers."""
    connection = ready()
    connection.receive_data(run() + pull())
    connection.receive_data(b"")
    assert connection.peer_gone
    assert isinstance(take(connection), Run)
    assert isinstance(take(connection), Pull)
    assert connection.next_event() == ConnectionClosed(clean=True)
    assert connection.next_event() == ConnectionClosed(clean=True)
    with pytest.raises(LocalProtocolError, match="after the end"):
        connection.receive_data(run())


@pytest.mark.parametrize("size", range(1, len(run())))
def test_closed_in_mid_message(size: int) -> None:
    connection = ready()
    connection.receive_data(run()[:size])
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed(clean=size >= len(run()))


def test_closed_in_the_handshake() -> None:
    for size in (0, 3, 10):
        connection = ServerConnection()
        if size:
            connection.receive_data(opening((5, 4))[:size])
        connection.receive_data(b"")
        assert connection.next_event() == ConnectionClosed(clean=size == 0)


# --- anything at all ------------------------------------------------------------------------------


def drive(connection: ServerConnection, succeed: Any) -> list[Any]:
    """Answer what comes, as ``succeed()`` decides; the events, and the error at the end if any."""
    events: list[Any] = []
    while True:
        try:
            event = connection.next_event()
        except RemoteProtocolError as error:
            return [*events, str(error)]
        if event is NEED_DATA or isinstance(event, ConnectionClosed):
            return events
        events.append(event)
        if isinstance(event, Handshake):
            connection.send(HandshakeReply())
        elif isinstance(event, IgnoredRequest):
            connection.send(Ignored())
        elif not isinstance(event, Goodbye):
            more = isinstance(event, Pull | Discard) and event.n > 0
            success = Success({"has_more": True} if more else {})
            connection.send(success if succeed() else Failure("c", "m"))


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    for prefix in (b"", opening((5, 4)), opening((4, 4)) + HELLO):
        connection = ServerConnection()
        connection.receive_data(prefix + data)
        drive(connection, lambda: True)


PIECES = [HELLO, LOGON, LOGOFF, RESET, BEGIN, COMMIT, ROLLBACK, run(), pull(), pull(2), discard()]
PIECES += [GOODBYE, b"\0\0", frame(b"\xb0\x7e"), record(1)]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.data())
def test_any_requests(pieces: list[bytes], data: st.DataObject) -> None:
    """Whatever a client asks: no error but the declared one, and READY only with authentication."""
    stream = HELLO + LOGON + b"".join(pieces)
    connection = connected()
    logged_on = False
    answered = data.draw(st.lists(st.booleans(), min_size=40, max_size=40))
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream)))
        connection.receive_data(stream[at : at + size])
        at += size
        for event in drive(connection, lambda: answered.pop() if answered else True):
            if isinstance(event, Logon):
                logged_on = True
            assert logged_on or isinstance(event, Hello | Goodbye | str)
        if connection.state is S.DEFUNCT:
            break


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_dripping_changes_nothing(pieces: list[bytes]) -> None:
    """Without RESET, whose arrival is an event in itself, packets make no difference."""
    stream = HELLO + LOGON + b"".join(piece for piece in pieces if piece != RESET)
    whole, dripped = connected(), connected()
    whole.receive_data(stream)
    expected: list[Request | str] = drive(whole, lambda: True)
    got: list[Request | str] = []
    for i in range(len(stream)):
        dripped.receive_data(stream[i : i + 1])
        got += drive(dripped, lambda: True)
        if dripped.state is S.DEFUNCT:
            break
    assert got == expected


def test_remembered_requests_are_bounded_and_small() -> None:
    connection = ready()
    connection.receive_data(run())
    take(connection)
    for n in range(1, 1000):
        connection.receive_data(pull(n))
        assert take(connection, Success({"has_more": True})) == Pull(n)
    connection.receive_data(message(RequestTag.PULL, {"n": 1, "surplus": "x" * 100}))
    assert take(connection, Success({"has_more": True})) == Pull(1)
    assert len(messages._SMALL) <= messages._SMALL_COUNT_MAX
    assert max(map(len, messages._SMALL)) <= messages._SMALL_BYTES
