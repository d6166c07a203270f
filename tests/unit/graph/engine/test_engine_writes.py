"""Writing, end to end: effects, counters, and the write sets that replay them elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from engine_support import Graph

from graph.digest import digest
from graph.errors import ConstraintError, CypherArgumentError, CypherTypeError, GraphError

_ALL = "MATCH (n) RETURN labels(n), properties(n) ORDER BY id(n)"
_TIES = "MATCH (a)-[r]->(b) RETURN id(a), type(r), properties(r), id(b) ORDER BY id(r)"

# script, then what all nodes and all relationships are afterwards
_CASES: list[tuple[str, list[str], list[Any], list[Any]]] = [
    ("create", ["CREATE (:A {x: 1}), (:B:C)"], [(["A"], {"x": 1}), (["B", "C"], {})], []),
    (
        "create a path",
        ["CREATE (a:A)-[:T {w: 1}]->(b)<-[:U]-(c)"],
        [(["A"], {}), ([], {}), ([], {})],
        [(0, "T", {"w": 1}, 1), (2, "U", {}, 1)],
    ),
    ("null properties are absent", ["CREATE (:A {x: null, y: 2})"], [(["A"], {"y": 2})], []),
    ("create from parameters", ["CREATE (:A $map)"], [(["A"], {"p": 1, "q": "s"})], []),
    (
        "create for rows",
        ["UNWIND range(1, 3) AS i CREATE (:N {i: i})-[:R {i: i}]->(:M)"],
        [
            (["N"], {"i": 1}),
            (["M"], {}),
            (["N"], {"i": 2}),
            (["M"], {}),
            (["N"], {"i": 3}),
            (["M"], {}),
        ],
        [(0, "R", {"i": 1}, 1), (2, "R", {"i": 2}, 3), (4, "R", {"i": 3}, 5)],
    ),
    (
        "a clause does not see itself",
        ["CREATE (:A), (:A)", "MATCH (a:A) CREATE (:A)"],
        [(["A"], {})] * 4,
        [],
    ),
    (
        "a later clause sees an earlier one",
        ["CREATE (a:A {x: 1}) WITH a MATCH (n:A) SET n.y = n.x + 1"],
        [(["A"], {"x": 1, "y": 2})],
        [],
    ),
    (
        "a path of CREATE reads another",
        ["CREATE (a:A {x: 1}) CREATE (:B {x: a.x})"],
        [(["A"], {"x": 1}), (["B"], {"x": 1})],
        [],
    ),
    (
        "set adds up over repeated rows",
        ["CREATE (:A {c: 0})", "UNWIND range(1, 5) AS i MATCH (a:A) SET a.c = a.c + i"],
        [(["A"], {"c": 15})],
        [],
    ),
    (
        "set sees other nodes that earlier rows wrote",
        [
            "CREATE (:A {i: 1, v: 1}), (:A {i: 2, v: 0}), (:A {i: 3, v: 0})",
            "UNWIND [2, 3] AS i MATCH (a:A {i: i}), (b:A {i: i - 1}) SET a.v = b.v + 1",
        ],
        [(["A"], {"i": 1, "v": 1}), (["A"], {"i": 2, "v": 2}), (["A"], {"i": 3, "v": 3})],
        [],
    ),
    (
        "items run row by row",
        [
            "CREATE (:A {i: 1}), (:A {i: 2})",
            "UNWIND [[1, 2], [2, 1]] AS p MATCH (a:A {i: p[0]}), (b:A {i: p[1]}) "
            "SET a.v = 'a', b.v = 'b'",
        ],
        [(["A"], {"i": 1, "v": "b"}), (["A"], {"i": 2, "v": "a"})],
        [],
    ),
    (
        "items see items before them",
        ["CREATE (:A {x: 1})", "MATCH (a:A) SET a.x = 5, a.y = a.x"],
        [(["A"], {"x": 5, "y": 5})],
        [],
    ),
    (
        "replace and merge maps",
        [
            "CREATE (:A {x: 1, y: 2}), (:B {x: 1, y: 2})",
            "MATCH (a:A) SET a = {z: 3}",
            "MATCH (b:B) SET b += {y: null, z: 3}",
        ],
        [(["A"], {"z": 3}), (["B"], {"x": 1, "z": 3})],
        [],
    ),
    (
        "the last replacement stays",
        ["CREATE (:A {x: 1})", "UNWIND [{a: 1}, {b: 2}] AS m MATCH (a:A) SET a = m"],
        [(["A"], {"b": 2})],
        [],
    ),
    (
        "copy properties of an entity",
        ["CREATE (:A {x: 1})-[:T {w: 2}]->(:B {y: 2})", "MATCH (a:A)-[r]->(b) SET a = b, b += r"],
        [(["A"], {"y": 2}), (["B"], {"y": 2, "w": 2})],
        [(0, "T", {"w": 2}, 1)],
    ),
    (
        "labels and properties come and go",
        [
            "CREATE (:A {x: 1})-[:T {w: 1}]->(:B)",
            "MATCH (a:A)-[r]->() SET a:X:Y, r.v = 2 REMOVE a:A, a.x, r.w",
        ],
        [(["X", "Y"], {}), (["B"], {})],
        [(0, "T", {"v": 2}, 1)],
    ),
    (
        "nulls are passed over",
        [
            "CREATE (:A)",
            "MATCH (a:A) OPTIONAL MATCH (a)-[r]->(b) SET b.x = 1, r.x = 1, b:L "
            "REMOVE b.y DELETE r, b",
        ],
        [(["A"], {})],
        [],
    ),
    (
        "set through an expression",
        ["CREATE (:A)", "MATCH (a:A) SET (CASE WHEN true THEN a END).x = 1"],
        [(["A"], {"x": 1})],
        [],
    ),
    (
        "delete",
        ["CREATE (:A)-[:T]->(:B)", "MATCH ()-[r]->() DELETE r"],
        [(["A"], {}), (["B"], {})],
        [],
    ),
    ("detach delete", ["CREATE (:A)-[:T]->(:B)", "MATCH (a:A) DETACH DELETE a"], [(["B"], {})], []),
    ("delete a path", ["CREATE (:A)-[:T]->(:B)", "MATCH p = (:A)-->() DELETE p"], [], []),
    ("delete twice", ["CREATE (:A)", "MATCH (a:A) WITH a, a AS b DELETE a DELETE b"], [], []),
    (
        "delete node and relationships in one clause",
        ["CREATE (:A)-[:T]->(:B)", "MATCH (a:A)-[r]->(b) DELETE a, r"],
        [(["B"], {})],
        [],
    ),
    (
        "limit does not stop writes",
        ["UNWIND range(1, 5) AS i CREATE (n:N {i: i}) RETURN n LIMIT 0"],
        [(["N"], {"i": i}) for i in range(1, 6)],
        [],
    ),
    (
        "unions write in all parts",
        ["CREATE (a:A) RETURN 1 AS x UNION CREATE (b:B) RETURN 1 AS x"],
        [(["A"], {}), (["B"], {})],
        [],
    ),
    (
        "create in a comprehension's scope",
        ["CREATE (:A {l: [x IN range(1, 3) | x * 2]})"],
        [(["A"], {"l": [2, 4, 6]})],
        [],
    ),
]


@pytest.mark.parametrize("chunk_rows", [1, 2, 2048])
@pytest.mark.parametrize(("name", "script", "nodes", "ties"), _CASES, ids=[c[0] for c in _CASES])
def test_effects(
    name: str, script: list[str], nodes: list[Any], ties: list[Any], chunk_rows: int
) -> None:
    graph = Graph(chunk_rows=chunk_rows)
    for text in script:
        graph.run(text, map={"p": 1, "q": "s"})
    assert graph.run(_ALL) == nodes
    assert graph.run(_TIES) == ties
    assert digest(graph.replayed()) == graph.digest()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "CREATE (:A {x: 1})-[:T {y: 2}]->(:B:C)",
            {
                "nodes-created": 2,
                "relationships-created": 1,
                "properties-set": 2,
                "labels-added": 3,
            },
        ),
        ("MATCH (a:Old) SET a.x = 5, a:New", {"properties-set": 1, "labels-added": 1}),
        ("MATCH (a:Old) REMOVE a:Old", {"labels-removed": 1}),
        ("MATCH (a:Old) DETACH DELETE a", {"nodes-deleted": 1, "relationships-deleted": 1}),
        ("MATCH (a:Old) RETURN a", {}),
        ("MATCH (a:Missing) SET a.x = 1", {}),
        ("MERGE (a:Old)", {}),
        ("CREATE INDEX FOR (n:Old) ON (n.x)", {"indexes-added": 1}),
        ("CREATE CONSTRAINT FOR (n:Old) REQUIRE n.x IS UNIQUE", {"constraints-added": 1}),
    ],
)
def test_counters(text: str, expected: dict[str, Any]) -> None:
    graph = Graph("CREATE (:Old {x: 1})-[:T]->()")
    found = graph.result(text).statistics
    assert found.pop("contains-updates", False) is bool(expected)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("MATCH (a:A) DELETE a", ConstraintError, "relationships"),
        ("CREATE (:A {x: {y: 1}})", CypherTypeError, "[Pp]ropert"),
        ("CREATE (:A {x: [1, null]})", CypherTypeError, ""),
        ("OPTIONAL MATCH (z:None) CREATE (z)-[:T]->()", CypherTypeError, "null"),
        ("OPTIONAL MATCH (z:None) MERGE (z)-[:T]->()", CypherArgumentError, "null"),
        ("UNWIND [1] AS x SET x.y = 1", GraphError, ""),
        ("CREATE (:A $list)", CypherTypeError, "map"),
        ("UNWIND [1, 'a'] AS x DELETE x", GraphError, ""),
        ("MATCH (a:A) SET a = 1", GraphError, ""),
        ("CREATE (:A {x: 9223372036854775807 + 1})", GraphError, "overflow"),
    ],
)
def test_errors_leave_the_graph_as_it_was(text: str, error: type, message: str) -> None:
    graph = Graph("CREATE (:A {x: 1})-[:T]->(:B)")
    before = graph.digest()
    with pytest.raises(error, match=message or None):
        graph.run(text, list=[1])
    assert graph.digest() == before


def test_rows_of_a_write_show_the_state_after_it() -> None:
    graph = Graph()
    ((node, x),) = graph.run("CREATE (a:A {x: 1}) SET a.x = 2, a:B RETURN a, a.x")
    assert (node.labels, node.properties, x) == (("A", "B"), {"x": 2}, 2)
    graph.run("MATCH (a:A) SET a.x = 3")
    assert node.properties == {"x": 2}


def test_parameters_of_a_write_are_not_kept() -> None:
    graph = Graph()
    values = [1, 2]
    graph.run("CREATE (:A {l: $values})", values=values)
    values.append(3)
    assert graph.value("MATCH (a:A) RETURN a.l") == [1, 2]


def test_a_deleted_relationship_still_has_type_and_ends() -> None:
    graph = Graph("CREATE (:A)-[:T {w: 1}]->(:B), (:A)-[:U]->(:B)")
    rows = graph.run("MATCH ()-[r]->() WHERE r.w = 1 DELETE r RETURN type(r), r, [r] AS l")
    ((name, relationship, listed),) = rows
    assert (name, relationship.type, relationship.properties) == ("T", "T", {})
    assert (relationship.start, relationship.end) == (0, 1)
    assert listed == [relationship]
    with pytest.raises(GraphError) as raised:
        graph.run("MATCH ()-[r:U]->() DELETE r RETURN r.w")
    assert raised.value.code == "Neo.ClientError.Statement.EntityNotFound"
