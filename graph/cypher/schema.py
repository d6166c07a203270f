"""Schema commands and SHOW: what they do to a write set, and the rows they show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graph.cypher.procedures import Procedure
from graph.cypher.syntax import SchemaCommand
from graph.errors import SchemaError
from graph.indexes import ConstraintInfo, ConstraintSpec, IndexInfo, IndexSpec
from graph.store import Root
from graph.write_set import WriteSet

__all__ = ["SHOW_COLUMNS", "schema_write_set", "show_procedure"]

# Columns of what the engine can show by itself; the caller answers the others.
SHOW_COLUMNS: dict[str, tuple[str, ...]] = {
    "indexes": (
        "id",
        "name",
        "state",
        "populationPercent",
        "type",
        "entityType",
        "labelsOrTypes",
        "properties",
        "indexProvider",
        "owningConstraint",
        "lastRead",
        "readCount",
    ),
    "constraints": (
        "id",
        "name",
        "type",
        "entityType",
        "labelsOrTypes",
        "properties",
        "ownedIndex",
        "propertyType",
    ),
    "index info": ("index type", "label", "property", "count"),
    "constraint info": ("constraint type", "label", "properties"),
}


def schema_write_set(command: SchemaCommand, root: Root) -> WriteSet:
    """The write set of a command; empty if IF [NOT] EXISTS says that nothing is to be done."""
    write_set = WriteSet()
    if command.action == "create":
        _create(command, write_set)
    elif command.target == "index":
        name = command.name or _index_name(command, root)
        if name is not None:
            write_set.drop_index(name, command.if_exists)
    else:
        name = command.name or _constraint_name(command, root)
        if name is not None:
            write_set.drop_constraint(name, command.if_exists)
    return write_set


def _create(command: SchemaCommand, write_set: WriteSet) -> None:
    label = command.label
    assert label is not None, "the grammar asks for a label"
    if command.entity != "node":
        raise SchemaError(
            "Indexes and constraints on relationships are not supported; use one on nodes.",
            code="Neo.DatabaseError.Statement.ExecutionFailed",
        )
    if command.target == "index":
        index = IndexSpec(label, command.properties, command.kind, command.name)
        write_set.create_index(index, command.if_exists)
    else:
        constraint = ConstraintSpec(label, command.properties, name=command.name)
        write_set.create_constraint(constraint, command.if_exists)


def _index_name(command: SchemaCommand, root: Root) -> str | None:
    for info in root.indexes():
        if info.label == command.label and tuple(info.properties) == command.properties:
            return info.name
    if command.if_exists:
        return None
    shown = f":{command.label}({', '.join(command.properties)})"
    raise SchemaError(f"There is no index on {shown}.", code="Neo.ClientError.Schema.IndexNotFound")


def _constraint_name(command: SchemaCommand, root: Root) -> str | None:
    for info in root.constraints():
        if info.label == command.label and tuple(info.properties) == command.properties:
            return info.name
    if command.if_exists:
        return None
    shown = f":{command.label}({', '.join(command.properties)})"
    raise SchemaError(
        f"There is no uniqueness constraint on {shown}.",
        code="Neo.ClientError.Schema.ConstraintNotFound",
    )


# --------------------------------------------------------------------------- SHOW


def show_procedure(what: str) -> Procedure:
    """A SHOW command as a procedure, so that YIELD, WHERE and RETURN work on it."""
    rows = {
        "indexes": _indexes,
        "constraints": _constraints,
        "index info": _index_info,
        "constraint info": _constraint_info,
    }[what]
    outputs = tuple((column, "any") for column in SHOW_COLUMNS[what])
    return Procedure(f"@show {what}", (), outputs, lambda root, arguments: rows(root))


def _indexes(root: Root) -> Iterable[tuple[Any, ...]]:
    return [_index_row(number, info) for number, info in enumerate(root.indexes(), 1)]


def _index_row(number: int, info: IndexInfo) -> tuple[Any, ...]:
    properties = list(info.properties) or None
    kind = "RANGE" if info.properties else "LOOKUP"
    provider = "range-1.0" if info.properties else "token-lookup-1.0"
    return (
        number,
        info.name,
        "ONLINE",
        100.0,
        kind,
        info.entity.upper(),
        [info.label],
        properties,
        provider,
        info.constraint,
        None,
        None,
    )


def _constraints(root: Root) -> Iterable[tuple[Any, ...]]:
    return [_constraint_row(number, info) for number, info in enumerate(root.constraints(), 1)]


def _constraint_row(number: int, info: ConstraintInfo) -> tuple[Any, ...]:
    return (
        number,
        info.name,
        "UNIQUENESS",
        info.entity.upper(),
        [info.label],
        list(info.properties),
        info.name,
        None,
    )


def _index_info(root: Root) -> Iterable[tuple[Any, ...]]:
    """Memgraph's form: one property is shown bare, several as a list."""
    for info in root.indexes():
        if not info.properties:
            yield "label", info.label, None, root.label_count(info.label)
            continue
        names = list(info.properties)
        shown = names[0] if len(names) == 1 else names
        yield "label+property", info.label, shown, root.index_size(info)


def _constraint_info(root: Root) -> Iterable[tuple[Any, ...]]:
    for info in root.constraints():
        yield "unique", info.label, list(info.properties)
