"""What stands around the messages between servers: who sends, of which cluster, which life.

    version u8 | sender u16 | incarnation u64 | cluster 16 bytes (zeros: not known yet)
    | then messages, each length u32 | bytes

A server takes nothing from an older incarnation of a peer than the newest that it has heard of, so
two lives of one server cannot both take part; and nothing from a member of another cluster. A
message that is refused is dropped and the reason kept, for the log and for ``memgraph_ha``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["Sender"]

VERSION = 1
_HEAD = struct.Struct("<BHQ16s")
_LENGTH = struct.Struct("<I")
_NO_CLUSTER = bytes(16)


class Sender:
    """The envelope of one server: seals its own messages and opens those of its peers."""

    def __init__(self, server_id: int, incarnation: int, cluster_id: str) -> None:
        self.server_id = server_id
        self.incarnation = incarnation
        self._cluster = bytes.fromhex(cluster_id) if cluster_id else _NO_CLUSTER
        self._newest: dict[int, int] = {}

    @property
    def cluster_id(self) -> str:
        return "" if self._cluster == _NO_CLUSTER else self._cluster.hex()

    def join(self, cluster_id: str) -> None:
        """The cluster's id became known."""
        self._cluster = bytes.fromhex(cluster_id)

    def met(self, server_id: int, incarnation: int) -> bool:
        """A peer introduced itself; whether this is news."""
        if incarnation <= self._newest.get(server_id, 0):
            return False
        self._newest[server_id] = incarnation
        return True

    def seal(self, messages: Sequence[bytes]) -> bytes:
        parts = [_HEAD.pack(VERSION, self.server_id, self.incarnation, self._cluster)]
        for message in messages:
            parts.append(_LENGTH.pack(len(message)))
            parts.append(message)
        return b"".join(parts)

    def open(self, data: bytes, refusals: dict[int, str]) -> list[bytes]:
        """The messages inside, or none, with the reason in ``refusals``."""
        if len(data) < _HEAD.size:
            return []
        version, sender, incarnation, cluster = _HEAD.unpack_from(data)
        reason = self._objection(version, sender, incarnation, cluster)
        if reason:
            refusals[sender] = reason
            return []
        refusals.pop(sender, None)
        messages: list[bytes] = []
        offset = _HEAD.size
        while offset + _LENGTH.size <= len(data):
            (length,) = _LENGTH.unpack_from(data, offset)
            offset += _LENGTH.size
            end = offset + length
            if end > len(data):
                break  # cut short: what came whole may be taken, Raft sends the rest again
            messages.append(data[offset:end])
            offset = end
        return messages

    def _objection(self, version: int, sender: int, incarnation: int, cluster: bytes) -> str:
        if version != VERSION:
            return f"speaks message format {version}, this server speaks {VERSION}"
        if incarnation < self._newest.get(sender, 0):
            return f"is incarnation {incarnation}; {self._newest[sender]} is known already"
        if _NO_CLUSTER not in (cluster, self._cluster) and cluster != self._cluster:
            return f"belongs to cluster {cluster.hex()}, this server to {self.cluster_id}"
        self._newest[sender] = incarnation
        return ""
