"""SHOW RAFT INFO and SHOW STORAGE INFO as a gateway answers them."""

from __future__ import annotations

import asyncio
from typing import Any

from actors import limits
from actors.errors import NotDone
from actors.protocol import Op, Request
from actors.router import Router, ServerLost
from bolt.limits import RESULTS
from bolt.packstream import unpack

__all__ = ["gather_raft_info", "gather_storage_info"]

Table = tuple[list[str], list[list[Any]]]


async def gather_raft_info(router: Router) -> Table:
    """(is_leader, term_id) of this gateway's own server. Raises ``NotDone``: it does not answer."""
    try:
        row = await _ask(router, Op.RAFT_INFO, router.home)
    except (ServerLost, TimeoutError):
        raise NotDone(
            f"Server {router.home}, which this gateway belongs to, does not answer: it may be "
            "starting again. Try again, or ask at another server's address."
        ) from None
    return ["is_leader", "term_id"], [row]


async def gather_storage_info(router: Router) -> Table:
    """(server id, item, value) of all servers; one that is silent for a second has no rows."""
    servers = router.servers()
    answers = await asyncio.gather(
        *(_ask(router, Op.STORAGE_INFO, server) for server in servers), return_exceptions=True
    )
    rows: list[list[Any]] = []
    for answer in answers:
        if isinstance(answer, list):
            rows += answer
        elif not isinstance(answer, (ServerLost, TimeoutError)):
            raise answer
    return ["server id", "item", "value"], rows


async def _ask(router: Router, op: Op, server: int) -> Any:
    identity = router.new_id()
    try:
        reply = await router.tell(
            Request(identity, op), server, timeout=limits.STORAGE_INFO_SECONDS_MAX
        )
    finally:
        router.finish(identity)
    value, _ = unpack(reply.body, 0, RESULTS)
    return value
