"""Wire form of peer messages: our own, versioned, checked at every byte.

    version u8 | type u8 | term u64 | sender u32 | receiver u32 | body        (big-endian)

    PreVoteRequest                last_index u64, last_term u64
    VoteRequest                   last_index u64, last_term u64; from version 2 on, transfer u8
    PreVoteReply, VoteReply       granted u8 (0 or 1)
    Append                        previous_index u64, previous_term u64, commit u64, count u32,
                                  then each entry: term u64, kind u8, length u32, data
    AppendReply                   success u8, index u64, hint_index u64, hint_term u64
    Heartbeat                     commit u64, context u64, answer u8
    HeartbeatReply                context u64
    SnapshotChunk                 index u64, snapshot_term u64, offset u64, total u64, last u8,
                                  length u32, data
    SnapshotReply                 index u64, snapshot_term u64, offset u64
    TimeoutNow                    last_index u64                               (version 2)

A message goes out in the oldest version that can say it, so that servers of version 1 understand
all but a transfer of leadership: TimeoutNow, and a VoteRequest whose ``transfer`` is set.
Indexes of entries are not sent: they follow ``previous_index``. There is no checksum, because
the transport has one. Decoding reads nothing twice, never recurses, and allocates in proportion
to the bytes that are there, never to a length that they declare.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from actors.raft.errors import CodecError
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

__all__ = ["WIRE_VERSION", "CodecError", "decode", "encode"]

# The newest version; all from 1 on are read.
WIRE_VERSION = 2

# On the wire a type is its place in this tuple: append only.
_TYPES = PEER_MESSAGE_TYPES
_NUMBERS = {kind: number for number, kind in enumerate(_TYPES)}
_TYPES_OF_VERSION_1 = 10

_HEADER = Struct(">BBQII")
_PLACE = Struct(">QQ")
_PLACE_AND_FLAG = Struct(">QQB")
_INDEX = Struct(">Q")
_FLAG = Struct(">B")
_APPEND = Struct(">QQQI")
_ENTRY = Struct(">QBI")
_APPEND_REPLY = Struct(">BQQQ")
_HEARTBEAT = Struct(">QQB")
_CONTEXT = Struct(">Q")
_CHUNK = Struct(">QQQQBI")
_SNAPSHOT_REPLY = Struct(">QQQ")

_KINDS = tuple(EntryKind)


# Encoding


def encode(message: PeerMessage) -> bytes:
    """The message in wire form.

    Raises:
        KeyError: not a peer message.
        struct.error: a number does not fit its field; a bug of the sender.
    """
    number = _NUMBERS[type(message)]
    header = _HEADER.pack(
        _oldest_version(message), number, message.term, message.sender, message.receiver
    )
    match message:
        case Append():
            return _encode_append(header, message)
        case AppendReply():
            body = _APPEND_REPLY.pack(
                message.success, message.index, message.hint_index, message.hint_term
            )
        case Heartbeat():
            body = _HEARTBEAT.pack(message.commit, message.context, message.answer)
        case HeartbeatReply():
            body = _CONTEXT.pack(message.context)
        case VoteRequest(transfer=True):
            body = _PLACE_AND_FLAG.pack(message.last_index, message.last_term, True)
        case TimeoutNow():
            body = _INDEX.pack(message.last_index)
        case PreVoteRequest() | VoteRequest():
            body = _PLACE.pack(message.last_index, message.last_term)
        case PreVoteReply() | VoteReply():
            body = _FLAG.pack(message.granted)
        case SnapshotChunk():
            body = _CHUNK.pack(
                message.index,
                message.snapshot_term,
                message.offset,
                message.total,
                message.last,
                len(message.data),
            )
            return b"".join((header, body, message.data))
        case SnapshotReply():
            body = _SNAPSHOT_REPLY.pack(message.index, message.snapshot_term, message.offset)
    return header + body


def _oldest_version(message: PeerMessage) -> int:
    kind = type(message)
    if kind is TimeoutNow or (kind is VoteRequest and message.transfer):  # type: ignore[union-attr]
        return 2
    return 1


def _encode_append(header: bytes, message: Append) -> bytes:
    entries = message.entries
    parts = [
        header,
        _APPEND.pack(message.previous_index, message.previous_term, message.commit, len(entries)),
    ]
    pack = _ENTRY.pack
    for entry in entries:
        data = entry.data
        parts.append(pack(entry.term, entry.kind, len(data)))
        parts.append(data)
    return b"".join(parts)


# Decoding


def decode(data: bytes) -> PeerMessage:
    """The message that ``encode`` made these bytes from.

    Raises:
        CodecError: another version, an unknown type, or bytes that are missing, left over or out
            of range.
    """
    if len(data) < _HEADER.size:
        raise CodecError(f"{len(data)} bytes are shorter than a header of {_HEADER.size}")
    version, number, term, sender, receiver = _HEADER.unpack_from(data)
    if not 1 <= version <= WIRE_VERSION:
        raise CodecError(
            f"wire version {version} is not 1 to {WIRE_VERSION}: upgrade the older server"
        )
    if number >= (len(_TYPES) if version > 1 else _TYPES_OF_VERSION_1):
        raise CodecError(f"unknown message type {number}")
    kind = _TYPES[number]
    if version > 1 and kind is VoteRequest:
        return _decode_vote_request(kind, (term, sender, receiver), data)
    return _DECODERS[kind](kind, (term, sender, receiver), data)


_Head = tuple[int, int, int]


def _fixed(form: Struct, data: bytes, kind: type) -> tuple[Any, ...]:
    if len(data) != _HEADER.size + form.size:
        raise CodecError(
            f"{kind.__name__} has {len(data)} bytes instead of {_HEADER.size + form.size}"
        )
    return form.unpack_from(data, _HEADER.size)


def _leading(form: Struct, data: bytes, kind: type) -> tuple[Any, ...]:
    if len(data) < _HEADER.size + form.size:
        raise CodecError(f"{kind.__name__} ends after {len(data)} bytes, within its fixed fields")
    return form.unpack_from(data, _HEADER.size)


def _flag(value: int, kind: type) -> bool:
    if value > 1:
        raise CodecError(f"{kind.__name__} has a flag of value {value}")
    return value == 1


def _decode_plain(form: Struct) -> Callable[[type, _Head, bytes], PeerMessage]:
    def plain(kind: type, head: _Head, data: bytes) -> PeerMessage:
        message: PeerMessage = kind(*head, *_fixed(form, data, kind))
        return message

    return plain


def _decode_flag(kind: type, head: _Head, data: bytes) -> PeerMessage:
    (granted,) = _fixed(_FLAG, data, kind)
    message: PeerMessage = kind(*head, _flag(granted, kind))
    return message


def _decode_vote_request(kind: type, head: _Head, data: bytes) -> PeerMessage:
    last_index, last_term, transfer = _fixed(_PLACE_AND_FLAG, data, kind)
    return VoteRequest(*head, last_index, last_term, _flag(transfer, kind))


def _decode_append_reply(kind: type, head: _Head, data: bytes) -> PeerMessage:
    success, index, hint_index, hint_term = _fixed(_APPEND_REPLY, data, kind)
    return AppendReply(*head, _flag(success, kind), index, hint_index, hint_term)


def _decode_heartbeat(kind: type, head: _Head, data: bytes) -> PeerMessage:
    commit, context, answer = _fixed(_HEARTBEAT, data, kind)
    return Heartbeat(*head, commit, context, _flag(answer, kind))


def _decode_append(kind: type, head: _Head, data: bytes) -> PeerMessage:
    previous_index, previous_term, commit, count = _leading(_APPEND, data, kind)
    position, end = _HEADER.size + _APPEND.size, len(data)
    if count * _ENTRY.size > end - position:
        raise CodecError(f"Append declares {count} entries in {end - position} bytes")
    unpack, entry_size = _ENTRY.unpack_from, _ENTRY.size
    entries: list[Entry] = []
    for index in range(previous_index + 1, previous_index + 1 + count):
        if position + entry_size > end:
            raise CodecError(f"Append ends within entry {index}")
        term, entry_kind, length = unpack(data, position)
        position += entry_size
        if entry_kind >= len(_KINDS):
            raise CodecError(f"entry {index} is of unknown kind {entry_kind}")
        if length > end - position:
            raise CodecError(f"entry {index} declares {length} of {end - position} bytes")
        entries.append(Entry(index, term, _KINDS[entry_kind], data[position : position + length]))
        position += length
    if position != end:
        raise CodecError(f"Append has {end - position} bytes left over")
    return Append(*head, previous_index, previous_term, commit, tuple(entries))


def _decode_chunk(kind: type, head: _Head, data: bytes) -> PeerMessage:
    index, term, offset, total, last, length = _leading(_CHUNK, data, kind)
    start = _HEADER.size + _CHUNK.size
    if length != len(data) - start:
        raise CodecError(f"SnapshotChunk declares {length} of {len(data) - start} bytes")
    return SnapshotChunk(*head, index, term, offset, data[start:], _flag(last, kind), total)


_DECODERS: dict[type, Callable[[type, _Head, bytes], PeerMessage]] = {
    PreVoteRequest: _decode_plain(_PLACE),
    PreVoteReply: _decode_flag,
    VoteRequest: _decode_plain(_PLACE),
    VoteReply: _decode_flag,
    Append: _decode_append,
    AppendReply: _decode_append_reply,
    Heartbeat: _decode_heartbeat,
    HeartbeatReply: _decode_plain(_CONTEXT),
    SnapshotChunk: _decode_chunk,
    SnapshotReply: _decode_plain(_SNAPSHOT_REPLY),
    TimeoutNow: _decode_plain(_INDEX),
}
