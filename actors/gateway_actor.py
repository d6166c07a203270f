"""The Bolt gateway as a Ray actor: sockets on one side, actor calls on the other.

An asyncio actor; its event loop also runs the sockets. Servers call ``deliver`` with replies and
``announce`` with news of the leadership; both are one-way. The Python handle calls ``request``,
which goes the same way as a Bolt client's requests do.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import time
from pathlib import Path
from typing import Any

import ray
import structlog

from actors import limits
from actors.bolt_session import BoltSession
from actors.handle_door import HandleDoor
from actors.logs import configure_logs
from actors.protocol import decode_replies
from actors.router import Router
from actors.transport import Introduction

__all__ = ["GatewayActor"]

log = structlog.get_logger()


class GatewayActor:
    """One Bolt gateway, in front of server ``home``."""

    def __init__(self, home: int, directory: str, supervisor_pid: int, replication_timeout_ms: int):
        self._home = home
        self._directory = directory
        self._supervisor_pid = supervisor_pid
        self.key = secrets.randbits(63) | 1
        self._router = Router(home, self._send, replication_timeout_s=replication_timeout_ms / 1000)
        self._sessions: set[BoltSession] = set()
        self._numbers = itertools.count(1)
        self._door = HandleDoor(self._router, lambda: next(self._numbers))
        self._listener: asyncio.Server | None = None
        self._stopped = asyncio.Event()
        self._description: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # ----------------------------------------------------------------- life

    async def start(self, host: str, port: int, advertised: str) -> dict[str, Any]:
        """Listen on host:port; clients find it at ``advertised``.

        Returns the fields of this gateway's ``Introduction``, or ``{"refused": why}``.
        """
        configure_logs(Path(self._directory) / "log" / "gateway.log", self._home)
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(self._connected, host, port, backlog=1024)
        except OSError as error:
            reason = f"Bolt cannot listen on {host}:{port}: {error.strerror or error}"
            return {"refused": f"{reason}. Stop what uses it, or choose another --port."}
        self._background(self._housekeeping())
        log.info("listening", host=host, port=port)
        self._description = {
            "kind": "gateway",
            "server_id": self._home,
            "incarnation": time.time_ns(),
            "address": f"{advertised}:{port}",
            "key": self.key,
        }
        return self._description

    async def describe(self) -> dict[str, Any] | None:
        """The fields of this gateway's ``Introduction``; ``None`` before it has started."""
        return self._description

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._listener is not None:
            self._listener.close()
        for session in list(self._sessions):
            session.close()
        self._stopped.set()

    async def watch(self) -> None:
        """Returns when the gateway stops."""
        await self._stopped.wait()

    async def introduce(self, newcomers: list[Introduction]) -> None:
        """Meet servers and other gateways."""
        for newcomer in newcomers:
            if self._router.meet(newcomer):
                log.info("met", kind=newcomer.kind, id=newcomer.server_id)
                if newcomer.key != self.key or newcomer.kind == "server":
                    self._background(self._watch(newcomer))

    # ----------------------------------------------------------------- mailbox

    @ray.method(num_returns=0)
    async def deliver(self, server_id: int, data: bytes) -> None:
        self._router.replied(decode_replies(data))

    @ray.method(num_returns=0)
    async def announce(
        self, server_id: int, incarnation: int, term: int, leader: int, role: int
    ) -> None:
        self._router.announced(server_id, term, leader)

    async def ask(self, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A request of the Python handle; see ``HandleDoor``."""
        return await self._door.ask(what, arguments)

    async def leadership(self) -> tuple[int, int]:
        """(leader or 0, term) as known here."""
        return self._router.leader, self._router.term

    # ----------------------------------------------------------------- inside

    def _send(self, server: Introduction, data: bytes) -> None:
        server.handle.submit.remote(self.key, data)

    async def _watch(self, other: Introduction) -> None:
        """Ends when the other's process does; the router hears of it at once."""
        try:
            await other.handle.watch.remote()
        except Exception as error:
            log.info("gone", kind=other.kind, id=other.server_id, error=type(error).__name__)
        self._router.lost(other)

    def _connected(self) -> asyncio.Protocol:
        session = BoltSession(next(self._numbers), self._router, self._sessions.discard)
        if len(self._sessions) >= limits.CONNECTIONS_MAX:
            log.warning("too many connections", limit=limits.CONNECTIONS_MAX)
            asyncio.get_running_loop().call_soon(session.close)
        self._sessions.add(session)
        return session

    def _background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _housekeeping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            for session in list(self._sessions):
                limit = (
                    limits.IDLE_SECONDS_MAX
                    if session.authenticated
                    else limits.AUTHENTICATION_SECONDS_MAX
                )
                if now - session.last_used > limit:
                    session.close()
            try:
                os.kill(self._supervisor_pid, 0)
            except ProcessLookupError:
                os._exit(0)
            except PermissionError:
                pass
