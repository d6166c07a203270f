"""Lookups in indexes, verified against the asking root.

An index holds a superset (``indexes.py``), so every candidate is checked here: the node has the
label and the key in *this* root. A handle given out by one root is only a description; the
entries are found by name in the root that is asked, since roots may refer to different objects.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from graph.distinct import distinct
from graph.errors import SchemaError
from graph.indexes import ConstraintInfo, Index, IndexInfo
from graph.keys import Key, key_of, keys_of, tuple_key
from graph.reads import Reads
from graph.vector import IntArray

__all__ = ["IndexReads"]

_EMPTY: IntArray = np.empty(0, dtype=np.int64)
# From here on, a candidate is cheaper to verify as a vector than one by one.
_VECTOR_ROWS_MIN = 24


class IndexReads(Reads):
    """Index half of a root's reads."""

    __slots__ = ()

    def indexes(self) -> list[IndexInfo]:
        """All indexes, in order of creation."""
        return [index.info for index in self.schema.indexes.values()]

    def constraints(self) -> list[ConstraintInfo]:
        """All constraints, in order of creation."""
        return list(self.schema.constraints.values())

    def find_index(self, label: str, keys: tuple[str, ...]) -> IndexInfo | None:
        """The index on exactly these properties, in this order, if there is one."""
        index = self.schema.find(label, keys)
        return None if index is None else index.info

    def index_distinct(self, index: IndexInfo) -> int:
        """Estimate of the number of distinct keys (an upper bound, garbage included)."""
        return len(self._index(index).entries)

    def index_size(self, index: IndexInfo) -> int:
        """Estimate of the number of indexed nodes (an upper bound)."""
        return self.live_max(self._index(index))

    def index_lookup(
        self, index: IndexInfo, values: Sequence[tuple[Any, ...]]
    ) -> tuple[IntArray, IntArray]:
        """Nodes whose properties equal each probe, as (probe number, node id) pairs.

        Pairs are ordered by probe, then by node. A probe with a null (or NaN) finds nothing.
        """
        owner = self._index(index)
        if len(values) == 1:
            nodes = self.lookup_key(owner, tuple_key(values[0]))
            return np.zeros(len(nodes), dtype=np.int64), np.array(nodes, dtype=np.int64)
        single = owner.single
        keys = [key_of(v[0]) for v in values] if single else [tuple_key(v) for v in values]
        rows: list[int] = []
        nodes = []
        for row, found in enumerate(owner.entries.get_many(keys)):
            if found is None:
                continue
            if isinstance(found, int):
                rows.append(row)
                nodes.append(found)
            else:
                several = sorted(set(found.copy()))
                rows += [row] * len(several)
                nodes += several
        return self._verified(owner, keys, rows, nodes)

    def index_lookup_one(self, index: IndexInfo, values: tuple[Any, ...]) -> list[int]:
        """Nodes whose properties equal one probe, ascending: the shortest path there is."""
        return self.lookup_key(self._index(index), tuple_key(values))

    def lookup_key(self, index: Index, key: Key | None) -> list[int]:
        """Nodes that have ``key`` in this root, ascending."""
        if key is None:
            return []
        found = index.entries.get(key)
        if found is None:
            return []
        if isinstance(found, int):
            return [found] if self.matches(index, key, found) else []
        several = sorted(set(found.copy()))
        if len(several) < _VECTOR_ROWS_MIN:
            return [node for node in several if self.matches(index, key, node)]
        rows = [0] * len(several)
        return self._verified(index, [key], rows, several)[1].tolist()  # type: ignore[no-any-return]

    def matches(self, index: Index, key: Key, node: int) -> bool:
        """Whether a node has the index's label and exactly this key."""
        info = index.info
        label = self.label_names.ids.get(info.label)
        return (
            label is not None
            and node in self.labels_members[label]
            and self.node_key(index, node) == key
        )

    def node_key(self, index: Index, node: int) -> Key | None:
        """The key that a node's properties give, whatever its labels."""
        ids = self.key_names.ids
        columns = self.node_columns
        properties = index.info.properties
        if len(properties) == 1:
            number = ids.get(properties[0])
            return None if number is None else key_of(columns[number].value(node))
        if any(name not in ids for name in properties):
            return None
        return tuple_key(tuple([columns[ids[name]].value(node) for name in properties]))

    def node_keys(self, index: Index, nodes: IntArray) -> list[Key | None]:
        """The keys that the properties of many nodes give, whatever their labels."""
        columns = [keys_of(self.node_property(nodes, name)) for name in index.info.properties]
        if len(columns) == 1:
            return columns[0]
        return [None if None in row else row for row in zip(*columns, strict=True)]

    def _verified(
        self, index: Index, keys: Sequence[Key | None], rows: list[int], nodes: list[int]
    ) -> tuple[IntArray, IntArray]:
        if not nodes:
            return _EMPTY, _EMPTY
        if len(nodes) < _VECTOR_ROWS_MIN:
            good = [self.matches(index, keys[r], n) for r, n in zip(rows, nodes, strict=True)]
            kept = [position for position, ok in enumerate(good) if ok]
            found_rows = np.array([rows[position] for position in kept], dtype=np.int64)
            return found_rows, np.array([nodes[position] for position in kept], dtype=np.int64)
        node_ids = np.array(nodes, dtype=np.int64)
        row_ids = np.array(rows, dtype=np.int64)
        mask = self.has_label(node_ids, index.info.label)
        current = self.node_keys(index, node_ids)
        wanted = [keys[row] for row in rows]
        mask &= np.fromiter(map(operator.eq, wanted, current), np.bool_, len(rows))
        return row_ids[mask], node_ids[mask]

    def index_range(
        self,
        index: IndexInfo,
        low: Any,
        low_inclusive: bool,
        high: Any,
        high_inclusive: bool,
    ) -> IntArray:
        """Nodes whose single indexed property lies in a range of numbers or of strings.

        None stands for no bound; at least one bound must be given, and two must be of one type
        (else, and for NaN, nothing is found). Ids ascending.
        """
        owner = self._index(index)
        bounds = [bound for bound in (low, high) if bound is not None]
        if not bounds or not owner.single:
            raise SchemaError(f"index {index.name!r} cannot answer this range")
        if any(not _is_number(b) and not isinstance(b, str) for b in bounds):
            return _EMPTY
        if len({isinstance(bound, str) for bound in bounds}) > 1:
            return _EMPTY
        candidates = owner.range_candidates(low, low_inclusive, high, high_inclusive)
        if not candidates:
            return _EMPTY
        nodes = distinct(np.array(candidates, dtype=np.int64))
        nodes = nodes[self.has_label(nodes, index.label)]
        texts = isinstance(bounds[0], str)
        inside = [
            (isinstance(key, str) if texts else isinstance(key, (int, float)))
            and _within(key, low, low_inclusive, high, high_inclusive)
            for key in self.node_keys(owner, nodes)
        ]
        return nodes[np.array(inside, dtype=np.bool_)]

    def live_max(self, index: Index) -> int:
        """An upper bound of the entries of ``index`` that are live in this root."""
        label = self.label_names.ids.get(index.info.label)
        bound = 0 if label is None else self.labels_members[label].count
        for name in index.info.properties:
            number = self.key_names.ids.get(name)
            bound = min(bound, 0 if number is None else self.node_columns[number].count)
        return bound

    def _index(self, info: IndexInfo) -> Index:
        index = self.schema.indexes.get(info.name)
        if index is None:
            raise SchemaError(
                f"index {info.name!r} has been dropped; plan the query again",
                code="Neo.ClientError.Schema.IndexNotFound",
            )
        return index


def _is_number(value: Any) -> bool:
    kind = type(value)
    return kind is int or (kind is float and value == value)


def _within(key: Any, low: Any, low_inclusive: bool, high: Any, high_inclusive: bool) -> bool:
    if low is not None and not (key >= low if low_inclusive else key > low):
        return False
    return high is None or bool(key <= high if high_inclusive else key < high)
