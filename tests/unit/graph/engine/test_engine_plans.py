"""Which plans the planner makes, what EXPLAIN and PROFILE show, and limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from engine_support import Graph

from graph.engine import QueryLimits
from graph.errors import CypherError, GraphError, LimitError

_SCRIPT = (
    "CREATE CONSTRAINT FOR (n:User) REQUIRE n.id IS UNIQUE",
    "CREATE INDEX FOR (n:City) ON (n.name)",
    "UNWIND range(1, 40) AS i CREATE (:User {id: i})",
    "UNWIND range(1, 4) AS i CREATE (:City {name: 'c' + toString(i)})",
    "MATCH (u:User), (c:City) WHERE (u.id % 4) + 1 = toInteger(substring(c.name, 1)) "
    "CREATE (u)-[:IN]->(c)",
)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph(*_SCRIPT)


def _operators(plan: Any) -> Iterator[str]:
    for child in plan["children"]:
        yield from _operators(child)
    yield plan["operatorType"]


def _explained(graph: Graph, text: str) -> list[str]:
    """Operators from the leaf up."""
    return list(_operators(graph.result("EXPLAIN " + text).plan))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MATCH (n:User {id: 1}) RETURN n", ["NodeUniqueIndexSeek"]),
        ("MATCH (n:User) WHERE 1 = n.id RETURN n", ["NodeUniqueIndexSeek"]),
        ("MATCH (n) WHERE n:User AND n.id = 1 RETURN n", ["NodeUniqueIndexSeek"]),
        ("MATCH (n:User) WHERE n.id IN [1, 2] RETURN n", ["NodeIndexIn"]),
        (
            "MATCH (n:User) WHERE n.id > 3 AND n.id <= 5 RETURN n",
            ["NodeIndexRange", "Filter", "Filter"],
        ),
        ("MATCH (n:User) WHERE 3 < n.id < 5 RETURN n", ["NodeIndexRange", "Filter"]),
        ("MATCH (n:User) WHERE n.age = 1 RETURN n", ["NodeByLabelScan", "Filter"]),
        ("MATCH (n) RETURN n", ["AllNodesScan"]),
        ("MATCH (n) RETURN count(*)", ["NodeCountFromCountStore"]),
        ("MATCH (n:User) RETURN count(n) AS c", ["NodeCountFromCountStore"]),
        ("MATCH ()-[r:IN]->() RETURN count(r)", ["RelationshipCountFromCountStore"]),
        ("MATCH (n:User) RETURN count(n.id)", ["NodeByLabelScan", "EagerAggregation"]),
        ("MATCH (u:User)-->(c:City {name: 'c1'}) RETURN u", ["NodeIndexSeek", "Expand(All)"]),
        ("MATCH (c:City {name: 'c1'})<--(u:User {id: 4}) RETURN u", ["NodeUniqueIndexSeek"]),
        (
            "MATCH (a:User {id: 1}), (c:City {name: 'c2'}) MATCH (a)-[:IN]->(c) RETURN a",
            ["NodeUniqueIndexSeek", "NodeIndexSeek", "Expand(Into)"],
        ),
        ("MATCH (a:User), (b:City) WHERE a.x = b.y RETURN a", ["ValueHashJoin"]),
        ("MATCH (a:User), (b:City) RETURN a", ["CartesianProduct"]),
        ("UNWIND $rows AS r MATCH (u:User {id: r.id}) RETURN u", ["Unwind", "NodeUniqueIndexSeek"]),
        ("UNWIND $rows AS r MATCH (u:User {age: r.age}) RETURN u", ["ValueHashJoin"]),
        ("MATCH (n:User) RETURN n ORDER BY n.id LIMIT 3", ["Top"]),
        ("MATCH (n:User) WHERE (n)-->() RETURN n", ["SemiApply"]),
        ("MATCH (n:User) WHERE NOT (n)-->() AND n.id > 0 RETURN n", ["SemiApply"]),
        ("MATCH (n) WHERE id(n) = 3 RETURN n", ["NodeByIdSeek"]),
        ("CREATE (a) CREATE (b) CREATE (a)-[:T]->(b)", ["Create"]),
    ],
)
def test_operators(graph: Graph, text: str, expected: list[str]) -> None:
    found = _explained(graph, text)
    assert [name for name in found if name in expected] == expected, found


def test_the_filter_of_an_index_range_is_kept(graph: Graph) -> None:
    assert graph.value("MATCH (n:User) WHERE n.id > 38 RETURN count(*)") == 2
    assert graph.value("MATCH (n:User) WHERE n.id > 'a' RETURN count(*)") == 0
    graph.run("CREATE (:User {id: date('2024-01-02')})")
    assert graph.value("MATCH (n:User) WHERE n.id > date('2024-01-01') RETURN count(*)") == 1
    graph.run("MATCH (n:User) WHERE n.id > date('2024-01-01') DELETE n")


def test_creates_in_a_row_are_one(graph: Graph) -> None:
    text = " ".join(f"CREATE (n{i}:M {{i: {i}}})" for i in range(500))
    assert _explained(graph, text).count("Create") == 1


def test_plans_that_are_too_deep_are_refused(graph: Graph) -> None:
    text = "WITH 1 AS x " * 2_000 + "RETURN x"
    with pytest.raises(GraphError, match="Split"):
        graph.run(text)


def test_explain_does_not_run(graph: Graph) -> None:
    before = graph.digest()
    result = graph.result("EXPLAIN CREATE (n:X) RETURN n")
    assert (result.fields, result.rows(), result.profiled) == (("n",), [], False)
    assert graph.digest() == before


def test_a_plan_is_a_tree_of_maps(graph: Graph) -> None:
    plan = graph.result("EXPLAIN MATCH (n:User)-[r]->(c) WHERE c.name = 'x' RETURN n.id AS i").plan
    assert plan is not None
    assert plan["operatorType"] == "ProduceResults"
    assert plan["identifiers"] == ["i"]
    top = plan["children"][0]
    assert (top["operatorType"], top["args"]["Details"]) == ("Projection", "n.id AS i")

    def check(node: dict[str, Any]) -> None:
        assert set(node) == {"operatorType", "args", "identifiers", "children"}
        assert all(isinstance(v, (str, int, float)) for v in node["args"].values())
        assert not any(name.startswith("@") for name in node["identifiers"])
        for child in node["children"]:
            check(child)

    check(plan)


def test_profile_counts_rows(graph: Graph) -> None:
    result = graph.result("PROFILE MATCH (c:City)<-[:IN]-(u) RETURN count(u)")
    assert result.rows() == [(40,)]
    assert result.profiled
    found: dict[str, int] = {}

    def visit(node: dict[str, Any]) -> None:
        found[node["operatorType"]] = node["rows"]
        for child in node["children"]:
            visit(child)

    assert result.plan is not None
    visit(result.plan)
    assert found["ProduceResults"] == found["EagerAggregation"] == 1
    assert 40 in found.values()


# --------------------------------------------------------------------------- limits


class _Clock:
    """Seconds that grow by one with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_deadline() -> None:
    graph = Graph()
    limits = QueryLimits(clock=_Clock(), deadline_s=50.0, chunk_rows=10)
    transaction = graph.transaction(limits=limits)
    prepared = graph.engine.prepare("UNWIND range(1, 100000) AS x RETURN count(x)")
    with pytest.raises(LimitError) as raised:
        transaction.run(prepared).rows()
    assert raised.value.code == "Neo.ClientError.Transaction.TransactionTimedOut"


@pytest.mark.parametrize(
    "text",
    [
        "UNWIND range(1, 900) AS x UNWIND range(1, 900) AS y WITH x, y UNWIND [1, 2] AS z RETURN z",
        "MATCH (a:N), (b:N), (c:N), (d:N) RETURN count(*)",
        "MATCH (:N)-[*]->(:N) RETURN count(*)",
        "MATCH (a:N) WHERE NOT (a)-[*2..]->(:M) RETURN a",
        "UNWIND range(1, 100) AS i MATCH (a:N), (b:N), (c:N) SET a.x = b.x + i",
    ],
)
def test_long_queries_can_be_cancelled(text: str) -> None:
    graph = Graph(
        "UNWIND range(1, 60) AS i CREATE (:N {i: i})",
        "MATCH (a:N), (b:N) WHERE a.i < b.i CREATE (a)-[:T]->(b)",
    )
    looks = 0

    def cancelled() -> bool:
        nonlocal looks
        looks += 1
        return looks > 30

    transaction = graph.transaction(limits=QueryLimits(cancelled=cancelled))
    with pytest.raises(LimitError, match="terminated"):
        transaction.run(graph.engine.prepare(text)).rows()


@pytest.mark.parametrize(
    "text",
    [
        "UNWIND range(1, 100000) AS x RETURN collect(x)",
        "UNWIND range(1, 100000) AS x RETURN x ORDER BY x",
        "UNWIND range(1, 100000) AS x RETURN DISTINCT x",
        "UNWIND range(1, 100000) AS x RETURN x, count(*)",
        "UNWIND range(1, 100000) AS x CREATE ({x: x})",
        "UNWIND range(1, 100000) AS x MERGE ({x: x})",
    ],
)
def test_memory_is_limited(text: str) -> None:
    graph = Graph()
    transaction = graph.transaction(limits=QueryLimits(memory_bytes_max=200_000))
    with pytest.raises(LimitError, match="memory"):
        transaction.run(graph.engine.prepare(text)).rows()


def test_top_holds_few_rows() -> None:
    graph = Graph()
    transaction = graph.transaction(limits=QueryLimits(memory_bytes_max=1_000_000))
    text = "UNWIND range(1, 100000) AS x RETURN x ORDER BY -x LIMIT 3"
    assert transaction.run(graph.engine.prepare(text)).rows() == [(100000,), (99999,), (99998,)]


def test_limits_are_checked() -> None:
    for wrong in (
        QueryLimits(memory_bytes_max=0),
        QueryLimits(chunk_rows=0),
        QueryLimits(deadline_s=1.0),
    ):
        with pytest.raises(ValueError, match=r"must|needs"):
            wrong.validate()
    QueryLimits().validate()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("CALL no.such()", "Neo.ClientError.Procedure.ProcedureNotFound"),
        ("MATCH (n) RETURN m", "Neo.ClientError.Statement.SyntaxError"),
        ("RETURN $missing", "Neo.ClientError.Statement.ParameterMissing"),
        ("MATCH (n) RETURN n LIMIT $text", "Neo.ClientError.Statement.ArgumentError"),
        ("MATCH (n) RETURN n SKIP $negative", "Neo.ClientError.Statement.ArgumentError"),
        ("RETURN 1 / 0", "Neo.ClientError.Statement.ArithmeticError"),
        ("MATCH (n) WHERE n.id RETURN n", "Neo.ClientError.Statement.TypeError"),
        ("UNWIND [1] AS x RETURN $big + x", "Neo.ClientError.Statement.ArgumentError"),
    ],
)
def test_codes(graph: Graph, text: str, code: str) -> None:
    parameters = {"text": "a", "negative": -1, "big": 2**70}
    with pytest.raises(GraphError) as raised:
        graph.result(text, parameters).rows()
    assert raised.value.code == code
    assert isinstance(raised.value, CypherError) or "Syntax" not in code
