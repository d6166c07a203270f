"""What a log entry says: transactions with their ids, or the name of the cluster.

A COMMAND entry's payload is, in a versioned binary form of our own::

    version u8 | kind u8 | ...
    kind 1, transactions: count u32, per transaction (gateway u64, id u64, acknowledged u64);
                          then one or more write sets, each length u32 | bytes
    kind 2, cluster:      32 hexadecimal digits

One entry carries a whole batch of transactions; they are committed, or not, together. A payload
above ``FRAGMENT_BYTES`` is proposed as several consecutive entries (FRAGMENT ... COMMAND), so that
no single message between servers grows large enough to hold up a heartbeat.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from actors.raft.messages import EntryKind
from graph.errors import CorruptionError

__all__ = [
    "FRAGMENT_BYTES",
    "ClusterNamed",
    "TransactionId",
    "Transactions",
    "decode",
    "encode_cluster",
    "encode_transactions",
    "split",
]

VERSION = 1
FRAGMENT_BYTES = 256 * 1024
CLUSTER_ID_DIGITS = 32

_KIND_TRANSACTIONS = 1
_KIND_CLUSTER = 2
_HEAD = struct.Struct("<BB")
_COUNT = struct.Struct("<I")
_ID = struct.Struct("<QQQ")


@dataclass(frozen=True, slots=True)
class TransactionId:
    """Who asked: gateway (one life of it), the request's id there, and what it has answered."""

    gateway: int
    id: int
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Transactions:
    ids: tuple[TransactionId, ...]
    write_sets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ClusterNamed:
    cluster_id: str


def encode_transactions(ids: Sequence[TransactionId], write_sets: Sequence[bytes]) -> bytes:
    parts = [_HEAD.pack(VERSION, _KIND_TRANSACTIONS), _COUNT.pack(len(ids))]
    parts += [_ID.pack(i.gateway, i.id, i.acknowledged) for i in ids]
    for write_set in write_sets:
        parts.append(_COUNT.pack(len(write_set)))
        parts.append(write_set)
    return b"".join(parts)


def encode_cluster(cluster_id: str) -> bytes:
    return _HEAD.pack(VERSION, _KIND_CLUSTER) + cluster_id.encode("ascii")


def decode(payload: bytes) -> Transactions | ClusterNamed:
    """Raises ``CorruptionError`` for anything but what the functions above made."""
    try:
        version, kind = _HEAD.unpack_from(payload)
        if version != VERSION:
            raise CorruptionError(
                f"a log entry has format {version}, this version reads format {VERSION}: "
                "upgrade this server"
            )
        if kind == _KIND_CLUSTER:
            return _decode_cluster(payload)
        if kind == _KIND_TRANSACTIONS:
            return _decode_transactions(payload)
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


def _decode_transactions(payload: bytes) -> Transactions:
    offset = _HEAD.size
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
    return Transactions(ids, tuple(write_sets))
