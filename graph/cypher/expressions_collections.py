"""Lists and maps: literals, projection, index, slice, IN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graph.cypher import semantics
from graph.cypher.evaluation import Compiled, Context, bool_vector
from graph.cypher.expressions_basic import property_of, property_vector
from graph.cypher.references import NodeRef, RelationshipRef, boxed, objects, tighten
from graph.errors import CypherTypeError
from graph.vector import Chunk, Kind, Vector

__all__ = [
    "IndexNode",
    "ListNode",
    "MapNode",
    "MapProjectionNode",
    "MembershipNode",
    "SliceNode",
    "properties_of",
]


class ListNode(Compiled):
    """``[a, b, c]``."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Compiled]) -> None:
        super().__init__(*items)
        self.items = tuple(items)

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        if not self.items:
            return objects([[] for _ in range(length)])
        columns = [boxed(item.operand(chunk, context), length) for item in self.items]
        return objects([list(row) for row in zip(*columns, strict=True)])


class MapNode(Compiled):
    """``{key: value, ...}``."""

    __slots__ = ("keys", "values")

    def __init__(self, items: Sequence[tuple[str, Compiled]]) -> None:
        super().__init__(*(value for _, value in items))
        self.keys = tuple(key for key, _ in items)
        self.values = tuple(value for _, value in items)

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        if not self.keys:
            return objects([{} for _ in range(length)])
        columns = [boxed(value.operand(chunk, context), length) for value in self.values]
        keys = self.keys
        return objects([dict(zip(keys, row)) for row in zip(*columns)])  # noqa: B905


def properties_of(value: Any, context: Context) -> dict[str, Any] | None:
    """All properties of a node or relationship, or the map itself; ``None`` for null.

    Raises:
        CypherTypeError: any other value.
    """
    if value is None or isinstance(value, dict):
        return value
    found: dict[str, Any]
    if isinstance(value, NodeRef):
        found = context.root.node_properties(value.id)
    elif isinstance(value, RelationshipRef):
        found = context.root.relationship_properties(value.id)
    else:
        raise CypherTypeError(
            "Type mismatch: expected a Map, Node or Relationship but was "
            f"{semantics.type_name(value)}."
        )
    if not found and context.check_deleted:
        property_of(value, "", context)  # raises if the entity has been deleted
    return found


class MapProjectionNode(Compiled):
    """``subject {.key, .*, key: value}``; null where the subject is null."""

    __slots__ = ("items", "subject")

    def __init__(self, subject: Compiled, items: Sequence[tuple[str, Compiled | None]]) -> None:
        super().__init__(subject, *(value for _, value in items if value is not None))
        self.subject = subject
        self.items = tuple(items)

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        subject = self.subject.evaluate(chunk, context)
        subjects = boxed(subject)
        rows: list[dict[str, Any] | None] = [None if s is None else {} for s in subjects]
        for key, node in self.items:
            if node is None and key == "*":
                for row, value in zip(rows, subjects, strict=True):
                    if row is not None:
                        row.update(properties_of(value, context) or {})
                continue
            if node is None:
                column = boxed(property_vector(subject, key, context))
            else:
                column = boxed(node.operand(chunk, context), length)
            for row, value in zip(rows, column, strict=True):
                if row is not None:
                    row[key] = value
        return objects(rows)


class IndexNode(Compiled):
    """``subject[index]``: an element of a list (negative from the end), a value of a map, a
    property."""

    __slots__ = ("index", "subject")

    def __init__(self, subject: Compiled, index: Compiled) -> None:
        super().__init__(subject, index)
        self.subject = subject
        self.index = index

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        subject = self.subject.operand(chunk, context)
        index = self.index.operand(chunk, context)
        if subject.kind is Kind.NODE or subject.kind is Kind.RELATIONSHIP:
            key = boxed(index)[0] if len(index) == 1 else None
            if isinstance(key, str) and len(subject) == length:
                return property_vector(subject, key, context)
        pairs = zip(boxed(subject, length), boxed(index, length), strict=True)
        return tighten([_element(value, key, context) for value, key in pairs])


def _element(value: Any, key: Any, context: Context) -> Any:
    if isinstance(value, list) or type(value) is tuple:
        if key is None:
            return None
        if type(key) is not int:
            raise CypherTypeError(
                f"Cannot index a List with a {semantics.type_name(key)}: give an Integer."
            )
        return value[key] if -len(value) <= key < len(value) else None
    if value is None:
        return None
    if isinstance(value, (dict, NodeRef, RelationshipRef)):
        if key is None:
            return None
        if not isinstance(key, str):
            raise CypherTypeError(
                f"Cannot access a {semantics.type_name(value)} with a "
                f"{semantics.type_name(key)}: map elements are accessed by String keys."
            )
        return property_of(value, key, context)
    raise CypherTypeError(
        f"Cannot index a {semantics.type_name(value)}: expected a List, Map, Node or Relationship."
    )


class SliceNode(Compiled):
    """``subject[start..stop]``; null if an end that is given is null."""

    __slots__ = ("start", "stop", "subject")

    def __init__(self, subject: Compiled, start: Compiled | None, stop: Compiled | None) -> None:
        super().__init__(subject, *(end for end in (start, stop) if end is not None))
        self.subject = subject
        self.start = start
        self.stop = stop

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        subjects = boxed(self.subject.operand(chunk, context), length)
        missing = [_MISSING] * length
        starts = (
            missing if self.start is None else boxed(self.start.operand(chunk, context), length)
        )
        stops = missing if self.stop is None else boxed(self.stop.operand(chunk, context), length)
        rows = zip(subjects, starts, stops, strict=True)
        return objects([_slice(*row) for row in rows])


_MISSING: Any = object()


def _slice(value: Any, start: Any, stop: Any) -> list[Any] | None:
    if value is None or start is None or stop is None:
        return None
    if not isinstance(value, list) and type(value) is not tuple:
        raise CypherTypeError(
            f"Cannot take a slice of a {semantics.type_name(value)}: expected a List."
        )
    for end in (start, stop):
        if end is not _MISSING and type(end) is not int:
            raise CypherTypeError(
                f"The ends of a slice must be Integers, not {semantics.type_name(end)}."
            )
    first = None if start is _MISSING else start
    last = None if stop is _MISSING else stop
    return list(value[first:last])


# ----------------------------------------------------------------------------- membership


class _Members:
    """A list prepared for IN: hash keys for scalars, the rest one by one.

    For a scalar, equality and equivalence agree (but for NaN and null), so a look-up in a set of
    group keys decides; lists and maps may hold nulls, and go through ``equals``.
    """

    __slots__ = ("keys", "null", "others", "size")

    def __init__(self, items: Sequence[Any]) -> None:
        self.size = len(items)
        self.keys: set[Any] = set()
        self.others: list[Any] = []
        self.null = False
        for item in items:
            if item is None:
                self.null = True
            elif isinstance(item, dict) or semantics.rank_of(item) == semantics.LIST:
                self.others.append(item)
            elif item == item:  # NaN is equal to nothing
                self.keys.add(semantics.group_key(item))

    def contains(self, value: Any) -> bool | None:
        if value is None:
            return None if self.size else False
        if isinstance(value, dict) or semantics.rank_of(value) == semantics.LIST:
            unknown = self.null
            for item in self.others:
                equal = semantics.equals(value, item)
                if equal:
                    return True
                unknown = unknown or equal is None
            return None if unknown else False
        if semantics.group_key(value) in self.keys and value == value:
            return True
        return None if self.null else False


class MembershipNode(Compiled):
    """``left IN right``. A list that is one constant is hashed once per run."""

    __slots__ = ("left", "right")

    def __init__(self, left: Compiled, right: Compiled) -> None:
        super().__init__(left, right)
        self.left = left
        self.right = right

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        left = self.left.operand(chunk, context)
        if length and self.right.fixed(context):
            members = context.cache.get((self, "members"))
            if members is None:
                members = _members(self.right.value(context))
                context.cache[(self, "members")] = members
            return self._constant(left, members[0], length)
        values = boxed(left, length)
        lists = boxed(self.right.evaluate(chunk, context), length)
        return bool_vector([_is_member(v, items) for v, items in zip(values, lists, strict=True)])

    def _constant(self, left: Vector, members: _Members | None, length: int) -> Vector:
        if members is None:
            return Vector.nulls(Kind.BOOL, length)
        if left.kind is Kind.INT or left.kind is Kind.STRING:
            keys = members.keys  # ints and strings are their own keys
            if not members.null and left.kind is Kind.INT and left.valid is None:
                values = left.data.tolist()
                if len(values) == length > 1:
                    hits = map(keys.__contains__, values)
                    return Vector(Kind.BOOL, np.fromiter(hits, np.bool_, length))
            otherwise = None if members.null else False
            null = None if members.size else False
            found = [
                null if value is None else True if value in keys else otherwise
                for value in left.to_list()
            ]
        else:
            found = [members.contains(value) for value in boxed(left)]
        return bool_vector(found if len(found) == length else found * length)


def _members(items: Any) -> tuple[_Members | None]:
    """The prepared list, boxed so that a null list can be cached as well."""
    if items is None:
        return (None,)
    return (_Members(_checked_list(items)),)


def _checked_list(items: Any) -> Sequence[Any]:
    if isinstance(items, list) or type(items) is tuple:
        return items
    raise CypherTypeError(
        f"Type mismatch: IN needs a List on its right, not a {semantics.type_name(items)}."
    )


def _is_member(value: Any, items: Any) -> bool | None:
    """``value IN items`` for one row: ``any(equals)``, three-valued."""
    if items is None:
        return None
    unknown = False
    for item in _checked_list(items):
        equal = semantics.equals(value, item)
        if equal:
            return True
        unknown = unknown or equal is None
    return None if unknown else False
