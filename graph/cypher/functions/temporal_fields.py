"""Maps of fields to dates and times of day.

A date is given by one of four systems: calendar (year, month, day), week (year, week, dayOfWeek),
quarter (year, quarter, dayOfQuarter), ordinal (year, ordinalDay). Missing fields come from a base
date if there is one, read in the same system, else they are 1; the year cannot be missing.
"""

from __future__ import annotations

import datetime as native
from collections.abc import Mapping
from typing import Any

from neo4j.time import Date, Time

from graph.cypher.temporal_values import component, date_of_ordinal
from graph.errors import CypherArgumentError, CypherTypeError

__all__ = ["CLOCK_FIELDS", "DATE_FIELDS", "date_from_fields", "nanosecond", "time_from_fields"]

_SYSTEMS: dict[str, tuple[str, ...]] = {
    "week": ("week", "dayOfWeek"),
    "quarter": ("quarter", "dayOfQuarter"),
    "ordinal": ("ordinalDay",),
    "calendar": ("month", "day"),
}
DATE_FIELDS = frozenset({"year", *(name for names in _SYSTEMS.values() for name in names)})
CLOCK_FIELDS = frozenset({"hour", "minute", "second", "millisecond", "microsecond", "nanosecond"})

_RANGES = {
    "year": (1, 9999),
    "month": (1, 12),
    "day": (1, 31),
    "week": (1, 53),
    "dayOfWeek": (1, 7),
    "quarter": (1, 4),
    "dayOfQuarter": (1, 92),
    "ordinalDay": (1, 366),
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 59),
}


def _field(fields: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = fields.get(name)
    if value is None:
        return otherwise
    if type(value) is not int:
        raise CypherTypeError(f"`{name}` must be an Integer.")
    low, high = _RANGES[name]
    if not low <= value <= high:
        raise CypherArgumentError(f"`{name}` must be between {low} and {high} but was {value}.")
    return value


def date_from_fields(fields: Mapping[str, Any], base: Any) -> Date:
    """The date that ``fields`` say, missing ones taken from ``base`` (a Date or DateTime).

    Raises:
        CypherArgumentError: fields of two systems, a missing year, a day that does not exist.
    """
    used = [name for name, keys in _SYSTEMS.items() if any(key in fields for key in keys)]
    if len(used) > 1:
        raise CypherArgumentError(f"Cannot mix {' and '.join(used)} fields in one date.")
    system = used[0] if used else "calendar"

    def default(name: str) -> int:
        return 1 if base is None else int(component(base, name))

    if base is None and fields.get("year") is None:
        raise CypherArgumentError("`year` must be given.")
    year = _field(fields, "year", default("weekYear" if system == "week" else "year"))
    if system == "week":
        return _week_date(
            year,
            _field(fields, "week", default("week")),
            _field(fields, "dayOfWeek", default("dayOfWeek")),
        )
    if system == "quarter":
        quarter = _field(fields, "quarter", default("quarter"))
        day = _field(fields, "dayOfQuarter", default("dayOfQuarter"))
        return _day_from(year, quarter * 3 - 2, day, quarter * 3 + 1, "dayOfQuarter")
    if system == "ordinal":
        return _day_from(year, 1, _field(fields, "ordinalDay", 1), 13, "ordinalDay")
    month = _field(fields, "month", default("month"))
    day = _field(fields, "day", default("day"))
    return _day_from(year, month, day, month + 1, "day")


def _week_date(year: int, week: int, day: int) -> Date:
    try:
        found = native.date.fromisocalendar(year, week, day)
    except ValueError:
        raise CypherArgumentError(f"{year} has no week {week}.") from None
    return date_of_ordinal(found.toordinal())


def _day_from(year: int, month: int, day: int, before_month: int, name: str) -> Date:
    """Day number ``day`` from the first of ``month``, before the first of ``before_month``."""
    first = native.date(year, month, 1).toordinal()
    if before_month == 13:
        end = native.date(year, 12, 31).toordinal()
    else:
        end = native.date(year, before_month, 1).toordinal() - 1
    ordinal = first + day - 1
    if ordinal > end:
        raise CypherArgumentError(
            f"`{name}` must be between 1 and {end - first + 1} but was {day}."
        )
    return date_of_ordinal(ordinal)


def nanosecond(fields: Mapping[str, Any]) -> int | None:
    """The part below a second, from the fields that give it; ``None`` if none does.

    With a millisecond given, microsecond and nanosecond count within it, and so on.
    """
    total, limit, given = 0, 1_000_000_000, False
    for name, unit in (("millisecond", 1_000_000), ("microsecond", 1_000), ("nanosecond", 1)):
        value = fields.get(name)
        if value is None:
            continue
        if type(value) is not int:
            raise CypherTypeError(f"`{name}` must be an Integer.")
        if not 0 <= value < limit // unit:
            raise CypherArgumentError(
                f"`{name}` must be between 0 and {limit // unit - 1} but was {value}."
            )
        total += value * unit
        limit, given = unit, True
    return total if given else None


def time_from_fields(fields: Mapping[str, Any], base: Any, zone: native.tzinfo | None) -> Time:
    """The time of day that ``fields`` say, missing ones taken from ``base`` or zero.

    Raises:
        CypherArgumentError: a finer field without the coarser one, a value out of range.
    """
    if base is None:
        missing = None
        for name in ("hour", "minute", "second"):
            if fields.get(name) is None:
                missing = missing or name
            elif missing is not None:
                raise CypherArgumentError(f"`{name}` cannot be given without `{missing}`.")
        if missing is not None and nanosecond(fields) is not None:
            raise CypherArgumentError(f"A part of a second cannot be given without `{missing}`.")
    hour = _field(fields, "hour", 0 if base is None else base.hour)
    minute = _field(fields, "minute", 0 if base is None else base.minute)
    second = _field(fields, "second", 0 if base is None else base.second)
    nanos = nanosecond(fields)
    if nanos is None:
        nanos = 0 if base is None else base.nanosecond
    return Time(hour, minute, second, nanos, zone)
