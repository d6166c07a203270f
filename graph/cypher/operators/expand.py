"""Expansion over one relationship, and checks of relationships that are bound already.

The store expands many nodes in one call. How many rows come out is known only afterwards, so an
input chunk whose nodes have many relationships is split first, by degree: the arrays of one call
stay below ``_EXPAND_ROWS_MAX`` but for a single node with more than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graph.cypher.operators.base import Execution, Operator, entity_ids, pick
from graph.cypher.references import RelationshipRef, boxed
from graph.cypher.syntax import Direction
from graph.errors import CypherTypeError
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector

__all__ = [
    "DIRECTIONS",
    "BoundRelationshipOperator",
    "BoundRelationshipsOperator",
    "ExpandIntoOperator",
    "ExpandOperator",
    "differs",
    "expand_pieces",
]

DIRECTIONS = {Direction.OUT: "out", Direction.IN: "in", Direction.BOTH: "both"}
_OPPOSITE = {"out": "in", "in": "out", "both": "both"}
_EXPAND_ROWS_MAX = 1 << 17

Found = tuple[IntArray, IntArray, IntArray]  # positions, relationships, neighbours


def expand_pieces(
    root: Any, ids: IntArray, direction: str, types: tuple[str, ...] | None
) -> Iterator[Found]:
    """``root.expand`` in pieces of bounded size; positions are into ``ids``."""
    if len(ids) == 1 or len(ids) * root.relationship_count <= _EXPAND_ROWS_MAX:
        yield root.expand(ids, direction, types)
        return
    ends = np.cumsum(root.degree(ids, direction, types))
    if ends[-1] <= _EXPAND_ROWS_MAX:
        yield root.expand(ids, direction, types)
        return
    start = 0
    while start < len(ids):
        done = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, done + _EXPAND_ROWS_MAX, side="right"))
        stop = max(stop, start + 1)
        rows, relationships, neighbours = root.expand(ids[start:stop], direction, types)
        yield rows + start, relationships, neighbours
        start = stop


def differs(
    chunk: Chunk, names: tuple[str, ...], rows: IntArray, relationships: IntArray
) -> BoolArray | None:
    """Where a found relationship is none of those in the columns; ``None``: everywhere."""
    mask: BoolArray | None = None
    for name in names:
        vector = chunk.columns[name]
        if vector.kind is Kind.RELATIONSHIP:
            other = vector.data[rows] != relationships
            if vector.valid is not None:
                other |= ~vector.valid[rows]
        else:
            held = [_held(value) for value in boxed(vector)]
            found = zip(rows.tolist(), relationships.tolist(), strict=True)
            other = np.array([r not in held[row] for row, r in found], dtype=np.bool_)
        mask = other if mask is None else mask & other
    return mask


def _held(value: Any) -> frozenset[int]:
    if value is None:
        return frozenset()
    if isinstance(value, RelationshipRef):
        return frozenset((value.id,))
    return frozenset(reference.id for reference in value)


class ExpandOperator(Operator):
    """From bound nodes to their neighbours."""

    __slots__ = (
        "direction",
        "distinct_from",
        "input",
        "relationship",
        "source",
        "target",
        "types",
    )

    def __init__(
        self,
        input: Operator,
        source: str,
        relationship: str | None,
        target: str | None,
        types: tuple[str, ...],
        direction: Direction,
        distinct_from: tuple[str, ...],
    ) -> None:
        self.input = input
        self.source = source
        self.relationship = relationship
        self.target = target
        self.types = types or None
        self.direction = DIRECTIONS[direction]
        self.distinct_from = distinct_from

    def run(self, execution: Execution) -> Iterator[Chunk]:
        root, size = execution.context.root, execution.chunk_rows
        for chunk in self.input.stream(execution):
            execution.budget.check()
            ids, valid = entity_ids(chunk.columns[self.source], Kind.NODE)
            if valid is not None:
                chunk = chunk.take(np.flatnonzero(valid), int(valid.sum()))
                ids = ids[valid]
            if not len(ids):
                continue
            for rows, relationships, neighbours in expand_pieces(
                root, ids, self.direction, self.types
            ):
                if self.distinct_from:
                    mask = differs(chunk, self.distinct_from, rows, relationships)
                    if mask is not None and not mask.all():
                        rows, relationships = rows[mask], relationships[mask]
                        neighbours = neighbours[mask]
                for start in range(0, len(rows), size):
                    stop = start + size
                    yield self._output(
                        chunk, rows[start:stop], relationships[start:stop], neighbours[start:stop]
                    )

    def _output(
        self, chunk: Chunk, rows: IntArray, relationships: IntArray, neighbours: IntArray
    ) -> Chunk:
        added: dict[str, Vector] = {}
        if self.relationship is not None:
            added[self.relationship] = Vector(Kind.RELATIONSHIP, relationships)
        if self.target is not None:
            added[self.target] = Vector(Kind.NODE, neighbours)
        return pick(chunk, rows, added)


class ExpandIntoOperator(Operator):
    """Relationships between two bound nodes, walked from the end with fewer of them."""

    __slots__ = (
        "direction",
        "distinct_from",
        "input",
        "relationship",
        "source",
        "target",
        "types",
    )

    def __init__(
        self,
        input: Operator,
        source: str,
        relationship: str | None,
        target: str,
        types: tuple[str, ...],
        direction: Direction,
        distinct_from: tuple[str, ...],
    ) -> None:
        self.input = input
        self.source = source
        self.relationship = relationship
        self.target = target
        self.types = types or None
        self.direction = DIRECTIONS[direction]
        self.distinct_from = distinct_from

    def run(self, execution: Execution) -> Iterator[Chunk]:
        root, size = execution.context.root, execution.chunk_rows
        for chunk in self.input.stream(execution):
            execution.budget.check()
            sources, source_valid = entity_ids(chunk.columns[self.source], Kind.NODE)
            targets, target_valid = entity_ids(chunk.columns[self.target], Kind.NODE)
            if source_valid is not None or target_valid is not None:
                both = np.ones(chunk.length, dtype=np.bool_)
                for valid in (source_valid, target_valid):
                    both = both if valid is None else both & valid
                chunk = chunk.take(np.flatnonzero(both), int(both.sum()))
                sources, targets = sources[both], targets[both]
            for rows, relationships in relationships_between(
                root, sources, targets, self.direction, self.types
            ):
                if self.distinct_from:
                    mask = differs(chunk, self.distinct_from, rows, relationships)
                    if mask is not None:
                        rows, relationships = rows[mask], relationships[mask]
                for start in range(0, len(rows), size):
                    added: dict[str, Vector] = {}
                    if self.relationship is not None:
                        part = relationships[start : start + size]
                        added[self.relationship] = Vector(Kind.RELATIONSHIP, part)
                    yield pick(chunk, rows[start : start + size], added)


def relationships_between(
    root: Any,
    sources: IntArray,
    targets: IntArray,
    direction: str,
    types: tuple[str, ...] | None,
) -> Iterator[tuple[IntArray, IntArray]]:
    """(positions, relationships) from ``sources[i]`` to ``targets[i]``, positions ascending."""
    if not len(sources):
        return
    opposite = _OPPOSITE[direction]
    from_target = root.degree(targets, opposite, types) < root.degree(sources, direction, types)
    if from_target.any() and not from_target.all():
        # Some rows from here, some from there: a hub on one side must not be walked.
        found: list[tuple[IntArray, IntArray]] = []
        for mask, begin, end, way in (
            (~from_target, sources, targets, direction),
            (from_target, targets, sources, opposite),
        ):
            rows_of = np.flatnonzero(mask)
            for rows, relationships in _between(root, begin[mask], end[mask], way, types):
                found.append((rows_of[rows], relationships))
        rows = np.concatenate([rows for rows, _ in found])
        relationships = np.concatenate([r for _, r in found])
        order = np.argsort(rows, kind="stable")
        yield rows[order], relationships[order]
    elif from_target.any():
        yield from _between(root, targets, sources, opposite, types)
    else:
        yield from _between(root, sources, targets, direction, types)


def _between(
    root: Any,
    begin: IntArray,
    end: IntArray,
    direction: str,
    types: tuple[str, ...] | None,
) -> Iterator[tuple[IntArray, IntArray]]:
    for rows, relationships, neighbours in expand_pieces(root, begin, direction, types):
        mask = neighbours == end[rows]
        yield rows[mask], relationships[mask]


class BoundRelationshipOperator(Operator):
    """A bound relationship as a pattern: its ends are bound, or checked if they are bound."""

    __slots__ = (
        "direction",
        "input",
        "source",
        "source_bound",
        "target",
        "target_bound",
        "types",
        "variable",
    )

    def __init__(
        self,
        input: Operator,
        variable: str,
        ends: tuple[str, str],
        bound: tuple[bool, bool],
        types: tuple[str, ...],
        direction: Direction,
    ) -> None:
        self.input = input
        self.variable = variable
        self.source, self.target = ends
        self.source_bound, self.target_bound = bound
        self.types = types
        self.direction = direction

    def run(self, execution: Execution) -> Iterator[Chunk]:
        root = execution.context.root
        for chunk in self.input.stream(execution):
            execution.budget.check()
            ids, valid = entity_ids(chunk.columns[self.variable], Kind.RELATIONSHIP)
            rows = np.arange(len(ids)) if valid is None else np.flatnonzero(valid)
            ids = ids[rows]
            alive = root.relationships_alive(ids)
            if self.types:
                names = [root.type_name(t) for t in root.relationship_types(ids).tolist()]
                alive &= np.array([name in self.types for name in names], dtype=np.bool_)
            rows, ids = rows[alive], ids[alive]
            starts, ends = root.relationship_ends(ids)
            if self.direction is Direction.IN:
                starts, ends = ends, starts
            elif self.direction is Direction.BOTH:
                other = np.flatnonzero(starts != ends)
                rows = np.concatenate((rows, rows[other]))
                starts, ends = (
                    np.concatenate((starts, ends[other])),
                    np.concatenate((ends, starts[other])),
                )
            rows, starts, ends = self._matching(chunk, rows, starts, ends)
            if len(rows):
                order = np.argsort(rows, kind="stable")
                yield self._output(chunk, rows[order], starts[order], ends[order])

    def _matching(
        self, chunk: Chunk, rows: IntArray, starts: IntArray, ends: IntArray
    ) -> tuple[IntArray, IntArray, IntArray]:
        mask = np.ones(len(rows), dtype=np.bool_)
        for name, bound, found in (
            (self.source, self.source_bound, starts),
            (self.target, self.target_bound, ends),
        ):
            if bound:
                ids, valid = entity_ids(chunk.columns[name], Kind.NODE)
                mask &= ids[rows] == found
                if valid is not None:
                    mask &= valid[rows]
        if self.source == self.target:
            mask &= starts == ends
        return rows[mask], starts[mask], ends[mask]

    def _output(self, chunk: Chunk, rows: IntArray, starts: IntArray, ends: IntArray) -> Chunk:
        added: dict[str, Vector] = {}
        if not self.source_bound:
            added[self.source] = Vector(Kind.NODE, starts)
        if not self.target_bound:
            added[self.target] = Vector(Kind.NODE, ends)
        return pick(chunk, rows, added)


class BoundRelationshipsOperator(Operator):
    """A bound list of relationships as a variable-length pattern: they must form a chain."""

    __slots__ = (
        "bound",
        "direction",
        "ends",
        "input",
        "maximum",
        "minimum",
        "types",
        "variable",
    )

    def __init__(
        self,
        input: Operator,
        variable: str,
        ends: tuple[str, str],
        bound: tuple[bool, bool],
        types: tuple[str, ...],
        direction: Direction,
        hops: tuple[int, int | None],
    ) -> None:
        self.input = input
        self.variable = variable
        self.ends = ends
        self.bound = bound
        self.types = types
        self.direction = direction
        self.minimum, self.maximum = hops

    def run(self, execution: Execution) -> Iterator[Chunk]:
        root = execution.context.root
        for chunk in self.input.stream(execution):
            execution.budget.check()
            rows: list[int] = []
            starts: list[int] = []
            ends: list[int] = []
            for row, value in enumerate(boxed(chunk.columns[self.variable])):
                for start, end in self._chains(root, value):
                    if self._accepts(chunk, row, start, end):
                        rows.append(row)
                        starts.append(start)
                        ends.append(end)
            if not rows:
                continue
            added = {
                name: Vector.of(Kind.NODE, found)
                for name, bound, found in zip(self.ends, self.bound, (starts, ends), strict=True)
                if not bound
            }
            yield pick(chunk, np.array(rows, dtype=np.int64), added)

    def _accepts(self, chunk: Chunk, row: int, start: int, end: int) -> bool:
        for name, bound, found in zip(self.ends, self.bound, (start, end), strict=True):
            if bound:
                ids, valid = entity_ids(chunk.columns[name], Kind.NODE)
                if (valid is not None and not valid[row]) or ids[row] != found:
                    return False
        return self.ends[0] != self.ends[1] or start == end

    def _chains(self, root: Any, value: Any) -> Iterator[tuple[int, int]]:
        """(first node, last node) of the ways in which the list is a chain."""
        if value is None:
            return
        if not isinstance(value, (list, tuple)):
            raise CypherTypeError(f"Expected a list of relationships, but got {value!r}.")
        ids, _ = entity_ids(Vector.objects(list(value)), Kind.RELATIONSHIP)
        count = len(ids)
        if count < self.minimum or (self.maximum is not None and count > self.maximum) or not count:
            return
        if self.types:
            names = {root.type_name(t) for t in root.relationship_types(ids).tolist()}
            if not names <= set(self.types):
                return
        sources, targets = root.relationship_ends(ids)
        pairs = list(zip(sources.tolist(), targets.tolist(), strict=True))
        found: set[tuple[int, int]] = set()
        for first in dict.fromkeys(pairs[0]):
            current: int | None = first
            for source, target in pairs:
                current = self._step(current, source, target)
                if current is None:
                    break
            if current is not None and (first, current) not in found:
                found.add((first, current))
                yield first, current

    def _step(self, current: int | None, source: int, target: int) -> int | None:
        if self.direction is not Direction.IN and current == source:
            return target
        if self.direction is not Direction.OUT and current == target:
            return source
        return None
