"""SET and REMOVE, as if row after row ran through all items.

Rows that cannot notice one another run together, an item at a time. Rows notice one another when
one writes an entity that another reads or writes too. Such rows go in *waves*: where every item
writes and reads one variable only, the k-th row of each entity goes in the k-th wave; in the rare
rest each row is a wave of its own. ``SET n.count = n.count + 1`` over rows that repeat ``n`` thus
counts every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graph.cypher.evaluation import Compiled
from graph.cypher.operators.base import Execution, Operator, concat_chunks, slices
from graph.cypher.operators.writer import (
    MapColumns,
    SharedWrites,
    consume,
    kind_name,
    map_of,
    stored,
    writer_of,
)
from graph.cypher.plan import REQUEST
from graph.cypher.references import NodeRef, PathRef, RelationshipRef, boxed
from graph.cypher.semantics import equals
from graph.errors import CypherTypeError, LimitError
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector
from graph.write_set import WriteSet

__all__ = ["UpdateItems", "UpdateOperator", "UpdateStep"]

_NO_REFERENCE = (int, str, float, bool, type(None), bytes)


@dataclass(frozen=True, slots=True)
class UpdateStep:
    """One item. ``variable``: the subject's name if it is a plain variable.

    ``reads``: variables that the value reads; what they hold may depend on the graph.
    """

    action: str
    subject: Compiled
    variable: str | None
    key: str
    value: Compiled | None
    labels: tuple[str, ...]
    reads: frozenset[str]


@dataclass(frozen=True, slots=True)
class UpdateItems:
    """The items of one SET or REMOVE (or of ON CREATE, ON MATCH)."""

    steps: tuple[UpdateStep, ...]

    def run(self, execution: Execution, chunk: Chunk) -> None:
        """Apply all items to the rows of a chunk."""
        if not self.steps or not chunk.length:
            return
        for rows in self._waves(execution, chunk):
            execution.budget.check()
            self._apply(execution, chunk if rows is None else chunk.take(rows, len(rows)))

    def keeps(self, execution: Execution, chunk: Chunk, columns: dict[str, Vector]) -> bool:
        """Whether no ``+=`` changes the ``columns`` (by key) that rows were found by."""
        for step in self.steps:
            if step.action != "merge" or not columns:
                continue
            assert step.value is not None
            held = {key: boxed(vector) for key, vector in columns.items()}
            maps = boxed(step.value.evaluate(chunk, execution.context))
            for row, value in enumerate(maps):
                for key, new in (map_of(value, execution.context.root) or {}).items():
                    if key in held and equals(held[key][row], new) is not True:
                        return False
        return True

    def _apply(self, execution: Execution, chunk: Chunk) -> None:
        writer = writer_of(execution)
        pending = WriteSet()
        for step in self.steps:
            if not pending.empty and (step.reads or step.action == "replace"):
                # The value may read what an item before it wrote.
                writer.apply(pending)
                pending = WriteSet()
            subject = step.subject.evaluate(chunk, execution.context)
            for kind, rows, ids in _subjects(subject):
                part = chunk if rows is None else chunk.take(rows, len(rows))
                _add(step, kind, ids, part, execution, pending)
        writer.apply(pending)

    # ----------------------------------------------------------------- waves

    def _waves(self, execution: Execution, chunk: Chunk) -> Iterator[IntArray | None]:
        """Rows that may run together, in order; ``None``: all."""
        subjects = {step.variable for step in self.steps}
        reads = _entity_reads(chunk, frozenset().union(*(s.reads for s in self.steps)))
        alone = len(subjects) == 1 and None not in subjects
        if chunk.length == 1 or (alone and reads is not None and not reads):
            yield None
            return
        if reads is None or None in subjects:
            yield from _one_by_one(chunk.length)
            return
        written = [chunk.columns[name] for name in sorted(s for s in subjects if s is not None)]
        if not _conflict(written, [chunk.columns[name] for name in sorted(reads)]):
            yield None
        elif alone and reads <= subjects:
            yield from _by_occurrence(written[0])
        else:
            yield from _one_by_one(chunk.length)


def _one_by_one(length: int) -> Iterator[IntArray]:
    for row in range(length):
        yield np.array((row,), dtype=np.int64)


def _entity_reads(chunk: Chunk, names: frozenset[str]) -> frozenset[str] | None:
    """Those of ``names`` that hold entities; ``None`` if entities may be inside other values."""
    entities: set[str] = set()
    for name in names:
        vector = chunk.columns[name]
        if vector.kind is Kind.NODE or vector.kind is Kind.RELATIONSHIP:
            entities.add(name)
        elif vector.kind is Kind.OBJECT and any(_refers(v) for v in vector.data.tolist()):
            return None
    return frozenset(entities)


def _refers(value: Any) -> bool:
    """Whether an entity stands anywhere in a value."""
    if isinstance(value, _NO_REFERENCE):
        return False
    if isinstance(value, dict):
        return any(_refers(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(_refers(v) for v in value)
    return isinstance(value, (NodeRef, RelationshipRef, PathRef))


def _conflict(written: list[Vector], read: list[Vector]) -> bool:
    """Whether an entity written in one row is touched in another."""
    touched: list[IntArray] = []
    for vector in (*written, *read):
        if vector.kind is not Kind.NODE and vector.kind is not Kind.RELATIONSHIP:
            return True
        rows = np.arange(len(vector), dtype=np.int64)
        # Nodes and relationships of equal id are told apart by the lowest bit.
        codes = vector.data * 2 + (vector.kind is Kind.RELATIONSHIP)
        if vector.valid is not None:
            rows, codes = rows[vector.valid], codes[vector.valid]
        touched.append(np.stack((codes, rows)))
    pairs = np.unique(np.concatenate(touched, axis=1), axis=1)
    codes, counts = np.unique(pairs[0], return_counts=True)
    writes = np.concatenate([part[0] for part in touched[: len(written)]])
    return bool(np.isin(codes[counts > 1], writes).any())


def _by_occurrence(vector: Vector) -> Iterator[IntArray]:
    """Rows whose entity occurs for the first time, then those for the second time, ..."""
    order = np.argsort(vector.data, kind="stable")
    ids = vector.data[order]
    starts = np.flatnonzero(np.concatenate(((True,), ids[1:] != ids[:-1])))
    lengths = np.diff(np.concatenate((starts, (len(ids),))))
    occurrence = np.empty(len(ids), dtype=np.int64)
    occurrence[order] = np.arange(len(ids)) - np.repeat(starts, lengths)
    for number in range(int(occurrence.max()) + 1):
        yield np.flatnonzero(occurrence == number)


# --------------------------------------------------------------------------- one item


def _subjects(vector: Vector) -> Iterator[tuple[Kind, IntArray | None, IntArray]]:
    """(kind, rows or all, ids) of the entities to write to; null is passed over."""
    if vector.kind is Kind.NODE or vector.kind is Kind.RELATIONSHIP:
        if vector.valid is None:
            yield vector.kind, None, vector.data
        else:
            rows = np.flatnonzero(vector.valid)
            yield vector.kind, rows, vector.data[rows]
        return
    found: dict[Kind, tuple[list[int], list[int]]] = {}
    for row, value in enumerate(vector.to_list()):
        if value is None:
            continue
        if type(value) is NodeRef:
            kind = Kind.NODE
        elif type(value) is RelationshipRef:
            kind = Kind.RELATIONSHIP
        else:
            raise CypherTypeError(
                f"Only nodes and relationships have properties to set, but got {value!r}."
            )
        rows_ids = found.setdefault(kind, ([], []))
        rows_ids[0].append(row)
        rows_ids[1].append(value.id)
    for kind, (rows_found, ids) in found.items():
        yield kind, np.array(rows_found, dtype=np.int64), np.array(ids, dtype=np.int64)


def _add(
    step: UpdateStep,
    kind: Kind,
    ids: IntArray,
    chunk: Chunk,
    execution: Execution,
    pending: WriteSet,
) -> None:
    """Add what one item writes to ``ids`` (one for each row of the chunk) to ``pending``."""
    if step.action in ("add_labels", "remove_labels"):
        if kind is not Kind.NODE:
            raise CypherTypeError(f"Only nodes have labels, but got a {kind_name(kind)}.")
        change = pending.add_label if step.action == "add_labels" else pending.remove_label
        for label in step.labels:
            change(ids, label)
        return
    assert step.value is not None
    vector = step.value.evaluate(chunk, execution.context)
    if step.action == "property":
        _set(pending, kind, ids, step.key, vector)
        shared = writer_of(execution).shared
        if shared is not None and len(ids):
            _note(shared, pending, vector, chunk)
        return
    maps = [map_of(value, execution.context.root) for value in boxed(vector)]
    if step.action == "replace":
        _replace(pending, kind, ids, maps, execution)
    else:
        columns = MapColumns()
        for row, values in enumerate(maps):
            for key, value in (values or {}).items():
                columns.add(row, key, value)
        for key, rows, column in columns:
            _set(pending, kind, ids[rows], key, column)


def _set(pending: WriteSet, kind: Kind, ids: IntArray, key: str, vector: Vector) -> None:
    vector = stored(vector)
    if kind is Kind.NODE:
        pending.set_node_property(ids, key, vector)
    else:
        pending.set_relationship_property(ids, key, vector)


def _note(shared: SharedWrites, pending: WriteSet, vector: Vector, chunk: Chunk) -> None:
    if vector.null_mask().any():
        # Whether a removal counts depends on what was there: such requests run one by one.
        raise LimitError("removal in a shared run")
    shared.note(pending, chunk.columns[REQUEST].data)


def _replace(
    pending: WriteSet, kind: Kind, ids: IntArray, maps: list[Any], execution: Execution
) -> None:
    """``SET n = map``: keys that the map does not have are removed."""
    root = execution.context.root
    read = root.node_properties if kind is Kind.NODE else root.relationship_properties
    columns = MapColumns()
    last: BoolArray = _last_of_each(ids)
    for row, (id, values) in enumerate(zip(ids.tolist(), maps, strict=True)):
        if not last[row]:
            continue
        values = values or {}
        for key in read(id):
            if key not in values:
                columns.add(row, key, None)
        for key, value in values.items():
            columns.add(row, key, value)
    for key, rows, column in columns:
        _set(pending, kind, ids[rows], key, column)


def _last_of_each(ids: IntArray) -> BoolArray:
    """True at the last place of every id: of several replacements only that one stays."""
    last = np.zeros(len(ids), dtype=np.bool_)
    _, first_from_end = np.unique(ids[::-1], return_index=True)
    last[len(ids) - 1 - first_from_end] = True
    return last


class UpdateOperator(Operator):
    """SET and REMOVE for every row of the input."""

    __slots__ = ("input", "items")

    def __init__(self, input: Operator, items: UpdateItems) -> None:
        self.input = input
        self.items = items

    def run(self, execution: Execution) -> Iterator[Chunk]:
        chunks = consume(self.input, execution)
        if not chunks:
            return
        # All rows at once: the fewer waves, the fewer steps.
        rows = concat_chunks(chunks)
        self.items.run(execution, rows)
        yield from slices(rows, execution.chunk_rows)
