"""The wire form of peer messages: round trips, and bytes that are no message."""

from __future__ import annotations

import pytest
from bench import entries
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.raft.codec import WIRE_VERSION, CodecError, decode, encode
from actors.raft.messages import (
    PEER_MESSAGE_TYPES,
    Append,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    PeerMessage,
    PreVoteReply,
    PreVoteRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
head = (u64, u32, u32)
flag = st.booleans()


@st.composite
def appends(draw: st.DrawFn) -> Append:
    previous = draw(st.integers(0, 2**63))
    bodies = draw(
        st.lists(st.tuples(u64, st.sampled_from(EntryKind), st.binary(max_size=30)), max_size=5)
    )
    new = tuple(Entry(previous + 1 + i, *body) for i, body in enumerate(bodies))
    return Append(draw(u64), draw(u32), draw(u32), previous, draw(u64), draw(u64), new)


peer_messages = st.one_of(
    st.builds(PreVoteRequest, *head, u64, u64),
    st.builds(PreVoteReply, *head, flag),
    st.builds(VoteRequest, *head, u64, u64, flag),
    st.builds(VoteReply, *head, flag),
    appends(),
    st.builds(AppendReply, *head, flag, u64, u64, u64),
    st.builds(Heartbeat, *head, u64, u64, flag),
    st.builds(HeartbeatReply, *head, u64),
    st.builds(SnapshotChunk, *head, u64, u64, u64, st.binary(max_size=40), flag, u64),
    st.builds(SnapshotReply, *head, u64, u64, u64),
    st.builds(TimeoutNow, *head, u64),
)


@given(peer_messages)
@settings(max_examples=300, deadline=None)
def test_a_message_survives_the_wire(message: PeerMessage) -> None:
    again = decode(encode(message))
    assert again == message
    assert type(again) is type(message)


@given(peer_messages, st.data())
@settings(max_examples=200, deadline=None)
def test_a_message_cut_short_or_too_long_is_refused(
    message: PeerMessage, data: st.DataObject
) -> None:
    encoded = encode(message)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:cut], encoded + b"\x00"):
        with pytest.raises(CodecError):
            decode(wrong)


def is_message_or_error(data: bytes) -> None:
    try:
        message = decode(data)
    except CodecError:
        return
    assert decode(encode(message)) == message


@given(st.binary(max_size=120))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_message_or_a_codec_error(data: bytes) -> None:
    is_message_or_error(data)
    for number in range(len(PEER_MESSAGE_TYPES)):
        for version in range(1, WIRE_VERSION + 1):
            is_message_or_error(bytes([version, number]) + data)


@given(peer_messages, st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_message_is_a_message_or_a_codec_error(
    message: PeerMessage, data: st.DataObject
) -> None:
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    is_message_or_error(bytes(damaged))


def test_the_wire_form_is_what_it_was() -> None:
    """Servers of two versions talk to one another: a change here needs a new WIRE_VERSION."""
    assert encode(HeartbeatReply(3, 1, 2, 9)).hex() == (
        "0107000000000000000300000001000000020000000000000009"
    )
    message = Append(3, 1, 2, 4, 2, 1, entries([3], 5))
    assert encode(message).hex() == (
        "0104"
        "0000000000000003"
        "00000001"
        "00000002"
        "0000000000000004"
        "0000000000000002"
        "0000000000000001"
        "00000001"
        "0000000000000003"
        "01"
        "00000003"
        "352f33"
    )
    assert [kind.__name__ for kind in PEER_MESSAGE_TYPES] == [
        "PreVoteRequest",
        "PreVoteReply",
        "VoteRequest",
        "VoteReply",
        "Append",
        "AppendReply",
        "Heartbeat",
        "HeartbeatReply",
        "SnapshotChunk",
        "SnapshotReply",
        "TimeoutNow",
    ]


def test_what_version_1_can_say_is_said_in_version_1() -> None:
    """A cluster is upgraded one server at a time: the old ones understand all but a transfer."""
    old, new = VoteRequest(3, 1, 2, 9, 2), VoteRequest(3, 1, 2, 9, 2, transfer=True)
    assert encode(old).hex() == "010200000000000000030000000100000002" + (
        "00000000000000090000000000000002"
    )
    assert encode(new).hex() == "02" + encode(old).hex()[2:] + "01"
    assert encode(TimeoutNow(3, 1, 2, 9)).hex() == "020a" + encode(old).hex()[4:-16]
    assert {encode(Heartbeat(3, 1, 2, 0, 0, True))[0], encode(old)[0]} == {1}
    with pytest.raises(CodecError, match="type 10"):
        decode(b"\x01" + encode(TimeoutNow(3, 1, 2, 9))[1:])


@pytest.mark.parametrize(
    ("position", "value", "text"),
    [(0, 0, "version"), (0, 3, "version"), (1, 200, "type"), (-1, 9, "declares"), (-5, 9, "kind")],
)
def test_errors_say_what_is_wrong(position: int, value: int, text: str) -> None:
    data = bytearray(encode(Append(1, 1, 2, 0, 0, 0, (Entry(1, 1, EntryKind.NOOP, b""),))))
    data[position] = value
    with pytest.raises(CodecError, match=text):
        decode(bytes(data))


def test_a_declared_count_allocates_nothing() -> None:
    data = bytearray(encode(Append(1, 1, 2, 0, 0, 0, ())))
    data[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(CodecError, match="4294967295 entries in 0 bytes"):
        decode(bytes(data))
