"""Chunked arrays with copy on write: the ground that columns, bitmaps and tables stand on.

A ``Chunked`` maps an id to a tuple of cells. Ids are cut into chunks of 4,096; a chunk is one
NumPy array per cell of the tuple, and a chunk nobody wrote to is absent, so a hole in the ids
costs nothing.

*Copy on write.* A chunked array and each of its chunks carry the epoch in which they were made.
A root that owns the array's epoch calls :meth:`Chunked.own` before it writes: a chunk of the
same epoch is written in place, an older one is copied first. Whoever shares the array through a
fork has another epoch by then, and never sees the write.

*Flat form.* A gather of ids that lie in many chunks costs some microseconds for each chunk. When
an array has paid as much for such gathers as a rebuild costs, it lays its chunks end to end in
one flat array, from which a gather is a single ``take``; the chunks become views of it, so
memory is not doubled. A chunk written afterwards is *dirty*: its rows are fetched the slow way,
which adds to the debt again, until the next rebuild pays it off. Like renting skis until the
rent equals the price, this costs at most about twice what the best schedule would.

*Threads.* Only readers build a flat form, and a reader's root is not written to meanwhile. The
build replaces chunks by views with equal contents and then publishes the flat form in one
assignment; two readers that build at once do the work twice and no harm. Code that writes must
call ``own`` immediately before it writes and must not gather in between.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graph.vector import IntArray

__all__ = ["CHUNK_BITS", "CHUNK_IDS", "CHUNK_MASK", "Chunk", "Chunked", "Epoch", "Piece", "pieces"]

CHUNK_BITS = 12
CHUNK_IDS = 1 << CHUNK_BITS
CHUNK_MASK = CHUNK_IDS - 1

# A flat form may be this much larger than the chunks that exist (holes), plus some.
_FLAT_SPARSENESS_MAX = 8
_FLAT_SPARE_CHUNKS = 64

Arrays = tuple[npt.NDArray[Any], ...]
Layout = tuple[tuple[Any, Any], ...]


class Epoch:
    """Identity of one root between two forks."""

    __slots__ = ()


class Piece(NamedTuple):
    """The rows of an id array that fall in one chunk: ``ids[rows] & mask == offsets``."""

    chunk: int
    rows: Any
    offsets: Any
    length: int


def pieces(ids: IntArray) -> list[Piece]:
    """Cut ``ids`` (any order, not empty) by chunk. A contiguous range gives slices."""
    count = len(ids)
    first = ids.item(0)
    if count == 1:
        return [Piece(first >> CHUNK_BITS, _FIRST_ROW, _slice_at(first & CHUNK_MASK, 1), 1)]
    if ids.item(-1) - first == count - 1 and bool((ids[1:] - ids[:-1] == 1).all()):
        return _range_pieces(first, count)
    numbers = ids >> CHUNK_BITS
    changes = numbers[1:] != numbers[:-1]
    if not changes.any():
        return [Piece(first >> CHUNK_BITS, slice(0, count), ids & CHUNK_MASK, count)]
    order: IntArray | None = None
    if bool((numbers[1:] < numbers[:-1]).any()):
        low = int(numbers.min())
        narrow: npt.NDArray[Any] = numbers - low
        if int(numbers.max()) - low < 65_536:
            narrow = narrow.astype(np.uint16)  # NumPy sorts 16-bit keys by radix
        order = np.argsort(narrow, kind="stable")
        numbers = numbers[order]
        ids = ids[order]
        changes = numbers[1:] != numbers[:-1]
    offsets = ids & CHUNK_MASK
    cuts = [0, *(np.flatnonzero(changes) + 1).tolist(), count]
    result = []
    for start, stop in pairwise(cuts):
        rows: Any = slice(start, stop) if order is None else order[start:stop]
        number = numbers.item(start)
        result.append(Piece(number, rows, offsets[start:stop], stop - start))
    return result


def _range_pieces(first: int, count: int) -> list[Piece]:
    result = []
    row = 0
    while row < count:
        offset = (first + row) & CHUNK_MASK
        length = min(count - row, CHUNK_IDS - offset)
        number = (first + row) >> CHUNK_BITS
        result.append(Piece(number, slice(row, row + length), _slice_at(offset, length), length))
        row += length
    return result


def _slice_at(start: int, length: int) -> slice:
    return slice(start, start + length)


_FIRST_ROW = slice(0, 1)


class Chunk:
    """The cells of 4,096 ids, and the epoch that may write them in place.

    ``digest`` is kept by ``digest.py`` for as long as nobody writes: None means not known.
    """

    __slots__ = ("arrays", "digest", "epoch")

    def __init__(self, epoch: Epoch | None, arrays: Arrays, digest: bytes | None = None) -> None:
        self.epoch = epoch
        self.arrays = arrays
        self.digest = digest


class _Flat:
    """All chunks end to end, with one empty cell before and one after for ids out of range."""

    __slots__ = ("arrays", "dirty", "dirty_any")

    def __init__(self, arrays: Arrays, dirty: npt.NDArray[np.bool_], dirty_any: bool) -> None:
        self.arrays = arrays
        self.dirty = dirty  # index: chunk number + 1; the last one stands for all beyond the end
        self.dirty_any = dirty_any

    def copy(self) -> _Flat:
        return _Flat(self.arrays, self.dirty.copy(), self.dirty_any)

    def mark(self, number: int) -> None:
        last = len(self.dirty) - 1
        self.dirty[number + 1 if number < last else last] = True
        self.dirty_any = True


class Chunked:
    """A sparse array of tuples, copied on write by chunk.

    ``layout`` gives dtype and empty value of each cell of the tuple.
    """

    __slots__ = ("_debt", "_flat", "_order", "chunks", "epoch", "layout")

    def __init__(self, epoch: Epoch, layout: Layout) -> None:
        self.epoch = epoch
        self.layout = layout
        self.chunks: dict[int, Chunk] = {}
        self._flat: _Flat | None = None
        self._debt = 0
        self._order: list[int] | None = None

    def _share(self, other: Chunked) -> None:
        """Become a shallow copy of ``other``; this array's epoch is not the other's."""
        self.chunks = other.chunks.copy()
        flat = other._flat
        self._flat = None if flat is None else flat.copy()
        self._debt = other._debt
        self._order = other._order

    def order(self) -> list[int]:
        """Numbers of the chunks that exist, ascending."""
        order = self._order
        if order is None:
            order = self._order = sorted(self.chunks)
        return order

    def own(self, number: int) -> Arrays:
        """The arrays of a chunk, made or copied if need be, for writing in place now."""
        chunk = self.chunks.get(number)
        if chunk is None:
            arrays = tuple(np.full(CHUNK_IDS, fill, dtype) for dtype, fill in self.layout)
            chunk = self.chunks[number] = Chunk(self.epoch, arrays)
            self._order = None
        elif chunk.epoch is not self.epoch:
            chunk = Chunk(self.epoch, tuple([array.copy() for array in chunk.arrays]))
            self.chunks[number] = chunk
        else:
            chunk.digest = None
        if self._flat is not None:
            self._flat.mark(number)
        return chunk.arrays

    def drop(self, number: int) -> None:
        """Forget a chunk whose cells are all empty."""
        if self.chunks.pop(number, None) is not None:
            self._order = None
            if self._flat is not None:
                self._flat.mark(number)

    def gather(self, ids: IntArray) -> Arrays:
        """The cells at ``ids``, one fresh array per cell of the tuple. Unknown ids are empty."""
        flat = self._flat
        if flat is None:
            return self._gather_pieces(ids)
        index = ids + 1
        out = tuple([array.take(index, mode="clip") for array in flat.arrays])
        if flat.dirty_any:
            dirty = flat.dirty.take((ids >> CHUNK_BITS) + 1, mode="clip")
            rows = np.flatnonzero(dirty)
            if rows.size:
                fresh = self._gather_pieces(ids[rows])
                for target, source in zip(out, fresh, strict=True):
                    target[rows] = source
        return out

    def _gather_pieces(self, ids: IntArray) -> Arrays:
        count = len(ids)
        if count == 0:
            return tuple([np.empty(0, dtype) for dtype, _ in self.layout])
        parts = pieces(ids)
        self._debt += len(parts)
        out = tuple([np.empty(count, dtype) for dtype, _ in self.layout])
        for number, rows, offsets, _ in parts:
            chunk = self.chunks.get(number)
            if chunk is None:
                for target, (_, fill) in zip(out, self.layout, strict=True):
                    target[rows] = fill
            else:
                for target, source in zip(out, chunk.arrays, strict=True):
                    target[rows] = source[offsets]
        if self._debt > _FLAT_SPARE_CHUNKS + len(self.chunks):
            self._flatten()
        return out

    def _flatten(self) -> None:
        self._debt = 0
        order = self.order()
        if len(order) < 2:
            return
        chunk_count = order[-1] + 1
        if chunk_count > _FLAT_SPARSENESS_MAX * len(order) + _FLAT_SPARE_CHUNKS:
            self._debt = -16 * len(order)
            return
        cells = chunk_count * CHUNK_IDS
        arrays = tuple([np.empty(cells + 2, dtype) for dtype, _ in self.layout])
        for array, (_, fill) in zip(arrays, self.layout, strict=True):
            array[0] = array[-1] = fill
        for number in range(chunk_count):
            start = number * CHUNK_IDS + 1
            views = tuple([array[start : start + CHUNK_IDS] for array in arrays])
            chunk = self.chunks.get(number)
            if chunk is None:
                for view, (_, fill) in zip(views, self.layout, strict=True):
                    view.fill(fill)
                continue
            for view, source in zip(views, chunk.arrays, strict=True):
                view[:] = source
            self.chunks[number] = Chunk(None, views, chunk.digest)
        self._flat = _Flat(arrays, np.zeros(chunk_count + 2, np.bool_), False)

    def memory_bytes(self) -> int:
        """Bytes of the chunks, shared ones included; views of a flat form count once."""
        row = sum(np.dtype(dtype).itemsize for dtype, _ in self.layout)
        return len(self.chunks) * CHUNK_IDS * row
