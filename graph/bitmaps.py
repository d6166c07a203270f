"""Bitmaps over ids: which nodes are alive, which nodes have a label.

One byte for each id, not one bit: a gather is then a single NumPy ``take`` and a write needs no
read. An absent chunk has no member, so a rare label costs nothing where it does not occur.
"""

from __future__ import annotations

import numpy as np

from graph.chunked import CHUNK_BITS, CHUNK_MASK, Chunked, Epoch, Layout, Piece
from graph.vector import BoolArray, IntArray

__all__ = ["Bitmap"]

_LAYOUT: Layout = ((np.bool_, False),)


class Bitmap(Chunked):
    """A set of ids with its size, copied on write."""

    __slots__ = ("count",)

    def __init__(self, epoch: Epoch) -> None:
        super().__init__(epoch, _LAYOUT)
        self.count = 0

    def copy(self, epoch: Epoch) -> Bitmap:
        twin = Bitmap(epoch)
        twin._share(self)
        twin.count = self.count
        return twin

    def __contains__(self, member: int) -> bool:
        chunk = self.chunks.get(member >> CHUNK_BITS)
        return chunk is not None and chunk.arrays[0].item(member & CHUNK_MASK)

    def mask(self, ids: IntArray) -> BoolArray:
        """Which of ``ids`` are members."""
        if len(ids) == 1:
            return np.array([ids.item(0) in self], dtype=np.bool_)
        if self.count == 0:
            return np.zeros(len(ids), dtype=np.bool_)
        return self.gather(ids)[0]

    def add_one(self, member: int) -> bool:
        """Add an id; True if it was not a member."""
        bits = self.own(member >> CHUNK_BITS)[0]
        offset = member & CHUNK_MASK
        if bits.item(offset):
            return False
        bits[offset] = True
        self.count += 1
        return True

    def add(self, parts: list[Piece]) -> int:
        """Add distinct ids; the number that were not members."""
        added = 0
        for number, _, offsets, count in parts:
            bits = self.own(number)[0]
            added += count - int(np.count_nonzero(bits[offsets]))
            bits[offsets] = True
        self.count += added
        return added

    def discard(self, parts: list[Piece]) -> int:
        """Remove distinct ids; the number that were members."""
        removed = 0
        for number, _, offsets, _ in parts:
            chunk = self.chunks.get(number)
            if chunk is None:
                continue
            hits = int(np.count_nonzero(chunk.arrays[0][offsets]))
            if not hits:
                continue
            bits = self.own(number)[0]
            bits[offsets] = False
            removed += hits
            if not np.count_nonzero(bits):
                self.drop(number)
        self.count -= removed
        return removed

    def scan(self, start: int, limit: int) -> tuple[IntArray, int | None]:
        """Up to ``limit`` members from ``start`` on, ascending, and where to go on (or None)."""
        return scan_chunks(self, start, limit)


def scan_chunks(
    table: Chunked, start: int, limit: int, member: int | None = None
) -> tuple[IntArray, int | None]:
    """Ids from ``start`` on whose first cell is true (or equals ``member``), ascending.

    Returns at most ``limit`` ids and the id at which the next scan starts, None at the end.
    """
    order = table.order()
    found: list[IntArray] = []
    total = 0
    for number in order[_first_at_least(order, start >> CHUNK_BITS) :]:
        cells = table.chunks[number].arrays[0]
        low = start & CHUNK_MASK if number == start >> CHUNK_BITS else 0
        if low:
            cells = cells[low:]
        hits = np.flatnonzero(cells if member is None else cells == member)
        if not hits.size:
            continue
        found.append(hits + ((number << CHUNK_BITS) + low))
        total += len(hits)
        if total > limit:
            ids = np.concatenate(found) if len(found) > 1 else found[0]
            return ids[:limit], ids.item(limit)
    if not found:
        return np.empty(0, dtype=np.int64), None
    return (np.concatenate(found) if len(found) > 1 else found[0]), None


def _first_at_least(order: list[int], number: int) -> int:
    from bisect import bisect_left

    return bisect_left(order, number)
