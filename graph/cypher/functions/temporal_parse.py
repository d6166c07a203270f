"""ISO 8601 strings to temporal values, in the forms of openCypher CIP2015-08-06: basic and extended
notation, calendar, week, quarter and ordinal dates, reduced precision, offsets and zone names."""

from __future__ import annotations

import datetime as native
import re
from fractions import Fraction
from typing import Any

from neo4j.time import Date, DateTime, Duration, Time

from graph.cypher import temporal_arithmetic
from graph.cypher.functions.temporal_fields import date_from_fields
from graph.cypher.temporal_values import UTC, fixed_zone, named_zone, offset_seconds
from graph.errors import CypherArgumentError

__all__ = [
    "parse_date",
    "parse_date_time",
    "parse_duration",
    "parse_local_date_time",
    "parse_local_time",
    "parse_time",
    "parse_zone",
]

# No temporal text is longer; longer ones are refused before a pattern sees them.
TEXT_CHARS_MAX = 200

_DATE = (
    r"(?P<year>\d{4}|[+-]\d{4,9})(?:"
    r"-?Q(?P<quarter>[1-4])(?:-?(?P<dayOfQuarter>\d{2}))?"
    r"|-?W(?P<week>\d{2})(?:-?(?P<dayOfWeek>\d))?"
    r"|-(?P<month>\d{2})(?:-(?P<day>\d{2}))?"
    r"|-(?P<ordinalDay>\d{3})"
    r"|(?P<month_>\d{2})(?P<day_>\d{2})?"
    r"|(?P<ordinalDay_>\d{3}))?"
)
_CLOCK = (
    r"(?P<hour>\d{2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
)
_OFFSET = r"(?P<zone>[Zz]|(?P<sign>[+-])(?P<oh>\d{2})(?::?(?P<om>\d{2})(?::?(?P<os>\d{2}))?)?)"
_ZONE = _OFFSET + r"?(?:\[(?P<name>[^\]]+)\])?"

_DATE_TEXT = re.compile(_DATE, re.ASCII)
_LOCAL_TIME_TEXT = re.compile(_CLOCK, re.ASCII)
_TIME_TEXT = re.compile(_CLOCK + _ZONE, re.ASCII)
_LOCAL_DATE_TIME_TEXT = re.compile(rf"{_DATE}(?:[Tt]{_CLOCK})?", re.ASCII)
_DATE_TIME_TEXT = re.compile(rf"{_DATE}(?:[Tt]{_CLOCK})?{_ZONE}", re.ASCII)
_OFFSET_TEXT = re.compile(_OFFSET, re.ASCII)

_AMOUNT = r"[+-]?\d+(?:[.,]\d+)?"
_DURATION_TEXT = re.compile(
    rf"(?P<sign>[+-])?P(?:(?P<years>{_AMOUNT})Y)?(?:(?P<months>{_AMOUNT})M)?"
    rf"(?:(?P<weeks>{_AMOUNT})W)?(?:(?P<days>{_AMOUNT})D)?"
    rf"(?:T(?:(?P<hours>{_AMOUNT})H)?(?:(?P<minutes>{_AMOUNT})M)?(?:(?P<seconds>{_AMOUNT})S)?)?",
    re.ASCII | re.IGNORECASE,
)
_DURATION_DATE_TEXT = re.compile(
    r"P(?P<years>\d{4})-(?P<months>\d{2})-(?P<days>\d{2})"
    r"(?:T(?P<hours>\d{2}):(?P<minutes>\d{2}):(?P<seconds>\d{2}(?:[.,]\d{1,9})?))?",
    re.ASCII,
)


def _match(pattern: re.Pattern[str], text: str, what: str) -> dict[str, str | None]:
    found = pattern.fullmatch(text) if len(text) <= TEXT_CHARS_MAX else None
    if found is None:
        raise CypherArgumentError(
            f"Text cannot be parsed to a {what}: '{text[:TEXT_CHARS_MAX]}'. Use ISO 8601."
        )
    return found.groupdict()


def _date(found: dict[str, str | None]) -> Date:
    fields: dict[str, int] = {}
    for name, text in found.items():
        key = name.rstrip("_")
        if text is not None and key in _DATE_FIELDS:
            fields[key] = int(text)
    return date_from_fields(fields, None)


_DATE_FIELDS = frozenset(
    {"year", "quarter", "dayOfQuarter", "week", "dayOfWeek", "month", "day", "ordinalDay"}
)


def _clock(found: dict[str, str | None], zone: native.tzinfo | None) -> Time:
    fraction = (found["fraction"] or "").ljust(9, "0")
    try:
        return Time(
            int(found["hour"] or 0),
            int(found["minute"] or 0),
            int(found["second"] or 0),
            int(fraction),
            zone,
        )
    except ValueError as error:
        raise CypherArgumentError(f"Invalid time of day: {error}.") from None


def _offset(found: dict[str, str | None]) -> native.tzinfo | None:
    if found["zone"] is None:
        return None
    if found["sign"] is None:
        return UTC
    hours, minutes = int(found["oh"] or 0), int(found["om"] or 0)
    seconds = hours * 3600 + minutes * 60 + int(found["os"] or 0)
    return fixed_zone(-seconds if found["sign"] == "-" else seconds)


def parse_zone(text: str) -> native.tzinfo:
    """A zone by offset (``+01:00``, ``Z``) or by name (``Europe/Stockholm``)."""
    found = _OFFSET_TEXT.fullmatch(text) if len(text) <= TEXT_CHARS_MAX else None
    if found is None:
        return named_zone(text)
    zone = _offset(found.groupdict())
    assert zone is not None
    return zone


def parse_date(text: str) -> Date:
    return _date(_match(_DATE_TEXT, text, "Date"))


def parse_local_time(text: str) -> Time:
    return _clock(_match(_LOCAL_TIME_TEXT, text, "LocalTime"), None)


def parse_time(text: str, default: native.tzinfo) -> Time:
    found = _match(_TIME_TEXT, text, "Time")
    zone = _offset(found)
    if found["name"] is not None:
        raise CypherArgumentError("A Time takes an offset, not a time zone name: use a DateTime.")
    return _clock(found, default if zone is None else zone)


def parse_local_date_time(text: str) -> DateTime:
    found = _match(_LOCAL_DATE_TIME_TEXT, text, "LocalDateTime")
    return DateTime.combine(_date(found), _clock(found, None))


def parse_date_time(text: str, default: native.tzinfo) -> DateTime:
    found = _match(_DATE_TIME_TEXT, text, "DateTime")
    offset = _offset(found)
    name = found["name"]
    zone = named_zone(name) if name is not None else offset or default
    value = DateTime.combine(_date(found), _clock(found, zone))
    if name is not None and offset is not None:
        _check_offset(value, zone, offset)
    return value


def _check_offset(value: DateTime, zone: native.tzinfo, offset: native.tzinfo) -> None:
    """The offset written beside a zone's name must be one the zone has at that local time."""
    given = offset.utcoffset(None)
    if given is not None and offset_seconds(value) == given.days * 86_400 + given.seconds:
        return
    year, month, day = value.year_month_day
    hour, minute, second, _ = value.hour_minute_second_nanosecond
    second_meaning = native.datetime(year, month, day, hour, minute, second, tzinfo=zone, fold=1)
    if second_meaning.utcoffset() != given:
        raise CypherArgumentError("The time zone does not have this offset at this time.")


def parse_duration(text: str) -> Duration:
    """``P1Y2M3W4DT5H6M7.8S`` (each part may have a sign and a fraction), or
    ``P2012-02-02T14:37:21.545``."""
    found = _DURATION_DATE_TEXT.fullmatch(text) if len(text) <= TEXT_CHARS_MAX else None
    parts: dict[str, str | None]
    if found is not None:
        parts = found.groupdict()
    else:
        parts = _match(_DURATION_TEXT, text, "Duration")
        if all(parts[key] is None for key in parts if key != "sign") or text[-1] in "Tt":
            raise CypherArgumentError(f"Text cannot be parsed to a Duration: '{text}'.")

    def amount(key: str) -> Fraction:
        value = parts.get(key)
        return Fraction(value.replace(",", ".")) if value is not None else Fraction(0)

    duration = temporal_arithmetic.duration_of(
        amount("years") * 12 + amount("months"),
        amount("weeks") * 7 + amount("days"),
        amount("hours") * 3600 + amount("minutes") * 60 + amount("seconds"),
    )
    return temporal_arithmetic.negative(duration) if parts.get("sign") == "-" else duration


def zone_of(value: Any) -> native.tzinfo:
    """A zone given as an argument: a String."""
    if not isinstance(value, str):
        raise CypherArgumentError("A time zone must be a String such as '+01:00'.")
    return parse_zone(value)
