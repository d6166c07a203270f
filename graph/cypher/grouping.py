"""Grouping: rows of key vectors to dense group numbers, across chunks.

Each key column has a *coder*, which gives equivalent values (``semantics.group_key``: null = null,
NaN = NaN, 1 = 1.0, true is not 1) one small code, counted in order of first appearance. Several
columns are folded into one by coding pairs of codes. So every step works on whole vectors: strings
and large integers by one dictionary look-up in C for each row, ids and small integers by indexing a
table.

Used for GROUP BY (implicit in Cypher's projections), DISTINCT, UNION and aggregates over DISTINCT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.cypher.evaluation import Budget
from graph.cypher.references import NodeRef, RelationshipRef, boxed, tighten
from graph.cypher.semantics import NAN_KEY, group_key
from graph.vector import IntArray, Kind, Vector

__all__ = ["Grouper", "concat_values"]

# A table of codes by value is made only for values below this, and only when the rows seen so far
# are many enough to pay for it: at most TABLE_ENTRIES_PER_ROW entries for each.
TABLE_ENTRIES_MAX = 1 << 22
TABLE_ENTRIES_PER_ROW = 16
# What a group costs in dictionaries and key pieces, roughly.
GROUP_BYTES = 120


class _Codes(dict[Any, int]):
    """A dictionary that gives unknown keys the next code of its coder."""

    __slots__ = ("coder",)

    def __init__(self, coder: _Coder) -> None:
        self.coder = coder

    def __missing__(self, key: Any) -> int:
        code = self.coder.count
        self.coder.count = code + 1
        self[key] = code
        return code


_NO_TABLE: npt.NDArray[np.int32] = np.zeros(0, dtype=np.int32)


class _IntCodes:
    """Codes of integers: a table for small ones, a dictionary for the rest."""

    __slots__ = ("coder", "codes", "rows", "table")

    def __init__(self, coder: _Coder) -> None:
        self.coder = coder
        self.codes = _Codes(coder)
        self.table = _NO_TABLE  # code + 1, 0 unknown
        self.rows = 0

    def code(self, value: int) -> int:
        """The code of one value."""
        if 0 <= value < len(self.table):
            code = int(self.table[value]) - 1
            if code < 0:
                code = self.coder.count
                self.coder.count = code + 1
                self.table[value] = code + 1
            return code
        return self.codes[value]

    def assign(self, data: IntArray) -> IntArray:
        """The codes of many values."""
        count = len(data)
        self.rows += count
        if count < 64 and not len(self.table):
            return np.array([self.codes[value] for value in data.tolist()], dtype=np.int64)
        low, high = int(data.min()), int(data.max())
        if high >= len(self.table):
            self._grow(high)
        if low >= 0 and high < len(self.table):
            return self._by_table(data)
        small = (data >= 0) & (data < len(self.table))
        codes = np.empty(count, dtype=np.int64)
        if small.any():
            codes[small] = self._by_table(data[small])
        large = data[~small]
        codes[~small] = np.fromiter(
            map(self.codes.__getitem__, large.tolist()), np.int64, len(large)
        )
        return codes

    def _by_table(self, data: IntArray) -> IntArray:
        found = self.table[data].astype(np.int64) - 1
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            values, first = np.unique(data[unknown], return_index=True)
            order = np.argsort(first)
            start = self.coder.count
            self.table[values[order]] = np.arange(
                start + 1, start + 1 + len(values), dtype=np.int32
            )
            self.coder.count = start + len(values)
            found[unknown] = self.table[data[unknown]].astype(np.int64) - 1
        return found

    def _grow(self, high: int) -> None:
        if high >= TABLE_ENTRIES_MAX or high >= TABLE_ENTRIES_PER_ROW * self.rows:
            return
        size = 1 << max(10, high.bit_length())
        table = np.zeros(size, dtype=np.int32)
        table[: len(self.table)] = self.table
        for value in [value for value in self.codes if 0 <= value < size]:
            table[value] = self.codes.pop(value) + 1
        self.table = table


class _Coder:
    """Codes of one key column."""

    __slots__ = ("count", "integers", "nodes", "others", "relationships")

    def __init__(self) -> None:
        self.count = 0
        self.integers = _IntCodes(self)
        self.nodes = _IntCodes(self)
        self.relationships = _IntCodes(self)
        self.others = _Codes(self)

    def assign(self, vector: Vector) -> IntArray:
        """The code of each element."""
        kind = vector.kind
        if kind is Kind.STRING:
            values = vector.data.tolist()
            return np.fromiter(map(self.others.__getitem__, values), np.int64, len(values))
        if kind is Kind.INT:
            return self._ids(self.integers, vector)
        if kind is Kind.NODE:
            return self._ids(self.nodes, vector)
        if kind is Kind.RELATIONSHIP:
            return self._ids(self.relationships, vector)
        if kind is Kind.FLOAT and len(vector.data) > 8:
            return self._floats(vector)
        return np.array([self._code(value) for value in boxed(vector)], dtype=np.int64)

    def _floats(self, vector: Vector) -> IntArray:
        data = vector.data
        whole = (np.abs(data) < 2.0**63) & (np.floor(data) == data)
        present = np.ones(len(data), np.bool_) if vector.valid is None else vector.valid
        codes = np.empty(len(data), dtype=np.int64)
        if (whole & present).any():
            rows = whole & present
            codes[rows] = self.integers.assign(data[rows].astype(np.int64))
        rows = ~whole & present
        if rows.any():
            keys = [value if value == value else NAN_KEY for value in data[rows].tolist()]
            codes[rows] = [self.others[key] for key in keys]
        if not present.all():
            codes[~present] = self.others[None]
        return codes

    def _ids(self, codes: _IntCodes, vector: Vector) -> IntArray:
        if not len(vector.data):
            return np.zeros(0, dtype=np.int64)
        if vector.valid is None or vector.valid.all():
            return codes.assign(vector.data)
        found = np.full(len(vector.data), self.others[None], dtype=np.int64)
        if vector.valid.any():
            found[vector.valid] = codes.assign(vector.data[vector.valid])
        return found

    def _code(self, value: Any) -> int:
        cls = type(value)
        if cls is int:
            return self.integers.code(value)
        if cls is NodeRef:
            return self.nodes.code(value.id)
        if cls is RelationshipRef:
            return self.relationships.code(value.id)
        if cls is float and value.is_integer() and abs(value) < 2.0**63:
            return self.integers.code(int(value))
        return self.others[group_key(value)]


class Grouper:
    """Group numbers for rows of keys; remembers the keys of each group."""

    def __init__(self, key_count: int, budget: Budget | None = None) -> None:
        self._coders = [_Coder() for _ in range(key_count)]
        # Stage i codes pairs (number so far, code of key i + 1).
        self._stages = [_Coder() for _ in range(key_count - 1)]
        self._pieces: list[list[Vector]] = [[] for _ in range(key_count)]
        self._budget = budget
        self.group_count = 0 if key_count else 1

    def assign(self, keys: Sequence[Vector], length: int) -> tuple[IntArray, int]:
        """(group number of each row, number of groups so far).

        Groups are numbered from 0. Without keys all rows are group 0.

        Raises:
            LimitError: the groups use up the budget.
        """
        assert len(keys) == len(self._coders), "as many keys as announced"
        if not keys:
            return np.zeros(length, dtype=np.int64), 1
        groups = self._coders[0].assign(keys[0])
        for coder, stage, key in zip(self._coders[1:], self._stages, keys[1:], strict=True):
            codes = coder.assign(key)
            groups = stage.integers.assign((groups << 32) | codes) if length else groups
        last = self._stages[-1] if self._stages else self._coders[0]
        before, self.group_count = self.group_count, last.count
        if self.group_count > before:
            self._remember(keys, groups, before)
        return groups, self.group_count

    def new_rows(self, keys: Sequence[Vector], length: int) -> IntArray:
        """The rows that are the first of their group: what DISTINCT lets through, ascending."""
        before = self.group_count
        groups, after = self.assign(keys, length)
        if after == before:
            return np.zeros(0, dtype=np.int64)
        return np.sort(self._first_rows(groups, before))

    def _first_rows(self, groups: IntArray, before: int) -> IntArray:
        """The first row of each group numbered ``before`` or more, by group number."""
        if len(groups) <= 8:
            rows: dict[int, int] = {}
            for row, group in enumerate(groups.tolist()):
                if group >= before:
                    rows.setdefault(group, row)
            return np.array([rows[group] for group in sorted(rows)], dtype=np.int64)
        fresh = np.flatnonzero(groups >= before)
        _, first = np.unique(groups[fresh], return_index=True)
        return fresh[first]

    def _remember(self, keys: Sequence[Vector], groups: IntArray, before: int) -> None:
        if self._budget is not None:
            self._budget.charge((self.group_count - before) * GROUP_BYTES * len(keys))
        rows = self._first_rows(groups, before)
        assert len(rows) == self.group_count - before, "group numbers are dense"
        for pieces, key in zip(self._pieces, keys, strict=True):
            pieces.append(key.take(rows))

    def key_columns(self) -> list[Vector]:
        """For each key a vector of ``group_count`` values, the first seen of each group."""
        return [concat_values(pieces) for pieces in self._pieces]


def concat_values(vectors: Sequence[Vector]) -> Vector:
    """Vectors end to end, of whatever kinds: ids are wrapped where kinds are mixed."""
    if not vectors:
        return Vector.nulls(Kind.OBJECT, 0)
    kind = vectors[0].kind
    if all(vector.kind is kind for vector in vectors):
        return Vector.concat(vectors)
    return tighten([value for vector in vectors for value in boxed(vector)])
