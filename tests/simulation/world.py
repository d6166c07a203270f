"""Virtual time, and the record of what happened.

``Scheduler`` holds what will happen, ordered by time and, at one time, by when it was asked for;
nothing else decides the order of events. ``Clock`` is what one host takes for time: it may run
fast or slow, stand still, or jump forward, but never back, as a monotonic clock. ``Trace`` keeps
the last events for a person and a digest of all of them for the test of determinism.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

__all__ = ["Clock", "Scheduler", "SimulationFailure", "Trace"]

SHOWN_EVENTS = 50
US = 1_000_000  # microseconds in a second
PER_MILLE = 1000
EVENTS_MAX = 100_000  # a run has some thousands; one that turns in circles has no end


class SimulationFailure(BaseException):
    """What a run found. ``kind`` is crash, liveness, correctness or coverage.

    No ``Exception``: the product may catch those, and what was found must not get lost in it.
    """

    def __init__(self, kind: str, check: str, text: str) -> None:
        super().__init__(f"{kind}: {check}: {text}")
        self.kind = kind
        self.check = check
        self.text = text

    def __reduce__(self) -> tuple[type[SimulationFailure], tuple[str, str, str]]:
        """Results travel between the processes of a run with several jobs."""
        return SimulationFailure, (self.kind, self.check, self.text)


class Scheduler:
    """Microseconds of virtual time, and what will happen when."""

    def __init__(self) -> None:
        self.now_us = US  # a clock that starts at zero hides mistakes
        self.events_run = 0
        self._order = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    def at(self, when_us: int, action: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._heap, (max(when_us, self.now_us), self._order, action))

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self.at(self.now_us + delay_us, action)

    def run(self, until_us: int, stop: Callable[[], bool] | None = None) -> bool:
        """All events up to a time, or until ``stop()`` says so after one; whether it did."""
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            when_us, _, action = heappop(heap)
            self.now_us = when_us
            self.events_run += 1
            if self.events_run > EVENTS_MAX:
                raise SimulationFailure("liveness", "Events", f"more than {EVENTS_MAX} events")
            action()
            if stop is not None and stop():
                return True
        self.now_us = max(self.now_us, until_us)
        return False


class Clock:
    """A host's monotonic clock: local = base + (now - since) * rate."""

    def __init__(self, scheduler: Scheduler, start_us: int) -> None:
        self._scheduler = scheduler
        self._base_us = start_us
        self._since_us = scheduler.now_us
        self._rate = PER_MILLE
        self.on_change: Callable[[], None] | None = None

    def now_us(self) -> int:
        passed = self._scheduler.now_us - self._since_us
        return self._base_us + passed * self._rate // PER_MILLE

    def seconds(self) -> float:
        return self.now_us() / US

    def set_rate(self, rate: int) -> None:
        """Local microseconds in a thousand real ones; 0: the clock stands still."""
        self._base_us, self._since_us = self.now_us(), self._scheduler.now_us
        self._rate = rate
        self._changed()

    def jump(self, forward_us: int) -> None:
        self._base_us += forward_us
        self._changed()

    def when(self, local_us: int) -> int | None:
        """Virtual time at which this clock shows ``local_us``; None: not while it stands still."""
        left = local_us - self._base_us
        if left <= 0:
            return self._since_us
        if not self._rate:
            return None
        return self._since_us - (-left * PER_MILLE // self._rate)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()


class Trace:
    """What happened: a digest of everything, the last events, and how often each kind."""

    def __init__(self, scheduler: Scheduler, show: Callable[[str], None] | None = None) -> None:
        self._scheduler = scheduler
        self._digest = hashlib.blake2b(digest_size=16)
        self._last: deque[tuple[Any, ...]] = deque(maxlen=SHOWN_EVENTS)
        self._show = show
        self.count: Counter[str] = Counter()

    def note(self, what: str, *details: Any) -> None:
        """An event; details must look the same in every process."""
        event = (self._scheduler.now_us, what, *details)
        self._digest.update(repr(event).encode())
        self._last.append(event)
        if self._show is not None:
            self._show(_line(event))

    def digest(self) -> str:
        return self._digest.hexdigest()

    def last(self) -> list[str]:
        return [_line(event) for event in self._last]


def _line(event: tuple[Any, ...]) -> str:
    when_us, what, *details = event
    return f"{when_us / US:9.4f} {what:<10} " + " ".join(str(detail) for detail in details)


def drawn_us(random: Random, low_us: int, high_us: int) -> int:
    return random.randint(low_us, max(low_us, high_us))
