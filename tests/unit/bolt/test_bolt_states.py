"""The table of states, pair by pair."""

from __future__ import annotations

import pytest
from bolt_values import (
    BEGIN,
    COMMIT,
    GOODBYE,
    HELLO,
    LOGOFF,
    LOGON,
    RESET,
    ROLLBACK,
    ROUTE,
    TELEMETRY,
    connected,
    discard,
    pull,
    ready,
    run,
)

from bolt import (
    PROTOCOLS,
    ConnectionClosed,
    Failure,
    Goodbye,
    Ignored,
    IgnoredRequest,
    RemoteProtocolError,
    ServerConnection,
    States,
    Success,
    decode_messages,
)
from bolt.messages import RequestTag
from bolt.states import IGNORING, INTERRUPTIBLE, initial, transition

S, R = States, RequestTag
BYTES = {
    R.HELLO: HELLO,
    R.LOGON: LOGON,
    R.LOGOFF: LOGOFF,
    R.GOODBYE: GOODBYE,
    R.RESET: RESET,
    R.RUN: run(),
    R.BEGIN: BEGIN,
    R.COMMIT: COMMIT,
    R.ROLLBACK: ROLLBACK,
    R.DISCARD: discard(),
    R.PULL: pull(),
    R.TELEMETRY: TELEMETRY,
    R.ROUTE: ROUTE,
}
# How to come to a state from READY.
WAYS: dict[States, list[bytes]] = {
    S.READY: [],
    S.STREAMING: [run()],
    S.TX_READY: [BEGIN],
    S.TX_STREAMING: [BEGIN, run()],
    S.FAILED: [run()],
    S.INTERRUPTED: [],
    S.AUTHENTICATION: [LOGOFF],
}


def in_state(state: States) -> ServerConnection:
    if state is S.NEGOTIATION:
        return connected((5, 4))
    if state is S.CONNECTED:
        return connected((5, 0))
    connection = ready()
    for data in WAYS[state]:
        connection.receive_data(data)
        connection.next_event()
        connection.send(Failure("c", "m") if state is S.FAILED else Success({}))
    assert state in (connection.state, S.INTERRUPTED)
    return connection


# The specification's tables for 5.x: after SUCCESS, after FAILURE.
LEGAL = {
    (S.CONNECTED, R.HELLO): (S.READY, S.DEFUNCT),
    (S.NEGOTIATION, R.HELLO): (S.AUTHENTICATION, S.DEFUNCT),
    (S.AUTHENTICATION, R.LOGON): (S.READY, S.DEFUNCT),
    (S.READY, R.LOGOFF): (S.AUTHENTICATION, S.FAILED),
    (S.READY, R.RUN): (S.STREAMING, S.FAILED),
    (S.READY, R.BEGIN): (S.TX_READY, S.FAILED),
    (S.READY, R.ROUTE): (S.READY, S.FAILED),
    (S.READY, R.TELEMETRY): (S.READY, S.FAILED),
    (S.STREAMING, R.PULL): (S.READY, S.FAILED),
    (S.STREAMING, R.DISCARD): (S.READY, S.FAILED),
    (S.TX_READY, R.RUN): (S.TX_STREAMING, S.FAILED),
    (S.TX_READY, R.COMMIT): (S.READY, S.FAILED),
    (S.TX_READY, R.ROLLBACK): (S.READY, S.FAILED),
    (S.TX_STREAMING, R.RUN): (S.TX_STREAMING, S.FAILED),
    (S.TX_STREAMING, R.PULL): (S.TX_READY, S.FAILED),
    (S.TX_STREAMING, R.DISCARD): (S.TX_READY, S.FAILED),
}
# RESET is in the table from wherever its arrival interrupts.
for state in (S.READY, S.STREAMING, S.TX_READY, S.TX_STREAMING, S.FAILED, S.INTERRUPTED):
    LEGAL[state, R.RESET] = (S.READY, S.DEFUNCT)
REACHABLE = [state for state in S if state not in (S.HANDSHAKE, S.DEFUNCT, S.INTERRUPTED)]
PAIRS = [(state, tag) for state in REACHABLE for tag in R]


@pytest.mark.parametrize(("state", "tag"), PAIRS, ids=str)
def test_every_request_in_every_state(state: States, tag: RequestTag) -> None:
    for success in (True, False):
        connection = in_state(state)
        connection.receive_data(BYTES[tag])
        if tag is R.GOODBYE:
            assert connection.next_event() == Goodbye()
            assert connection.state is S.DEFUNCT
            assert isinstance(connection.next_event(), ConnectionClosed)
        elif (state, tag) in LEGAL:
            assert connection.next_event().tag is tag  # type: ignore[union-attr]
            connection.send(Success({}) if success else Failure("c", "m"))
            assert connection.state is LEGAL[state, tag][0 if success else 1]
        elif state is S.FAILED and tag is not R.HELLO:
            assert connection.next_event() == IgnoredRequest(tag)
            connection.send(Ignored())
            assert connection.state is S.FAILED
        else:
            with pytest.raises(RemoteProtocolError) as caught:
                connection.next_event()
            assert connection.state is S.DEFUNCT
            [farewell] = decode_messages(caught.value.farewell, connection.dialect)
            assert isinstance(farewell, Failure)
            assert farewell.code == "Neo.ClientError.Request.Invalid"
            assert farewell.message


@pytest.mark.parametrize("state", [S.STREAMING, S.TX_STREAMING])
@pytest.mark.parametrize("data", [pull(1), discard(1)])
def test_more(state: States, data: bytes) -> None:
    connection = in_state(state)
    for _ in range(3):
        connection.receive_data(data)
        connection.next_event()
        connection.send(Success({"has_more": True}))
        assert connection.state is state
    connection.receive_data(data)
    connection.next_event()
    connection.send(Success({"has_more": False}))
    assert connection.state is (S.READY if state is S.STREAMING else S.TX_READY)


@pytest.mark.parametrize("tag", [tag for tag in R if tag not in (R.HELLO, R.GOODBYE, R.RESET)])
def test_interrupted_ignores(tag: RequestTag) -> None:
    connection = ready()
    connection.receive_data(BYTES[tag] + RESET)
    assert connection.state is S.INTERRUPTED
    assert connection.next_event() == IgnoredRequest(tag)


def test_the_table_has_no_dead_ends() -> None:
    """From every state that can be reached after the handshake, READY or DEFUNCT can be."""
    for protocol in PROTOCOLS.values():
        seen, todo = set(), [initial(protocol)]
        while todo:
            state = todo.pop()
            if state in seen:
                continue
            seen.add(state)
            for tag in R:
                row = transition(state, tag)
                if row is not None:
                    todo += [row.success, row.failure, *([row.more] if row.more else [])]
            if state in INTERRUPTIBLE:
                todo.append(S.INTERRUPTED)
        assert {S.READY, S.FAILED, S.TX_STREAMING, S.DEFUNCT} <= seen
        assert (S.AUTHENTICATION in seen) == protocol.logon or not protocol.logon
    assert IGNORING <= INTERRUPTIBLE


@pytest.mark.parametrize("version", PROTOCOLS)
def test_requests_a_version_does_not_have(version: tuple[int, int]) -> None:
    protocol = PROTOCOLS[version]
    for tag, exists in (
        (R.LOGOFF, protocol.logon),
        (R.TELEMETRY, protocol.telemetry),
        (R.ROUTE, True),
    ):
        connection = ready(version)
        data = BYTES[tag]
        if tag is R.ROUTE and not protocol.route_extra:
            continue
        connection.receive_data(data)
        if exists:
            assert connection.next_event().tag is tag  # type: ignore[union-attr]
        else:
            with pytest.raises(RemoteProtocolError, match="no request with tag"):
                connection.next_event()
