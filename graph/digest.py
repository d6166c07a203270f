"""A digest of what a root holds, equal on servers that hold the same.

The digest covers the contents in a canonical form: names in catalog order, which nodes exist and
have which label, every property with its type, every relationship, the schema and the next ids.
It does not depend on how the contents came about or how they are kept: forks, merges of runs,
numbers in heaps, rebuilt indexes and snapshots leave it alone. All that is fed to the hash is
ordered by id or by catalog number and framed with lengths.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Protocol

import numpy as np

from graph.bitmaps import Bitmap
from graph.chunked import CHUNK_BITS
from graph.columns import OBJECT, STRING, TAGS, Column
from graph.reads import Reads
from graph.relationships import DEAD
from graph.value_codec import write_value

__all__ = ["digest"]

_VERSION = b"rayft graph digest 1"


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def digest(root: Reads) -> bytes:
    """16 bytes (BLAKE2b, RFC 7693) that tell whether two roots hold the same."""
    state = hashlib.blake2b(_VERSION, digest_size=16)
    _numbers(state, root.next_node_id, root.next_relationship_id)
    for names in (root.label_names.names, root.type_names.names, root.key_names.names):
        _text(state, *names)
    _bitmap(state, root.alive)
    for members in root.labels_members:
        _bitmap(state, members)
    for column in (*root.node_columns, *root.relationship_columns):
        _column(state, column)
    _relationships(state, root)
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


def _bitmap(state: _Hash, members: Bitmap) -> None:
    _numbers(state, members.count)
    for number in members.order():
        bits = members.chunks[number].arrays[0]
        if bits.any():
            _numbers(state, number)
            _block(state, np.packbits(bits).tobytes())


def _column(state: _Hash, column: Column) -> None:
    _numbers(state, column.count)
    for number in column.order():
        tags, cells = column.chunks[number].arrays
        if not tags.any():
            continue
        _numbers(state, number)
        _block(state, tags.tobytes())
        plain = np.flatnonzero((tags != 0) & (tags < STRING))
        _block(state, cells[plain].astype("<i8").tobytes())
        values = bytearray()
        for tag in range(STRING, TAGS):
            rows = np.flatnonzero(tags == tag)
            for value in column.heap.values.take(cells[rows]).tolist():
                write_value(values, value)
        _block(state, bytes(values))


def _relationships(state: _Hash, root: Reads) -> None:
    table = root.table
    _numbers(state, table.count)
    for number in table.order():
        types, sources, targets = table.chunks[number].arrays
        offsets = np.flatnonzero(types != DEAD)
        if not offsets.size:
            continue
        _numbers(state, number << CHUNK_BITS)
        for cells in (offsets, types[offsets], sources[offsets], targets[offsets]):
            _block(state, cells.astype("<i8").tobytes())


assert OBJECT == TAGS - 1  # strings and objects are the last tags
