"""Cypher's scalar semantics: equality, comparison, ordering, grouping.

Cypher has four relations between values, and they differ (openCypher CIP2016-06-14, "Define
comparability and equality as well as orderability and equivalence"):

* *equality* (``=``): three-valued; null is equal to nothing, NaN to nothing, 1 to 1.0; values of
  different types are unequal, never an error. ``equals``.
* *comparability* (``<`` ...): defined within numbers, strings, booleans, one temporal type,
  lists; otherwise the result is null; NaN compares false with every number. ``compare``.
* *orderability* (``ORDER BY``, ``min``, ``max``): total over all values. ``order_key``.
* *equivalence* (``DISTINCT``, grouping): equality, but null and NaN are equivalent to
  themselves. ``group_key``.

Python's own ``==`` is none of these: it finds 1 equal to True. Dispatch is on the exact type first
(fast), then on what the value is a kind of.
"""

from __future__ import annotations

from typing import Any

from neo4j.spatial import Point
from neo4j.time import Date, DateTime, Duration, Time

from graph.cypher.references import NodeRef, PathRef, RelationshipRef, Work
from graph.cypher.temporal_values import epoch_nanos, offset_seconds, time_key, zone_name
from graph.errors import CypherTypeError

__all__ = [
    "NAN_KEY",
    "UNORDERED",
    "compare",
    "equals",
    "group_key",
    "is_temporal",
    "order_key",
    "rank_of",
    "type_name",
]

# What ``compare`` says when a number meets NaN: neither less, nor greater, nor equal, nor null.
UNORDERED = 2

# Ranks give the order of types from least to greatest.
(
    MAP,
    NODE,
    RELATIONSHIP,
    LIST,
    PATH,
    POINT,
    ZONED_DATETIME,
    LOCAL_DATETIME,
    DATE,
    ZONED_TIME,
    LOCAL_TIME,
    DURATION,
    STRING,
    BYTES,
    BOOLEAN,
    NUMBER,
    NAN,
    NULL,
) = range(18)

_RANKS: dict[type, int] = {
    dict: MAP,
    NodeRef: NODE,
    RelationshipRef: RELATIONSHIP,
    list: LIST,
    tuple: LIST,
    PathRef: PATH,
    Date: DATE,
    Duration: DURATION,
    str: STRING,
    bytes: BYTES,
    bytearray: BYTES,
    bool: BOOLEAN,
    int: NUMBER,
    float: NUMBER,
    type(None): NULL,
}

_NAMES = {
    MAP: "Map",
    NODE: "Node",
    RELATIONSHIP: "Relationship",
    LIST: "List",
    PATH: "Path",
    POINT: "Point",
    ZONED_DATETIME: "DateTime",
    LOCAL_DATETIME: "LocalDateTime",
    DATE: "Date",
    ZONED_TIME: "Time",
    LOCAL_TIME: "LocalTime",
    DURATION: "Duration",
    STRING: "String",
    BYTES: "ByteArray",
    BOOLEAN: "Boolean",
    NULL: "Null",
}

_TRUE_KEY = ("boolean", True)
_FALSE_KEY = ("boolean", False)
NAN_KEY = ("nan",)


def rank_of(value: Any) -> int:
    """The rank of a value's type in the total order. NaN ranks as NUMBER.

    Raises:
        CypherTypeError: it is no Cypher value.
    """
    rank = _RANKS.get(type(value))
    if rank is not None:
        return rank
    if isinstance(value, DateTime):
        return LOCAL_DATETIME if value.tzinfo is None else ZONED_DATETIME
    if isinstance(value, Time):
        return LOCAL_TIME if value.tzinfo is None else ZONED_TIME
    if isinstance(value, Point):
        return POINT
    for cls in (bool, int, float, str, Date, Duration, list, dict, bytes):
        if isinstance(value, cls):
            return _RANKS[cls]
    raise CypherTypeError(f"A value of type {type(value).__name__} is no Cypher value.")


def is_temporal(value: Any) -> bool:
    """Whether a value is a date, a time, both, or a duration."""
    return isinstance(value, (Date, Time, DateTime, Duration))


def type_name(value: Any) -> str:
    """The Cypher name of a value's type, for messages."""
    rank = rank_of(value)
    if rank == NUMBER:
        return "Integer" if isinstance(value, int) else "Float"
    return _NAMES[rank]


# ----------------------------------------------------------------------------- equality


def equals(a: Any, b: Any, work: Work | None = None) -> bool | None:
    """``a = b``: ``None`` where it is unknown.

    Raises:
        LimitError: a value nests too deep or is too large (so do the other relations here).
    """
    if a is None or b is None:
        return None
    cls = type(a)
    if cls is type(b) and (cls is str or cls is int or cls is bool or cls is float):
        return bool(a == b)
    rank = rank_of(a)
    if rank != rank_of(b):
        return False
    if rank == LIST:
        return _lists_equal(a, b, work or Work())
    if rank == MAP:
        return _maps_equal(a, b, work or Work())
    if ZONED_DATETIME <= rank <= LOCAL_TIME:
        return bool(_temporal_key(rank, a) == _temporal_key(rank, b))
    return bool(a == b)


def _lists_equal(a: Any, b: Any, work: Work) -> bool | None:
    if len(a) != len(b):
        return False
    work.enter(len(a))
    unknown = False
    for left, right in zip(a, b, strict=True):
        equal = equals(left, right, work)
        if equal is False:
            work.level -= 1
            return False
        if equal is None:
            unknown = True
    work.level -= 1
    return None if unknown else True


def _maps_equal(a: dict[str, Any], b: dict[str, Any], work: Work) -> bool | None:
    if a.keys() != b.keys():
        return False
    return _lists_equal(list(a.values()), [b[key] for key in a], work)


# ----------------------------------------------------------------------------- comparability


def compare(a: Any, b: Any, work: Work | None = None) -> int | None:
    """-1, 0 or 1; ``UNORDERED`` where NaN takes part; ``None`` where the values do not compare."""
    if a is None or b is None:
        return None
    rank = rank_of(a)
    if rank != rank_of(b):
        return None
    if rank == NUMBER:
        if a < b:
            return -1
        if a > b:
            return 1
        return 0 if a == b else UNORDERED
    if rank in (STRING, BOOLEAN, BYTES):
        return -1 if a < b else int(a > b)
    if ZONED_DATETIME <= rank <= LOCAL_TIME:
        left, right = _temporal_key(rank, a), _temporal_key(rank, b)
        return -1 if left < right else int(left > right)
    if rank == LIST:
        work = work or Work()
        work.enter(min(len(a), len(b)))
        order: int | None = 0
        for left, right in zip(a, b, strict=False):
            order = compare(left, right, work)
            if order != 0:
                break
        work.level -= 1
        return order if order != 0 else (len(a) > len(b)) - (len(a) < len(b))
    return None


# ----------------------------------------------------------------------------- orderability


def order_key(value: Any, work: Work | None = None) -> tuple[Any, ...]:
    """A key by which ``sorted`` puts any values into Cypher's total order (null last)."""
    cls = type(value)
    if cls is int or cls is str:
        return (NUMBER if cls is int else STRING, value)
    rank = rank_of(value)
    if rank == NUMBER:
        return (rank, value) if value == value else (NAN,)
    if rank == NULL:
        return (rank,)
    if rank in (LIST, MAP):
        work = work or Work()
        work.enter(len(value))
        key: tuple[Any, ...]
        if rank == LIST:
            key = (rank, tuple([order_key(item, work) for item in value]))
        else:
            names = sorted(value)
            items = tuple([order_key(value[name], work) for name in names])
            key = (rank, len(names), tuple(names), items)
        work.level -= 1
        return key
    if rank in (NODE, RELATIONSHIP):
        return (rank, value.id)
    if rank == PATH:
        return (rank, _alternating(value))
    if rank == POINT:
        return (rank, _srid(value), tuple([order_key(float(axis)) for axis in value]))
    if rank == DURATION:
        return (rank, *_duration_key(value))
    if ZONED_DATETIME <= rank <= LOCAL_TIME:
        return (rank, _temporal_key(rank, value))
    return (rank, value)


def _alternating(path: PathRef) -> tuple[int, ...]:
    """Node, relationship, node, ...: the order in which a path was walked."""
    ids = [0] * (len(path.nodes) + len(path.relationships))
    ids[::2] = path.nodes
    ids[1::2] = path.relationships
    return tuple(ids)


def _srid(point: Any) -> int:
    return getattr(point, "srid", None) or 0


def _duration_key(value: Duration) -> tuple[int, int, int]:
    """Average length in nanoseconds first (a month is 1/12 of 365.2425 days), parts next."""
    seconds = value.months * 2_629_746 + value.days * 86_400 + value.seconds
    return seconds * 1_000_000_000 + value.nanoseconds, value.months, value.days


def _temporal_key(rank: int, value: Any) -> Any:
    """A key by which the values of one temporal type are equal and ordered: the moment first,
    then the offset from west to east, then the zone's name."""
    if rank == DATE:
        return value.to_ordinal()
    if rank == LOCAL_TIME:
        return value.ticks
    if rank == ZONED_TIME:
        return time_key(value)
    nanos = epoch_nanos(value)
    if rank == LOCAL_DATETIME:
        return nanos
    return nanos, offset_seconds(value), zone_name(value.tzinfo) or ""


# ----------------------------------------------------------------------------- equivalence


def group_key(value: Any, work: Work | None = None) -> Any:
    """A hashable key equal for equivalent values and no others: for DISTINCT and grouping."""
    cls = type(value)
    if cls is str or cls is int or value is None:
        return value
    if cls is float:
        return value if value == value else NAN_KEY
    if cls is bool:
        return _TRUE_KEY if value else _FALSE_KEY
    if cls is NodeRef or cls is RelationshipRef or cls is PathRef:
        return value
    rank = rank_of(value)
    if rank in (LIST, MAP):
        work = work or Work()
        work.enter(len(value))
        key: Any
        if rank == LIST:
            key = ("list", *[group_key(item, work) for item in value])
        else:
            items = frozenset([(name, group_key(item, work)) for name, item in value.items()])
            key = ("map", items)
        work.level -= 1
        return key
    if ZONED_DATETIME <= rank <= LOCAL_TIME:
        return (rank, _temporal_key(rank, value))
    if rank == DURATION:
        return (rank, value.months, value.days, value.seconds, value.nanoseconds)
    if rank == POINT:
        return (rank, _srid(value), tuple(value))
    if rank == BYTES:
        return bytes(value)
    return group_key(bool(value) if rank == BOOLEAN else value + 0)
