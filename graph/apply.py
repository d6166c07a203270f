"""Applying a write set to a root: the only code that changes graph state.

``apply`` validates first (``validate.py``) and changes after, so a refused write set has changed
nothing. Everything here is a function of the root's contents and the write set: no clock, no
randomness, no iteration over sets, no hash order. One row and many rows take different paths to
the same result, since a NumPy call costs as much as changing ten cells by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graph.chunked import pieces
from graph.columns import Column
from graph.distinct import distinct
from graph.index_reads import IndexReads
from graph.indexes import GARBAGE_SPARE, Index
from graph.keys import Key, key_of, tuple_key
from graph.schema_changes import apply_schema, build_index
from graph.validate import check_free, check_new_id, created_keys, validate
from graph.vector import BoolArray, IntArray, Vector
from graph.write_set import (
    AddLabel,
    Counters,
    CreateNodes,
    CreateRelationships,
    DeleteNodes,
    DeleteRelationships,
    RemoveLabel,
    SetNodeProperty,
    SetRelationshipProperty,
    WriteSet,
)

__all__ = ["apply"]


def apply(root: IndexReads, write_set: WriteSet) -> Counters:
    """Change ``root`` as the write set says, or raise and change nothing.

    Raises ``ConflictError``, ``ConstraintError``, ``SchemaError`` or ``GraphError``.
    """
    counters = Counters()
    operations = write_set.operations
    if len(operations) == 1:
        only = operations[0]
        if isinstance(only, CreateNodes) and len(only.ids) == 1:
            _create_one_node(root, write_set, only, counters)
            _sweep_indexes(root, False)
            return counters
    if write_set.has_schema:
        apply_schema(root, write_set, counters)
        return counters
    validate(root, write_set)
    _enter_names(root, write_set)
    tolerant = len(operations) > 1
    shrinks = False
    for op in operations:
        if isinstance(op, CreateNodes):
            _create_nodes(root, op, counters)
            continue
        if isinstance(op, CreateRelationships):
            _create_relationships(root, op, counters)
            continue
        shrinks = True
        if isinstance(op, SetNodeProperty):
            _set_node_property(root, op, counters, tolerant)
        elif isinstance(op, SetRelationshipProperty):
            _set_relationship_property(root, op, counters, tolerant)
        elif isinstance(op, AddLabel):
            _add_label(root, op, counters, tolerant)
        elif isinstance(op, RemoveLabel):
            _remove_label(root, op, counters)
        elif isinstance(op, DeleteNodes):
            _delete_nodes(root, op, counters)
        elif isinstance(op, DeleteRelationships):
            _delete_relationships(root, op, counters)
    _sweep_indexes(root, shrinks)
    return counters


def _enter_names(root: IndexReads, write_set: WriteSet) -> None:
    """Give catalog numbers to new names, in the order in which the operations mention them."""
    labels: list[str] = []
    types: list[str] = []
    keys: list[str] = []
    for op in write_set.operations:
        if isinstance(op, CreateNodes):
            labels += [name for name in op.labels if name not in root.label_names.ids]
            keys += [name for name in op.properties if name not in root.key_names.ids]
        elif isinstance(op, CreateRelationships):
            if op.type not in root.type_names.ids:
                types.append(op.type)
            keys += [name for name in op.properties if name not in root.key_names.ids]
        elif isinstance(op, AddLabel):
            if op.label not in root.label_names.ids:
                labels.append(op.label)
        elif isinstance(op, (SetNodeProperty, SetRelationshipProperty)):
            keys += [] if op.key in root.key_names.ids else [op.key]
    if labels or types or keys:
        root.add_names(labels, types, keys)


# nodes


def _create_one_node(
    root: IndexReads, write_set: WriteSet, op: CreateNodes, counters: Counters
) -> None:
    """The commonest write set of all, validated and applied in one go."""
    node = op.ids.item(0)
    check_new_id(node, node in root.alive, "node")
    entries = _entries_of_one(root, op, _values_of_one(op)) if root.schema.by_label else []
    for index, key in entries:
        if index.unique:
            check_free(root, index, key)
    _enter_names(root, write_set)
    _write_one_node(root, op, node, counters)
    for index, key in entries:
        index.add_one(key, node)


def _values_of_one(op: CreateNodes) -> dict[str, Any]:
    values = {key: _only(vector) for key, vector in op.properties.items()}
    return {key: value for key, value in values.items() if value is not None}


def _entries_of_one(
    root: IndexReads, op: CreateNodes, values: dict[str, Any]
) -> list[tuple[Index, Key]]:
    """The index entries of one new node."""
    entries: list[tuple[Index, Key]] = []
    for label in op.labels:
        for index in root.schema.by_label.get(label, ()):
            names = index.info.properties
            if len(names) == 1:
                key = key_of(values.get(names[0]))
            else:
                key = tuple_key(tuple([values.get(name) for name in names]))
            if key is not None:
                entries.append((index, key))
    return entries


def _write_one_node(root: IndexReads, op: CreateNodes, node: int, counters: Counters) -> None:
    if node >= root.next_node_id:
        root.next_node_id = node + 1
    counters.nodes_created += 1
    counters.labels_added += len(op.labels)
    root.own_alive().add_one(node)
    label_ids = root.label_names.ids
    for label in op.labels:
        root.own_label(label_ids[label]).add_one(node)
    key_ids = root.key_names.ids
    for key, vector in op.properties.items():
        value = _only(vector)
        if value is not None:
            root.own_node_column(key_ids[key]).put(node, value)
            counters.properties_set += 1


def _create_nodes(root: IndexReads, op: CreateNodes, counters: Counters) -> None:
    ids = op.ids
    count = len(ids)
    by_label = root.schema.by_label
    if count == 1:
        node = ids.item(0)
        _write_one_node(root, op, node, counters)
        if by_label:
            for index, key in _entries_of_one(root, op, _values_of_one(op)):
                index.add_one(key, node)
        return
    root.next_node_id = max(root.next_node_id, int(ids.max()) + 1)
    counters.nodes_created += count
    counters.labels_added += count * len(op.labels)
    parts = pieces(ids)
    root.own_alive().add(parts)
    for label in op.labels:
        root.own_label(root.label_names.ids[label]).add(parts)
    for key, vector in op.properties.items():
        column = root.own_node_column(root.key_names.ids[key])
        before = column.count
        column.write(parts, vector, fresh=True)
        counters.properties_set += column.count - before
    for label in op.labels if by_label else ():
        for index in by_label.get(label, ()):
            keys = created_keys(index, op)
            if keys is not None:
                index.add(keys, ids.tolist())


def _only(vector: Vector) -> Any:
    """The value of a vector of one row as a Python object."""
    if vector.valid is not None and not vector.valid.item(0):
        return None
    return vector.data.item(0)


def _add_entries(index: Index, keys: Sequence[Key | None], ids: IntArray) -> None:
    if len(keys) == 1:
        if keys[0] is not None:
            index.add_one(keys[0], ids.item(0))
    else:
        index.add(keys, ids.tolist())


def _set_node_property(
    root: IndexReads, op: SetNodeProperty, counters: Counters, tolerant: bool
) -> None:
    number = root.key_names.ids[op.key]
    if len(op.ids) == 1:
        node = op.ids.item(0)
        if tolerant and node not in root.alive:
            return
        value = _only(op.values)
        had = root.own_node_column(number).put(node, value)
        counters.properties_set += value is not None or had
        ids = op.ids
    else:
        ids, vector = _distinct(op.ids, op.values)
        if tolerant:
            ids, vector = _alive_only(ids, vector, root.nodes_alive(ids))
            if not len(ids):
                return
        counters.properties_set += _write_column(root.own_node_column(number), ids, vector)
    for index in root.schema.by_key.get(op.key, ()):
        _index_existing(root, index, ids)


def _write_column(column: Column, ids: IntArray, vector: Vector) -> int:
    """Set or remove distinct cells; the number of values set plus that of values removed."""
    null = vector.null_mask()
    if not null.any():
        column.write(pieces(ids), vector)
        return len(ids)
    removed = column.clear(pieces(ids[null]))
    kept = ~null
    ids = ids[kept]
    if len(ids):
        column.write(pieces(ids), vector.take(kept))
    return removed + len(ids)


def _distinct(ids: IntArray, vector: Vector) -> tuple[IntArray, Vector]:
    """Drop all but the last row of each repeated id."""
    if bool((ids[1:] > ids[:-1]).all()):
        return ids, vector
    _, first_from_behind = np.unique(ids[::-1], return_index=True)
    if len(first_from_behind) == len(ids):
        return ids, vector
    rows = len(ids) - 1 - first_from_behind
    return ids[rows], vector.take(rows)


def _index_existing(root: IndexReads, index: Index, nodes: IntArray) -> None:
    """Enter the present keys of nodes that changed, if they have the label."""
    if len(nodes) == 1:
        node = nodes.item(0)
        label = root.label_names.ids.get(index.info.label)
        if label is not None and node in root.labels_members[label]:
            key = root.node_key(index, node)
            if key is not None:
                index.add_one(key, node)
        return
    nodes = nodes[root.has_label(nodes, index.info.label)]
    if len(nodes):
        _add_entries(index, root.node_keys(index, nodes), nodes)


def _add_label(root: IndexReads, op: AddLabel, counters: Counters, tolerant: bool) -> None:
    ids = distinct(op.ids)
    if tolerant:
        ids = ids[root.nodes_alive(ids)]
        if not len(ids):
            return
    counters.labels_added += root.own_label(root.label_names.ids[op.label]).add(pieces(ids))
    for index in root.schema.by_label.get(op.label, ()):
        _index_existing(root, index, ids)


def _remove_label(root: IndexReads, op: RemoveLabel, counters: Counters) -> None:
    number = root.label_names.ids.get(op.label)
    if number is not None:
        ids = distinct(op.ids)
        counters.labels_removed += root.own_label(number).discard(pieces(ids))


def _delete_nodes(root: IndexReads, op: DeleteNodes, counters: Counters) -> None:
    ids = distinct(op.ids)
    ids = ids[root.nodes_alive(ids)]
    if not len(ids):
        return
    parts = pieces(ids)
    for number, members in enumerate(root.labels_members):
        if members.count:
            root.own_label(number).discard(parts)
    for number, column in enumerate(root.node_columns):
        if column.chunks:
            root.own_node_column(number).clear(parts)
    root.own_alive().discard(parts)
    counters.nodes_deleted += len(ids)


# relationships


def _create_relationships(root: IndexReads, op: CreateRelationships, counters: Counters) -> None:
    ids = op.ids
    count = len(ids)
    last = int(ids.max()) if count > 1 else ids.item(0)
    root.next_relationship_id = max(root.next_relationship_id, last + 1)
    counters.relationships_created += count
    number = root.type_names.ids[op.type]
    root.type_counts[number] += count
    table = root.own_table()
    outgoing = root.own_adjacency(root.outgoing, number)
    incoming = root.own_adjacency(root.incoming, number)
    key_ids = root.key_names.ids
    if count == 1:
        relationship, source, target = ids.item(0), op.sources.item(0), op.targets.item(0)
        root.loops[number] += source == target
        table.put(relationship, number, source, target)
        outgoing.add_one(source, relationship, target, table.mask)
        incoming.add_one(target, relationship, source, table.mask)
        for key, vector in op.properties.items():
            value = _only(vector)
            if value is not None:
                root.own_relationship_column(key_ids[key]).put(relationship, value)
                counters.properties_set += 1
        return
    root.loops[number] += int(np.count_nonzero(op.sources == op.targets))
    parts = pieces(ids)
    table.write(parts, number, op.sources, op.targets)
    outgoing.add(op.sources, ids, op.targets, table.mask)
    incoming.add(op.targets, ids, op.sources, table.mask)
    for key, vector in op.properties.items():
        column = root.own_relationship_column(key_ids[key])
        before = column.count
        column.write(parts, vector, fresh=True)
        counters.properties_set += column.count - before


def _set_relationship_property(
    root: IndexReads, op: SetRelationshipProperty, counters: Counters, tolerant: bool
) -> None:
    number = root.key_names.ids[op.key]
    if len(op.ids) == 1:
        relationship = op.ids.item(0)
        if tolerant and root.table.get(relationship) is None:
            return
        value = _only(op.values)
        had = root.own_relationship_column(number).put(relationship, value)
        counters.properties_set += value is not None or had
        return
    ids, vector = _distinct(op.ids, op.values)
    if tolerant:
        ids, vector = _alive_only(ids, vector, root.relationships_alive(ids))
        if not len(ids):
            return
    counters.properties_set += _write_column(root.own_relationship_column(number), ids, vector)


def _alive_only(ids: IntArray, vector: Vector, alive: BoolArray) -> tuple[IntArray, Vector]:
    """Drop rows of entities that the same write set has deleted."""
    return (ids, vector) if alive.all() else (ids[alive], vector.take(alive))


def _delete_relationships(root: IndexReads, op: DeleteRelationships, counters: Counters) -> None:
    ids = distinct(op.ids)
    types, sources, targets = root.table.ends(ids)
    alive = types >= 0
    if not alive.all():
        ids, types, sources, targets = ids[alive], types[alive], sources[alive], targets[alive]
    if not len(ids):
        return
    parts = pieces(ids)
    table = root.own_table()
    table.erase(parts)
    for column_number, column in enumerate(root.relationship_columns):
        if column.chunks:
            root.own_relationship_column(column_number).clear(parts)
    for number in distinct(types).tolist():
        rows = types == number
        starts, ends = sources[rows], targets[rows]
        root.type_counts[number] -= len(starts)
        root.loops[number] -= int(np.count_nonzero(starts == ends))
        root.own_adjacency(root.outgoing, number).remove(starts, table.mask)
        root.own_adjacency(root.incoming, number).remove(ends, table.mask)
    counters.relationships_deleted += len(ids)


def _sweep_indexes(root: IndexReads, shrinks: bool) -> None:
    """Rebuild indexes whose garbage outweighs what this root can have (see ``indexes.py``).

    ``shrinks``: entries may have become garbage, so look even if the index has not grown.
    """
    for index in root.schema.filled:
        if index.size > (GARBAGE_SPARE if shrinks else index.sweep_size) and index.needs_sweep(
            root.live_max(index)
        ):
            root.schema = root.schema.replaced(build_index(root, index.info))
