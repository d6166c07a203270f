"""Property columns.

A column holds the values of one property key for all nodes, or all relationships. A cell is a
one-byte tag (null, boolean, integer, float, string, object) and eight bytes: the value itself,
or, for strings and objects, its number in the column's *heap*. So any mixture of types is
ordinary, and what a column looks like depends on its contents and not on the order in which they
came. Counts for each tag tell a read which single type it deals with, as nearly always.

The heap is shared by all roots that share the column and only grows: equal strings are kept
once, other objects are appended. A write that nobody saw (an aborted transaction) leaves garbage
in it; when garbage outweighs what a root refers to, that root builds itself a new heap, and
other roots keep the old one as long as they live. Objects in the heap are never changed.

Threads: appends to a heap take its lock, since roots in several threads may share it. A reader
needs none: a value is in the array before its number is in any cell.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.chunked import CHUNK_BITS, CHUNK_MASK, Chunked, Epoch, Layout, Piece
from graph.layers import Layers
from graph.vector import IntArray, Kind, Vector

__all__ = [
    "BOOLEAN",
    "FLOAT",
    "INTEGER",
    "NULL",
    "OBJECT",
    "STRING",
    "TAGS",
    "Column",
    "Heap",
    "encode_vector",
]

NULL, BOOLEAN, INTEGER, FLOAT, STRING, OBJECT = range(6)
TAGS = 6

_LAYOUT: Layout = ((np.uint8, 0), (np.int64, 0))
_KINDS = {
    NULL: Kind.OBJECT,
    BOOLEAN: Kind.BOOL,
    INTEGER: Kind.INT,
    FLOAT: Kind.FLOAT,
    STRING: Kind.STRING,
    OBJECT: Kind.OBJECT,
}
_TAG_OF_TYPE: dict[type, int] = {
    type(None): NULL,
    bool: BOOLEAN,
    int: INTEGER,
    float: FLOAT,
    str: STRING,
}
# A heap is never rebuilt for less garbage than this.
_GARBAGE_SPARE = 4_096
# The interpreter lock is given up between slices of this many objects when a heap grows.
_COPY_SLICE = 65_536

TagArray = npt.NDArray[np.uint8]
ObjectArray = npt.NDArray[Any]


class Heap:
    """Values by number, append-only; number 0 is null."""

    __slots__ = ("_lock", "codes", "count", "values")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.codes: Layers[str | None, int] = Layers()
        self.codes.add(None, 0)
        self.values: ObjectArray = np.full(64, None, dtype=object)
        self.count = 1

    def string(self, text: str) -> int:
        """The number of a string, added if it is new."""
        code = self.codes.get(text)
        if code is None:
            with self._lock:
                code = self.codes.get(text)
                if code is None:
                    code = self._append(text)
                    self.codes.add(text, code)
        return code

    def strings(self, texts: list[str | None]) -> IntArray:
        """The numbers of many strings; null is 0."""
        found = self.codes.get_many(texts)
        if None in found:
            with self._lock:
                known = self.codes
                for row, code in enumerate(found):
                    if code is not None:
                        continue
                    text = texts[row]
                    number = known.get(text)
                    if number is None:
                        number = self._append(text)
                        known.add(text, number)
                    found[row] = number
        return np.array(found, dtype=np.int64)

    def add(self, value: Any) -> int:
        """Append an object that is not a string."""
        with self._lock:
            return self._append(value)

    def _append(self, value: Any) -> int:
        number = self.count
        if number == len(self.values):
            grown = np.full(2 * number, None, dtype=object)
            for start in range(0, number, _COPY_SLICE):
                stop = min(start + _COPY_SLICE, number)
                grown[start:stop] = self.values[start:stop]
            self.values = grown
        self.values[number] = value
        self.count = number + 1
        return number


class Column(Chunked):
    """The values of one property key."""

    __slots__ = ("counts", "heap")

    def __init__(self, epoch: Epoch) -> None:
        super().__init__(epoch, _LAYOUT)
        self.heap = Heap()
        self.counts = [0] * TAGS  # cells by tag; that of NULL is not kept

    def copy(self, epoch: Epoch) -> Column:
        twin = Column.__new__(Column)
        twin.epoch = epoch
        twin.layout = self.layout
        twin._share(self)
        twin.heap = self.heap
        twin.counts = self.counts.copy()
        return twin

    @property
    def count(self) -> int:
        """Cells that are not null."""
        return sum(self.counts[1:])

    # reads

    def value(self, owner: int) -> Any:
        """The value of one id, None if it has none."""
        chunk = self.chunks.get(owner >> CHUNK_BITS)
        if chunk is None:
            return None
        tags, cells = chunk.arrays
        offset = owner & CHUNK_MASK
        tag = tags.item(offset)
        if tag == INTEGER:
            return cells.item(offset)
        if tag >= STRING:
            return self.heap.values[cells.item(offset)]
        if tag == NULL:
            return None
        if tag == FLOAT:
            return cells.view(np.float64).item(offset)
        return cells.item(offset) != 0

    def vector(self, ids: IntArray) -> Vector:
        """The values of ``ids`` in the tightest kind that the column's contents allow."""
        if len(ids) == 1:
            return self._vector_of_one(ids.item(0))
        tags, cells = self.gather(ids)
        present = [tag for tag in range(1, TAGS) if self.counts[tag]]
        if len(present) > 1:
            seen = np.bincount(tags, minlength=TAGS)
            present = [tag for tag in present if seen.item(tag)]
            if len(present) > 1:
                return Vector(Kind.OBJECT, self.decode(tags, cells))
        if not present:
            return Vector.nulls(Kind.OBJECT, len(ids))
        tag = present[0]
        if tag >= STRING:
            return Vector(_KINDS[tag], self.heap.values.take(cells))
        valid = tags != NULL
        mask = None if valid.all() else valid
        if tag == INTEGER:
            return Vector(Kind.INT, cells, mask)
        if tag == FLOAT:
            return Vector(Kind.FLOAT, cells.view(np.float64), mask)
        return Vector(Kind.BOOL, cells != 0, mask)

    def _vector_of_one(self, owner: int) -> Vector:
        chunk = self.chunks.get(owner >> CHUNK_BITS)
        if chunk is None:
            return self._null_of_one()
        tags, cells = chunk.arrays
        offset = owner & CHUNK_MASK
        tag = tags.item(offset)
        if tag == NULL:
            return self._null_of_one()
        if tag >= STRING:
            data = np.empty(1, dtype=object)
            data[0] = self.heap.values[cells.item(offset)]
            return Vector(_KINDS[tag], data)
        cell = cells[offset : offset + 1].copy()
        if tag == INTEGER:
            return Vector(Kind.INT, cell)
        if tag == FLOAT:
            return Vector(Kind.FLOAT, cell.view(np.float64))
        return Vector(Kind.BOOL, cell != 0)

    def _null_of_one(self) -> Vector:
        present = [tag for tag in range(1, TAGS) if self.counts[tag]]
        return Vector.nulls(_KINDS[present[0]] if len(present) == 1 else Kind.OBJECT, 1)

    def decode(self, tags: TagArray, cells: IntArray) -> ObjectArray:
        """Cells as Python objects, None for null."""
        out: ObjectArray = np.full(len(tags), None, dtype=object)
        for tag in range(1, TAGS):
            if not self.counts[tag]:
                continue
            rows = np.flatnonzero(tags == tag)
            if not rows.size:
                continue
            part = cells[rows]
            if tag >= STRING:
                out[rows] = self.heap.values.take(part)
            elif tag == FLOAT:
                out[rows] = part.view(np.float64).astype(object)
            else:
                out[rows] = (part if tag == INTEGER else part != 0).astype(object)
        return out

    # writes (by the root that owns this column's epoch)

    def put(self, owner: int, value: Any) -> bool:
        """Set one value (None removes); True if there was a value before."""
        tag = _TAG_OF_TYPE.get(type(value), OBJECT)
        if tag == NULL:
            return self._remove_one(owner)
        if tag == STRING:
            cell: Any = self.heap.string(value)
        elif tag == OBJECT:
            cell = self.heap.add(value)
        else:
            cell = value
        tags, cells = self.own(owner >> CHUNK_BITS)
        offset = owner & CHUNK_MASK
        old: int = tags.item(offset)
        tags[offset] = tag
        if tag == FLOAT:
            cells.view(np.float64)[offset] = cell
        else:
            cells[offset] = cell
        self.counts[tag] += 1
        if old:
            self.counts[old] -= 1
        if tag >= STRING and self.heap.count > _GARBAGE_SPARE:
            self._sweep()
        return old != NULL

    def _remove_one(self, owner: int) -> bool:
        chunk = self.chunks.get(owner >> CHUNK_BITS)
        offset = owner & CHUNK_MASK
        if chunk is None or not chunk.arrays[0].item(offset):
            return False
        tags, cells = self.own(owner >> CHUNK_BITS)
        self.counts[tags.item(offset)] -= 1
        tags[offset] = NULL
        cells[offset] = 0
        return True

    def write(self, parts: list[Piece], vector: Vector, *, fresh: bool = False) -> int:
        """Set the values of distinct ids (null removes); how many had a value before.

        ``fresh`` promises that none of them has one.
        """
        tags, cells = encode_vector(vector, self.heap)
        counts = np.bincount(tags, minlength=TAGS) if isinstance(tags, np.ndarray) else None
        if counts is not None and fresh and counts.item(NULL) == len(vector):
            return 0
        before = 0
        for number, rows, offsets, count in parts:
            own_tags, own_cells = self.own(number)
            if not fresh:
                old = np.bincount(own_tags[offsets], minlength=TAGS).tolist()
                before += count - old[NULL]
                for tag in range(1, TAGS):
                    self.counts[tag] -= old[tag]
            own_tags[offsets] = tags if counts is None else tags[rows]  # type: ignore[index]
            own_cells[offsets] = cells[rows]
        if counts is None:
            self.counts[tags] += len(vector)
        else:
            for tag, added in enumerate(counts.tolist()):
                self.counts[tag] += added
        if self.heap.count > _GARBAGE_SPARE:
            self._sweep()
        return before

    def clear(self, parts: list[Piece]) -> int:
        """Remove the values of distinct ids; how many there were."""
        removed = 0
        for number, _, offsets, _ in parts:
            chunk = self.chunks.get(number)
            if chunk is None:
                continue
            old = np.bincount(chunk.arrays[0][offsets], minlength=TAGS).tolist()
            hits = sum(old[1:])
            if not hits:
                continue
            removed += hits
            for tag in range(1, TAGS):
                self.counts[tag] -= old[tag]
            tags, cells = self.own(number)
            tags[offsets] = NULL
            cells[offsets] = 0
            if not tags.any():
                self.drop(number)
        return removed

    def _sweep(self) -> None:
        """Build a new heap for this column if most of the old one is garbage."""
        live = self.counts[STRING] + self.counts[OBJECT]
        if self.heap.count <= 2 * live + _GARBAGE_SPARE:
            return
        heap = Heap()
        values = self.heap.values
        for number in self.order():
            tags = self.chunks[number].arrays[0]
            texts = np.flatnonzero(tags == STRING)
            others = np.flatnonzero(tags == OBJECT)
            if texts.size or others.size:
                cells = self.own(number)[1]
                cells[texts] = heap.strings(values.take(cells[texts]).tolist())
                cells[others] = [heap.add(values[code]) for code in cells[others].tolist()]
        self.heap = heap


def encode_vector(vector: Vector, heap: Heap) -> tuple[TagArray | int, IntArray]:
    """Tags (one int if all are the same) and cells of a vector; new values go to ``heap``."""
    kind = vector.kind
    if kind is Kind.STRING:
        codes = heap.strings(vector.data.tolist())
        tags: TagArray | int = STRING
        if not codes.all():
            tags = np.where(codes == 0, NULL, STRING).astype(np.uint8)
        return tags, codes
    if kind is Kind.OBJECT:
        return _encode_objects(vector.data.tolist(), heap)
    if kind is Kind.INT:
        cells, tag = vector.data, INTEGER
    elif kind is Kind.FLOAT:
        cells, tag = np.ascontiguousarray(vector.data).view(np.int64), FLOAT
    elif kind is Kind.BOOL:
        cells, tag = vector.data.astype(np.int64), BOOLEAN
    else:
        raise TypeError(f"a {kind.name} vector cannot be stored as a property")
    if vector.valid is None or vector.valid.all():
        return tag, cells
    return (vector.valid * np.uint8(tag)).astype(np.uint8), np.where(vector.valid, cells, 0)


def _encode_objects(values: list[Any], heap: Heap) -> tuple[TagArray, IntArray]:
    tags = np.array([_TAG_OF_TYPE.get(type(v), OBJECT) for v in values], dtype=np.uint8)
    cells = np.zeros(len(values), dtype=np.int64)
    floats = cells.view(np.float64)
    for row, (tag, value) in enumerate(zip(tags.tolist(), values, strict=True)):
        if tag in (INTEGER, BOOLEAN):
            cells[row] = value
        elif tag == FLOAT:
            floats[row] = value
        elif tag == STRING:
            cells[row] = heap.string(value)
        elif tag == OBJECT:
            cells[row] = heap.add(value)
    return tags, cells
