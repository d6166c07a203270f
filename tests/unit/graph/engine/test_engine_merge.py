"""MERGE: the fast ways, the general way, and that they agree."""

from __future__ import annotations

from typing import Any

import pytest
from engine_support import Graph, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.cypher import plan as p
from graph.cypher.compiler import walk
from graph.digest import digest
from graph.errors import GraphError

_DUMP = "MATCH (n) RETURN labels(n), properties(n) ORDER BY id(n)"


def _way(graph: Graph, text: str) -> str:
    """Which way MERGE takes: ``node``, ``relationship`` or row by row."""
    executable = graph.engine.prepare(text).shape.executable(graph.root)
    return next(node.fast for node in walk(executable.plan) if isinstance(node, p.Merge))


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("MERGE (n:A {x: 1})", "node"),
        ("MERGE (n:A {x: 1}) ON CREATE SET n.y = 1 ON MATCH SET n.y = n.y + 1, n:B", "node"),
        ("MERGE (n:A {x: 1}) ON MATCH SET n.x = 2", ""),
        ("MERGE (n:A {x: 1}) ON MATCH SET n += {y: 2}", "node"),
        ("MERGE (n:A {x: 1}) ON MATCH SET n = {x: 1}", ""),
        ("MATCH (a:A), (b:B) MERGE (a)-[:T]->(b)", "relationship"),
        ("MATCH (a:A), (b:B) MERGE (a)-[:T]-(b)", "relationship"),
        ("MATCH (a:A), (b:B) MERGE (a)-[r:T]->(b) ON CREATE SET r.x = 1", "relationship"),
        ("MATCH (a:A), (b:B) MERGE (a)-[r:T]->(b) ON CREATE SET a.x = 1", ""),
        ("MATCH (a:A) MERGE (a)-[:T]->(b:B {x: 1})", ""),
        ("MERGE (a:A)-[:T]->(b:B)", ""),
    ],
)
def test_ways(text: str, way: str) -> None:
    assert _way(Graph(), text) == way


def test_a_node_is_found_or_created() -> None:
    graph = Graph("CREATE (:A {x: 1, y: 'old'})")
    assert graph.value("MERGE (n:A {x: 1}) RETURN n.y") == "old"
    assert graph.value("MERGE (n:A {x: 2}) RETURN n.y") is None
    assert graph.value("MATCH (n:A) RETURN count(*)") == 2


def test_later_rows_find_what_earlier_rows_created() -> None:
    graph = Graph()
    rows = graph.run(
        "UNWIND [1, 2, 1, 1.0, 2] AS x MERGE (n:A {x: x}) "
        "ON CREATE SET n.count = 1 ON MATCH SET n.count = n.count + 1 RETURN id(n)"
    )
    assert [row[0] for row in rows] == [0, 1, 0, 0, 1]
    assert graph.column("MATCH (n:A) RETURN n.count ORDER BY n.x") == [3, 2]


def test_all_matches_are_rows() -> None:
    graph = Graph("CREATE (:A {x: 1}), (:A {x: 1}), (:A {x: 2})")
    assert graph.column("MERGE (n:A {x: 1}) RETURN id(n)") == [0, 1]
    assert graph.column("MERGE (n:A) RETURN id(n)") == [0, 1, 2]


def test_labels_and_all_properties_must_agree() -> None:
    graph = Graph("CREATE (:A {x: 1, y: 1}), (:A:B {x: 1})")
    assert graph.column("MERGE (n:A:B {x: 1}) RETURN id(n)") == [1]
    assert graph.column("MERGE (n:A {x: 1, y: 2}) RETURN id(n)") == [2]


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "CREATE INDEX FOR (n:A) ON (n.x)",
        "CREATE CONSTRAINT FOR (n:A) REQUIRE (n.x, n.y) IS UNIQUE",
    ],
)
def test_an_index_changes_nothing_but_speed(schema: str) -> None:
    graph = Graph(*([schema] if schema else []), "CREATE (:A {x: 1, y: 1}), (:A {x: 1, y: 2})")
    assert graph.column("UNWIND [1, 2, 3] AS y MERGE (n:A {x: 1, y: y}) RETURN id(n)") == [0, 1, 2]


def test_nan_equals_nothing() -> None:
    graph = Graph()
    graph.run("UNWIND [0.0 / 0.0, 0.0 / 0.0] AS x MERGE (n:A {x: x})")
    assert graph.value("MATCH (n:A) RETURN count(*)") == 2


@pytest.mark.parametrize(
    "text",
    [
        "MERGE (n:A {x: null})",
        "MERGE (n:A {x: $x})",
        "CREATE (a:A), (b:B) MERGE (a)-[:T {x: $x}]->(b)",
        "MERGE (a:A {x: $x})-[:T]->(b:B)",
        "UNWIND [1, null] AS x MERGE (n:A {x: x})",
    ],
)
def test_null_cannot_be_merged(text: str) -> None:
    with pytest.raises(GraphError, match="null") as raised:
        Graph().run(text, x=None)
    assert raised.value.code == "Neo.ClientError.Statement.SemanticError"


def test_relationships_between_bound_nodes() -> None:
    graph = Graph("CREATE (:A)-[:T {w: 1}]->(:B)")
    text = "MATCH (a:A), (b:B) MERGE (a)-[r:T {w: $w}]->(b) RETURN id(r)"
    assert graph.column(text, w=1) == [0]
    assert graph.column(text, w=2) == [1]
    assert graph.column(text, w=2.0) == [1]
    backwards = "MATCH (a:A), (b:B) MERGE (b)-[r:T]->(a) RETURN id(r)"
    assert graph.column(backwards) == [2]
    either = "MATCH (a:A), (b:B) MERGE (a)-[r:T]-(b) RETURN id(r)"
    assert sorted(graph.column(either)) == [0, 1, 2]


def test_undirected_relationships_are_one_for_both_ways() -> None:
    graph = Graph("CREATE (:N {i: 1}), (:N {i: 2})")
    graph.run(
        "UNWIND [[1, 2], [2, 1], [1, 2]] AS p MATCH (a:N {i: p[0]}), (b:N {i: p[1]}) "
        "MERGE (a)-[:T]-(b)"
    )
    assert graph.run("MATCH (a)-[:T]->(b) RETURN a.i, b.i") == [(1, 2)]


def test_a_whole_path_is_one_thing() -> None:
    graph = Graph("CREATE (:A)-[:T]->(:B)")
    graph.run("MERGE (a:A)-[:T]->(b:B)-[:U]->(c:C)")
    assert graph.value("MATCH (n) RETURN count(*)") == 5
    ((path,),) = graph.run("MERGE p = (a:A)-[:T]->(b:B)-[:U]->(c:C) RETURN p")
    assert [n.id for n in path.nodes] == [2, 3, 4]
    assert graph.value("MATCH (n) RETURN count(*)") == 5


def test_maps_that_change_what_later_rows_find() -> None:
    graph = Graph()
    text = "UNWIND $rows AS r MERGE (n:A {x: r.x}) ON CREATE SET n += r.map RETURN id(n)"
    rows = [{"x": 1, "map": {"x": 2}}, {"x": 2, "map": {}}, {"x": 1, "map": {"x": 1, "y": 1}}]
    assert graph.column(text, rows=rows) == [0, 0, 1]
    assert graph.run("MATCH (n:A) RETURN n.x, n.y ORDER BY n.x") == [(1, 1), (2, None)]
    assert graph.column(text, rows=rows[1:]) == [0, 1]


def test_paths_are_bound_by_every_way() -> None:
    graph = Graph()
    assert [n.id for n in graph.value("MERGE p = (a:A {x: 1}) RETURN p").nodes] == [0]
    text = "MATCH (a:A) CREATE (b:B) MERGE p = (a)-[:T]->(b) RETURN [n IN nodes(p) | id(n)]"
    assert graph.value(text) == [0, 1]
    assert len(graph.value("MERGE p = (:X)-[:T]->(:Y) RETURN p").nodes) == 2


def test_properties_may_come_from_rows() -> None:
    graph = Graph("CREATE (:Src {v: 1}), (:Src {v: 2}), (:Src {v: 1})")
    graph.run("MATCH (s:Src) MERGE (d:Dst {v: s.v}) MERGE (s)-[:TO]->(d)")
    assert graph.value("MATCH (d:Dst) RETURN count(*)") == 2
    assert graph.value("MATCH (:Src)-[r:TO]->(:Dst) RETURN count(r)") == 3


_values = st.one_of(
    st.integers(-2, 2), st.sampled_from([1.0, 0.5, "a", "b", True, "1"]), st.just([1])
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_values, st.integers(0, 2)), max_size=12), st.booleans())
def test_fast_and_general_ways_agree(rows: list[tuple[Any, int]], index: bool) -> None:
    """The general way is forced by an ON MATCH that the fast way does not take."""
    prepared = [{"x": x, "y": y} for x, y in rows]
    dumps = []
    for force in ("", " ON MATCH SET n.x = n.x"):
        graph = Graph("CREATE (:A {x: 1, y: 0}), (:A {x: 'a'})")
        if index:
            graph.run("CREATE INDEX FOR (n:A) ON (n.x)")
        text = (
            "UNWIND $rows AS r MERGE (n:A {x: r.x, y: r.y}) ON CREATE SET n.c = 1"
            + (force or " ON MATCH SET n.o = r.y")
            + (", n.o = r.y" if force else "")
            + " SET n.m = r.y RETURN id(n)"
        )
        assert _way(graph, text) == ("" if force else "node")
        found = graph.run(text, rows=prepared)
        dumps.append((plain(found), plain(graph.run(_DUMP))))
        assert digest(graph.replayed()) == graph.digest()
    assert dumps[0] == dumps[1]
