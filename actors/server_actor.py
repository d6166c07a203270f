"""A Raft server as a Ray actor: threads around ``RaftServer``, and its mailbox.

Everything reaches the server as an actor call that only puts something into a queue and returns:

    deliver    messages of other servers          own thread, so that they never wait for clients
    submit     requests of gateways               parsed and sorted (``dispatch.py``)
    tick       the timer, sent by the actor to itself when the core's deadline has come
    introduce  a new server or gateway, or a new life of one
    watch      returns when the server stops; ends in an error when its process dies

Calls between servers are one-way: nobody waits for an answer, and a message that is lost is sent
again by Raft. A thread watches the peers' ``watch`` calls: when a peer's process dies the core is
told at once (``PeerDown``), which is much faster than an election time-out.

The process ends itself when a thread fails, when the disk fails, and when its supervisor is gone.
"""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import structlog

from actors import limits
from actors.dispatch import Dispatcher
from actors.envelope import Sender
from actors.errors import DAMAGED, DirectoryRefused
from actors.identity import DataDirectory
from actors.info import raft_info, storage_info
from actors.logs import configure_logs
from actors.machine import StateMachine
from actors.protocol import Op, Reply, Request, decode_requests
from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.messages import Applied, PeerDown, PeerReset, Tick, Unreachable
from actors.raft.ready import Restored, SnapshotMark
from actors.replica import Replica, load_root
from actors.server import FromPeer, RaftServer
from actors.service import QueryService
from actors.snapshots import SnapshotStore
from actors.transport import Introduction, Transport
from actors.wal import WriteAheadLog
from actors.workers import LogThread, MachineThread
from graph.engine import Engine
from graph.errors import CorruptionError

__all__ = ["ServerActor", "ServerSettings"]

log = structlog.get_logger()

# A thread that wants the interpreter waits no longer than this for another one that computes
# (Python's default is 5 ms): heartbeats must not wait for queries.
SWITCH_INTERVAL_SECONDS = 0.001
EXIT_STATUS_FAILURE = 70  # sysexits.h: internal software error


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server is told when it is created."""

    server_id: int
    voters: tuple[int, ...]
    directory: str
    supervisor_pid: int
    election_timeout_min_ms: int
    election_timeout_max_ms: int
    heartbeat_interval_ms: int
    replication_timeout_ms: int
    log_size_snapshot_threshold: int  # -1: no compaction


class Inbox:
    """Events for the server loop; bounded for what peers send, who will send it again."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._applied = 0  # written by the machine's thread alone
        self._applied_told = 0

    def post_applied(self, index: int) -> None:
        """Progress of the state machine: taken along with the next event, worth no waking up.

        (There is always a next one soon: heartbeats.)
        """
        self._applied = index

    def post(self, event: Any) -> None:
        self._queue.put(event)

    def post_from_peer(self, event: FromPeer) -> None:
        if self._queue.qsize() < limits.INBOX_MESSAGES_MAX:
            self._queue.put(event)

    def take(self) -> list[Any]:
        """Wait for an event; then all that are there."""
        events = [self._queue.get()]
        while True:
            try:
                events.append(self._queue.get_nowait())
            except queue.Empty:
                break
        # Read after the queue: an event that rests on an index finds that index told before it.
        applied = self._applied
        if applied != self._applied_told:
            self._applied_told = applied
            events.insert(0, Applied(applied))
        return events


class Timer:
    """Sends the actor a ``tick`` message when the armed deadline comes."""

    def __init__(self, send_tick: Any, post_tick: Any) -> None:
        self._send_tick = send_tick
        self._post_tick = post_tick
        self._deadline_ms = 0
        self._condition = threading.Condition()
        self._arrived = True
        self._thread = threading.Thread(target=self._run, name="timer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def arm(self, deadline_ms: int) -> None:
        if deadline_ms == self._deadline_ms:
            return
        with self._condition:
            earlier = deadline_ms < self._deadline_ms or not self._deadline_ms
            self._deadline_ms = deadline_ms
            if earlier:
                self._condition.notify()

    def arrived(self) -> None:
        """The tick that was sent is in the inbox."""
        self._arrived = True

    def _run(self) -> None:
        while True:
            with self._condition:
                wait = self._deadline_ms / 1000 - time.monotonic() if self._deadline_ms else 1.0
                if wait > 0:
                    self._condition.wait(wait)
                    continue
                self._deadline_ms = 0
            if self._arrived:
                self._arrived = False
                self._send_tick()
            else:  # the last one has not come yet: do not depend on the mailbox alone
                self._post_tick()


def now_ms() -> int:
    return int(time.monotonic() * 1000)


class ServerActor:
    """One Raft server. ``start`` opens its directory and must be called first."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._inbox = Inbox()
        self._stopping = threading.Event()
        self._started_at = time.monotonic()
        self._announced: Any = None
        self._incarnation = 0

    # ----------------------------------------------------------------- life

    @ray.method(concurrency_group="control")
    def start(self) -> dict[str, Any]:
        """Open the data directory and begin to take part.

        Returns ``{"incarnation": ..., "pid": ...}``, or ``{"refused": why}`` if the directory
        cannot be used; nothing was changed then.
        """
        settings = self._settings
        configure_logs(Path(settings.directory) / "log" / "server.log", settings.server_id)
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        try:
            self._open()
        except (DirectoryRefused, CorruptionError) as error:
            log.error("refused to start", reason=str(error))
            return {"refused": str(error)}
        self._begin()
        identity = self._directory.identity
        return {"incarnation": identity.incarnation, "pid": os.getpid()}

    def _open(self) -> None:
        settings = self._settings
        self._directory = DataDirectory.open(Path(settings.directory), settings.server_id)
        disk = self._directory.disk
        self._wal = WriteAheadLog(disk)
        recovered = self._wal.open()
        self._snapshots = SnapshotStore(disk)
        self._replica = Replica()
        mark = SnapshotMark(0, 0)
        name = self._snapshots.newest()
        if name is not None:
            meta, stream = self._snapshots.load(name)
            self._replica.restore(meta, load_root(stream))
            mark = SnapshotMark(meta.index, meta.term)
        try:
            restored = Restored.from_disk(recovered.hard_state, mark, recovered.entries)
            self._core = RaftCore(self._core_config(), restored, random.SystemRandom(), now_ms())
        except ValueError as error:
            raise DirectoryRefused(f"{settings.directory}: {error}. " + DAMAGED) from error
        log.info(
            "opened",
            directory=settings.directory,
            incarnation=self._directory.identity.incarnation,
            snapshot=mark.index,
            entries=len(restored.entries),
            torn_bytes=recovered.torn_bytes,
        )

    def _core_config(self) -> CoreConfig:
        settings = self._settings
        return CoreConfig(
            server_id=settings.server_id,
            voters=settings.voters,
            election_timeout_min_ms=settings.election_timeout_min_ms,
            election_timeout_max_ms=settings.election_timeout_max_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            inflight_messages_max=limits.APPENDS_IN_FLIGHT_MAX,
            uncommitted_bytes_max=limits.UNCOMMITTED_BYTES_MAX,
        )

    def _begin(self) -> None:
        settings = self._settings
        identity = self._directory.identity
        me = ray.get_runtime_context().current_actor
        self._transport = Transport(
            settings.server_id,
            on_down=lambda peer: self._inbox.post(PeerDown(peer)),
            on_unreachable=lambda peer: self._inbox.post(Unreachable(peer)),
            on_gateway_down=self._gateway_down,
        )
        self._pool = ThreadPoolExecutor(limits.READER_THREADS, thread_name_prefix="reader")
        self._service = QueryService(Engine(), self._transport.reply)
        self._machine = StateMachine(
            self._replica,
            self._service,
            post=self._inbox.post,
            applied=self._inbox.post_applied,
            run_reads=self._run_reads,
            new_cluster_id=lambda: uuid.uuid4().hex,
            on_cluster=self._cluster_known,
            replication_timeout_ms=settings.replication_timeout_ms,
        )
        self._machine_thread = MachineThread(
            self._machine,
            self._snapshots,
            self._inbox.post,
            self._fail,
            threshold=settings.log_size_snapshot_threshold,
            snapshot_index=self._replica.applied_index,
        )
        self._log_thread = LogThread(
            self._wal, self._snapshots, self._inbox.post, self._machine_thread.install, self._fail
        )
        self._sender = Sender(settings.server_id, identity.incarnation, identity.cluster_id)
        self._server = RaftServer(
            self._core, self._log_thread, self._machine_thread, self._transport, self._sender
        )
        self._dispatcher = Dispatcher(
            self._service,
            self._machine,
            run_machine=self._machine_thread.worker.submit,
            run_reads=self._run_reads,
            inform=self._inform,
            waiting_writes=self._machine.waiting,
        )
        self._timer = Timer(me.tick.remote, lambda: self._inbox.post(Tick(now_ms())))
        self._log_thread.start()
        self._machine_thread.start()
        self._transport.start()
        threading.Thread(target=self._loop, name="server", daemon=True).start()
        threading.Thread(target=self._housekeeping, name="housekeeping", daemon=True).start()
        self._timer.arm(self._core.deadline_ms)
        self._timer.start()
        self._incarnation = identity.incarnation

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        """End cleanly: what was acknowledged is on the disk already."""
        log.info("stopping")
        self._stopping.set()
        self._machine_thread.stop()
        self._log_thread.stop()

    # ----------------------------------------------------------------- mailbox

    @ray.method(concurrency_group="peer", num_returns=0)
    def deliver(self, data: bytes) -> None:
        self._inbox.post_from_peer(FromPeer(data))

    @ray.method(concurrency_group="client", num_returns=0)
    def submit(self, gateway: int, data: bytes) -> None:
        try:
            requests = decode_requests(data)
        except ValueError as error:
            log.error("a message of a gateway cannot be read", error=str(error))
            return
        try:
            self._dispatcher.submit(gateway, requests)
        except BaseException as error:
            self._fail(error)

    @ray.method(concurrency_group="tick", num_returns=0)
    def tick(self) -> None:
        self._timer.arrived()
        self._inbox.post(Tick(now_ms()))

    @ray.method(concurrency_group="control")
    def introduce(self, newcomers: list[Introduction]) -> None:
        """Meet servers and gateways; older lives of them are forgotten."""
        for newcomer in newcomers:
            news = self._transport.meet(newcomer)
            if news and newcomer.kind == "server":
                self._inbox.post(PeerReset(newcomer.server_id))
            elif news:
                self._announced = None
                self._inbox.post(Tick(now_ms()))

    @ray.method(concurrency_group="control")
    def describe(self) -> dict[str, Any] | None:
        """The fields of this server's ``Introduction``; ``None`` before it has started."""
        if self._incarnation == 0:
            return None
        return {
            "kind": "server",
            "server_id": self._settings.server_id,
            "incarnation": self._incarnation,
        }

    @ray.method(concurrency_group="watch")
    def watch(self) -> None:
        self._stopping.wait()

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """What the supervisor and the handle show."""
        status = self._core.status()
        return {
            "server_id": status.server_id,
            "role": status.role.name,
            "term": status.term,
            "leader": status.leader,
            "commit_index": status.commit_index,
            "applied_index": status.applied_index,
            "last_index": status.last_index,
            "first_index": status.first_index,
            "cluster_id": self._sender.cluster_id,
            "incarnation": self._sender.incarnation,
            "pid": os.getpid(),
            "refused_peers": dict(self._server.refused_peers),
            "dropped": status.dropped,
        }

    # ----------------------------------------------------------------- threads

    def _loop(self) -> None:
        try:
            while not self._stopping.is_set():
                self._server.advance(self._inbox.take(), now_ms())
                self._timer.arm(self._server.deadline_ms)
                self._announce()
        except BaseException as error:
            self._fail(error)

    def _announce(self) -> None:
        core = self._core
        news = (core.term, core.leader, int(core.role))
        if news != self._announced:
            self._announced = news
            self._transport.announce(self._settings.server_id, self._sender.incarnation, *news)

    def _housekeeping(self) -> None:
        while not self._stopping.wait(0.5):
            now = time.monotonic()
            self._machine_thread.worker.submit(partial(self._machine.sweep, now))
            if not _alive(self._settings.supervisor_pid):
                log.warning("the supervisor is gone: stopping")
                os._exit(0)

    def _run_reads(self, task: Any) -> None:
        self._pool.submit(self._guarded, task)

    def _guarded(self, task: Any) -> None:
        try:
            task()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """A thread or the disk failed: end the process; the next one starts from the disk."""
        log.critical("server failed", error=repr(error), exc_info=error)
        os._exit(EXIT_STATUS_FAILURE)

    # ----------------------------------------------------------------- callbacks

    def _cluster_known(self, cluster_id: str) -> None:
        self._directory.join(cluster_id)
        self._sender.join(cluster_id)
        log.info("member of cluster", cluster_id=cluster_id)

    def _gateway_down(self, gateway: int) -> None:
        self._service.sessions.drop_gateway(gateway)

    def _inform(self, request: Request) -> Reply:
        if request.op is Op.RAFT_INFO:
            return raft_info(request, self._core, self._replica)
        return storage_info(request, self._replica, self._directory, self._settings.server_id)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
