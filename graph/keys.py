"""What may be a property value, and when two property values are the same key.

``key_of`` turns a value into a hashable Python object such that two values have equal keys
exactly if Cypher's ``=`` says they are equal: 1 and 1.0 are one key, true and 1 are not, NaN has
no key since it equals nothing, lists compare element by element, and zoned values are equal if
they are the same moment in the same zone (``graph.cypher.temporal_values`` knows what that is;
``graph.cypher.semantics`` builds ``=`` on the same functions). Indexes and uniqueness constraints
rest on it.

Never let ``neo4j.time`` compare, hash or print a value with a ``zoneinfo`` zone: it hands itself to
``ZoneInfo.utcoffset``, which in CPython reads the fields of a native ``datetime`` without looking
whether it was given one.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from neo4j.spatial import Point
from neo4j.time import Date, DateTime, Duration, Time

from graph.cypher.temporal_values import epoch_nanos, offset_seconds, time_key, zone_name
from graph.errors import CypherArgumentError, CypherTypeError, LimitError
from graph.limits import LIST_LENGTH_MAX, VALUE_BYTES_MAX
from graph.vector import Kind, Vector

__all__ = ["INT64_MAX", "INT64_MIN", "Key", "check_storable", "key_of", "keys_of", "tuple_key"]

Key = Hashable

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1

_TRUE: Key = ("boolean", True)
_FALSE: Key = ("boolean", False)


def key_of(value: Any) -> Key | None:
    """The key of a property value; None for null and for what equals nothing (NaN)."""
    kind = type(value)
    if kind is str or kind is int:
        return value  # type: ignore[no-any-return]
    if kind is float:
        return value if value == value else None
    if kind is bool:
        return _TRUE if value else _FALSE
    return _structured_key(value)


def _structured_key(value: Any) -> Key | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and not isinstance(value, (Point, Duration)):
        elements = [key_of(element) for element in value]
        return None if None in elements else ("list", *elements)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, Point):
        return ("point", type(value).__name__, *value)
    if isinstance(value, DateTime):
        if value.tzinfo is None:
            return ("local date-time", epoch_nanos(value))
        zone = zone_name(value.tzinfo) or ""
        return ("date-time", epoch_nanos(value), offset_seconds(value), zone)
    if isinstance(value, Date):
        return ("date", value.toordinal())
    if isinstance(value, Time):
        if value.tzinfo is None:
            return ("local time", value.ticks)
        return ("time", time_key(value))
    if isinstance(value, Duration):
        return ("duration", value.months, value.days, value.seconds, value.nanoseconds)
    raise CypherTypeError(f"a value of type {type(value).__name__} cannot be compared as a key")


def keys_of(vector: Vector) -> list[Key | None]:
    """The key of each row, None for null."""
    kind = vector.kind
    if kind is Kind.STRING or kind is Kind.INT:
        return vector.to_list()
    if kind is Kind.FLOAT and not np.isnan(vector.data).any():
        return vector.to_list()
    return [key_of(value) for value in vector.to_list()]


def tuple_key(values: tuple[Any, ...]) -> Key | None:
    """The key of an index entry: of one value for one property, else of all of them together."""
    if len(values) == 1:
        return key_of(values[0])
    keys = [key_of(value) for value in values]
    return None if None in keys else tuple(keys)


_SCALARS = (Date, DateTime, Time, Duration, Point, bytes, bytearray)


def check_storable(value: Any) -> None:
    """Raise unless ``value`` may be a property value (None is allowed: it means no property).

    Raises ``CypherTypeError`` for maps, graph entities, nested lists and nulls in lists,
    ``CypherArgumentError`` for an integer beyond 64 bits, ``LimitError`` for one too large.
    """
    kind = type(value)
    if kind is str:
        if len(value) > VALUE_BYTES_MAX // 4:
            raise _too_large(f"a string of {len(value)} characters")
    elif kind is int:
        if not INT64_MIN <= value <= INT64_MAX:
            raise CypherArgumentError(f"integer {value} does not fit in 64 bits")
    elif kind is float or kind is bool or value is None:
        return
    elif isinstance(value, (bytes, bytearray)):
        if len(value) > VALUE_BYTES_MAX:
            raise _too_large(f"a byte array of {len(value)} bytes")
    elif isinstance(value, _SCALARS):
        return
    elif isinstance(value, (list, tuple)):
        if len(value) > LIST_LENGTH_MAX:
            raise _too_large(f"a list of {len(value)} elements")
        for element in value:
            if element is None:
                raise _not_storable("a list that contains null")
            if isinstance(element, (list, tuple)) and not isinstance(element, _SCALARS):
                raise _not_storable("a list within a list")
            check_storable(element)
    else:
        raise _not_storable(f"a value of type {_type_name(value)}")


def _type_name(value: Any) -> str:
    return "Map" if isinstance(value, dict) else type(value).__name__


def _not_storable(what: str) -> CypherTypeError:
    return CypherTypeError(
        f"Property values can only be of primitive types or arrays thereof. Encountered: {what}."
    )


def _too_large(what: str) -> LimitError:
    return LimitError(
        f"{what} is too large for a property (limit {VALUE_BYTES_MAX} bytes); split it",
        code="Neo.ClientError.General.LimitReached",
    )
