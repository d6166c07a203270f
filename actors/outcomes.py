"""Which transactions were committed: the replicated memory that makes outcomes knowable.

Every committed transaction leaves its id here, on every server and in every snapshot, until the
gateway that sent it says (with a later request) that its client has been answered. After the
loss of a leader the gateway asks the next one: an id that is not here when that leader has
committed an entry of its own term was not committed and never will be (Raft dissertation, 6.3).

Bounded in both directions, by rules that depend on the log alone, so all servers forget alike.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from actors.commands import TransactionId

__all__ = ["IDS_PER_GATEWAY_MAX", "GATEWAYS_MAX", "OutcomeTable"]

# Lives of gateways remembered; the one heard of least recently is forgotten first.
GATEWAYS_MAX = 1024
# Unacknowledged ids kept for one gateway: ten seconds of writing at 6,000 a second.
IDS_PER_GATEWAY_MAX = 65_536

_GATEWAY = struct.Struct("<QQQI")
_ID = struct.Struct("<QQ")


@dataclass(slots=True)
class _Gateway:
    floor: int = 0  # ids below are forgotten
    heard_at: int = 0  # log index
    committed: dict[int, int] = field(default_factory=dict)  # id -> log index, in log order


class OutcomeTable:
    """``record`` in log order on every server; ``find`` on the leader."""

    def __init__(self) -> None:
        self._gateways: dict[int, _Gateway] = {}

    def record(self, transaction: TransactionId, index: int) -> None:
        gateway = self._gateways.get(transaction.gateway)
        if gateway is None:
            gateway = self._gateways[transaction.gateway] = _Gateway()
            if len(self._gateways) > GATEWAYS_MAX:
                del self._gateways[min(self._gateways, key=self._age)]
        gateway.heard_at = index
        committed = gateway.committed
        committed[transaction.id] = index
        gateway.floor = max(gateway.floor, transaction.acknowledged)
        while committed:
            oldest = next(iter(committed))
            if oldest >= gateway.floor and len(committed) <= IDS_PER_GATEWAY_MAX:
                break
            del committed[oldest]
            gateway.floor = max(gateway.floor, oldest + 1)

    def find(self, gateway_id: int, transaction_id: int) -> int | None | bool:
        """Log index if committed; ``None`` if not; ``False`` if it is too long ago to tell."""
        gateway = self._gateways.get(gateway_id)
        if gateway is None:
            return None
        if transaction_id < gateway.floor:
            return False
        return gateway.committed.get(transaction_id)

    def encode(self) -> bytes:
        parts = [struct.pack("<I", len(self._gateways))]
        for identity, gateway in self._gateways.items():
            parts.append(
                _GATEWAY.pack(identity, gateway.floor, gateway.heard_at, len(gateway.committed))
            )
            parts += [_ID.pack(*pair) for pair in gateway.committed.items()]
        return b"".join(parts)

    @staticmethod
    def decode(data: bytes) -> OutcomeTable:
        table = OutcomeTable()
        (count,) = struct.unpack_from("<I", data)
        offset = 4
        for _ in range(count):
            identity, floor, heard_at, ids = _GATEWAY.unpack_from(data, offset)
            offset += _GATEWAY.size
            gateway = table._gateways[identity] = _Gateway(floor, heard_at)
            for _ in range(ids):
                transaction_id, index = _ID.unpack_from(data, offset)
                gateway.committed[transaction_id] = index
                offset += _ID.size
        return table

    def _age(self, identity: int) -> tuple[int, int]:
        return self._gateways[identity].heard_at, identity
