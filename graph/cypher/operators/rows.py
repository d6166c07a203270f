"""Operators from rows to rows, without memory of other rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graph.cypher.evaluation import Compiled, Context
from graph.cypher.operators.base import (
    Execution,
    Operator,
    entity_ids,
    pick,
    true_rows,
)
from graph.cypher.references import PathRef, RelationshipRef, boxed, tighten
from graph.vector import Chunk, IntArray, Kind, Vector

__all__ = [
    "AsEntityOperator",
    "BuildPathOperator",
    "CountStoreOperator",
    "ExtendOperator",
    "FilterOperator",
    "ProjectOperator",
    "PruneOperator",
    "RecallOperator",
    "UnwindOperator",
]


class FilterOperator(Operator):
    """Rows for which the predicate is true."""

    __slots__ = ("input", "predicate")

    def __init__(self, input: Operator, predicate: Compiled) -> None:
        self.input = input
        self.predicate = predicate

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context, predicate = execution.context, self.predicate
        for chunk in self.input.stream(execution):
            execution.budget.check()
            mask = true_rows(predicate.evaluate(chunk, context))
            if chunk.length == 1:
                if mask[0]:
                    yield chunk
                continue
            count = int(np.count_nonzero(mask))
            if count == chunk.length:
                yield chunk
            elif count:
                yield chunk.take(np.flatnonzero(mask), count)


class ExtendOperator(Operator):
    """Adds columns, all computed from the columns before."""

    __slots__ = ("input", "items")

    def __init__(self, input: Operator, items: tuple[tuple[str, Compiled], ...]) -> None:
        self.input = input
        self.items = items

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context = execution.context
        for chunk in self.input.stream(execution):
            execution.budget.check()
            yield chunk.with_columns(
                {name: item.evaluate(chunk, context) for name, item in self.items}
            )


class ProjectOperator(Operator):
    """These columns only, and the request that a row belongs to."""

    __slots__ = ("input", "items")

    def __init__(self, input: Operator, items: tuple[tuple[str, Compiled], ...]) -> None:
        self.input = input
        self.items = items

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context, items = execution.context, self.items
        for chunk in self.input.stream(execution):
            execution.budget.check()
            columns = {name: item.evaluate(chunk, context) for name, item in items}
            for name in execution.carried:
                columns[name] = chunk.columns[name]
            yield Chunk(columns, chunk.length)


class PruneOperator(Operator):
    """Drops columns."""

    __slots__ = ("input", "names")

    def __init__(self, input: Operator, names: tuple[str, ...]) -> None:
        self.input = input
        self.names = names

    def run(self, execution: Execution) -> Iterator[Chunk]:
        names = (*self.names, *execution.carried)
        for chunk in self.input.stream(execution):
            yield Chunk({name: chunk.columns[name] for name in names}, chunk.length)


class RecallOperator(Operator):
    """Columns of the outer row that each row belongs to."""

    __slots__ = ("input", "names")

    def __init__(self, input: Operator, names: tuple[str, ...]) -> None:
        self.input = input
        self.names = names

    def run(self, execution: Execution) -> Iterator[Chunk]:
        assert execution.partition is not None, "only inner plans recall"
        outer = execution.argument.columns
        for chunk in self.input.stream(execution):
            rows = chunk.columns[execution.partition].data
            yield chunk.with_columns({name: outer[name].take(rows) for name in self.names})


class UnwindOperator(Operator):
    """One row for each element of a list; a value that is no list counts as a list of one.

    ``bounds``: the arguments, if the list is a call of ``range``; such a list is never made.
    """

    __slots__ = ("bounds", "dropped", "input", "source", "variable")

    def __init__(
        self,
        input: Operator,
        source: Compiled,
        variable: str,
        bounds: tuple[Compiled, ...] | None = None,
        dropped: tuple[str, ...] = (),
    ) -> None:
        self.input = input
        self.source = source
        self.variable = variable
        self.bounds = bounds
        self.dropped = dropped

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context, size = execution.context, execution.chunk_rows
        for chunk in self.input.stream(execution):
            execution.budget.check()
            if chunk.length == 1:
                value = self._list(chunk, context)
                yield from self._one(self._narrow(chunk), value, execution)
                continue
            lists = boxed(self.source.evaluate(chunk, context))
            chunk = self._narrow(chunk)
            rows: list[int] = []
            values: list[Any] = []
            for row, value in enumerate(lists):
                members = _members(value)
                for start in range(0, len(members), size):
                    part = members[start : start + size]
                    rows.extend([row] * len(part))
                    values.extend(part)
                    if len(values) >= size:
                        execution.budget.check()
                        yield self._rows(chunk, rows[:size], values[:size])
                        rows, values = rows[size:], values[size:]
            if values:
                yield self._rows(chunk, rows, values)

    def _narrow(self, chunk: Chunk) -> Chunk:
        if not self.dropped:
            return chunk
        columns = {n: v for n, v in chunk.columns.items() if n not in self.dropped}
        return Chunk(columns, chunk.length)

    def _list(self, chunk: Chunk, context: Context) -> Any:
        """The list of a single row; a Python range where the bounds are good."""
        if self.bounds is not None:
            values = [boxed(bound.evaluate(chunk, context))[0] for bound in self.bounds]
            step = values[2] if len(values) == 3 else 1
            if all(type(value) is int for value in values) and step != 0:
                start, end = values[0], values[1]
                return range(start, end + (1 if step > 0 else -1), step)
        return boxed(self.source.evaluate(chunk, context))[0]

    def _one(self, chunk: Chunk, value: Any, execution: Execution) -> Iterator[Chunk]:
        members = _members(value)
        size = execution.chunk_rows
        for start in range(0, len(members), size):
            execution.budget.check()
            part = members[start : start + size]
            if type(part) is range:
                numbers = np.arange(part.start, part.stop, part.step, dtype=np.int64)
                column = {self.variable: Vector(Kind.INT, numbers)}
            else:
                column = {self.variable: tighten(part)}
            if chunk.columns:
                yield pick(chunk, np.zeros(len(part), dtype=np.int64), column)
            else:
                yield Chunk(column, len(part))

    def _rows(self, chunk: Chunk, rows: list[int], values: list[Any]) -> Chunk:
        positions = np.array(rows, dtype=np.int64)
        return pick(chunk, positions, {self.variable: tighten(values)})


def _members(value: Any) -> Any:
    if value is None:
        return ()
    return value if isinstance(value, (list, tuple, range)) else (value,)


class AsEntityOperator(Operator):
    """A column of any values as a column of ids; raises CypherTypeError for other values."""

    __slots__ = ("input", "kind", "variable")

    def __init__(self, input: Operator, variable: str, kind: Kind) -> None:
        self.input = input
        self.variable = variable
        self.kind = kind

    def run(self, execution: Execution) -> Iterator[Chunk]:
        for chunk in self.input.stream(execution):
            vector = chunk.columns[self.variable]
            if vector.kind is not self.kind:
                ids, valid = entity_ids(vector, self.kind)
                column = {self.variable: Vector(self.kind, ids, valid)}
                chunk = chunk.with_columns(column)
            yield chunk


class BuildPathOperator(Operator):
    """Binds a path through columns of nodes and of relationships, or lists of relationships."""

    __slots__ = ("input", "nodes", "relationships", "variable")

    def __init__(
        self,
        input: Operator,
        variable: str,
        nodes: tuple[str, ...],
        relationships: tuple[str, ...],
    ) -> None:
        self.input = input
        self.variable = variable
        self.nodes = nodes
        self.relationships = relationships

    def run(self, execution: Execution) -> Iterator[Chunk]:
        root = execution.context.root
        for chunk in self.input.stream(execution):
            execution.budget.check()
            nodes = [chunk.columns[name].to_list() for name in self.nodes]
            relationships = [boxed(chunk.columns[name]) for name in self.relationships]
            ends = _ends(root, relationships)
            paths = [
                _path([n[row] for n in nodes], [r[row] for r in relationships], ends)
                for row in range(chunk.length)
            ]
            yield chunk.with_columns({self.variable: Vector.objects(paths)})


def _ends(root: Any, columns: list[list[Any]]) -> dict[int, tuple[int, int]]:
    """id -> (source, target) of all relationships that stand in lists."""
    ids = {r.id for column in columns for v in column if isinstance(v, (list, tuple)) for r in v}
    if not ids:
        return {}
    ordered: IntArray = np.array(sorted(ids), dtype=np.int64)
    sources, targets = root.relationship_ends(ordered)
    pairs = zip(sources.tolist(), targets.tolist(), strict=True)
    return dict(zip(ordered.tolist(), pairs, strict=True))


def _path(
    nodes: list[int | None], steps: list[Any], ends: dict[int, tuple[int, int]]
) -> PathRef | None:
    if any(n is None for n in nodes) or any(s is None for s in steps):
        return None
    walked: list[int] = [nodes[0]]  # type: ignore[list-item]
    relationships: list[int] = []
    for position, step in enumerate(steps):
        if type(step) is RelationshipRef:
            relationships.append(step.id)
            walked.append(nodes[position + 1])  # type: ignore[arg-type]
            continue
        for reference in step:
            source, target = ends[reference.id]
            relationships.append(reference.id)
            walked.append(target if source == walked[-1] else source)
    return PathRef(tuple(walked), tuple(relationships))


class CountStoreOperator(Operator):
    """A count that the store keeps."""

    __slots__ = ("input", "label", "name", "what")

    def __init__(self, input: Operator, name: str, what: str, label: str | None) -> None:
        self.input = input
        self.name = name
        self.what = what
        self.label = label

    def run(self, execution: Execution) -> Iterator[Chunk]:
        root = execution.context.root
        for chunk in self.input.stream(execution):
            count = self._count(root)
            yield chunk.with_columns({self.name: Vector.constant(count, chunk.length)})

    def _count(self, root: Any) -> int:
        if self.what == "node":
            return int(root.node_count if self.label is None else root.label_count(self.label))
        if self.label is None:
            return int(root.relationship_count)
        return int(root.type_count(self.label))
