"""An operator at work: who votes, who leads, who is a member, while everything else goes on.

Statements go through a gateway as an operator's do. Each may fail, or its outcome may be unknown;
the operator looks at what the cluster is (here: omnisciently, at what its servers have committed)
and goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.raft.membership import MemberRole
from tests.simulation.gateway import GatewayLost
from tests.simulation.process import address_of
from tests.simulation.world import US

if TYPE_CHECKING:
    from tests.simulation.simulation import World

__all__ = ["operate"]

PAUSE_US = 100_000
PATIENCE_S = 1.0
PATIENCE_ROUNDS = 40
MEMBERS_MAX = 5


async def operate(world: World) -> None:
    """Change the cluster, one thing after the other, until clients stop working."""
    swarm, random = world.swarm, world.random
    jobs = []
    if "voters changed" in swarm.faults:
        jobs += [_demote_and_promote, _yield_leadership]
    if "members changed" in swarm.faults:
        jobs += [_grow_or_shrink]
    if "server replaced" in swarm.faults:
        jobs += [_replace]
    while world.clients.working:
        if world.nemesis.wants("voters changed", "members changed", "server replaced"):
            await random.choice(jobs)(world)
        await _pause(world)


async def _demote_and_promote(world: World) -> None:
    """A voter becomes a learner, and a voter again."""
    members = world.member_ids()
    if not members:
        return
    server = world.random.choice(members)
    if await _order(world, f"DEMOTE SERVER {server}"):
        world.trace.count["voters changed"] += 1
    await _pause(world)
    while world.clients.working and not await _order(world, f"PROMOTE SERVER {server}"):
        await _pause(world)
        members = world.member_ids()
        if members and server not in members:
            return  # an order to remove it was still on its way


async def _yield_leadership(world: World) -> None:
    await _order(world, "YIELD LEADERSHIP")


async def _grow_or_shrink(world: World) -> None:
    members = world.member_ids()
    if len(members) < MEMBERS_MAX and (len(members) <= 3 or world.random.random() < 0.5):
        await _join(world, lambda server, address: f"ADD SERVER {server} AT '{address}'")
    elif len(members) > 3:
        server = world.random.choice(members)
        await _order(world, f"REMOVE SERVER {server}")
        await _until(world, lambda: server not in world.member_ids())
        if server not in world.member_ids():
            world.trace.count["members changed"] += 1
            world.retire(server)


async def _replace(world: World) -> None:
    """A server is lost with all it had; another one under a new id takes its place."""
    members = world.member_ids()
    if len(members) < 3:
        return
    lost = world.random.choice(members)
    if not world.may_lose(lost):
        return
    world.retire(lost, "lost for good")
    await _join(
        world, lambda server, address: f"REPLACE SERVER {lost} BY {server} AT '{address}'", lost
    )


async def _join(world: World, statement: Callable[[int, str], str], lost: int = 0) -> None:
    """A new server is started and becomes a voter, in the place of ``lost`` if there is one."""
    server = world.new_host()
    address = address_of(server)
    for _ in range(PATIENCE_ROUNDS):
        members = world.member_ids()
        if lost and members and lost not in members:
            world.trace.count["server replaced"] += 1  # an earlier order has done it at last
            return
        if not world.clients.working:
            return
        await _order(world, statement(server, address))
        await _until(world, lambda: world.role_of(server) is MemberRole.VOTER)
        if world.role_of(server) is MemberRole.VOTER:
            break
    else:
        return
    world.trace.count["members changed"] += 1
    if lost:
        await _until(world, lambda: lost not in world.member_ids())
        world.trace.count["server replaced"] += lost not in world.member_ids()


async def _until(world: World, holds: Callable[[], bool]) -> None:
    for _ in range(5):
        if holds():
            return
        await _pause(world)


async def _pause(world: World) -> None:
    await asyncio.sleep(world.random.randint(PAUSE_US // 10, PAUSE_US) / US)


async def _order(world: World, statement: str) -> bool:
    """Whether it is done; else it may be, or not."""
    gateways = [world.gateways[home] for home in sorted(world.gateways)]
    if not gateways:
        return False
    gateway = world.random.choice(gateways)
    try:
        answer = await asyncio.wait_for(gateway.ask("administer", query=statement), PATIENCE_S)
    except (GatewayLost, TimeoutError):
        world.trace.note("operator", statement, "no answer")
        return False
    error = answer.get("error")
    world.trace.note("operator", statement, error[1][:50] if error else "done")
    return error is None
