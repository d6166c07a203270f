"""Values to PackStream. The format is described in :mod:`bolt.packstream`.

A packer is a table from ``type(value)`` to a function that returns bytes, so a scalar costs one
lookup and one call, and a list is one ``join`` of its items' bytes. The bytes of small integers, of
headers and of map keys are made once. Every value is written in its shortest form.

Source: https://neo4j.com/docs/bolt/current/packstream/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from typing import Any

from bolt.errors import EncodingError
from bolt.limits import PACK_DEPTH_MAX
from bolt.packstream import Structure

__all__ = ["FieldsFunction", "PackTable", "Packer", "list_header", "pack"]

# Packs a value of one type; the second argument is how many levels of containers may still follow.
PackFunction = Callable[[Any, int], bytes]
# A structure's fields, for a type that PackStream does not know.
FieldsFunction = Callable[[Any], tuple[int, tuple[Any, ...]]]

_INT_LOW, _INT_HIGH = -0x80, 0x400
_write_i16 = Struct(">bh").pack
_write_i32 = Struct(">bi").pack
_write_i64 = Struct(">bq").pack
_write_f64 = Struct(">bd").pack
_M16, _M32, _M64, _MFLOAT = 0xC9 - 256, 0xCA - 256, 0xCB - 256, 0xC1 - 256


def _small_int(value: int) -> bytes:
    if -0x10 <= value < 0x80:
        return bytes((value & 0xFF,))
    if value < 0:
        return bytes((0xC8, value & 0xFF))
    return _write_i16(_M16, value)


def _header(tiny: int | None, first: int, size: int) -> bytes:
    if tiny is not None and size < 0x10:
        return bytes((tiny + size,))
    if size < 0x100:
        return bytes((first, size))
    if size < 0x10000:
        return bytes((first + 1,)) + size.to_bytes(2, "big")
    if size < 0x80000000:
        return bytes((first + 2,)) + size.to_bytes(4, "big")
    raise EncodingError(f"a value of size {size} cannot be sent: PackStream takes 2,147,483,647")


_SMALL_INTS = tuple(_small_int(value) for value in range(_INT_LOW, _INT_HIGH))
_STRING_HEADERS = tuple(_header(0x80, 0xD0, size) for size in range(0x100))
_LIST_HEADERS = tuple(_header(0x90, 0xD4, size) for size in range(0x100))
_MAP_HEADERS = tuple(_header(0xA0, 0xD8, size) for size in range(0x100))
_NULL, _FALSE, _TRUE = b"\xc0", b"\xc2", b"\xc3"


def list_header(size: int) -> bytes:
    """The marker, and size where it needs one, of a list of ``size`` items."""
    return _LIST_HEADERS[size] if size < 0x100 else _header(0x90, 0xD4, size)


def _pack_null(_value: None, _depth: int) -> bytes:
    return _NULL


def _pack_bool(value: bool, _depth: int) -> bytes:
    return _TRUE if value else _FALSE


def _pack_int(value: int, _depth: int) -> bytes:
    if _INT_LOW <= value < _INT_HIGH:
        return _SMALL_INTS[value + 0x80]
    if -0x8000 <= value < 0x8000:
        return _write_i16(_M16, value)
    if -0x80000000 <= value < 0x80000000:
        return _write_i32(_M32, value)
    if -0x8000000000000000 <= value < 0x8000000000000000:
        return _write_i64(_M64, value)
    raise EncodingError(f"integer {value:#x} does not fit in 64 bits")


def _pack_float(value: float, _depth: int) -> bytes:
    return _write_f64(_MFLOAT, value)


def _pack_str(value: str, _depth: int) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError as error:
        raise EncodingError(
            f"a string cannot be sent as UTF-8: {error.reason} at character {error.start}"
        ) from None
    size = len(raw)
    return (_STRING_HEADERS[size] if size < 0x100 else _header(0x80, 0xD0, size)) + raw


def _pack_bytes(value: bytes | bytearray, _depth: int) -> bytes:
    return _header(None, 0xCC, len(value)) + value


# Keys of maps repeat in every row. The bounds keep the table small whatever queries invent.
_KEYS: dict[str, bytes] = {}
_KEYS_MAX, _KEY_LENGTH_MAX = 4096, 64


def _pack_key(key: Any) -> bytes:
    if type(key) is not str:
        raise EncodingError(f"a map key must be a string, not {type(key).__name__}")
    raw = _pack_str(key, 0)
    if len(key) <= _KEY_LENGTH_MAX:
        if len(_KEYS) >= _KEYS_MAX:
            _KEYS.clear()
        _KEYS[key] = raw
    return raw


class PackTable(dict[type, PackFunction]):
    """Functions by exact type. A subclass of a known type (an IntEnum, NumPy's float64) is
    entered when it is first met; NumPy's other scalars pack as what their ``item()`` gives."""

    def __missing__(self, kind: type) -> PackFunction:
        function: PackFunction
        for base in kind.__mro__[1:]:
            if base in self:
                function = self[base]
                break
        else:
            if not (kind.__module__ == "numpy" and hasattr(kind, "item")):
                raise EncodingError(f"a value of type {kind.__name__} cannot be sent over Bolt")

            def function(value: Any, depth: int) -> bytes:
                native = value.item()
                return self[type(native)](native, depth)

        self[kind] = function
        return function


class Packer:
    """Values to bytes. ``structures`` says, for further types, which tag and fields stand for them.

    Holds no state between calls; threads may share one.
    """

    __slots__ = ("_table",)

    def __init__(self, structures: Mapping[type, FieldsFunction] | None = None) -> None:
        self._table = PackTable(
            {
                type(None): _pack_null,
                bool: _pack_bool,
                int: _pack_int,
                float: _pack_float,
                str: _pack_str,
                bytes: _pack_bytes,
                bytearray: _pack_bytes,
                list: self._pack_list,
                tuple: self._pack_list,
                dict: self._pack_map,
                Structure: self._pack_structure,
            }
        )
        for kind, fields_of in (structures or {}).items():
            self._table[kind] = self._by_fields(fields_of)

    def pack(self, value: Any, depth: int = PACK_DEPTH_MAX) -> bytes:
        """One value. Raises ``EncodingError`` if PackStream has no form for it."""
        return self._table[type(value)](value, depth)

    def pack_column(self, values: Iterable[Any], depth: int = PACK_DEPTH_MAX) -> list[bytes]:
        """Each of ``values``. NumPy arrays are welcome."""
        if hasattr(values, "tolist"):
            values = values.tolist()
        table = self._table
        return [table[type(value)](value, depth) for value in values]

    def _pack_list(self, value: list[Any] | tuple[Any, ...], depth: int) -> bytes:
        if depth <= 0:
            raise _too_deep()
        table, below = self._table, depth - 1
        items = [table[type(item)](item, below) for item in value]
        return list_header(len(value)) + b"".join(items)

    def _pack_map(self, value: dict[str, Any], depth: int) -> bytes:
        if depth <= 0:
            raise _too_deep()
        table, below, keys = self._table, depth - 1, _KEYS
        size = len(value)
        parts = [_MAP_HEADERS[size] if size < 0x100 else _header(0xA0, 0xD8, size)]
        for key, item in value.items():
            parts.append(keys.get(key) or _pack_key(key))
            parts.append(table[type(item)](item, below))
        return b"".join(parts)

    def _pack_structure(self, value: Structure, depth: int) -> bytes:
        return self._pack_fields(value.tag, value.fields, depth)

    def _pack_fields(self, tag: int, fields: tuple[Any, ...], depth: int) -> bytes:
        if depth <= 0:
            raise _too_deep()
        if len(fields) > 15:
            raise EncodingError(f"a structure has at most 15 fields, not {len(fields)}")
        table, below = self._table, depth - 1
        items = [table[type(field)](field, below) for field in fields]
        return bytes((0xB0 + len(fields), tag)) + b"".join(items)

    def _by_fields(self, fields_of: FieldsFunction) -> PackFunction:
        def function(value: Any, depth: int) -> bytes:
            tag, fields = fields_of(value)
            return self._pack_fields(tag, fields, depth)

        return function


def _too_deep() -> EncodingError:
    return EncodingError(
        f"a value nested deeper than {PACK_DEPTH_MAX} levels cannot be sent: return its parts"
    )


_plain = Packer()
pack = _plain.pack
