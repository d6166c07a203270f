"""Faults: when which one begins, whom it hits, and whether what was promised really happened.

Each kind of fault that the swarm has drawn comes a few times in the first phase, at times drawn
beforehand. One that cannot be at its time (no leader to isolate, too many servers down) is tried
again a little later. A run in which a promised fault never happened fails: it tested less than it
says. What is damaged for good (flipped bits) is never more than Raft promises to survive: a
minority.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from actors import limits
from actors.raft.messages import PeerDown
from actors.raft.ready import Role
from tests.simulation.disk import ROOM, Trap
from tests.simulation.world import SimulationFailure

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.simulation import World

__all__ = ["Nemesis"]

RETRY_US = 40_000
ANY_WRITE = ("write", "sync", "create", "rename", "remove", "truncate")


class Nemesis:
    """See the module."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._planned: dict[str, int] = dict.fromkeys(world.swarm.faults, 0)
        self._waiting: dict[str, int] = {}  # begun, and to be counted when it has its effect
        self._active = True
        self._closing = False

    def start(self) -> None:
        world = self.world
        for fault in world.swarm.faults:
            for _ in range(world.random.randint(1, 2)):
                self._planned[fault] += 1
                when_us = world.random.randint(150_000, world.swarm.duration_us * 8 // 10)
                world.scheduler.after(when_us, lambda fault=fault: self._try(fault))

    def pending(self) -> list[str]:
        """Promised faults that have not happened yet."""
        count, swarm = self.world.trace.count, self.world.swarm
        promised = list(swarm.faults)
        promised += [name for name in ("loss", "duplication") if getattr(swarm, name)]
        return [fault for fault in promised if not count[fault]]

    def check_coverage(self) -> None:
        """Raises ``SimulationFailure`` if a promised fault did not happen."""
        missing = self.pending()
        if missing:
            raise SimulationFailure("coverage", "Fault promised, did not happen", str(missing))

    def only_what_is_missing(self) -> None:
        """Time is nearly over: give way to promised faults that have not had an occasion yet."""
        self._closing = True
        world = self.world
        world.network.cut(())
        world.network.release()
        for host in world.hosts.values():
            if not self._missing("full disk"):
                host.disk.full = False
            host.slowness = 1
            host.clock.set_rate(host.rate)
            if host.process is not None and host.process.paused:
                host.process.resume()

    def wants(self, *faults: str) -> bool:
        """Whether an operator should go on with these, or must not be in the way of others."""
        return not self._closing or any(self._missing(fault) for fault in faults)

    def _missing(self, fault: str) -> bool:
        return fault in self.world.swarm.faults and not self.world.trace.count[fault]

    def heal(self) -> None:
        """The end of all faults: whatever was done is undone."""
        self._active = False
        world = self.world
        world.network.heal()
        for host in world.hosts.values():
            self._restore(host)
            host.down = False
            host.start()

    def _restore(self, host: Host) -> None:
        host.disk.trap = None
        host.disk.full = False
        host.disk.free = ROOM
        host.disk.read_fault = 0
        host.stalled_until_us = 0
        host.slowness = 1
        host.clock.set_rate(1_000)
        if host.process is not None and host.process.paused:
            host.process.resume()

    def _try(self, fault: str) -> None:
        if not self._active or (self._closing and not self._missing(fault)):
            return
        name = fault.replace(" ", "_").replace("-", "_")
        begin: Callable[[], bool] = getattr(self, f"_{name}")
        if begin():
            self.world.trace.note("fault", fault)
        else:
            self.world.scheduler.after(RETRY_US, lambda: self._try(fault))

    # ----------------------------------------------------------------- helpers

    def _happened(self, fault: str) -> None:
        self.world.trace.count[fault] += 1

    def _later(self, low_us: int, high_us: int, action: Callable[[], None]) -> None:
        def act() -> None:
            if self._active:
                action()

        self.world.scheduler.after(self.world.random.randint(low_us, high_us), act)

    def _running(self) -> list[Host]:
        return [
            host
            for host in self.world.hosts.values()
            if host.process is not None and not host.process.paused
        ]

    def _some_host(self) -> Host | None:
        running = self._running()
        return self.world.random.choice(running) if running else None

    def _leader(self) -> Host | None:
        leaders = [
            host
            for host in self._running()
            if host.process is not None and host.process.assembly.core.role is Role.LEADER
        ]
        return max(leaders, key=_term_of, default=None)

    def _election_us(self) -> int:
        return self.world.swarm.election_timeout_max_ms * 1_000

    # ----------------------------------------------------------------- processes

    def _kill(self) -> bool:
        host = self._some_host()
        if host is None:
            return False
        host.die("kill")
        self._happened("kill")
        return True

    def _power_cut(self) -> bool:
        host = self._some_host()
        if host is None:
            return False
        host.lose_power("cut")
        self._happened("power cut")
        return True

    def _power_cut_everywhere(self) -> bool:
        for host in self.world.hosts.values():
            host.lose_power("cut everywhere")
        self._happened("power cut everywhere")
        return True

    def _leader_kill(self) -> bool:
        host = self._leader()
        if host is None:
            return False
        if self.world.random.random() < 0.5:
            host.die("leader kill")
        else:
            host.lose_power("leader kill")
        self._happened("leader kill")
        return True

    def _power_at_operation(self) -> bool:
        return self._trap("power", ANY_WRITE, "power at operation")

    def _pause(self) -> bool:
        host = self._leader() if self.world.random.random() < 0.6 else self._some_host()
        if host is None or host.process is None:
            return False
        process = host.process
        process.paused = True
        self._happened("pause")
        self._later(20_000, 3 * self._election_us(), process.resume)
        return True

    def _slow_node(self) -> bool:
        host = self._some_host()
        if host is None:
            return False
        host.slowness = self.world.random.choice((5, 20))
        self._happened("slow node")

        def end() -> None:
            host.slowness = 1

        self._later(100_000, 600_000, end)
        return True

    def _gateway_kill(self) -> bool:
        gateways = sorted(self.world.gateways)
        if not gateways:
            return False
        self.world.close_gateway(self.world.random.choice(gateways))
        self._happened("gateway kill")
        return True

    def _false_notice(self) -> bool:
        running = self._running()
        if len(running) < 2:
            return False
        # Of a server that only waits to be added nobody is told so but once it is dead; until its
        # next life is introduced nobody would ask after it.
        members = self.world.member_ids()
        for host in running:
            others = [h.id for h in running if h is not host and h.id in members]
            if host.process is not None and others:
                host.process.post(PeerDown(self.world.random.choice(others)))
        self._happened("false notice")
        return True

    def _members_changed(self) -> bool:
        """An operator adds servers and removes them."""
        return self._voters_changed()

    def _server_replaced(self) -> bool:
        """A server is lost for good, and an operator puts another one in its place."""
        return self._voters_changed()

    def _voters_changed(self) -> bool:
        """An operator makes voters learners and learners voters; the first time it begins to."""
        if not self.world.clients.ready:
            return False
        self.world.clients.operate()  # what it has done it counts itself
        return True

    # ----------------------------------------------------------------- clocks

    def _clock_freeze(self) -> bool:
        host = self._some_host()
        if host is None:
            return False
        host.clock.set_rate(0)
        self._happened("clock freeze")
        self._later(20_000, 3 * self._election_us(), lambda: host.clock.set_rate(host.rate))
        return True

    def _clock_jump(self) -> bool:
        host = self._some_host()
        if host is None:
            return False
        host.clock.jump(self.world.random.randint(10_000, 5_000_000))
        self._happened("clock jump")
        return True

    # ----------------------------------------------------------------- network

    def _cut(self, fault: str, pairs: list[tuple[int, int]]) -> bool:
        if not pairs or self.world.network.blocked:
            return False
        self.world.network.cut(pairs)
        self._happened(fault)
        self._later(50_000, 6 * self._election_us(), lambda: self.world.network.cut(()))
        return True

    def _partition(self) -> bool:
        ids = self.world.ids()
        self.world.random.shuffle(ids)
        half = set(ids[: self.world.random.randint(1, len(ids) - 1)])
        return self._cut(
            "partition", [(a, b) for a in ids for b in ids if (a in half) != (b in half)]
        )

    def _isolated_leader(self) -> bool:
        host = self._leader()
        if host is None:
            return False
        others = [i for i in self.world.ids() if i != host.id]
        pairs = [pair for i in others for pair in ((i, host.id), (host.id, i))]
        return self._cut("isolated leader", pairs)

    def _one_way_partition(self) -> bool:
        """Somebody, most often the leader, is deaf, or mute."""
        host = self._leader() if self.world.random.random() < 0.7 else self._some_host()
        if host is None:
            return False
        others = [i for i in self.world.ids() if i != host.id]
        deaf = self.world.random.random() < 0.5
        return self._cut(
            "one-way partition", [(i, host.id) if deaf else (host.id, i) for i in others]
        )

    def _old_leader_returns(self) -> bool:
        """A leader is mute until another one commits; then that one is lost and the first heard.

        What it could not send is in its log, which may be longer than what is committed.
        """
        world, old = self.world, self._leader()
        if old is None or world.network.blocked or len(self._running()) < len(world.ids()):
            return False
        world.network.cut([(old.id, i) for i in world.ids() if i != old.id])
        patience_us = world.scheduler.now_us + 8 * self._election_us()

        def look() -> None:
            new = self._leader()
            if new is not None and new is not old and _has_committed(new):
                self._happened("old leader returns")
                new.down = True
                new.lose_power("the new leader")
                self._later(self._election_us(), 4 * self._election_us(), lambda: back(new))
            elif world.scheduler.now_us < patience_us:
                self._later(200, 1_000, look)
                return
            else:  # nobody was elected: once more
                self._later(RETRY_US, RETRY_US, lambda: self._try("old leader returns"))
            world.network.cut(())

        def back(new: Host) -> None:
            new.down = False
            new.start()

        look()
        return True

    def _partial_partition(self) -> bool:
        """Two servers do not see each other; others see both."""
        a, b = self.world.random.sample(self.world.ids(), 2)
        return self._cut("partial partition", [(a, b), (b, a)])

    def _clogged_links(self) -> bool:
        """Links are stopped one by one and let go together."""
        ids = self.world.ids()
        links = [(a, b) for a in ids for b in ids if a != b and self.world.random.random() < 0.5]
        if not links:
            return False
        for link in links:
            self._later(0, 50_000, lambda link=link: self.world.network.clog([link]))
        self._happened("clogged links")
        self._later(60_000, 4 * self._election_us(), self.world.network.release)
        return True

    def _left_behind(self) -> bool:
        """A follower is down until the leader's log begins after its end."""
        leader, running = self._leader(), self._running()
        if leader is None or len(running) < len(self.world.ids()):
            return False
        lonely = self.world.random.choice([h for h in running if h is not leader])
        assert lonely.process is not None
        end = lonely.process.assembly.core._state.log.last_index
        lonely.down = True
        lonely.die("to be left behind")

        def look() -> None:
            leader = self._leader()
            if leader is None or leader.process is None or self._log_begin(leader) <= end:
                self._later(20_000, 30_000, look)
                return
            self._happened("left behind")
            lonely.down = False
            lonely.start()

        look()
        return True

    @staticmethod
    def _log_begin(host: Host) -> int:
        assert host.process is not None
        return host.process.assembly.core._state.log.base_index

    # ----------------------------------------------------------------- disks

    def _trap(self, fault: str, at: tuple[str, ...], name: str) -> bool:
        host = self._some_host()
        if host is None or host.disk.trap is not None:
            return False
        random = self.world.random
        host.disk.trap = Trap(fault, at, random.choice((1, 2, random.randint(1, 20))))
        before = host.disk.count[f"disk {fault}"]

        def look() -> None:
            if host.gone:
                host.disk.trap = None
                self._try(name)
            elif host.disk.trap is not None:
                self._later(5_000, 10_000, look)
            elif host.disk.count[f"disk {fault}"] > before:
                self._happened(name)
            else:  # somebody else cut the power first
                self._try(name)

        look()
        return True

    def _eio(self) -> bool:
        return self._trap("eio", ("write", "sync"), "eio")

    def _eio_in_read(self) -> bool:
        host = self._some_host()
        if host is None:
            return False
        before = host.disk.count["eio in read"]
        host.disk.read_fault = self.world.random.randint(1, 2)  # identity, log: always read
        host.die("restart with a failing read")

        def look() -> None:
            if host.disk.count["eio in read"] > before:
                return  # the disk has counted it
            if host.gone:
                self._try("eio in read")
            else:
                self._later(5_000, 10_000, look)

        look()
        return True

    def _full_disk(self) -> bool:
        host = self._some_host()
        if host is None or host.disk.full:
            return False
        host.disk.full = True
        before = host.disk.count["disk enospc"]

        def look() -> None:
            if host.disk.count["disk enospc"] > before:
                self._happened("full disk")
                self._later(10_000, 4 * self._election_us(), space)
            elif host.gone:
                self._try("full disk")
            else:
                self._later(5_000, 10_000, look)

        def space() -> None:
            host.disk.full = False

        look()
        return True

    def _nearly_full_disk(self) -> bool:
        host = self._some_host()
        if host is None:
            return False
        host.disk.free = self.world.random.randint(0, limits.DISK_FREE_BYTES_MIN)
        self._happened("nearly full disk")

        def space() -> None:
            host.disk.free = ROOM

        self._later(100_000, 800_000, space)
        return True

    def _stalled_sync(self) -> bool:
        host = self._leader() if self.world.random.random() < 0.6 else self._some_host()
        if host is None:
            return False
        world, before = self.world, self.world.trace.count["stalled sync"]
        longest_us = 10 * self._election_us()
        stall_us = world.random.randint(self._election_us() // 2, longest_us)
        host.stalled_until_us = world.scheduler.now_us + stall_us

        def look() -> None:  # the host counts it when a sync has come
            if world.trace.count["stalled sync"] == before:
                self._try("stalled sync")

        self._later(stall_us, stall_us, look)
        return True

    def _bit_flip(self) -> bool:
        """A bit of what lies on a disk changes, while the server is down."""
        random = self.world.random
        damaged = sum(bool(host.damage) for host in self.world.hosts.values())
        if damaged >= (len(self.world.voters) - 1) // 2:
            return True  # no more than the promise
        host = self._some_host()
        if host is None:
            return False
        host.die("to be damaged")
        paths = [path for path in host.disk.paths() if path.endswith((".wal", ".snapshot"))]
        if not paths:
            return False
        path = random.choice(paths)
        offset = host.disk.flip(path)
        if offset < 0:
            return False
        host.damage = f"a bit of {path} at byte {offset}"
        self.world.trace.note("flip", host.id, path, offset)
        self._happened("bit flip")
        return True


def _has_committed(leader: Host) -> bool:
    """Whether it has committed an entry of its own term."""
    assert leader.process is not None
    core = leader.process.assembly.core
    return core._state.log.term_at(core.commit_index) == core.term


def _term_of(host: Host) -> int:
    assert host.process is not None
    return host.process.assembly.core.term
