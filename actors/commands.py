"""What a log entry says: transactions with their ids, the name of the cluster, or a comparison.

A COMMAND entry's payload is, in a versioned binary form of our own::

    version u8 | kind u8 | ...
    kind 1, transactions: count u32, per transaction (gateway u64, id u64, acknowledged u64);
                          then one or more write sets, each length u32 | bytes
    kind 2, cluster:      32 hexadecimal digits
    kind 3, digest asked: nothing more; all servers take the digest of the graph as of this entry
    kind 4, digest agreed: index u64, digest 16 bytes: what a majority found as of that index
    kind 5, transactions of which some have names: count u32, per name (done u8, length u8, bytes);
                          then as kind 1
    kind 6, part of a backup: restore 16 bytes, offset u64, bytes     (``restore.py``)
    kind 7, backup ended:     restore 16 bytes, size u64, one transaction's id as in kind 1; what
                              was gathered is the graph from here on
    kind 8, backup dropped:   restore 16 bytes

A name is what a client calls its transaction (``outcomes.py``); ``done`` 0 says that it has not
been committed and never will be.

One entry carries a whole batch of transactions; they are committed, or not, together. A payload
above ``FRAGMENT_BYTES`` is proposed as several consecutive entries (FRAGMENT ... COMMAND), so that
no single message between servers grows large enough to hold up a heartbeat.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.raft.messages import EntryKind
from graph.errors import CorruptionError

__all__ = [
    "DIGEST_ASKED",
    "FRAGMENT_BYTES",
    "ClusterNamed",
    "Command",
    "DigestAgreed",
    "DigestAsked",
    "Named",
    "RestoreDropped",
    "RestoreEnded",
    "RestorePart",
    "TransactionId",
    "Transactions",
    "decode",
    "encode_cluster",
    "encode_digest",
    "encode_restore",
    "encode_transactions",
    "split",
]

VERSION = 1
FRAGMENT_BYTES = 256 * 1024
CLUSTER_ID_DIGITS = 32

_KIND_TRANSACTIONS = 1
_KIND_CLUSTER = 2
_KIND_DIGEST_ASKED = 3
_KIND_DIGEST_AGREED = 4
_KIND_NAMED = 5
_KIND_RESTORE_PART = 6
_KIND_RESTORE_ENDED = 7
_KIND_RESTORE_DROPPED = 8
_HEAD = struct.Struct("<BB")
_COUNT = struct.Struct("<I")
_ID = struct.Struct("<QQQ")
_NAME = struct.Struct("<BB")
_DIGEST = struct.Struct("<Q16s")
_RESTORE = struct.Struct("<16sQ")
_RESTORE_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class TransactionId:
    """Who asked: gateway (one life of it), the request's id there, and what it has answered."""

    gateway: int
    id: int
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Named:
    """What is settled about the transaction that its client calls ``name`` (1 to 255 bytes)."""

    name: bytes
    done: bool


@dataclass(frozen=True, slots=True)
class Transactions:
    ids: tuple[TransactionId, ...]
    write_sets: tuple[bytes, ...]
    names: tuple[Named, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterNamed:
    cluster_id: str


@dataclass(frozen=True, slots=True)
class DigestAsked:
    pass


@dataclass(frozen=True, slots=True)
class DigestAgreed:
    index: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class RestorePart:
    """Bytes of a backup file. ``restore`` is the name of the restore: 32 hexadecimal digits."""

    restore: str
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class RestoreEnded:
    """What was gathered, ``size`` bytes, is the graph."""

    restore: str
    size: int
    transaction: TransactionId


@dataclass(frozen=True, slots=True)
class RestoreDropped:
    """What was gathered is not to be used."""

    restore: str


RestoreCommand = RestorePart | RestoreEnded | RestoreDropped
Command = Transactions | ClusterNamed | DigestAsked | DigestAgreed | RestoreCommand


def encode_transactions(
    ids: Sequence[TransactionId], write_sets: Sequence[bytes], names: Sequence[Named] = ()
) -> bytes:
    parts = [_HEAD.pack(VERSION, _KIND_NAMED if names else _KIND_TRANSACTIONS)]
    if names:
        parts.append(_COUNT.pack(len(names)))
        parts += [_NAME.pack(named.done, len(named.name)) + named.name for named in names]
    parts.append(_COUNT.pack(len(ids)))
    parts += [_ID.pack(i.gateway, i.id, i.acknowledged) for i in ids]
    for write_set in write_sets:
        parts.append(_COUNT.pack(len(write_set)))
        parts.append(write_set)
    return b"".join(parts)


def encode_cluster(cluster_id: str) -> bytes:
    return _HEAD.pack(VERSION, _KIND_CLUSTER) + cluster_id.encode("ascii")


DIGEST_ASKED = _HEAD.pack(VERSION, _KIND_DIGEST_ASKED)


def encode_digest(index: int, digest: bytes) -> bytes:
    """What a majority of the servers found as of ``index``."""
    return _HEAD.pack(VERSION, _KIND_DIGEST_AGREED) + _DIGEST.pack(index, digest)


def encode_restore(command: RestoreCommand) -> bytes:
    """A step of a restore."""
    name = bytes.fromhex(command.restore)
    assert len(name) == _RESTORE_NAME_BYTES
    match command:
        case RestorePart():
            head = _HEAD.pack(VERSION, _KIND_RESTORE_PART)
            return b"".join((head, _RESTORE.pack(name, command.offset), command.data))
        case RestoreEnded():
            head = _HEAD.pack(VERSION, _KIND_RESTORE_ENDED)
            transaction = command.transaction
            identity = _ID.pack(transaction.gateway, transaction.id, transaction.acknowledged)
            return head + _RESTORE.pack(name, command.size) + identity
        case RestoreDropped():
            return _HEAD.pack(VERSION, _KIND_RESTORE_DROPPED) + name


def decode(payload: bytes) -> Command:
    """Raises ``CorruptionError`` for anything but what the functions above made."""
    try:
        version, kind = _HEAD.unpack_from(payload)
        if version != VERSION:
            raise CorruptionError(
                f"a log entry has format {version}, this version reads format {VERSION}: "
                "upgrade this server"
            )
        decoder = _DECODERS.get(kind)
        if decoder is not None:
            return decoder(payload)
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptionError(f"a log entry is damaged: {error}") from error
    raise CorruptionError(f"a log entry has unknown kind {kind}: upgrade this server")


def split(payload: bytes) -> tuple[tuple[EntryKind, bytes], ...]:
    """The payload as entries: fragments, and a command that ends them."""
    if len(payload) <= FRAGMENT_BYTES:
        return ((EntryKind.COMMAND, payload),)
    pieces = [payload[i : i + FRAGMENT_BYTES] for i in range(0, len(payload), FRAGMENT_BYTES)]
    fragments = tuple((EntryKind.FRAGMENT, piece) for piece in pieces[:-1])
    return (*fragments, (EntryKind.COMMAND, pieces[-1]))


def _decode_cluster(payload: bytes) -> ClusterNamed:
    cluster_id = payload[_HEAD.size :].decode("ascii")
    if len(cluster_id) != CLUSTER_ID_DIGITS or not set(cluster_id) <= set("0123456789abcdef"):
        raise CorruptionError("a log entry is damaged: it names no cluster")
    return ClusterNamed(cluster_id)


def _decode_digest_asked(payload: bytes) -> DigestAsked:
    if payload != DIGEST_ASKED:
        raise CorruptionError("a log entry is damaged: it goes on after its end")
    return DigestAsked()


def _decode_digest_agreed(payload: bytes) -> DigestAgreed:
    if len(payload) != _HEAD.size + _DIGEST.size:
        raise CorruptionError("a log entry is damaged: it holds no digest")
    return DigestAgreed(*_DIGEST.unpack_from(payload, _HEAD.size))


def _decode_named(payload: bytes) -> Transactions:
    offset = _HEAD.size
    (count,) = _COUNT.unpack_from(payload, offset)
    offset += _COUNT.size
    names: list[Named] = []
    for _ in range(count):
        done, length = _NAME.unpack_from(payload, offset)
        offset += _NAME.size + length
        name = payload[offset - length : offset]
        if done > 1 or not name or offset > len(payload):
            raise CorruptionError("a log entry is damaged: a transaction's name is none")
        names.append(Named(name, bool(done)))
    if not names:
        raise CorruptionError("a log entry is damaged: it lacks the names it announces")
    return _transactions_from(payload, offset, tuple(names))


def _decode_transactions(payload: bytes) -> Transactions:
    return _transactions_from(payload, _HEAD.size, ())


def _transactions_from(payload: bytes, offset: int, names: tuple[Named, ...]) -> Transactions:
    (count,) = _COUNT.unpack_from(payload, offset)
    offset += _COUNT.size
    end = offset + count * _ID.size
    if end > len(payload):
        raise CorruptionError("a log entry is damaged: it is shorter than its count says")
    ids = tuple(TransactionId(*fields) for fields in _ID.iter_unpack(payload[offset:end]))
    write_sets: list[bytes] = []
    while end < len(payload):
        (length,) = _COUNT.unpack_from(payload, end)
        end += _COUNT.size
        if end + length > len(payload):
            raise CorruptionError("a log entry is damaged: a write set is cut short")
        write_sets.append(payload[end : end + length])
        end += length
    return Transactions(ids, tuple(write_sets), names)


def _decode_restore_part(payload: bytes) -> RestorePart:
    name, offset = _RESTORE.unpack_from(payload, _HEAD.size)
    data = memoryview(payload)[_HEAD.size + _RESTORE.size :]
    if not data:
        raise CorruptionError("a log entry is damaged: it holds no part of a backup")
    return RestorePart(name.hex(), offset, data)


def _decode_restore_ended(payload: bytes) -> RestoreEnded:
    if len(payload) != _HEAD.size + _RESTORE.size + _ID.size:
        raise CorruptionError("a log entry is damaged: it does not end a backup")
    name, size = _RESTORE.unpack_from(payload, _HEAD.size)
    identity = _ID.unpack_from(payload, _HEAD.size + _RESTORE.size)
    return RestoreEnded(name.hex(), size, TransactionId(*identity))


def _decode_restore_dropped(payload: bytes) -> RestoreDropped:
    if len(payload) != _HEAD.size + _RESTORE_NAME_BYTES:
        raise CorruptionError("a log entry is damaged: it drops no backup")
    return RestoreDropped(payload[_HEAD.size :].hex())


_DECODERS: dict[int, Callable[[bytes], Command]] = {
    _KIND_TRANSACTIONS: _decode_transactions,
    _KIND_CLUSTER: _decode_cluster,
    _KIND_DIGEST_ASKED: _decode_digest_asked,
    _KIND_DIGEST_AGREED: _decode_digest_agreed,
    _KIND_NAMED: _decode_named,
    _KIND_RESTORE_PART: _decode_restore_part,
    _KIND_RESTORE_ENDED: _decode_restore_ended,
    _KIND_RESTORE_DROPPED: _decode_restore_dropped,
}
