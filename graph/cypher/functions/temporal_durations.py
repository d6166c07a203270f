"""Durations: the constructor, and the time between two moments.

``between`` counts whole months first, then whole days, then seconds; ``inMonths``, ``inDays`` and
``inSeconds`` give the distance in one unit, cut off toward zero. What one side lacks comes from the
other: a time of day without a date is taken on the other's date, a local time in the other's zone;
a date without a time of day is its midnight. Without a date on both sides there are no months or
days.
"""

from __future__ import annotations

import datetime as native
from fractions import Fraction
from typing import Any, NamedTuple

from neo4j.time import Date, DateTime, Duration, Time

from graph.cypher import temporal_arithmetic
from graph.cypher.functions.definition import Family, argument_error, expect_number, wrong_type
from graph.cypher.functions.temporal_parse import parse_duration
from graph.cypher.temporal_values import (
    date_of_ordinal,
    date_time_of_instant,
    epoch_nanos,
    time_of_ticks,
)

__all__ = ["register"]

# Months, days or seconds that one of each field makes.
_MONTHS = {"years": 12, "quarters": 3, "months": 1}
_DAYS = {"weeks": 7, "days": 1}
_SECONDS = {
    "hours": Fraction(3600),
    "minutes": Fraction(60),
    "seconds": Fraction(1),
    "milliseconds": Fraction(1, 1_000),
    "microseconds": Fraction(1, 1_000_000),
    "nanoseconds": Fraction(1, 1_000_000_000),
}


def duration(value: Any) -> Duration:
    """From a string, a map of (possibly fractional) amounts, or a duration."""
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, Duration):
        return value
    if not isinstance(value, dict):
        raise wrong_type("duration", "a String, Map or Duration", value)
    months = days = seconds = Fraction(0)
    for name, given in value.items():
        if given is None:
            continue
        amount = temporal_arithmetic.fraction(expect_number("duration", given))
        if name in _MONTHS:
            months += amount * _MONTHS[name]
        elif name in _DAYS:
            days += amount * _DAYS[name]
        elif name in _SECONDS:
            seconds += amount * _SECONDS[name]
        else:
            raise argument_error("duration", f"unknown field `{name}`.")
    return temporal_arithmetic.duration_of(months, days, seconds)


class _Moment(NamedTuple):
    """A value completed by what the other side has."""

    date: Date
    ticks: int
    zone: native.tzinfo | None

    def instant(self) -> int:
        return epoch_nanos(DateTime.combine(self.date, time_of_ticks(self.ticks, self.zone)))


def _parts(value: Any, name: str) -> tuple[Date | None, int | None, native.tzinfo | None]:
    if isinstance(value, DateTime):
        return value.date(), value.time().ticks, value.tzinfo
    if isinstance(value, Date):
        return value, None, None
    if isinstance(value, Time):
        return None, value.ticks, value.tzinfo
    raise wrong_type(name, "a temporal instant", value)


def _pair(a: Any, b: Any, name: str) -> tuple[_Moment, _Moment, bool]:
    """(first, second in the zone of the first, whether both had a date)."""
    a_date, a_ticks, a_zone = _parts(a, name)
    b_date, b_ticks, b_zone = _parts(b, name)
    dated = a_date is not None and b_date is not None
    some_date = a_date or b_date or Date(1970, 1, 1)
    zone = a_zone or b_zone
    first = _Moment(a_date or some_date, a_ticks or 0, zone)
    second = _Moment(b_date or some_date, b_ticks or 0, b_zone or zone)
    if second.zone is not zone:
        moved = date_time_of_instant(second.instant(), zone)
        second = _Moment(moved.date(), moved.time().ticks, zone)
    return first, second, dated


def _end_date(first: _Moment, second: _Moment) -> int:
    """The ordinal of the second's date, less the day that its time of day leaves incomplete."""
    start, end = first.date.to_ordinal(), second.date.to_ordinal()
    if end > start and second.ticks < first.ticks:
        return end - 1
    if end < start and second.ticks > first.ticks:
        return end + 1
    return end


def _whole_months(first: _Moment, second: _Moment) -> int:
    end = date_of_ordinal(_end_date(first, second))
    start = first.date
    # Months scaled by 32 with the day added: cut off toward zero, only whole months remain.
    distance = ((end.year - start.year) * 12 + end.month - start.month) * 32 + end.day - start.day
    return distance // 32 if distance >= 0 else -(-distance // 32)


def _whole_days(first: _Moment, second: _Moment) -> int:
    return _end_date(first, second) - first.date.to_ordinal()


def between(a: Any, b: Any) -> Duration:
    first, second, dated = _pair(a, b, "duration.between")
    months = days = 0
    if dated:
        months = _whole_months(first, second)
        first = first._replace(date=temporal_arithmetic.add_months(first.date, months))
        days = _whole_days(first, second)
        first = first._replace(date=date_of_ordinal(first.date.to_ordinal() + days))
    return temporal_arithmetic.exact_duration(months, days, second.instant() - first.instant())


def in_months(a: Any, b: Any) -> Duration:
    first, second, dated = _pair(a, b, "duration.inMonths")
    months = _whole_months(first, second) if dated else 0
    return temporal_arithmetic.exact_duration(months, 0, 0)


def in_days(a: Any, b: Any) -> Duration:
    first, second, dated = _pair(a, b, "duration.inDays")
    return temporal_arithmetic.exact_duration(0, _whole_days(first, second) if dated else 0, 0)


def in_seconds(a: Any, b: Any) -> Duration:
    first, second, _ = _pair(a, b, "duration.inSeconds")
    return temporal_arithmetic.exact_duration(0, 0, second.instant() - first.instant())


def register(family: Family) -> None:
    """Add the functions of this module to a family."""
    family.add("duration", 1)(duration)
    family.add("duration.between", 2)(between)
    family.add("duration.inMonths", 2)(in_months)
    family.add("duration.inDays", 2)(in_days)
    family.add("duration.inSeconds", 2)(in_seconds)
