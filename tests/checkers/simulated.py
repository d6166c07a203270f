"""Histories of clients of a store that never was: for the tests of the checkers.

``Clients`` interleaves the operations of some clients at random. An operation is invoked, then
*begins* (takes its snapshot, if the store has such a thing), then is *done* (takes effect, all of
it at once), then completes; what other clients do falls anywhere between. Some operations
fail before they are done, of some the client never learns the outcome: those are done later, or
never. Everything is drawn from one ``random.Random``, so a seed gives the same history again.

``Lies`` are what a broken database would do: acknowledge and forget, say "failed" and do it
anyhow, do it twice. What depends on the kind of store (stale reads, lost conflict checks) is up
to the store that a test hands in.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from tests.checkers.history import Operation, Outcome

__all__ = ["HONEST", "Ask", "Clients", "Lies", "Refused", "Store"]

Ask = Callable[[int], tuple[str, Any]]  # a client's next action and value

_LATE = 0.03  # of a late operation, in each step


class Refused(Exception):
    """The store did not do it, and says so."""


class Store(Protocol):
    """What the clients talk to."""

    def begin(self, action: str, value: Any) -> Any:
        """Whatever ``done`` needs to know of this moment."""

    def done(self, action: str, value: Any, begun: Any) -> Any:
        """Take effect and give the result. Raises ``Refused``."""


@dataclass(frozen=True)
class Lies:
    """Probabilities of lies about an operation."""

    forgotten: float = 0.0  # OK, but never done
    failed_but_done: float = 0.0
    done_again: float = 0.0  # once more, later


HONEST = Lies()


@dataclass
class _Pending:
    client: int
    action: str
    value: Any
    invoked: int
    begun: Any = None
    has_begun: bool = False
    is_done: bool = False
    forgotten: bool = False
    result: Any = None
    outcome: Outcome = Outcome.OK


@dataclass
class Clients:
    """Runs operations against a store and keeps the history. ``reads`` never change anything."""

    random: Random
    store: Store
    count: int = 5
    failed: float = 0.05
    unknown: float = 0.05
    lies: Lies = HONEST
    reads: tuple[str, ...] = ("read",)
    history: list[Operation] = field(default_factory=list)
    time: int = 0
    _late: list[_Pending] = field(default_factory=list)

    def run(self, operations: int, ask: Ask) -> list[Operation]:
        """That many operations, until each is completed; the history so far."""
        busy: dict[int, _Pending] = {}
        while operations or busy:
            self.time += 1
            if self._late and self.random.random() < _LATE:
                self._do(self._late.pop(self.random.randrange(len(self._late))))
            client = self.random.randrange(self.count)
            if client in busy:
                if self._advance(busy[client]):
                    del busy[client]
            elif operations:
                operations -= 1
                busy[client] = _Pending(client, *ask(client), self.time)
        return self.history

    def alone(self, client: int, action: str, value: Any) -> Operation:
        """One operation while nobody else does anything; it is done and answered."""
        pending = _Pending(client, action, value, self.time + 1)
        self._begin(pending)
        self._do(pending)
        self.time += 2
        self._complete(pending)
        return self.history[-1]

    def _advance(self, pending: _Pending) -> bool:
        """One step of an operation; whether it was the last."""
        if not pending.has_begun:
            self._begin(pending)
            if pending.action not in self.reads:
                self._fate(pending)
        elif not pending.is_done and pending.outcome is Outcome.OK:
            self._do(pending)
        else:
            self._complete(pending)
            return True
        return False

    def _begin(self, pending: _Pending) -> None:
        pending.begun = self.store.begin(pending.action, pending.value)
        pending.has_begun = True

    def _fate(self, pending: _Pending) -> None:
        """Whether anything will go wrong."""
        draw = self.random.random
        if draw() < self.failed:
            pending.outcome = Outcome.FAILED
            if draw() < self.lies.failed_but_done:
                self._late.append(pending)
        elif draw() < self.unknown:
            pending.outcome = Outcome.UNKNOWN
            if draw() < 0.7:
                self._late.append(pending)
        elif draw() < self.lies.forgotten:
            pending.forgotten = True
        elif draw() < self.lies.done_again:
            self._late.append(pending)

    def _do(self, pending: _Pending) -> None:
        pending.is_done = True
        store = deepcopy(self.store) if pending.forgotten else self.store
        try:
            result = store.done(pending.action, pending.value, pending.begun)
        except Refused:
            if pending.outcome is Outcome.OK:
                pending.outcome = Outcome.FAILED
            return
        if pending.outcome is Outcome.OK:
            pending.result = result

    def _complete(self, pending: _Pending) -> None:
        self.history.append(
            Operation(
                pending.client,
                pending.action,
                pending.value,
                pending.result,
                pending.invoked,
                self.time,
                pending.outcome,
            )
        )
