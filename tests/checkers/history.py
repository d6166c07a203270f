"""What clients saw: the one thing that every checker reads.

A history is a sequence of ``Operation``, in any order. Each says who asked for what, when the
client sent it, when it had the answer, and what is known of its effect:

    OK        the database said that it was done; ``result`` is what it answered
    FAILED    it was certainly not done, and never will be
    UNKNOWN   nobody knows: it may take effect at any time after ``invoked``, once, or never

A client that cannot prove FAILED records UNKNOWN. ``completed`` of an UNKNOWN operation is when the
client gave up; it bounds nothing. Times are of one monotonic clock in any integer unit; an
operation precedes another if it completed *before* the other was invoked, so that equal times
count as concurrent, which can hide a violation but never invent one.

A checker answers with a ``Verdict``. ``valid`` is None if it could not decide, and that is no pass.

A history is kept as JSON, an operation a line (``to_json``, ``from_json``); lists come back as
tuples, so values that are to survive the way are made of tuples, strings, numbers, booleans, None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = [
    "Operation",
    "Outcome",
    "Verdict",
    "combined",
    "from_json",
    "frozen",
    "precedes",
    "shown",
    "to_json",
    "valid_history",
    "verdict",
]

SHOWN_MAX = 400  # characters of a value or a result
FINDINGS_MAX = 20  # the first few tell the story; the rest is counted


class Outcome(Enum):
    """What is known of an operation's effect."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that one client asked for. ``action`` and its values belong to the checker."""

    client: int
    action: str
    value: Any
    result: Any
    invoked: int
    completed: int
    outcome: Outcome


@dataclass(frozen=True)
class Verdict:
    """What a checker says. ``checked`` counts the operations that it looked at."""

    valid: bool | None
    findings: tuple[str, ...]
    checked: int


def verdict(findings: Sequence[str], checked: int, undecided: Sequence[str] = ()) -> Verdict:
    """False if there are findings, else None if something is undecided, else True."""
    valid: bool | None = None if undecided else True
    if findings:
        valid = False
    told = [*findings, *undecided]
    if len(told) > FINDINGS_MAX:
        told = [*told[:FINDINGS_MAX], f"and {len(told) - FINDINGS_MAX} more"]
    return Verdict(valid, tuple(told), checked)


def combined(verdicts: Iterable[Verdict]) -> Verdict:
    """One verdict of many: False beats None beats True."""
    every = list(verdicts)
    findings = [finding for one in every for finding in one.findings if one.valid is False]
    undecided = [finding for one in every for finding in one.findings if one.valid is None]
    if any(one.valid is None for one in every) and not undecided:
        undecided.append("a checker could not decide")
    return verdict(findings, sum(one.checked for one in every), undecided)


def precedes(first: Operation, second: Operation) -> bool:
    """Whether ``first`` had taken effect, if ever it did, before ``second`` was asked for."""
    return first.outcome is not Outcome.UNKNOWN and first.completed < second.invoked


def valid_history(history: Sequence[Operation], actions: Iterable[str]) -> None:
    """Raises ``ValueError`` for a history that no recorder of ours writes.

    An error of the test must not look like one of the database, so it is no finding.
    """
    known = frozenset(actions)
    for operation in history:
        if operation.action not in known:
            raise ValueError(
                f"unknown action {operation.action!r}; the checker knows {sorted(known)}"
            )
        if operation.completed < operation.invoked:
            raise ValueError(f"completed before it was invoked: {operation}")


def frozen(value: Any) -> Any:
    """A hashable stand-in that tells apart what Python calls equal (1, 1.0 and True)."""
    if isinstance(value, dict):
        return ("map", frozenset((key, frozen(inner)) for key, inner in value.items()))
    if isinstance(value, list | tuple):
        return tuple(frozen(inner) for inner in value)
    if isinstance(value, bool | float):
        return (type(value).__name__, value)
    return value


def shown(operation: Operation) -> str:
    """One line for a person."""
    answer = f" -> {_clipped(operation.result)}" if operation.outcome is Outcome.OK else ""
    end = "?" if operation.outcome is Outcome.UNKNOWN else str(operation.completed)
    return (
        f"client {operation.client} {operation.action} {_clipped(operation.value)}{answer}"
        f" [{operation.invoked}..{end} {operation.outcome.value}]"
    )


def _clipped(value: Any) -> str:
    text = repr(value)
    if len(text) <= SHOWN_MAX:
        return text
    return f"{text[: SHOWN_MAX // 2]} ... {text[-SHOWN_MAX // 2 :]}"


def to_json(operation: Operation) -> str:
    """One line of JSON. Raises ``TypeError`` for values that JSON has no form for."""
    return json.dumps(
        {
            "client": operation.client,
            "action": operation.action,
            "value": operation.value,
            "result": operation.result,
            "invoked": operation.invoked,
            "completed": operation.completed,
            "outcome": operation.outcome.value,
        }
    )


def from_json(line: str) -> Operation:
    """What ``to_json`` wrote; lists become tuples. Raises ``ValueError`` for anything else."""
    try:
        fields = json.loads(line)
        return Operation(
            client=fields["client"],
            action=fields["action"],
            value=_tuples(fields["value"]),
            result=_tuples(fields["result"]),
            invoked=fields["invoked"],
            completed=fields["completed"],
            outcome=Outcome(fields["outcome"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an operation: {line!r}") from error


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(inner) for inner in value)
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return value
