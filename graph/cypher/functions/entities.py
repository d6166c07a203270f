"""Functions of nodes, relationships and paths: id, labels, type, properties, nodes, length ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graph.cypher.evaluation import Context
from graph.cypher.expressions_basic import check_alive, type_names
from graph.cypher.expressions_collections import properties_of
from graph.cypher.functions.definition import Family, wrong_type
from graph.cypher.references import NodeRef, PathRef, RelationshipRef, tighten
from graph.vector import Kind, Vector

__all__ = ["FAMILY"]

FAMILY = Family()

_ENTITIES = (Kind.NODE, Kind.RELATIONSHIP)


def _ids(context: Context, arguments: Sequence[Vector], length: int) -> Vector | None:
    vector = arguments[0]
    if vector.kind in _ENTITIES and len(vector) == length:
        return Vector(Kind.INT, vector.data, vector.valid)
    return None


@FAMILY.add("id", 1, vector=_ids)
def entity_id(value: Any) -> int:
    if isinstance(value, (NodeRef, RelationshipRef)):
        return value.id
    raise wrong_type("id", "a Node or Relationship", value)


@FAMILY.add("elementId", 1)
def element_id(value: Any) -> str:
    if isinstance(value, (NodeRef, RelationshipRef)):
        return str(value.id)
    raise wrong_type("elementId", "a Node or Relationship", value)


@FAMILY.add("labels", 1, needs_context=True)
def labels(context: Context, value: Any) -> list[str]:
    if not isinstance(value, NodeRef):
        raise wrong_type("labels", "a Node", value)
    found = list(context.root.labels_of(value.id))
    if not found and context.check_deleted:
        check_alive(tighten([value]), np.ones(1, np.bool_), context)
    return found


def _types(context: Context, arguments: Sequence[Vector], length: int) -> Vector | None:
    vector = arguments[0]
    if vector.kind is not Kind.RELATIONSHIP or len(vector) != length:
        return None
    names = type_names(vector.data, context)
    if vector.valid is not None:
        names = [n if ok else None for n, ok in zip(names, vector.valid.tolist(), strict=True)]
    return Vector.objects(names, Kind.STRING)


@FAMILY.add("type", 1, needs_context=True, vector=_types)
def relationship_type(context: Context, value: Any) -> str | None:
    if not isinstance(value, RelationshipRef):
        raise wrong_type("type", "a Relationship", value)
    return type_names(np.array([value.id], np.int64), context)[0]


@FAMILY.add("properties", 1, needs_context=True)
def properties(context: Context, value: Any) -> dict[str, Any] | None:
    return properties_of(value, context)


@FAMILY.add("keys", 1, needs_context=True)
def keys(context: Context, value: Any) -> list[str]:
    return list(properties_of(value, context) or ())


def _end(arguments: Sequence[Vector], length: int, context: Context, end: int) -> Vector | None:
    vector = arguments[0]
    if vector.kind is not Kind.RELATIONSHIP or len(vector) != length:
        return None
    return Vector(Kind.NODE, context.root.relationship_ends(vector.data)[end], vector.valid)


def _end_of(context: Context, value: Any, end: int, name: str) -> NodeRef:
    if not isinstance(value, RelationshipRef):
        raise wrong_type(name, "a Relationship", value)
    ends = context.root.relationship_ends(np.array([value.id], np.int64))
    return NodeRef(int(ends[end][0]))


@FAMILY.add(
    "startNode", 1, needs_context=True, vector=lambda context, args, n: _end(args, n, context, 0)
)
def start_node(context: Context, value: Any) -> NodeRef:
    return _end_of(context, value, 0, "startNode")


@FAMILY.add(
    "endNode", 1, needs_context=True, vector=lambda context, args, n: _end(args, n, context, 1)
)
def end_node(context: Context, value: Any) -> NodeRef:
    return _end_of(context, value, 1, "endNode")


@FAMILY.add("nodes", 1)
def path_nodes(value: Any) -> list[NodeRef]:
    if not isinstance(value, PathRef):
        raise wrong_type("nodes", "a Path", value)
    return [NodeRef(id) for id in value.nodes]


@FAMILY.add("relationships rels", 1)
def path_relationships(value: Any) -> list[RelationshipRef]:
    if not isinstance(value, PathRef):
        raise wrong_type("relationships", "a Path", value)
    return [RelationshipRef(id) for id in value.relationships]


@FAMILY.add("length", 1)
def path_length(value: Any) -> int:
    if not isinstance(value, PathRef):
        raise wrong_type("length", "a Path", value)
    return len(value.relationships)
