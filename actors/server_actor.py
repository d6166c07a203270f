"""A Raft server as a Ray actor: threads around ``RaftServer``, and its mailbox.

Everything reaches the server as an actor call that only puts something into a queue and returns:

    deliver    messages of other servers          own thread, so that they never wait for clients
    submit     requests of gateways               parsed and sorted (``dispatch.py``)
    tick       the timer, sent by the actor to itself when the core's deadline has come
    introduce  a new server or gateway, or a new life of one
    watch      returns when the server stops; ends in an error when its process dies
    refused    a member says that this server must not take part, and why

Calls between servers are one-way: nobody waits for an answer, and a message that is lost is sent
again by Raft. A thread watches the peers' ``watch`` calls: when a peer's process dies the core is
told at once (``PeerDown``), which is much faster than an election time-out.

What the server is made of, apart from Ray and threads, is put together in ``assembly.py``. The
process ends itself when a thread fails, when the disk fails, and when its supervisor is gone.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
import structlog

from actors import limits
from actors.addresses import Place
from actors.administration_server import FIRST_TOKEN, GatewayMet, PeerMet, PeerRefused
from actors.assembly import Assembly, Inbox, ServerSettings, Surroundings
from actors.envelope import lost_directory_text
from actors.errors import DirectoryRefused, Restart, ServerRemoved
from actors.identity import DataDirectory, removed_text
from actors.info import raft_info, storage_info
from actors.logs import configure_logs
from actors.protocol import Op, Reply, Request, decode_requests
from actors.raft.messages import PeerDown, Tick, TransferLeadership, Unreachable
from actors.raft.ready import Role
from actors.server import FromPeer
from actors.transport import FOREIGN, LOST, REMOVED, Introduction, Transport
from graph.errors import CorruptionError

__all__ = ["ServerActor", "ServerSettings"]

log = structlog.get_logger()

# A thread that wants the interpreter waits no longer than this for another one that computes
# (Python's default is 5 ms): heartbeats must not wait for queries.
SWITCH_INTERVAL_SECONDS = 0.001
EXIT_STATUS_FAILURE = 70  # sysexits.h: internal software error
EXIT_STATUS_RESTART = 75  # sysexits.h: temporary, try again
# The administrator's own tokens begin above it, so nobody waits for an answer with this one.
HANDOVER_TOKEN = FIRST_TOKEN
HANDOVER_POLL_SECONDS = 0.005


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
        self._incarnation = 0
        self._verdict: dict[str, str] | None = None
        self._refused_by: dict[int, str] = {}

    # ----------------------------------------------------------------- life

    @ray.method(concurrency_group="control")
    def start(self) -> dict[str, Any]:
        """Open the data directory and begin to take part.

        Returns what ``describe`` does, or ``{"refused": why, "removed": ...}`` if the directory
        cannot be used, or the server was removed from its cluster; nothing was changed then.
        """
        settings = self._settings
        configure_logs(Path(settings.directory) / "log" / "server.log", settings.server_id)
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        try:
            self._open()
        except (DirectoryRefused, CorruptionError) as error:
            log.error("refused to start", reason=str(error))
            return {"refused": str(error), "removed": isinstance(error, ServerRemoved)}
        self._begin()
        return self._description()

    def _open(self) -> None:
        settings = self._settings
        self._directory = DataDirectory.open(Path(settings.directory), settings.server_id)
        self._transport = Transport(
            settings.server_id,
            on_down=lambda peer: self._inbox.post(PeerDown(peer)),
            on_unreachable=lambda peer: self._inbox.post(Unreachable(peer)),
            on_gateway_down=self._gateway_down,
            on_gateway_back=self._announce_again,
        )
        surroundings = Surroundings(
            run_reads=self._run_reads,
            fail=self._fail,
            pause=time.sleep,
            tell_readers=self._transport.announce_readers,
            removed=self._removed,
            dismiss=lambda peer: self._transport.dismiss(peer, _left_text(peer)),
        )
        self._assembly = Assembly(
            settings, self._directory, self._transport, self._inbox, surroundings, self._inform
        )

    def _begin(self) -> None:
        me = ray.get_runtime_context().current_actor
        self._pool = ThreadPoolExecutor(limits.READER_THREADS, thread_name_prefix="reader")
        self._timer = Timer(me.tick.remote, lambda: self._inbox.post(Tick(now_ms())))
        self._assembly.start()
        self._transport.start()
        threading.Thread(target=self._loop, name="server", daemon=True).start()
        threading.Thread(target=self._housekeeping, name="housekeeping", daemon=True).start()
        self._timer.arm(self._assembly.core.deadline_ms)
        self._timer.start()
        self._incarnation = self._directory.identity.incarnation

    @ray.method(concurrency_group="control")
    def stop(self, hand_over: bool = False) -> None:
        """End cleanly: what was acknowledged is on the disk already.

        With ``hand_over`` a leader first hands its leadership to another server, for which it waits
        no longer than an election would take.
        """
        log.info("stopping", hand_over=hand_over)
        if hand_over:
            self._hand_over()
        self._stopping.set()
        self._assembly.stop()

    def _hand_over(self) -> None:
        core = self._assembly.core
        term = core.term
        if core.role is not Role.LEADER or core.membership.voters == (core.server_id,):
            return
        self._inbox.post(TransferLeadership(HANDOVER_TOKEN))
        deadline = time.monotonic() + self._settings.election_timeout_max_ms / 1000
        # Until the next leader has been heard: then it has told the gateways, too.
        while time.monotonic() < deadline:
            if core.term > term and core.leader not in (0, core.server_id):
                log.info("handed over", leader=core.leader, term=core.term)
                return
            time.sleep(HANDOVER_POLL_SECONDS)
        log.warning("nobody has taken the leadership over in time")

    def _end(self, kind: str, reason: str) -> None:
        """Stop for good: this server must not take part any more."""
        if self._verdict is not None:
            return
        log.error("this server must not take part any more", kind=kind, reason=reason)
        if kind == REMOVED:
            self._directory.mark_removed()
        self._verdict = {"kind": kind, "reason": reason}
        self._stopping.set()
        # In a thread of its own: it may be the server loop that has found out.
        threading.Thread(target=self._assembly.stop, name="end", daemon=True).start()

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
            self._assembly.dispatcher.submit(gateway, requests)
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
            if newcomer.kind == "server":
                self._meet_server(newcomer)
            elif self._transport.meet(newcomer):
                self._inbox.post(GatewayMet(newcomer.server_id, newcomer.address))
                self._announce_again()

    def _announce_again(self) -> None:
        """A gateway may not know who leads."""
        self._assembly.announce_again()
        self._inbox.post(Tick(now_ms()))

    def _meet_server(self, newcomer: Introduction) -> None:
        server_id, sender = newcomer.server_id, self._assembly.sender
        if server_id == self._settings.server_id:
            return
        if self._assembly.server.was_removed(server_id):
            self._transport.refuse(newcomer, REMOVED, _left_text(server_id))
            return
        life, directory = newcomer.incarnation, newcomer.directory
        objection = sender.objection(server_id, life, directory, newcomer.cluster_id)
        if not objection:
            if self._transport.meet(newcomer):
                place = Place(newcomer.address, directory)
                self._inbox.post(PeerMet(server_id, life, place, newcomer.peers))
        elif sender.is_stranger(server_id, directory):
            self._refuse(newcomer, LOST, lost_directory_text(server_id))
        elif newcomer.cluster_id not in ("", sender.cluster_id):
            self._refuse(newcomer, FOREIGN, objection)

    def _refuse(self, newcomer: Introduction, kind: str, reason: str) -> None:
        self._transport.refuse(newcomer, kind, reason)
        self._inbox.post(PeerRefused(newcomer.server_id, f"a server is refused: {reason}"))

    @ray.method(concurrency_group="control", num_returns=0)
    def refused(self, by: int, kind: str, reason: str) -> None:
        """Server ``by`` takes nothing from this one; see the kinds in ``transport.py``."""
        if self._incarnation == 0 or self._stopping.is_set():
            return
        log.error("refused", by=by, kind=kind, reason=reason)
        self._refused_by[by] = reason
        if kind in (REMOVED, LOST):
            self._end(kind, reason)

    @ray.method(concurrency_group="control")
    def describe(self) -> dict[str, Any] | None:
        """The fields of this server's ``Introduction``; ``None`` before it has started."""
        return self._description() if self._incarnation else None

    def _description(self) -> dict[str, Any]:
        return {
            "kind": "server",
            "server_id": self._settings.server_id,
            "incarnation": self._incarnation,
            "address": self._settings.address,
            "directory": self._directory.identity.directory,
            "cluster_id": self._assembly.sender.cluster_id,
            "peers": tuple(self._assembly.sender.known_directories.items()),
        }

    @ray.method(concurrency_group="watch")
    def watch(self) -> dict[str, str] | None:
        """Why it ended for good, or None: it was told to stop."""
        self._stopping.wait()
        return self._verdict

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """What the supervisor and the handle show."""
        assembly = self._assembly
        status = assembly.core.status()
        return {
            "server_id": status.server_id,
            "role": status.role.name,
            "term": status.term,
            "leader": status.leader,
            "commit_index": status.commit_index,
            "applied_index": status.applied_index,
            "last_index": status.last_index,
            "first_index": status.first_index,
            "cluster_id": assembly.sender.cluster_id,
            "incarnation": assembly.sender.incarnation,
            "pid": os.getpid(),
            "refused_peers": dict(assembly.server.refused_peers),
            "refused_by": dict(self._refused_by),
            "wanted": dict(assembly.administrator.wanted),
            "members": [
                (m.server_id, m.role.name, Place.of(m.address).address)
                for m in status.membership.members
            ],
            "dropped": status.dropped,
            "health": assembly.machine.health or "ok",
        }

    # ----------------------------------------------------------------- threads

    def _loop(self) -> None:
        try:
            while not self._stopping.is_set():
                self._timer.arm(self._assembly.advance())
        except BaseException as error:
            self._fail(error)

    def _housekeeping(self) -> None:
        while not self._stopping.wait(0.5):
            self._assembly.sweep()
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
        if isinstance(error, Restart):
            log.warning("starting again", reason=str(error))
            os._exit(EXIT_STATUS_RESTART)
        log.critical("server failed", error=repr(error), exc_info=error)
        os._exit(EXIT_STATUS_FAILURE)

    # ----------------------------------------------------------------- callbacks

    def _removed(self) -> None:
        """This server has applied its own removal."""
        server_id = self._settings.server_id
        self._end(REMOVED, removed_text(server_id, self._settings.directory))

    def _gateway_down(self, gateway: int) -> None:
        self._assembly.service.sessions.drop_gateway(gateway)

    def _inform(self, request: Request) -> Reply:
        if request.op is Op.RAFT_INFO:
            return raft_info(request, self._assembly.core, self._assembly.replica)
        server_id, machine = self._settings.server_id, self._assembly.machine
        return storage_info(
            request, self._assembly.replica, self._directory, server_id, machine.health
        )


def _left_text(server_id: int) -> str:
    return removed_text(server_id, "the directory where it was")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
