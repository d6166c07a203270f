"""A digest of what a root holds, equal on servers that hold the same.

The digest covers the contents in a canonical form: names in catalog order, which nodes exist and
have which label, every property with its type, every relationship, the counts by type, the schema
and the next ids. It does not depend on how the contents came about or how they are kept: forks,
merges of runs, numbers in heaps, rebuilt indexes and snapshots leave it alone. All that is fed to
the hash is ordered by id or by catalog number and framed with lengths. Adjacency and indexes are
made from what is covered and are not covered themselves.

*Two levels.* A piece (a column, a bitmap, the relationship table) is hashed as the sequence of its
chunks' numbers and digests, a chunk's digest is a hash of its 4,096 rows. The digest of a chunk is
a function of its contents alone, so it is kept with the chunk until somebody writes there
(``Chunked.own``): ``quick_digest`` of a root in which a few chunks changed since the last one
costs the hashing of those few. Chunks that roots share are hashed once for all of them.

*Scrubbing.* A kept digest would hide that memory went bad under a chunk that nobody writes to. So
each ``quick_digest`` with another ``turn`` looks anew at another part of the chunks, and after
``SCRUB_TURNS`` of them every chunk has been read again.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Protocol

import numpy as np

from graph.bitmaps import Bitmap
from graph.chunked import Arrays, Chunk, Chunked
from graph.columns import OBJECT, STRING, TAGS, Column
from graph.reads import Reads
from graph.relationships import DEAD
from graph.value_codec import write_value

__all__ = ["DIGEST_BYTES", "SCRUB_TURNS", "digest", "quick_digest"]

DIGEST_BYTES = 16
# Every chunk is hashed anew at least once in so many quick digests.
SCRUB_TURNS = 16

_VERSION = b"rayft graph digest 2"


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def digest(root: Reads) -> bytes:
    """16 bytes (BLAKE2b, RFC 7693) that tell whether two roots hold the same.

    Reads everything and relies on nothing that was kept.
    """
    return _digest(root, lambda number: True)


def quick_digest(root: Reads, turn: int = 0) -> bytes:
    """The same value, from the kept digests of chunks that did not change.

    ``turn`` says which part of the chunks is read again all the same: count it up.
    """
    part = turn % SCRUB_TURNS
    return _digest(root, lambda number: number % SCRUB_TURNS == part)


def _digest(root: Reads, anew: Callable[[int], bool]) -> bytes:
    state = hashlib.blake2b(_VERSION, digest_size=DIGEST_BYTES)
    _numbers(state, root.next_node_id, root.next_relationship_id)
    for names in (root.label_names.names, root.type_names.names, root.key_names.names):
        _text(state, *names)
    for members in (root.alive, *root.labels_members):
        _numbers(state, members.count)
        _chunks(state, members, _bitmap_rows, anew)
    for column in (*root.node_columns, *root.relationship_columns):
        _numbers(state, column.count)
        _chunks(state, column, _column_rows, anew)
    _numbers(state, root.table.count, *root.type_counts, *root.loops)
    _chunks(state, root.table, _relationship_rows, anew)
    for index in root.schema.indexes.values():
        info = index.info
        _text(state, info.name, info.kind, info.entity, info.label, *info.properties)
        _text(state, info.constraint or "")
    return state.digest()


def _numbers(state: _Hash, *numbers: int) -> None:
    state.update(struct.pack(f"<{len(numbers)}q", *numbers))


def _block(state: _Hash, data: bytes) -> None:
    _numbers(state, len(data))
    state.update(data)


def _text(state: _Hash, *texts: str) -> None:
    _numbers(state, len(texts))
    for text in texts:
        _block(state, text.encode("utf-8", "surrogatepass"))


_Rows = Callable[[_Hash, Chunked, Arrays], bool]


def _chunks(state: _Hash, piece: Chunked, rows: _Rows, anew: Callable[[int], bool]) -> None:
    """The piece's chunks, but for empty ones, which may or may not be there."""
    found = bytearray()
    count = 0
    for number in piece.order():
        kept = _of_chunk(piece, piece.chunks[number], rows, anew(number))
        if kept:
            count += 1
            found += struct.pack("<q", number) + kept
    _numbers(state, count)
    state.update(bytes(found))


def _of_chunk(piece: Chunked, chunk: Chunk, rows: _Rows, anew: bool) -> bytes:
    """The chunk's digest; empty for an empty chunk."""
    if chunk.digest is not None and not anew:
        return chunk.digest
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    chunk.digest = state.digest() if rows(state, piece, chunk.arrays) else b""
    return chunk.digest


def _bitmap_rows(state: _Hash, piece: Chunked, arrays: Arrays) -> bool:
    assert isinstance(piece, Bitmap)
    bits = arrays[0]
    state.update(np.packbits(bits).tobytes())
    return bool(bits.any())


def _column_rows(state: _Hash, piece: Chunked, arrays: Arrays) -> bool:
    assert isinstance(piece, Column)
    tags, cells = arrays
    if not tags.any():
        return False
    state.update(tags.tobytes())
    plain = np.flatnonzero((tags != 0) & (tags < STRING))
    _block(state, cells[plain].astype("<i8").tobytes())
    # All lengths, then all texts: one by one this would be most of the work.
    texts = piece.heap.values.take(cells[tags == STRING]).tolist()
    _block(state, np.fromiter(map(len, texts), "<i8", len(texts)).tobytes())
    _block(state, "".join(texts).encode("utf-8", "surrogatepass"))
    values = bytearray()
    for value in piece.heap.values.take(cells[tags == OBJECT]).tolist():
        write_value(values, value)
    _block(state, bytes(values))
    return True


def _relationship_rows(state: _Hash, piece: Chunked, arrays: Arrays) -> bool:
    types, sources, targets = arrays
    offsets = np.flatnonzero(types != DEAD)
    for cells in (offsets, types[offsets], sources[offsets], targets[offsets]):
        _block(state, cells.astype("<i8").tobytes())
    return bool(offsets.size)


assert OBJECT == TAGS - 1  # strings and objects are the last tags
