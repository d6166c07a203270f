"""One life of a server: the real parts, with workers, timer and links made of virtual time.

``Process`` puts ``actors.assembly.Assembly`` together as ``ServerActor`` does, but every thread is
a queue whose tasks run as events, one at a time, after a while that chance draws. An event that
comes after the process died is dropped; one that comes while it is paused waits. ``fail`` ends the
process, as the real one does, and unwinds the stack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from neo4j.time import DateTime

from actors.addresses import Place
from actors.administration_server import GatewayMet, PeerMet
from actors.assembly import Assembly, Inbox, ServerSettings, Surroundings
from actors.errors import DiskFailure, Restart
from actors.protocol import Op, Reply, Request, Status, decode_requests, encode_replies
from actors.raft.messages import PeerDown, Tick
from actors.server import FromPeer, ReadRequest
from graph.engine import Engine
from tests.simulation.disk import PowerCut
from tests.simulation.world import US, SimulationFailure

if TYPE_CHECKING:
    from tests.simulation.gateway import SimulatedGateway
    from tests.simulation.host import Host

__all__ = ["Ended", "Process"]

# Caches of prepared statements only: what they hold changes nothing but time, which is virtual.
ENGINE = Engine()
SWEEP_US = 250_000
NEVER = 1 << 62


class Ended(BaseException):
    """The process has ended; nothing of it runs any further."""


class _Worker:
    """``workers.Worker`` without a thread. The log's lets time pass before it syncs."""

    def __init__(
        self,
        process: Process,
        name: str,
        on_failure: Callable[[BaseException], None],
        after_batch: Callable[[], float] | None,
    ) -> None:
        self._process = process
        self._on_failure = on_failure
        self._after_batch = after_batch
        self._syncs = name == "log"
        self._tasks: deque[Callable[[], None]] = deque()
        self._busy = True  # until it is started

    def start(self) -> None:
        self._busy = False
        self._wake()

    def submit(self, task: Callable[[], None]) -> None:
        self._tasks.append(task)
        self._wake()

    def stop(self) -> None:
        self._busy = True

    def _wake(self) -> None:
        if not self._busy and self._tasks:
            self._busy = True
            process = self._process
            process.after(process.random.randint(0, process.world.swarm.task_us), self._run)

    def _run(self) -> None:
        try:
            tasks = self._tasks
            for _ in range(self._process.random.choice((1, 4, 256))):
                if not tasks:
                    break
                tasks.popleft()()
        except BaseException as error:
            self._on_failure(error)
        if self._syncs:
            # A disk does not wait longer because its host is slow.
            process, delay_us = self._process, self._process.host.sync_delay_us()
            process.world.scheduler.after(delay_us, lambda: process.run(self._finish))
        else:
            self._finish()

    def _finish(self) -> None:
        self._busy = False
        try:
            wait = self._after_batch() if self._after_batch is not None else 0.0
        except BaseException as error:
            self._on_failure(error)
            return
        if self._tasks:
            self._wake()
        elif wait:
            self._process.after(int(wait * US) + 1, self._again)

    def _again(self) -> None:
        if not self._busy:
            self._busy = True
            self._run()


class _Inbox(Inbox):
    """The real one, which wakes the loop where a thread would wait."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def post(self, event: Any) -> None:
        if isinstance(event, ReadRequest):
            self._process.world.checks.read_asked(self._process, event.token)
        super().post(event)
        self._process.wake_loop()


class _Links:
    """``assembly.Links``: to the lives of others that this process has met."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.peers: dict[int, Process] = {}
        self.gateways: dict[int, SimulatedGateway] = {}

    def send(self, peer: int, data: bytes) -> None:
        other = self.peers.get(peer)
        if other is not None:
            self._process.world.network.send(self._process, other, data)

    def reply(self, gateway: int, replies: Sequence[Reply]) -> None:
        known = self.gateways.get(gateway)
        if known is not None:
            data = encode_replies(replies)
            network = self._process.world.network
            network.carry(self._process.host.id, known.home, lambda: known.deliver(data))

    def tell_readers(self, term: int, readers: tuple[int, ...]) -> None:
        self._tell(lambda gateway: gateway.announce_readers(term, readers))

    def announce(self, server_id: int, incarnation: int, term: int, leader: int, role: int) -> None:
        self._tell(lambda gateway: gateway.announce(server_id, term, leader, role))

    def _tell(self, news: Callable[[SimulatedGateway], None]) -> None:
        network, home = self._process.world.network, self._process.host.id
        for known in list(self.gateways.values()):
            network.carry(home, known.home, lambda known=known: news(known))


def address_of(server_id: int) -> str:
    return f"10.0.0.{server_id}:7001"


class Process:
    """See the module. Raises what ``Assembly`` raises if the directory cannot be used."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.world = host.world
        self.random: Random = self.world.random
        self.alive = True
        self.paused = False
        self.parked: list[Callable[[], None]] = []
        self.links = _Links(self)
        self.inbox = _Inbox(self)
        self._loop_awake = False
        self._deadline_ms = 0
        self._timer_round = 0
        self._armed_us = NEVER
        directory = host.open_directory()
        self.incarnation = directory.identity.incarnation
        self.assembly = Assembly(
            self._settings(), directory, self.links, self.inbox, self._surroundings(), self._inform
        )
        self.world.checks.opened(self)
        host.clock.on_change = lambda: self._arm(anew=True)
        self.assembly.start()
        self._deadline_ms = self.assembly.core.deadline_ms
        self._arm()
        self.after(SWEEP_US, self._sweep)

    def _settings(self) -> ServerSettings:
        swarm, host = self.world.swarm, self.host
        return ServerSettings(
            server_id=host.id,
            voters=() if host.joins else self.world.voters,
            directory=f"server {host.id}",
            supervisor_pid=0,
            election_timeout_min_ms=swarm.election_timeout_min_ms,
            election_timeout_max_ms=swarm.election_timeout_max_ms,
            heartbeat_interval_ms=swarm.heartbeat_interval_ms,
            replication_timeout_ms=swarm.replication_timeout_ms,
            log_size_snapshot_threshold=swarm.snapshot_threshold,
            address=address_of(host.id),
            digest_entries=swarm.digest_entries,
            digest_seconds=0.05,
        )

    def _surroundings(self) -> Surroundings:
        swarm, random = self.world.swarm, self.random
        return Surroundings(
            run_reads=lambda task: self.after(random.randint(0, swarm.task_us), task),
            fail=self.fail,
            clock=self.host.clock.seconds,
            now=self._time_of_day,
            chance=Random(random.getrandbits(64)),
            randomness=random,
            new_cluster_id=lambda: f"{random.getrandbits(128):032x}",
            new_worker=lambda name, on_failure, after_batch=None: _Worker(
                self, name, on_failure, after_batch
            ),
            tell_readers=self.links.tell_readers,
            removed=self._removed,
            dismiss=self._dismiss,
            spawn=lambda name, task: self.after(random.randint(0, 20 * swarm.disk_us), task),
            engine=ENGINE,
            core={
                "append_entries_max": swarm.append_entries_max,
                "append_bytes_max": swarm.append_bytes_max,
                "inflight_bytes_max": max(65_536, swarm.append_bytes_max),
                "snapshot_chunk_bytes": swarm.snapshot_chunk_bytes,
                "snapshot_retry_ms": 2 * swarm.election_timeout_min_ms,
                "persist_stall_max_ms": 4 * swarm.election_timeout_max_ms,
            },
        )

    def _time_of_day(self) -> DateTime:
        seconds, microseconds = divmod(self.host.clock.now_us(), US)
        return DateTime(
            2030, 1, 1, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60, microseconds * 1000
        )

    # ----------------------------------------------------------------- running

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Do that here, unless the process has died by then."""
        self.world.scheduler.after(delay_us * self.host.slowness, lambda: self.run(action))

    def run(self, action: Callable[[], None]) -> None:
        """Do that now, or when the process goes on, or never if it is dead."""
        if not self.alive:
            return
        if self.paused:
            self.parked.append(action)
            return
        try:
            action()
        except Ended:
            pass
        except SimulationFailure:
            raise
        except BaseException as error:
            try:
                self.fail(error)
            except Ended:
                pass

    def fail(self, error: BaseException) -> None:
        """``ServerActor._fail``: the process ends. What no fault explains is a finding."""
        if isinstance(error, Ended | SimulationFailure):
            raise error
        if isinstance(error, PowerCut):
            self.host.lose_power("at " + str(error))
        elif isinstance(error, DiskFailure) or (isinstance(error, OSError) and error.errno == 5):
            self.host.die("disk failure")
        elif isinstance(error, Restart):
            self.world.trace.count["restarts asked for"] += 1
            self.host.die(f"restart: {error}")
        elif isinstance(error, AssertionError):
            raise SimulationFailure("correctness", "assertion", repr(error)) from error
        else:
            raise SimulationFailure("crash", "server", repr(error)) from error
        raise Ended

    def resume(self) -> None:
        self.paused = False
        parked, self.parked = self.parked, []
        for action in parked:
            self.after(self.random.randint(0, 200), action)

    def wake_loop(self) -> None:
        if not self._loop_awake:
            self._loop_awake = True
            self.after(self.random.randint(0, self.world.swarm.task_us), self._loop)

    def _loop(self) -> None:
        self._loop_awake = False
        self._deadline_ms = self.assembly.advance()
        self.world.checks.advanced(self)
        self._arm()

    def _arm(self, anew: bool = False) -> None:
        """A tick comes when the host's clock shows the deadline; like ``Timer``, late or never."""
        when_us = self.host.clock.when(self._deadline_ms * 1000)
        if when_us is None or not self.alive:
            self._armed_us = NEVER
        elif when_us < self._armed_us or anew:
            self._armed_us = when_us
            self._timer_round += 1
            this_round = self._timer_round
            self.world.scheduler.at(when_us, lambda: self._expired(this_round))

    def _expired(self, this_round: int) -> None:
        if this_round != self._timer_round:
            return
        self._armed_us = NEVER
        if self.host.clock.now_us() < self._deadline_ms * 1000:
            self._arm()
        else:
            self.run(lambda: self.inbox.post(Tick(self.assembly.now_ms)))

    def _sweep(self) -> None:
        self.assembly.sweep()
        self.after(SWEEP_US, self._sweep)

    # ----------------------------------------------------------------- mailbox

    def deliver(self, data: bytes) -> None:
        self.run(lambda: self.inbox.post_from_peer(FromPeer(data)))

    def submit(self, gateway: int, data: bytes) -> None:
        self.run(lambda: self.assembly.dispatcher.submit(gateway, decode_requests(data)))

    def post(self, event: Any) -> None:
        self.run(lambda: self.inbox.post(event))

    def meet(self, other: Process) -> None:
        """A new life of another server."""
        self.run(lambda: self._meet(other))

    def _meet(self, other: Process) -> None:
        """As ``ServerActor._meet_server``."""
        assembly, identity = self.assembly, other.assembly.directory.identity
        server_id, life, directory = other.host.id, other.incarnation, identity.directory
        if assembly.server.was_removed(server_id):
            self.world.trace.note("removed", server_id, "says", self.host.id)
            return
        objection = assembly.sender.objection(server_id, life, directory, identity.cluster_id)
        known = self.links.peers.get(server_id)
        if objection:
            self.world.trace.note("objection", self.host.id, server_id, objection[:40])
        elif known is None or known.incarnation < life:
            self.links.peers[server_id] = other
            peers = tuple(other.assembly.sender.known_directories.items())
            place = Place(address_of(server_id), directory)
            self.inbox.post(PeerMet(server_id, life, place, peers))

    def lost(self, other: Process) -> None:
        """A life of another server has ended; as ``Transport._gone``."""
        if self.links.peers.get(other.host.id) is other:
            del self.links.peers[other.host.id]
            self.post(PeerDown(other.host.id))

    def _removed(self) -> None:
        """``ServerActor._removed``: this server has applied its own removal."""
        self.after(0, self.end_for_good)

    def _dismiss(self, peer: int) -> None:
        """Tell a server that it was removed."""
        other = self.links.peers.get(peer)
        if other is not None:
            self.world.network.carry(self.host.id, peer, lambda: other.run(other.end_for_good))

    def end_for_good(self) -> None:
        """``ServerActor._end``: the server was removed, and must not take part any more."""
        self.assembly.directory.mark_removed()
        self.world.trace.count["removed servers"] += 1
        self.host.retire("removed")

    def meet_gateway(self, gateway: SimulatedGateway) -> None:
        self.links.gateways[gateway.key] = gateway

        def tell() -> None:
            self.inbox.post(GatewayMet(gateway.home, f"gateway {gateway.home}"))
            self.assembly.announce_again()
            self.inbox.post(Tick(self.assembly.now_ms))

        self.run(tell)

    def gateway_down(self, key: int) -> None:
        self.links.gateways.pop(key, None)
        self.run(lambda: self.assembly.service.sessions.drop_gateway(key))

    def _inform(self, request: Request) -> Reply:
        assert request.op is Op.RAFT_INFO
        return Reply(request.id, Status.DONE)
