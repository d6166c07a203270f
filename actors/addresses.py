"""Where a member of the cluster is, and which data directory is its own: text in the membership.

The Raft core keeps an address for each member and never looks into it. For us it is

    host:rpc_port#directory         10.0.0.4:7001#5c1e0a9d33c0ffee        [fd00::4]:7001#...

``directory`` is the name of the server's data directory (``identity.py``). Since it stands in the
replicated membership, every server whose log has it refuses that id with any other directory, even
one that never met the true server. Either part may be missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from actors.config import PORT_MAX, host_key, host_problem
from actors.raft.membership import Membership

__all__ = ["Place", "directories_of", "join_host_port", "parse_address"]

_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})")
_DIRECTORY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Place:
    """An address (host:port) and a directory's name; "" for what is not known."""

    address: str = ""
    directory: str = ""

    @classmethod
    def of(cls, text: str) -> Place:
        """From the membership's text. What is no directory's name is taken for none."""
        address, _, directory = text.partition("#")
        return cls(address, directory if _DIRECTORY.fullmatch(directory) else "")

    def text(self) -> str:
        """As the membership keeps it."""
        return f"{self.address}#{self.directory}" if self.directory else self.address


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "10.0.0.4:7001", "[fd00::4]:7001" or "host:7001".

    Raises:
        ValueError: says what is wrong and what would be right.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not host:rpc_port, such as 10.0.0.4:7001 or [fd00::4]:7001")
    host, port = match["six"] or match["host"], int(match["port"])
    problem = host_problem(host)
    if problem is not None:
        raise ValueError(f"{problem}. Give host:rpc_port, such as 10.0.0.4:7001")
    if not 1 <= port <= PORT_MAX:
        raise ValueError(f"{port} is not a port. Give the RPC port, from 1 to {PORT_MAX}")
    return host, port


def join_host_port(host: str, port: int) -> str:
    """One spelling for an address: IPv6 in brackets."""
    host = host_key(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def directories_of(membership: Membership) -> dict[int, str]:
    """Members' ids, with the directories that the membership names, or ""."""
    return {m.server_id: Place.of(m.address).directory for m in membership.members}
