"""Write sets as bytes: what the log holds and what servers send to one another.

::

    "RW" u8 version, u8 0, u32 operations, operation ..., u32 CRC-32 of all before it

An operation is a tag byte and its fields; arrays and property columns stay columns. Ids that
are a range are two numbers; integers take the fewest bytes that hold a column's minimum and
maximum; booleans and validity are packed to bits. All numbers are little-endian. A later version
may add operations and column forms under new tags; an unknown tag or version is refused, never
guessed.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.errors import CorruptionError, LimitError
from graph.indexes import ConstraintSpec, IndexSpec
from graph.limits import OPERATION_ROWS_MAX, WRITE_SET_BYTES_MAX, WRITE_SET_OPERATIONS_MAX
from graph.value_codec import read_value, write_value
from graph.vector import BoolArray, IntArray, Kind, Vector
from graph.write_set import (
    AddLabel,
    CreateConstraint,
    CreateIndex,
    CreateNodes,
    CreateRelationships,
    DeleteNodes,
    DeleteRelationships,
    DropConstraint,
    DropIndex,
    Operation,
    RemoveLabel,
    SetNodeProperty,
    SetRelationshipProperty,
    WriteSet,
)

__all__ = ["VERSION", "Reader", "decode", "encode", "write_vector"]

VERSION = 1

_MAGIC = b"RW"
_HEADER = struct.Struct("<2sBBI")
_U8 = struct.Struct("<B")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_IDS_RANGE = struct.Struct("<BIq")
_IDS_ARRAY = struct.Struct("<BI")
_VECTOR = struct.Struct("<BB")

_RANGE, _NARROW, _WIDE = range(3)
_HAS_NULLS = 1
_INT_DTYPES = (np.dtype("<i1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<i8"))
# Below this many rows, finding the narrowest integer costs more than it saves.
_NARROW_ROWS_MIN = 16

_TAGS: dict[type, int] = {
    CreateNodes: 1,
    CreateRelationships: 2,
    SetNodeProperty: 3,
    SetRelationshipProperty: 4,
    AddLabel: 5,
    RemoveLabel: 6,
    DeleteNodes: 7,
    DeleteRelationships: 8,
    CreateIndex: 9,
    DropIndex: 10,
    CreateConstraint: 11,
    DropConstraint: 12,
}
_TYPES = {tag: kind for kind, tag in _TAGS.items()}


# encoding


def encode(write_set: WriteSet) -> bytes:
    """The bytes of a write set. Raises ``LimitError`` if they are too many for one log entry."""
    operations = write_set.operations
    out = bytearray(_HEADER.pack(_MAGIC, VERSION, 0, len(operations)))
    for op in operations:
        _write_operation(out, op)
        if len(out) > WRITE_SET_BYTES_MAX:
            raise LimitError(
                f"a transaction may write {WRITE_SET_BYTES_MAX} bytes; write in smaller batches"
            )
    out += _U32.pack(zlib.crc32(out))
    return bytes(out)


def _write_operation(out: bytearray, op: Operation) -> None:
    out.append(_TAGS[type(op)])
    if isinstance(op, CreateNodes):
        _write_ids(out, op.ids)
        _write_names(out, op.labels)
        _write_properties(out, op.properties)
    elif isinstance(op, CreateRelationships):
        _write_ids(out, op.ids)
        _write_name(out, op.type)
        _write_ids(out, op.sources)
        _write_ids(out, op.targets)
        _write_properties(out, op.properties)
    elif isinstance(op, (SetNodeProperty, SetRelationshipProperty)):
        _write_ids(out, op.ids)
        _write_name(out, op.key)
        write_vector(out, op.values)
    elif isinstance(op, (AddLabel, RemoveLabel)):
        _write_ids(out, op.ids)
        _write_name(out, op.label)
    elif isinstance(op, (DeleteNodes, DeleteRelationships)):
        _write_ids(out, op.ids)
    elif isinstance(op, (CreateIndex, CreateConstraint)):
        spec = op.spec
        out.append(op.if_not_exists)
        for name in (spec.resolved_name(), spec.kind, spec.entity, spec.label):
            _write_name(out, name)
        _write_names(out, spec.properties)
    else:
        out.append(op.if_exists)
        _write_name(out, op.name)


def _write_name(out: bytearray, name: str) -> None:
    encoded = name.encode("utf-8", "surrogatepass")
    out += _U16.pack(len(encoded))
    out += encoded


def _write_names(out: bytearray, names: tuple[str, ...]) -> None:
    out += _U16.pack(len(names))
    for name in names:
        _write_name(out, name)


def _write_properties(out: bytearray, properties: dict[str, Vector]) -> None:
    out += _U16.pack(len(properties))
    for key, vector in properties.items():
        _write_name(out, key)
        write_vector(out, vector)


def _write_ids(out: bytearray, ids: IntArray) -> None:
    count = len(ids)
    first = ids.item(0)
    if count == 1 or (ids.item(-1) - first == count - 1 and bool((ids[1:] - ids[:-1] == 1).all())):
        out += _IDS_RANGE.pack(_RANGE, count, first)
        return
    narrow = int(ids.min()) >= 0 and int(ids.max()) < 2**32
    out += _IDS_ARRAY.pack(_NARROW if narrow else _WIDE, count)
    out += ids.astype("<u4" if narrow else "<i8").tobytes()


def write_vector(out: bytearray, vector: Vector) -> None:
    """Append a property column; the number of rows is known from elsewhere."""
    kind = vector.kind
    if kind is Kind.STRING:
        _write_strings(out, vector.data.tolist())
        return
    if kind is Kind.OBJECT:
        out += _VECTOR.pack(kind, 0)
        for value in vector.data.tolist():
            write_value(out, value)
        return
    nulls = vector.valid is not None and not vector.valid.all()
    out += _VECTOR.pack(kind, _HAS_NULLS if nulls else 0)
    if nulls:
        out += np.packbits(vector.null_mask()).tobytes()
    if kind is Kind.INT:
        _write_integers(out, vector.data)
    elif kind is Kind.FLOAT:
        out += vector.data.astype("<f8", copy=False).tobytes()
    elif kind is Kind.BOOL:
        out += np.packbits(vector.data).tobytes()
    else:
        raise TypeError(f"a {kind.name} vector cannot be a property")


def _write_integers(out: bytearray, data: npt.NDArray[Any]) -> None:
    width = 3
    if len(data) >= _NARROW_ROWS_MIN:
        low, high = int(data.min()), int(data.max())
        while (
            width and -(1 << (8 << (width - 1)) - 1) <= low and high < 1 << (8 << (width - 1)) - 1
        ):
            width -= 1
    out.append(width)
    out += data.astype(_INT_DTYPES[width], copy=False).tobytes()


def _write_strings(out: bytearray, texts: list[str | None]) -> None:
    nulls = None in texts
    out += _VECTOR.pack(Kind.STRING, _HAS_NULLS if nulls else 0)
    if nulls:
        out += np.packbits([text is None for text in texts]).tobytes()
    encoded = [b"" if text is None else text.encode("utf-8", "surrogatepass") for text in texts]
    if len(encoded) == 1:
        out += _U32.pack(len(encoded[0]))
        out += encoded[0]
        return
    out += struct.pack(f"<{len(encoded)}I", *map(len, encoded))
    out += b"".join(encoded)


# decoding


def decode(data: bytes) -> WriteSet:
    """The write set that ``data`` holds. Raises ``CorruptionError`` for anything else."""
    if len(data) < _HEADER.size + 4:
        raise CorruptionError(f"a write set of {len(data)} bytes is cut short")
    magic, version, _, count = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise CorruptionError("these bytes are not a write set")
    if version != VERSION:
        raise CorruptionError(
            f"write set of version {version}, but this server reads version {VERSION}; upgrade it"
        )
    end = len(data) - 4
    if _U32.unpack_from(data, end)[0] != zlib.crc32(memoryview(data)[:end]):
        raise CorruptionError("a write set is damaged: its checksum does not fit")
    if count > WRITE_SET_OPERATIONS_MAX:
        raise CorruptionError(f"a write set of {count} operations is too large")
    reader = Reader(data, _HEADER.size, end)
    try:
        operations = [_read_operation(reader) for _ in range(count)]
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise CorruptionError(f"a write set is damaged: {error}") from error
    if reader.position != end:
        raise CorruptionError(f"{end - reader.position} bytes after the end of a write set")
    return WriteSet(operations)


def _read_operation(reader: Reader) -> Operation:
    tag = reader.u8()
    kind = _TYPES.get(tag)
    if kind is None:
        raise CorruptionError(f"unknown operation {tag} in a write set; is it of a newer version?")
    if kind is CreateNodes:
        ids = reader.ids()
        return CreateNodes(ids, reader.names(), reader.properties(len(ids)))
    if kind is CreateRelationships:
        return _read_relationships(reader)
    if kind is SetNodeProperty or kind is SetRelationshipProperty:
        ids = reader.ids()
        operation: Operation = kind(ids, reader.name(), reader.vector(len(ids)))
        return operation
    if kind is AddLabel:
        return AddLabel(reader.ids(), reader.name())
    if kind is RemoveLabel:
        return RemoveLabel(reader.ids(), reader.name())
    if kind is DeleteNodes:
        return DeleteNodes(reader.ids())
    if kind is DeleteRelationships:
        return DeleteRelationships(reader.ids())
    return _read_schema_operation(reader, kind)


def _read_relationships(reader: Reader) -> CreateRelationships:
    ids = reader.ids()
    type_name = reader.name()
    sources, targets = reader.ids(), reader.ids()
    if not len(ids) == len(sources) == len(targets):
        raise CorruptionError("relationships of a write set have not as many ends as ids")
    return CreateRelationships(ids, type_name, sources, targets, reader.properties(len(ids)))


def _read_schema_operation(reader: Reader, kind: type) -> Operation:
    flag = reader.u8() != 0
    name = reader.name()
    if kind is DropIndex:
        return DropIndex(name, flag)
    if kind is DropConstraint:
        return DropConstraint(name, flag)
    index_kind, entity, label = reader.name(), reader.name(), reader.name()
    properties = reader.names()
    if kind is CreateIndex:
        return CreateIndex(IndexSpec(label, properties, index_kind, name, entity), flag)
    return CreateConstraint(ConstraintSpec(label, properties, index_kind, name, entity), flag)


class Reader:
    """A cursor over bytes that never goes beyond ``end``."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def take(self, length: int) -> int:
        """Step over ``length`` bytes; where they start."""
        start = self.position
        if length > self.end - start:
            raise CorruptionError(
                f"a field of {length} bytes at byte {start} goes beyond the end of its block"
            )
        self.position = start + length
        return start

    def u8(self) -> int:
        start = self.position
        if start >= self.end:
            self.take(1)
        self.position = start + 1
        return self.data[start]

    def u16(self) -> int:
        start = self.take(2)
        return self.data[start] | self.data[start + 1] << 8

    def u32(self) -> int:
        return int(_U32.unpack_from(self.data, self.take(4))[0])

    def i64(self) -> int:
        return int(_I64.unpack_from(self.data, self.take(8))[0])

    def raw(self, length: int) -> bytes:
        start = self.take(length)
        return self.data[start : start + length]

    def array(self, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
        """A read-only view of ``count`` numbers."""
        form = np.dtype(dtype)
        start = self.take(form.itemsize * count)
        return np.frombuffer(self.data, form, count, start)

    def bits(self, count: int) -> BoolArray:
        packed = self.array(np.uint8, (count + 7) // 8)
        return np.unpackbits(packed, count=count).astype(np.bool_)

    def name(self) -> str:
        data = self.data
        length_at = self.take(2)
        start = self.take(data[length_at] | data[length_at + 1] << 8)
        return data[start : self.position].decode("utf-8", "surrogatepass")

    def names(self) -> tuple[str, ...]:
        return tuple([self.name() for _ in range(self.u16())])

    def ids(self) -> IntArray:
        form = self.u8()
        count = self.u32()
        if not 0 < count <= OPERATION_ROWS_MAX:
            raise CorruptionError(f"an operation of {count} rows")
        if form == _RANGE:
            if count == 1:
                return np.frombuffer(self.data, "<i8", 1, self.take(8)).astype(np.int64)
            first = self.i64()
            return np.arange(first, first + count, dtype=np.int64)
        if form == _NARROW:
            return self.array("<u4", count).astype(np.int64)
        if form == _WIDE:
            return self.array("<i8", count).astype(np.int64)
        raise CorruptionError(f"unknown form {form} of an array of ids")

    def properties(self, rows: int) -> dict[str, Vector]:
        return {self.name(): self.vector(rows) for _ in range(self.u16())}

    def vector(self, rows: int) -> Vector:
        """A property column of ``rows`` rows."""
        tag, flags = self.u8(), self.u8()
        if tag == Kind.OBJECT:
            values = []
            view = self.data
            for _ in range(rows):
                value, self.position = read_value(view, self.position)
                values.append(value)
            self.take(0)
            return Vector.objects(values)
        nulls = self.bits(rows) if flags & _HAS_NULLS else None
        if tag == Kind.STRING:
            return self._strings(rows, nulls)
        valid = None if nulls is None else ~nulls
        if tag == Kind.INT:
            width = self.u8()
            if width >= len(_INT_DTYPES):
                raise CorruptionError(f"unknown width {width} of an integer column")
            narrow = _INT_DTYPES[width]
            start = self.take(narrow.itemsize * rows)
            data = np.frombuffer(self.data, narrow, rows, start).astype(np.int64)
            return Vector(Kind.INT, data, valid)
        if tag == Kind.FLOAT:
            return Vector(Kind.FLOAT, self.array("<f8", rows).astype(np.float64), valid)
        if tag == Kind.BOOL:
            return Vector(Kind.BOOL, self.bits(rows), valid)
        raise CorruptionError(f"unknown kind {tag} of a property column")

    def _strings(self, rows: int, nulls: BoolArray | None) -> Vector:
        if rows == 1:
            data = np.empty(1, dtype=object)
            text = self.raw(self.u32()).decode("utf-8", "surrogatepass")
            data[0] = None if nulls is not None and nulls.item(0) else text
            return Vector(Kind.STRING, data)
        lengths = self.array("<u4", rows).tolist()
        blob = self.raw(sum(lengths))
        texts: list[str | None] = []
        start = 0
        for length in lengths:
            texts.append(blob[start : start + length].decode("utf-8", "surrogatepass"))
            start += length
        if nulls is not None:
            for row in np.flatnonzero(nulls).tolist():
                texts[row] = None
        return Vector.objects(texts, Kind.STRING)
