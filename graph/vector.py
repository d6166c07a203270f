"""Vectors and chunks: what operators pass to one another.

A *vector* is one column of a batch: a NumPy array with a kind and, for the typed kinds, an
optional validity mask. A *chunk* is a set of named vectors of equal length, at most
``CHUNK_ROWS`` rows. There is one rule for nulls:

* typed kinds (BOOL, INT, FLOAT, NODE, RELATIONSHIP): ``valid`` is ``None`` (no nulls) or a
  boolean mask; the data under a null is unspecified;
* STRING and OBJECT: the data array has dtype ``object``, a null is ``None`` in it, and ``valid``
  is always ``None``.

NODE and RELATIONSHIP vectors hold ids (int64); they become ``graph.values`` objects only when a
row leaves the engine. Vectors are immutable once made: never write into ``data``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "CHUNK_ROWS",
    "BoolArray",
    "Chunk",
    "IntArray",
    "Kind",
    "Vector",
]

# Rows in a batch: DuckDB's standard vector size. Large enough that NumPy's fixed cost per call
# disappears, small enough that a chunk of ten columns stays in the second-level cache.
CHUNK_ROWS = 2048
_OBJECTS_AT_ONCE = 65_536

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Kind(IntEnum):
    """What a vector's elements are. OBJECT holds any Cypher value."""

    BOOL = 0
    INT = 1
    FLOAT = 2
    NODE = 3
    RELATIONSHIP = 4
    STRING = 5
    OBJECT = 6


_DTYPES: dict[Kind, Any] = {
    Kind.BOOL: np.bool_,
    Kind.INT: np.int64,
    Kind.FLOAT: np.float64,
    Kind.NODE: np.int64,
    Kind.RELATIONSHIP: np.int64,
    Kind.STRING: object,
    Kind.OBJECT: object,
}


@dataclass(frozen=True, slots=True)
class Vector:
    """One column: ``data`` of the kind's dtype and, for typed kinds, an optional mask."""

    kind: Kind
    data: npt.NDArray[Any]
    valid: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def typed(self) -> bool:
        """Whether nulls are in ``valid`` (and not ``None`` objects in ``data``)."""
        return self.kind < Kind.STRING

    def null_mask(self) -> BoolArray:
        """True where null."""
        if self.kind >= Kind.STRING:
            if not len(self.data):
                return _EMPTY_BOOL
            mask: BoolArray = (self.data == None).astype(np.bool_)  # noqa: E711
            return mask
        if self.valid is None:
            return np.zeros(len(self.data), dtype=np.bool_)
        return ~self.valid

    def take(self, rows: npt.NDArray[Any]) -> Vector:
        """The elements at ``rows`` (indices) or where ``rows`` (mask) is true."""
        valid = None if self.valid is None else self.valid[rows]
        return Vector(self.kind, self.data[rows], valid)

    def slice(self, start: int, stop: int) -> Vector:
        valid = None if self.valid is None else self.valid[start:stop]
        return Vector(self.kind, self.data[start:stop], valid)

    def to_list(self) -> list[Any]:
        """Python values; ids for NODE and RELATIONSHIP, ``None`` for null."""
        values: list[Any] = self.data.tolist()
        if self.valid is not None:
            return [v if ok else None for v, ok in zip(values, self.valid.tolist(), strict=True)]
        return values

    def to_objects(self) -> npt.NDArray[Any]:
        """The same values as an object array with ``None`` for null (ids stay ints)."""
        if self.kind >= Kind.STRING:
            return self.data
        objects = self.data.astype(object)
        if self.valid is not None:
            objects[~self.valid] = None
        return objects

    @staticmethod
    def of(kind: Kind, data: npt.ArrayLike, valid: BoolArray | None = None) -> Vector:
        return Vector(kind, np.asarray(data, dtype=_DTYPES[kind]), valid)

    @staticmethod
    def objects(values: Sequence[Any], kind: Kind = Kind.OBJECT) -> Vector:
        """An OBJECT (or STRING) vector of any Python values, lists and dicts included."""
        data = np.empty(len(values), dtype=object)
        plain = values if not _has_sequences(values) else _boxed(values)
        # In pieces, because the interpreter lock is held for each: a heartbeat may be due.
        for start in range(0, len(values), _OBJECTS_AT_ONCE):
            stop = start + _OBJECTS_AT_ONCE
            data[start:stop] = plain[start:stop]
        return Vector(kind, data)

    @staticmethod
    def from_values(values: Sequence[Any]) -> Vector:
        """The tightest kind that holds ``values``: BOOL, INT, FLOAT, STRING, else OBJECT.

        Only plain ``bool``, ``int``, ``float``, ``str`` and ``None`` are tightened; an int and a
        float in one column stay OBJECT, since 1 and 1.0 are equal but not the same value.
        """
        kinds = {type(v) for v in values}
        nulls = type(None) in kinds
        kinds.discard(type(None))
        if len(kinds) == 1:
            kind = _KIND_OF_TYPE.get(next(iter(kinds)))
            if kind is Kind.STRING:
                return Vector.objects(values, Kind.STRING)
            if kind is not None:
                if not nulls:
                    return Vector(kind, np.array(values, dtype=_DTYPES[kind]))
                valid = np.array([v is not None for v in values], dtype=np.bool_)
                filled = [v if v is not None else 0 for v in values]
                return Vector(kind, np.array(filled, dtype=_DTYPES[kind]), valid)
        return Vector.objects(values)

    @staticmethod
    def constant(value: Any, length: int) -> Vector:
        """``length`` copies of one value."""
        kind = _KIND_OF_TYPE.get(type(value))
        if kind is None or kind is Kind.STRING:
            data = np.empty(length, dtype=object)
            if isinstance(value, (list, tuple, dict)):
                for row in range(length):
                    data[row] = value
            else:
                data[:] = value
            return Vector(Kind.OBJECT if kind is None else kind, data)
        return Vector(kind, np.full(length, value, dtype=_DTYPES[kind]))

    @staticmethod
    def nulls(kind: Kind, length: int) -> Vector:
        """``length`` nulls."""
        if kind >= Kind.STRING:
            return Vector(kind, np.full(length, None, dtype=object))
        data = np.zeros(length, dtype=_DTYPES[kind])
        return Vector(kind, data, np.zeros(length, dtype=np.bool_))

    @staticmethod
    def concat(vectors: Sequence[Vector]) -> Vector:
        """End to end. Differing kinds give OBJECT; callers must not mix NODE with others."""
        if len(vectors) == 1:
            return vectors[0]
        kind = vectors[0].kind
        if any(v.kind != kind for v in vectors):
            return Vector(Kind.OBJECT, np.concatenate([v.to_objects() for v in vectors]))
        data = np.concatenate([v.data for v in vectors])
        if all(v.valid is None for v in vectors):
            return Vector(kind, data)
        valid = [v.valid if v.valid is not None else np.ones(len(v), np.bool_) for v in vectors]
        return Vector(kind, data, np.concatenate(valid))


_KIND_OF_TYPE: dict[type, Kind] = {
    bool: Kind.BOOL,
    int: Kind.INT,
    float: Kind.FLOAT,
    str: Kind.STRING,
}
_EMPTY_BOOL: BoolArray = np.zeros(0, dtype=np.bool_)


def _has_sequences(values: Iterable[Any]) -> bool:
    return any(isinstance(v, (list, tuple, dict, np.ndarray)) for v in values)


def _boxed(values: Sequence[Any]) -> npt.NDArray[Any]:
    """NumPy would unpack a list of lists into two dimensions; box each element by hand."""
    boxed = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        boxed[row] = value
    return boxed


@dataclass(slots=True)
class Chunk:
    """Named vectors of equal length. A chunk without columns still has a length."""

    columns: dict[str, Vector]
    length: int

    def take(self, rows: npt.NDArray[Any], length: int) -> Chunk:
        """The rows at ``rows`` (indices, or a mask with ``length`` true elements)."""
        return Chunk({name: v.take(rows) for name, v in self.columns.items()}, length)

    def slice(self, start: int, stop: int) -> Chunk:
        stop = min(stop, self.length)
        columns = {name: v.slice(start, stop) for name, v in self.columns.items()}
        return Chunk(columns, stop - start)

    def with_columns(self, columns: dict[str, Vector]) -> Chunk:
        """This chunk with some columns added or replaced."""
        return Chunk({**self.columns, **columns}, self.length)
