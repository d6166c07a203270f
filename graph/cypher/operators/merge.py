"""MERGE: find the pattern, or create it.

A later row finds what an earlier row created. The general way is therefore row by row. Two forms,
which are nearly all of those used in imports, run for all rows at once: one node with a map of
properties (``MergeNodeOperator``) and one relationship between bound nodes
(``MergeRelationshipOperator``). They look up the distinct keys of all rows, create what is missing
once for each key, and let the other rows of that key find it. The planner takes these ways only
where ON CREATE and ON MATCH cannot change what later rows would find.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graph.cypher.operators.base import (
    Execution,
    Operator,
    concat_chunks,
    entity_ids,
    pick,
    slices,
)
from graph.cypher.operators.create import Blueprint
from graph.cypher.operators.expand import relationships_between
from graph.cypher.operators.update import UpdateItems
from graph.cypher.operators.writer import PropertySource, consume, writer_of
from graph.cypher.references import PathRef, boxed
from graph.cypher.semantics import group_key
from graph.distinct import distinct
from graph.errors import CypherArgumentError
from graph.vector import Chunk, IntArray, Kind, Vector
from graph.write_set import WriteSet

__all__ = ["MergeNodeOperator", "MergeOperator", "MergeRelationshipOperator", "PathParts"]

SEMANTIC_ERROR = "Neo.ClientError.Statement.SemanticError"
PathParts = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class MergeActions:
    on_create: UpdateItems
    on_match: UpdateItems

    def keep(self, execution: Execution, chunk: Chunk, columns: dict[str, Vector]) -> bool:
        """Whether the rows' keys stay what they are, so that all rows may run at once."""
        return self.on_create.keeps(execution, chunk, columns) and self.on_match.keeps(
            execution, chunk, columns
        )


def _refuse_nulls(columns: dict[str, Vector], what: str) -> None:
    for key, vector in columns.items():
        if vector.null_mask().any():
            raise CypherArgumentError(
                f"Cannot merge {what} because of a null value for its property '{key}'."
                " Filter out such rows first, or leave the property out of the pattern.",
                code=SEMANTIC_ERROR,
            )


def _value_keys(vector: Vector) -> list[Any]:
    """A hashable key for each value; ``None`` for NaN, which equals nothing."""
    if vector.kind is Kind.STRING:
        return vector.to_list()
    return [None if isinstance(v, float) and v != v else group_key(v) for v in boxed(vector)]


def _row_keys(columns: dict[str, Vector], rows: int) -> list[Any]:
    """One key for each row, of all properties together; ``None`` where nothing can be equal."""
    if not columns:
        return [()] * rows
    lists = [_value_keys(vector) for vector in columns.values()]
    return [None if None in row else row for row in zip(*lists, strict=True)]


@dataclass(slots=True)
class _Missing:
    """Rows for which nothing exists: the first of each key creates, the others find that."""

    creating: list[int]  # rows that create
    creator: dict[int, int]  # row -> place in ``creating``

    @staticmethod
    def of(rows: list[int], keys: list[Any]) -> _Missing:
        creating: list[int] = []
        creator: dict[int, int] = {}
        places: dict[Any, int] = {}
        for row in rows:
            key = keys[row]
            place = None if key is None else places.get(key)
            if place is None:
                place = len(creating)
                creating.append(row)
                if key is not None:
                    places[key] = place
            creator[row] = place
        return _Missing(creating, creator)


def _finish(
    execution: Execution,
    actions: MergeActions,
    joined: Chunk,
    created: list[bool],
) -> Iterator[Chunk]:
    """Run ON CREATE and ON MATCH on their rows and give the rows on."""
    mask = np.array(created, dtype=np.bool_)
    for items, rows in (
        (actions.on_create, np.flatnonzero(mask)),
        (actions.on_match, np.flatnonzero(~mask)),
    ):
        if items.steps and len(rows):
            items.run(execution, joined.take(rows, len(rows)))
    yield from slices(joined, execution.chunk_rows)


def _gathered(input: Operator, execution: Execution) -> Chunk | None:
    chunks = consume(input, execution)
    return concat_chunks(chunks) if chunks else None


class MergeNodeOperator(Operator):
    """One node by its labels and properties, for all rows at once."""

    __slots__ = ("actions", "blueprint", "general", "input")

    def __init__(self, general: MergeOperator) -> None:
        self.input = general.input
        self.blueprint = general.blueprint
        self.actions = general.actions
        self.general = general

    def run(self, execution: Execution) -> Iterator[Chunk]:
        chunk = _gathered(self.input, execution)
        if chunk is None:
            return
        node = self.blueprint.nodes[0]
        columns = node.properties.columns(chunk, execution)
        _refuse_nulls(columns, "a node")
        if not self.actions.keep(execution, chunk, columns):
            yield from self.general.rows(execution, [chunk])
            return
        keys = _row_keys(columns, chunk.length)
        found = self._find(execution, columns, keys)
        missing = _Missing.of([r for r, key in enumerate(keys) if not found.get(key)], keys)
        new_ids = self._create(execution, chunk, missing.creating)
        rows: list[int] = []
        ids: list[int] = []
        created: list[bool] = []
        creating = set(missing.creating)
        for row, key in enumerate(keys):
            existing = found.get(key) or [new_ids[missing.creator[row]]]
            rows.extend([row] * len(existing))
            ids.extend(existing)
            created.extend([row in creating] * len(existing))
        added = {node.variable: Vector.of(Kind.NODE, ids)}
        joined = pick(chunk, np.array(rows, dtype=np.int64), added)
        yield from _finish(execution, self.actions, joined, created)

    def _create(self, execution: Execution, chunk: Chunk, rows: list[int]) -> list[int]:
        if not rows:
            return []
        step = WriteSet()
        part = chunk.take(np.array(rows, dtype=np.int64), len(rows))
        made = self.blueprint.build(part, execution, step)
        writer_of(execution).apply(step)
        ids: list[int] = made.columns[self.blueprint.nodes[0].variable].data.tolist()
        return ids

    # ----------------------------------------------------------------- finding

    def _find(
        self, execution: Execution, columns: dict[str, Vector], keys: list[Any]
    ) -> dict[Any, list[int]]:
        """key -> ids of existing nodes, ascending."""
        root, labels = execution.context.root, self.blueprint.nodes[0].labels
        found: dict[Any, list[int]] = {}
        wanted = dict.fromkeys(key for key in keys if key is not None)
        index = _index_for(root, labels, columns)
        if index is not None:
            label, index_keys = index
            positions = [list(columns).index(key) for key in index_keys]
            lists = [columns[key].to_list() for key in index_keys]
            first_rows: dict[Any, int] = {}
            for row, key in enumerate(keys):
                if key is not None:
                    first_rows.setdefault(tuple(key[p] for p in positions), row)
            probes = [tuple(column[row] for column in lists) for row in first_rows.values()]
            _, ids = root.index_lookup(root.find_index(label, index_keys), probes)
            self._keep(execution, distinct(ids), columns, wanted, found)
            return found
        rarest = min(labels, key=root.label_count) if labels else None
        start: int | None = 0
        while start is not None:
            execution.budget.check()
            ids, start = root.scan_nodes(rarest, start, execution.chunk_rows)
            self._keep(execution, ids, columns, wanted, found)
        return found

    def _keep(
        self,
        execution: Execution,
        ids: IntArray,
        columns: dict[str, Vector],
        wanted: dict[Any, None],
        found: dict[Any, list[int]],
    ) -> None:
        """File those candidates that have all labels and a wanted key."""
        if not len(ids):
            return
        root = execution.context.root
        for label in self.blueprint.nodes[0].labels:
            ids = ids[root.has_label(ids, label)]
        values = {key: root.node_property(ids, key) for key in columns}
        for id, key in zip(ids.tolist(), _row_keys(values, len(ids)), strict=True):
            if key in wanted:
                found.setdefault(key, []).append(id)


def _index_for(
    root: Any, labels: tuple[str, ...], columns: dict[str, Vector]
) -> tuple[str, tuple[str, ...]] | None:
    """(label, keys) of an index that the pattern's properties cover, the longest one."""
    best: tuple[str, tuple[str, ...]] | None = None
    for info in root.indexes():
        if info.entity != "node" or info.label not in labels or not info.properties:
            continue
        usable = all(key in columns for key in info.properties)
        if usable and (best is None or len(info.properties) > len(best[1])):
            best = (info.label, tuple(info.properties))
    return best


class MergeRelationshipOperator(Operator):
    """One relationship between bound nodes, for all rows at once."""

    __slots__ = ("actions", "blueprint", "general", "input", "undirected")

    def __init__(self, general: MergeOperator, undirected: bool) -> None:
        self.input = general.input
        self.blueprint = general.blueprint
        self.actions = general.actions
        self.general = general
        self.undirected = undirected

    def run(self, execution: Execution) -> Iterator[Chunk]:
        chunk = _gathered(self.input, execution)
        if chunk is None:
            return
        new = self.blueprint.relationships[0]
        columns = new.properties.columns(chunk, execution)
        _refuse_nulls(columns, "a relationship")
        if not self.actions.keep(execution, chunk, columns):
            yield from self.general.rows(execution, [chunk])
            return
        sources = _bound_end(chunk, new.source)
        targets = _bound_end(chunk, new.target)
        keys = _row_keys(columns, chunk.length)
        found = self._find(execution, sources, targets, columns, keys)
        pairs = zip(sources.tolist(), targets.tolist(), strict=True)
        if self.undirected:
            whole = [(min(p), max(p), k) for p, k in zip(pairs, keys, strict=True)]
        else:
            whole = [(*p, k) for p, k in zip(pairs, keys, strict=True)]
        unique = [None if key[2] is None else key for key in whole]
        missing = _Missing.of([r for r in range(chunk.length) if r not in found], unique)
        new_ids = self._create(execution, chunk, missing.creating)
        rows: list[int] = []
        ids: list[int] = []
        created: list[bool] = []
        creating = set(missing.creating)
        for row in range(chunk.length):
            existing = found.get(row) or [new_ids[missing.creator[row]]]
            rows.extend([row] * len(existing))
            ids.extend(existing)
            created.extend([row in creating] * len(existing))
        added = {new.variable: Vector.of(Kind.RELATIONSHIP, ids)}
        joined = pick(chunk, np.array(rows, dtype=np.int64), added)
        yield from _finish(execution, self.actions, joined, created)

    def _find(
        self,
        execution: Execution,
        sources: IntArray,
        targets: IntArray,
        columns: dict[str, Vector],
        keys: list[Any],
    ) -> dict[int, list[int]]:
        """row -> ids of existing relationships that match it."""
        root = execution.context.root
        direction = "both" if self.undirected else "out"
        types = (self.blueprint.relationships[0].type,)
        found: dict[int, list[int]] = {}
        for rows, ids in relationships_between(root, sources, targets, direction, types):
            execution.budget.check()
            values = {key: root.relationship_property(ids, key) for key in columns}
            held = _row_keys(values, len(ids))
            for row, id, key in zip(rows.tolist(), ids.tolist(), held, strict=True):
                if key is not None and key == keys[row]:
                    found.setdefault(row, []).append(id)
        return found

    def _create(self, execution: Execution, chunk: Chunk, rows: list[int]) -> list[int]:
        if not rows:
            return []
        step = WriteSet()
        part = chunk.take(np.array(rows, dtype=np.int64), len(rows))
        made = self.blueprint.build(part, execution, step)
        writer_of(execution).apply(step)
        variable = self.blueprint.relationships[0].variable
        ids: list[int] = made.columns[variable].data.tolist()
        return ids


def _bound_end(chunk: Chunk, name: str) -> IntArray:
    ids, valid = entity_ids(chunk.columns[name], Kind.NODE)
    if valid is not None and not valid.all():
        raise CypherArgumentError(
            f"Cannot merge a relationship, because the node `{name}` at one of its ends is null.",
            code=SEMANTIC_ERROR,
        )
    return ids


class MergeOperator(Operator):
    """Any pattern, row by row."""

    __slots__ = ("actions", "blueprint", "bound", "input", "match", "names", "path", "row")

    def __init__(
        self,
        input: Operator,
        match: Operator,
        blueprint: Blueprint,
        path: PathParts | None,
        actions: MergeActions,
        bound: tuple[str, ...],
        row: str,
    ) -> None:
        self.input = input
        self.match = match
        self.row = row
        self.blueprint = blueprint
        self.path = path
        self.actions = actions
        self.bound = bound
        self.names = tuple(
            [node.variable for node in blueprint.nodes]
            + [relationship.variable for relationship in blueprint.relationships]
        )

    def run(self, execution: Execution) -> Iterator[Chunk]:
        yield from self.rows(execution, consume(self.input, execution))

    def rows(self, execution: Execution, chunks: list[Chunk]) -> Iterator[Chunk]:
        results: list[Chunk] = []
        for chunk in chunks:
            for row in range(chunk.length):
                execution.budget.check()
                results.extend(self._row(execution, chunk.slice(row, row + 1)))
        for start in range(0, len(results), execution.chunk_rows):
            part = results[start : start + execution.chunk_rows]
            yield from slices(concat_chunks(part), execution.chunk_rows)

    def _row(self, execution: Execution, row: Chunk) -> list[Chunk]:
        for name in self.bound:
            _bound_end(row, name)
        created: dict[str, Vector] = {}
        for source in self._sources():
            created.update(source.columns(row, execution))
        _refuse_nulls(created, "the pattern")
        argument = row.with_columns({self.row: Vector.of(Kind.INT, [0])})
        found = list(self.match.stream(execution.inner(argument, self.row)))
        if found:
            names = (*row.columns, *self.names, *((self.path[0],) if self.path else ()))
            matches = [Chunk({n: c.columns[n] for n in names}, c.length) for c in found]
            for match in matches:
                self.actions.on_match.run(execution, match)
            return matches
        step = WriteSet()
        made = self.blueprint.build(row, execution, step)
        writer_of(execution).apply(step)
        if self.path is not None:
            made = made.with_columns({self.path[0]: _created_path(made, self.path)})
        self.actions.on_create.run(execution, made)
        return [made]

    def _sources(self) -> Iterator[PropertySource]:
        for node in self.blueprint.nodes:
            yield node.properties
        for relationship in self.blueprint.relationships:
            yield relationship.properties


def _created_path(made: Chunk, path: PathParts) -> Vector:
    nodes = tuple(int(made.columns[name].data[0]) for name in path[1])
    relationships = tuple(int(made.columns[name].data[0]) for name in path[2])
    return Vector.objects([PathRef(nodes, relationships)])
