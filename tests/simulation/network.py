"""The network between hosts: what it loses, doubles, holds up and delays.

Messages between servers may be lost, doubled, delayed and overtake one another. Between a gateway
and a server there is a connection: messages keep their order, and wait while the link is cut. If it
stays cut for long the connection breaks, with all that waited; both ends notice, and look for one
another again. A *clogged* link holds everything and lets it go in one burst.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from actors.raft.messages import Unreachable

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.simulation import World

__all__ = ["Network"]

LOCAL_US = 50
BREAK_US = (20_000, 400_000)
UNREACHABLE = 0.2  # how often a sender notices that its message cannot go out


class Network:
    """See the module. Links are ordered pairs of host ids."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.blocked: set[tuple[int, int]] = set()
        self._clogged: dict[tuple[int, int], list[Callable[[], None]]] = {}
        self._waiting: dict[tuple[int, int], list[Callable[[], None]]] = {}
        self._cuts = 0
        self._last_us: dict[tuple[int, int], int] = {}
        self.calm = False  # no chance any more, only delays

    # ----------------------------------------------------------------- messages

    def send(self, source: Process, target: Process, data: bytes) -> None:
        """A message of one server to another, with all that can become of it."""
        world, swarm = self._world, self._world.swarm
        random, count = world.random, world.trace.count
        link = (source.host.id, target.host.id)
        copies = 1
        if not self.calm:
            if swarm.loss and random.random() < swarm.loss:
                count["loss"] += 1
                return
            if swarm.duplication and random.random() < swarm.duplication:
                count["duplication"] += 1
                copies = 2
        for _ in range(copies):
            self._convey(link, lambda: target.deliver(data), self._delay_us())
        if link in self.blocked and random.random() < UNREACHABLE:
            count["unreachable"] += 1
            source.post(Unreachable(target.host.id))
        world.trace.note("send", *link, len(data), hash_of(data))

    def carry(self, source: int, target: int, action: Callable[[], None]) -> None:
        """A message between a gateway and a server: in order, or not at all."""
        link = (source, target)
        if source == target:
            self._world.scheduler.after(LOCAL_US, action)
            return
        now_us = self._world.scheduler.now_us
        when_us = max(now_us + self._delay_us(), self._last_us.get(link, 0))
        self._last_us[link] = when_us

        def arrive() -> None:
            if link in self.blocked:
                self._waiting.setdefault(link, []).append(action)
            else:
                action()

        self._convey(link, arrive, when_us - now_us, connected=True)

    def _delay_us(self) -> int:
        world, swarm = self._world, self._world.swarm
        longest_us = swarm.network_us
        if swarm.network_tail_us and not self.calm and world.random.random() < 0.05:
            longest_us = swarm.network_tail_us
            world.trace.count["delay"] += 1
        return LOCAL_US + world.random.randint(0, longest_us)

    def _convey(
        self,
        link: tuple[int, int],
        action: Callable[[], None],
        delay_us: int,
        *,
        connected: bool = False,
    ) -> None:
        def arrive() -> None:
            if link in self.blocked and not connected:
                self._world.trace.count["blocked"] += 1
            elif link in self._clogged:
                self._clogged[link].append(action)
            else:
                action()

        if link in self.blocked and not connected:
            self._world.trace.count["blocked"] += 1
        else:
            self._world.scheduler.after(delay_us, arrive)

    # ----------------------------------------------------------------- cuts

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """These links, and no others, lose everything from now on."""
        self.blocked = set(pairs)
        self._cuts += 1
        for link in [link for link in self._waiting if link not in self.blocked]:
            for action in self._waiting.pop(link):
                self._world.scheduler.after(LOCAL_US, action)
        if self.blocked:
            this_cut = self._cuts
            delay_us = self._world.random.randint(*BREAK_US)
            self._world.scheduler.after(delay_us, lambda: self._break(this_cut))

    def _break(self, this_cut: int) -> None:
        """Connections over links that have been cut for long are no more."""
        if this_cut == self._cuts:
            self._waiting.clear()
            self._world.connections_broke()

    def clog(self, pairs: Iterable[tuple[int, int]]) -> None:
        for link in pairs:
            self._clogged.setdefault(link, [])

    def release(self) -> None:
        """What clogged links held arrives, in order, at once."""
        clogged, self._clogged = self._clogged, {}
        for held in clogged.values():
            for action in held:
                self._world.scheduler.after(LOCAL_US, action)

    def heal(self) -> None:
        self.cut(())
        self.release()
        self.calm = True


def hash_of(data: bytes) -> int:
    """A short name for what was sent, the same in every process."""
    return zlib.crc32(data)
