"""Clients of a cluster that is being hurt: what they asked for, what they were told, and when.

``Recorder`` turns each piece of work into an ``Operation``. Its outcome is OK, or FAILED where the
error's code says that nothing was done and never will be, else UNKNOWN:

=====================================  =====================  =====================================
error                                  in autocommit          in a transaction
=====================================  =====================  =====================================
a code that drivers retry              FAILED                 FAILED
Neo.ClientError.*                      FAILED, and a finding  FAILED, and a finding
...Transaction.TransactionCommitFailed UNKNOWN                UNKNOWN
another code                           UNKNOWN, and a finding UNKNOWN, and a finding
no connection was made                 FAILED                 FAILED
connection lost, before COMMIT         UNKNOWN                FAILED
connection lost, at COMMIT             UNKNOWN                UNKNOWN
=====================================  =====================  =====================================

Reads have no effect, so a read without an answer is FAILED whatever its error. A client that has
seen UNKNOWN goes on under a new number, as its operation may still be under way.

``Client`` is what a workload gets: doors into the cluster (each gateway, with and without routing)
and the three ways to do something (autocommit, explicit and managed transactions).
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, TypeVar, cast

import neo4j
from neo4j.exceptions import DriverError, IncompleteCommit, Neo4jError

from tests.checkers.history import Operation, Outcome
from tests.cluster.running import connect

OUTCOME_UNKNOWN = "Neo.DatabaseError.Transaction.TransactionCommitFailed"
SCHEMES = ("bolt", "neo4j")  # without and with routing
CONNECTION_SECONDS = 5.0
RETRY_SECONDS = 15.0  # of managed transactions

# How the driver's errors begin that come before a connection was there to send anything by.
_NOTHING_WAS_SENT = (
    "Couldn't connect to",
    "Failed to obtain connection towards",
    "Unable to retrieve routing information",
    "failed to obtain a connection from the pool",
)

T = TypeVar("T")
Row = list[Any]
Work = Callable[[neo4j.Transaction | neo4j.ManagedTransaction], T]


class NotDone(Exception):
    """The error that is its cause came before COMMIT was sent, or its code says "not done"."""


class Refused(Exception):
    """The work itself found that it must not be done (no money); it was rolled back."""


class Doors:
    """A driver for each server and scheme, made when it is first used. Threads share them."""

    def __init__(self, addresses: Callable[[], Mapping[int, str]]) -> None:
        """``addresses``: of the gateways of those who are members at the moment."""
        self._addresses = addresses
        self._drivers: dict[str, neo4j.Driver] = {}
        self._lock = threading.Lock()

    def any(self, chance: random.Random) -> neo4j.Driver:
        """Any gateway, with or without routing."""
        return self.of(chance.choice(sorted(self._addresses())), chance.choice(SCHEMES))

    def of(self, server: int, scheme: str = "bolt") -> neo4j.Driver:
        url = f"{scheme}://{self._addresses()[server]}"
        with self._lock:
            if url not in self._drivers:
                self._drivers[url] = connect(
                    url,
                    connection_timeout=CONNECTION_SECONDS,
                    connection_acquisition_timeout=2 * CONNECTION_SECONDS,
                    max_transaction_retry_time=RETRY_SECONDS,
                )
            return self._drivers[url]

    def close(self) -> None:
        for driver in self._drivers.values():
            driver.close()


class Recorder:
    """The history of a run, and what came up in it that should not. Threads share it."""

    def __init__(self) -> None:
        self.history: list[Operation] = []
        self.unexpected: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()  # all, by code or class
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def new_client(self) -> int:
        with self._lock:
            return next(self._numbers)

    def add(self, operation: Operation) -> None:
        with self._lock:
            self.history.append(operation)

    def note(self, error: BaseException, unexpected: bool) -> None:
        code = error.code if isinstance(error, Neo4jError) else type(error).__name__
        with self._lock:
            self.errors[str(code)] += 1
            if unexpected:
                self.unexpected[f"{code}: {error}"[:500]] += 1

    def count(self, outcome: Outcome) -> int:
        with self._lock:
            return sum(operation.outcome is outcome for operation in self.history)

    def last_answer(self) -> int:
        """When an operation was last OK; 0 if none was."""
        with self._lock:
            answers = [op.completed for op in self.history[-1000:] if op.outcome is Outcome.OK]
        return max(answers, default=0)


class Client:
    """One thread's client: does operations one after the other and records them."""

    def __init__(self, index: int, doors: Doors, recorder: Recorder, chance: random.Random) -> None:
        self.index = index  # stays; ``number`` does not
        self.chance = chance
        self.number = recorder.new_client()
        self.bookmarks: neo4j.Bookmarks = neo4j.Bookmarks()  # of this client number
        self._doors = doors
        self._recorder = recorder

    # ----------------------------------------------------------------- recording

    def write(self, action: str, value: Any, work: Callable[[], Any]) -> Operation:
        """Do and record something that has an effect. ``work`` uses the methods below."""
        return self._record(action, value, work, effect=True)

    def read(self, action: str, value: Any, work: Callable[[], Any]) -> Operation:
        """Do and record something without effect."""
        return self._record(action, value, work, effect=False)

    def _record(self, action: str, value: Any, work: Callable[[], Any], effect: bool) -> Operation:
        number, result = self.number, None
        invoked = time.monotonic_ns()
        try:
            result = work()
            outcome = Outcome.OK
        except Refused:
            outcome = Outcome.FAILED
        except NotDone as wrapped:
            assert wrapped.__cause__ is not None
            _, unexpected = _judged(wrapped.__cause__)
            self._recorder.note(wrapped.__cause__, unexpected)
            outcome = Outcome.FAILED
        except (Neo4jError, DriverError, OSError) as error:
            outcome, unexpected = _judged(error)
            self._recorder.note(error, unexpected)
        completed = time.monotonic_ns()
        if outcome is Outcome.UNKNOWN:
            self.number = self._recorder.new_client()
            self.bookmarks = neo4j.Bookmarks()
            if not effect:
                outcome = Outcome.FAILED
        operation = Operation(number, action, value, result, invoked, completed, outcome)
        self._recorder.add(operation)
        return operation

    # ----------------------------------------------------------------- doing

    def door(self) -> neo4j.Driver:
        return self._doors.any(self.chance)

    def run(self, query: str, **parameters: Any) -> list[Row]:
        """An autocommit query with write access: linearizable, whatever it is."""
        with self.door().session() as session:
            return _rows(session.run(cast(LiteralString, query), parameters))

    def run_locally(
        self, query: str, bookmarks: neo4j.Bookmarks, **parameters: Any
    ) -> tuple[list[Row], neo4j.Bookmarks]:
        """A query with read access, which any server may answer; (rows, bookmarks received)."""
        options: dict[str, Any] = {
            "default_access_mode": neo4j.READ_ACCESS,
            "bookmarks": bookmarks,
        }
        with self.door().session(**options) as session:
            rows = _rows(session.run(cast(LiteralString, query), parameters))
            return rows, session.last_bookmarks()

    def run_marked(self, query: str, **parameters: Any) -> tuple[list[Row], neo4j.Bookmarks]:
        """``run``, and the bookmarks received."""
        with self.door().session() as session:
            rows = _rows(session.run(cast(LiteralString, query), parameters))
            return rows, session.last_bookmarks()

    def explicitly(self, work: Work[T]) -> T:
        """``work`` in an explicit transaction. ``NotDone`` for an error before COMMIT."""
        with self.door().session() as session:
            with _before_commit():
                transaction = session.begin_transaction()
                try:
                    result = work(transaction)
                except BaseException:
                    _abandon(transaction)
                    raise
            transaction.commit()
            return result

    def managed(self, work: Work[T]) -> T:
        """``work`` in a transaction that the driver retries. ``NotDone`` if it never got there."""
        with self.door().session() as session:
            try:
                return session.execute_write(work)
            except IncompleteCommit:
                raise
            except DriverError as error:
                raise NotDone from error

    def transactionally(self, work: Work[T]) -> T:
        """Explicitly or managed, by chance."""
        return self.managed(work) if self.chance.random() < 0.5 else self.explicitly(work)


@contextmanager
def _before_commit() -> Iterator[None]:
    try:
        yield
    except (Neo4jError, DriverError, OSError) as error:
        raise NotDone from error


def _abandon(transaction: neo4j.Transaction) -> None:
    try:
        transaction.close()
    except (Neo4jError, DriverError, OSError):
        pass


def _judged(error: BaseException) -> tuple[Outcome, bool]:
    """The outcome of an autocommit write or a COMMIT; whether the error is a finding by itself."""
    if not isinstance(error, Neo4jError):
        unsent = isinstance(error, DriverError) and str(error).startswith(_NOTHING_WAS_SENT)
        return (Outcome.FAILED if unsent else Outcome.UNKNOWN), False
    if error.is_retryable():
        return Outcome.FAILED, False
    if error.code == OUTCOME_UNKNOWN:
        return Outcome.UNKNOWN, False
    if str(error.code).startswith("Neo.ClientError."):
        return Outcome.FAILED, True
    return Outcome.UNKNOWN, True


def _rows(result: neo4j.Result) -> list[Row]:
    return [record.values() for record in result]


def merged(bookmarks: Iterable[neo4j.Bookmarks]) -> neo4j.Bookmarks:
    return neo4j.Bookmarks.from_raw_values(b for one in bookmarks for b in one.raw_values)


def tupled(value: Any) -> Any:
    """Lists to tuples, all the way down: what a history is made of."""
    return (
        tuple(map(tupled, value))
        if isinstance(value, Sequence) and not isinstance(value, str | bytes)
        else value
    )
