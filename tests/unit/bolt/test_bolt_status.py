"""Status codes against what the official driver makes of them."""

from __future__ import annotations

import pytest
from neo4j.exceptions import Neo4jError

from bolt import errors, status
from graph import errors as graph_errors

CODES = sorted(getattr(status, name) for name in status.__all__ if name.isupper())


def driver_retries(code: str) -> bool:
    return bool(Neo4jError._hydrate_neo4j(code=code, message="m").is_retryable())


@pytest.mark.parametrize("code", [*CODES, "Neo.TransientError.Transaction.Terminated"])
def test_retryable(code: str) -> None:
    assert status.retryable(code) == driver_retries(code)


def test_promises() -> None:
    assert status.retryable(status.NOT_A_LEADER)
    assert status.retryable(status.LEADER_SWITCH)
    assert status.retryable(status.DATABASE_UNAVAILABLE)
    assert not status.retryable(status.COMMIT_OUTCOME_UNKNOWN)
    assert not status.retryable(status.UNKNOWN_ERROR)
    assert not status.retryable("")


@pytest.mark.parametrize("code", CODES)
def test_shape(code: str) -> None:
    neo, classification, _, _ = code.split(".")
    assert neo == "Neo"
    assert classification in ("ClientError", "TransientError", "DatabaseError")


def test_a_conflict_is_retried_and_other_engine_errors_are_as_drivers_say() -> None:
    assert status.retryable(graph_errors.ConflictError.code)
    assert not status.retryable(graph_errors.CypherSyntaxError.code)


def test_every_error_has_a_code() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert kind("m").code in CODES
        assert kind("m", code="X").code == "X"
        assert str(kind("m")) == "m"
