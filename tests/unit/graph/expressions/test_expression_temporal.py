"""Temporal functions and arithmetic, by table; values compared by their text."""

import datetime

import pytest
from expression_support import value
from hypothesis import given
from hypothesis import strategies as st
from neo4j.time import DateTime

from graph.cypher.functions.temporal_durations import between, in_seconds
from graph.cypher.temporal_arithmetic import plus
from graph.cypher.temporal_values import (
    date_time_of_instant,
    epoch_nanos,
    fixed_zone,
    named_zone,
    temporal_text,
)
from graph.errors import CypherArgumentError, CypherTypeError

STOCKHOLM = "Europe/Stockholm"

TEXTS = [
    ("date()", "2024-02-03"),
    ("localtime()", "04:05:06.000000007"),
    ("time()", "04:05:06.000000007Z"),
    ("datetime()", "2024-02-03T04:05:06.000000007Z"),
    ("datetime({timezone: 'Asia/Tokyo'})", "2024-02-03T13:05:06.000000007+09:00[Asia/Tokyo]"),
    ("date({timezone: '-05:00'})", "2024-02-02"),
    ("datetime.realtime('+01:00')", "2024-02-03T05:05:06.000000007+01:00"),
    ("date('2015-W30-2')", "2015-07-21"),
    ("date('2015202')", "2015-07-21"),
    ("date('2015-Q2-60')", "2015-05-30"),
    ("date('201507')", "2015-07-01"),
    ("localtime('214032.142')", "21:40:32.142"),
    ("time('2140-02')", "21:40-02:00"),
    ("time('21:40')", "21:40Z"),
    ("localdatetime('2015T214032')", "2015-01-01T21:40:32"),
    ("datetime('2015-07-21T21:40:32.142[Europe/London]')", None),
    ("date({year: 1984, month: 10, day: 11})", "1984-10-11"),
    ("date({year: 1984, week: 10, dayOfWeek: 3})", "1984-03-07"),
    ("date({year: 1984, ordinalDay: 202})", "1984-07-20"),
    ("date({year: 1984, quarter: 3, dayOfQuarter: 45})", "1984-08-14"),
    ("date({date: date('1816-12-30'), week: 2, dayOfWeek: 3})", "1817-01-08"),
    ("date({date: date('2020-02-29'), day: 3})", "2020-02-03"),
    ("localtime({hour: 1, millisecond: 2, second: 3, minute: 4})", "01:04:03.002"),
    ("time({hour: 12, timezone: '+02:05:59'})", "12:00+02:05:59"),
    ("time({time: time('12:00+01:00'), timezone: '+05:00', second: 7})", "16:00:07+05:00"),
    ("datetime({year: 2020, month: 7, timezone: 'Europe/Stockholm'})", None),
    ("datetime({datetime: datetime('2020-01-01T23:00Z'), timezone: '+05:00'})", None),
    ("datetime({epochMillis: 1500})", "1970-01-01T00:00:01.500Z"),
    ("datetime.fromEpoch(416779, 999999999)", "1970-01-05T19:46:19.999999999Z"),
    ("datetime.fromEpochMillis(237821673987)", "1977-07-15T13:34:33.987Z"),
    ("date.truncate('decade', date('1984-10-11'), {day: 2})", "1980-01-02"),
    ("date.truncate('weekYear', date('1984-01-01'))", "1983-01-03"),
    ("date.truncate('week', date('1984-10-11'), {dayOfWeek: 2})", "1984-10-09"),
    ("datetime.truncate('hour', localdatetime('2020-01-01T12:34'))", "2020-01-01T12:00Z"),
    ("localtime.truncate('millisecond', localtime('01:02:03.123456'), {nanosecond: 2})", None),
    ("duration({years: 12.5, months: 5.5, days: 14.5, hours: 16.5})", None),
    ("duration('P12Y5M14DT16H12M70S')", "P12Y5M14DT16H13M10S"),
    ("duration('P0.75M')", "P22DT19H51M49.5S"),
    ("duration('-P1D')", "P-1D"),
    ("duration({seconds: -2, milliseconds: 1})", "PT-1.999S"),
    ("duration({seconds: 2.3})", "PT2.3S"),
    ("duration({months: 1}) * 1.5", "P1M15DT5H14M33S"),
    ("duration({days: 1}) / 2", "PT12H"),
    ("-duration({days: 1})", "P-1D"),
    ("date('2020-01-31') + duration({months: 1})", "2020-02-29"),
    ("date('2020-03-31') - duration({months: 1, hours: 30})", "2020-02-28"),
    ("duration({days: 1}) + date('2020-01-31')", "2020-02-01"),
    ("localtime('23:00') + duration({hours: 2, days: 9})", "01:00"),
    ("duration.between(date('1984-10-11'), date('2015-06-24'))", "P30Y8M13D"),
    ("duration.between(localtime('12:00'), date('2020-01-01'))", "PT-12H"),
    ("duration.inDays(date('2020-01-01'), date('2019-01-01'))", "P-365D"),
    ("duration.inMonths(date('2020-01-31'), date('2020-02-29'))", "PT0S"),
]
EXPECTED = {
    "datetime('2015-07-21T21:40:32.142[Europe/London]')": (
        "2015-07-21T21:40:32.142+01:00[Europe/London]"
    ),
    "datetime({year: 2020, month: 7, timezone: 'Europe/Stockholm'})": (
        "2020-07-01T00:00+02:00[Europe/Stockholm]"
    ),
    "datetime({datetime: datetime('2020-01-01T23:00Z'), timezone: '+05:00'})": (
        "2020-01-02T04:00+05:00"
    ),
    "localtime.truncate('millisecond', localtime('01:02:03.123456'), {nanosecond: 2})": (
        "01:02:03.123000002"
    ),
    "duration({years: 12.5, months: 5.5, days: 14.5, hours: 16.5})": "P12Y11M29DT33H44M33S",
}


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_text(text, expected):
    assert temporal_text(value(text)) == (expected or EXPECTED[text])


VALUES = [
    ("date('1984-10-11').quarter", 4),
    ("date('1984-01-01').weekYear", 1983),
    ("date('1984-10-11').dayOfQuarter", 11),
    ("date('1984-10-11').hour", None),
    ("time('12:31:14.645876123+01:00').microsecond", 645876),
    ("time('12:00+01:00').offsetMinutes", 60),
    ("localtime('12:00').timezone", None),
    ("datetime('1984-11-11T12:31:14.645+01:00[Europe/Stockholm]').timezone", STOCKHOLM),
    ("datetime('1984-11-11T12:31:14.645Z').epochMillis", 469024274645),
    ("duration('P1Y4M10DT1H1M1.5S').monthsOfYear", 4),
    ("duration('P1Y4M10DT1H1M1.5S').milliseconds", 3661500),
    ("duration('PT-0.1S').seconds", -1),
    ("duration('PT-0.1S').nanosecondsOfSecond", 900000000),
    ("date('2020-01-01') < date('2020-01-02')", True),
    ("duration('P1D') = duration('PT24H')", False),
    ("duration('P1D') < duration('P2D')", None),
    ("date('2020-01-01') = '2020-01-01'", False),
    ("datetime('2020-01-01T00:00Z') = datetime('2020-01-01T01:00+01:00')", False),
    ("datetime('2020-01-01T00:00Z') < datetime('2020-01-01T00:30+01:00')", False),
    ("toString(date('2020-01-01')) + 'T'", "2020-01-01T"),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_value(text, expected):
    assert value(text) == expected


ERRORS = [
    ("date('2020-13-01')", "`month` must be between 1 and 12"),
    ("date('2019-02-29')", "`day` must be between 1 and 28"),
    ("date('soon')", "cannot be parsed to a Date"),
    ("date({month: 1})", "`year` must be given"),
    ("date({year: 2020, week: 1, month: 2})", "Cannot mix"),
    ("date({year: 2019, week: 53})", "no week 53"),
    ("date({year: 2020, hour: 1})", "unknown field `hour`"),
    ("date({year: 0})", "`year` must be between"),
    ("localtime('25:00')", "Invalid time of day"),
    ("localtime({minute: 1})", "`hour` must be given"),
    ("localtime({hour: 1, second: 1})", "without `minute`"),
    ("time('12:00+19:00')", "between -18:00 and"),
    ("time('12:00[Europe/Stockholm]')", "not a time zone name"),
    ("datetime({year: 2020, timezone: 'Mars/Base'})", "Unknown time zone"),
    ("datetime('2020-07-01T00:00+05:00[Europe/Stockholm]')", "does not have this offset"),
    ("date.truncate('hour', date('2020-01-01'))", "cannot be truncated"),
    ("date.truncate('eon', date('2020-01-01'))", "unknown unit"),
    ("date('9999-12-31') + duration('P1D')", "years 1 to 9999"),
    ("date('0001-01-01') - duration('P1M')", "years 1 to 9999"),
    ("duration('P')", "cannot be parsed"),
    ("duration('P1DT')", "cannot be parsed"),
    ("duration({weeks: 1, fortnights: 1})", "unknown field `fortnights`"),
    ("duration({years: 1e300})", "out of range"),
    ("duration({days: 0.0 / 0.0})", "finite"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_error(text, message):
    with pytest.raises(CypherArgumentError, match=message):
        value(text)


@pytest.mark.parametrize(
    "text", ["date(1)", "duration(1)", "date({year: 'x'})", "duration.between(1, 2)", "date() * 2"]
)
def test_type_error(text):
    with pytest.raises(CypherTypeError):
        value(text)


def test_summer_time():
    """A day keeps the hour, 24 hours do not; the distance is in real time."""
    before = "datetime('2017-10-28T12:00[Europe/Stockholm]')"
    assert temporal_text(value(f"{before} + duration('P1D')")).startswith("2017-10-29T12:00+01:00")
    assert temporal_text(value(f"{before} + duration('PT24H')")).startswith(
        "2017-10-29T11:00+01:00"
    )
    after = "datetime('2017-10-29T04:00[Europe/Stockholm]')"
    midnight = "datetime('2017-10-29T00:00[Europe/Stockholm]')"
    assert temporal_text(value(f"duration.inSeconds({midnight}, {after})")) == "PT5H"


zones = st.sampled_from([None, fixed_zone(0), fixed_zone(-7 * 3600), named_zone("Asia/Tokyo")])
moments = st.builds(
    lambda nanos, zone: date_time_of_instant(nanos, zone),
    st.integers(-(10**18), 3 * 10**18),
    zones,
)


@given(moments, moments)
def test_the_distance_added_to_the_first_gives_the_second(a, b):
    assert epoch_nanos(plus(a, in_seconds(a, b))) == epoch_nanos(a) + (
        in_seconds(a, b).seconds * 10**9 + in_seconds(a, b).nanoseconds
    )
    there = between(a, b)
    back = plus(a, there)
    if (a.tzinfo is None) == (b.tzinfo is None):
        assert epoch_nanos(back) == epoch_nanos(b)


@given(moments)
def test_text_can_be_read_back(a):
    name = "localdatetime" if a.tzinfo is None else "datetime"
    assert epoch_nanos(value(f"{name}($t)", t=temporal_text(a))) == epoch_nanos(a)
    assert type(value(f"{name}($a)", a=a)) is DateTime
    native = datetime.datetime(1970, 1, 1) + datetime.timedelta(days=1)
    assert epoch_nanos(DateTime.from_native(native)) == 86_400 * 10**9
