"""One run: a world drawn from a seed, faults, healing, and what must be true at the end.

    phase 1, safety       clients work while everything fails that the swarm promised to fail
    phase 2, liveness     all is healed; within a bound a leader serves and all servers agree
    phase 3, durability   the power goes everywhere; what is on the disks must be all that was
                          acknowledged and nothing that was refused

``run_seed`` is the whole interface: it returns a ``Result`` and never raises for what it finds.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog

from actors import commands, limits
from actors.raft.membership import MemberRole, Membership
from tests.simulation.checks import Checks
from tests.simulation.clients import Clients
from tests.simulation.gateway import SimulatedGateway
from tests.simulation.host import Host
from tests.simulation.loop import SimulatedLoop
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.swarm import Swarm
from tests.simulation.world import Scheduler, SimulationFailure, Trace

__all__ = ["Options", "Result", "World", "run_seed"]

NOTICE_US = 15_000  # from the death of a process to its notice (measured)
INTRODUCTION_US = 5_000
INTRODUCTION_RETRY_US = 100_000
EXTENSION_US = 8_000_000  # for promised faults that wait for their occasion
HEALED_ELECTIONS = 40  # longest election time-outs until all must agree again


@dataclass(frozen=True)
class Options:
    """What the caller may set; everything else is drawn."""

    swarm: Swarm | None = None
    show: Callable[[str], None] | None = None  # every event, as it happens


@dataclass
class Result:
    """What became of a seed. ``failure`` is None if nothing was found."""

    seed: int
    swarm: Swarm
    failure: SimulationFailure | None
    digest: str  # of everything that happened
    events: int
    operations: int
    count: dict[str, int]
    last: list[str] = field(default_factory=list)


class World:
    """Everything that is simulated, and the way to everything else."""

    def __init__(self, seed: int, options: Options) -> None:
        self.random = Random(seed)
        drawn = Swarm.draw(self.random)
        self.swarm = options.swarm or drawn
        self.scheduler = Scheduler()
        self.trace = Trace(self.scheduler, options.show)
        self.loop = SimulatedLoop(self.scheduler)
        self.network = Network(self)
        self.checks = Checks(self)
        self.voters = tuple(range(1, self.swarm.servers + 1))
        self.hosts = {i: Host(self, i) for i in self.voters}
        self.gateways: dict[int, SimulatedGateway] = {}
        self.nemesis = Nemesis(self)
        self.clients = Clients(self)

    # ----------------------------------------------------------------- members

    def ids(self) -> list[int]:
        """Hosts that have a part in the cluster, or wait for one."""
        return [host.id for host in self.hosts.values() if not host.retired]

    def membership(self) -> Membership:
        """What is committed, as far as any server knows."""
        logs = [process.assembly.core._state.log for process in self.processes()]
        if not logs:
            return Membership.of_voters(self.voters)
        newest = max(logs, key=lambda log: log.commit_index)
        return newest.configuration_at(newest.commit_index).membership

    def member_ids(self) -> list[int]:
        return [entry.server_id for entry in self.membership().members]

    def role_of(self, server: int) -> MemberRole | None:
        entry = self.membership().get(server)
        return None if entry is None else entry.role

    def new_host(self) -> int:
        """A host with an empty disk, on which a server waits to be added."""
        server = max(self.hosts) + 1
        host = self.hosts[server] = Host(self, server, joins=True)
        host.start()
        return server

    def may_lose(self, server: int) -> bool:
        """Whether enough voters are left without that one, now and while it is replaced."""
        voters = self.membership().voters
        sound = [i for i in voters if i != server and not self.hosts[i].gone]
        return len(sound) >= len(voters) // 2 + 1

    def retire(self, server: int, why: str = "an operator stopped it") -> None:
        self.hosts[server].retire(why)

    # ----------------------------------------------------------------- introductions

    def processes(self) -> list[Process]:
        return [host.process for host in self.hosts.values() if host.process is not None]

    def introduce(self, process: Process) -> None:
        """A new life meets everybody, and everybody meets it."""
        for other in self.processes():
            if other is not process:
                self._meet(other, process)
                self._meet(process, other)
        for gateway in self.gateways.values():
            self._meet_gateway(process, gateway)

    def open_gateway(self, home: int) -> None:
        gateway = self.gateways[home] = SimulatedGateway(self, home)
        for process in self.processes():
            self._meet_gateway(process, gateway)

    def close_gateway(self, home: int) -> None:
        gateway = self.gateways.pop(home)
        gateway.kill()
        for process in self.processes():
            self.scheduler.after(NOTICE_US, lambda p=process: p.gateway_down(gateway.key))
        delay_us = self.random.randint(1_000, self.swarm.restart_us)
        self.scheduler.after(delay_us, lambda: self.open_gateway(home))

    def _meet(self, process: Process, newcomer: Process) -> None:
        def meet() -> None:
            if not process.alive or not newcomer.alive:
                return
            if (newcomer.host.id, process.host.id) in self.network.blocked:
                self.scheduler.after(INTRODUCTION_RETRY_US, meet)
            else:
                process.meet(newcomer)

        self.scheduler.after(self.random.randint(0, INTRODUCTION_US), meet)

    def _meet_gateway(self, process: Process, gateway: SimulatedGateway) -> None:
        def meet() -> None:
            if not process.alive or not gateway.alive:
                return
            pair = (process.host.id, gateway.home)
            if pair in self.network.blocked or pair[::-1] in self.network.blocked:
                self.scheduler.after(INTRODUCTION_RETRY_US, meet)
            else:
                gateway.meet(process)
                process.meet_gateway(gateway)

        self.scheduler.after(self.random.randint(0, INTRODUCTION_US), meet)

    def connections_broke(self) -> None:
        """Gateways lose sight of servers behind cut links, and find them when they can."""
        for gateway in self.gateways.values():
            for process in self.processes():
                pair = (process.host.id, gateway.home)
                if pair in self.network.blocked or pair[::-1] in self.network.blocked:
                    self.trace.count["connections broken"] += 1
                    gateway.lost(process)
                    self._meet_gateway(process, gateway)

    def noticed(self, process: Process) -> None:
        """A process has died: some notice it at once, others by its silence."""
        for other in self.processes():
            if self.random.random() < self.swarm.notices:
                self.trace.count["notices"] += 1
                self.scheduler.after(NOTICE_US, lambda o=other: o.lost(process))
        for gateway in self.gateways.values():
            if self.random.random() < max(0.5, self.swarm.notices):
                self.scheduler.after(NOTICE_US, lambda g=gateway: g.lost(process))

    # ----------------------------------------------------------------- phases

    def run(self) -> None:
        for host in self.hosts.values():
            self.scheduler.after(self.random.randint(0, 20_000), host.start)
        for home in self.voters[: self.swarm.gateways]:
            self.open_gateway(home)
        self.clients.start()
        self.nemesis.start()
        self._phase_safety()
        self._phase_liveness()
        self._phase_durability()

    def _phase_safety(self) -> None:
        end_us = self.scheduler.now_us + self.swarm.duration_us
        self._until(end_us)
        if self.nemesis.pending():
            self.nemesis.only_what_is_missing()
            self._until(end_us + EXTENSION_US, lambda: not self.nemesis.pending())
        self.nemesis.check_coverage()

    def _phase_liveness(self) -> None:
        self.trace.note("phase", "healing")
        self.nemesis.heal()
        self.clients.finish()
        self._converge("after healing")
        for process in self.processes():
            self.checks.integrity(process)

    def _phase_durability(self) -> None:
        self.trace.note("phase", "durability")
        for host in self.hosts.values():
            host.lose_power("durability scan")
        self._converge("after the power came back")
        self.clients.scan()
        self._converge("after the scan")

    def _converge(self, when: str) -> None:
        bound_us = HEALED_ELECTIONS * self.swarm.election_timeout_max_ms * 1_000
        bound_us += 4 * self.swarm.request_timeout_ms * 1_000 + 2 * self.swarm.restart_us
        self.clients.probe()
        if not self._until(self.scheduler.now_us + bound_us, self._agreed):
            raise SimulationFailure("liveness", "Convergence", f"{when}: {self._disagreement()}")
        for process in self.processes():
            self.checks.compare(process)

    def _agreed(self) -> bool:
        if not self.clients.quiet():
            return False
        living = [host for host in self.hosts.values() if not host.gone]
        if any(host.process is None for host in living):
            return False
        members = self.member_ids()
        indexes = {
            host.process.assembly.replica.applied_index
            for host in living
            if host.process is not None and host.id in members
        }
        return indexes == {self.checks.committed_index}

    def _disagreement(self) -> str:
        servers = [
            f"{h.id}: {'refused' if h.refused else 'down'}"
            if h.process is None
            else f"{h.id}: {h.process.assembly.core!r} applied "
            f"{h.process.assembly.replica.applied_index} {h.process.assembly.server.refused_peers}"
            for h in self.hosts.values()
        ]
        return f"{'; '.join(servers)}; waiting: {self.clients.waiting_for()}"

    def _until(self, until_us: int, stop: Callable[[], bool] | None = None) -> bool:
        return self.scheduler.run(until_us, stop)


@contextmanager
def _tuned(swarm: Swarm) -> Any:
    """Constants of the product that are small in a simulation, so that their limits are met."""
    tuned = [
        (commands, "FRAGMENT_BYTES", swarm.fragment_bytes),
        (limits, "SNAPSHOT_LEASE_SECONDS", 0.3),
    ]
    before = [getattr(module, name) for module, name, _ in tuned]
    for module, name, value in tuned:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(tuned, before, strict=True):
            setattr(module, name, value)


def _be_silent() -> None:
    """The product's log has no reader here; what matters is in the trace."""
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(processors=[_drop], wrapper_class=silent, cache_logger_on_first_use=True)


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


def run_seed(seed: int, options: Options | None = None) -> Result:
    """Run one seed to its end, or to its first finding."""
    _be_silent()
    world = World(seed, options or Options())
    failure: SimulationFailure | None = None
    with _tuned(world.swarm):
        try:
            world.run()
        except SimulationFailure as found:
            failure = found
        except Exception as error:
            text = "".join(traceback.format_exception(error)[-4:])
            failure = SimulationFailure("crash", "simulation", f"{error!r}\n{text}")
    world.loop.close()
    trace = world.trace
    trace.note("end", str(failure) if failure else "passed")
    return Result(
        seed,
        world.swarm,
        failure,
        trace.digest(),
        world.scheduler.events_run,
        world.clients.operations(),
        dict(sorted(trace.count.items())),
        trace.last() if failure else [],
    )
