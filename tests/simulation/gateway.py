"""A gateway: the real ``Router`` and the real ``HandleDoor``, in the simulated loop.

Clients ask through the door as the Python handle does, so retries, questions for outcomes and the
words for errors are the product's. When a gateway is killed its clients lose their answers.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from actors.handle_door import HandleDoor
from actors.protocol import decode_replies
from actors.router import Router
from actors.transport import Introduction

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.simulation import World

__all__ = ["GatewayLost", "SimulatedGateway"]


class GatewayLost(Exception):
    """The gateway died before it answered."""


class SimulatedGateway:
    """One life of the gateway in front of server ``home``."""

    def __init__(self, world: World, home: int) -> None:
        self.world = world
        self.home = home
        self.key = world.random.getrandbits(63) | 1
        self.alive = True
        numbers = itertools.count(1)
        self.router = Router(
            home,
            self._send,
            replication_timeout_s=world.swarm.replication_timeout_ms / 1000,
        )
        self._door = HandleDoor(self.router, lambda: next(numbers))
        self._calls: dict[asyncio.Future[Any], asyncio.Task[Any]] = {}
        self._met: dict[Process, Introduction] = {}

    # ----------------------------------------------------------------- for servers

    def meet(self, process: Process) -> None:
        introduction = self._met.get(process)
        if introduction is None:
            identity = process.assembly.directory.identity
            introduction = self._met[process] = Introduction(
                "server",
                process.host.id,
                process.incarnation,
                handle=process,
                directory=identity.directory,
                cluster_id=identity.cluster_id,
            )
        self._soon(self.router.meet, introduction)

    def lost(self, process: Process) -> None:
        """The server's process is noticed to be dead, or the connection to it broke."""
        introduction = self._met.get(process)
        if introduction is not None:
            self._soon(self.router.lost, introduction)

    def deliver(self, data: bytes) -> None:
        self._soon(self.router.replied, decode_replies(data))

    def announce(self, server_id: int, term: int, leader: int, role: int) -> None:
        self._soon(self.router.announced, server_id, term, leader, role)

    def announce_readers(self, term: int, readers: tuple[int, ...]) -> None:
        self._soon(self.router.readers_announced, term, readers)

    def _soon(self, call: Any, *arguments: Any) -> None:
        if self.alive:
            self.world.loop.call_soon(call, *arguments)

    def _send(self, server: Introduction, data: bytes) -> None:
        process: Process = server.handle
        network = self.world.network
        network.carry(self.home, server.server_id, lambda: process.submit(self.key, data))

    # ----------------------------------------------------------------- for clients

    async def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """See ``HandleDoor.ask``. Raises ``GatewayLost``."""
        if not self.alive:
            raise GatewayLost
        loop = self.world.loop
        answer: asyncio.Future[dict[str, Any]] = loop.create_future()
        task = loop.create_task(self._door.ask(what, arguments))
        self._calls[answer] = task

        def done(task: asyncio.Task[dict[str, Any]]) -> None:
            if answer.done() or task.cancelled():
                return
            error = task.exception()
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        task.add_done_callback(done)
        try:
            return await answer
        finally:
            self._calls.pop(answer, None)

    def kill(self) -> None:
        self.alive = False
        for answer, task in list(self._calls.items()):
            if not answer.done():
                answer.set_exception(GatewayLost())
            task.cancel()
