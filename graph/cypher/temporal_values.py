"""What the engine needs to know of temporal values: offsets, instants, text, components.

The values themselves are those of ``neo4j.time``. Its offsets must be whole minutes, while
history has others (Stockholm in 1818: +00:53:28) and openCypher asks for them; so offsets,
comparison and text are worked out here, from the time zone object, and never by the package's own
operators. Zones made here are ``datetime.timezone`` for offsets and ``zoneinfo.ZoneInfo`` for
names; those of the driver (``pytz``) are understood too.

A zone of the IANA database gives an ambiguous local time (the hour that an autumn repeats) its
first meaning: ``neo4j.time.DateTime`` has no mark for the second.

Sources: openCypher CIP2015-08-06 (date and time); ISO 8601; Neo4j's Cypher manual, "Temporal
values".
"""

from __future__ import annotations

import datetime as native
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from neo4j.time import Date, DateTime, Duration, Time

from graph.errors import CypherArgumentError

__all__ = [
    "NANOS_PER_DAY",
    "NANOS_PER_SECOND",
    "UTC",
    "component",
    "date_time_of_instant",
    "duration_text",
    "epoch_nanos",
    "fixed_zone",
    "local_nanos",
    "named_zone",
    "offset_seconds",
    "offset_text",
    "temporal_text",
    "time_key",
    "zone_name",
]

NANOS_PER_SECOND = 1_000_000_000
NANOS_PER_DAY = 86_400 * NANOS_PER_SECOND
UNIX_EPOCH_ORDINAL = 719_163  # proleptic Gregorian ordinal of 1970-01-01
OFFSET_SECONDS_MAX = 18 * 3600
UTC: native.tzinfo = native.UTC


@lru_cache(maxsize=1024)
def fixed_zone(seconds: int) -> native.tzinfo:
    """The zone of a constant offset in seconds east of Greenwich, at most 18 hours."""
    if abs(seconds) > OFFSET_SECONDS_MAX:
        raise CypherArgumentError("A time zone offset must be between -18:00 and +18:00.")
    return UTC if seconds == 0 else native.timezone(native.timedelta(seconds=seconds))


@lru_cache(maxsize=1024)
def named_zone(name: str) -> native.tzinfo:
    """The zone of the IANA database with this name.

    Raises:
        CypherArgumentError: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CypherArgumentError(
            f"Unknown time zone `{name}`: use an offset such as +01:00 or a name of the IANA "
            "database such as Europe/Stockholm."
        ) from None


def zone_name(zone: native.tzinfo | None) -> str | None:
    """The IANA name of a zone; ``None`` for an offset."""
    if zone is None or isinstance(zone, native.timezone):
        return None
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return str(name) if name else None


def offset_seconds(value: Any) -> int | None:
    """Seconds east of Greenwich of a Time or DateTime at its own moment; ``None`` if local."""
    zone = value.tzinfo
    if zone is None:
        return None
    if type(value) is DateTime:
        if not isinstance(zone, native.timezone):
            year, month, day = value.year_month_day
            hour, minute, second, _ = value.hour_minute_second_nanosecond
            moment = native.datetime(year, month, day, hour, minute, second, tzinfo=zone)
            offset = zone.utcoffset(moment)
        else:
            offset = zone.utcoffset(None)
    else:
        offset = zone.utcoffset(None)
        if offset is None:  # a named zone has no offset without a date
            offset = zone.utcoffset(native.datetime(1970, 1, 1, tzinfo=zone))
    assert offset is not None
    return int(offset.days * 86_400 + offset.seconds)


def local_nanos(value: DateTime) -> int:
    """Nanoseconds from 1970-01-01T00:00 on the value's own clock."""
    return (value.to_ordinal() - UNIX_EPOCH_ORDINAL) * NANOS_PER_DAY + value.time().ticks


def epoch_nanos(value: DateTime) -> int:
    """Nanoseconds from 1970-01-01T00:00Z; a local value counts as UTC."""
    return local_nanos(value) - (offset_seconds(value) or 0) * NANOS_PER_SECOND


def date_time_of_instant(nanos: int, zone: native.tzinfo | None) -> DateTime:
    """The moment ``nanos`` after 1970-01-01T00:00Z on the clock of ``zone`` (``None``: local).

    Raises:
        CypherArgumentError: the year is not in 1 to 9999.
    """
    days, ticks = divmod(nanos, NANOS_PER_DAY)
    ordinal = days + UNIX_EPOCH_ORDINAL
    if zone is not None and zone is not UTC:
        try:
            utc = native.datetime.fromordinal(ordinal) + native.timedelta(
                seconds=ticks // NANOS_PER_SECOND
            )
            offset = zone.fromutc(utc.replace(tzinfo=zone)).utcoffset()
        except (ValueError, OverflowError):
            raise _out_of_range() from None
        assert offset is not None
        seconds = offset.days * 86_400 + offset.seconds
        days, ticks = divmod(nanos + seconds * NANOS_PER_SECOND, NANOS_PER_DAY)
        ordinal = days + UNIX_EPOCH_ORDINAL
    return DateTime.combine(date_of_ordinal(ordinal), time_of_ticks(ticks, zone))


def date_of_ordinal(ordinal: int) -> Date:
    """The date with this proleptic Gregorian ordinal, checked to be in years 1 to 9999."""
    if not 1 <= ordinal <= 3_652_059:
        raise _out_of_range()
    return Date.from_ordinal(ordinal)


def time_of_ticks(ticks: int, zone: native.tzinfo | None) -> Time:
    """The time of day ``ticks`` nanoseconds after midnight."""
    seconds, nanos = divmod(ticks, NANOS_PER_SECOND)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return Time(hour, minute, second, nanos, zone)


def _out_of_range() -> CypherArgumentError:
    return CypherArgumentError("A date must lie in the years 1 to 9999.")


def time_key(value: Time) -> tuple[int, int]:
    """(nanoseconds in UTC, offset): how times of day with an offset order."""
    offset = offset_seconds(value) or 0
    return value.ticks - offset * NANOS_PER_SECOND, offset


# ----------------------------------------------------------------------------- text


def _clock_text(hour: int, minute: int, second: int, nanos: int) -> str:
    text = f"{hour:02d}:{minute:02d}"
    if second or nanos:
        text += f":{second:02d}"
    if nanos:
        fraction = f"{nanos:09d}"
        if fraction.endswith("000000"):
            fraction = fraction[:3]
        elif fraction.endswith("000"):
            fraction = fraction[:6]
        text += "." + fraction
    return text


def offset_text(seconds: int) -> str:
    """``Z``, ``+01:00`` or ``+00:53:28``."""
    if seconds == 0:
        return "Z"
    minutes, second = divmod(abs(seconds), 60)
    hour, minute = divmod(minutes, 60)
    text = f"{'-' if seconds < 0 else '+'}{hour:02d}:{minute:02d}"
    return f"{text}:{second:02d}" if second else text


def temporal_text(value: Any) -> str:
    """ISO 8601 text of any temporal value, as ``toString`` gives it."""
    if isinstance(value, Duration):
        return duration_text(value)
    if isinstance(value, Date):
        return f"{value.year:04d}-{value.month:02d}-{value.day:02d}"
    text = _clock_text(*value.hour_minute_second_nanosecond)
    if isinstance(value, DateTime):
        text = f"{value.year:04d}-{value.month:02d}-{value.day:02d}T{text}"
    offset = offset_seconds(value)
    if offset is not None:
        text += offset_text(offset)
        name = zone_name(value.tzinfo)
        if name is not None and isinstance(value, DateTime):
            text += f"[{name}]"
    return text


def duration_text(value: Duration) -> str:
    """ISO 8601 text of a duration: each part carries its own sign."""
    years, months = _quotient(value.months, 12)
    text = "".join(
        f"{amount}{unit}"
        for amount, unit in ((years, "Y"), (months, "M"), (value.days, "D"))
        if amount
    )
    minutes, seconds = _quotient(value.seconds, 60)
    hours, minutes = _quotient(minutes, 60)
    clock = "".join(f"{amount}{unit}" for amount, unit in ((hours, "H"), (minutes, "M")) if amount)
    nanos = value.nanoseconds
    if seconds or nanos:
        sign = "-" if seconds < 0 or nanos < 0 else ""
        fraction = f".{abs(nanos):09d}".rstrip("0") if nanos else ""
        clock += f"{sign}{abs(seconds)}{fraction}S"
    if clock:
        text += "T" + clock
    return "P" + (text or "T0S")


def _quotient(value: int, unit: int) -> tuple[int, int]:
    """Division that truncates toward zero; both results carry the sign of ``value``."""
    whole, rest = divmod(abs(value), unit)
    return (whole, rest) if value >= 0 else (-whole, -rest)


# ----------------------------------------------------------------------------- components


def component(value: Any, key: str) -> Any:
    """``value.key`` of a temporal value; ``None`` where the type has no such component."""
    if isinstance(value, Duration):
        return _duration_component(value, key)
    if isinstance(value, (Date, DateTime)):
        found = _date_component(value, key)
        if found is not None:
            return found
    if isinstance(value, (Time, DateTime)):
        found = _clock_component(value, key)
        if found is not None:
            return found
        if value.tzinfo is not None:
            return _zone_component(value, key)
    return None


def _date_component(value: Any, key: str) -> int | None:
    if key in ("year", "month", "day"):
        return int(getattr(value, key))
    if key == "quarter":
        return int((value.month - 1) // 3 + 1)
    if key in ("week", "weekYear", "weekDay", "dayOfWeek"):
        year, week, day = native.date(value.year, value.month, value.day).isocalendar()
        return int({"weekYear": year, "week": week}.get(key, day))
    if key == "ordinalDay":
        return _days_since(value, 1)
    if key == "dayOfQuarter":
        return _days_since(value, (value.month - 1) // 3 * 3 + 1)
    return None


def _days_since(value: Any, month: int) -> int:
    """Day number, from 1, counted from the first of ``month`` of the same year."""
    first = native.date(value.year, month, 1).toordinal()
    return int(value.to_ordinal() - first + 1)


def _clock_component(value: Any, key: str) -> int | None:
    if key in ("hour", "minute", "second", "nanosecond"):
        return int(getattr(value, key))
    if key == "millisecond":
        return int(value.nanosecond // 1_000_000)
    if key == "microsecond":
        return int(value.nanosecond // 1_000)
    return None


def _zone_component(value: Any, key: str) -> Any:
    offset = offset_seconds(value)
    assert offset is not None
    if key == "timezone":
        return zone_name(value.tzinfo) or offset_text(offset)
    if key == "offset":
        return offset_text(offset)
    if key == "offsetMinutes":
        return offset // 60
    if key == "offsetSeconds":
        return offset
    if isinstance(value, DateTime):
        if key == "epochSeconds":
            return epoch_nanos(value) // NANOS_PER_SECOND
        if key == "epochMillis":
            return epoch_nanos(value) // 1_000_000
    return None


def _duration_component(value: Duration, key: str) -> int | None:
    months, days = value.months, value.days
    nanos = value.seconds * NANOS_PER_SECOND + value.nanoseconds
    seconds, fraction = divmod(nanos, NANOS_PER_SECOND)
    parts: dict[str, int] = {
        "years": _quotient(months, 12)[0],
        "quarters": _quotient(months, 3)[0],
        "months": months,
        "weeks": _quotient(days, 7)[0],
        "days": days,
        "hours": _quotient(seconds, 3600)[0],
        "minutes": _quotient(seconds, 60)[0],
        "seconds": seconds,
        "milliseconds": nanos // 1_000_000,
        "microseconds": nanos // 1_000,
        "nanoseconds": nanos,
        "quartersOfYear": _quotient(_quotient(months, 3)[0], 4)[1],
        "monthsOfQuarter": _quotient(months, 3)[1],
        "monthsOfYear": _quotient(months, 12)[1],
        "daysOfWeek": _quotient(days, 7)[1],
        "minutesOfHour": _quotient(_quotient(seconds, 60)[0], 60)[1],
        "secondsOfMinute": _quotient(seconds, 60)[1],
        "millisecondsOfSecond": fraction // 1_000_000,
        "microsecondsOfSecond": fraction // 1_000,
        "nanosecondsOfSecond": fraction,
    }
    return parts.get(key)
