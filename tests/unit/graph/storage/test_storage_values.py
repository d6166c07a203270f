"""Property values: what may be stored, equal keys, and the binary form."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time
from storage_model import same

from graph.cypher.temporal_values import temporal_text
from graph.errors import (
    CorruptionError,
    CypherArgumentError,
    CypherTypeError,
    GraphError,
    LimitError,
)
from graph.keys import check_storable, key_of, keys_of, tuple_key
from graph.limits import LIST_LENGTH_MAX
from graph.value_codec import decode_value, encode_value
from graph.vector import Vector

OFFSET = timezone(timedelta(hours=1, minutes=30))
NEW_YORK = pytz.timezone("America/New_York")
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -(2**63),
    2**63 - 1,
    0.0,
    -0.0,
    float("nan"),
    float("inf"),
    "",
    "\N{SNOWMAN} \N{GRINNING FACE}",
    "\ud800",  # a lone surrogate is a Python string, if not one of Unicode
    b"",
    b"\x00\xff",
    [],
    [1, 2, 3],
    [1.0, float("nan")],
    [1, 2.0, "three", True, b"4"],
    [Date(2020, 2, 29)],
    Date(1, 1, 1),
    Date(9999, 12, 31),
    Time(1, 2, 3, 999_999_999),
    Time(23, 59, 59, 1, tzinfo=OFFSET),
    Time(1, 2, tzinfo=pytz.FixedOffset(-90)),
    DateTime(2020, 2, 29, 1, 2, 3, 4),
    DateTime(2020, 2, 29, 1, 2, 3, 4, tzinfo=OFFSET),
    DateTime(1890, 1, 1, tzinfo=timezone(timedelta(seconds=-17762))),
    DateTime(2020, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    DateTime(1818, 7, 21, tzinfo=ZoneInfo("Europe/Stockholm")),
    Time(12, tzinfo=timezone(timedelta(seconds=3208))),
    DateTime(2020, 7, 1, tzinfo=pytz.utc),
    DateTime(1, 1, 1, tzinfo=pytz.utc),
    DateTime(9999, 12, 31, 23, 59, tzinfo=pytz.FixedOffset(60)),
    NEW_YORK.localize(DateTime(2021, 1, 1, 12)),
    NEW_YORK.localize(DateTime(2021, 7, 1, 12, 0, 0, 5)),
    Duration(months=14, days=-3, seconds=7, nanoseconds=-1),
    CartesianPoint((1.5, -2.0)),
    CartesianPoint((1.0, 2.0, 3.0)),
    WGS84Point((12.5, 55.6)),
    WGS84Point((12.5, 55.6, 100.0)),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    check_storable(value)
    back = decode_value(encode_value(value))
    # The package's own == knows no offsets with seconds; keys do.
    assert (
        same(back, value) if type(value) not in (Time, DateTime) else key_of(back) == key_of(value)
    )
    assert encode_value(back) == encode_value(value)
    if isinstance(value, (Time, DateTime)):
        assert temporal_text(back) == temporal_text(value)
        assert type(back.tzinfo) is type(value.tzinfo)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_cut_of_a_value_is_corruption(value: Any) -> None:
    data = encode_value(value)
    for length in range(len(data)):
        with pytest.raises(CorruptionError):
            decode_value(data[:length])
    with pytest.raises(CorruptionError, match="after the end"):
        decode_value(data + b"\x00")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.binary(max_size=40))
def test_any_bytes_give_a_value_or_corruption(data: bytes) -> None:
    try:
        check_storable(decode_value(data))
    except GraphError as error:
        assert isinstance(error, (CorruptionError, CypherTypeError))


def test_a_list_within_lists_without_end_is_corruption() -> None:
    nested = b"\x07\x01\x00\x00\x00" * 10_000
    with pytest.raises(CorruptionError):
        decode_value(nested)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({}, CypherTypeError),
        ({"a": 1}, CypherTypeError),
        ([None], CypherTypeError),
        ([[1]], CypherTypeError),
        ([{}], CypherTypeError),
        (object(), CypherTypeError),
        (1j, CypherTypeError),
        (2**63, CypherArgumentError),
        ([-(2**63) - 1], CypherArgumentError),
        ([0] * (LIST_LENGTH_MAX + 1), LimitError),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_stored(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_storable(value)


def test_the_message_names_the_type() -> None:
    with pytest.raises(CypherTypeError, match=r"primitive types or arrays thereof.*Map"):
        check_storable({"a": 1})


EQUAL = [
    (1, 1.0),
    (0.0, -0.0),
    ([1, 2], [1.0, 2]),
    (DateTime(2020, 1, 1, tzinfo=OFFSET), DateTime(2020, 1, 1, tzinfo=pytz.FixedOffset(90))),
    (Time(12, tzinfo=OFFSET), Time(12, tzinfo=pytz.FixedOffset(90))),
    (b"a", bytearray(b"a")),
]
DIFFERENT = [
    (1, True),
    (0, False),
    (1, "1"),
    ("a", b"a"),
    ([1], [True]),
    (2**53 + 1, float(2**53)),
    (Date(2020, 1, 1), DateTime(2020, 1, 1)),
    (DateTime(2020, 1, 1), DateTime(2020, 1, 1, tzinfo=pytz.utc)),
    (Time(0, 0, 1), Duration(seconds=1)),
    (Time(12, tzinfo=OFFSET), Time(10, 30, tzinfo=UTC)),
    (DateTime(2020, 1, 1, 12, tzinfo=OFFSET), DateTime(2020, 1, 1, 10, 30, tzinfo=pytz.utc)),
    (
        DateTime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        DateTime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Paris")),
    ),
    (Duration(days=1), Duration(seconds=86400)),
    (CartesianPoint((1, 2)), WGS84Point((1, 2))),
    ([1.0, 2.0], CartesianPoint((1, 2))),
]


@pytest.mark.parametrize(("left", "right"), EQUAL, ids=repr)
def test_equal_values_have_equal_keys(left: Any, right: Any) -> None:
    assert key_of(left) == key_of(right)
    assert hash(key_of(left)) == hash(key_of(right))


@pytest.mark.parametrize(("left", "right"), DIFFERENT, ids=repr)
def test_different_values_have_different_keys(left: Any, right: Any) -> None:
    assert key_of(left) != key_of(right)


def test_what_equals_nothing_has_no_key() -> None:
    for value in (None, float("nan"), [float("nan")], [1, float("nan")]):
        assert key_of(value) is None
    assert tuple_key((1, None)) is None
    assert tuple_key((1, 2.0)) == tuple_key((1.0, 2))


def test_keys_of_a_vector_are_those_of_its_values() -> None:
    columns: list[list[Any]] = [
        [1, None, 2],
        [1.0, float("nan"), None],
        [True, None, False],
        ["a", None],
        [1, "a", [1], None, True],
    ]
    for values in columns:
        assert keys_of(Vector.from_values(values)) == [key_of(value) for value in values]
