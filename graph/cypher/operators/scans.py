"""Leaves that find nodes and relationships, each crossed or joined with its input rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graph.cypher.evaluation import Compiled
from graph.cypher.operators.base import Execution, Operator, arange, pick, slices
from graph.cypher.references import NodeRef, PathRef, RelationshipRef, boxed
from graph.cypher.syntax import Direction
from graph.distinct import distinct
from graph.errors import CypherTypeError
from graph.vector import Chunk, IntArray, Kind, Vector

__all__ = [
    "NodeByIdOperator",
    "NodeIndexInOperator",
    "NodeIndexRangeOperator",
    "NodeIndexSeekOperator",
    "NodeScanOperator",
    "RelationshipScanOperator",
    "cross",
]

_INT64_MAX = 2**63 - 1
# What an index can never hold, though a query may compare with it.
_SCALARS = frozenset((int, str, float, bool))
_NOT_STORED = (dict, NodeRef, RelationshipRef, PathRef)


def cross(left: Chunk, right: Chunk, rows: int) -> Iterator[Chunk]:
    """Every row of ``left`` with every row of ``right``, left-major, ``rows`` at a time."""
    if not right.length or not left.length:
        return
    if left.length == 1 and not left.columns:
        yield from slices(right, rows)
        return
    step = max(rows // right.length, 1)
    for start in range(0, left.length, step):
        piece = left.slice(start, start + step)
        left_rows = np.repeat(arange(piece.length), right.length)
        right_rows = np.tile(arange(right.length), piece.length)
        added = {name: v.take(right_rows) for name, v in right.columns.items()}
        yield from slices(pick(piece, left_rows, added), rows)


class NodeScanOperator(Operator):
    """All nodes, or those with a label, page by page in the order of their ids."""

    __slots__ = ("input", "label", "variable")

    def __init__(self, input: Operator, variable: str, label: str | None) -> None:
        self.input = input
        self.variable = variable
        self.label = label

    def run(self, execution: Execution) -> Iterator[Chunk]:
        root, rows = execution.context.root, execution.chunk_rows
        for chunk in self.input.stream(execution):
            start: int | None = 0
            while start is not None:
                execution.budget.check()
                ids, start = root.scan_nodes(self.label, start, rows)
                if len(ids):
                    found = Chunk({self.variable: Vector(Kind.NODE, ids)}, len(ids))
                    yield from cross(chunk, found, rows)


class NodeIndexSeekOperator(Operator):
    """Index equality, one probe for each input row."""

    __slots__ = ("input", "keys", "label", "values", "variable")

    def __init__(
        self,
        input: Operator,
        variable: str,
        label: str,
        keys: tuple[str, ...],
        values: tuple[Compiled, ...],
    ) -> None:
        self.input = input
        self.variable = variable
        self.label = label
        self.keys = keys
        self.values = values

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context = execution.context
        root = context.root
        index = root.find_index(self.label, self.keys)
        assert index is not None, f"plan is older than the schema: no index on :{self.label}"
        fixed = all(value.fixed(context) for value in self.values)
        for chunk in self.input.stream(execution):
            execution.budget.check()
            if fixed and chunk.length == 1:
                found = [value.value(context) for value in self.values]
                probes = [tuple([v if _storable(v) else None for v in found])]
            else:
                columns = [probe_values(v.evaluate(chunk, context)) for v in self.values]
                probes = list(zip(*columns, strict=True))
            rows, ids = root.index_lookup(index, probes)
            if not len(ids):
                continue
            vector = Vector(Kind.NODE, ids)
            if chunk.length == 1 and len(ids) == 1:
                yield Chunk({**chunk.columns, self.variable: vector}, 1)
            else:
                joined = pick(chunk, rows, {self.variable: vector})
                yield from slices(joined, execution.chunk_rows)


def probe_values(vector: Vector) -> list[Any]:
    """Values to look up; ``None`` (found nowhere) for what is null or cannot be stored."""
    if vector.kind is Kind.NODE or vector.kind is Kind.RELATIONSHIP:
        return [None] * len(vector)
    values = vector.to_list()
    if vector.kind is Kind.OBJECT:
        return [None if not _storable(v) else v for v in values]
    return values


def _storable(value: Any) -> bool:
    if type(value) in _SCALARS:
        return True
    if isinstance(value, (list, tuple)):
        return all(v is not None and not isinstance(v, (list, *_NOT_STORED)) for v in value)
    return not isinstance(value, _NOT_STORED)


class NodeIndexInOperator(Operator):
    """Index equality for every different member of a list."""

    __slots__ = ("input", "key", "label", "values", "variable")

    def __init__(
        self, input: Operator, variable: str, label: str, key: str, values: Compiled
    ) -> None:
        self.input = input
        self.variable = variable
        self.label = label
        self.key = key
        self.values = values

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context = execution.context
        root = context.root
        index = root.find_index(self.label, (self.key,))
        assert index is not None, f"plan is older than the schema: no index on :{self.label}"
        for chunk in self.input.stream(execution):
            execution.budget.check()
            for row, members in enumerate(boxed(self.values.evaluate(chunk, context))):
                if members is None:
                    continue
                if not isinstance(members, (list, tuple)):
                    raise CypherTypeError(f"IN needs a list on its right, but got {members!r}.")
                probes = [(v,) for v in members if v is not None and _storable(v)]
                _, ids = root.index_lookup(index, probes)
                if len(ids):
                    ids = distinct(ids)
                    rows = np.full(len(ids), row, dtype=np.int64)
                    found = pick(chunk, rows, {self.variable: Vector(Kind.NODE, ids)})
                    yield from slices(found, execution.chunk_rows)


class NodeIndexRangeOperator(Operator):
    """Index range; the predicate is checked again above, for bounds of unequal types."""

    __slots__ = ("high", "high_inclusive", "input", "key", "label", "low", "low_inclusive", "name")

    def __init__(
        self,
        input: Operator,
        name: str,
        label: str,
        key: str,
        low: tuple[Compiled | None, bool],
        high: tuple[Compiled | None, bool],
    ) -> None:
        self.input = input
        self.name = name
        self.label = label
        self.key = key
        self.low, self.low_inclusive = low
        self.high, self.high_inclusive = high

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context = execution.context
        root = context.root
        index = root.find_index(self.label, (self.key,))
        assert index is not None, f"plan is older than the schema: no index on :{self.label}"
        for chunk in self.input.stream(execution):
            execution.budget.check()
            lows = None if self.low is None else probe_values(self.low.evaluate(chunk, context))
            highs = None if self.high is None else probe_values(self.high.evaluate(chunk, context))
            for row in range(chunk.length):
                low = None if lows is None else lows[row]
                high = None if highs is None else highs[row]
                if (lows is not None and low is None) or (highs is not None and high is None):
                    continue
                for ids in self._candidates(root, index, low, high, execution.chunk_rows):
                    rows = np.full(len(ids), row, dtype=np.int64)
                    found = pick(chunk, rows, {self.name: Vector(Kind.NODE, ids)})
                    yield from slices(found, execution.chunk_rows)

    def _candidates(
        self, root: Any, index: Any, low: Any, high: Any, page: int
    ) -> Iterator[IntArray]:
        """Ids in the range. The index orders numbers and strings; for others all are tried."""
        if all(b is None or isinstance(b, (int, float, str)) for b in (low, high)):
            yield root.index_range(index, low, self.low_inclusive, high, self.high_inclusive)
            return
        start: int | None = 0
        while start is not None:
            ids, start = root.scan_nodes(self.label, start, page)
            yield ids


def _ids_asked(values: list[Any], *, many: bool) -> tuple[IntArray, IntArray]:
    """(rows, ids) that an ``id(x) = value`` or ``id(x) IN list`` asks for."""
    rows: list[int] = []
    ids: list[int] = []
    for row, value in enumerate(values):
        members = value if many else [value]
        if members is None:
            continue
        if not isinstance(members, (list, tuple)):
            raise CypherTypeError(f"IN needs a list on its right, but got {members!r}.")
        wanted = sorted({number for m in members if (number := _as_id(m)) is not None})
        rows.extend([row] * len(wanted))
        ids.extend(wanted)
    return np.array(rows, dtype=np.int64), np.array(ids, dtype=np.int64)


def _as_id(value: Any) -> int | None:
    """The id that a value denotes: an integer, an equal float, or an element id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None
    if isinstance(value, int) and 0 <= value <= _INT64_MAX:
        return value
    return None


class NodeByIdOperator(Operator):
    """Nodes by id or element id (the predicate on the exact form is checked above)."""

    __slots__ = ("input", "many", "value", "variable")

    def __init__(self, input: Operator, variable: str, value: Compiled, many: bool) -> None:
        self.input = input
        self.variable = variable
        self.value = value
        self.many = many

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context = execution.context
        for chunk in self.input.stream(execution):
            execution.budget.check()
            asked = boxed(self.value.evaluate(chunk, context))
            rows, ids = _ids_asked(asked, many=self.many)
            alive = context.root.nodes_alive(ids)
            rows, ids = rows[alive], ids[alive]
            found = pick(chunk, rows, {self.variable: Vector(Kind.NODE, ids)})
            yield from slices(found, execution.chunk_rows)


class RelationshipScanOperator(Operator):
    """All relationships of some types with their ends, page by page."""

    __slots__ = ("direction", "input", "source", "target", "types", "variable")

    def __init__(
        self,
        input: Operator,
        variable: str,
        source: str,
        target: str,
        types: tuple[str, ...],
        direction: Direction,
    ) -> None:
        self.input = input
        self.variable = variable
        self.source = source
        self.target = target
        self.types = types
        self.direction = direction

    def run(self, execution: Execution) -> Iterator[Chunk]:
        root, rows = execution.context.root, execution.chunk_rows
        types: tuple[str | None, ...] = tuple(dict.fromkeys(self.types)) or (None,)
        for chunk in self.input.stream(execution):
            for name in types:
                start: int | None = 0
                while start is not None:
                    execution.budget.check()
                    ids, start = root.scan_relationships(name, start, rows)
                    if len(ids):
                        yield from cross(chunk, self._with_ends(root, ids), rows)

    def _with_ends(self, root: Any, ids: IntArray) -> Chunk:
        sources, targets = root.relationship_ends(ids)
        if self.direction is Direction.IN:
            sources, targets = targets, sources
        elif self.direction is Direction.BOTH:
            # Each is found from both ends, a loop once.
            other = np.flatnonzero(sources != targets)
            ids = np.concatenate((ids, ids[other]))
            sources, targets = (
                np.concatenate((sources, targets[other])),
                np.concatenate((targets, sources[other])),
            )
        columns = {
            self.variable: Vector(Kind.RELATIONSHIP, ids),
            self.source: Vector(Kind.NODE, sources),
            self.target: Vector(Kind.NODE, targets),
        }
        return Chunk(columns, len(ids))
