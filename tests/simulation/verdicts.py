"""The history of a run before the checkers of ``tests/checkers``.

They know more than ``oracle.py`` does, and cost more: linearizability of registers, isolation of
transactions over lists, a set, and merges under a uniqueness constraint. What was read at the end
is one more operation of each history. A checker that cannot decide is no pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.checkers.append import check_append
from tests.checkers.history import Operation, Outcome, Verdict
from tests.checkers.register import check_register
from tests.checkers.set import check_set
from tests.checkers.upsert import check_upsert
from tests.simulation.world import SimulationFailure

__all__ = ["judge"]

SCANNER = 1_000  # the client who read everything at the end


def judge(
    history: Sequence[Operation], found: dict[str, Any], asked_us: int, answered_us: int
) -> None:
    """Raises ``SimulationFailure`` for the first checker that is not content."""

    def read(value: Any, result: Any, action: str = "read") -> Operation:
        return Operation(SCANNER, action, value, result, asked_us, answered_us, Outcome.OK)

    registers = [o for o in history if o.action in ("read", "write", "cas")]
    registers += [read(key, value) for key, value in found["registers"]]
    _must_hold("Linearizability", check_register(registers))

    lists = [_transaction(o) for o in history if o.action == "transaction"]
    for key, items in found["lists"]:
        lists.append(read((("read", key),), (tuple(items),), "txn"))
    _must_hold("Isolation", check_append(lists, promise="strong-snapshot-isolation"))

    elements = [o for o in history if o.action == "add"]
    elements.append(read(None, tuple(row[0] for row in found["elements"])))
    _must_hold("Set", check_set(elements))

    users = [
        replace(o, value=(o.value[0], "last", o.value[1])) for o in history if o.action == "upsert"
    ]
    everyone = tuple((first, name, (("last", last),)) for name, _, _, first, last in found["users"])
    _must_hold("Upsert", check_upsert([*users, read(None, everyone)]))


def _transaction(operation: Operation) -> Operation:
    """As ``check_append`` has it. A statement that appends may have told what the list is then."""
    value: Any = operation.value
    result: Any = None
    if operation.outcome is Outcome.OK:
        value = operation.result
        result = tuple(x if action == "read" else None for action, _, x in operation.result)
    steps = tuple(
        ("read", key) if action == "read" else ("append", key, x) for action, key, x in value
    )
    return replace(operation, action="txn", value=steps, result=result)


def _must_hold(check: str, verdict: Verdict) -> None:
    if verdict.valid is not True:
        unsure = "undecided: " if verdict.valid is None else ""
        raise SimulationFailure("correctness", check, unsure + "; ".join(verdict.findings))
