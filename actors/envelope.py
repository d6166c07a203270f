"""What stands around the messages between servers: who sends, of which cluster, which life.

    version u8 | sender u32 | incarnation u64 | cluster 16 bytes (zeros: not known yet)
    | directory 8 bytes | then messages, each length u32 | bytes

A server takes nothing

* from an older incarnation of a peer than the newest that it has heard of, so two lives of one
  server cannot both take part;
* from a member of another cluster;
* from another data directory than the one that belongs to the sender's id: a server whose disk was
  lost or emptied has forgotten its votes and its acknowledgements, and would break promises that
  the cluster rests on.

Which directory belongs to an id: the one in the cluster's membership, which names it for servers
that were added to a running cluster; for the first servers the one with which this server, or one
that introduced itself to this server, met it first. That is remembered for ever (``on_met`` makes
it durable before the message counts). Servers that are no members may come with any.

A message that is refused is dropped and the reason kept, for the log and for ``SHOW SERVERS``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Sender", "lost_directory_text"]

VERSION = 2
_HEAD = struct.Struct("<BIQ16s8s")
_LENGTH = struct.Struct("<I")
_NO_CLUSTER = bytes(16)
_NO_DIRECTORY = ""
_DIRECTORY_BYTES = 8


def lost_directory_text(server_id: int) -> str:
    """What is wrong with a server that comes with another directory, and what to do."""
    return (
        f"Server {server_id} does not have the data directory that it had: the directory was lost, "
        f"emptied or exchanged, or another server uses its id. It must not take part again as "
        f"server {server_id}, because it has forgotten what it promised. Choose an id N that was "
        "never used, start the server on an empty directory with memgraph_ha --server_id N --join, "
        f"and run REPLACE SERVER {server_id} BY N AT 'host:rpc_port'."
    )


class Sender:
    """The envelope of one server: seals its own messages and opens those of its peers.

    Args:
        server_id, incarnation, cluster_id, directory: this server's own.
        peers: directories remembered from earlier lives, by server id.
        on_met: makes (server id, directory) durable.
    """

    def __init__(
        self,
        server_id: int,
        incarnation: int,
        cluster_id: str,
        directory: str = _NO_DIRECTORY,
        *,
        peers: Mapping[int, str] | None = None,
        on_met: Callable[[int, str], None] | None = None,
    ) -> None:
        self.server_id = server_id
        self.incarnation = incarnation
        self.directory = directory
        self._cluster = bytes.fromhex(cluster_id) if cluster_id else _NO_CLUSTER
        self._on_met = on_met
        self._remembered = dict(peers or {})
        self._declared: dict[int, str] = {}
        self._members: frozenset[int] = frozenset()
        self._newest: dict[int, tuple[str, int]] = {}  # directory and incarnation heard of last

    @property
    def cluster_id(self) -> str:
        return "" if self._cluster == _NO_CLUSTER else self._cluster.hex()

    @property
    def known_directories(self) -> dict[int, str]:
        """Directories of the members, as far as they are known, by server id."""
        known = {**self._remembered, **self._declared}
        return {i: d for i, d in known.items() if i in self._members}

    def join(self, cluster_id: str) -> None:
        """The cluster's id became known."""
        self._cluster = bytes.fromhex(cluster_id)

    def set_members(self, directories: Mapping[int, str]) -> None:
        """The membership in force: the members' ids, with the directories that it names, or ""."""
        self._members = frozenset(directories)
        self._declared = {i: d for i, d in directories.items() if d}

    # ----------------------------------------------------------------- introductions

    def objection(
        self, server_id: int, incarnation: int, directory: str = "", cluster_id: str = ""
    ) -> str:
        """Why nothing is taken from that life of a server; "" if there is no reason."""
        if cluster_id and self.cluster_id and cluster_id != self.cluster_id:
            return f"belongs to cluster {cluster_id}, this server to {self.cluster_id}"
        if self.is_stranger(server_id, directory):
            return lost_directory_text(server_id)
        newest_directory, newest = self._newest.get(server_id, (directory, 0))
        if newest_directory == directory and incarnation < newest:
            return f"is incarnation {incarnation}; {newest} is known already"
        return ""

    def is_stranger(self, server_id: int, directory: str) -> bool:
        """Whether another directory belongs to that id."""
        expected = self._declared.get(server_id) or self._remembered.get(server_id)
        return bool(directory and expected and directory != expected)

    def met(
        self,
        server_id: int,
        incarnation: int,
        directory: str = "",
        peers: Iterable[tuple[int, str]] = (),
    ) -> bool:
        """A peer introduced itself, with the directories that it knows; whether this is news."""
        if self.objection(server_id, incarnation, directory):
            return False
        self._remember(server_id, directory)
        for other, its_directory in peers:
            self._remember(other, its_directory)
        news = self._newest.get(server_id) != (directory, incarnation)
        self._newest[server_id] = (directory, incarnation)
        return news

    def _remember(self, server_id: int, directory: str) -> None:
        """For ever, unless it is known, or no member's."""
        if (
            not directory
            or server_id not in self._members
            or server_id == self.server_id
            or server_id in self._declared
            or server_id in self._remembered
        ):
            return
        if self._on_met is not None:
            self._on_met(server_id, directory)
        self._remembered[server_id] = directory

    # ----------------------------------------------------------------- messages

    def seal(self, messages: Sequence[bytes]) -> bytes:
        directory = bytes.fromhex(self.directory)
        parts = [_HEAD.pack(VERSION, self.server_id, self.incarnation, self._cluster, directory)]
        for message in messages:
            parts.append(_LENGTH.pack(len(message)))
            parts.append(message)
        return b"".join(parts)

    @staticmethod
    def sender_of(data: bytes) -> int:
        """Who sent that envelope, by its own words; 0 for none."""
        return int(_HEAD.unpack_from(data)[1]) if len(data) >= _HEAD.size else 0

    def open(self, data: bytes, refusals: dict[int, str]) -> list[bytes]:
        """The messages inside, or none, with the reason in ``refusals``."""
        if len(data) < _HEAD.size:
            return []
        version, sender, incarnation, cluster, name = _HEAD.unpack_from(data)
        directory = _NO_DIRECTORY if name == bytes(_DIRECTORY_BYTES) else name.hex()
        reason = self._objection(version, sender, incarnation, cluster, directory)
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

    def _objection(
        self, version: int, sender: int, incarnation: int, cluster: bytes, directory: str
    ) -> str:
        if version != VERSION:
            return f"speaks message format {version}, this server speaks {VERSION}"
        known = "" if cluster == _NO_CLUSTER else cluster.hex()
        reason = self.objection(sender, incarnation, directory, known)
        if not reason:
            self._remember(sender, directory)
            self._newest[sender] = (directory, incarnation)
        return reason
