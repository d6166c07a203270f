"""What became of transactions: the replicated memory that makes outcomes knowable.

*By our own ids.* Every committed transaction leaves its id here, on every server and in every
snapshot, until the gateway that sent it says (with a later request) that its client has been
answered. After the loss of a leader the gateway asks the next one: an id that is not here when that
leader has committed an entry of its own term was not committed and never will be (Raft
dissertation, 6.3).

*By names that clients give.* A client may name its transaction and ask what became of it at any
later time, over any connection. Here an absent name does not yet say "never", because the
transaction may still be on its way; so the question settles it: the leader puts a tombstone through
the log, and a transaction of that name that comes after it is refused. A name that was committed is
not executed a second time.

Bounded in both directions, by rules that depend on the log alone, so all servers forget alike.
What was forgotten is never called "not committed": of it nothing is known any more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import chain

from actors.commands import Named, TransactionId

__all__ = [
    "GATEWAYS_MAX",
    "IDS_MAX",
    "IDS_PER_GATEWAY_MAX",
    "NAMES_BYTES_MAX",
    "NAMES_MAX",
    "NAME_BYTES_MAX",
    "NameTable",
    "OutcomeTable",
]

# Lives of gateways remembered; the one heard of least recently is forgotten first.
GATEWAYS_MAX = 1024
# Unacknowledged ids kept for one gateway: ten seconds of writing at 6,000 a second.
IDS_PER_GATEWAY_MAX = 65_536
# Of all gateways together; beyond it those of the one heard of least recently are forgotten.
IDS_MAX = 1_048_576
# A client's name for its transaction: room for a UUID, an order number, a host and a time.
NAME_BYTES_MAX = 128
# Names remembered, and their bytes together; what was settled first is forgotten first. With 100
# named transactions a second that is 20 minutes.
NAMES_MAX = 131_072
NAMES_BYTES_MAX = 8 * 2**20

_HEAD = struct.Struct("<?I")
_GATEWAY = struct.Struct("<QQQI")
_ID = struct.Struct("<QQ")
_NAMES = struct.Struct("<QI")
_NAME = struct.Struct("<Q?B")


@dataclass(slots=True)
class _Gateway:
    floor: int = 0  # ids below are forgotten
    heard_at: int = 0  # log index
    committed: dict[int, int] = field(default_factory=dict)  # id -> log index, in log order


class NameTable:
    """``record`` in log order on every server; the leader asks."""

    def __init__(self) -> None:
        self._names: dict[bytes, tuple[int, bool]] = {}  # (log index, done), in log order
        self._bytes = 0
        self.forgotten_to = 0  # log index; what was settled up to there may be forgotten

    def record(self, named: Named, index: int) -> None:
        """What is settled first stays."""
        if named.name in self._names:
            return
        self._names[named.name] = (index, named.done)
        self._bytes += len(named.name)
        while len(self._names) > NAMES_MAX or self._bytes > NAMES_BYTES_MAX:
            oldest = next(iter(self._names))
            self.forgotten_to = self._names.pop(oldest)[0]
            self._bytes -= len(oldest)

    def find(self, name: bytes) -> tuple[int, bool] | None:
        """(log index, done) of a name that is settled: not done then means never."""
        return self._names.get(name)

    def may_be_forgotten(self, since: int) -> bool:
        """Whether a name that was first used after log index ``since`` may have been forgotten."""
        return self.forgotten_to > since

    def encode(self) -> bytes:
        parts = [_NAMES.pack(self.forgotten_to, len(self._names))]
        for name, (index, done) in self._names.items():
            parts.append(_NAME.pack(index, done, len(name)) + name)
        return b"".join(parts)

    @staticmethod
    def decode(data: bytes) -> NameTable:
        table = NameTable()
        table.forgotten_to, count = _NAMES.unpack_from(data)
        offset = _NAMES.size
        for _ in range(count):
            index, done, length = _NAME.unpack_from(data, offset)
            offset += _NAME.size + length
            table._names[data[offset - length : offset]] = (index, done)
            table._bytes += length
        return table


class OutcomeTable:
    """``record`` in log order on every server; ``find`` on the leader.

    ``names`` is what is known by names; it travels with the rest.
    """

    def __init__(self) -> None:
        self.names = NameTable()
        self._gateways: dict[int, _Gateway] = {}
        self._ids = 0  # of all gateways
        self._forgot_gateways = False

    def record(self, transaction: TransactionId, index: int) -> None:
        gateway = self._gateways.get(transaction.gateway)
        if gateway is None:
            # It may be one that was forgotten. Its ids rise, so what is in question lies below.
            floor = transaction.id if self._forgot_gateways else 0
            gateway = self._gateways[transaction.gateway] = _Gateway(floor, index)
            if len(self._gateways) > GATEWAYS_MAX:
                self._forget_gateway()
        gateway.heard_at = index
        committed = gateway.committed
        before = len(committed)
        committed[transaction.id] = index
        gateway.floor = max(gateway.floor, transaction.acknowledged)
        while committed:
            oldest = next(iter(committed))
            if oldest >= gateway.floor and len(committed) <= IDS_PER_GATEWAY_MAX:
                break
            del committed[oldest]
            gateway.floor = max(gateway.floor, oldest + 1)
        self._ids += len(committed) - before
        while self._ids > IDS_MAX:
            self._forget_ids()

    def find(self, gateway_id: int, transaction_id: int) -> int | bool | None:
        """Log index if committed; ``None`` if not; ``False`` if it is too long ago to tell."""
        gateway = self._gateways.get(gateway_id)
        if gateway is None:
            return False if self._forgot_gateways else None
        if transaction_id < gateway.floor:
            return False
        return gateway.committed.get(transaction_id)

    def encode(self) -> bytes:
        parts = [_HEAD.pack(self._forgot_gateways, len(self._gateways))]
        for identity, gateway in self._gateways.items():
            committed = gateway.committed
            parts.append(_GATEWAY.pack(identity, gateway.floor, gateway.heard_at, len(committed)))
            numbers = chain.from_iterable(committed.items())
            parts.append(struct.pack(f"<{2 * len(committed)}Q", *numbers))
        parts.append(self.names.encode())
        return b"".join(parts)

    @staticmethod
    def decode(data: bytes) -> OutcomeTable:
        table = OutcomeTable()
        table._forgot_gateways, count = _HEAD.unpack_from(data)
        offset = _HEAD.size
        for _ in range(count):
            identity, floor, heard_at, ids = _GATEWAY.unpack_from(data, offset)
            offset += _GATEWAY.size
            end = offset + ids * _ID.size
            pairs = _ID.iter_unpack(data[offset:end])
            table._gateways[identity] = _Gateway(floor, heard_at, dict(pairs))
            table._ids += ids
            offset = end
        if offset < len(data):  # snapshots of the first version end here
            table.names = NameTable.decode(data[offset:])
        return table

    def _forget_gateway(self) -> None:
        gone = self._gateways.pop(min(self._gateways, key=self._age))
        self._ids -= len(gone.committed)
        self._forgot_gateways = True

    def _forget_ids(self) -> None:
        oldest = min((i for i, g in self._gateways.items() if g.committed), key=self._age)
        gateway = self._gateways[oldest]
        gateway.floor = max(gateway.floor, max(gateway.committed) + 1)
        self._ids -= len(gateway.committed)
        gateway.committed.clear()

    def _age(self, identity: int) -> tuple[int, int]:
        return self._gateways[identity].heard_at, identity
