"""Graph, temporal and spatial values as PackStream structures, and back.

The tag says what a structure is; :class:`~bolt.versions.Dialect` says which of two shapes it has.

    tag      value          fields
    4E  N    Node           id, labels, properties [, element id]
    52  R    Relationship   id, start, end, type, properties [, element id, start's, end's]
    72  r    in a path      id, type, properties [, element id]
    50  P    Path           distinct nodes, distinct relationships, indices
    44  D    Date           days since 1970-01-01
    54  T    Time           nanoseconds since midnight, offset in seconds
    74  t    local Time     nanoseconds since midnight
    49  I    DateTime       UTC seconds, nanoseconds, offset in seconds   (46 F: local seconds)
    69  i    DateTime       UTC seconds, nanoseconds, zone name           (66 f: local seconds)
    64  d    local DateTime local seconds, nanoseconds
    45  E    Duration       months, days, seconds, nanoseconds
    58  X    point          srid, x, y
    59  Y    point          srid, x, y, z

A path's indices come in pairs: which relationship (counted from 1, negative if walked against its
direction), then which node (counted from 0) it leads to.

Zones: a fixed offset is read as ``datetime.timezone``, as the engine makes it. A named zone is
read as ``pytz``'s, whose instances keep which of its two offsets an ambiguous local time has; the
engine and the driver take them. Values with ``zoneinfo`` zones are written as well. Offsets are
worked out here, because ``neo4j.time`` allows whole minutes only and Bolt, like history, has
seconds.

Source: https://neo4j.com/docs/bolt/current/bolt/structure-semantics/.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import Any

import pytz  # type: ignore[import-untyped]
from neo4j.spatial import CartesianPoint, Point, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time

from bolt.errors import EncodingError, ParameterError
from bolt.packer import FieldsFunction, Packer
from bolt.packstream import StructureHook
from bolt.versions import Dialect
from graph.values import Node, Path, Relationship

__all__ = ["graph_hook", "packer_for", "parameter_hook"]

_Fields = tuple[int, tuple[Any, ...]]

_NODE, _RELATIONSHIP, _UNBOUND, _PATH = 0x4E, 0x52, 0x72, 0x50
_DATE, _TIME, _LOCAL_TIME, _LOCAL_DATETIME, _DURATION = 0x44, 0x54, 0x74, 0x64, 0x45
_DATETIME, _DATETIME_ZONE = 0x49, 0x69
_DATETIME_LEGACY, _DATETIME_ZONE_LEGACY = 0x46, 0x66
_POINT_2D, _POINT_3D = 0x58, 0x59

_UNIX_EPOCH_ORDINAL = 719_163  # of 1970-01-01, where 0001-01-01 is 1
_ORDINAL_MAX = 3_652_059  # of 9999-12-31
_NANOS = 1_000_000_000
_DAY_SECONDS = 86_400
_OFFSET_SECONDS_MAX = 18 * 3600  # what Neo4j and the engine take
_POINTS: dict[int, tuple[type[Point], int]] = {
    7203: (CartesianPoint, 2),
    9157: (CartesianPoint, 3),
    4326: (WGS84Point, 2),
    4979: (WGS84Point, 3),
}


# --- writing -----------------------------------------------------------------------------------


@cache
def packer_for(dialect: Dialect) -> Packer:
    """The packer for all values of the engine in ``dialect``. There are three of them."""
    nodes = _node_fields if dialect.element_ids else _node_fields_4
    unbound = _unbound_fields if dialect.element_ids else _unbound_fields_4
    structures: dict[type, FieldsFunction] = {
        Node: nodes,
        Relationship: _relationship_fields if dialect.element_ids else _relationship_fields_4,
        _Unbound: lambda value: unbound(value.relationship),
        Path: _path_fields,
        Date: lambda value: (_DATE, (value.to_ordinal() - _UNIX_EPOCH_ORDINAL,)),
        Time: _time_fields,
        DateTime: _datetime_fields if dialect.utc else _datetime_fields_legacy,
        Duration: lambda value: (_DURATION, tuple(value)),
        Point: _point_fields,
    }
    return Packer(structures)


def _node_fields(node: Node) -> _Fields:
    return _NODE, (node.id, node.labels, node.properties, str(node.id))


def _node_fields_4(node: Node) -> _Fields:
    return _NODE, (node.id, node.labels, node.properties)


def _relationship_fields(rel: Relationship) -> _Fields:
    start, end = rel.start, rel.end
    ids = (str(rel.id), str(start), str(end))
    return _RELATIONSHIP, (rel.id, start, end, rel.type, rel.properties, *ids)


def _relationship_fields_4(rel: Relationship) -> _Fields:
    return _RELATIONSHIP, (rel.id, rel.start, rel.end, rel.type, rel.properties)


def _unbound_fields(rel: Relationship) -> _Fields:
    return _UNBOUND, (rel.id, rel.type, rel.properties, str(rel.id))


def _unbound_fields_4(rel: Relationship) -> _Fields:
    return _UNBOUND, (rel.id, rel.type, rel.properties)


class _Unbound:
    """A relationship inside a path, where its ends are told by the path."""

    __slots__ = ("relationship",)

    def __init__(self, relationship: Relationship) -> None:
        self.relationship = relationship


def _path_fields(path: Path) -> _Fields:
    if len(path.nodes) != len(path.relationships) + 1:
        raise EncodingError("a path must have one node more than it has relationships")
    nodes: dict[int, int] = {path.nodes[0].id: 0}
    distinct_nodes = [path.nodes[0]]
    relationships: dict[int, int] = {}
    distinct_relationships: list[_Unbound] = []
    indices: list[int] = []
    at = path.nodes[0].id
    for rel, node in zip(path.relationships, path.nodes[1:], strict=True):
        position = relationships.setdefault(rel.id, len(relationships) + 1)
        if position > len(distinct_relationships):
            distinct_relationships.append(_Unbound(rel))
        place = nodes.setdefault(node.id, len(nodes))
        if place == len(distinct_nodes):
            distinct_nodes.append(node)
        if (rel.start, rel.end) == (at, node.id):
            indices += (position, place)
        elif (rel.end, rel.start) == (at, node.id):
            indices += (-position, place)
        else:
            raise EncodingError(f"relationship {rel.id} of a path does not join its two nodes")
        at = node.id
    return _PATH, (distinct_nodes, distinct_relationships, indices)


def _offset_seconds(zone: tzinfo, moment: datetime | None) -> int:
    """Seconds east of Greenwich, at ``moment`` (naive, local) where the zone needs one."""
    offset = zone.utcoffset(None if moment is None else moment.replace(tzinfo=zone))
    if offset is None:
        raise EncodingError(f"time zone {zone} gives no offset: use a fixed offset for a time")
    if offset.microseconds:
        raise EncodingError(f"time zone {zone} has an offset with a fraction of a second")
    return offset.days * _DAY_SECONDS + offset.seconds


def _moment(value: DateTime) -> datetime:
    hour, minute, second, _ = value.hour_minute_second_nanosecond
    return datetime(*value.year_month_day, hour, minute, second)


def _time_fields(value: Time) -> _Fields:
    if value.tzinfo is None:
        return _LOCAL_TIME, (value.ticks,)
    return _TIME, (value.ticks, _offset_seconds(value.tzinfo, None))


def _local_seconds(value: DateTime) -> tuple[int, int]:
    hour, minute, second, nanosecond = value.hour_minute_second_nanosecond
    days = value.to_ordinal() - _UNIX_EPOCH_ORDINAL
    return days * _DAY_SECONDS + hour * 3600 + minute * 60 + second, nanosecond


def _zone_name(zone: tzinfo) -> str | None:
    name = getattr(zone, "zone", None) or getattr(zone, "key", None)
    return name if isinstance(name, str) else None


def _datetime_fields(value: DateTime) -> _Fields:
    seconds, nanoseconds = _local_seconds(value)
    zone = value.tzinfo
    if zone is None:
        return _LOCAL_DATETIME, (seconds, nanoseconds)
    offset = _offset_seconds(zone, _moment(value))
    name = _zone_name(zone)
    if name is not None:
        return _DATETIME_ZONE, (seconds - offset, nanoseconds, name)
    return _DATETIME, (seconds - offset, nanoseconds, offset)


def _datetime_fields_legacy(value: DateTime) -> _Fields:
    seconds, nanoseconds = _local_seconds(value)
    zone = value.tzinfo
    if zone is None:
        return _LOCAL_DATETIME, (seconds, nanoseconds)
    name = _zone_name(zone)
    if name is not None:
        return _DATETIME_ZONE_LEGACY, (seconds, nanoseconds, name)
    return _DATETIME_LEGACY, (seconds, nanoseconds, _offset_seconds(zone, _moment(value)))


def _point_fields(point: Point) -> _Fields:
    srid, size = point.srid, len(point)
    if srid is None or size not in (2, 3):
        raise EncodingError(f"a point of {size} coordinates and SRID {srid} cannot be sent")
    return (_POINT_2D if size == 2 else _POINT_3D), (srid, *point)


# --- reading -----------------------------------------------------------------------------------


def parameter_hook(dialect: Dialect) -> StructureHook:
    """For values from a client: temporal and spatial ones. The hook raises ``ParameterError``."""
    return _scalar_hook(dialect.utc)


@cache
def _scalar_hook(utc: bool) -> StructureHook:
    readers = dict(_SCALARS)
    readers.update(_DATETIMES_UTC if utc else _DATETIMES_LEGACY)

    def hook(tag: int, fields: list[Any]) -> Any:
        try:
            reader, kinds = readers[tag]
        except KeyError:
            raise ParameterError(_refusal(tag)) from None
        if len(fields) != len(kinds) or any(
            type(field) is not kind for field, kind in zip(fields, kinds, strict=True)
        ):
            expected = ", ".join(kind.__name__ for kind in kinds)
            raise ParameterError(f"structure {tag:02x} needs the fields ({expected})")
        try:
            return reader(*fields)
        except (ValueError, OverflowError) as error:
            raise ParameterError(f"structure {tag:02x} is out of range: {error}") from None

    return hook


def _refusal(tag: int) -> str:
    if tag in (_NODE, _RELATIONSHIP, _UNBOUND, _PATH):
        return (
            "nodes, relationships and paths cannot be parameters: pass an id or properties instead"
        )
    if tag in (_DATETIME, _DATETIME_ZONE, _DATETIME_LEGACY, _DATETIME_ZONE_LEGACY):
        return f"DateTime structure {tag:02x} belongs to another protocol version than negotiated"
    return f"structure with tag {tag:02x} is not known in this protocol version"


def _read_date(days: int) -> Date:
    ordinal = days + _UNIX_EPOCH_ORDINAL
    if not 1 <= ordinal <= _ORDINAL_MAX:
        raise ValueError("a date must be between the years 1 and 9999")
    return Date.from_ordinal(ordinal)


def _offset_zone(offset: int) -> tzinfo:
    if abs(offset) > _OFFSET_SECONDS_MAX:
        raise ValueError(f"an offset of {offset} seconds is more than 18 hours")
    return UTC if offset == 0 else timezone(timedelta(seconds=offset))


def _read_time(nanoseconds: int, offset: int) -> Time:
    return Time.from_ticks(nanoseconds, _offset_zone(offset))


def _read_local_datetime(seconds: int, nanoseconds: int, zone: tzinfo | None = None) -> DateTime:
    if not 0 <= nanoseconds < _NANOS:
        raise ValueError(f"{nanoseconds} nanoseconds are not less than a second")
    days, second = divmod(seconds, _DAY_SECONDS)
    time = Time.from_ticks(second * _NANOS + nanoseconds, zone)
    return DateTime.combine(_read_date(days), time)


def _read_datetime(seconds: int, nanoseconds: int, offset: int) -> DateTime:
    return _read_local_datetime(seconds + offset, nanoseconds, _offset_zone(offset))


def _read_datetime_legacy(seconds: int, nanoseconds: int, offset: int) -> DateTime:
    return _read_local_datetime(seconds, nanoseconds, _offset_zone(offset))


def _named_zone(name: str) -> Any:
    # Asked first, because pytz looks for other names among its files.
    if name not in pytz.all_timezones_set:
        raise ValueError(f"time zone {name[:64]!r} is not known")
    return pytz.timezone(name)


def _native(seconds: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(seconds=seconds)


def _read_datetime_zone(seconds: int, nanoseconds: int, name: str) -> DateTime:
    local = _named_zone(name).fromutc(_native(seconds))
    offset = local.utcoffset()
    return _read_local_datetime(
        seconds + offset.days * _DAY_SECONDS + offset.seconds, nanoseconds, local.tzinfo
    )


def _read_datetime_zone_legacy(seconds: int, nanoseconds: int, name: str) -> DateTime:
    """Local seconds do not tell the two passes of a repeated hour apart, and may name one that a
    change of clocks leaves out: standard time is taken in both cases."""
    zone = _named_zone(name)
    local = zone.localize(_native(seconds), is_dst=False)
    return _read_local_datetime(seconds, nanoseconds, local.tzinfo)


def _read_duration(months: int, days: int, seconds: int, nanoseconds: int) -> Duration:
    return Duration(months=months, days=days, seconds=seconds, nanoseconds=nanoseconds)


def _read_point(srid: int, *coordinates: float) -> Point:
    try:
        kind, size = _POINTS[srid]
    except KeyError:
        raise ValueError(f"SRID {srid} is not one of {', '.join(map(str, _POINTS))}") from None
    if size != len(coordinates):
        raise ValueError(f"SRID {srid} takes {size} coordinates, not {len(coordinates)}")
    return kind(coordinates)


_Reader = tuple[Callable[..., Any], tuple[type, ...]]
_SCALARS: dict[int, _Reader] = {
    _DATE: (_read_date, (int,)),
    _TIME: (_read_time, (int, int)),
    _LOCAL_TIME: (Time.from_ticks, (int,)),
    _LOCAL_DATETIME: (_read_local_datetime, (int, int)),
    _DURATION: (_read_duration, (int, int, int, int)),
    _POINT_2D: (_read_point, (int, float, float)),
    _POINT_3D: (_read_point, (int, float, float, float)),
}
_DATETIMES_UTC: dict[int, _Reader] = {
    _DATETIME: (_read_datetime, (int, int, int)),
    _DATETIME_ZONE: (_read_datetime_zone, (int, int, str)),
}
_DATETIMES_LEGACY: dict[int, _Reader] = {
    _DATETIME_LEGACY: (_read_datetime_legacy, (int, int, int)),
    _DATETIME_ZONE_LEGACY: (_read_datetime_zone_legacy, (int, int, str)),
}


@cache
def graph_hook(dialect: Dialect) -> StructureHook:
    """For values that come from a server: nodes, relationships and paths as well.

    The hook raises ``ParameterError`` for a structure that no server of ours writes.
    """
    scalars = _scalar_hook(dialect.utc)
    extra = 1 if dialect.element_ids else 0

    def hook(tag: int, fields: list[Any]) -> Any:
        size = len(fields)
        if tag == _NODE and size == 3 + extra and type(fields[1]) is list:
            return Node(fields[0], tuple(fields[1]), fields[2])
        if tag == _RELATIONSHIP and size == 5 + 3 * extra:
            return Relationship(fields[0], fields[3], fields[1], fields[2], fields[4])
        if tag == _UNBOUND and size == 3 + extra:
            return fields
        if tag == _PATH and size == 3:
            return _read_path(*fields)
        return scalars(tag, fields)

    return hook


def _read_path(nodes: list[Node], relationships: list[list[Any]], indices: list[int]) -> Path:
    """Put the ends back on a path's relationships, as the signs of the indices tell."""
    try:
        walked = [nodes[0]]
        if len(indices) % 2 or any(place < 0 for place in indices[1::2]) or 0 in indices[::2]:
            raise ValueError
        steps: list[Relationship] = []
        for position, place in zip(indices[::2], indices[1::2], strict=True):
            before, after = walked[-1], nodes[place]
            id_, type_, properties = relationships[abs(position) - 1][:3]
            start, end = (before, after) if position > 0 else (after, before)
            steps.append(Relationship(id_, type_, start.id, end.id, properties))
            walked.append(after)
    except (LookupError, ValueError, TypeError, AttributeError):
        raise ParameterError("a path's indices do not fit its nodes and relationships") from None
    return Path(tuple(walked), tuple(steps))
