"""The Bolt gateway as a Ray actor: sockets on one side, actor calls on the other.

``Gateway`` is asyncio code and lives in one event loop; the sockets are in that loop too.
``GatewayActor`` is its mailbox: Ray's threads put what arrives into the loop and return. (An
asyncio actor, whose loop Ray owns, costs about twice as much for each call.) Servers call
``deliver`` with replies and ``announce`` with news of the leadership, both one-way. The Python
handle calls ``ask``, which goes the same way as a Bolt client's requests do.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import ray
import structlog
from ray.exceptions import ActorUnavailableError

from actors import limits
from actors.bolt_session import BoltSession
from actors.handle_door import HandleDoor
from actors.logs import configure_logs
from actors.protocol import decode_replies
from actors.router import Router
from actors.transport import LOOK_AGAIN_SECONDS, Introduction

__all__ = ["GatewayActor"]

log = structlog.get_logger()

DRAIN_POLL_SECONDS = 0.02


class Gateway:
    """One Bolt gateway, in front of server ``home``. Belongs to one event loop."""

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

    def describe(self) -> dict[str, Any] | None:
        """The fields of this gateway's ``Introduction``; ``None`` before it has started."""
        return self._description

    async def stop(self, drain: bool) -> None:
        """Close the listener and all connections.

        With ``drain``, first let clients finish what is under way, and tell those that come with
        something new to go elsewhere, which their drivers do.
        """
        if self._listener is not None:
            self._listener.close()
        if drain and self._sessions:
            await self._drain()
        for session in list(self._sessions):
            session.close()

    async def _drain(self) -> None:
        self._router.leaving = True
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (passed := loop.time() - begun) < limits.DRAIN_SECONDS_MAX:
            idle = all(session.idle for session in self._sessions)
            if idle and (passed > limits.DRAIN_SECONDS_MIN or not self._sessions):
                return
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def introduce(self, newcomers: list[Introduction]) -> None:
        """Meet servers and other gateways."""
        for newcomer in newcomers:
            if self._router.meet(newcomer):
                log.info("met", kind=newcomer.kind, id=newcomer.server_id)
                if newcomer.key != self.key or newcomer.kind == "server":
                    self._background(self._watch(newcomer))

    def deliver(self, data: bytes) -> None:
        """Replies of a server."""
        self._router.replied(decode_replies(data))

    def announce(self, server_id: int, term: int, leader: int, role: int) -> None:
        """A server says who leads, as far as it knows."""
        self._router.announced(server_id, term, leader, role)

    def announce_readers(self, term: int, readers: tuple[int, ...]) -> None:
        """The leader says which members may answer reads on their own."""
        self._router.readers_announced(term, readers)

    async def ask(self, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A request of the Python handle; see ``HandleDoor``."""
        return await self._door.ask(what, arguments)

    def leadership(self) -> tuple[int, int]:
        """(leader or 0, term) as known here."""
        return self._router.leader, self._router.term

    # ----------------------------------------------------------------- inside

    def _send(self, server: Introduction, data: bytes) -> None:
        server.handle.submit.remote(self.key, data)

    async def _watch(self, other: Introduction) -> None:
        """Ends when the other's process does; the router hears of it at once.

        When only the connection breaks what waits is lost too, for the router; but the other may
        live beyond a partition, and nobody will introduce it again: it is looked for.
        """
        while True:
            try:
                await other.handle.watch.remote()
                unavailable = False
            except Exception as error:
                unavailable = isinstance(error, ActorUnavailableError)
                log.info("gone", kind=other.kind, id=other.server_id, error=type(error).__name__)
            self._router.lost(other)
            if not unavailable or not await self._is_found_again(other):
                return
            if not self._router.meet(other):
                return  # a newer life of it was met meanwhile
            log.info("found again", kind=other.kind, id=other.server_id)

    async def _is_found_again(self, other: Introduction) -> bool:
        """Wait until the other answers (True), or is known to have ended (False)."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            try:
                return await other.handle.describe.remote() is not None
            except ActorUnavailableError:
                continue
            except Exception as error:
                log.info("gone", kind=other.kind, id=other.server_id, error=type(error).__name__)
                return False

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


class GatewayActor:
    """The mailbox of a ``Gateway``; see the module."""

    def __init__(
        self, home: int, directory: str, supervisor_pid: int, replication_timeout_ms: int
    ) -> None:
        self._stopping = threading.Event()
        self._loop = _new_event_loop()
        self._gateway = Gateway(home, directory, supervisor_pid, replication_timeout_ms)
        threading.Thread(target=self._run, name="gateway", daemon=True).start()

    @ray.method(concurrency_group="control")
    def start(self, host: str, port: int, advertised: str) -> dict[str, Any]:
        """See ``Gateway.start``."""
        answer: dict[str, Any] = self._wait(self._gateway.start(host, port, advertised))
        return answer

    @ray.method(concurrency_group="control")
    def describe(self) -> dict[str, Any] | None:
        """The fields of this gateway's ``Introduction``; ``None`` before it has started."""
        return self._gateway.describe()

    @ray.method(concurrency_group="control")
    def introduce(self, newcomers: list[Introduction]) -> None:
        """See ``Gateway.introduce``."""
        self._wait(self._gateway.introduce(newcomers))

    @ray.method(concurrency_group="control")
    def leadership(self) -> tuple[int, int]:
        """(leader or 0, term) as known here."""
        return self._gateway.leadership()

    @ray.method(concurrency_group="control")
    def stop(self, drain: bool = False) -> None:
        """See ``Gateway.stop``."""
        self._wait(self._gateway.stop(drain))
        self._stopping.set()

    @ray.method(concurrency_group="watch")
    def watch(self) -> None:
        """Returns when the gateway stops."""
        self._stopping.wait()

    @ray.method(concurrency_group="server", num_returns=0)
    def deliver(self, server_id: int, data: bytes) -> None:
        """Replies of a server."""
        self._loop.call_soon_threadsafe(self._gateway.deliver, data)

    @ray.method(concurrency_group="server", num_returns=0)
    def announce(self, server_id: int, incarnation: int, term: int, leader: int, role: int) -> None:
        """A server says who leads, as far as it knows."""
        self._loop.call_soon_threadsafe(self._gateway.announce, server_id, term, leader, role)

    @ray.method(concurrency_group="server", num_returns=0)
    def announce_readers(self, term: int, readers: tuple[int, ...]) -> None:
        """The leader says which members may answer reads on their own."""
        self._loop.call_soon_threadsafe(self._gateway.announce_readers, term, readers)

    @ray.method(concurrency_group="handle")
    def ask(self, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A request of the Python handle; see ``HandleDoor``."""
        answer: dict[str, Any] = self._wait(self._gateway.ask(what, arguments))
        return answer

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
