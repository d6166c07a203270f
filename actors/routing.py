"""The routing table that neo4j:// drivers ask for, made from live leadership."""

from __future__ import annotations

from typing import Any

from actors.router import Router

__all__ = ["routing_table"]

# Seconds a driver may keep the table. Short while nobody leads, so that it asks again soon.
TTL_SECONDS = 300
TTL_WITHOUT_LEADER_SECONDS = 1


def routing_table(router: Router, database: str) -> dict[str, Any]:
    """Bolt's ``rt``: a gateway writes if its own server leads; all gateways read and route.

    All are those of voters, and of learners that have caught up; before a leader has said which
    these are, of every server. No writer is advertised while nobody leads. ``database`` is the
    name the client used: drivers file the table under the name in it and look it up under the one
    they asked for.
    """
    gateways = sorted(router.gateways.items())
    addresses = {server: g.address for server, g in gateways if router.may_read(server)}
    everybody = list(addresses.values())
    leader = router.leader if router.alive(router.leader) else 0
    writers = [addresses[leader]] if leader in addresses else []
    followers = [address for server, address in addresses.items() if server != leader]
    return {
        "ttl": TTL_SECONDS if writers else TTL_WITHOUT_LEADER_SECONDS,
        "db": database,
        "servers": [
            {"role": "WRITE", "addresses": writers},
            {"role": "READ", "addresses": followers or everybody},
            {"role": "ROUTE", "addresses": everybody},
        ],
    }
