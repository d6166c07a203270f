"""A naive property graph of dictionaries: what the storage must agree with, and how to compare.

The model is the specification in its plainest form. ``assert_same`` asks a root everything that
can be asked and compares with the model.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graph.keys import tuple_key
from graph.store import Root
from graph.vector import Vector
from graph.write_set import (
    AddLabel,
    CreateNodes,
    CreateRelationships,
    DeleteNodes,
    DeleteRelationships,
    RemoveLabel,
    SetNodeProperty,
    SetRelationshipProperty,
    WriteSet,
)


@dataclass
class ModelNode:
    labels: set[str] = field(default_factory=set)
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass
class ModelRelationship:
    type: str
    source: int
    target: int
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass
class Model:
    nodes: dict[int, ModelNode] = field(default_factory=dict)
    relationships: dict[int, ModelRelationship] = field(default_factory=dict)

    def copy(self) -> Model:
        return copy.deepcopy(self)

    def apply(self, write_set: WriteSet) -> None:
        for op in write_set:
            if isinstance(op, CreateNodes):
                for row, node in enumerate(op.ids.tolist()):
                    self.nodes[node] = ModelNode(set(op.labels), _row(op.properties, row))
            elif isinstance(op, CreateRelationships):
                for row, relationship in enumerate(op.ids.tolist()):
                    self.relationships[relationship] = ModelRelationship(
                        op.type,
                        op.sources.item(row),
                        op.targets.item(row),
                        _row(op.properties, row),
                    )
            elif isinstance(op, SetNodeProperty):
                _set(self.nodes, op.ids.tolist(), op.key, op.values)
            elif isinstance(op, SetRelationshipProperty):
                _set(self.relationships, op.ids.tolist(), op.key, op.values)
            elif isinstance(op, AddLabel):
                for node in op.ids.tolist():
                    if node in self.nodes:
                        self.nodes[node].labels.add(op.label)
            elif isinstance(op, RemoveLabel):
                for node in op.ids.tolist():
                    if node in self.nodes:
                        self.nodes[node].labels.discard(op.label)
            elif isinstance(op, DeleteNodes):
                for node in op.ids.tolist():
                    self.nodes.pop(node, None)
            elif isinstance(op, DeleteRelationships):
                for relationship in op.ids.tolist():
                    self.relationships.pop(relationship, None)

    def duplicates(self, label: str, keys: tuple[str, ...]) -> bool:
        """Whether two nodes with the label have the same key."""
        seen = set()
        for node in self.nodes.values():
            if label in node.labels and all(key in node.properties for key in keys):
                key = tuple_key(tuple(node.properties[name] for name in keys))
                if key is not None and key in seen:
                    return True
                seen.add(key)
        return False

    def dangling(self) -> bool:
        return any(
            r.source not in self.nodes or r.target not in self.nodes
            for r in self.relationships.values()
        )


def _row(properties: dict[str, Vector], row: int) -> dict[str, Any]:
    values = {key: vector.to_list()[row] for key, vector in properties.items()}
    return {key: value for key, value in values.items() if value is not None}


def _set(entities: dict[int, Any], ids: list[int], key: str, values: Vector) -> None:
    for entity, value in zip(ids, values.to_list(), strict=True):
        if entity in entities:
            if value is None:
                entities[entity].properties.pop(key, None)
            else:
                entities[entity].properties[key] = value


def same(left: Any, right: Any) -> bool:
    """Equality that tells 1 from 1.0 and True, and takes NaN for equal to itself."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return type(left) is type(right) and (left == right or (left != left and right != right))


def scanned(scan: Any, name: str | None, limit: int) -> list[int]:
    """All ids of a chunked scan."""
    found: list[int] = []
    start: int | None = 0
    while start is not None:
        ids, start = scan(name, start, limit)
        assert len(ids) <= limit
        found += ids.tolist()
    assert found == sorted(set(found))
    return found


def assert_same(root: Root, model: Model, limit: int = 7) -> None:
    """The root answers every question as the model does."""
    nodes = sorted(model.nodes)
    relationships = sorted(model.relationships)
    assert root.node_count == len(nodes)
    assert root.relationship_count == len(relationships)
    assert scanned(root.scan_nodes, None, limit) == nodes
    assert scanned(root.scan_relationships, None, limit) == relationships
    _assert_labels(root, model, nodes, limit)
    asked = np.array([*nodes, 3, 10**9, 5000, -1], dtype=np.int64)
    _assert_properties(root, model, asked)
    _assert_types(root, model, relationships, limit)
    for types in (None, ("R",), ("S", "R", "nothing")):
        for direction in ("out", "in", "both"):
            _assert_expand(root, model, asked, direction, types)
    for index in root.indexes():
        if index.properties:
            _assert_index(root, model, index)


def _assert_labels(root: Root, model: Model, nodes: list[int], limit: int) -> None:
    used = {label for node in model.nodes.values() for label in node.labels}
    assert set(root.labels()) == used
    ids = np.array([*nodes, 10**9], dtype=np.int64)
    for label in (*used, "nothing"):
        members = [node for node in nodes if label in model.nodes[node].labels]
        assert scanned(root.scan_nodes, label, limit) == members
        assert root.label_count(label) == len(members)
        assert ids[root.has_label(ids, label)].tolist() == members
    for node in nodes:
        labels = root.labels_of(node)
        assert set(labels) == model.nodes[node].labels
        assert list(labels) == sorted(labels, key=lambda name: root.label_id(name) or 0)


def _assert_properties(root: Root, model: Model, asked: Any) -> None:
    keys = {key for node in model.nodes.values() for key in node.properties}
    keys |= {key for entity in model.relationships.values() for key in entity.properties}
    assert set(root.keys()) == keys
    for key in (*keys, "nothing"):
        expected = [
            model.nodes[node].properties.get(key) if node in model.nodes else None
            for node in asked.tolist()
        ]
        assert same(root.node_property(asked, key).to_list(), expected)
        for row in range(0, len(asked), 5):
            one = root.node_property(asked[row : row + 1], key).to_list()
            assert same(one, expected[row : row + 1])
    for got in (root.nodes(asked), [root.node(node) for node in asked.tolist()]):
        for node in got:
            known = model.nodes.get(node.id, ModelNode())
            assert same(node.properties, known.properties)
            assert set(node.labels) == known.labels


def _assert_types(root: Root, model: Model, relationships: list[int], limit: int) -> None:
    used = {relationship.type for relationship in model.relationships.values()}
    assert set(root.types()) == used
    for name in (*used, "nothing"):
        of_type = [r for r in relationships if model.relationships[r].type == name]
        assert root.type_count(name) == len(of_type)
        assert scanned(root.scan_relationships, name, limit) == of_type
    ids = np.array(relationships, dtype=np.int64)
    if not len(ids):
        return
    sources, targets = root.relationship_ends(ids)
    assert root.relationships_alive(ids).all()
    types = [root.type_name(number) for number in root.relationship_types(ids).tolist()]
    for row, relationship in enumerate(relationships):
        known = model.relationships[relationship]
        assert (types[row], sources.item(row), targets.item(row)) == (
            known.type,
            known.source,
            known.target,
        )
    for relationship in [*root.relationships(ids), root.relationship(relationships[0])]:
        known = model.relationships[relationship.id]
        assert (relationship.type, relationship.start, relationship.end) == (
            known.type,
            known.source,
            known.target,
        )
        assert same(relationship.properties, known.properties)


def _assert_expand(
    root: Root, model: Model, asked: Any, direction: str, types: tuple[str, ...] | None
) -> None:
    expected: dict[int, list[tuple[Any, ...]]] = {node: [] for node in asked.tolist()}
    for number, relationship in model.relationships.items():
        if types is not None and relationship.type not in types:
            continue
        order = root.type_id(relationship.type)
        if direction != "in":
            expected[relationship.source].append((order, 0, number, relationship.target))
        loop = relationship.source == relationship.target
        if direction != "out" and not (loop and direction == "both"):
            expected[relationship.target].append((order, 1, number, relationship.source))
    shuffled = asked[::-1] if len(asked) % 2 else asked
    asked = np.concatenate((shuffled, asked[:2]))
    want = [
        (row, number, neighbour)
        for row, node in enumerate(asked.tolist())
        for _, _, number, neighbour in sorted(expected[node])
    ]
    rows, numbers, neighbours = root.expand(asked, direction, types)
    assert list(zip(rows.tolist(), numbers.tolist(), neighbours.tolist(), strict=True)) == want
    degrees = [len(expected[node]) for node in asked.tolist()]
    assert root.degree(asked, direction, types).tolist() == degrees
    for row in range(0, len(asked), 3):
        rows, numbers, neighbours = root.expand(asked[row : row + 1], direction, types)
        assert rows.tolist() == [0] * degrees[row]
        of_row = [entry[1:] for entry in want if entry[0] == row]
        assert list(zip(numbers.tolist(), neighbours.tolist(), strict=True)) == of_row
        assert root.degree(asked[row : row + 1], direction, types).tolist() == [degrees[row]]


def _assert_index(root: Root, model: Model, index: Any) -> None:
    by_key: dict[Any, list[int]] = {}
    probes: dict[Any, tuple[Any, ...]] = {}
    for node in sorted(model.nodes):
        known = model.nodes[node]
        values = tuple(known.properties.get(name) for name in index.properties)
        probes.setdefault(repr(values), values)
        key = tuple_key(values)
        if index.label in known.labels and key is not None:
            by_key.setdefault(key, []).append(node)
    asked = list(probes.values())
    want = [
        (row, node)
        for row, values in enumerate(asked)
        for node in by_key.get(tuple_key(values), [])
    ]
    rows, nodes = root.index_lookup(index, asked)
    assert list(zip(rows.tolist(), nodes.tolist(), strict=True)) == want
    for values in asked:
        rows, nodes = root.index_lookup(index, [values])
        assert nodes.tolist() == by_key.get(tuple_key(values), [])
    if len(index.properties) == 1:
        _assert_range(root, by_key, index)


def _assert_range(root: Root, by_key: dict[Any, list[int]], index: Any) -> None:
    bounds = ((None, 2), (0, 5), (1.5, None), ("a", "b"), (None, "aa"), ("b", None), (1, 1))
    for low, high in bounds:
        for inclusive in (True, False):
            text = isinstance(low if low is not None else high, str)
            want = []
            for key, nodes in by_key.items():
                if isinstance(key, str) is text and isinstance(key, (int, float, str)):
                    above = low is None or (key >= low if inclusive else key > low)
                    below = high is None or (key <= high if inclusive else key < high)
                    want += nodes if above and below else []
            got = root.index_range(index, low, inclusive, high, inclusive)
            assert got.tolist() == sorted(want)
