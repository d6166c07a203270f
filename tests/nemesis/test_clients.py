"""What a client may believe: the outcome that is recorded for each way in which things go wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from neo4j import Bookmarks
from neo4j.exceptions import (
    IncompleteCommit,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

from tests.checkers.history import Outcome
from tests.nemesis.clients import OUTCOME_UNKNOWN, Client, Recorder, Refused, merged, tupled

SWITCH = "Neo.TransientError.Transaction.LeaderSwitch"
SYNTAX = "Neo.ClientError.Statement.SyntaxError"
INTERNAL = "Neo.DatabaseError.General.UnknownError"


def said(code: str) -> Neo4jError:
    return Neo4jError._hydrate_neo4j(code=code, message="told so")


class Session:
    """A session of the driver in which one step fails."""

    def __init__(self, failing: str, error: Exception) -> None:
        self._failing, self._error = failing, error

    def _step(self, name: str) -> None:
        if name == self._failing:
            raise self._error

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def session(self, **_: Any) -> Session:
        return self

    def run(self, *_: Any, **__: Any) -> list[Any]:
        self._step("run")
        return []

    def begin_transaction(self) -> Session:
        self._step("begin")
        return self

    def commit(self) -> None:
        self._step("commit")

    def close(self) -> None:
        raise ServiceUnavailable("closing fails too")

    def execute_write(self, work: Callable[[Any], Any]) -> Any:
        result = work(self)
        self._step("commit")
        return result


class Doors:
    def __init__(self, session: Session) -> None:
        self._session = session

    def any(self, _chance: random.Random) -> Any:
        return self._session


def client_of(failing: str, error: Exception) -> tuple[Client, Recorder]:
    recorder = Recorder()
    doors: Any = Doors(Session(failing, error))
    return Client(0, doors, recorder, random.Random(1)), recorder


LOST = SessionExpired("Failed to read from defunct connection")
UNCONNECTED = ServiceUnavailable("Couldn't connect to 127.0.0.1:7687")


@pytest.mark.parametrize(
    ("error", "outcome", "unexpected"),
    [
        (said(SWITCH), Outcome.FAILED, False),
        (said(SYNTAX), Outcome.FAILED, True),
        (said(OUTCOME_UNKNOWN), Outcome.UNKNOWN, False),
        (said(INTERNAL), Outcome.UNKNOWN, True),
        (LOST, Outcome.UNKNOWN, False),
        (UNCONNECTED, Outcome.FAILED, False),
    ],
)
def test_autocommit(error: Exception, outcome: Outcome, unexpected: bool) -> None:
    client, recorder = client_of("run", error)
    operation = client.write("add", 1, lambda: client.run("CREATE ()"))
    assert operation.outcome is outcome
    assert bool(recorder.unexpected) == unexpected
    assert recorder.history == [operation]


@pytest.mark.parametrize(
    ("failing", "error", "outcome"),
    [
        ("begin", LOST, Outcome.FAILED),
        ("run", LOST, Outcome.FAILED),
        ("run", said(SWITCH), Outcome.FAILED),
        ("commit", LOST, Outcome.UNKNOWN),
        ("commit", said(SWITCH), Outcome.FAILED),
        ("commit", said(OUTCOME_UNKNOWN), Outcome.UNKNOWN),
    ],
)
def test_explicit_transactions(failing: str, error: Exception, outcome: Outcome) -> None:
    client, _ = client_of(failing, error)
    operation = client.write("add", 1, lambda: client.explicitly(lambda tx: tx.run("CREATE ()")))
    assert operation.outcome is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (IncompleteCommit("lost at COMMIT"), Outcome.UNKNOWN),
        (LOST, Outcome.FAILED),
        (said(SWITCH), Outcome.FAILED),
        (said(OUTCOME_UNKNOWN), Outcome.UNKNOWN),
    ],
)
def test_managed_transactions(error: Exception, outcome: Outcome) -> None:
    client, _ = client_of("commit", error)
    operation = client.write("add", 1, lambda: client.managed(lambda tx: tx.run("CREATE ()")))
    assert operation.outcome is outcome


def test_a_refusal_of_the_work_itself_is_no_error() -> None:
    client, recorder = client_of("nothing", LOST)

    def refuse() -> None:
        raise Refused

    assert client.write("transfer", 1, refuse).outcome is Outcome.FAILED
    assert not recorder.errors


def test_after_an_unknown_outcome_a_client_has_a_new_number_and_no_bookmarks() -> None:
    client, _ = client_of("run", LOST)
    client.bookmarks = Bookmarks.from_raw_values(["a"])
    first = client.write("add", 1, lambda: client.run("CREATE ()"))
    second = client.read("read", 1, lambda: client.run("RETURN 1"))
    third = client.read("read", 1, lambda: 7)
    assert len({first.client, second.client, third.client}) == 3
    assert client.bookmarks.raw_values == frozenset()
    assert second.outcome is Outcome.FAILED, "a read has no effect"
    assert (third.outcome, third.result) == (Outcome.OK, 7)


def test_merged_bookmarks_and_tuples() -> None:
    both = merged([Bookmarks.from_raw_values(["a"]), Bookmarks.from_raw_values(["b"])])
    assert both.raw_values == {"a", "b"}
    assert tupled([1, [2, ["x"]], "yz"]) == (1, (2, ("x",)), "yz")
