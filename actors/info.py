"""What a server tells about itself: SHOW RAFT INFO and SHOW STORAGE INFO of the original."""

from __future__ import annotations

import resource
import sys
from typing import Any

from actors.identity import DataDirectory
from actors.protocol import Reply, Request, Status
from actors.quarantine import HollowReplica
from actors.raft.core import RaftCore
from actors.raft.ready import Role
from actors.replica import Replica
from bolt.packer import Packer

_PACKER = Packer()

__all__ = ["raft_info", "storage_info"]


def raft_info(request: Request, core: RaftCore, replica: Replica) -> Reply:
    """Row (is_leader, term_id) as a PackStream list in ``body``.

    A server is the leader when it can serve as one: its own term's first entry is applied.
    """
    leads = core.role is Role.LEADER and replica.leading_term == core.term
    return Reply(request.id, Status.DONE, body=_PACKER.pack([leads, core.term]))


def storage_info(
    request: Request, replica: Replica, directory: DataDirectory, server_id: int, health: str
) -> Reply:
    """Rows (server id, item, value) as a PackStream list of lists in ``body``.

    ``health`` has a row if it is not empty; a server without a state has no counts to show.
    """
    items: list[tuple[str, Any]] = []
    if not isinstance(replica, HollowReplica):
        root = replica.head
        nodes, relationships = root.node_count, root.relationship_count
        items = [
            ("vertex_count", nodes),
            ("edge_count", relationships),
            ("average_degree", 2 * relationships / nodes if nodes else 0.0),
        ]
    items += [("memory_usage", _memory_bytes()), ("disk_usage", directory.bytes_on_disk())]
    if health:
        items.append(("health", health))
    rows = [[server_id, item, value] for item, value in items]
    return Reply(request.id, Status.DONE, body=_PACKER.pack(rows))


def _memory_bytes() -> int:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
