"""What can be asked of a root.

Reads take and give int64 arrays of ids and cost a few NumPy calls for a whole batch; each has a
short path for a single row. An id that is not alive behaves as absent: no labels, no
properties, no neighbours. Nothing here changes the root.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graph.adjacency import Adjacency, Edges
from graph.columns import Column
from graph.errors import GraphError
from graph.state import State
from graph.values import Node, Relationship
from graph.vector import BoolArray, IntArray, Kind, Vector

__all__ = ["Reads"]

_EMPTY: IntArray = np.empty(0, dtype=np.int64)
_NOTHING = (_EMPTY, _EMPTY, _EMPTY)
DIRECTIONS = ("out", "in", "both")


class Reads(State):
    """Reading half of a root."""

    __slots__ = ()

    # counts and names

    @property
    def node_count(self) -> int:
        return self.alive.count

    @property
    def relationship_count(self) -> int:
        return self.table.count

    @property
    def average_degree(self) -> float:
        """Relationships per node."""
        return self.table.count / self.alive.count if self.alive.count else 0.0

    def label_id(self, name: str) -> int | None:
        return self.label_names.ids.get(name)

    def type_id(self, name: str) -> int | None:
        return self.type_names.ids.get(name)

    def key_id(self, name: str) -> int | None:
        return self.key_names.ids.get(name)

    def label_name(self, number: int) -> str:
        return self.label_names.names[number]

    def type_name(self, number: int) -> str:
        return self.type_names.names[number]

    def key_name(self, number: int) -> str:
        return self.key_names.names[number]

    def labels(self) -> list[str]:
        """Labels that some node has."""
        members = self.labels_members
        return [name for name, m in zip(self.label_names.names, members, strict=True) if m.count]

    def types(self) -> list[str]:
        """Types that some relationship has."""
        counts = self.type_counts
        return [name for name, n in zip(self.type_names.names, counts, strict=True) if n]

    def keys(self) -> list[str]:
        """Keys that some node or relationship has a property of."""
        columns = zip(self.node_columns, self.relationship_columns, strict=True)
        return [
            name
            for name, (nodes, relationships) in zip(self.key_names.names, columns, strict=True)
            if nodes.count or relationships.count
        ]

    def label_count(self, label: str) -> int:
        number = self.label_names.ids.get(label)
        return 0 if number is None else self.labels_members[number].count

    def type_count(self, type: str) -> int:
        number = self.type_names.ids.get(type)
        return 0 if number is None else self.type_counts[number]

    # scans and membership

    def scan_nodes(self, label: str | None, start: int, limit: int) -> tuple[IntArray, int | None]:
        """Up to ``limit`` node ids from ``start`` on, ascending, and where to go on (or None)."""
        if label is None:
            return self.alive.scan(start, limit)
        number = self.label_names.ids.get(label)
        return (_EMPTY, None) if number is None else self.labels_members[number].scan(start, limit)

    def scan_relationships(
        self, type: str | None, start: int, limit: int
    ) -> tuple[IntArray, int | None]:
        """Up to ``limit`` relationship ids from ``start`` on, and where to go on (or None)."""
        if type is None:
            return self.table.scan(start, limit)
        number = self.type_names.ids.get(type)
        if number is None or not self.type_counts[number]:
            return _EMPTY, None
        return self.table.scan(start, limit, number)

    def nodes_alive(self, ids: IntArray) -> BoolArray:
        return self.alive.mask(ids)

    def relationships_alive(self, ids: IntArray) -> BoolArray:
        return self.table.mask(ids)

    def has_label(self, ids: IntArray, label: str) -> BoolArray:
        number = self.label_names.ids.get(label)
        if number is None:
            return np.zeros(len(ids), dtype=np.bool_)
        return self.labels_members[number].mask(ids)

    def labels_of(self, node_id: int) -> tuple[str, ...]:
        """Labels of one node in the order of the catalog."""
        members = self.labels_members
        names = self.label_names.names
        return tuple([name for name, m in zip(names, members, strict=True) if node_id in m])

    # properties

    def node_property(self, ids: IntArray, key: str) -> Vector:
        """Values of one key, in the tightest kind that the column allows."""
        number = self.key_names.ids.get(key)
        if number is None:
            return Vector.nulls(Kind.OBJECT, len(ids))
        return self.node_columns[number].vector(ids)

    def relationship_property(self, ids: IntArray, key: str) -> Vector:
        """Values of one key, in the tightest kind that the column allows."""
        number = self.key_names.ids.get(key)
        if number is None:
            return Vector.nulls(Kind.OBJECT, len(ids))
        return self.relationship_columns[number].vector(ids)

    def node_properties(self, node_id: int) -> dict[str, Any]:
        """All properties of one node, in the order of the catalog."""
        return _properties(self.key_names.names, self.node_columns, node_id)

    def relationship_properties(self, relationship_id: int) -> dict[str, Any]:
        """All properties of one relationship, in the order of the catalog."""
        return _properties(self.key_names.names, self.relationship_columns, relationship_id)

    # whole entities

    def node(self, node_id: int) -> Node:
        """A node with all it has; without labels and properties if it does not exist."""
        return Node(node_id, self.labels_of(node_id), self.node_properties(node_id))

    def relationship(self, relationship_id: int) -> Relationship:
        """Raises ``GraphError`` if there is no such relationship."""
        row = self.table.get(relationship_id)
        if row is None:
            raise _deleted("relationship", relationship_id)
        type_id, source, target = row
        properties = self.relationship_properties(relationship_id)
        return Relationship(
            relationship_id, self.type_names.names[type_id], source, target, properties
        )

    def nodes(self, ids: IntArray) -> list[Node]:
        """Whole nodes, one for each row."""
        if len(ids) < 8:
            return [self.node(node_id) for node_id in ids.tolist()]
        labels: list[list[str]] = [[] for _ in range(len(ids))]
        for name, members in zip(self.label_names.names, self.labels_members, strict=True):
            if members.count:
                for row in np.flatnonzero(members.mask(ids)).tolist():
                    labels[row].append(name)
        properties = _many_properties(self.key_names.names, self.node_columns, ids)
        return [
            Node(node_id, tuple(names), values)
            for node_id, names, values in zip(ids.tolist(), labels, properties, strict=True)
        ]

    def relationships(self, ids: IntArray) -> list[Relationship]:
        """Whole relationships, one for each row; ``GraphError`` if one does not exist."""
        if len(ids) < 8:
            return [self.relationship(relationship_id) for relationship_id in ids.tolist()]
        types, sources, targets = self.table.ends(ids)
        if bool((types < 0).any()):
            raise _deleted("relationship", ids[types < 0].item(0))
        properties = _many_properties(self.key_names.names, self.relationship_columns, ids)
        names = self.type_names.names
        rows = zip(
            ids.tolist(),
            types.tolist(),
            sources.tolist(),
            targets.tolist(),
            properties,
            strict=True,
        )
        return [Relationship(i, names[t], start, end, values) for i, t, start, end, values in rows]

    def relationship_ends(self, ids: IntArray) -> tuple[IntArray, IntArray]:
        """Sources and targets (0 where there is no such relationship)."""
        _, sources, targets = self.table.gather(ids)
        return sources, targets

    def relationship_types(self, ids: IntArray) -> IntArray:
        """Type ids, -1 where there is no such relationship."""
        return self.table.ends(ids)[0].astype(np.int64)

    # topology

    def expand(
        self, ids: IntArray, direction: str, types: tuple[str, ...] | None = None
    ) -> tuple[IntArray, IntArray, IntArray]:
        """All relationships of the nodes ``ids``: rows, relationship ids, neighbour ids.

        ``rows`` are positions in ``ids``, ascending. Within a row: by type in the order of the
        catalog, outgoing before incoming, then by relationship id. With ``both``, a
        relationship of a node with itself appears once. The arrays must not be written to.
        """
        numbers = self._type_numbers(types)
        if len(ids) == 1:
            return self._expand_one(ids.item(0), direction, numbers)
        alive = self.table.mask
        found: list[Edges] = []
        for number in numbers:
            if direction != "in":
                found.append(self.outgoing[number].expand(ids, alive))
            if direction != "out":
                edges = self.incoming[number].expand(ids, alive)
                if direction == "both" and self.loops[number]:
                    loops = np.flatnonzero(ids.take(edges[0]) == edges[2])
                    if loops.size:
                        rows, relationships, neighbours = edges
                        edges = (
                            np.delete(rows, loops),
                            np.delete(relationships, loops),
                            np.delete(neighbours, loops),
                        )
                found.append(edges)
        found = [edges for edges in found if len(edges[0])]
        if not found:
            return _NOTHING
        if len(found) == 1:
            return found[0]
        return _interleaved(found, len(ids))

    def _expand_one(
        self, node: int, direction: str, numbers: list[int] | range
    ) -> tuple[IntArray, IntArray, IntArray]:
        alive = self.table.mask
        found: list[tuple[IntArray, IntArray]] = []
        for number in numbers:
            if direction != "in":
                found.append(self.outgoing[number].neighbourhood(node, alive))
            if direction != "out":
                edges = self.incoming[number].neighbourhood(node, alive)
                if direction == "both" and self.loops[number]:
                    loops = np.flatnonzero(edges[1] == node)
                    if loops.size:
                        edges = np.delete(edges[0], loops), np.delete(edges[1], loops)
                found.append(edges)
        found = [edges for edges in found if len(edges[0])]
        if not found:
            return _NOTHING
        if len(found) == 1:
            relationships, neighbours = found[0]
        else:
            relationships = np.concatenate([edges[0] for edges in found])
            neighbours = np.concatenate([edges[1] for edges in found])
        return np.zeros(len(relationships), dtype=np.int64), relationships, neighbours

    def degree(
        self, ids: IntArray, direction: str, types: tuple[str, ...] | None = None
    ) -> IntArray:
        """Number of relationships of each node; ``both`` counts a self-loop once."""
        numbers = self._type_numbers(types)
        loops = direction == "both" and any(self.loops[number] for number in numbers)
        if loops:
            rows = self.expand(ids, direction, types)[0]
            return np.bincount(rows, minlength=len(ids))
        alive = self.table.mask
        sides: list[Adjacency] = []
        for number in numbers:
            if direction != "in":
                sides.append(self.outgoing[number])
            if direction != "out":
                sides.append(self.incoming[number])
        if len(ids) == 1:
            node = ids.item(0)
            return np.array([sum([side.degree(node, alive) for side in sides])], dtype=np.int64)
        total = np.zeros(len(ids), dtype=np.int64)
        for side in sides:
            if side.groups:
                total += side.degrees(ids, alive)
        return total

    def _type_numbers(self, types: tuple[str, ...] | None) -> list[int] | range:
        """Catalog numbers of the types, ascending, without types that do not occur."""
        counts = self.type_counts
        if types is None:
            if len(counts) == 1:
                return range(1 if counts[0] else 0)
            return [number for number, count in enumerate(counts) if count]
        ids = self.type_names.ids
        if len(types) == 1:
            number = ids.get(types[0])
            return [] if number is None or not counts[number] else [number]
        known = {ids[name] for name in types if name in ids}
        return [number for number in sorted(known) if counts[number]]

    # size

    def memory_bytes(self) -> int:
        """Estimate of the memory this root refers to, pieces shared with other roots included."""
        total = self.alive.memory_bytes() + self.table.memory_bytes()
        total += sum([members.memory_bytes() for members in self.labels_members])
        for column in (*self.node_columns, *self.relationship_columns):
            total += column.memory_bytes() + column.heap.count * 120
        for adjacency in (*self.outgoing, *self.incoming):
            total += adjacency.memory_bytes()
        return total + sum([index.size * 120 for index in self.schema.indexes.values()])


def _interleaved(parts: list[Edges], count: int) -> Edges:
    """Merge parts that are ordered by row; within a row, the parts in their order.

    Each entry's place is computed from counts for each row, so nothing is sorted.
    """
    counts = [np.bincount(edges[0], minlength=count) for edges in parts]
    totals = sum(counts[1:], start=counts[0])
    ends = np.cumsum(totals)
    relationships = np.empty(ends.item(-1), dtype=np.int64)
    neighbours = np.empty(ends.item(-1), dtype=np.int64)
    free = ends - totals  # the next free place of each row
    for edges, of_part in zip(parts, counts, strict=True):
        shift = free - (np.cumsum(of_part) - of_part)
        places = shift.take(edges[0]) + np.arange(len(edges[0]))
        relationships[places] = edges[1]
        neighbours[places] = edges[2]
        free = free + of_part
    return np.repeat(np.arange(count), totals), relationships, neighbours


def _properties(names: tuple[str, ...], columns: list[Column], owner: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, column in zip(names, columns, strict=True):
        if column.chunks:
            value = column.value(owner)
            if value is not None:
                result[name] = value
    return result


def _many_properties(
    names: tuple[str, ...], columns: list[Column], ids: IntArray
) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = [{} for _ in range(len(ids))]
    for name, column in zip(names, columns, strict=True):
        if column.count:
            for values, value in zip(result, column.vector(ids).to_list(), strict=True):
                if value is not None:
                    values[name] = value
    return result


def _deleted(what: str, entity_id: int) -> GraphError:
    return GraphError(
        f"{what} {entity_id} has been deleted or does not exist",
        code="Neo.ClientError.Statement.EntityNotFound",
    )
