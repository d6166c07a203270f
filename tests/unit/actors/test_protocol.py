"""Messages between gateway and server: round trips, and damage that is not taken for a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.protocol import (
    DIALECTS,
    Op,
    Reply,
    Request,
    Status,
    decode_replies,
    decode_requests,
    dialect_number,
    encode_replies,
    encode_requests,
)

U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
U32 = st.integers(0, 2**32 - 1)

REQUESTS = st.builds(
    Request,
    id=U64,
    op=st.sampled_from(Op),
    connection=U64,
    read=st.booleans(),
    dialect=st.integers(0, len(DIALECTS) - 1),
    tx=U64,
    cursor=U64,
    count=I64,
    qid=I64,
    bookmark=U64,
    term=U64,
    acknowledged=U64,
    timeout_ms=U32,
    query=st.binary(max_size=20),
    parameters=st.binary(max_size=20),
    name=st.binary(max_size=20) | st.just(b"x" * 255),
)
REPLIES = st.builds(
    Reply,
    id=U64,
    status=st.sampled_from(Status),
    index=U64,
    rows=U32,
    head=st.binary(max_size=20),
    body=st.binary(max_size=20),
    tail=st.binary(max_size=20),
)


@given(st.lists(REQUESTS, max_size=5))
def test_requests_there_and_back(requests: list[Request]) -> None:
    assert decode_requests(encode_requests(requests)) == requests


@given(st.lists(REPLIES, max_size=5))
def test_replies_there_and_back(replies: list[Reply]) -> None:
    assert decode_replies(encode_replies(replies)) == replies


def test_every_field_has_its_own_place() -> None:
    request = Request(1, Op.PULL, 2, True, 1, 3, 4, 5, 6, 7, 8, 9, 10, b"11", b"12", b"13")
    assert decode_requests(encode_requests([request])) == [request]


@given(REQUESTS, REQUESTS)
def test_requests_cut_short_are_refused(first: Request, second: Request) -> None:
    message = encode_requests([first, second])
    boundary = len(encode_requests([first]))
    for size in set(range(1, len(message))) - {boundary}:
        with pytest.raises(ValueError, match=r"damaged|shorter"):
            decode_requests(message[:size])


@given(REPLIES, REPLIES)
def test_replies_cut_short_are_refused(first: Reply, second: Reply) -> None:
    message = encode_replies([first, second])
    boundary = len(encode_replies([first]))
    for size in set(range(1, len(message))) - {boundary}:
        with pytest.raises(ValueError, match=r"damaged|shorter"):
            decode_replies(message[:size])


@given(st.binary(max_size=200))
def test_noise_is_refused_or_is_a_message(data: bytes) -> None:
    try:
        assert len(encode_requests(decode_requests(data))) == len(data)
    except ValueError:
        pass
    try:
        assert len(encode_replies(decode_replies(data))) == len(data)
    except ValueError:
        pass


def test_an_unknown_operation_is_refused() -> None:
    message = bytearray(encode_requests([Request(1, Op.RUN)]))
    message[16] = 100
    with pytest.raises(ValueError, match="100"):
        decode_requests(bytes(message))


def test_numbers_on_the_wire_do_not_change() -> None:
    """Servers and gateways of different versions meet during an upgrade."""
    assert {op.name: op.value for op in Op} == {
        "RUN": 1,
        "PULL": 2,
        "DISCARD": 3,
        "BEGIN": 4,
        "COMMIT": 5,
        "ROLLBACK": 6,
        "OUTCOME": 7,
        "RAFT_INFO": 8,
        "STORAGE_INFO": 9,
        "CANCEL": 10,
        "ADMINISTER": 12,
        "SETTLE": 11,
        "BACKUP": 13,
        "RESTORE": 14,
    }
    assert [status.name for status in Status] == [
        "DONE",
        "MORE",
        "PARTIAL",
        "FAILED",
        "NOT_LEADER",
        "OVERLOADED",
        "ABSENT",
        "FORGOTTEN",
    ]


def test_dialects_are_numbered_by_their_place() -> None:
    assert [dialect_number(dialect) for dialect in DIALECTS] == [0, 1, 2]
