"""References: how nodes, relationships and paths stand inside lists, maps and mixed columns.

Inside the engine a node is an id. In a NODE or RELATIONSHIP vector the id stands bare; wherever
Cypher values of several types meet (OBJECT vectors, list elements, map values) it is wrapped in
a reference, so that node 1, relationship 1 and the integer 1 stay apart. References are small,
hashable and equal by id. They become ``graph.values`` objects only when a row leaves the engine:
``materialise`` does it for one value, ``materialise_column`` for a column, with one batched read
of the store for all nodes of the column and one for all relationships.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from graph.errors import CypherArgumentError, LimitError
from graph.values import Node, Path, Relationship
from graph.vector import IntArray, Kind, Vector

__all__ = [
    "NodeRef",
    "PathRef",
    "RelationshipRef",
    "Work",
    "boxed",
    "materialise",
    "materialise_column",
    "objects",
    "tighten",
]

# Nesting of lists and maps that values may have: readers of Bolt recurse, and so do we.
NESTING_LEVELS_MAX = 200
# Elements of one value, nested ones included: `reduce(a = [1], i IN range(1, 60) | [a, a])` is
# small in memory, since its halves are shared, and endless when written out, compared or hashed.
ELEMENTS_MAX = 10_000_000


class Work:
    """Elements visited and levels entered on the way through one value."""

    __slots__ = ("elements", "level")

    def __init__(self) -> None:
        self.elements = 0
        self.level = 0

    def enter(self, count: int) -> None:
        """Go into a list or map of ``count`` elements; the caller takes ``level`` back after it.

        Raises:
            LimitError: the value nests deeper or holds more elements than a value may.
        """
        self.level += 1
        self.elements += count
        if self.level > NESTING_LEVELS_MAX:
            raise LimitError(f"A value nests more than {NESTING_LEVELS_MAX} levels deep.")
        if self.elements > ELEMENTS_MAX:
            raise LimitError(f"A value holds more than {ELEMENTS_MAX} elements.")


class NodeRef:
    """A node by id."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id

    def __eq__(self, other: object) -> bool:
        return type(other) is NodeRef and other.id == self.id

    def __hash__(self) -> int:
        return hash((1, self.id))

    def __repr__(self) -> str:
        return f"NodeRef({self.id})"


class RelationshipRef:
    """A relationship by id."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id

    def __eq__(self, other: object) -> bool:
        return type(other) is RelationshipRef and other.id == self.id

    def __hash__(self) -> int:
        return hash((2, self.id))

    def __repr__(self) -> str:
        return f"RelationshipRef({self.id})"


class PathRef:
    """A path by the ids of its nodes and relationships, in the order walked.

    ``len(nodes) == len(relationships) + 1``; equal if both id sequences are (the direction in
    which a relationship was walked does not matter: openCypher 9, section on path equality).
    """

    __slots__ = ("nodes", "relationships")

    def __init__(self, nodes: tuple[int, ...], relationships: tuple[int, ...]) -> None:
        self.nodes = nodes
        self.relationships = relationships

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is PathRef
            and other.relationships == self.relationships
            and other.nodes == self.nodes
        )

    def __hash__(self) -> int:
        return hash((self.nodes, self.relationships))

    def __repr__(self) -> str:
        return f"PathRef({self.nodes}, {self.relationships})"


def boxed(vector: Vector, length: int | None = None) -> list[Any]:
    """The vector's elements as Cypher values: ids wrapped in references, ``None`` for null.

    A vector of length 1 (a constant) is repeated to ``length``.
    """
    kind = vector.kind
    values: list[Any]
    if kind is Kind.NODE:
        values = [NodeRef(id) for id in vector.data.tolist()]
    elif kind is Kind.RELATIONSHIP:
        values = [RelationshipRef(id) for id in vector.data.tolist()]
    else:
        values = vector.data.tolist()
    if vector.valid is not None:
        ok = vector.valid.tolist()
        values = [v if valid else None for v, valid in zip(values, ok, strict=True)]
    if length is not None and len(values) != length:
        assert len(values) == 1, "only a constant may be repeated"
        values = values * length
    return values


def objects(values: Sequence[Any], kind: Kind = Kind.OBJECT) -> Vector:
    """An OBJECT (or STRING) vector; lists are elements like any other."""
    return Vector(kind, np.fromiter(values, dtype=object, count=len(values)))


_DTYPES: dict[type, tuple[Kind, Any]] = {
    bool: (Kind.BOOL, np.bool_),
    int: (Kind.INT, np.int64),
    float: (Kind.FLOAT, np.float64),
}


def tighten(values: Sequence[Any]) -> Vector:
    """The tightest vector for Cypher values: as ``Vector.from_values``, and ids where all values
    are references of one kind (or null).

    Raises:
        CypherArgumentError: an integer does not fit 64 bits.
    """
    types = set(map(type, values))
    nulls = type(None) in types
    if nulls:
        types.discard(type(None))
    if len(types) != 1:
        return objects(values)
    (cls,) = types
    if cls is str:
        return objects(values, Kind.STRING)
    valid = None
    if nulls:
        valid = np.fromiter((v is not None for v in values), dtype=np.bool_, count=len(values))
    if cls is NodeRef or cls is RelationshipRef:
        kind = Kind.NODE if cls is NodeRef else Kind.RELATIONSHIP
        ids = [0 if v is None else v.id for v in values] if nulls else [v.id for v in values]
        return Vector(kind, np.array(ids, dtype=np.int64), valid)
    if cls not in _DTYPES:
        return objects(values)
    kind, dtype = _DTYPES[cls]
    filled = [0 if v is None else v for v in values] if nulls else values
    try:
        return Vector(kind, np.array(filled, dtype=dtype), valid)
    except OverflowError:
        raise CypherArgumentError("An integer does not fit 64 bits: use a Float.") from None


# ----------------------------------------------------------------------------- leaving the engine


class EntitySource(Protocol):
    """What materialising needs of a root."""

    def nodes(self, ids: IntArray, /) -> list[Node]: ...
    def relationships(self, ids: IntArray, /) -> list[Relationship]: ...


def materialise(value: Any, root: EntitySource) -> Any:
    """One engine value as a client sees it: references resolved, containers copied."""
    return materialise_column(Vector.objects([value]), root)[0]


def materialise_column(
    vector: Vector, root: EntitySource, deadline_check: Callable[[], None] | None = None
) -> list[Any]:
    """A column as Python values for the client.

    ``deadline_check`` is called between large values.

    Raises:
        LimitError: a value nests deeper or holds more elements than a value may.
    """
    kind = vector.kind
    if kind is Kind.NODE or kind is Kind.RELATIONSHIP:
        fetch: Any = root.nodes if kind is Kind.NODE else root.relationships
        if vector.valid is None:
            return list(fetch(vector.data))
        present = iter(fetch(vector.data[vector.valid]))
        return [next(present) if ok else None for ok in vector.valid.tolist()]
    values = vector.to_list()
    if kind is not Kind.OBJECT:
        return values
    nodes: set[int] = set()
    relationships: set[int] = set()
    found_any = False
    since_check = 0
    for value in values:
        work = Work()
        if _collect(value, nodes, relationships, work):
            found_any = True
        since_check += work.elements
        if since_check > _CHECK_ELEMENTS and deadline_check is not None:
            deadline_check()
            since_check = 0
    if not found_any:
        return values
    node_ids, relationship_ids = sorted(nodes), sorted(relationships)
    node_of = dict(zip(node_ids, root.nodes(np.array(node_ids, np.int64)), strict=True))
    found = root.relationships(np.array(relationship_ids, np.int64))
    relationship_of = dict(zip(relationship_ids, found, strict=True))
    return [_resolve(value, node_of, relationship_of) for value in values]


# A few milliseconds of walking.
_CHECK_ELEMENTS = 50_000


def _collect(value: Any, nodes: set[int], relationships: set[int], work: Work) -> bool:
    """Gather the ids a value refers to; whether there are any."""
    cls = type(value)
    if cls is NodeRef:
        nodes.add(value.id)
        return True
    if cls is RelationshipRef:
        relationships.add(value.id)
        return True
    if cls is PathRef:
        nodes.update(value.nodes)
        relationships.update(value.relationships)
        return True
    if cls is list or cls is tuple or cls is dict:
        work.enter(len(value))
        items = value.values() if cls is dict else value
        found = False
        for item in items:
            if _collect(item, nodes, relationships, work):
                found = True
        work.level -= 1
        return found
    return False


def _resolve(value: Any, nodes: dict[int, Node], relationships: dict[int, Relationship]) -> Any:
    cls = type(value)
    if cls is NodeRef:
        return nodes[value.id]
    if cls is RelationshipRef:
        return relationships[value.id]
    if cls is PathRef:
        return Path(
            tuple(nodes[id] for id in value.nodes),
            tuple(relationships[id] for id in value.relationships),
        )
    if cls is list or cls is tuple:
        return [_resolve(item, nodes, relationships) for item in value]
    if cls is dict:
        return {key: _resolve(item, nodes, relationships) for key, item in value.items()}
    return value
