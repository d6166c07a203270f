"""Values on their way: from the driver as parameters, through the log and the columns, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta, timezone, tzinfo
from typing import Any

import neo4j
import pytest
import pytz
from neo4j.graph import Node, Path, Relationship
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time
from running import SERVERS, Cluster, values

pytestmark = pytest.mark.cluster

EAST = timezone(timedelta(hours=5, minutes=30))


class East(tzinfo):
    """The same for the driver's ``Time``, which ``timezone`` refuses to know."""

    def utcoffset(self, when: object) -> timedelta:
        return timedelta(hours=5, minutes=30)

    def dst(self, when: object) -> timedelta:
        return timedelta(0)

    def tzname(self, when: object) -> str:
        return "+05:30"


# What can be a property as well as a parameter.
PROPERTIES: dict[str, Any] = {
    "true": True,
    "false": False,
    "zero": 0,
    "largest": 2**63 - 1,
    "smallest": -(2**63),
    "float": 0.1,
    "minus_zero": -0.0,
    "infinite": -math.inf,
    "empty": "",
    "letters": "a'b\"c\\d\n\t\0 ü 漢字 🐍",
    "long": "x" * 100_000,
    "bytes": bytes(range(256)),
    "no_bytes": b"",
    "date": Date(2024, 2, 29),
    "early": Date(1, 1, 1),
    "time": Time(12, 34, 56, 789_012_345, tzinfo=East()),
    "local_time": Time(23, 59, 59, 999_999_999),
    "local_datetime": DateTime(1969, 12, 31, 23, 59, 59, 1),
    "datetime": DateTime(2024, 7, 1, 12, 0, 0, 123_456_789, tzinfo=EAST),
    # Not ``ZoneInfo``: its offset of the driver's ``DateTime``, which the driver asks for when it
    # packs one, can end the interpreter (seen with CPython 3.11, in ``zoneinfo``'s C code).
    "zoned": pytz.timezone("Europe/Paris").localize(DateTime(2024, 7, 1, 12, 0, 0, 5)),
    "duration": Duration(months=14, days=-3, seconds=5, nanoseconds=999_999_999),
    "plane": CartesianPoint((1.5, -2.5)),
    "space": CartesianPoint((1.0, 2.0, 3.0)),
    "earth": WGS84Point((13.4, 52.5)),
    "sky": WGS84Point((13.4, 52.5, 100.0)),
    "integers": [1, 2, 3],
    "floats": [0.5, -1.5],
    "strings": ["a", "", "ü"],
    "truths": [True, False],
    "dates": [Date(2024, 1, 1), Date(2025, 1, 1)],
    "nothing": [],
}

# What is only ever a parameter or a result.
NESTED: dict[str, Any] = {
    "null": None,
    "map": {"a": 1, "b": {"c": [None, {"d": Date(2024, 1, 1)}]}},
    "no_map": {},
    "mixed": [1, "a", None, 2.5, [True, [[]]], {"k": b"\x00"}],
    "wide": {f"key {i}": i for i in range(1000)},
    "many": list(range(20_000)),
}


@pytest.fixture(scope="module")
def driver(cluster: Cluster) -> Iterator[neo4j.Driver]:
    with cluster.driver(1, "neo4j") as driver:
        yield driver


def same(left: Any, right: Any) -> bool:
    """Equal, of one type; floats also of one sign, and times in one zone."""
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, DateTime) and isinstance(right, DateTime):
        return left == right and left.utcoffset() == right.utcoffset()
    if isinstance(left, Time) and isinstance(right, Time):
        zones = [t.tzinfo and t.tzinfo.utcoffset(None) for t in (left, right)]
        return left.ticks == right.ticks and zones[0] == zones[1]
    return type(left) is type(right) and bool(left == right)


@pytest.mark.parametrize("name", [*PROPERTIES, *NESTED])
def test_a_parameter_comes_back_as_it_was(driver: neo4j.Driver, name: str) -> None:
    value = {**PROPERTIES, **NESTED}[name]
    with driver.session() as session:
        ((back,),) = values(session, "RETURN $value", value=value)
    assert same(back, value)


def test_a_property_is_the_same_at_every_server(cluster: Cluster, driver: neo4j.Driver) -> None:
    with driver.session() as session:
        session.run("CREATE (:Typed $values)", values=PROPERTIES).consume()
        bookmarks = session.last_bookmarks()
    for server in SERVERS:
        ((found,),) = cluster.read(server, "MATCH (n:Typed) RETURN n", bookmarks)
        wrong = [k for k, v in PROPERTIES.items() if not same(found.get(k), v)]
        assert not wrong
        assert set(found.keys()) == set(PROPERTIES)


def test_a_time_zone_keeps_its_name(driver: neo4j.Driver) -> None:
    with driver.session() as session:
        ((back,),) = values(session, "RETURN $value", value=PROPERTIES["zoned"])
    assert str(back.tzinfo) == "Europe/Paris"


def test_not_a_number_comes_back(driver: neo4j.Driver) -> None:
    with driver.session() as session:
        ((back,),) = values(session, "CREATE (n:Odd {x: $value}) RETURN n.x", value=math.nan)
    assert math.isnan(back)


def test_a_property_cannot_be_a_map(driver: neo4j.Driver) -> None:
    with driver.session() as session, pytest.raises(neo4j.exceptions.ClientError) as caught:
        session.run("CREATE (:Odd {x: $value})", value={"a": 1}).consume()
    assert caught.value.code == "Neo.ClientError.Statement.TypeError"


def test_nodes_relationships_and_paths(driver: neo4j.Driver) -> None:
    with driver.session() as session:
        session.run(
            "CREATE (:Stop:First {name: 'a'})-[:GOES {minutes: 3}]->(:Stop {name: 'b'})"
            "<-[:GOES {minutes: 4}]-(:Stop {name: 'c'})"
        ).consume()
        record = session.run(
            "MATCH p = (a:First)-[r:GOES]->(b)<-[:GOES]-(c) RETURN p, a, r, b, elementId(a) AS e"
        ).single(strict=True)
    path, a, r, b = record["p"], record["a"], record["r"], record["b"]

    assert isinstance(a, Node) and isinstance(r, Relationship) and isinstance(path, Path)
    assert a.labels == {"Stop", "First"}
    assert dict(a) == {"name": "a"}
    assert a.element_id == record["e"]
    assert (r.type, dict(r)) == ("GOES", {"minutes": 3})
    assert (r.start_node, r.end_node) == (a, b)
    assert [node["name"] for node in path.nodes] == ["a", "b", "c"]
    assert [step["minutes"] for step in path.relationships] == [3, 4]
    assert path.relationships[1].end_node == b
    assert path.start_node == a


def test_entities_inside_lists_and_maps(driver: neo4j.Driver) -> None:
    with driver.session() as session:
        session.run("CREATE (:Inner {x: 1}), (:Inner {x: 2})").consume()
        query = (
            "MATCH (n:Inner) WITH n ORDER BY n.x WITH collect(n) AS both "
            "RETURN {both: both, one: [[both[0]]]}"
        )
        ((found,),) = values(session, query)
    assert [node["x"] for node in found["both"]] == [1, 2]
    assert found["one"][0][0] == found["both"][0]
