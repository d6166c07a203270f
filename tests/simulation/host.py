"""One host: a disk and a clock, which outlive the processes on it, and what restarts those.

A *kill* ends the process and leaves what it wrote in the page cache; a *power cut* takes what was
not synced, too. After either the host starts the server again, until it is told to stop. A server
that refuses to start must have had a reason: a disk on which bits were flipped. It stays down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from actors.errors import DirectoryRefused, DiskFailure, ServerRemoved
from actors.identity import FORMAT_VERSION, DataDirectory, Identity, _checked
from graph.errors import CorruptionError
from tests.simulation.disk import PowerCut, SimulatedDisk
from tests.simulation.process import Ended, Process
from tests.simulation.world import US, Clock, SimulationFailure

if TYPE_CHECKING:
    from tests.simulation.simulation import World

__all__ = ["Host"]

_IDENTITY = "identity.json"


class _Path:
    """As much of ``pathlib.Path`` as reading an identity takes, on a simulated disk."""

    def __init__(self, disk: SimulatedDisk, name: str = "") -> None:
        self._disk = disk
        self._name = name

    def __truediv__(self, name: str) -> _Path:
        return _Path(self._disk, name)

    def read_text(self, encoding: str) -> str:
        return self._disk.read(self._name).decode(encoding)

    def __str__(self) -> str:
        return self._name or "the data directory"


class _Directory(DataDirectory):
    """A data directory on a simulated disk, where nobody else can be: it needs no lock."""

    def __init__(self, disk: SimulatedDisk, identity: Identity) -> None:
        super().__init__(_Path(disk), -1, identity)  # type: ignore[arg-type]
        self.disk = disk  # type: ignore[assignment]


class Host:
    """See the module."""

    def __init__(self, world: World, host_id: int, *, joins: bool = False) -> None:
        self.id = host_id
        self.world = world
        random = world.random
        self.disk = SimulatedDisk(random, world.trace.count)
        self.clock = Clock(world.scheduler, random.randint(US, 1_000 * US))
        self.rate = 1_000 + random.randint(-world.swarm.skew, world.swarm.skew)
        self.clock.set_rate(self.rate)
        self.process: Process | None = None
        self.slowness = 1
        self.stalled_until_us = 0
        self.damage = ""  # what was done to what the disk holds; the server may refuse to start
        self.refused = ""  # why it does not start any more
        self.down = False  # stays down until somebody says otherwise
        self.starts = 0
        self.joins = joins  # it waits to be added to a running cluster
        self.retired = False  # it is no member any more, and will never be again

    @property
    def gone(self) -> bool:
        """Whether no server will ever run here again."""
        return self.retired or bool(self.refused)

    # ----------------------------------------------------------------- starting

    def open_directory(self) -> DataDirectory:
        """``DataDirectory.open``: check whose it is, count an incarnation."""
        if _IDENTITY in self.disk.paths():
            before = _checked(_Path(self.disk), self.id)  # type: ignore[arg-type]
            if before.removed:
                raise ServerRemoved(f"server {self.id} was removed")
        elif any(name.startswith(("raft/", "snapshots/")) for name in self.disk.paths()):
            raise DirectoryRefused("no identity, but a log")
        else:
            directory = f"{self.world.random.getrandbits(64):016x}"
            before = Identity(FORMAT_VERSION, self.id, "", 0, directory)
        identity = replace(before, format=FORMAT_VERSION, incarnation=before.incarnation + 1)
        directory = _Directory(self.disk, identity)
        directory._write()
        return directory

    def start(self) -> None:
        """Start the server, or find out that its disk cannot be used."""
        if self.process is not None or self.down or self.refused or self.retired:
            return  # a start that was asked for earlier came first, or there shall be none
        self.starts += 1
        note = self.world.trace.note
        read_errors = self.disk.count["eio in read"]
        try:
            self.process = process = Process(self)
        except (PowerCut, Ended) as error:
            self.disk.power_cut()
            note("start", self.id, "power lost", str(error))
            self.start_later()
        except ServerRemoved:
            self.retire("was removed before")
        except (DirectoryRefused, CorruptionError) as error:
            note("refused", self.id, str(error)[:60])
            if self.disk.count["eio in read"] > read_errors:
                self.start_later()  # it could not be read; that may pass
                return
            if not self.damage:
                raise SimulationFailure(
                    "correctness", "restart", f"server {self.id} refuses to start: {error}"
                ) from error
            self.refused = str(error)
            self.world.trace.count["refused damage"] += 1
        except (DiskFailure, OSError) as error:
            note("start", self.id, str(error))
            self.start_later()
        else:
            core = process.assembly.core
            note("start", self.id, process.incarnation, core.term, core.last_index)
            self.world.introduce(process)

    def start_later(self) -> None:
        delay_us = self.world.random.randint(1_000, self.world.swarm.restart_us)
        self.world.scheduler.after(delay_us, self.start)

    # ----------------------------------------------------------------- ending

    def die(self, why: str) -> None:
        """The process ends; its page cache stays."""
        process, self.process = self.process, None
        if process is None:
            return
        process.alive = False
        self.world.trace.note("death", self.id, process.incarnation, why)
        self.world.noticed(process)
        self.start_later()

    def retire(self, why: str) -> None:
        """Its server will not be started any more."""
        self.retired = True
        self.die(why)

    def lose_power(self, why: str) -> None:
        """The process ends, and what was not synced is left to chance."""
        self.disk.trap = None
        torn = self.disk.power_cut()
        self.world.trace.note("power", self.id, why, torn)
        self.die("power")

    # ----------------------------------------------------------------- disk

    def sync_delay_us(self) -> int:
        """How long the next sync takes."""
        world = self.world
        delay_us = world.random.randint(10, world.swarm.disk_us)
        stalled_us = self.stalled_until_us - world.scheduler.now_us
        if stalled_us > 0:
            world.trace.count["stalled sync"] += 1
        return max(delay_us, stalled_us)
