"""Transactions, cursors, prepared statements and their caches, schema commands, SHOW."""

from __future__ import annotations

import threading
from random import Random
from typing import Any

import pytest
from engine_support import NOW, Graph

from graph.digest import digest
from graph.engine import Engine, Result
from graph.errors import (
    ConflictError,
    ConstraintError,
    CypherError,
    GraphError,
    SchemaError,
)
from graph.store import Root


def test_a_transaction_sees_its_own_writes_and_others_do_not() -> None:
    graph = Graph("CREATE (:A {x: 1})")
    private = graph.root.fork()
    transaction = graph.transaction()
    transaction.root = private
    prepare = graph.engine.prepare
    transaction.run(prepare("CREATE (:A {x: 2})"))
    transaction.run(prepare("MATCH (a:A) SET a.y = a.x"))
    rows = transaction.run(prepare("MATCH (a:A) RETURN a.y ORDER BY a.y")).rows()
    assert rows == [(1,), (2,)]
    assert graph.column("MATCH (a:A) RETURN a.y") == [None]
    graph.root.apply(transaction.write_set)
    assert digest(graph.root) == digest(transaction.root)
    assert transaction.counters.nodes_created == 1


def test_writes_apply_to_a_head_that_has_moved_on() -> None:
    graph = Graph("CREATE (:A {x: 1})", "CREATE (:B)")
    transaction = graph.transaction()
    transaction.root = graph.root.fork()
    transaction.run(graph.engine.prepare("MATCH (a:A) CREATE (a)-[:T]->(:C)"))
    graph.run("CREATE (:D)")
    graph.root.apply(transaction.write_set)
    assert graph.value("MATCH (:A)-[:T]->(c:C) RETURN count(c)") == 1
    other = graph.transaction()
    other.root = graph.root.fork()
    other.run(graph.engine.prepare("MATCH (b:B) CREATE (b)-[:T]->(:E)"))
    graph.run("MATCH (b:B) DELETE b")
    with pytest.raises((ConflictError, ConstraintError)):
        graph.root.apply(other.write_set)


def test_after_a_failure_nothing_more_runs() -> None:
    graph = Graph()
    transaction = graph.transaction()
    with pytest.raises(GraphError):
        transaction.run(graph.engine.prepare("CREATE (:A {x: 1 / 0})"))
    assert transaction.failed and transaction.untouched
    with pytest.raises(GraphError, match="roll it back"):
        transaction.run(graph.engine.prepare("RETURN 1"))


def test_a_failure_half_way_is_told() -> None:
    graph = Graph()
    transaction = graph.transaction()
    with pytest.raises(GraphError):
        transaction.run(graph.engine.prepare("CREATE (:A) WITH 1 AS x CREATE (:B {x: x / 0})"))
    assert not transaction.untouched


def test_open_cursors_keep_their_state() -> None:
    graph = Graph("UNWIND range(1, 5) AS i CREATE (:N {i: i})", chunk_rows=1)
    transaction = graph.transaction()
    transaction.root = graph.root
    prepare = graph.engine.prepare
    cursor = transaction.run(prepare("MATCH (n:N) RETURN n.i"))
    batches = cursor.chunks()
    assert next(batches) == (1, [[1]])
    transaction.run(prepare("MATCH (n:N) SET n.i = -n.i"))
    assert [row for _, columns in batches for row in columns[0]] == [2, 3, 4, 5]
    assert transaction.root is not graph.root
    assert transaction.run(prepare("MATCH (n:N) RETURN sum(n.i)")).rows() == [(-15,)]


def test_finished_cursors_cost_no_fork() -> None:
    graph = Graph("CREATE (:N)")
    transaction = graph.transaction()
    prepare = graph.engine.prepare
    transaction.run(prepare("MATCH (n:N) RETURN n")).rows()
    transaction.run(prepare("MATCH (n:N) RETURN n"))  # dropped without being read
    transaction.run(prepare("MATCH (n:N) SET n.x = 1"))
    assert transaction.root is graph.root


def test_read_only_transactions() -> None:
    graph = Graph("CREATE (:N)")
    for text in ("CREATE (:N)", "MATCH (n) DELETE n", "CREATE INDEX FOR (n:N) ON (n.x)"):
        transaction = graph.transaction(read_only=True)
        with pytest.raises(GraphError) as raised:
            transaction.run(graph.engine.prepare(text))
        assert raised.value.code == "Neo.ClientError.Statement.AccessMode"
    explained = graph.transaction(read_only=True).run(graph.engine.prepare("EXPLAIN CREATE (:N)"))
    assert explained.plan is not None


def test_one_clock_for_a_transaction() -> None:
    graph = Graph()
    transaction = graph.transaction()
    prepared = graph.engine.prepare("RETURN datetime() AS d, datetime.transaction() AS t")
    assert transaction.run(prepared).rows()[0][0].iso_format()[:19] == NOW.iso_format()[:19]


# --------------------------------------------------------------------------- preparing


def test_fields_kinds_and_types() -> None:
    engine = Engine()
    for text, kind, fields, query_type in (
        ("MATCH (n) RETURN n, n.x AS y", "read", ("n", "y"), "r"),
        ("CREATE (n)", "write", (), "w"),
        ("CREATE (n) RETURN n", "write", ("n",), "rw"),
        ("CREATE INDEX FOR (n:A) ON (n.x)", "schema", (), "s"),
        ("SHOW INDEX INFO", "show", ("index type", "label", "property", "count"), "r"),
        ("SHOW RAFT INFO", "show", (), "r"),
        ("CALL db.labels()", "read", ("label",), "r"),
    ):
        prepared = engine.prepare(text)
        assert (prepared.kind, prepared.fields, prepared.query_type) == (kind, fields, query_type)


def test_texts_that_differ_in_literals_share_a_plan() -> None:
    engine = Engine()
    first, second = (engine.prepare(f"MATCH (n:A {{x: {i}}}) RETURN n") for i in (1, 2))
    assert first.plan_key == second.plan_key
    assert first.literals != second.literals
    assert engine.prepare("MATCH (n:A {x: 1}) RETURN n") is first
    assert engine.prepare("MATCH (n:B {x: 1}) RETURN n").plan_key != first.plan_key


def test_caches_are_bounded() -> None:
    engine = Engine()
    for i in range(1_050):
        engine.prepare(f"MATCH (n:A{i}) RETURN n")
    assert len(engine._texts) == len(engine._shapes) == 1_000
    engine.prepare(f"RETURN 1 // {'x' * 20_000}")
    assert not any(len(text) > 16_384 for text in (*engine._texts, *engine._shapes))


def test_errors_show_the_clients_text() -> None:
    with pytest.raises(CypherError) as raised:
        Engine().prepare("MATCH (n:A {x: 12345}) WHERE n.y = 'text' RETURN m")
    assert "12345" in raised.value.message and "'text'" in raised.value.message
    assert raised.value.detail == "UndefinedVariable"


@pytest.mark.parametrize(
    "text",
    [
        "RETURN 1 AS `@request`",
        "MATCH (`@n1`) RETURN 1",
        "UNWIND [1] AS `@x` RETURN 1",
        "MATCH (n) RETURN [`@x` IN [1] | 1]",
    ],
)
def test_hidden_names_are_refused(text: str) -> None:
    with pytest.raises(CypherError, match="@"):
        Engine().prepare(text)


def test_names_with_at_signs_elsewhere_are_fine() -> None:
    graph = Graph("CREATE (:`@type` {`@id`: 1})-[:`@rel`]->()")
    assert graph.column("MATCH (n:`@type`)-[:`@rel`]->() RETURN n.`@id` AS id") == [1]


def test_plans_follow_the_schema() -> None:
    graph = Graph("UNWIND range(1, 100) AS i CREATE (:N {i: i})")
    text = "EXPLAIN MATCH (n:N {i: 1}) RETURN n"

    def leaf() -> str:
        plan = graph.result(text).plan
        while plan and plan["children"] and plan["children"][0]["operatorType"] != "Argument":
            plan = plan["children"][0]
        assert plan is not None
        return str(plan["operatorType"])

    assert leaf() == "NodeByLabelScan"
    graph.run("CREATE INDEX by_i FOR (n:N) ON (n.i)")
    assert leaf() == "NodeIndexSeek"
    assert graph.value("MATCH (n:N {i: 7}) RETURN n.i") == 7
    graph.run("DROP INDEX by_i")
    assert leaf() == "NodeByLabelScan"
    graph.run("CREATE CONSTRAINT FOR (n:N) REQUIRE n.i IS UNIQUE")
    assert leaf() == "NodeUniqueIndexSeek"
    assert graph.value("MATCH (n:N {i: 7}) RETURN n.i") == 7


def test_one_engine_in_many_threads() -> None:
    graph = Graph("UNWIND range(1, 50) AS i CREATE (:N {i: i})")
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(30):
                text = f"MATCH (n:N) WHERE n.i > {number} RETURN count(n) + {i % 3} AS c"
                transaction = graph.transaction(read_only=True)
                rows = transaction.run(graph.engine.prepare(text)).rows()
                assert rows == [(50 - number + i % 3,)]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# --------------------------------------------------------------------------- schema and SHOW


@pytest.mark.parametrize(
    ("create", "drop", "duplicate"),
    [
        ("CREATE INDEX i FOR (n:A) ON (n.x)", "DROP INDEX i", "CREATE INDEX j FOR (n:A) ON (n.x)"),
        ("CREATE INDEX ON :A(x)", "DROP INDEX ON :A(x)", "CREATE INDEX ON :A(x)"),
        ("CREATE INDEX ON :A", "DROP INDEX ON :A", "CREATE INDEX ON :A"),
        (
            "CREATE CONSTRAINT c FOR (n:A) REQUIRE n.x IS UNIQUE",
            "DROP CONSTRAINT c",
            "CREATE CONSTRAINT d FOR (n:A) REQUIRE n.x IS UNIQUE",
        ),
        (
            "CREATE CONSTRAINT ON (n:A) ASSERT n.x IS UNIQUE",
            "DROP CONSTRAINT ON (n:A) ASSERT n.x IS UNIQUE",
            "CREATE CONSTRAINT ON (n:A) ASSERT n.x IS UNIQUE",
        ),
    ],
)
def test_schema_commands(create: str, drop: str, duplicate: str) -> None:
    graph = Graph("CREATE (:A {x: 1}), (:A {x: 2})")
    empty = graph.digest()
    graph.run(create)
    with pytest.raises(SchemaError):
        graph.run(duplicate)
    assert graph.column("MATCH (n:A {x: 2}) RETURN n.x") == [2]
    graph.run(drop)
    assert graph.digest() == empty
    with pytest.raises(SchemaError):
        graph.run(drop)
    assert digest(graph.replayed()) == empty


def test_if_exists() -> None:
    graph = Graph()
    for text in (
        "CREATE INDEX i IF NOT EXISTS FOR (n:A) ON (n.x)",
        "CREATE INDEX i IF NOT EXISTS FOR (n:A) ON (n.x)",
        "DROP INDEX i IF EXISTS",
        "DROP INDEX i IF EXISTS",
        "CREATE CONSTRAINT c IF NOT EXISTS FOR (n:A) REQUIRE n.x IS UNIQUE",
        "CREATE CONSTRAINT c IF NOT EXISTS FOR (n:A) REQUIRE n.x IS UNIQUE",
        "DROP CONSTRAINT c IF EXISTS",
        "DROP CONSTRAINT c IF EXISTS",
    ):
        graph.run(text)


def test_unique_constraints_hold() -> None:
    graph = Graph("CREATE CONSTRAINT FOR (n:A) REQUIRE n.x IS UNIQUE", "CREATE (:A {x: 1})")
    for text in (
        "CREATE (:A {x: 1})",
        "CREATE (:A {x: 1.0})",
        "UNWIND [5, 5] AS x CREATE (:A {x: x})",
        "CREATE (n {x: 1}) SET n:A",
        "CREATE (n:A {x: 2}) SET n.x = 1",
        "MERGE (n:A:B {x: 1})",
    ):
        before = graph.root.fork()
        with pytest.raises(ConstraintError):
            graph.run(text)
        graph.root = before
    graph.run("MATCH (n:A {x: 1}) SET n.x = 3 CREATE (:A {x: 1})")
    assert graph.column("MATCH (n:A) RETURN n.x ORDER BY n.x") == [1, 3]


def test_schema_and_data_do_not_mix_in_one_transaction() -> None:
    for first, second in (
        ("CREATE (:A)", "CREATE INDEX FOR (n:A) ON (n.x)"),
        ("CREATE INDEX FOR (n:A) ON (n.x)", "CREATE (:A)"),
    ):
        graph = Graph()
        transaction = graph.transaction()
        transaction.run(graph.engine.prepare(first))
        with pytest.raises(GraphError) as raised:
            transaction.run(graph.engine.prepare(second))
        assert "ForbiddenDueToTransactionType" in raised.value.code


def test_show() -> None:
    graph = Graph(
        "CREATE INDEX FOR (n:A) ON (n.x)",
        "CREATE INDEX ON :B",
        "CREATE CONSTRAINT u FOR (n:C) REQUIRE (n.x, n.y) IS UNIQUE",
        "CREATE (:B), (:A {x: 1}), (:A {x: 2})",
    )
    shown = "SHOW INDEXES YIELD name, type, labelsOrTypes, properties, owningConstraint"
    assert graph.run(shown) == [
        ("index_A_x", "RANGE", ["A"], ["x"], None),
        ("index_B", "LOOKUP", ["B"], None, None),
        ("u", "RANGE", ["C"], ["x", "y"], "u"),
    ]
    assert graph.run("SHOW INDEXES YIELD name AS n WHERE n STARTS WITH 'u' RETURN n") == [("u",)]
    assert graph.run("SHOW INDEX INFO") == [
        ("label+property", "A", "x", 2),
        ("label", "B", None, 1),
        ("label+property", "C", ["x", "y"], 0),
    ]
    assert graph.run("SHOW CONSTRAINT INFO") == [("unique", "C", ["x", "y"])]
    assert graph.run("SHOW CONSTRAINTS YIELD *")[0][1:6] == (
        "u",
        "UNIQUENESS",
        "NODE",
        ["C"],
        ["x", "y"],
    )
    with pytest.raises(CypherError, match="nonsense"):
        graph.run("SHOW INDEXES YIELD nonsense")


def test_the_caller_answers_other_shows() -> None:
    engine = Engine()
    columns = ("info", "value")
    rows: list[tuple[Any, ...]] = [("is_leader", True), ("term_id", 4)]

    def show(text: str, **parameters: Any) -> Result:
        prepared = engine.prepare(text)
        assert not prepared.local
        return engine.show(
            prepared, columns, rows, Root.empty(), now=NOW, random=Random(1), parameters=parameters
        )

    result = show("SHOW RAFT INFO")
    assert (result.fields, result.rows()) == (columns, rows)
    result = show(
        "SHOW RAFT INFO YIELD info, value AS v WHERE info = $x RETURN v + 1 AS w", x="term_id"
    )
    assert (result.fields, result.rows()) == (("w",), [(5,)])
    with pytest.raises(CypherError, match="wrong"):
        show("SHOW RAFT INFO YIELD wrong")
    with pytest.raises(GraphError, match="RAFT INFO"):
        Graph().run("SHOW RAFT INFO")
