"""Whether a write set may be applied to a root. Nothing is changed here.

The write set is judged by its outcome: after all of it, no relationship dangles, no constraint is
broken. Each operation must besides find what it refers to: an entity that is alive in the root
or created earlier in the write set. A transaction that ran on an older root may fail here,
because the entity is gone (``ConflictError``: retry) or a key is taken (``ConstraintError``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graph.errors import ConflictError, ConstraintError, GraphError
from graph.index_reads import IndexReads
from graph.indexes import Index
from graph.keys import Key, keys_of, tuple_key
from graph.limits import ID_MAX
from graph.vector import BoolArray, IntArray
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

__all__ = ["validate"]


def validate(root: IndexReads, write_set: WriteSet) -> None:
    """Raise ``ConflictError``, ``ConstraintError`` or ``GraphError`` if ``root`` must refuse it."""
    operations = write_set.operations
    if len(operations) == 1 and isinstance(operations[0], CreateNodes):
        _check_new_ids(operations[0].ids, root.nodes_alive(operations[0].ids), "node")
        created_only = True
    else:
        created_only = _References(root, len(operations) > 1).check(write_set)
    for index in root.schema.unique:
        if created_only:
            _check_unique_creations(root, index, write_set)
        else:
            _check_unique(root, index, write_set)


class _References:
    """One pass over the operations: does each refer to what exists, does nothing dangle?"""

    def __init__(self, root: IndexReads, several: bool) -> None:
        self.root = root
        self.several = several
        self.nodes_created: set[int] = set()
        self.nodes_deleted: set[int] = set()
        self.relationships_created: dict[int, tuple[int, int]] = {}
        self.relationships_deleted: set[int] = set()

    def check(self, write_set: WriteSet) -> bool:
        """True if no existing node changes label or property and none is deleted."""
        created_only = True
        deletes = any(isinstance(op, DeleteNodes) for op in write_set.operations)
        for op in write_set.operations:
            if isinstance(op, CreateNodes):
                self._new_nodes(op)
            elif isinstance(op, CreateRelationships):
                self._new_relationships(op, deletes)
            elif isinstance(op, (SetRelationshipProperty, DeleteRelationships)):
                self._known_relationships(op.ids)
                if isinstance(op, DeleteRelationships):
                    self.relationships_deleted.update(op.ids.tolist())
            elif isinstance(op, (SetNodeProperty, AddLabel, RemoveLabel, DeleteNodes)):
                created_only = False
                self._known_nodes(op.ids)
                if isinstance(op, DeleteNodes):
                    self.nodes_deleted.update(op.ids.tolist())
        if deletes:
            self._nothing_dangles(write_set)
        return created_only

    def _new_nodes(self, op: CreateNodes) -> None:
        ids = op.ids
        _check_new_ids(ids, self.root.nodes_alive(ids), "node")
        if self.several:
            new = ids.tolist()
            if not self.nodes_created.isdisjoint(new):
                raise GraphError("a write set creates one node twice")
            self.nodes_created.update(new)

    def _new_relationships(self, op: CreateRelationships, deletes: bool) -> None:
        ids = op.ids
        _check_new_ids(ids, self.root.relationships_alive(ids), "relationship")
        self._known_nodes(op.sources)
        self._known_nodes(op.targets)
        if self.several:
            new = ids.tolist()
            if not self.relationships_created.keys().isdisjoint(new):
                raise GraphError("a write set creates one relationship twice")
            ends = zip(op.sources.tolist(), op.targets.tolist(), strict=True)
            self.relationships_created.update(zip(new, ends, strict=True))

    def _known_nodes(self, ids: IntArray) -> None:
        alive = self.root.nodes_alive(ids)
        if not alive.all():
            missing = ids[~alive].tolist()
            if not self.nodes_created.issuperset(missing):
                gone = next(i for i in missing if i not in self.nodes_created)
                raise ConflictError(f"node {gone} does not exist any more; retry the transaction")

    def _known_relationships(self, ids: IntArray) -> None:
        alive = self.root.relationships_alive(ids)
        if not alive.all():
            missing = ids[~alive].tolist()
            if not self.relationships_created.keys() >= set(missing):
                gone = next(i for i in missing if i not in self.relationships_created)
                raise ConflictError(
                    f"relationship {gone} does not exist any more; retry the transaction"
                )

    def _nothing_dangles(self, write_set: WriteSet) -> None:
        """No deleted node keeps a relationship, old or new."""
        deleted = self.nodes_deleted
        gone = self.relationships_deleted
        for op in write_set.operations:
            if isinstance(op, DeleteNodes):
                rows, relationships, _ = self.root.expand(op.ids, "both", None)
                for row, relationship in zip(rows.tolist(), relationships.tolist(), strict=True):
                    if relationship not in gone:
                        raise _still_connected(op.ids.item(row))
        for relationship, (source, target) in self.relationships_created.items():
            if relationship not in gone and (source in deleted or target in deleted):
                raise _still_connected(source if source in deleted else target)


def _still_connected(node: int) -> ConstraintError:
    return ConstraintError(
        f"Cannot delete node<{node}>, because it still has relationships. To delete this node, "
        "you must first delete its relationships."
    )


def _check_new_ids(ids: IntArray, alive: BoolArray, what: str) -> None:
    if len(ids) == 1:
        new = ids.item(0)
        if not 0 <= new < ID_MAX:
            raise GraphError(f"{what} id {new} is not in 0 .. {ID_MAX - 1}")
        if alive.item(0):
            raise GraphError(f"{what} {new} exists already; ids are never used twice")
        return
    if int(ids.min()) < 0 or int(ids.max()) >= ID_MAX:
        raise GraphError(f"{what} ids must be in 0 .. {ID_MAX - 1}")
    if alive.any():
        raise GraphError(f"{what} {ids[alive].item(0)} exists already; ids are never used twice")
    if not (ids[1:] > ids[:-1]).all() and len(np.unique(ids)) != len(ids):
        raise GraphError(f"an operation creates one {what} twice")


# uniqueness


def created_keys(index: Index, op: CreateNodes) -> list[Key | None] | None:
    """The index keys of created nodes; None if the operation does not concern the index."""
    info = index.info
    if info.label not in op.labels:
        return None
    columns = [op.properties.get(name) for name in info.properties]
    vectors = [vector for vector in columns if vector is not None]
    if len(vectors) < len(columns):
        return None
    keys = [keys_of(vector) for vector in vectors]
    if len(keys) == 1:
        return keys[0]
    return [None if None in row else row for row in zip(*keys, strict=True)]


def _check_unique_creations(root: IndexReads, index: Index, write_set: WriteSet) -> None:
    """The write set only creates: every key must be new, here and in the root."""
    claims: dict[Key, int] = {}
    for op in write_set.operations:
        if not isinstance(op, CreateNodes):
            continue
        keys = created_keys(index, op)
        if keys is None:
            continue
        _claim(index, claims, keys, op.ids.tolist())
    if claims and not index.entries.keys().isdisjoint(claims):
        for key, node in claims.items():
            for other in root.lookup_key(index, key):
                if other != node:
                    raise _taken(index, other, key)


def _claim(
    index: Index, claims: dict[Key, int], keys: Sequence[Key | None], nodes: list[int]
) -> None:
    for key, node in zip(keys, nodes, strict=True):
        if key is not None and claims.setdefault(key, node) != node:
            raise _taken(index, claims[key], key)


def _check_unique(root: IndexReads, index: Index, write_set: WriteSet) -> None:
    """The general case: compare the final states of all nodes that the write set affects."""
    affected = _affected(index, write_set)
    if not affected:
        return
    final = _final_states(root, index, write_set, affected)
    claims: dict[Key, int] = {}
    for node, (has_label, values) in final.items():
        if has_label:
            key = tuple_key(tuple(values))
            if key is not None:
                _claim(index, claims, [key], [node])
    deleted: set[int] = set()
    for op in write_set.operations:
        if isinstance(op, DeleteNodes):
            deleted.update(op.ids.tolist())
    for key, node in claims.items():
        for other in root.lookup_key(index, key):
            if other != node and other not in affected and other not in deleted:
                raise _taken(index, other, key)


def _affected(index: Index, write_set: WriteSet) -> dict[int, None]:
    """Nodes whose entry in the index may change, in order of first mention."""
    info = index.info
    affected: dict[int, None] = {}
    for op in write_set.operations:
        concerned = (
            (isinstance(op, CreateNodes) and info.label in op.labels)
            or (isinstance(op, (AddLabel, RemoveLabel)) and op.label == info.label)
            or (isinstance(op, SetNodeProperty) and op.key in info.properties)
        )
        if concerned and not isinstance(op, (*_NOT_NODES,)):
            affected.update(dict.fromkeys(op.ids.tolist()))  # type: ignore[union-attr]
    return affected


_NOT_NODES = (CreateRelationships, SetRelationshipProperty, DeleteRelationships)


def _final_states(
    root: IndexReads, index: Index, write_set: WriteSet, affected: dict[int, None]
) -> dict[int, tuple[bool, list[Any]]]:
    """Label and property values of each affected node after the write set."""
    info = index.info
    nodes = np.array(list(affected), dtype=np.int64)
    labelled = root.has_label(nodes, info.label).tolist()
    columns = [root.node_property(nodes, name).to_list() for name in info.properties]
    states: dict[int, list[Any]] = {}
    for row, node in enumerate(affected):
        states[node] = [labelled[row], [column[row] for column in columns]]
    position = {name: number for number, name in enumerate(info.properties)}
    for op in write_set.operations:
        if isinstance(op, CreateNodes):
            for name, vector in op.properties.items():
                if name in position:
                    _overlay(states, op.ids, position[name], vector.to_list())
            if info.label in op.labels:
                _relabel(states, op.ids, True)
        elif isinstance(op, SetNodeProperty) and op.key in position:
            _overlay(states, op.ids, position[op.key], op.values.to_list())
        elif isinstance(op, (AddLabel, RemoveLabel)) and op.label == info.label:
            _relabel(states, op.ids, isinstance(op, AddLabel))
        elif isinstance(op, DeleteNodes):
            _relabel(states, op.ids, False)
    return {node: (state[0], state[1]) for node, state in states.items()}


def _overlay(states: dict[int, list[Any]], ids: IntArray, column: int, values: list[Any]) -> None:
    for node, value in zip(ids.tolist(), values, strict=True):
        if node in states:
            states[node][1][column] = value


def _relabel(states: dict[int, list[Any]], ids: IntArray, has_label: bool) -> None:
    for node in ids.tolist():
        if node in states:
            states[node][0] = has_label


def _taken(index: Index, node: int, key: Key) -> ConstraintError:
    info = index.info
    names = ", ".join([f"`{name}`" for name in info.properties])
    noun = "property" if len(info.properties) == 1 else "properties"
    return ConstraintError(
        f"Node({node}) already exists with label `{info.label}` and {noun} {names} = {key!r}"
    )
