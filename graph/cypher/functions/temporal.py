"""Constructors of dates, times and moments: from nothing (now), from a string, from a map of
fields, from another temporal value; truncation. Durations stand in ``temporal_durations``.

``date()``, ``.transaction()``, ``.statement()`` and ``.realtime()`` all read the statement's clock,
which comes with the context: the engine has no clock of its own, and a statement must give the
same result on every server. The default time zone is UTC.
"""

from __future__ import annotations

import datetime as native
from collections.abc import Callable, Mapping
from typing import Any

from neo4j.time import Date, DateTime, Time

from graph.cypher.evaluation import Context
from graph.cypher.functions import temporal_durations, temporal_parse
from graph.cypher.functions.definition import Family, argument_error, expect_int, wrong_type
from graph.cypher.functions.temporal_fields import (
    CLOCK_FIELDS,
    DATE_FIELDS,
    date_from_fields,
    nanosecond,
    time_from_fields,
)
from graph.cypher.temporal_values import (
    NANOS_PER_DAY,
    NANOS_PER_SECOND,
    UTC,
    date_of_ordinal,
    date_time_of_instant,
    epoch_nanos,
    fixed_zone,
    offset_seconds,
    time_of_ticks,
)

__all__ = ["FAMILY"]

FAMILY = Family()
temporal_durations.register(FAMILY)

Fields = Mapping[str, Any]
_ZONE_FIELD = frozenset({"timezone"})


# ----------------------------------------------------------------------------- parts of values


def _date_of(value: Any, name: str) -> Date:
    if isinstance(value, Date):
        return value
    if isinstance(value, DateTime):
        return value.date()
    raise wrong_type(name, "a Date, LocalDateTime or DateTime", value)


def _clock_of(value: Any, name: str) -> Time:
    """The local time of day of a value."""
    if isinstance(value, DateTime):
        return value.time()
    if isinstance(value, Time):
        return time_of_ticks(value.ticks, None)
    raise wrong_type(name, "a LocalTime, Time, LocalDateTime or DateTime", value)


def _offset_zone(value: Any) -> native.tzinfo | None:
    """The zone of a value as a plain offset: a time of day has no date to know a name's by."""
    seconds = None if isinstance(value, Date) else offset_seconds(value)
    return None if seconds is None else fixed_zone(seconds)


def _now(context: Context, zone: native.tzinfo) -> DateTime:
    return date_time_of_instant(epoch_nanos(context.now), zone)


def _check_fields(name: str, fields: Fields, *allowed: frozenset[str]) -> None:
    for key in fields:
        if not any(key in names for names in allowed):
            raise argument_error(name, f"unknown field `{key}`.")


def _zone_in(fields: Fields) -> native.tzinfo | None:
    text = fields.get("timezone")
    return None if text is None else temporal_parse.zone_of(text)


# ----------------------------------------------------------------------------- constructors


def _date(context: Context, value: Any) -> Date:
    if isinstance(value, str):
        return temporal_parse.parse_date(value)
    if isinstance(value, dict):
        if value.keys() == _ZONE_FIELD:
            return _now(context, temporal_parse.zone_of(value["timezone"])).date()
        _check_fields("date", value, DATE_FIELDS, frozenset({"date"}))
        base = value.get("date")
        return date_from_fields(value, None if base is None else _date_of(base, "date"))
    return _date_of(value, "date")


def _local_time(context: Context, value: Any) -> Time:
    if isinstance(value, str):
        return temporal_parse.parse_local_time(value)
    if isinstance(value, dict):
        if value.keys() == _ZONE_FIELD:
            return _now(context, temporal_parse.zone_of(value["timezone"])).time()
        _check_fields("localtime", value, CLOCK_FIELDS, frozenset({"time"}))
        return time_from_fields(value, _clock_base(value, "localtime"), None)
    return _clock_of(value, "localtime")


def _clock_base(fields: Fields, name: str) -> Time | None:
    base = fields.get("time")
    if base is None and "hour" not in fields:
        raise argument_error(name, "`hour` must be given.")
    return None if base is None else _clock_of(base, name)


def _time(context: Context, value: Any) -> Time:
    if isinstance(value, str):
        return temporal_parse.parse_time(value, UTC)
    if isinstance(value, dict):
        if value.keys() == _ZONE_FIELD:
            moment = _now(context, temporal_parse.zone_of(value["timezone"]))
            return time_of_ticks(moment.time().ticks, _offset_zone(moment))
        _check_fields("time", value, CLOCK_FIELDS, _ZONE_FIELD, frozenset({"time"}))
        base = _clock_base(value, "time")
        old = None if value.get("time") is None else _offset_zone(value["time"])
        new = _zone_in(value)
        if new is not None:
            seconds = offset_seconds(_now(context, new))
            assert seconds is not None
            if base is not None and old is not None:
                base = _shifted(base, old, seconds)
            old = fixed_zone(seconds)
        return time_from_fields(value, base, old or UTC)
    return time_of_ticks(_clock_of(value, "time").ticks, _offset_zone(value) or UTC)


def _shifted(clock: Time, zone: native.tzinfo, seconds: int) -> Time:
    """The local time at offset ``seconds`` when it is ``clock`` in ``zone``."""
    offset = zone.utcoffset(None)
    assert offset is not None
    difference = seconds - (offset.days * 86_400 + offset.seconds)
    return time_of_ticks((clock.ticks + difference * NANOS_PER_SECOND) % NANOS_PER_DAY, None)


def _local_date_time(context: Context, value: Any) -> DateTime:
    if isinstance(value, str):
        return temporal_parse.parse_local_date_time(value)
    if isinstance(value, dict):
        if value.keys() == _ZONE_FIELD:
            moment = _now(context, temporal_parse.zone_of(value["timezone"]))
            return DateTime.combine(moment.date(), moment.time())
        bases = frozenset({"date", "time", "datetime"})
        _check_fields("localdatetime", value, DATE_FIELDS, CLOCK_FIELDS, bases)
        date, clock, _ = _bases(value, "localdatetime")
        return DateTime.combine(date, time_from_fields(value, clock, None))
    return _as_local(value, "localdatetime")


def _as_local(value: Any, name: str) -> DateTime:
    if isinstance(value, DateTime):
        return DateTime.combine(value.date(), value.time())
    return DateTime.combine(_date_of(value, name), Time(0, 0, 0, 0))


def _bases(fields: Fields, name: str) -> tuple[Date, Time | None, native.tzinfo | None]:
    """(date with its fields applied, base time of day, zone that comes with the base)."""
    whole = fields.get("datetime")
    date_base, time_base = fields.get("date", whole), fields.get("time", whole)
    date = date_from_fields(fields, None if date_base is None else _date_of(date_base, name))
    if time_base is None:
        return date, None, None
    return date, _clock_of(time_base, name), time_base.tzinfo


def _date_time(context: Context, value: Any) -> DateTime:
    if isinstance(value, str):
        return temporal_parse.parse_date_time(value, UTC)
    if not isinstance(value, dict):
        local = _as_local(value, "datetime")
        zone = value.tzinfo if isinstance(value, DateTime) and value.tzinfo is not None else UTC
        return DateTime.combine(local.date(), _with_zone(local.time(), zone))
    if value.keys() == _ZONE_FIELD:
        return _now(context, temporal_parse.zone_of(value["timezone"]))
    if "epochSeconds" in value or "epochMillis" in value:
        return _from_epoch_fields(value)
    bases = frozenset({"date", "time", "datetime"})
    _check_fields("datetime", value, DATE_FIELDS, CLOCK_FIELDS, _ZONE_FIELD, bases)
    date, clock, old = _bases(value, "datetime")
    new = _zone_in(value)
    if clock is not None and old is not None and new is not None:
        # The base is a moment: move it to the new zone, then apply the clock's fields.
        moment = DateTime.combine(date, _with_zone(clock, old))
        moved = date_time_of_instant(epoch_nanos(moment), new)
        date, clock = moved.date(), moved.time()
    return DateTime.combine(date, time_from_fields(value, clock, new or old or UTC))


def _with_zone(clock: Time, zone: native.tzinfo | None) -> Time:
    return time_of_ticks(clock.ticks, zone)


def _from_epoch_fields(fields: Fields) -> DateTime:
    allowed = frozenset({"epochSeconds", "epochMillis", "nanosecond", "timezone"})
    _check_fields("datetime", fields, allowed)
    if "epochSeconds" in fields:
        nanos = expect_int("datetime", fields["epochSeconds"]) * NANOS_PER_SECOND
    else:
        nanos = expect_int("datetime", fields["epochMillis"]) * 1_000_000
    nanos += nanosecond({"nanosecond": fields.get("nanosecond")}) or 0
    return date_time_of_instant(nanos, _zone_in(fields) or UTC)


def _local_now(moment: DateTime) -> DateTime:
    return DateTime.combine(moment.date(), moment.time())


_KINDS: dict[str, tuple[Callable[[Context, Any], Any], Callable[[DateTime], Any]]] = {
    "date": (_date, lambda moment: moment.date()),
    "localtime": (_local_time, lambda moment: moment.time()),
    "time": (_time, lambda moment: time_of_ticks(moment.time().ticks, _offset_zone(moment))),
    "localdatetime": (_local_date_time, _local_now),
    "datetime": (_date_time, lambda moment: moment),
}
_NOTHING: Any = object()


def _constructor(
    build: Callable[[Context, Any], Any], of_moment: Callable[[DateTime], Any]
) -> Callable[..., Any]:
    def construct(context: Context, value: Any = _NOTHING) -> Any:
        if value is _NOTHING:
            return of_moment(_now(context, UTC))
        return build(context, value)

    return construct


def _clock_reader(of_moment: Callable[[DateTime], Any]) -> Callable[..., Any]:
    def read(context: Context, zone: Any = None) -> Any:
        return of_moment(_now(context, UTC if zone is None else temporal_parse.zone_of(zone)))

    return read


for _name, (_build, _of_moment) in _KINDS.items():
    FAMILY.add(_name, 0, 1, needs_context=True)(_constructor(_build, _of_moment))
    for _clock_name in ("transaction", "statement", "realtime"):
        FAMILY.add(f"{_name}.{_clock_name}", 0, 1, needs_context=True)(_clock_reader(_of_moment))


@FAMILY.add("datetime.fromEpoch", 2)
def from_epoch(seconds: Any, nanos: Any) -> DateTime:
    total = expect_int("datetime.fromEpoch", seconds) * NANOS_PER_SECOND
    return date_time_of_instant(total + expect_int("datetime.fromEpoch", nanos), UTC)


@FAMILY.add("datetime.fromEpochMillis", 1)
def from_epoch_millis(millis: Any) -> DateTime:
    return date_time_of_instant(expect_int("datetime.fromEpochMillis", millis) * 1_000_000, UTC)


# ----------------------------------------------------------------------------- truncation

_CLOCK_UNITS = {
    "day": NANOS_PER_DAY,
    "hour": 3_600 * NANOS_PER_SECOND,
    "minute": 60 * NANOS_PER_SECOND,
    "second": NANOS_PER_SECOND,
    "millisecond": 1_000_000,
    "microsecond": 1_000,
}
_YEAR_UNITS = {"millennium": 1000, "century": 100, "decade": 10, "year": 1}


def _truncated_date(unit: str, date: Date) -> Date | None:
    """The first day of the unit; ``None`` if the unit is finer than a day."""
    if unit in _YEAR_UNITS:
        years = _YEAR_UNITS[unit]
        return Date(max(1, date.year // years * years), 1, 1)
    if unit == "quarter":
        return Date(date.year, (date.month - 1) // 3 * 3 + 1, 1)
    if unit == "month":
        return Date(date.year, date.month, 1)
    if unit == "day":
        return date
    year, _, day = native.date(date.year, date.month, date.day).isocalendar()
    if unit == "week":
        return date_of_ordinal(date.to_ordinal() - day + 1)
    if unit == "weekYear":
        return date_of_ordinal(native.date.fromisocalendar(year, 1, 1).toordinal())
    return None


def _unit(name: str, unit: Any, fields: Any) -> str:
    if not isinstance(unit, str):
        raise wrong_type(name, "a String naming a unit", unit)
    if not isinstance(fields, dict):
        raise wrong_type(name, "a Map of fields", fields)
    for known in (*_YEAR_UNITS, "weekYear", "quarter", "month", "week", *_CLOCK_UNITS):
        if known.lower() == unit.lower():
            return known
    raise argument_error(name, f"unknown unit `{unit}`.")


def _truncated_clock(name: str, unit: str, clock: Time, fields: Fields) -> Time:
    size = _CLOCK_UNITS.get(unit)
    if size is None:
        raise argument_error(name, f"a time of day cannot be truncated to a {unit}.")
    base = time_of_ticks(clock.ticks // size * size, None)
    coarse = {key: value for key, value in fields.items() if key in ("hour", "minute", "second")}
    fine = nanosecond(fields) or 0
    whole = time_from_fields(coarse, base, None)
    if fine and fine >= min(size, NANOS_PER_SECOND):
        raise argument_error(name, "a field is not finer than the unit.")
    return time_of_ticks(whole.ticks + fine, None)


def _truncated(
    name: str, unit: Any, value: Any, fields: Any, allowed: frozenset[str]
) -> tuple[Date, Time]:
    """(date, local time of day) of a value cut to a unit, with fields applied."""
    unit = _unit(name, unit, fields)
    _check_fields(name, fields, allowed)
    clock = value.time() if isinstance(value, DateTime) else Time(0, 0, 0, 0)
    date = _date_of(value, name)
    start = _truncated_date(unit, date)
    date_fields = {key: field for key, field in fields.items() if key in DATE_FIELDS}
    date = date_from_fields(date_fields, start or date)
    return date, _truncated_clock(name, "day" if start is not None else unit, clock, fields)


@FAMILY.add("date.truncate", 2, 3)
def truncate_date(unit: Any, value: Any, fields: Any = None) -> Date:
    fields = {} if fields is None else fields
    if _unit("date.truncate", unit, fields) in _CLOCK_UNITS and unit != "day":
        raise argument_error("date.truncate", f"a date cannot be truncated to a {unit}.")
    return _truncated("date.truncate", unit, value, fields, DATE_FIELDS)[0]


@FAMILY.add("localdatetime.truncate", 2, 3)
def truncate_local_date_time(unit: Any, value: Any, fields: Any = None) -> DateTime:
    fields = {} if fields is None else fields
    allowed = DATE_FIELDS | CLOCK_FIELDS
    return DateTime.combine(*_truncated("localdatetime.truncate", unit, value, fields, allowed))


@FAMILY.add("datetime.truncate", 2, 3)
def truncate_date_time(unit: Any, value: Any, fields: Any = None) -> DateTime:
    fields = {} if fields is None else fields
    allowed = DATE_FIELDS | CLOCK_FIELDS | _ZONE_FIELD
    date, clock = _truncated("datetime.truncate", unit, value, fields, allowed)
    zone = _zone_in(fields) or (value.tzinfo if isinstance(value, DateTime) else None) or UTC
    return DateTime.combine(date, _with_zone(clock, zone))


@FAMILY.add("localtime.truncate", 2, 3)
def truncate_local_time(unit: Any, value: Any, fields: Any = None) -> Time:
    name = "localtime.truncate"
    fields = {} if fields is None else fields
    unit = _unit(name, unit, fields)
    _check_fields(name, fields, CLOCK_FIELDS)
    return _truncated_clock(name, unit, _clock_of(value, name), fields)


@FAMILY.add("time.truncate", 2, 3, needs_context=True)
def truncate_time(context: Context, unit: Any, value: Any, fields: Any = None) -> Time:
    name = "time.truncate"
    fields = {} if fields is None else fields
    unit = _unit(name, unit, fields)
    _check_fields(name, fields, CLOCK_FIELDS, _ZONE_FIELD)
    clock = _truncated_clock(name, unit, _clock_of(value, name), fields)
    zone = _zone_in(fields)
    offset = _offset_zone(value) if zone is None else _offset_zone(_now(context, zone))
    return _with_zone(clock, offset or UTC)
