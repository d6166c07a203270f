"""Leaves and access: literals, parameters, variables, properties, labels, IS NULL.

Access to a property of a NODE or RELATIONSHIP vector is one gather from the store for the whole
chunk. Anything else (maps, temporal values, points, references in mixed columns) goes row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from neo4j.spatial import Point, WGS84Point

from graph.cypher import semantics, temporal_values
from graph.cypher.evaluation import (
    REQUEST_COLUMN,
    Compiled,
    Context,
    bool_vector,
    dead_entity,
    missing_parameter,
    one_row,
    with_nulls,
)
from graph.cypher.references import NodeRef, RelationshipRef, boxed, tighten
from graph.errors import CypherArgumentError, CypherTypeError
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector

__all__ = [
    "ConstantFold",
    "HasLabelsNode",
    "IsNullNode",
    "LiteralNode",
    "ParameterNode",
    "PropertyNode",
    "VariableNode",
    "property_of",
    "repeat",
]


def repeat(vector: Vector, length: int) -> Vector:
    """A vector of length 1 as one of ``length`` rows; others unchanged."""
    if len(vector.data) == length:
        return vector
    assert len(vector.data) == 1, "only a constant may be repeated"
    valid = None if vector.valid is None else np.repeat(vector.valid, length)
    return Vector(vector.kind, np.repeat(vector.data, length), valid)


class LiteralNode(Compiled):
    """A literal; its vector of length 1 is made once, at compile time."""

    __slots__ = ("one",)

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.one = Vector.constant(value, 1)

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        return repeat(self.one, chunk.length)

    def operand(self, chunk: Chunk, context: Context) -> Vector:
        return self.one

    def value(self, context: Context) -> Any:
        return boxed(self.one)[0]


class ParameterNode(Compiled):
    """``$name``: one value for the run, or a column by request."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.parametric = True
        self.name = name

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        if context.parameter_columns is None:
            return repeat(self.operand(chunk, context), chunk.length)
        return self._batched(chunk, context)

    def operand(self, chunk: Chunk, context: Context) -> Vector:
        if context.parameter_columns is not None:
            return self._batched(chunk, context)
        cached: Vector | None = context.cache.get(self)
        if cached is None:
            cached = context.cache[self] = self._one(context.parameter(self.name))
        return cached

    def _one(self, value: Any) -> Vector:
        try:
            return Vector.constant(value, 1)
        except OverflowError:
            raise CypherArgumentError(
                f"Parameter ${self.name} does not fit a 64-bit integer."
            ) from None

    def _batched(self, chunk: Chunk, context: Context) -> Vector:
        assert context.parameter_columns is not None
        column = context.parameter_columns.get(self.name)
        if column is None:
            raise missing_parameter(self.name)
        return column.take(chunk.columns[REQUEST_COLUMN].data)

    def value(self, context: Context) -> Any:
        assert context.parameter_columns is None
        return context.parameter(self.name)


class ConstantFold(Compiled):
    """An operation on constants alone: computed once per run, and not before a row asks."""

    __slots__ = ("inner",)

    def __init__(self, inner: Compiled) -> None:
        super().__init__(inner)
        self.inner = inner

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        if not self.fixed(context):
            return self.inner.evaluate(chunk, context)
        return repeat(self.operand(chunk, context), chunk.length)

    def operand(self, chunk: Chunk, context: Context) -> Vector:
        if not self.fixed(context):
            return self.inner.evaluate(chunk, context)
        if chunk.length == 0:
            return Vector.nulls(Kind.OBJECT, 0)
        cached: Vector | None = context.cache.get(self)
        if cached is None:
            cached = context.cache[self] = self.inner.evaluate(one_row(), context)
        return cached

    def value(self, context: Context) -> Any:
        return boxed(self.operand(one_row(), context))[0]


class VariableNode(Compiled):
    """A column of the chunk."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.constant = False
        self.name = name

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        return chunk.columns[self.name]


class PropertyNode(Compiled):
    """``subject.key``."""

    __slots__ = ("key", "subject")

    def __init__(self, subject: Compiled, key: str) -> None:
        super().__init__(subject)
        self.subject = subject
        self.key = key

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        subject = self.subject.evaluate(chunk, context)
        return property_vector(subject, self.key, context)


def property_vector(subject: Vector, key: str, context: Context) -> Vector:
    """``subject.key`` for a whole vector."""
    kind = subject.kind
    if kind is Kind.NODE or kind is Kind.RELATIONSHIP:
        root = context.root
        found: Vector
        if kind is Kind.NODE:
            found = root.node_property(subject.data, key)
        else:
            found = root.relationship_property(subject.data, key)
        if subject.valid is not None:
            found = with_nulls(found, subject.valid)
        if context.check_deleted and has_nulls(found):
            check_alive(subject, found.null_mask(), context)
        return found
    values = boxed(subject)
    try:
        # A column of maps, as UNWIND of a list of maps makes: one tight loop.
        return tighten(
            [value.get(key) if value.__class__ is dict else _raise() for value in values]
        )
    except _NotMapError:
        pass
    entities = tighten(values) if kind is Kind.OBJECT else subject
    if entities.kind is Kind.NODE or entities.kind is Kind.RELATIONSHIP:
        return property_vector(entities, key, context)
    return tighten([property_of(value, key, context) for value in values])


class _NotMapError(Exception):
    """Leaves the loop over maps at the first value that is none."""


def _raise() -> Any:
    raise _NotMapError


def has_nulls(vector: Vector) -> bool:
    """Whether any element is null."""
    if vector.kind < Kind.STRING:
        return vector.valid is not None and not vector.valid.all()
    return any(value is None for value in vector.data.tolist())


def check_alive(subject: Vector, concerned: BoolArray, context: Context) -> None:
    """Raise if an entity of ``subject``, in a row concerned, has been deleted."""
    if subject.valid is not None:
        concerned = concerned & subject.valid
    ids: IntArray = subject.data[concerned]
    if not len(ids):
        return
    node = subject.kind is Kind.NODE
    alive = context.root.nodes_alive(ids) if node else context.root.relationships_alive(ids)
    if not alive.all():
        raise dead_entity(subject.kind, int(ids[~alive][0]))


def property_of(value: Any, key: str, context: Context) -> Any:
    """``value.key`` of one value.

    Raises:
        CypherTypeError: the value has no properties.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, (NodeRef, RelationshipRef)):
        return boxed(property_vector(tighten([value]), key, context))[0]
    if semantics.is_temporal(value):
        return temporal_values.component(value, key)
    if isinstance(value, Point):
        return _point_component(value, key)
    raise CypherTypeError(
        f"Type mismatch: cannot read property `{key}` of a {semantics.type_name(value)}: expected "
        "a Map, Node, Relationship, Point or temporal value."
    )


def _point_component(point: Point, key: str) -> Any:
    axis = {"x": 0, "longitude": 0, "y": 1, "latitude": 1, "z": 2, "height": 2}.get(key)
    geographic = isinstance(point, WGS84Point)
    if axis is not None:
        if key in ("longitude", "latitude", "height") and not geographic:
            return None
        return point[axis] if axis < len(point) else None
    if key == "srid":
        return getattr(point, "srid", None)
    if key == "crs":
        return ("wgs-84" if geographic else "cartesian") + ("-3d" if len(point) == 3 else "")
    return None


class HasLabelsNode(Compiled):
    """``n:A:B``: all labels of a node; the type of a relationship."""

    __slots__ = ("labels", "subject")

    def __init__(self, subject: Compiled, labels: tuple[str, ...]) -> None:
        super().__init__(subject)
        self.subject = subject
        self.labels = labels

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        subject = self.subject.evaluate(chunk, context)
        if subject.kind is Kind.OBJECT:
            subject = tighten(boxed(subject))
        root = context.root
        if subject.kind is Kind.NODE:
            has: BoolArray = root.has_label(subject.data, self.labels[0])
            for label in self.labels[1:]:
                has = has & root.has_label(subject.data, label)
            return Vector(Kind.BOOL, has, subject.valid)
        if subject.kind is Kind.RELATIONSHIP:
            names = type_names(subject.data, context)
            same = [all(label == name for label in self.labels) for name in names]
            return Vector(Kind.BOOL, np.array(same, dtype=np.bool_), subject.valid)
        return bool_vector([self._of(value, context) for value in boxed(subject)])

    def _of(self, value: Any, context: Context) -> bool | None:
        if value is None:
            return None
        if isinstance(value, NodeRef):
            return set(self.labels) <= set(context.root.labels_of(value.id))
        if isinstance(value, RelationshipRef):
            return {type_names(np.array([value.id]), context)[0]} == set(self.labels)
        raise CypherTypeError(
            f"Type mismatch: expected a Node or Relationship but was {semantics.type_name(value)}."
        )


def type_names(ids: IntArray, context: Context) -> list[str | None]:
    """The types of relationships, each name looked up once."""
    types = context.root.relationship_types(ids).tolist()
    names = {type: context.root.type_name(type) for type in set(types) if type >= 0}
    graves = context.graves
    if graves is not None and -1 in types:
        pairs = zip(ids.tolist(), types, strict=True)
        return [names[type] if type >= 0 else graves.type_of(id) for id, type in pairs]
    return [names.get(type) for type in types]


class IsNullNode(Compiled):
    """``IS NULL``, ``IS NOT NULL``."""

    __slots__ = ("negated", "operand_node")

    def __init__(self, operand: Compiled, negated: bool) -> None:
        super().__init__(operand)
        self.operand_node = operand
        self.negated = negated

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        nulls = self.operand_node.evaluate(chunk, context).null_mask()
        return Vector(Kind.BOOL, ~nulls if self.negated else nulls)
