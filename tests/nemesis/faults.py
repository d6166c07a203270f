"""What happens to a cluster while its clients work: eight kinds of faults, each undone in time.

A ``Nemesis`` injects a fault and heals it, again and again, from a thread of its own; what it does
next is drawn from its own randomness. A fault counts when it was seen to have happened: a process
that was killed did exist, a paused one is stopped, a server that was cut off was a leader. A run in
which that was not so at least ``HAPPENED_MIN`` times has tested nothing, and fails.

================  ==================================================================================
kill-leader       SIGKILL the leader; the next one as soon as it leads
kill-all          SIGKILL all servers at once; or the whole command with everything below it
pause             SIGSTOP the leader, a minority or a majority, for longer than an election takes
partition-halves  cut the hosts in two, both ways or one
isolate-leader    cut the leader off, both ways, or make it deaf, or mute
slow-link         delay, jitter and loss on some links, or all
membership        transfer the leadership, add, remove and replace servers
snapshots         a log compacted every few entries, and servers that have to catch up by snapshot
================  ==================================================================================
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

from tests.cluster.running import eventually

from .deployment import Deployment, Hosts, OneCommand
from .network import why_not
from .wire import Link

HAPPENED_MIN = 2
#: Raft's constants of every run: those of raft.json, but clients hear sooner that nobody leads.
RAFT = {"replication_timeout": 5_000}
ELECTION_SECONDS = 1.0  # the longest election time-out in raft.json


class Impossible(Exception):
    """This machine cannot play the fault; the text says why."""


class Nemesis(ABC):
    """See the module. ``inject`` and ``heal`` alternate; ``heal`` may be called twice."""

    name: ClassVar[str]
    causes: ClassVar[str] = ""  # in lines of logs that would be findings without these faults
    harm_seconds: ClassVar[tuple[float, float]] = (2.0, 5.0)  # how long a fault lasts
    rest_seconds: ClassVar[tuple[float, float]] = (1.0, 4.0)  # and then, until the next one

    def __init__(self, deployment: Deployment, chance: random.Random) -> None:
        self.deployment = deployment
        self.chance = chance
        self.happened: list[str] = []

    @classmethod
    def deployment_for(cls) -> Deployment:
        """A cluster, not started, that can suffer this. Raises ``Impossible``."""
        return OneCommand(**RAFT)

    @abstractmethod
    def inject(self) -> None:
        """Do harm, and note in ``happened`` what was seen to have happened."""

    @abstractmethod
    def heal(self) -> None:
        """Undo it."""

    def some(self, servers: Collection[int], count: int) -> list[int]:
        return sorted(self.chance.sample(sorted(servers), count))


class KillLeader(Nemesis):
    name = "kill-leader"
    harm_seconds = (0.5, 3.0)

    def inject(self) -> None:
        leader = self.deployment.leader()
        if leader and self.deployment.kill(leader):
            self.happened.append(f"killed leader {leader}")

    def heal(self) -> None:
        """Its command starts it again."""


class KillAll(Nemesis):
    name = "kill-all"
    harm_seconds = (2.0, 4.0)
    rest_seconds = (3.0, 6.0)

    deployment: OneCommand

    def inject(self) -> None:
        if self.chance.random() < 1 / 3:
            self.deployment.cut_power()
            self.happened.append("killed everything, the command and Ray too")
            return
        killed = [s for s in self.deployment.members if self.deployment.kill(s)]
        if len(killed) == len(self.deployment.members):
            self.happened.append(f"killed {killed}")

    def heal(self) -> None:
        """Servers are started again by their command; if that is gone, it is."""
        if not self.deployment.commands:
            self.deployment.run()


class Pause(Nemesis):
    name = "pause"
    harm_seconds = (2 * ELECTION_SECONDS, 5.0)

    def inject(self) -> None:
        members, leader = self.deployment.members, self.deployment.leader()
        minority = (len(members) - 1) // 2
        victims = self.chance.choice(
            [
                [leader] if leader else self.some(members, 1),
                self.some(members, minority),
                self.some(members, minority + 1),
            ]
        )
        stopped = [p for p in self.deployment.pause(victims) if _is_stopped(p)]
        if stopped:
            self.happened.append(f"paused {victims}, leader {leader}")

    def heal(self) -> None:
        self.deployment.resume()


def _is_stopped(process: int) -> bool:
    def state() -> str:
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
        except OSError:
            return "gone"

    return eventually(lambda: state() not in "RSD" and state(), f"{process} stops", 5) in "Tt"


class _OnNetwork(Nemesis):
    """Faults of links: each server needs a host of its own."""

    deployment: Hosts

    @classmethod
    def deployment_for(cls) -> Deployment:
        reason = why_not()
        if reason:
            raise Impossible(reason)
        return Hosts(**RAFT)

    def heal(self) -> None:
        self.deployment.network.heal()

    def cut(self, some: Collection[int], ways: str) -> None:
        others = set(self.deployment.members) - set(some)
        self.deployment.network.cut(sorted(some), sorted(others), ways)


class PartitionHalves(_OnNetwork):
    name = "partition-halves"
    harm_seconds = (3.0, 9.0)
    rest_seconds = (2.0, 6.0)

    def inject(self) -> None:
        members = self.deployment.members
        some = self.some(members, self.chance.choice([len(members) // 2, (len(members) + 1) // 2]))
        ways = self.chance.choice(["both", "both", "out", "in"])
        self.cut(some, ways)
        self.happened.append(f"cut {some} from the others, {ways}")


class IsolateLeader(_OnNetwork):
    name = "isolate-leader"
    harm_seconds = (3.0, 9.0)
    rest_seconds = (2.0, 6.0)

    def inject(self) -> None:
        leader = self.deployment.leader()
        if leader:
            ways = self.chance.choice(["both", "both", "out", "in"])
            self.cut([leader], ways)
            self.happened.append(f"cut off leader {leader}, {ways}")


class SlowLink(_OnNetwork):
    name = "slow-link"
    harm_seconds = (4.0, 10.0)

    def inject(self) -> None:
        members = self.deployment.members
        pairs = [(a, b) for a in members for b in members if a != b]
        slow = self.chance.choice([pairs, self.some_pairs(pairs), self.some_pairs(pairs)])
        delay = self.chance.choice([10.0, 50.0, 150.0, 400.0])
        link = Link(delay, delay / 2, self.chance.choice([0.0, 0.01, 0.05, 0.1]))
        self.deployment.network.set_links(dict.fromkeys(slow, link))
        self.happened.append(f"{link} on {slow}")

    def some_pairs(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return sorted(self.chance.sample(pairs, len(pairs) // 2))


class Snapshots(Nemesis):
    """Besides: a server misses more entries than the log keeps, or starts from a snapshot."""

    name = "snapshots"
    harm_seconds = (2.0, 5.0)

    def __init__(self, deployment: Deployment, chance: random.Random) -> None:
        super().__init__(deployment, chance)
        self._seen = self._files()

    @classmethod
    def deployment_for(cls) -> Deployment:
        return OneCommand(**RAFT, log_size_snapshot_threshold=30)

    def _files(self) -> set[Path]:
        return set(self.deployment.place.data.glob("server_*/snapshots/*.snapshot"))

    def inject(self) -> None:
        leader = self.deployment.leader()
        followers = [s for s in self.deployment.members if s != leader]
        victim = self.chance.choice(followers)
        if self.chance.random() < 0.3:
            self.deployment.kill(self.chance.choice(self.deployment.members))
        else:
            self.deployment.pause([victim])

    def heal(self) -> None:
        self.deployment.resume()
        new = self._files() - self._seen
        self._seen |= new
        if new:
            self.happened.append(f"{len(new)} snapshots: {sorted(p.name for p in new)[:3]}")
