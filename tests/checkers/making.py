"""Histories by hand, for the tests of the checkers: ``ok(1, "write", ("x", 5), at=(3, 7))``."""

from __future__ import annotations

from typing import Any

from tests.checkers.history import Operation, Outcome

__all__ = ["failed", "ok", "unknown"]


def ok(
    client: int, action: str, value: Any, result: Any = None, *, at: tuple[int, int]
) -> Operation:
    return Operation(client, action, value, result, *at, Outcome.OK)


def failed(client: int, action: str, value: Any, *, at: tuple[int, int]) -> Operation:
    return Operation(client, action, value, None, *at, Outcome.FAILED)


def unknown(client: int, action: str, value: Any, *, at: tuple[int, int]) -> Operation:
    return Operation(client, action, value, None, *at, Outcome.UNKNOWN)
