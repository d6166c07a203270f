"""Arithmetic of temporal values: moments plus durations, durations times numbers.

A duration has three independent parts: months, days, and seconds with nanoseconds. Adding one to
a moment adds the months first (the day is held within the month), then the days, both on the
local clock, then the seconds in real time, so that a day added over a change of summer time
keeps the hour and 24 hours do not (openCypher CIP2015-08-06, "Adding durations").

A fraction of a part carries into the next finer one, a month being 30.436875 days on average
(1/12 of a Gregorian year) and a day 86,400 seconds. Fractions are exact until the last
nanosecond is cut off.
"""

from __future__ import annotations

import calendar
from fractions import Fraction
from math import trunc
from typing import Any

from neo4j.time import Date, DateTime, Duration, Time

from graph.cypher.temporal_values import (
    NANOS_PER_DAY,
    NANOS_PER_SECOND,
    date_of_ordinal,
    date_time_of_instant,
    epoch_nanos,
    time_of_ticks,
)
from graph.errors import CypherArgumentError, CypherTypeError

__all__ = ["add_months", "duration_of", "fraction", "negative", "plus", "times"]

DAYS_PER_MONTH = Fraction(30_436_875, 1_000_000)


def fraction(value: float | Fraction) -> Fraction:
    """The number a client meant: 2.3 is 23/10, not the nearest binary fraction.

    Raises:
        CypherArgumentError: NaN or infinite.
    """
    if isinstance(value, float):
        try:
            return Fraction(repr(value))
        except ValueError:
            raise CypherArgumentError("A duration needs finite numbers.") from None
    return Fraction(value)


def duration_of(months: Fraction, days: Fraction, seconds: Fraction) -> Duration:
    """A duration of possibly fractional parts, fractions carried to the finer part.

    Raises:
        CypherArgumentError: it is longer than 64 bits of seconds.
    """
    whole_months = trunc(months)
    days += (months - whole_months) * DAYS_PER_MONTH
    whole_days = trunc(days)
    seconds += (days - whole_days) * 86_400
    return exact_duration(whole_months, whole_days, trunc(seconds * NANOS_PER_SECOND))


def exact_duration(months: int, days: int, nanos: int) -> Duration:
    """A duration of whole parts, ``nanos`` being the seconds' part in nanoseconds."""
    try:
        return Duration(months=months, days=days, nanoseconds=nanos)
    except ValueError:
        raise CypherArgumentError("The duration is out of range: use a shorter one.") from None


def _nanos(duration: Duration) -> int:
    return duration.seconds * NANOS_PER_SECOND + duration.nanoseconds


def negative(duration: Duration) -> Duration:
    """The duration with the sign of every part turned."""
    return exact_duration(-duration.months, -duration.days, -_nanos(duration))


def times(duration: Duration, factor: float | Fraction) -> Duration:
    """Each part times ``factor``."""
    by = fraction(factor)
    return duration_of(
        duration.months * by, duration.days * by, Fraction(_nanos(duration), NANOS_PER_SECOND) * by
    )


def add_months(date: Date, months: int) -> Date:
    """The same day ``months`` later, or the last day of that month if it has no such day."""
    year, month = divmod(date.year * 12 + date.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise CypherArgumentError("A date must lie in the years 1 to 9999.")
    last = calendar.monthrange(year, month + 1)[1]
    return Date(year, month + 1, min(date.day, last))


def _plus_days(date: Date, duration: Duration, extra_days: int) -> Date:
    if duration.months:
        date = add_months(date, duration.months)
    days = duration.days + extra_days
    return date_of_ordinal(date.to_ordinal() + days) if days else date


def plus(value: Any, duration: Duration) -> Any:
    """A date, time, moment or duration plus a duration."""
    nanos = _nanos(duration)
    if isinstance(value, Duration):
        return exact_duration(
            value.months + duration.months, value.days + duration.days, _nanos(value) + nanos
        )
    if isinstance(value, DateTime):
        if duration.months or duration.days:
            value = DateTime.combine(_plus_days(value.date(), duration, 0), value.timetz())
        return date_time_of_instant(epoch_nanos(value) + nanos, value.tzinfo) if nanos else value
    if isinstance(value, Date):
        whole_days = abs(nanos) // NANOS_PER_DAY
        return _plus_days(value, duration, whole_days if nanos >= 0 else -whole_days)
    if isinstance(value, Time):
        return time_of_ticks((value.ticks + nanos) % NANOS_PER_DAY, value.tzinfo)
    raise CypherTypeError("A duration can be added to temporal values only.")
