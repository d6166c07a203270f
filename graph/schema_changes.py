"""Schema operations: create and drop indexes and constraints.

A write set holds either schema operations or data operations, never both (as in Neo4j), so a
constraint is checked against a graph that the same write set does not change. All operations are
carried out on a copy of the schema, which replaces the root's when every one has succeeded.
"""

from __future__ import annotations

from graph.errors import ConstraintError, GraphError, LimitError, SchemaError
from graph.index_reads import IndexReads
from graph.indexes import (
    LABEL,
    RANGE,
    UNIQUE,
    ConstraintInfo,
    ConstraintSpec,
    Index,
    IndexInfo,
    IndexSpec,
    Schema,
)
from graph.keys import Key
from graph.limits import INDEX_PROPERTIES_MAX, INDEXES_MAX
from graph.write_set import (
    Counters,
    CreateConstraint,
    CreateIndex,
    DropConstraint,
    DropIndex,
    WriteSet,
)

__all__ = ["apply_schema", "build_index"]

# Nodes read at a time while an index is filled.
_SCAN_ROWS = 16_384


def apply_schema(root: IndexReads, write_set: WriteSet, counters: Counters) -> None:
    """Carry out schema operations, or raise and change nothing.

    Raises ``SchemaError`` (exists already, is not there), ``ConstraintError`` (the data breaks a
    new constraint), ``LimitError``, ``GraphError`` (data operations in the same write set).
    """
    schema = root.schema
    labels: list[str] = []
    keys: list[str] = []
    for op in write_set.operations:
        if isinstance(op, CreateIndex):
            changed = _create_index(root, schema, op)
            counters.indexes_added += changed is not schema
            labels.append(op.spec.label)
            keys += op.spec.properties
        elif isinstance(op, CreateConstraint):
            changed = _create_constraint(root, schema, op)
            counters.constraints_added += changed is not schema
            labels.append(op.spec.label)
            keys += op.spec.properties
        elif isinstance(op, DropIndex):
            absent = op.if_exists and op.name not in schema.indexes
            changed = schema if absent else schema.without_index(op.name)
            counters.indexes_removed += changed is not schema
        elif isinstance(op, DropConstraint):
            absent = op.if_exists and op.name not in schema.constraints
            changed = schema if absent else schema.without_constraint(op.name)
            counters.constraints_removed += changed is not schema
        else:
            raise GraphError(
                "a transaction changes the schema or data, not both; use two transactions",
                code="Neo.ClientError.Transaction.ForbiddenDueToTransactionType",
            )
        schema = changed
    root.add_names(labels, [], keys)
    root.schema = schema


def build_index(root: IndexReads, info: IndexInfo) -> Index:
    """A new index with exactly the entries of ``root``."""
    index = Index(info)
    if info.kind == LABEL:
        return index
    start: int | None = 0
    while start is not None:
        nodes, start = root.scan_nodes(info.label, start, _SCAN_ROWS)
        if len(nodes):
            index.add(root.node_keys(index, nodes), nodes.tolist())
    return index


def _create_index(root: IndexReads, schema: Schema, op: CreateIndex) -> Schema:
    spec = op.spec
    _check_spec(spec)
    if (spec.kind == LABEL) is bool(spec.properties) or spec.kind not in (LABEL, RANGE):
        raise SchemaError(
            f"an index is of kind 'label' (no properties) or 'range' (with properties), not "
            f"{spec.kind!r} with {len(spec.properties)} properties",
            code="Neo.ClientError.Statement.ArgumentError",
        )
    name = spec.resolved_name()
    if _occupied(schema, name, spec, op.if_not_exists):
        return schema
    info = IndexInfo(name, spec.kind, spec.entity, spec.label, spec.properties)
    return schema.with_index(build_index(root, info))


def _create_constraint(root: IndexReads, schema: Schema, op: CreateConstraint) -> Schema:
    spec = op.spec
    _check_spec(spec)
    if spec.kind != UNIQUE or not spec.properties:
        raise SchemaError(
            f"constraints of kind {spec.kind!r} are not supported; use uniqueness of properties",
            code="Neo.ClientError.Statement.ArgumentError",
        )
    name = spec.resolved_name()
    if _occupied(schema, name, spec, op.if_not_exists):
        return schema
    info = IndexInfo(name, UNIQUE, spec.entity, spec.label, spec.properties, constraint=name)
    index = build_index(root, info)
    for key, nodes in index.entries.items():
        if not isinstance(nodes, int):
            raise _duplicates(info, key, nodes)
    constraint = ConstraintInfo(name, UNIQUE, spec.entity, spec.label, spec.properties)
    return schema.with_index(index, constraint)


def _check_spec(spec: IndexSpec | ConstraintSpec) -> None:
    if spec.entity != "node":
        raise SchemaError(
            "indexes and constraints on relationships are not supported",
            code="Neo.ClientError.Statement.ArgumentError",
        )
    properties = spec.properties
    if len(properties) > INDEX_PROPERTIES_MAX or len(set(properties)) != len(properties):
        raise SchemaError(
            f"an index has at most {INDEX_PROPERTIES_MAX} different properties, not "
            f"{list(properties)}",
            code="Neo.ClientError.Schema.RepeatedPropertyInCompositeSchema",
        )


def _occupied(
    schema: Schema, name: str, spec: IndexSpec | ConstraintSpec, if_not_exists: bool
) -> bool:
    """Whether an equivalent index, or one of this name, exists; raise unless that is allowed."""
    existing = schema.find(spec.label, spec.properties)
    if existing is None:
        existing = schema.indexes.get(name)
    if existing is None:
        if len(schema.indexes) >= INDEXES_MAX:
            raise LimitError(
                f"a graph can have {INDEXES_MAX} indexes; drop one that is not needed",
                code="Neo.ClientError.General.LimitReached",
            )
        return False
    if if_not_exists:
        return True
    info = existing.info
    raise SchemaError(
        f"an equivalent index or constraint, or one of the same name, exists already: "
        f"{info.name!r} on :{info.label}({', '.join(info.properties)})"
    )


def _duplicates(info: IndexInfo, key: Key, nodes: list[int]) -> ConstraintError:
    return ConstraintError(
        f"cannot create constraint {info.name!r}: nodes {nodes[0]} and {nodes[1]} both have label "
        f"`{info.label}` and {', '.join(info.properties)} = {key!r}",
        code="Neo.ClientError.Schema.ConstraintCreationFailed",
    )
