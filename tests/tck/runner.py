"""Runs one scenario through the engine, in this process."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from neo4j.time import DateTime

from graph.cypher.procedures import Procedure
from graph.engine import Engine, Result, Transaction
from graph.errors import CypherError, GraphError
from graph.store import IdAllocator, Root
from tests.tck.features import Scenario, Step
from tests.tck.values import Canonical, canonical, parse_value, plain

__all__ = ["Failed", "run_scenario"]

_NOW = DateTime(2024, 5, 17, 12, 30, 0, 0)
_OBSERVED = {
    "nodes": "MATCH (n) RETURN n",
    "relationships": "MATCH ()-[r]->() RETURN r",
    "properties": (
        "MATCH (n) UNWIND keys(n) AS key WITH properties(n) AS properties, key, n "
        "RETURN id(n) AS entity, key, properties[key] AS value UNION ALL "
        "MATCH ()-[r]->() UNWIND keys(r) AS key WITH properties(r) AS properties, key, r "
        "RETURN -1 - id(r) AS entity, key, properties[key] AS value"
    ),
    "labels": "MATCH (n) UNWIND labels(n) AS label RETURN DISTINCT label",
}
# Kinds of the TCK's procedure signatures, as the analysis calls them.
_KINDS = {"STRING": "string", "INTEGER": "integer", "FLOAT": "float", "BOOLEAN": "boolean"}
_SHARED_ENGINE = Engine()


class Failed(Exception):
    """The scenario did not do what it should; the message says what."""


@dataclass
class _World:
    """The state of one scenario."""

    graphs: Path
    root: Root = field(default_factory=Root.empty)
    allocator: IdAllocator = field(default_factory=lambda: IdAllocator(0, 0))
    engine: Engine = _SHARED_ENGINE
    procedures: dict[str, Procedure] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Counter[Canonical]] = field(default_factory=dict)
    result: tuple[tuple[str, ...], list[tuple[Canonical, ...]]] | None = None
    error: GraphError | None = None
    phase: str = ""

    def run(self, text: str, parameters: dict[str, Any] | None = None) -> Result:
        transaction = Transaction(
            self.engine, self.root, self.allocator, now=_NOW, random=Random(7)
        )
        result = transaction.run(self.engine.prepare(text), parameters or {})
        self.root = transaction.root
        return result

    def observe(self) -> dict[str, Counter[Canonical]]:
        return {
            name: Counter(
                tuple(_identity(value) for value in row) for row in self.run(query).rows()
            )
            for name, query in _OBSERVED.items()
        }


def _identity(value: Any) -> Any:
    """Entities count by id: an observer sees whether one was added or removed."""
    return value.id if hasattr(value, "element_id") else canonical(value)


def run_scenario(scenario: Scenario, graphs: Path) -> None:
    """Raises Failed (or whatever the engine should not have raised)."""
    world = _World(graphs)
    for step in scenario.steps:
        _run_step(world, step)


def _run_step(world: _World, step: Step) -> None:
    text = step.text
    if text in ("an empty graph", "any graph"):
        return
    if text.startswith("the ") and text.endswith(" graph"):
        _load(world, text.split()[1])
    elif text == "having executed:":
        assert step.document is not None
        world.run(step.document).rows()
    elif text == "parameters are:":
        world.parameters = {key: plain(parse_value(value)) for key, value in step.table}
    elif text.startswith("there exists a procedure"):
        _register(world, step)
    elif text in ("executing query:", "executing control query:"):
        _execute(world, step.document or "")
    elif text.startswith("the result should be"):
        _compare(world, step)
    elif text == "no side effects":
        _side_effects(world, {})
    elif text == "the side effects should be:":
        _side_effects(world, {name: int(count) for name, count in step.table})
    elif " should be raised at " in text:
        _check_error(world, text)
    else:
        raise Failed(f"unknown step: {text}")


def _load(world: _World, name: str) -> None:
    script = (world.graphs / name / f"{name}.cypher").read_text(encoding="utf-8")
    for statement in script.split(";"):
        if statement.strip():
            world.run(statement).rows()


def _register(world: _World, step: Step) -> None:
    match = re.fullmatch(
        r"there exists a procedure ([\w.]+)\((.*)\) :: \((.*)\) ?:", step.text.strip()
    )
    if match is None:
        raise Failed(f"cannot read the procedure: {step.text}")
    name, inputs, outputs = match.group(1), _fields(match.group(2)), _fields(match.group(3))
    header = step.table[0] if step.table else ()
    rows = [
        dict(zip(header, [plain(parse_value(c)) for c in row], strict=True))
        for row in step.table[1:]
    ]

    def run(root: Any, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        wanted = dict(zip([name for name, _ in inputs], arguments, strict=True))
        return [
            tuple(row[column] for column, _ in outputs)
            for row in rows
            if all(row[key] == value for key, value in wanted.items())
        ]

    world.procedures[name] = Procedure(name, inputs, outputs, run)
    world.engine = Engine(world.procedures)


def _fields(text: str) -> tuple[tuple[str, str], ...]:
    found = []
    for part in text.split(","):
        if part.strip():
            name, kind = part.split("::")
            found.append((name.strip(), _KINDS.get(kind.strip().rstrip("?"), "any")))
    return tuple(found)


def _execute(world: _World, text: str) -> None:
    world.before = world.observe()
    world.result, world.error = None, None
    root = world.root.fork()
    try:
        world.phase = "compile time"
        world.engine.prepare(text)
        world.phase = "runtime"
        result = world.run(text, world.parameters)
        rows = [tuple(canonical(value) for value in row) for row in result.rows()]
        world.result = (result.fields, rows)
    except GraphError as error:
        world.error = error
        world.root = root


def _compare(world: _World, step: Step) -> None:
    if world.error is not None:
        raise Failed(f"{type(world.error).__name__}: {world.error.message}") from world.error
    assert world.result is not None
    names, rows = world.result
    if "should be empty" in step.text:
        if rows:
            raise Failed(f"expected no rows, got {len(rows)}: {rows[:3]}")
        return
    header = step.table[0]
    if sorted(header) != sorted(names):
        raise Failed(f"expected columns {header}, got {names}")
    places = [names.index(name) for name in header]
    found = [tuple(row[place] for place in places) for row in rows]
    expected = [tuple(parse_value(cell) for cell in row) for row in step.table[1:]]
    if "ignoring element order for lists" in step.text:
        found = [tuple(_unordered(v) for v in row) for row in found]
        expected = [tuple(_unordered(v) for v in row) for row in expected]
    ordered = "in order" in step.text
    if (found != expected) if ordered else (Counter(found) != Counter(expected)):
        raise Failed(f"expected {expected}\n      got {found}")


def _unordered(value: Canonical) -> Canonical:
    if value[0] == "list":
        return ("list", tuple(sorted((_unordered(item) for item in value[1]), key=repr)))
    return value


def _side_effects(world: _World, expected: dict[str, int]) -> None:
    after = world.observe()
    found: dict[str, int] = {}
    for name, now in after.items():
        before = world.before[name]
        for sign, change in (("+", now - before), ("-", before - now)):
            if change.total():
                found[sign + name] = change.total()
    if found != {name: count for name, count in expected.items() if count}:
        raise Failed(f"expected side effects {expected}, got {found}")


def _check_error(world: _World, text: str) -> None:
    match = re.fullmatch(r"an? (\w+) should be raised at ([\w ]+): (\S+)", text)
    assert match is not None, text
    kind, phase, detail = match.groups()
    if world.error is None:
        raise Failed(f"expected {kind} ({detail}), got {world.result}")
    code = world.error.code.rsplit(".", 1)[-1]
    shown = f"{code} at {world.phase}: {world.error.message}"
    if phase != "any time" and phase != world.phase and kind != "ParameterMissing":
        raise Failed(f"expected {kind} at {phase} ({detail}), got {shown}")
    accepted = {kind, *_ALSO.get(kind, ())}
    if code not in accepted and kind != "Error":
        raise Failed(f"expected {kind} ({detail}), got {shown}")
    named = world.error.detail if isinstance(world.error, CypherError) else ""
    if world.phase == "compile time" and detail not in ("*", named):
        raise Failed(f"expected {detail}, got {named}: {world.error.message}")


# Names under which Neo4j's codes know the same kind of error.
_ALSO = {
    "ConstraintVerificationFailed": ("ConstraintValidationFailed",),
    "ProcedureError": ("ProcedureNotFound",),
    "TypeError": ("SyntaxError",),
}
