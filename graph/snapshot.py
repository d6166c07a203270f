"""Snapshot images: a root as a stream of bytes, and back.

An image is a header and a sequence of sections::

    "RAYFTGRF" u16 version, u16 0
    section: one frame or more
    frame:   u8 tag, u8 flags, u32 raw length, u32 stored length, u32 CRC-32, stored bytes

The checksum covers the four fields before it and the stored bytes. Stored bytes are compressed
(Zstandard, level 1) if that makes them smaller. A frame has at most 8 MiB; all frames of a section
but the last say that it goes on. A section holds at most 16 chunks of one column, so neither
side ever holds the whole image, and a writer may be paused between any two frames. The root that
is written must not be changed meanwhile: write a fork.

Sections come in this order: META (names, schema, next ids), NODES (liveness), LABEL per label,
NODE_COLUMN per key, RELATIONSHIPS, RELATIONSHIP_COLUMN per key, END (the number of sections). A
column's strings and objects are written once for each section and referred to by number.
Adjacency and indexes are rebuilt from the tables: they are larger than what they come from.

Measured on 100,000 nodes with seven properties and 500,000 relationships (33 MB): Zstandard 1 gives
13.9 MB in 0.15 s and gives it back in 0.08 s, zlib 1 15.6 MB in 0.58 and 0.18 s; higher levels cost
more than they save. Version 1 had zlib in its place and is still read.

An image is the same graph whatever its bytes: two servers may write different images of equal
roots. ``digest.py`` compares roots.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from graph.bitmaps import Bitmap
from graph.chunked import CHUNK_BITS, CHUNK_IDS, Chunked
from graph.columns import NULL, OBJECT, STRING, TAGS, Column
from graph.distinct import distinct
from graph.errors import CorruptionError
from graph.indexes import ConstraintInfo, Index, IndexInfo, Schema
from graph.limits import CATALOG_NAMES_MAX, ID_MAX, INDEXES_MAX, SNAPSHOT_SECTION_BYTES_MAX
from graph.relationships import DEAD
from graph.schema_changes import build_index
from graph.store import Root
from graph.vector import IntArray, Kind, Vector
from graph.write_set_codec import Reader, write_vector

__all__ = ["VERSION", "read_snapshot", "write_snapshot"]

VERSION = 2

_READABLE = (1, VERSION)
_MAGIC = b"RAYFTGRF"
_HEADER = struct.Struct("<8sHH")
_SECTION = struct.Struct("<BBII")
_CHECKSUM = struct.Struct("<I")
_ZLIB = 1
_GOES_ON = 2
_ZSTANDARD = 4
_LEVEL = 1
_CHUNKS_PER_SECTION = 16
_FRAME_BYTES_MAX = 8 * 1024 * 1024


class _Tag(IntEnum):
    META = 1
    NODES = 2
    LABEL = 3
    NODE_COLUMN = 4
    RELATIONSHIPS = 5
    RELATIONSHIP_COLUMN = 6
    END = 7


# writing


def write_snapshot(root: Root) -> Iterator[bytes]:
    """The image of ``root``, section by section. Nobody may change ``root`` meanwhile."""
    yield _HEADER.pack(_MAGIC, VERSION, 0)
    count = 0
    for tag, raw in _sections(root):
        count += 1
        last = max(0, len(raw) - 1) // _FRAME_BYTES_MAX
        for part in range(last + 1):
            piece = raw[part * _FRAME_BYTES_MAX : (part + 1) * _FRAME_BYTES_MAX]
            yield _framed(tag, piece, goes_on=part < last)
    yield _framed(_Tag.END, struct.pack("<Q", count), goes_on=False)


def _framed(tag: _Tag, raw: bytes, *, goes_on: bool) -> bytes:
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(raw)
    small = len(packed) < len(raw)
    stored = packed if small else raw
    flags = (_ZSTANDARD if small else 0) | (_GOES_ON if goes_on else 0)
    head = _SECTION.pack(tag, flags, len(raw), len(stored))
    return head + _CHECKSUM.pack(zlib.crc32(stored, zlib.crc32(head))) + stored


def _sections(root: Root) -> Iterator[tuple[_Tag, bytes]]:
    yield _Tag.META, _meta(root)
    yield from _bitmap_sections(_Tag.NODES, 0, root.alive)
    for number, members in enumerate(root.labels_members):
        yield from _bitmap_sections(_Tag.LABEL, number, members)
    for number, column in enumerate(root.node_columns):
        yield from _column_sections(_Tag.NODE_COLUMN, number, column)
    for numbers in _batches(root.table):
        out = bytearray()
        for chunk in numbers:
            cells = root.table.chunks[chunk].arrays
            offsets = np.flatnonzero(cells[0] != DEAD)
            out += struct.pack("<QI", chunk, len(offsets))
            out += offsets.astype("<u2").tobytes()
            for array, form in zip(cells, ("<i4", "<i8", "<i8"), strict=True):
                out += array[offsets].astype(form).tobytes()
        yield _Tag.RELATIONSHIPS, bytes(out)
    for number, column in enumerate(root.relationship_columns):
        yield from _column_sections(_Tag.RELATIONSHIP_COLUMN, number, column)


def _batches(table: Chunked) -> Iterator[list[int]]:
    order = table.order()
    for start in range(0, len(order), _CHUNKS_PER_SECTION):
        yield order[start : start + _CHUNKS_PER_SECTION]


def _column_batches(column: Column) -> Iterator[list[int]]:
    """A column of strings or objects may have large values: chunk by chunk."""
    if not (column.counts[STRING] or column.counts[OBJECT]):
        return _batches(column)
    return iter([[number] for number in column.order()])


def _bitmap_sections(tag: _Tag, number: int, members: Bitmap) -> Iterator[tuple[_Tag, bytes]]:
    for numbers in _batches(members):
        out = bytearray(struct.pack("<I", number))
        for chunk in numbers:
            out += struct.pack("<Q", chunk)
            out += np.packbits(members.chunks[chunk].arrays[0]).tobytes()
        yield tag, bytes(out)


def _column_sections(tag: _Tag, number: int, column: Column) -> Iterator[tuple[_Tag, bytes]]:
    for numbers in _column_batches(column):
        chunks = [column.chunks[chunk].arrays for chunk in numbers]
        tags = np.concatenate([arrays[0] for arrays in chunks])
        cells = np.concatenate([arrays[1] for arrays in chunks])
        out = bytearray(struct.pack("<II", number, len(numbers)))
        out += np.array(numbers, dtype="<u8").tobytes()
        out += tags.tobytes()
        plain = (tags != NULL) & (tags < STRING)
        for heap_tag in (STRING, OBJECT):
            rows = np.flatnonzero(tags == heap_tag)
            codes, local = np.unique(cells[rows], return_inverse=True)
            out += struct.pack("<I", len(codes))
            if len(codes):
                values = column.heap.values.take(codes)
                write_vector(
                    out, Vector(Kind.STRING if heap_tag == STRING else Kind.OBJECT, values)
                )
                out += local.astype("<u4").tobytes()
        out += cells[plain].astype("<i8").tobytes()
        yield tag, bytes(out)


def _meta(root: Root) -> bytes:
    out = bytearray(struct.pack("<QQ", root.next_node_id, root.next_relationship_id))
    for names in (root.label_names.names, root.type_names.names, root.key_names.names):
        _put_texts(out, names)
    out += struct.pack("<I", len(root.schema.indexes))
    for index in root.schema.indexes.values():
        info = index.info
        _put_texts(out, (info.name, info.kind, info.entity, info.label, info.constraint or ""))
        _put_texts(out, info.properties)
    return bytes(out)


def _put_texts(out: bytearray, texts: Sequence[str]) -> None:
    out += struct.pack("<I", len(texts))
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        out += struct.pack("<I", len(encoded)) + encoded


# reading


def read_snapshot(image: Iterable[bytes]) -> Root:
    """The root that an image holds; the pieces of ``image`` may be cut anywhere.

    Raises ``CorruptionError`` that names the section, for an unknown version, damage, a missing
    section or bytes after the end.
    """
    source = _Source(image)
    magic, version, _ = _HEADER.unpack(source.take(_HEADER.size, "header"))
    if magic != _MAGIC:
        raise CorruptionError("these bytes are not a snapshot image")
    if version not in _READABLE:
        raise CorruptionError(
            f"snapshot of version {version}, but this server reads versions up to {VERSION}; "
            "upgrade it"
        )
    loader = _Loader()
    count = 0
    while True:
        tag, raw = _read_section(source, count)
        if tag == _Tag.END:
            break
        try:
            loader.load(tag, Reader(raw, 0, len(raw)))
        except (struct.error, ValueError, IndexError, OverflowError, KeyError) as error:
            raise CorruptionError(f"snapshot section {count} ({tag.name}): {error}") from error
        except CorruptionError as error:
            place = f"snapshot section {count} ({tag.name})"
            raise CorruptionError(f"{place}: {error.message}") from error
        count += 1
    if len(raw) != 8 or struct.unpack("<Q", raw)[0] != count:
        raise CorruptionError(f"snapshot section {count} (END): sections are missing")
    if source.more():
        raise CorruptionError("bytes after the end of a snapshot image")
    return loader.finish()


def _read_section(source: _Source, number: int) -> tuple[_Tag, bytes]:
    tag, goes_on, raw = _read_frame(source, number)
    parts = [raw]
    total = len(raw)
    while goes_on:
        next_tag, goes_on, raw = _read_frame(source, number)
        total += len(raw)
        if next_tag != tag or total > SNAPSHOT_SECTION_BYTES_MAX:
            raise CorruptionError(f"snapshot section {number}: its frames do not fit together")
        parts.append(raw)
    return tag, b"".join(parts)


def _read_frame(source: _Source, number: int) -> tuple[_Tag, bool, bytes]:
    """The next frame: tag, whether its section goes on, contents."""
    place = f"section {number}"
    head = source.take(_SECTION.size, place)
    tag, flags, raw_length, stored_length = _SECTION.unpack(head)
    (checksum,) = _CHECKSUM.unpack(source.take(4, place))
    if max(raw_length, stored_length) > _FRAME_BYTES_MAX:
        raise CorruptionError(f"snapshot {place}: {raw_length} bytes are more than a frame has")
    stored = source.take(stored_length, place)
    if zlib.crc32(stored, zlib.crc32(head)) != checksum:
        raise CorruptionError(f"snapshot {place} (tag {tag}): its checksum does not fit")
    if tag not in _Tag.__members__.values():
        raise CorruptionError(f"snapshot {place}: unknown tag {tag}; is it of a newer version?")
    try:
        stored = _unpacked(stored, flags, raw_length)
    except (zlib.error, zstandard.ZstdError) as error:
        raise CorruptionError(f"snapshot {place}: {error}") from error
    if len(stored) != raw_length:
        raise CorruptionError(f"snapshot {place}: {len(stored)} bytes instead of {raw_length}")
    return _Tag(tag), bool(flags & _GOES_ON), stored


def _unpacked(stored: bytes, flags: int, length: int) -> bytes:
    """The bytes of a frame, never many more than the ``length`` that it declares."""
    if flags & _ZLIB:
        return zlib.decompressobj().decompress(stored, length + 1)
    if flags & _ZSTANDARD:
        if zstandard.frame_content_size(stored) != length:
            raise zstandard.ZstdError("the compressed data are of another length than declared")
        return zstandard.ZstdDecompressor().decompress(stored)
    return stored


class _Source:
    """Bytes from an iterable of pieces of any size."""

    def __init__(self, image: Iterable[bytes]) -> None:
        self._pieces = iter(image)
        self._buffer = bytearray()

    def take(self, length: int, place: str) -> bytes:
        while len(self._buffer) < length:
            piece = next(self._pieces, None)
            if piece is None:
                raise CorruptionError(f"snapshot {place}: the image ends too early")
            self._buffer += piece
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def more(self) -> bool:
        return bool(self._buffer) or any(self._pieces)


class _Loader:
    """Fills a root section by section."""

    def __init__(self) -> None:
        self.root = Root.empty()
        self.indexes: list[IndexInfo] = []
        self.begun = False

    def load(self, tag: _Tag, reader: Reader) -> None:
        if self.begun is (tag == _Tag.META):
            raise CorruptionError("the first section, and no other, must be META")
        self.begun = True
        if tag == _Tag.META:
            self._meta(reader)
        elif tag in (_Tag.NODES, _Tag.LABEL):
            number = reader.u32()
            self._bitmap(
                self.root.alive if tag == _Tag.NODES else self.root.labels_members[number], reader
            )
        elif tag == _Tag.RELATIONSHIPS:
            self._relationships(reader)
        else:
            columns = self.root.node_columns
            if tag == _Tag.RELATIONSHIP_COLUMN:
                columns = self.root.relationship_columns
            self._column(columns[reader.u32()], reader)
        if reader.position != reader.end:
            raise CorruptionError(f"{reader.end - reader.position} bytes too many")

    def _meta(self, reader: Reader) -> None:
        root = self.root
        root.next_node_id, root.next_relationship_id = reader.i64(), reader.i64()
        if not (0 <= root.next_node_id <= ID_MAX and 0 <= root.next_relationship_id <= ID_MAX):
            raise CorruptionError("a next id is out of range")
        labels, types, keys = _get_texts(reader), _get_texts(reader), _get_texts(reader)
        root.add_names(labels, types, keys)
        if [len(root.label_names), len(root.type_names), len(root.key_names)] != [
            len(labels),
            len(types),
            len(keys),
        ]:
            raise CorruptionError("a name occurs twice")
        count = reader.u32()
        if count > INDEXES_MAX:
            raise CorruptionError(f"{count} indexes are more than {INDEXES_MAX}")
        for _ in range(count):
            name, kind, entity, label, constraint = _get_texts(reader)
            properties = tuple(_get_texts(reader))
            info = IndexInfo(name, kind, entity, label, properties, constraint or None)
            self.indexes.append(info)

    def _bitmap(self, members: Bitmap, reader: Reader) -> None:
        while reader.position < reader.end:
            chunk = self._new_chunk(members, int(reader.i64()))
            bits = reader.bits(CHUNK_IDS)
            members.own(chunk)[0][:] = bits
            members.count += int(np.count_nonzero(bits))

    def _new_chunk(self, table: Chunked, number: int) -> int:
        if number in table.chunks or not 0 <= number < ID_MAX >> CHUNK_BITS:
            raise CorruptionError(f"chunk {number} occurs twice or is out of range")
        return number

    def _column(self, column: Column, reader: Reader) -> None:
        numbers = reader.array("<u8", reader.u32()).tolist()
        tags = reader.array(np.uint8, len(numbers) * CHUNK_IDS)
        counts = np.bincount(tags, minlength=TAGS)
        if len(counts) > TAGS:
            raise CorruptionError(f"unknown tag {len(counts) - 1} of a value")
        cells = np.zeros(len(tags), dtype=np.int64)
        for heap_tag in (STRING, OBJECT):
            rows = np.flatnonzero(tags == heap_tag)
            distinct = reader.u32()
            if distinct > len(rows):
                raise CorruptionError(f"{distinct} values for {len(rows)} cells")
            if not distinct:
                continue
            values = reader.vector(distinct).data.tolist()
            heap = column.heap
            codes = (
                heap.strings(values)
                if heap_tag == STRING
                else np.array([heap.add(value) for value in values], dtype=np.int64)
            )
            cells[rows] = codes[reader.array("<u4", len(rows))]
        plain = np.flatnonzero((tags != NULL) & (tags < STRING))
        cells[plain] = reader.array("<i8", len(plain))
        for position, number in enumerate(numbers):
            own_tags, own_cells = column.own(self._new_chunk(column, number))
            start = position * CHUNK_IDS
            own_tags[:] = tags[start : start + CHUNK_IDS]
            own_cells[:] = cells[start : start + CHUNK_IDS]
        for tag in range(1, TAGS):
            column.counts[tag] += counts.item(tag)

    def _relationships(self, reader: Reader) -> None:
        root = self.root
        table = root.table
        parts: list[tuple[IntArray, npt.NDArray[Any], IntArray, IntArray]] = []
        while reader.position < reader.end:
            chunk = self._new_chunk(table, reader.i64())
            count = reader.u32()
            offsets = reader.array("<u2", count).astype(np.int64)
            types = reader.array("<i4", count)
            sources = reader.array("<i8", count).astype(np.int64)
            targets = reader.array("<i8", count).astype(np.int64)
            if count and not (0 < int(types.min()) <= int(types.max()) <= len(root.type_names)):
                raise CorruptionError("a relationship of an unknown type")
            own_types, own_sources, own_targets = table.own(chunk)
            own_types[offsets], own_sources[offsets], own_targets[offsets] = types, sources, targets
            table.count += count
            parts.append((offsets + (chunk << CHUNK_BITS), types - 1, sources, targets))
        ids, types, sources, targets = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        if not (root.alive.mask(sources).all() and root.alive.mask(targets).all()):
            raise CorruptionError("a relationship whose source or target does not exist")
        for number in distinct(types).tolist():
            rows = types == number
            root.type_counts[number] += int(np.count_nonzero(rows))
            root.loops[number] += int(np.count_nonzero(sources[rows] == targets[rows]))
            root.outgoing[number].add(sources[rows], ids[rows], targets[rows], table.mask)
            root.incoming[number].add(targets[rows], ids[rows], sources[rows], table.mask)

    def finish(self) -> Root:
        """The root, once all sections are there."""
        if not self.begun:
            raise CorruptionError("a snapshot image without a META section")
        root = self.root
        indexes: dict[str, Index] = {}
        constraints: dict[str, ConstraintInfo] = {}
        for info in self.indexes:
            indexes[info.name] = build_index(root, info)
            if info.constraint is not None:
                constraints[info.name] = ConstraintInfo(
                    info.name, info.kind, info.entity, info.label, info.properties
                )
        root.schema = Schema(indexes, constraints)
        return root


def _get_texts(reader: Reader) -> list[str]:
    count = reader.u32()
    if count > CATALOG_NAMES_MAX:
        raise CorruptionError(f"{count} names are more than {CATALOG_NAMES_MAX}")
    return [reader.raw(reader.u32()).decode("utf-8", "surrogatepass") for _ in range(count)]
