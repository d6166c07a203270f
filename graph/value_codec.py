"""Property values as bytes, for write sets, snapshots and digests.

A value is one tag byte and its contents, little-endian. The form is canonical: equal values of the
same type have equal bytes. Nothing is ever unpickled; an unknown tag, a length beyond the end or
text that is not UTF-8 is ``CorruptionError``.

======  =================  ===================================================================
tag     value              contents
======  =================  ===================================================================
0       null
1, 2    false, true
3       integer            i64
4       float              f64
5       string             u32 length in bytes, UTF-8
6       byte array         u32 length, bytes
7       list               u32 count, values
8       integer list       u32 count, i64 each
9       float list         u32 count, f64 each
10      date               i32 proleptic Gregorian ordinal
11      time               i64 nanoseconds since midnight, zone
12      date-time          i32 ordinal, i64 nanoseconds since local midnight, zone
13      duration           i64 months, i64 days, i64 seconds, i32 nanoseconds
14      point              u16 SRID, u8 dimensions, f64 each
======  =================  ===================================================================

A zone is 0 (none), 1 and an i32 offset in seconds, or 2 (``zoneinfo``) or 3 (``pytz``) with u16
length and name; ``pytz`` names are followed by an i32 offset, since ``pytz`` has an object for
each offset of a zone, and 4 is a ``pytz`` fixed offset. So a value comes back with a zone of the
class it went in with.
"""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytz  # type: ignore[import-untyped]
from neo4j.spatial import CartesianPoint, Point, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time

from graph.cypher.temporal_values import offset_seconds
from graph.errors import CorruptionError, CypherArgumentError, CypherTypeError

__all__ = ["decode_value", "encode_value", "read_value", "write_value"]

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_TAG_I64 = struct.Struct("<Bq")
_TAG_F64 = struct.Struct("<Bd")
_TAG_U32 = struct.Struct("<BI")
_TAG_DATE = struct.Struct("<Bi")
_TAG_DATE_TIME = struct.Struct("<Biq")
_TAG_DURATION = struct.Struct("<Bqqqi")
_TAG_POINT = struct.Struct("<BHB")
_ZONE_OFFSET = struct.Struct("<Bi")
_ZONE_NAME = struct.Struct("<BH")

(
    _NULL,
    _FALSE,
    _TRUE,
    _INT,
    _FLOAT,
    _STRING,
    _BYTES,
    _LIST,
    _INTS,
    _FLOATS,
    _DATE,
    _TIME,
    _DATE_TIME,
    _DURATION,
    _POINT,
) = range(15)

_ZONE_NONE, _ZONE_FIXED, _ZONE_ZONEINFO, _ZONE_PYTZ, _ZONE_PYTZ_FIXED = range(5)
_PYTZ_FIXED_TYPE = type(pytz.FixedOffset(1))
_POINT_CLASSES: dict[int, tuple[type[Point], int]] = {
    7203: (CartesianPoint, 2),
    9157: (CartesianPoint, 3),
    4326: (WGS84Point, 2),
    4979: (WGS84Point, 3),
}
# Lists are one level deep; a little more than that is damage.
_DEPTH_MAX = 2


def encode_value(value: Any) -> bytes:
    """The bytes of one value."""
    out = bytearray()
    write_value(out, value)
    return bytes(out)


def decode_value(data: bytes) -> Any:
    """The value that makes up all of ``data``. Raises ``CorruptionError``."""
    try:
        value, end = read_value(data, 0)
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise CorruptionError(f"damaged property value: {error}") from error
    if end != len(data):
        raise CorruptionError(f"{len(data) - end} bytes after the end of a property value")
    return value


def write_value(out: bytearray, value: Any) -> None:
    """Append the bytes of ``value``. Raises ``CypherTypeError`` if it cannot be a property."""
    kind = type(value)
    if kind is str:
        text = value.encode("utf-8", "surrogatepass")
        out += _TAG_U32.pack(_STRING, len(text))
        out += text
    elif kind is int:
        out += _TAG_I64.pack(_INT, value)
    elif kind is float:
        out += _TAG_F64.pack(_FLOAT, value)
    elif kind is bool:
        out.append(_TRUE if value else _FALSE)
    elif value is None:
        out.append(_NULL)
    elif kind is list or kind is tuple:
        _write_list(out, value)
    elif isinstance(value, (bytes, bytearray)):
        out += _TAG_U32.pack(_BYTES, len(value))
        out += value
    else:
        _write_structure(out, value)


def _write_list(out: bytearray, values: list[Any] | tuple[Any, ...]) -> None:
    kinds = set(map(type, values))
    if kinds == {int}:
        out += struct.pack(f"<BI{len(values)}q", _INTS, len(values), *values)
    elif kinds == {float}:
        out += struct.pack(f"<BI{len(values)}d", _FLOATS, len(values), *values)
    else:
        out += _TAG_U32.pack(_LIST, len(values))
        for value in values:
            write_value(out, value)


def _write_structure(out: bytearray, value: Any) -> None:
    if isinstance(value, DateTime):
        out += _TAG_DATE_TIME.pack(_DATE_TIME, value.date().toordinal(), value.time().ticks)
        _write_zone(out, value)
    elif isinstance(value, Date):
        out += _TAG_DATE.pack(_DATE, value.toordinal())
    elif isinstance(value, Time):
        out += _TAG_I64.pack(_TIME, value.ticks)
        _write_zone(out, value)
    elif isinstance(value, Duration):
        parts = value.months, value.days, value.seconds, value.nanoseconds
        try:
            out += _TAG_DURATION.pack(_DURATION, *parts)
        except struct.error as error:
            raise CypherArgumentError(f"duration {value} does not fit in 64 bits") from error
    elif isinstance(value, Point):
        if value.srid not in _POINT_CLASSES:
            raise CypherArgumentError(f"point {value} has an unknown coordinate system")
        out += _TAG_POINT.pack(_POINT, value.srid, len(value))
        out += struct.pack(f"<{len(value)}d", *value)
    else:
        raise CypherTypeError(
            "Property values can only be of primitive types or arrays thereof. Encountered: a "
            f"value of type {type(value).__name__}."
        )


def _write_zone(out: bytearray, value: Any) -> None:
    zone = value.tzinfo
    seconds = offset_seconds(value)
    if seconds is None:
        out.append(_ZONE_NONE)
        return
    if isinstance(zone, ZoneInfo) and zone.key:
        _write_zone_name(out, _ZONE_ZONEINFO, zone.key)
    elif isinstance(zone, _PYTZ_FIXED_TYPE):
        out += _ZONE_OFFSET.pack(_ZONE_PYTZ_FIXED, seconds)
    elif isinstance(zone, pytz.tzinfo.BaseTzInfo) and zone.zone:
        _write_zone_name(out, _ZONE_PYTZ, zone.zone)
        out += _I32.pack(seconds)
    else:
        out += _ZONE_OFFSET.pack(_ZONE_FIXED, seconds)


def _write_zone_name(out: bytearray, tag: int, name: str) -> None:
    encoded = name.encode()
    out += _ZONE_NAME.pack(tag, len(encoded))
    out += encoded


def read_value(data: bytes | memoryview, position: int, depth: int = 0) -> tuple[Any, int]:
    """The value that starts at ``position`` and where it ends.

    Raises ``CorruptionError``, ``struct.error``, ``ValueError`` or ``IndexError`` for damage;
    callers turn all of them into a ``CorruptionError`` that names the place.
    """
    tag = data[position]
    position += 1
    if tag == _STRING:
        raw, position = _take(data, position)
        return str(raw, "utf-8", "surrogatepass"), position
    if tag == _INT:
        return _unpack("<q", data, position)
    if tag == _FLOAT:
        return _unpack("<d", data, position)
    if tag <= _TRUE:
        return (None, False, True)[tag], position
    if tag == _BYTES:
        raw, position = _take(data, position)
        return bytes(raw), position
    if tag in (_LIST, _INTS, _FLOATS):
        return _read_list(data, position, tag, depth)
    return _read_structure(data, position, tag)


def _unpack(form: str, data: bytes | memoryview, position: int) -> tuple[Any, int]:
    return struct.unpack_from(form, data, position)[0], position + struct.calcsize(form)


def _take(data: bytes | memoryview, position: int) -> tuple[bytes | memoryview, int]:
    (length,) = _U32.unpack_from(data, position)
    position += 4
    if length > len(data) - position:
        raise CorruptionError(f"a value of {length} bytes goes beyond the end of its block")
    return data[position : position + length], position + length


def _read_list(
    data: bytes | memoryview, position: int, tag: int, depth: int
) -> tuple[list[Any], int]:
    (count,) = _U32.unpack_from(data, position)
    position += 4
    if depth >= _DEPTH_MAX or count * (1 if tag == _LIST else 8) > len(data) - position:
        raise CorruptionError(f"a list of {count} elements goes beyond the end of its block")
    if tag == _LIST:
        values = []
        for _ in range(count):
            value, position = read_value(data, position, depth + 1)
            values.append(value)
        return values, position
    form = f"<{count}{'q' if tag == _INTS else 'd'}"
    return list(struct.unpack_from(form, data, position)), position + 8 * count


def _read_structure(data: bytes | memoryview, position: int, tag: int) -> tuple[Any, int]:
    if tag == _DATE:
        ordinal, position = _unpack("<i", data, position)
        return Date.from_ordinal(ordinal), position
    if tag == _TIME:
        ticks, position = _unpack("<q", data, position)
        zone, position = _read_zone(data, position, 0, ticks)
        time = Time.from_ticks(ticks)
        return (time if zone is None else time.replace(tzinfo=zone)), position
    if tag == _DATE_TIME:
        ordinal, ticks = struct.unpack_from("<iq", data, position)
        zone, position = _read_zone(data, position + 12, ordinal, ticks)
        time = Time.from_ticks(ticks)
        moment = DateTime.combine(Date.from_ordinal(ordinal), time)
        return (moment if zone is None else moment.replace(tzinfo=zone)), position
    if tag == _DURATION:
        months, days, seconds, nanoseconds = struct.unpack_from("<qqqi", data, position)
        duration = Duration(months=months, days=days, seconds=seconds, nanoseconds=nanoseconds)
        return duration, position + 28
    if tag == _POINT:
        srid, dimensions = struct.unpack_from("<HB", data, position)
        known = _POINT_CLASSES.get(srid)
        if known is None or known[1] != dimensions:
            raise CorruptionError(f"unknown coordinate system {srid} of {dimensions} dimensions")
        coordinates = struct.unpack_from(f"<{dimensions}d", data, position + 3)
        return known[0](coordinates), position + 3 + 8 * dimensions
    raise CorruptionError(f"unknown tag {tag} of a property value; is it of a newer version?")


def _read_zone(
    data: bytes | memoryview, position: int, ordinal: int, ticks: int
) -> tuple[tzinfo | None, int]:
    tag = data[position]
    position += 1
    if tag == _ZONE_NONE:
        return None, position
    if tag in (_ZONE_FIXED, _ZONE_PYTZ_FIXED):
        seconds, position = _unpack("<i", data, position)
        if tag == _ZONE_PYTZ_FIXED:
            return pytz.FixedOffset(seconds // 60), position
        return timezone(timedelta(seconds=seconds)), position
    if tag not in (_ZONE_ZONEINFO, _ZONE_PYTZ):
        raise CorruptionError(f"unknown tag {tag} of a time zone")
    (length,) = _U16.unpack_from(data, position)
    raw = data[position + 2 : position + 2 + length]
    position += 2 + length
    if len(raw) != length:
        raise CorruptionError("the name of a time zone goes beyond the end of its block")
    name = str(raw, "ascii")
    try:
        if tag == _ZONE_ZONEINFO:
            return ZoneInfo(name), position
        zone = pytz.timezone(name)
    except (KeyError, ValueError, OSError) as error:
        raise CorruptionError(
            f"this host does not know time zone {name!r}; update its time zone data"
        ) from error
    seconds, position = _unpack("<i", data, position)
    return _pytz_variant(zone, ordinal, ticks, seconds), position


def _pytz_variant(zone: Any, ordinal: int, ticks: int, offset_seconds: int) -> tzinfo:
    """The object that ``pytz`` uses for a zone while it has the given offset."""
    try:
        instant = datetime.fromordinal(max(ordinal, 1)) + timedelta(
            seconds=ticks // 1_000_000_000 - offset_seconds
        )
        variant: tzinfo = zone.fromutc(instant).tzinfo
    except (OverflowError, ValueError):
        return zone  # type: ignore[no-any-return]
    return variant
