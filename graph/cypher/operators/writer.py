"""What write operators share: applying write sets, values of property maps, update items.

A ``Writer`` belongs to one statement. Each step of a write clause is a write set that is applied
to the transaction's root at once, so that later clauses see it, and appended to the statement's
own, which is what gets replicated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from graph.cypher.budget import Budget, chunk_bytes
from graph.cypher.evaluation import Compiled
from graph.cypher.operators.base import Execution, Operator
from graph.cypher.references import NodeRef, RelationshipRef, boxed
from graph.errors import CypherTypeError
from graph.store import IdAllocator, Root
from graph.vector import Chunk, IntArray, Kind, Vector
from graph.write_set import (
    Counters,
    CreateNodes,
    CreateRelationships,
    SetNodeProperty,
    SetRelationshipProperty,
    WriteSet,
)

__all__ = [
    "MapColumns",
    "PropertySource",
    "SharedWrites",
    "Writer",
    "consume",
    "fresh_ids",
    "map_of",
    "stored",
    "writer_of",
]

RowOperation = CreateNodes | CreateRelationships | SetNodeProperty | SetRelationshipProperty
_ROW_OPERATIONS = (CreateNodes, CreateRelationships, SetNodeProperty, SetRelationshipProperty)


class SharedWrites:
    """Of a run that serves many requests: which request each row of each operation came from."""

    __slots__ = ("noted",)

    def __init__(self) -> None:
        self.noted: list[tuple[RowOperation, IntArray]] = []

    def note(self, step: WriteSet, owners: IntArray) -> None:
        """The operation added last has these owners."""
        operation = step.operations[-1]
        assert isinstance(operation, _ROW_OPERATIONS), "no plan with other writes is shared"
        self.noted.append((operation, owners))


class Writer:
    """Writes of one statement, or (``shared``) of many that run together."""

    __slots__ = ("_last", "allocator", "counters", "root", "shared", "write_set")

    def __init__(
        self, root: Root, allocator: IdAllocator | None, last: Budget | None = None
    ) -> None:
        """``last``: the budget, if the first step is the last thing that may fail."""
        self._last = last
        self.root = root
        self.allocator = allocator
        self.write_set = WriteSet()
        self.counters = Counters()
        self.shared: SharedWrites | None = None

    def apply(self, step: WriteSet) -> None:
        """Apply one step to the root. Raises what ``Root.apply`` raises, with nothing changed."""
        if step.empty:
            return
        assert self._last is None or self.write_set.empty, "the plan was to write in one step"
        self.counters.add(self.root.apply(step))
        self.write_set.extend(step)
        if self._last is not None:
            self._last.lift()


def writer_of(execution: Execution) -> Writer:
    writer = execution.writer
    assert writer is not None, "a write operator runs only in a write statement"
    return writer


def consume(input: Operator, execution: Execution) -> list[Chunk]:
    """The whole input: a clause must not see its own writes."""
    chunks: list[Chunk] = []
    for chunk in input.stream(execution):
        execution.budget.check()
        execution.budget.charge(chunk_bytes(chunk))
        chunks.append(chunk)
    return chunks


def fresh_ids(first: int, rows: int, step: int, offset: int) -> IntArray:
    """Ids of the ``offset``-th entity of every row, ``step`` entities to a row.

    Row-major, so that ids do not depend on how rows were put together into one run.
    """
    if rows == 1:
        return np.array((first + offset,), dtype=np.int64)
    return np.arange(first + offset, first + offset + rows * step, step, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class PropertySource:
    """Where new properties come from: keys known beforehand, or a map known at run time."""

    items: tuple[tuple[str, Compiled], ...] = ()
    whole: Compiled | None = None

    def columns(self, chunk: Chunk, execution: Execution) -> dict[str, Vector]:
        """key -> values; null means absent."""
        context = execution.context
        if self.whole is None:
            return {key: stored(value.evaluate(chunk, context)) for key, value in self.items}
        maps = [map_of(v, context.root) for v in boxed(self.whole.evaluate(chunk, context))]
        keys = dict.fromkeys(key for m in maps if m for key in m)
        return {
            key: stored(Vector.from_values([None if m is None else m.get(key) for m in maps]))
            for key in keys
        }


def stored(vector: Vector) -> Vector:
    """The values as they may be kept: lists are copied, since the caller may change its own."""
    if vector.kind is not Kind.OBJECT:
        return vector
    values = vector.data.tolist()
    if not any(type(value) is list for value in values):
        return vector
    return Vector.objects([list(v) if type(v) is list else v for v in values])


def map_of(value: Any, root: Any) -> Mapping[str, Any] | None:
    """A map, or the properties of a node or relationship, as a map."""
    if value is None or isinstance(value, dict):
        return value
    if type(value) is NodeRef:
        return cast(Mapping[str, Any], root.node_properties(value.id))
    if type(value) is RelationshipRef:
        return cast(Mapping[str, Any], root.relationship_properties(value.id))
    raise CypherTypeError(
        f"Properties must be given as a map, a node or a relationship, but got {value!r}."
    )


class MapColumns:
    """Values of several rows gathered by key: (rows, values) for each key."""

    def __init__(self) -> None:
        self._columns: dict[str, tuple[list[int], list[Any]]] = {}

    def add(self, row: int, key: str, value: Any) -> None:
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = ([], [])
        column[0].append(row)
        column[1].append(value)

    def __iter__(self) -> Iterator[tuple[str, IntArray, Vector]]:
        for key, (rows, values) in self._columns.items():
            yield key, np.array(rows, dtype=np.int64), Vector.from_values(values)


def kind_name(kind: Kind) -> str:
    return "node" if kind is Kind.NODE else "relationship"
