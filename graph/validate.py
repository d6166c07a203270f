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

from graph.bitmaps import Bitmap
from graph.distinct import among, distinct
from graph.errors import ConflictError, ConstraintError, GraphError
from graph.index_reads import IndexReads
from graph.indexes import Index
from graph.keys import Key, keys_of, tuple_key
from graph.limits import ID_MAX
from graph.relationships import RelationshipTable
from graph.vector import IntArray
from graph.write_set import (
    AddLabel,
    CreateNodes,
    CreateRelationships,
    DeleteNodes,
    DeleteRelationships,
    Operation,
    RemoveLabel,
    SetNodeProperty,
    SetRelationshipProperty,
    WriteSet,
)

__all__ = ["check_free", "check_new_id", "created_keys", "validate"]


def validate(root: IndexReads, write_set: WriteSet) -> None:
    """Raise ``ConflictError``, ``ConstraintError`` or ``GraphError`` if ``root`` must refuse it."""
    created_only = _References(root, write_set).check()
    for index in root.schema.unique:
        if created_only:
            _check_unique_creations(root, index, write_set)
        else:
            _check_unique(root, index, write_set)


def _ids_of(
    operations: Sequence[Operation], kind: type[DeleteNodes] | type[DeleteRelationships]
) -> IntArray:
    """The ids of all operations of one kind, ascending, each once."""
    arrays = [op.ids for op in operations if isinstance(op, kind)]
    return distinct(np.concatenate(arrays)) if arrays else np.zeros(0, dtype=np.int64)


class _Created:
    """Ids that a write set has created so far."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.arrays: list[IntArray] = []
        self._members: set[int] = set()
        self._entered = 0  # arrays that are in ``_members``

    def missing(self, ids: IntArray) -> int | None:
        """One of ``ids`` that was not created here, None if all were."""
        for array in self.arrays[-4:]:  # most often: the whole range created just before
            low, high = array.item(0), array.item(-1)
            if high - low == len(array) - 1:
                ids = ids[(ids < low) | (ids > high)]
                if not len(ids):
                    return None
        for array in self.arrays[self._entered :]:
            self._members.update(array.tolist())
        self._entered = len(self.arrays)
        return next((i for i in ids.tolist() if i not in self._members), None)

    def check_distinct(self) -> None:
        if len(self.arrays) > 1:
            ids = np.concatenate(self.arrays)
            if len(distinct(ids)) != len(ids):
                raise GraphError(f"a write set creates one {self.what} twice")


class _References:
    """One pass over the operations: does each refer to what exists, does nothing dangle?"""

    def __init__(self, root: IndexReads, write_set: WriteSet) -> None:
        self.root = root
        self.operations = write_set.operations
        self.nodes = _Created("node")
        self.relationships = _Created("relationship")

    def check(self) -> bool:
        """True if no existing node changes label or property and none is deleted."""
        created_only = True
        deletes = False
        for op in self.operations:
            if isinstance(op, CreateNodes):
                check_new_ids(op.ids, self.root.alive, "node")
                self.nodes.arrays.append(op.ids)
            elif isinstance(op, CreateRelationships):
                check_new_ids(op.ids, self.root.table, "relationship")
                self._known_nodes(op.sources)
                self._known_nodes(op.targets)
                self.relationships.arrays.append(op.ids)
            elif isinstance(op, (SetRelationshipProperty, DeleteRelationships)):
                self._known_relationships(op.ids)
            elif isinstance(op, (SetNodeProperty, AddLabel, RemoveLabel, DeleteNodes)):
                created_only = False
                deletes = deletes or isinstance(op, DeleteNodes)
                self._known_nodes(op.ids)
        self.nodes.check_distinct()
        self.relationships.check_distinct()
        if deletes:
            self._nothing_dangles()
        return created_only

    def _known_nodes(self, ids: IntArray) -> None:
        if len(ids) == 1 and ids.item(0) in self.root.alive:
            return
        alive = self.root.nodes_alive(ids)
        gone = None if alive.all() else self.nodes.missing(ids[~alive])
        if gone is not None:
            raise ConflictError(f"node {gone} does not exist any more; retry the transaction")

    def _known_relationships(self, ids: IntArray) -> None:
        alive = self.root.relationships_alive(ids)
        gone = None if alive.all() else self.relationships.missing(ids[~alive])
        if gone is not None:
            raise ConflictError(
                f"relationship {gone} does not exist any more; retry the transaction"
            )

    def _nothing_dangles(self) -> None:
        """No deleted node keeps a relationship, old or new."""
        nodes = _ids_of(self.operations, DeleteNodes)
        gone = _ids_of(self.operations, DeleteRelationships)
        for op in self.operations:
            if isinstance(op, DeleteNodes):
                rows, relationships, _ = self.root.expand(op.ids, "both", None)
                left = ~among(relationships, gone)
                if left.any():
                    raise _still_connected(op.ids.item(rows[left].item(0)))
            elif isinstance(op, CreateRelationships):
                left = ~among(op.ids, gone)
                for ends in (op.sources[left], op.targets[left]):
                    hit = among(ends, nodes)
                    if hit.any():
                        raise _still_connected(ends[hit].item(0))


def _still_connected(node: int) -> ConstraintError:
    return ConstraintError(
        f"Cannot delete node<{node}>, because it still has relationships. To delete this node, "
        "you must first delete its relationships."
    )


def check_new_id(new: int, alive: bool, what: str) -> None:
    """Raise ``GraphError`` unless one id can be given to something new."""
    if not 0 <= new < ID_MAX:
        raise GraphError(f"{what} id {new} is not in 0 .. {ID_MAX - 1}")
    if alive:
        raise GraphError(f"{what} {new} exists already; ids are never used twice")


def check_new_ids(ids: IntArray, known: Bitmap | RelationshipTable, what: str) -> None:
    """Raise ``GraphError`` unless all ids of an operation can be given to something new."""
    if len(ids) == 1:
        check_new_id(ids.item(0), ids.item(0) in known, what)
        return
    if int(ids.min()) < 0 or int(ids.max()) >= ID_MAX:
        raise GraphError(f"{what} ids must be in 0 .. {ID_MAX - 1}")
    alive = known.mask(ids)
    if alive.any():
        raise GraphError(f"{what} {ids[alive].item(0)} exists already; ids are never used twice")
    if not (ids[1:] > ids[:-1]).all() and len(distinct(ids)) != len(ids):
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
    if claims and not index.entries.isdisjoint(claims):
        for key in claims:
            check_free(root, index, key)


def check_free(root: IndexReads, index: Index, key: Key) -> None:
    """Raise ``ConstraintError`` if a node of the root has ``key``."""
    for other in root.lookup_key(index, key):
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
