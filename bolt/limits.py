"""Bounds on everything a client can make grow.

Two sets: a stranger may send little more than a greeting; who has shown credentials may send
work. The larger set stays in force after LOGOFF, because a driver that changes users pipelines
LOGOFF, LOGON and the next query in one packet, and the peer has been trusted once already.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AUTHENTICATED",
    "PACK_DEPTH_MAX",
    "QUEUED_MESSAGE_OVERHEAD_BYTES",
    "RESULTS",
    "STREAMS_MAX",
    "UNAUTHENTICATED",
    "Limits",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one message and for the messages waiting in one connection."""

    message_bytes_max: int
    # Containers (message, map, list, structure) inside one another.
    depth_max: int
    # Items of lists, entries of maps and fields of structures in one message, all levels
    # together. What a container takes in memory has no relation to what it takes on the wire: an
    # empty list is one byte there and 56 here.
    elements_max: int
    # Messages received and not yet asked for, above which ``ServerConnection.queue_full`` is true.
    queue_bytes_max: int


# HELLO and LOGON: a user agent, a routing context, a token. 8 KiB takes a JSON web token of the
# usual size; HELLO nests three deep (message, extra, routing or bolt_agent).
UNAUTHENTICATED = Limits(
    message_bytes_max=8 * 1024, depth_max=4, elements_max=64, queue_bytes_max=64 * 1024
)

# 16 MiB is a batch of 50,000 rows of ten small properties. 2 Mi elements is more than 16 MiB of
# floats make, so that only messages of very many tiny or empty values meet this bound first;
# decoded they take at most some 200 MB. Depth 64 keeps every recursive reader far from the
# interpreter's own limit.
AUTHENTICATED = Limits(
    message_bytes_max=16 * 1024 * 1024,
    depth_max=64,
    elements_max=2 * 1024 * 1024,
    queue_bytes_max=32 * 1024 * 1024,
)

# What we send is bounded by the engine's budgets, not here, except for depth: a query can nest
# lists without end (``reduce(a = [], i IN range(1, 100000) | [a])``), and drivers read
# recursively. Twice the depth of a parameter leaves room for a parameter that comes back inside a
# path inside a map.
PACK_DEPTH_MAX = 128

# For reading our own servers' records: anything they can write (message and row add two levels).
RESULTS = Limits(
    message_bytes_max=2**31 - 1,
    depth_max=PACK_DEPTH_MAX + 8,
    elements_max=2**31 - 1,
    queue_bytes_max=2**31 - 1,
)

# Results open at once in one explicit transaction. Each holds a cursor and a snapshot on a server.
STREAMS_MAX = 1_000

# What a queued message costs beside its bytes (object headers, queue slot), so that a flood of
# one-byte messages counts for what it takes.
QUEUED_MESSAGE_OVERHEAD_BYTES = 128
