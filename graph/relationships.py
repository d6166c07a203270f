"""The relationship table: type, source and target of every relationship, by id."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from graph.bitmaps import scan_chunks
from graph.chunked import CHUNK_BITS, CHUNK_MASK, Chunked, Epoch, Layout, Piece
from graph.vector import BoolArray, IntArray

__all__ = ["DEAD", "RelationshipTable"]

# Type ids start at 1 here, so that the empty cell of a chunk (0) means: no such relationship.
DEAD = 0

_LAYOUT: Layout = ((np.int32, DEAD), (np.int64, 0), (np.int64, 0))

TypeArray = npt.NDArray[np.int32]


class RelationshipTable(Chunked):
    """Cells: type id + 1 (0 if the relationship does not exist), source, target."""

    __slots__ = ("count",)

    def __init__(self, epoch: Epoch) -> None:
        super().__init__(epoch, _LAYOUT)
        self.count = 0

    def copy(self, epoch: Epoch) -> RelationshipTable:
        twin = RelationshipTable(epoch)
        twin._share(self)
        twin.count = self.count
        return twin

    def __contains__(self, relationship: int) -> bool:
        chunk = self.chunks.get(relationship >> CHUNK_BITS)
        return chunk is not None and chunk.arrays[0].item(relationship & CHUNK_MASK) != DEAD

    def mask(self, ids: IntArray) -> BoolArray:
        """Which relationships exist."""
        if len(ids) == 1:
            return np.array([ids.item(0) in self], dtype=np.bool_)
        alive: BoolArray = self.gather(ids)[0] != DEAD
        return alive

    def get(self, relationship: int) -> tuple[int, int, int] | None:
        """Type id, source and target of one relationship; None if it does not exist."""
        chunk = self.chunks.get(relationship >> CHUNK_BITS)
        if chunk is None:
            return None
        types, sources, targets = chunk.arrays
        offset = relationship & CHUNK_MASK
        type_cell: int = types.item(offset)
        if type_cell == DEAD:
            return None
        return type_cell - 1, sources.item(offset), targets.item(offset)

    def ends(self, ids: IntArray) -> tuple[TypeArray, IntArray, IntArray]:
        """Type ids (-1 where there is no relationship), sources and targets."""
        types, sources, targets = self.gather(ids)
        return types - np.int32(1), sources, targets

    def put(self, relationship: int, type_id: int, source: int, target: int) -> None:
        types, sources, targets = self.own(relationship >> CHUNK_BITS)
        offset = relationship & CHUNK_MASK
        types[offset] = type_id + 1
        sources[offset] = source
        targets[offset] = target
        self.count += 1

    def write(self, parts: list[Piece], type_id: int, sources: IntArray, targets: IntArray) -> None:
        """Enter new relationships."""
        for number, rows, offsets, count in parts:
            own_types, own_sources, own_targets = self.own(number)
            own_types[offsets] = type_id + 1
            own_sources[offsets] = sources[rows]
            own_targets[offsets] = targets[rows]
            self.count += count

    def erase(self, parts: list[Piece]) -> None:
        """Remove relationships that exist."""
        for number, _, offsets, count in parts:
            types, sources, targets = self.own(number)
            types[offsets] = DEAD
            sources[offsets] = 0
            targets[offsets] = 0
            self.count -= count
            if not types.any():
                self.drop(number)

    def scan(
        self, start: int, limit: int, type_id: int | None = None
    ) -> tuple[IntArray, int | None]:
        """Up to ``limit`` ids from ``start`` on (of one type), ascending, and where to go on."""
        return scan_chunks(self, start, limit, None if type_id is None else type_id + 1)
