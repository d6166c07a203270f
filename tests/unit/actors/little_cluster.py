"""Whole servers in one thread: the real assembly over disks in memory, a clock and a wire by hand.

``LittleCluster`` starts servers; ``settle`` lets everything happen that needs no time: messages
arrive at once and in order, threads are queues. ``pass_time`` moves the clock, in steps, with ticks
and sweeps. A server whose ``fail`` is called is gone, its reason is in ``ended``; ``start`` begins
its next life on the same disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from actor_fakes import MemoryDisk
from neo4j.time import DateTime

from actors.addresses import Place
from actors.administration_server import PeerMet
from actors.assembly import Assembly, Inbox, ServerSettings, Surroundings
from actors.identity import FORMAT_VERSION, Identity
from actors.protocol import Op, Reply, Request, Status
from actors.raft.messages import PeerDown, Tick
from actors.raft.ready import Role
from actors.server import FromPeer
from bolt.packer import Packer

GATEWAY = 7
STEP_SECONDS = 0.05


class Ended(BaseException):
    """A server's process has ended."""


class _Worker:
    def __init__(
        self,
        name: str,
        on_failure: Callable[[BaseException], None],
        after_batch: Callable[[], float] | None = None,
    ) -> None:
        self.tasks: deque[Callable[[], None]] = deque()
        self.stalled = False
        self._on_failure = on_failure
        self._after_batch = after_batch
        self._again = False

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.tasks.clear()

    def submit(self, task: Callable[[], None]) -> None:
        self.tasks.append(task)

    def run(self) -> bool:
        if self.stalled or not (self.tasks or self._again):
            return False
        again, self._again = self._again, False
        busy = bool(self.tasks)
        try:
            while self.tasks:
                self.tasks.popleft()()
            if self._after_batch is not None:
                self._again = self._after_batch() > 0
        except Exception as error:
            self._on_failure(error)
        return busy or (again and not self._again)


class _Directory:
    def __init__(self, disk: Any, identity: Identity) -> None:
        self.disk = disk
        self.identity = identity

    def join(self, cluster_id: str) -> None:
        self.identity = replace(self.identity, cluster_id=cluster_id)

    def remember_peer(self, server_id: int, directory: str) -> None:
        peers = {**self.identity.peers, server_id: directory}
        self.identity = replace(self.identity, peers=peers)


class Server:
    """One server: what outlives its lives, and the living one."""

    def __init__(self, cluster: LittleCluster, server_id: int) -> None:
        self.cluster = cluster
        self.id = server_id
        self.disk: Any = MemoryDisk()
        self.identity = Identity(FORMAT_VERSION, server_id, "", 0, f"{server_id:016x}")
        self.lives = 0
        self.ended: BaseException | None = None
        self.alive = False
        self.cut = False  # no messages in or out
        self.replies: dict[int, Reply] = {}

    def start(self) -> Server:
        cluster = self.cluster
        self.lives += 1
        self.ended = None
        self.identity = replace(self.identity, incarnation=self.lives)
        self.workers: list[_Worker] = []
        self.inbox = Inbox()
        self.directory = _Directory(self.disk, self.identity)
        self.assembly = Assembly(
            cluster.settings(self.id),
            self.directory,
            self,
            self.inbox,
            Surroundings(
                run_reads=lambda task: task(),
                fail=self.fail,
                clock=lambda: cluster.now,
                now=DateTime.utc_now,
                randomness=Random(self.id * 1_000 + self.lives),
                new_cluster_id=lambda: "ab" * 16,
                new_worker=self._new_worker,
                spawn=lambda name, task: task(),
            ),
            lambda request: Reply(request.id, Status.DONE),
        )
        self.assembly.start()
        self.alive = True
        for other in cluster.servers.values():
            if other is not self and other.alive:
                other.meet(self)
                self.meet(other)
        return self

    def meet(self, other: Server) -> None:
        identity = other.identity
        self.inbox.post(
            PeerMet(
                other.id,
                identity.incarnation,
                Place(f"10.0.0.{other.id}:7000", identity.directory),
                {},
            )
        )

    def _new_worker(self, *args: Any) -> _Worker:
        self.workers.append(_Worker(*args))
        return self.workers[-1]

    def fail(self, error: BaseException) -> None:
        self.die(error)
        raise Ended(error)

    def die(self, error: BaseException | None = None) -> None:
        self.identity = self.directory.identity
        self.ended, self.alive = error, False
        for other in self.cluster.servers.values():
            if other.alive:
                other.inbox.post(PeerDown(self.id))

    def run(self) -> bool:
        """Do what there is to do; whether there was anything."""
        busy = False
        try:
            for worker in self.workers:
                busy |= self.alive and worker.run()
            if self.alive and (
                self.inbox._queue.qsize() or self.inbox._applied != self.inbox._applied_told
            ):
                busy = True
                if not self.inbox._queue.qsize():
                    self.inbox.post(Tick(self.assembly.now_ms))
                self.assembly.advance()
        except Ended:
            busy = True
        return busy

    # ----------------------------------------------------------------- assembly.Links

    def send(self, peer: int, data: bytes) -> None:
        self.cluster.wire.append((self.id, peer, data))

    def reply(self, gateway: int, replies: Sequence[Reply]) -> None:
        for reply in replies:
            self.replies[reply.id] = reply

    def announce(self, *news: int) -> None:
        pass

    # ----------------------------------------------------------------- for tests

    @property
    def core(self) -> Any:
        return self.assembly.core

    @property
    def machine(self) -> Any:
        return self.assembly.machine

    @property
    def leads(self) -> bool:
        return (
            self.alive
            and self.core.role is Role.LEADER
            and self.machine.replica.leading_term == self.core.term
        )

    def view(self) -> Any:
        return self.machine.replica.view()


class LittleCluster:
    """See the module."""

    def __init__(self, size: int = 3, disks: Any = None, **settings: Any) -> None:
        self.now = 1_000.0
        self.size = size
        self._settings = settings
        self.wire: deque[tuple[int, int, bytes]] = deque()
        self.servers: dict[int, Server] = {}
        self._ids = 0
        for server_id in range(1, size + 1):
            self.servers[server_id] = Server(self, server_id)
            if disks is not None:
                self.servers[server_id].disk = disks[server_id]
        for server in self.servers.values():
            server.start()

    def settings(self, server_id: int) -> ServerSettings:
        fields: dict[str, Any] = {
            "server_id": server_id,
            "voters": tuple(range(1, self.size + 1)),
            "directory": f"server {server_id}",
            "supervisor_pid": 0,
            "election_timeout_min_ms": 750,
            "election_timeout_max_ms": 1000,
            "heartbeat_interval_ms": 100,
            "replication_timeout_ms": 20_000,
            "log_size_snapshot_threshold": -1,
            "address": f"10.0.0.{server_id}:7000",
        }
        return ServerSettings(**{**fields, **self._settings})

    def settle(self) -> None:
        """Everything that needs no time."""
        busy = True
        while busy:
            busy = False
            for server in list(self.servers.values()):
                if server.alive:
                    busy |= server.run()
            for _ in range(len(self.wire)):
                sender, receiver, data = self.wire.popleft()
                target = self.servers[receiver]
                busy = True
                if target.alive and not (target.cut or self.servers[sender].cut):
                    target.inbox.post_from_peer(FromPeer(data))

    def pass_time(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Move the clock by small steps; whether ``until()`` came true, which ends it."""
        end = self.now + seconds
        self.settle()
        while self.now < end:
            if until():
                return True
            self.now += STEP_SECONDS
            for server in self.servers.values():
                if server.alive:
                    server.inbox.post(Tick(server.assembly.now_ms))
                    server.assembly.sweep()
                    for worker in server.workers:
                        worker.submit(lambda: None)  # wake those that wait for a time
            self.settle()
        return until()

    def leader(self) -> Server:
        """The one that leads, as soon as there is one."""

        def found() -> list[Server]:
            leaders = [s for s in self.servers.values() if s.leads and not s.cut]
            return leaders if len(leaders) == 1 else []

        assert self.pass_time(20.0, lambda: bool(found())), "nobody leads"
        return found()[0]

    def submit(self, op: Op, query: str = "", **fields: Any) -> int:
        """Send the leader a request; its id."""
        leader = self.leader()
        self._ids += 1
        parameters = fields.pop("parameters", None)
        request = Request(
            self._ids,
            op,
            term=leader.core.term,
            query=query.encode(),
            parameters=Packer().pack(parameters) if parameters else b"",
            **fields,
        )
        leader.assembly.dispatcher.submit(GATEWAY, [request])
        return self._ids

    def ask(self, op: Op, query: str = "", seconds: float = 5.0, **fields: Any) -> Reply:
        """Send the leader a request and wait for its answer."""
        identity = self.submit(op, query, **fields)
        return self.answer(identity, seconds)

    def answer(self, identity: int, seconds: float = 5.0) -> Reply:
        def answers() -> list[Reply]:
            return [s.replies[identity] for s in self.servers.values() if identity in s.replies]

        assert self.pass_time(seconds, lambda: bool(answers())), "no answer"
        return answers()[0]

    def write(self, query: str, **fields: Any) -> Reply:
        return self.ask(Op.RUN, query, **fields)
