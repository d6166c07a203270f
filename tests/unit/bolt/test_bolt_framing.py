"""Chunks and the handshake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bolt import PREFERENCE, RemoteProtocolError
from bolt.framing import CHUNK_BYTES_MAX, Deframer, frame
from bolt.handshake import MAGIC, check_magic, choose, encode_version, offered

MESSAGE_16 = bytes(range(16))


def deframe(data: bytes, message_bytes_max: int = 1 << 20) -> list[bytes]:
    deframer = Deframer(message_bytes_max)
    messages = deframer.receive(data)
    assert deframer.failure is None
    assert not deframer.mid_message
    return messages


# The specification's examples, https://neo4j.com/docs/bolt/current/bolt/message/#chunking.


def test_one_chunk() -> None:
    data = bytes.fromhex("00 10 00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F 00 00")
    assert frame(MESSAGE_16) == data
    assert deframe(data) == [MESSAGE_16]


def test_two_chunks() -> None:
    data = bytes.fromhex(
        "00 10 00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F 00 04 01 02 03 04 00 00"
    )
    assert deframe(data) == [MESSAGE_16 + b"\x01\x02\x03\x04"]


def test_noop_between_messages() -> None:
    data = frame(MESSAGE_16) + b"\0\0" + frame(b"\x0f\x0e") + b"\0\0\0\0"
    assert deframe(data) == [MESSAGE_16, b"\x0f\x0e"]


@pytest.mark.parametrize("size", [1, 65_534, 65_535, 65_536, 131_070, 131_071, 200_000])
def test_long_messages(size: int) -> None:
    body = bytes(i * 7 & 0xFF for i in range(size))
    framed = frame(body)
    chunks = -(-size // CHUNK_BYTES_MAX)
    assert len(framed) == size + 2 * chunks + 2
    assert deframe(framed) == [body]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.data())
def test_any_split(messages: list[bytes], data: st.DataObject) -> None:
    """However the bytes are cut, into chunks or packets, the same messages come out."""
    stream = b""
    for body in messages:
        at = 0
        while at < len(body):
            size = data.draw(st.integers(1, len(body) - at))
            stream += size.to_bytes(2, "big") + body[at : at + size]
            at += size
        stream += b"\0\0" * data.draw(st.integers(1, 3))
    deframer = Deframer(1 << 20)
    got: list[bytes] = []
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        got += deframer.receive(stream[at : at + size])
        at += size
    assert got == messages
    assert not deframer.mid_message


def test_limit_counts_all_chunks() -> None:
    deframer = Deframer(100)
    assert deframer.receive(frame(b"x" * 100)) == [b"x" * 100]
    chunk = b"\x00\x32" + b"x" * 50
    assert deframer.receive(chunk * 2 + b"\0\0") == [b"x" * 100]
    assert deframer.receive(frame(b"y") + chunk * 2 + b"\x00\x01") == [b"y"]
    assert deframer.failure is not None
    assert "limit of 100 bytes" in str(deframer.failure)
    assert deframer.receive(frame(b"z")) == []


def test_limit_is_known_from_the_header() -> None:
    deframer = Deframer(100)
    deframer.receive(b"\xff\xff")
    assert deframer.failure is not None


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    whole, dripped = Deframer(50), Deframer(50)
    messages = whole.receive(data)
    assert [m for i in range(len(data)) for m in dripped.receive(data[i : i + 1])] == messages
    assert (whole.failure is None) == (dripped.failure is None)
    assert all(0 < len(body) <= 50 for body in messages)


# --- handshake ------------------------------------------------------------------------------------


def slots(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal).ljust(16, b"\0")


@pytest.mark.parametrize(
    ("offer", "version"),
    [
        # Drivers as they are: Python and JavaScript 6, 5.2x; pymgclient.
        ("000001FF 00080805 00020404 00000003", (5, 4)),
        ("00070705 00020404 00000104 00000003", (5, 4)),
        ("00000404 00000304 00000104 00000001", (4, 4)),
        # Ranges and single versions.
        ("00000405", (5, 4)),
        ("00000305", (5, 3)),
        ("00000005", (5, 0)),
        ("00020405", (5, 4)),
        ("00010604", None),
        ("00030604", (4, 4)),
        ("00FF0405", (5, 4)),
        ("00000304", (4, 3)),
        ("00000404 00000405", (5, 4)),
        # None of ours: manifest only, 5.5 only, older, newer, nothing.
        ("000001FF", None),
        ("00000505", None),
        ("00000204 00000104 00000004 00000003", None),
        ("00000006", None),
        ("", None),
    ],
)
def test_choice(offer: str, version: tuple[int, int] | None) -> None:
    assert choose(slots(offer)) == version


def test_5_5_is_not_spoken() -> None:
    assert (5, 5) not in PREFERENCE
    assert list(PREFERENCE) == sorted(PREFERENCE, reverse=True)


def test_offered() -> None:
    assert offered(slots("00020404 000001FF")) == {(4, 4), (4, 3), (4, 2)}
    assert offered(slots("00090104")) == {(4, 1), (4, 0)}


def test_reply() -> None:
    assert encode_version((5, 4)) == b"\x00\x00\x04\x05"


@pytest.mark.parametrize("size", range(5))
def test_magic(size: int) -> None:
    check_magic(MAGIC[:size])


@pytest.mark.parametrize(
    ("data", "guess"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"POST /db", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (b"\x60\x60\xb0\x18", "identification"),
        (b"SSH-", "identification"),
        (b"\x00", "identification"),
    ],
)
def test_strangers(data: bytes, guess: str) -> None:
    with pytest.raises(RemoteProtocolError, match=guess):
        check_magic(data)


@pytest.mark.parametrize("data", [b"GET /", b"\x16\x03\x01\x02"])
def test_strangers_are_named_when_they_drip(data: bytes) -> None:
    """The first byte alone must not be judged: what it belongs to would not be recognised."""
    for size in range(1, 3 if data[0] == 0x16 else 4):
        if data[:size] != b"\x16\x03":
            check_magic(data[:size])
    with pytest.raises(RemoteProtocolError, match=r"TLS|HTTP"):
        check_magic(data[:4])
