"""Equality, comparison, ordering and grouping of values."""

import datetime
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time

from graph.cypher.references import NodeRef, PathRef, RelationshipRef
from graph.cypher.semantics import UNORDERED, compare, equals, group_key, order_key, type_name
from graph.cypher.temporal_values import fixed_zone, named_zone
from graph.errors import CypherTypeError

NAN = math.nan


def zoned(hour: int, offset: int) -> DateTime:
    return DateTime(2020, 1, 1, hour, 0, 0, 0, fixed_zone(offset * 3600))


EQUALITY = [
    (None, None, None),
    (None, 1, None),
    (1, 1, True),
    (1, 1.0, True),
    (2**53 + 1, float(2**53), False),
    (NAN, NAN, False),
    (1, True, False),
    ("1", 1, False),
    ("a", "a", True),
    ([1, 2], [1], False),
    ([None], [1], None),
    ([None, 1], [None, 2], False),
    ([1, [2, None]], [1.0, [2, 3]], None),
    (["a"], [1], False),
    ([1, 2], "foo", False),
    ({}, {}, True),
    ({"k": None}, {"k": None}, None),
    ({"k": 1}, {"k": 1, "l": None}, False),
    ({"k": 1, "l": None}, {"k": 2, "l": None}, False),
    (NodeRef(1), NodeRef(1), True),
    (NodeRef(1), RelationshipRef(1), False),
    (NodeRef(1), 1, False),
    (PathRef((0, 1), (5,)), PathRef((0, 1), (5,)), True),
    (Date(2020, 1, 1), Date(2020, 1, 1), True),
    (Date(2020, 1, 1), DateTime(2020, 1, 1), False),
    (DateTime(2020, 1, 1), zoned(0, 0), False),
    (zoned(1, 1), zoned(0, 0), False),  # one moment, two zones
    (zoned(1, 1), zoned(1, 1), True),
    (Duration(hours=24), Duration(days=1), False),
    (Duration(days=1), (0, 1, 0, 0), False),
    (CartesianPoint((1, 2)), WGS84Point((1, 2)), False),
    (CartesianPoint((1, 2)), CartesianPoint((1, 2)), True),
]


@pytest.mark.parametrize(("a", "b", "expected"), EQUALITY)
def test_equality_is_three_valued_and_symmetric(a, b, expected):
    assert equals(a, b) is expected
    assert equals(b, a) is expected


COMPARISON = [
    (1, 2, -1),
    (1, 1.0, 0),
    (2**53 + 1, float(2**53), 1),
    (1, NAN, UNORDERED),
    (NAN, NAN, UNORDERED),
    (NAN, "a", None),
    ("a", "b", -1),
    ("a", 1, None),
    (True, False, 1),
    (True, 1, None),
    (None, 1, None),
    ([1, 0], [1], 1),
    ([1, None], [1], 1),
    ([1, 2], [1, None], None),
    ([1, 2], [3, None], -1),
    ([], [], 0),
    ({}, {}, None),
    (NodeRef(1), NodeRef(2), None),
    (Date(2020, 1, 1), Date(2020, 1, 2), -1),
    (Date(2020, 1, 1), DateTime(2020, 1, 2), None),
    (zoned(1, 1), zoned(1, 0), -1),
    (Time(1, 0, 0, 0), Time(2, 0, 0, 0), -1),
    (Duration(days=1), Duration(days=2), None),
    (CartesianPoint((1, 2)), CartesianPoint((1, 3)), None),
]


@pytest.mark.parametrize(("a", "b", "expected"), COMPARISON)
def test_comparison(a, b, expected):
    assert compare(a, b) == expected
    mirrored = expected if expected in (None, UNORDERED) else -expected
    assert compare(b, a) == mirrored


# From least to greatest; the order of types is openCypher's.
ORDERED = [
    {},
    {"a": 1},
    {"a": 2},
    NodeRef(1),
    NodeRef(2),
    RelationshipRef(0),
    [],
    [1],
    [1, 2],
    [1, None],
    [2],
    PathRef((0,), ()),
    PathRef((0, 1), (0,)),
    CartesianPoint((1, 2)),
    zoned(1, 1),
    zoned(1, 0),
    DateTime(2020, 1, 1),
    Date(2019, 12, 31),
    Date(2020, 1, 1),
    Time(1, 0, 0, 0, fixed_zone(0)),
    Time(1, 0, 0, 0),
    Duration(days=1),
    Duration(months=1),
    "",
    "B",
    "a",
    False,
    True,
    -math.inf,
    -1,
    0.5,
    1,
    math.inf,
    NAN,
    None,
]


def test_order_is_total_over_all_types():
    shuffled = ORDERED[:]
    random.Random(7).shuffle(shuffled)
    found = sorted(shuffled, key=order_key)
    assert [repr(v) for v in found] == [repr(v) for v in ORDERED]


def test_moments_at_one_instant_order_by_offset_then_zone_name():
    instant = [
        DateTime(2020, 6, 1, 12, 0, 0, 0, fixed_zone(0)),
        DateTime(2020, 6, 1, 14, 0, 0, 0, fixed_zone(7200)),
        DateTime(2020, 6, 1, 14, 0, 0, 0, named_zone("Europe/Berlin")),
        DateTime(2020, 6, 1, 14, 0, 0, 0, named_zone("Europe/Stockholm")),
    ]
    instant.reverse()
    assert sorted(instant, key=order_key) == instant[::-1]
    assert len({group_key(v) for v in instant}) == 4


def test_zones_of_the_driver_are_the_same_zones():
    import pytz

    ours = DateTime(2020, 6, 1, 14, 0, 0, 0, named_zone("Europe/Berlin"))
    berlin = pytz.timezone("Europe/Berlin")
    theirs = DateTime.from_native(berlin.localize(datetime.datetime(2020, 6, 1, 14)))
    assert equals(ours, theirs) is True
    assert group_key(ours) == group_key(theirs)


SAME_GROUP = [(None, None), (NAN, -NAN), (1, 1.0), (0.0, -0.0), ([1, None], [1.0, None])]
SAME_GROUP += [({"a": 1, "b": 2}, {"b": 2.0, "a": 1}), (NodeRef(3), NodeRef(3))]
OTHER_GROUP = [(1, True), (1, "1"), (0, False), ([], {}), (NodeRef(1), RelationshipRef(1))]
OTHER_GROUP += [(NodeRef(1), 1), ([1], [[1]]), (2**53 + 1, float(2**53)), ("nan", NAN)]
OTHER_GROUP += [(Duration(days=1), Duration(hours=24)), (Date(2020, 1, 1), 18262)]


@pytest.mark.parametrize(("a", "b"), SAME_GROUP)
def test_equivalent_values_share_a_group_key(a, b):
    assert group_key(a) == group_key(b)
    assert hash(group_key(a)) == hash(group_key(b))


@pytest.mark.parametrize(("a", "b"), OTHER_GROUP)
def test_other_values_do_not_share_a_group_key(a, b):
    assert group_key(a) != group_key(b)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=3)
    | st.builds(NodeRef, st.integers(0, 3))
)
values = st.recursive(
    scalars,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=2), v, max_size=2),
    max_leaves=6,
)


@given(values, values)
def test_the_four_relations_agree(a, b):
    equal = equals(a, b)
    if equal is True:
        assert group_key(a) == group_key(b)
        assert order_key(a) == order_key(b)
        assert compare(a, b) in (0, None)
    if group_key(a) != group_key(b):
        assert equal is not True
    order = compare(a, b)
    if order in (-1, 1):
        assert (order_key(a) < order_key(b)) == (order == -1)
        assert equal is not True


@given(st.lists(values, max_size=5))
def test_any_values_can_be_sorted(items):
    ordered = sorted(items, key=order_key)
    assert sorted(map(order_key, items)) == [order_key(v) for v in ordered]


def test_type_names_and_foreign_values():
    assert type_name(1) == "Integer"
    assert type_name(1.0) == "Float"
    assert type_name(DateTime(2020, 1, 1)) == "LocalDateTime"
    with pytest.raises(CypherTypeError, match="no Cypher value"):
        type_name(object())
