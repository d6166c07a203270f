"""Reading, end to end: a small graph, queries, and the rows they give."""

from __future__ import annotations

from typing import Any

import pytest
from engine_support import Graph

from graph.values import Node

_SCRIPT = """
CREATE (ann:Person {name: 'Ann', age: 30}), (bob:Person {name: 'Bob', age: 25}),
       (cat:Person:Admin {name: 'Cat', age: 41}), (dan:Person {name: 'Dan'}),
       (oslo:City {name: 'Oslo'}), (rome:City {name: 'Rome'}),
       (ann)-[:KNOWS {since: 2001}]->(bob), (bob)-[:KNOWS {since: 2010}]->(cat),
       (cat)-[:KNOWS {since: 2015}]->(ann), (cat)-[:KNOWS {since: 2020}]->(dan),
       (ann)-[:LIVES_IN]->(oslo), (bob)-[:LIVES_IN]->(rome), (dan)-[:LIVES_IN]->(rome)
"""

# query -> rows, in the order given where the query orders them, else in any order
_QUERIES: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("RETURN 1 AS one, 'two' AS two", [(1, "two")]),
    ("MATCH (n:Person) RETURN n.name ORDER BY n.name", [("Ann",), ("Bob",), ("Cat",), ("Dan",)]),
    ("MATCH (n:Person:Admin) RETURN n.name", [("Cat",)]),
    ("MATCH (n) WHERE n:City RETURN n.name ORDER BY n.name DESC", [("Rome",), ("Oslo",)]),
    ("MATCH (n:Person {name: 'Bob'}) RETURN n.age", [(25,)]),
    ("MATCH (n:Person) WHERE n.age > 26 RETURN n.name ORDER BY n.age", [("Ann",), ("Cat",)]),
    ("MATCH (n:Person) WHERE n.age IS NULL RETURN n.name", [("Dan",)]),
    ("MATCH (n:Nobody) RETURN n", []),
    # expansion
    ("MATCH (:Person {name: 'Ann'})-[:KNOWS]->(b) RETURN b.name", [("Bob",)]),
    ("MATCH (:Person {name: 'Ann'})<-[:KNOWS]-(b) RETURN b.name", [("Cat",)]),
    (
        "MATCH (:Person {name: 'Ann'})-[:KNOWS]-(b) RETURN b.name ORDER BY b.name",
        [("Bob",), ("Cat",)],
    ),
    (
        "MATCH (a)-[r:KNOWS|LIVES_IN]->(b) WHERE a.name = 'Bob' RETURN type(r), b.name",
        [("KNOWS", "Cat"), ("LIVES_IN", "Rome")],
    ),
    ("MATCH ()-[r:KNOWS {since: 2015}]->(b) RETURN b.name", [("Ann",)]),
    ("MATCH (a)-->(b)-->(c)-->(a) RETURN count(*)", [(3,)]),
    (
        "MATCH (a:Person)-[:LIVES_IN]->(c)<-[:LIVES_IN]-(b) RETURN a.name, b.name, c.name",
        [("Bob", "Dan", "Rome"), ("Dan", "Bob", "Rome")],
    ),
    # relationships are unique within one MATCH, not across two
    ("MATCH (a {name: 'Ann'})-[:LIVES_IN]->(c)<-[:LIVES_IN]-(b) RETURN b.name", []),
    (
        "MATCH (a {name: 'Ann'})-[:LIVES_IN]->(c) MATCH (c)<-[:LIVES_IN]-(b) RETURN b.name",
        [("Ann",)],
    ),
    # variable length
    ("MATCH ({name: 'Ann'})-[:KNOWS*2]->(b) RETURN b.name", [("Cat",)]),
    (
        "MATCH ({name: 'Ann'})-[:KNOWS*1..3]->(b) RETURN b.name",
        [("Bob",), ("Cat",), ("Ann",), ("Dan",)],
    ),
    ("MATCH ({name: 'Ann'})-[:KNOWS*0..1]->(b) RETURN b.name", [("Ann",), ("Bob",)]),
    ("MATCH ({name: 'Ann'})-[r:KNOWS*2]->() RETURN [x IN r | x.since]", [([2001, 2010],)]),
    ("MATCH (b)<-[r:KNOWS*2]-({name: 'Ann'}) RETURN [x IN r | x.since]", [([2010, 2001],)]),
    ("MATCH ({name: 'Dan'})<-[r:KNOWS*2 {since: 2020}]-(b) RETURN b.name", []),
    ("MATCH (a {name: 'Ann'})-[*1..5]->(a) RETURN count(*)", [(1,)]),
    # paths
    (
        "MATCH p = ({name: 'Ann'})-[:KNOWS*2]->(c) RETURN [n IN nodes(p) | n.name], length(p)",
        [(["Ann", "Bob", "Cat"], 2)],
    ),
    ("MATCH p = ({name: 'Ann'})<--(c) RETURN [n IN nodes(p) | n.name]", [(["Ann", "Cat"],)]),
    ("MATCH p = shortestPath((a {name: 'Ann'})-[*]->(b {name: 'Dan'})) RETURN length(p)", [(3,)]),
    (
        "MATCH p = shortestPath((a {name: 'Ann'})-[*]-(b {name: 'Dan'})) "
        "RETURN [n IN nodes(p) | n.name]",
        [(["Ann", "Cat", "Dan"],)],
    ),
    (
        "MATCH p = allShortestPaths((a {name: 'Ann'})-[*]-(b {name: 'Rome'})) RETURN length(p)",
        [(2,)],
    ),
    ("MATCH p = shortestPath((a {name: 'Oslo'})-[*]->(b {name: 'Dan'})) RETURN p", []),
    ("MATCH p = shortestPath((a {name: 'Ann'})-[*..2]->(b {name: 'Dan'})) RETURN p", []),
    # optional
    (
        "MATCH (n:Person) OPTIONAL MATCH (n)-[:LIVES_IN]->(c) RETURN n.name, c.name",
        [("Ann", "Oslo"), ("Bob", "Rome"), ("Cat", None), ("Dan", "Rome")],
    ),
    ("OPTIONAL MATCH (n:Nobody) RETURN n, n.name", [(None, None)]),
    ("OPTIONAL MATCH (n:Nobody) OPTIONAL MATCH (n)-->(m) RETURN m", [(None,)]),
    (
        "MATCH (n:Person {name: 'Cat'}) OPTIONAL MATCH (n)-[r:KNOWS]->(m) WHERE m.age > 29 "
        "RETURN m.name, r.since",
        [("Ann", 2015)],
    ),
    # predicates and counts of patterns
    ("MATCH (n:Person) WHERE (n)-[:KNOWS]->(:Admin) RETURN n.name", [("Bob",)]),
    ("MATCH (n:Person) WHERE NOT (n)-[:KNOWS]->() RETURN n.name", [("Dan",)]),
    (
        "MATCH (n:Person) WHERE EXISTS { (n)-[:KNOWS]->(m) WHERE m.age > 40 } RETURN n.name",
        [("Bob",)],
    ),
    (
        "MATCH (n:Person) WHERE EXISTS { MATCH (n)-->(m) WITH m, count(*) AS c WHERE c > 0 "
        "AND n.age = 30 RETURN m } RETURN n.name",
        [("Ann",)],
    ),
    (
        "MATCH (n:Person) RETURN n.name, COUNT { (n)-[:KNOWS]->() }",
        [("Ann", 1), ("Bob", 1), ("Cat", 2), ("Dan", 0)],
    ),
    ("MATCH (n:Person) WHERE (n)-[:KNOWS]->() OR n.name = 'Dan' RETURN count(n)", [(4,)]),
    (
        "MATCH (n:Person {name: 'Cat'}) RETURN [(n)-[:KNOWS]->(m) WHERE m.age IS NULL | m.name]",
        [(["Dan"],)],
    ),
    ("MATCH (n:Admin) RETURN [x IN [n] WHERE (x)-[:KNOWS]->() | x.name]", [(["Cat"],)]),
    (
        "MATCH p = (n:Admin)-->(m) RETURN any(x IN nodes(p) WHERE (x)-[:LIVES_IN]->()) AS a",
        [(True,), (True,)],
    ),
    ("UNWIND [null] AS l RETURN [x IN l WHERE (x)-->() | x]", [(None,)]),
    # several patterns: joins and products
    ("MATCH (a:City), (b:Admin) RETURN a.name, b.name", [("Oslo", "Cat"), ("Rome", "Cat")]),
    (
        "MATCH (a:Person), (b:Person) WHERE a.age + 5 = b.age RETURN a.name, b.name",
        [("Bob", "Ann")],
    ),
    ("MATCH (a:Person), (b:Person) WHERE a.age = b.age AND a.name < b.name RETURN a", []),
    ("UNWIND [{n: 'Ann'}, {n: 'Eve'}] AS r MATCH (p:Person {name: r.n}) RETURN p.age", [(30,)]),
    # projections
    ("MATCH (n:Person) WITH n.age AS age WHERE age > 26 RETURN age ORDER BY age", [(30,), (41,)]),
    (
        "MATCH (n:Person) WITH n ORDER BY n.name SKIP 1 LIMIT 2 RETURN collect(n.name)",
        [(["Bob", "Cat"],)],
    ),
    ("MATCH (n:Person) RETURN n.name AS x ORDER BY n.age DESC LIMIT 2", [("Dan",), ("Cat",)]),
    ("MATCH (n:Person) RETURN DISTINCT labels(n)[0] AS l", [("Person",)]),
    ("MATCH (n:Person) RETURN n.name AS n ORDER BY n", [("Ann",), ("Bob",), ("Cat",), ("Dan",)]),
    ("MATCH (n:Admin) WITH *, 1 AS one RETURN *", [(None, 1)]),
    ("RETURN 1 AS x UNION RETURN 1 AS x", [(1,)]),
    ("RETURN 1 AS x UNION ALL RETURN 1 AS x", [(1,), (1,)]),
    ("UNWIND [3, 1, 2] AS x WITH x ORDER BY x RETURN collect(x)", [([1, 2, 3],)]),
    ("UNWIND [] AS x RETURN x", []),
    ("UNWIND [[1, 2], [3]] AS l UNWIND l AS x RETURN x", [(1,), (2,), (3,)]),
    # aggregation
    (
        "MATCH (n:Person) RETURN count(*), count(n.age), sum(n.age), min(n.age), max(n.age)",
        [(4, 3, 96, 25, 41)],
    ),
    ("MATCH (n:Nobody) RETURN count(n), collect(n), sum(n.x)", [(0, [], 0)]),
    ("MATCH (n:Nobody) RETURN n.x, count(n)", []),
    (
        "MATCH (p:Person)-[:LIVES_IN]->(c) RETURN c.name, count(*) AS k ORDER BY k DESC",
        [("Rome", 2), ("Oslo", 1)],
    ),
    (
        "MATCH (p:Person) RETURN count(*) + 1 AS x, p.age IS NULL AS y ORDER BY x",
        [(2, True), (4, False)],
    ),
    (
        "MATCH (p:Person) WITH p.age IS NULL AS y, collect(p.name) AS l RETURN size(l) ORDER BY y",
        [(3,), (1,)],
    ),
    ("MATCH (n:Person) RETURN count(DISTINCT labels(n))", [(2,)]),
    # ids
    ("MATCH (n) WHERE id(n) = 2 RETURN n.name", [("Cat",)]),
    ("MATCH (n) WHERE id(n) IN [1, 0, 1, 99] RETURN n.name ORDER BY n.name", [("Ann",), ("Bob",)]),
    ("MATCH (n) WHERE elementId(n) = '1' RETURN n.name", [("Bob",)]),
    ("MATCH (n) WHERE elementId(n) = '01' RETURN n.name", []),
    # bound relationships
    (
        "MATCH (a)-[r:LIVES_IN]->(c {name: 'Oslo'}) MATCH (x)-[r]->(y) RETURN x.name, y.name",
        [("Ann", "Oslo")],
    ),
    (
        "MATCH (a {name: 'Ann'})-[r:LIVES_IN]->() WITH r MATCH (x)-[r]-(y) RETURN x.name",
        [("Ann",), ("Oslo",)],
    ),
    ("MATCH (a {name: 'Ann'})-[r:KNOWS]->() WITH r MATCH ()-[r:LIVES_IN]->() RETURN r", []),
    (
        "MATCH ({name: 'Ann'})-[l:KNOWS*2]->() WITH l MATCH (x)-[l*]->(y) RETURN x.name, y.name",
        [("Ann", "Cat")],
    ),
    (
        "WITH [1] AS l UNWIND l AS x MATCH (n:Admin) WITH collect(n) AS ns UNWIND ns AS m "
        "MATCH (m)-[:KNOWS]->(o) RETURN o.name",
        [("Ann",), ("Dan",)],
    ),
    # procedures
    (
        "CALL db.labels() YIELD label RETURN label ORDER BY label",
        [("Admin",), ("City",), ("Person",)],
    ),
    ("CALL db.relationshipTypes", [("KNOWS",), ("LIVES_IN",)]),
    ("CALL db.propertyKeys() YIELD propertyKey AS k WHERE k STARTS WITH 'a' RETURN k", [("age",)]),
    ("CALL db.ping()", [(True,)]),
    ("CALL dbms.components() YIELD edition RETURN edition", [("community",)]),
]


def _key(row: tuple[Any, ...]) -> str:
    return repr(row)


@pytest.fixture(scope="module", params=[1, 3, 2048], ids=lambda n: f"chunks of {n}")
def graph(request: pytest.FixtureRequest) -> Graph:
    return Graph(_SCRIPT, chunk_rows=request.param)


@pytest.mark.parametrize(("text", "expected"), _QUERIES, ids=[text[:60] for text, _ in _QUERIES])
def test_rows(graph: Graph, text: str, expected: list[tuple[Any, ...]]) -> None:
    rows = graph.run(text)
    if expected and expected[0][0] is None and rows and isinstance(rows[0][0], Node):
        rows = [(None, *row[1:]) for row in rows]
    if "ORDER BY" in text.rsplit("RETURN", 1)[-1]:
        assert rows == expected
    else:
        assert sorted(rows, key=_key) == sorted(expected, key=_key)


def test_results_are_lazy(graph: Graph) -> None:
    result = graph.result("UNWIND [1, 0] AS x RETURN 10 / x")
    with pytest.raises(Exception, match="/ by zero"):
        result.rows()


def test_limit_stops_before_an_error_that_lies_beyond() -> None:
    graph = Graph(chunk_rows=1)
    assert graph.run("UNWIND [1, 0] AS x RETURN 10 / x LIMIT 1") == [(10,)]


def test_whole_entities_carry_what_they_have(graph: Graph) -> None:
    ((node, relationship, path),) = graph.run(
        "MATCH p = (n:Admin)-[r:KNOWS {since: 2020}]->() RETURN n, r, p"
    )
    assert (node.labels, node.properties) == (("Person", "Admin"), {"name": "Cat", "age": 41})
    assert (relationship.type, relationship.properties) == ("KNOWS", {"since": 2020})
    assert relationship.start == node.id
    assert [n.properties["name"] for n in path.nodes] == ["Cat", "Dan"]
    assert list(path.relationships) == [relationship]
