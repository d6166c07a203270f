"""One server's parts, put together over what surrounds them.

``Assembly`` opens a data directory and builds everything between the disk and the network: log,
snapshots, core, state machine, queries, and the loop in their middle. It knows no Ray, starts no
thread of its own and reads no clock: time, chance, threads and the way to others are handed in as
``Surroundings`` and ``Links``. ``ServerActor`` hands in the real ones; the simulator hands in its
own and so runs the very same code.
"""

from __future__ import annotations

import queue
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog
from neo4j.time import DateTime

from actors import limits
from actors.addresses import Place
from actors.administration_server import Administrator
from actors.disk import Disk
from actors.dispatch import Dispatcher
from actors.divergence import DigestWatch, Divergence
from actors.envelope import Sender
from actors.errors import DAMAGED, DirectoryRefused
from actors.identity import Identity
from actors.machine import StateMachine
from actors.notes import ImageWanted
from actors.protocol import Reply, Request
from actors.quarantine import HollowReplica, QuarantinedMachine, open_case, resume
from actors.raft.config import CoreConfig, Randomness
from actors.raft.core import RaftCore
from actors.raft.membership import Membership
from actors.raft.messages import Applied
from actors.raft.ready import Restored, Role, SnapshotMark
from actors.replica import Replica, load_root
from actors.server import FromPeer, RaftServer
from actors.service import QueryService
from actors.snapshots import SnapshotMeta, SnapshotStore
from actors.wal import WriteAheadLog
from actors.workers import LogThread, MachineThread, NewWorker, Worker, start_thread
from graph.engine import Engine

__all__ = ["Assembly", "Directory", "Inbox", "Links", "ServerSettings", "Surroundings"]

log = structlog.get_logger()


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
    address: str = ""  # host:rpc_port, by which others know this server
    digest_entries: int = limits.DIGEST_ENTRIES  # between two comparisons of graphs
    digest_seconds: float = limits.DIGEST_SECONDS


class Directory(Protocol):
    """A data directory, opened: ``identity.DataDirectory``."""

    @property
    def disk(self) -> Disk: ...

    @property
    def identity(self) -> Identity: ...

    def join(self, cluster_id: str) -> None: ...

    def remember_peer(self, server_id: int, directory: str) -> None: ...


class Links(Protocol):
    """The way to other servers and to gateways: ``transport.Transport``. Nothing here waits."""

    def send(self, peer: int, data: bytes) -> None: ...

    def reply(self, gateway: int, replies: Sequence[Reply]) -> None: ...

    def announce(
        self, server_id: int, incarnation: int, term: int, leader: int, role: int
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a server takes from the world besides its disk and its links.

    ``run_reads`` runs a task in a reader thread; ``fail`` ends the process and does not return
    where there is a process to end. ``tell_readers`` is told in the server loop which members may
    answer reads on their own, as the leader sees it; ``removed`` that this server has applied its
    own removal; ``dismiss`` tells another server of its.
    """

    run_reads: Callable[[Callable[[], None]], None]
    fail: Callable[[BaseException], None]
    clock: Callable[[], float] = time.monotonic  # seconds that only grow
    now: Callable[[], DateTime] = DateTime.utc_now  # the time of day, for queries
    chance: random.Random = field(default_factory=random.Random)  # for queries
    randomness: Randomness = field(default_factory=random.SystemRandom)  # for election time-outs
    new_cluster_id: Callable[[], str] = lambda: uuid.uuid4().hex
    new_worker: NewWorker = Worker
    spawn: Callable[[str, Callable[[], None]], None] = start_thread
    tell_readers: Callable[[int, tuple[int, ...]], None] = lambda term, readers: None
    removed: Callable[[], None] = lambda: None
    dismiss: Callable[[int], None] | None = None
    pause: Callable[[float], None] = lambda _: None  # of the thread that writes snapshots
    engine: Engine = field(default_factory=Engine)
    core: Mapping[str, Any] = field(default_factory=dict)  # further fields of ``CoreConfig``


class Inbox:
    """Events for the server loop; bounded for what peers send, who will send it again."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._applied = 0  # written by the machine's thread alone
        self._applied_told = 0
        self._came_bytes = self._taken_bytes = 0  # of messages; each has one thread that writes it

    def post_applied(self, index: int) -> None:
        """Progress of the state machine: taken along with the next event, worth no waking up.

        (There is always a next one soon: heartbeats.)
        """
        self._applied = index

    def post(self, event: Any) -> None:
        self._queue.put(event)

    def post_from_peer(self, event: FromPeer) -> None:
        if (
            self._queue.qsize() < limits.INBOX_MESSAGES_MAX
            and self._came_bytes - self._taken_bytes < limits.INBOX_BYTES_MAX
        ):
            self._came_bytes += len(event.data)
            self.post(event)

    def take(self) -> list[Any]:
        """Wait for an event; then all that are there."""
        events = [self._queue.get()]
        while True:
            try:
                events.append(self._queue.get_nowait())
            except queue.Empty:
                break
        for event in events:
            if type(event) is FromPeer:
                self._taken_bytes += len(event.data)
        # Read after the queue: an event that rests on an index finds that index told before it.
        applied = self._applied
        if applied != self._applied_told:
            self._applied_told = applied
            events.insert(0, Applied(applied))
        return events


class Assembly:
    """See the module. ``advance`` belongs to one thread, the server loop.

    Raises:
        DirectoryRefused, CorruptionError: the directory cannot be used; nothing was changed.
    """

    def __init__(
        self,
        settings: ServerSettings,
        directory: Directory,
        links: Links,
        inbox: Inbox,
        surroundings: Surroundings,
        inform: Callable[[Request], Reply],
    ) -> None:
        self.settings = settings
        self.directory = directory
        self._links = links
        self.inbox = inbox
        self._around = surroundings
        self._announced: Any = None
        self._readers_told: Any = None
        self._open()
        self._build(inform)

    @property
    def now_ms(self) -> int:
        return int(self._around.clock() * 1000)

    # ----------------------------------------------------------------- building

    def _open(self) -> None:
        disk = self.directory.disk
        self.wal = WriteAheadLog(disk)
        recovered = self.wal.open()
        self.snapshots = SnapshotStore(disk, clock=self._around.clock)
        self.case = resume(disk, self.snapshots)
        self.replica = Replica()
        try:
            mark, membership = self._load_state()
            restored = Restored.from_disk(recovered.hard_state, mark, recovered.entries, membership)
            self.core = RaftCore(
                self._core_config(), restored, self._around.randomness, self.now_ms
            )
        except ValueError as error:
            raise DirectoryRefused(f"{self.settings.directory}: {error}. " + DAMAGED) from error
        self.wal.follow(mark, recovered)
        ends = [(entry.index, entry.term) for entry in recovered.entries[-1:]]
        self._found_in_log = max([(mark.index, mark.term), *ends])
        log.info(
            "opened",
            directory=self.settings.directory,
            incarnation=self.directory.identity.incarnation,
            snapshot=mark.index,
            entries=len(restored.entries),
            torn_bytes=recovered.torn_bytes,
        )

    def _load_state(self) -> tuple[SnapshotMark, Membership | None]:
        """Take the newest snapshot's state; what the log follows on."""
        name = self.snapshots.newest()
        if self.case is None and name is not None:
            try:
                meta, stream = self.snapshots.load(name)
                self.replica.restore(meta, load_root(stream))
                return SnapshotMark(meta.index, meta.term), meta.decoded_membership()
            except DirectoryRefused as error:
                self._distrust(self.snapshots.meta(name), error)
        if self.case is None:
            return SnapshotMark(0, 0), None
        self.replica = HollowReplica()
        self.replica.applied_index = self.case.base_index
        self.replica.applied_term = self.case.base_term
        return SnapshotMark(self.case.base_index, self.case.base_term), self.case.membership()

    def _distrust(self, meta: SnapshotMeta, error: DirectoryRefused) -> None:
        """The newest snapshot's head is sound, its body is not.

        The log behind it is sound as well, so this server can vote and acknowledge, and have the
        state from another one. Without another one, raises ``error``.
        """
        membership = meta.decoded_membership()
        voters = membership.voters if membership else self.settings.voters
        if not set(voters) - {self.settings.server_id}:
            raise error
        log.critical("the newest snapshot is damaged", reason=str(error))
        disk = self.directory.disk
        damage = f"the snapshot of log index {meta.index} is damaged"
        open_case(disk, Divergence(meta.index, meta.index, damage), self._time())
        self.case = resume(disk, self.snapshots)

    def _time(self) -> str:
        """The time of day for a file's name: 20191231T235959Z."""
        return self._around.now().iso_format()[:19].replace("-", "").replace(":", "") + "Z"

    def _core_config(self) -> CoreConfig:
        settings = self.settings
        fields: dict[str, Any] = {
            "election_timeout_min_ms": settings.election_timeout_min_ms,
            "election_timeout_max_ms": settings.election_timeout_max_ms,
            "heartbeat_interval_ms": settings.heartbeat_interval_ms,
            "inflight_messages_max": limits.APPENDS_IN_FLIGHT_MAX,
            "uncommitted_bytes_max": limits.UNCOMMITTED_BYTES_MAX,
        }
        fields.update(self._around.core)
        if self.case is not None:
            fields["campaign"] = False
        return CoreConfig(settings.server_id, settings.voters, **fields)

    def _build(self, inform: Callable[[Request], Reply]) -> None:
        settings, around, inbox = self.settings, self._around, self.inbox
        identity = self.directory.identity
        self.service = QueryService(
            around.engine,
            self._links.reply,
            clock=around.clock,
            now=around.now,
            chance=around.chance,
        )
        machine = StateMachine if self.case is None else QuarantinedMachine
        self.machine = machine(
            self.replica,
            self.service,
            post=inbox.post,
            applied=inbox.post_applied,
            run_reads=around.run_reads,
            new_cluster_id=around.new_cluster_id,
            on_cluster=self._cluster_known,
            replication_timeout_ms=settings.replication_timeout_ms,
            clock=around.clock,
            server_id=settings.server_id,
            voters=lambda: self.core.membership.voters,
            on_divergence=lambda d: open_case(self.directory.disk, d, self._time()),
            send_image=self._send_image,
            free_bytes=self.directory.disk.free_bytes,
            watch=DigestWatch(
                settings.server_id,
                run=around.run_reads,
                clock=around.clock,
                entries=settings.digest_entries,
                seconds=settings.digest_seconds,
            ),
        )
        self.machine.found_in_log = self._found_in_log
        if self.case is not None and isinstance(self.machine, QuarantinedMachine):
            self.machine.quarantine(self.case, self.directory.disk)
        self.machine_thread = MachineThread(
            self.machine,
            self.snapshots,
            inbox.post,
            around.fail,
            threshold=settings.log_size_snapshot_threshold,
            snapshot_index=self.replica.applied_index,
            new_worker=around.new_worker,
            spawn=around.spawn,
            clock=around.clock,
            pause=around.pause,
            server_id=settings.server_id,
        )
        self.log_thread = LogThread(
            self.wal,
            self.snapshots,
            inbox.post,
            self.machine_thread.install,
            around.fail,
            new_worker=around.new_worker,
        )
        self._build_loop(identity)
        self.dispatcher = Dispatcher(
            self.service,
            self.machine,
            run_machine=self.machine_thread.worker.submit,
            run_reads=around.run_reads,
            inform=inform,
            administer=inbox.post,
            clock=around.clock,
        )

    def _build_loop(self, identity: Identity) -> None:
        settings = self.settings
        self.sender = Sender(
            settings.server_id,
            identity.incarnation,
            identity.cluster_id,
            identity.directory,
            peers=identity.peers,
            on_met=self.directory.remember_peer,
        )
        self.administrator = Administrator(
            self.core,
            lambda gateway, reply: self._links.reply(gateway, [reply]),
            place=Place(settings.address, identity.directory),
            silent_ms=settings.election_timeout_max_ms,
            ailing=lambda: self.machine.ailing(),
        )
        self.server = RaftServer(
            self.core,
            self.log_thread,
            self.machine_thread,
            self._links,
            self.sender,
            administrator=self.administrator,
            dismiss=self._around.dismiss,
        )

    def _send_image(self, peer: int, wanted: ImageWanted) -> None:
        self.log_thread.send_image(peer, wanted, self.machine_thread.save_now)

    # ----------------------------------------------------------------- running

    def start(self) -> None:
        self.log_thread.start()
        self.machine_thread.start()

    def stop(self) -> None:
        """Finish what is queued; what was acknowledged is on the disk already."""
        self.machine_thread.stop()
        self.log_thread.stop()

    def advance(self) -> int:
        """Wait for events and take all that are there; when the next tick is wanted."""
        self.server.advance(self.inbox.take(), self.now_ms)
        self._announce()
        return self.server.deadline_ms

    def announce_again(self) -> None:
        """There is a new gateway: tell who leads after the next event, news or not."""
        self._announced = self._readers_told = None

    def sweep(self) -> None:
        """From time to time: drop what waited too long."""
        self.machine_thread.worker.submit(partial(self.machine.sweep, self._around.clock()))

    def _announce(self) -> None:
        core = self.core
        news = (core.term, core.leader, int(core.role))
        if news != self._announced:
            self._announced = news
            self._links.announce(self.settings.server_id, self.sender.incarnation, *news)
        if core.role is Role.LEADER:
            readers = (core.term, self.administrator.readers)
            if readers != self._readers_told:
                self._readers_told = readers
                self._around.tell_readers(*readers)
        elif core.removed:
            self._around.removed()

    def _cluster_known(self, cluster_id: str) -> None:
        self.directory.join(cluster_id)
        self.sender.join(cluster_id)
        log.info("member of cluster", cluster_id=cluster_id)
