"""Same plan, one run: a batch gives what its requests give one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from engine_support import NOW, Graph, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.digest import digest
from graph.engine import QueryLimits, Result, run_batch
from graph.errors import ConstraintError, GraphError

Requests = list[tuple[str, dict[str, Any]]]

_SCHEMA = (
    "CREATE CONSTRAINT FOR (n:User) REQUIRE n.id IS UNIQUE",
    "CREATE INDEX FOR (n:Tag) ON (n.name)",
)
_DATA = (
    "UNWIND range(1, 6) AS i CREATE (:User {id: i, name: 'user ' + toString(i), age: i * 10 % 7})",
    "MATCH (a:User), (b:User) WHERE (a.id * b.id) % 4 = 1 CREATE (a)-[:FOLLOWS {w: a.id}]->(b)",
    "UNWIND ['x', 'y', 'x'] AS name CREATE (:Tag {name: name})",
)

_READS = [
    "MATCH (n:User {id: $id}) RETURN n.name",
    "MATCH (n:User {id: $id}) RETURN n",
    "MATCH (n:User {id: $id})-[r:FOLLOWS]->(m) RETURN m.name, r, r.w + $k",
    "MATCH (n:User {id: $id})-[:FOLLOWS]->(m) RETURN count(m), collect(m.id)",
    "MATCH (n:User {id: $id})-[:FOLLOWS]->(m) RETURN DISTINCT m.age",
    "MATCH (n:User {id: $id})-[:FOLLOWS]->(m) RETURN m.id ORDER BY m.age DESC, m.id LIMIT $k",
    "MATCH (n:User {id: $id})-[:FOLLOWS]->(m) RETURN m.id ORDER BY m.id SKIP $k",
    "MATCH (n:User {id: $id})-[:FOLLOWS]->(m) WITH m LIMIT 1 MATCH (m)-->(o) RETURN count(o)",
    "MATCH (n:User {id: $id}) OPTIONAL MATCH (n)-[:FOLLOWS]->(m) WHERE m.id > $k RETURN m.id",
    "MATCH (n:User {id: $id})-[:FOLLOWS*1..2]->(m) RETURN m.id",
    "MATCH (n:User {id: $id})-[:FOLLOWS*1..2 {w: $k}]->(m) RETURN m.id",
    "MATCH (n:User {id: $id}) WHERE (n)-->(:User {id: $k}) RETURN n.id",
    "MATCH (n:User {id: $id}) RETURN [(n)-->(m) WHERE m.id <> $k | m.id] AS l",
    "MATCH (n:Tag) WHERE n.name = $name RETURN id(n)",
    "MATCH (n:User) WHERE n.id IN [$id, $k] RETURN n.id",
    "UNWIND [$id, $k] AS i MATCH (n:User {id: i}) RETURN n.name",
    "UNWIND range(1, $k) AS i RETURN sum(i)",
    "MATCH (n:User {id: $id}), (m:User {id: $k}) MATCH p = shortestPath((n)-[*..4]->(m)) RETURN p",
    "RETURN $id + $k AS s UNION RETURN $id AS s",
    "RETURN 10 / $k AS q",
    "MATCH (n:User) RETURN count(n)",
    "MATCH (n:User) WHERE n.age > $k RETURN n.id",
    "MATCH (n:User {id: $id}) RETURN EXISTS { MATCH (n)-->(m) WITH m ORDER BY m.id LIMIT 1 "
    "WHERE m.id = $k RETURN m } AS e",
]
_WRITES = [
    "CREATE (:User {id: $id, name: $name})",
    "CREATE (n:Temp {id: $id, name: $name}) RETURN n",
    "CREATE (a:Temp {id: $id})-[r:T {k: $k}]->(b:Temp) RETURN id(a), id(r), id(b)",
    "MATCH (a:User {id: $id}), (b:User {id: $k}) CREATE (a)-[r:LIKES]->(b) RETURN id(r), a.name",
    "MATCH (a:User {id: $id}) CREATE (a)-[:POSTED]->(p:Post {name: $name})",
    "MATCH (a:User {id: $id}) CREATE (:User {id: $k, name: a.name})",
    "MATCH (a:User {id: $id})-[:FOLLOWS]->(b) CREATE (a)-[:SEES]->(b)",
    "MATCH (a:User {id: $id})-[:FOLLOWS]->(b) CREATE (b)-[:FOLLOWS]->(:Temp)",
    "MATCH (n:User {id: $id}) SET n.property = $k",
    "MATCH (n:User {id: $id}) SET n.age = n.age + $k",
    "MATCH (n:User {id: $id}) SET n.age = n.age + $k RETURN n.age",
    "MATCH (n:User {id: $id}) SET n.name = $name, n.k = $k",
    "MATCH (n:User {id: $id}) SET n.id = $k",
    "MATCH (n:User {id: $id}) WHERE n.age > 1 SET n.age = $k",
    "MATCH (n:User {id: $id}) SET n += {k: $k}",
    "MATCH (n:User {id: $id}) SET n.gone = null, n.age = null",
    "MERGE (n:User {id: $id}) ON CREATE SET n.name = $name ON MATCH SET n.k = coalesce(n.k, 0) + 1",
    "MERGE (n:Tag {name: $name})",
    "MERGE (n:Tag {name: $name}) RETURN id(n)",
    "MATCH (a:User {id: $id}), (b:User {id: $k}) MERGE (a)-[:LIKES]->(b)",
    "MATCH (n:User {id: $id}) DETACH DELETE n",
    "CREATE (:Temp {v: 10 / $k})",
    "CREATE (:Temp {v: 1}) WITH 1 AS one MATCH (t:Temp) RETURN count(t)",
]

_parameters = st.fixed_dictionaries(
    {
        "id": st.integers(0, 8),
        "k": st.integers(0, 3),
        "name": st.sampled_from(["x", "y", "z"]),
    }
)


def _outcome(result: Result | GraphError) -> Any:
    """What a client sees: rows and counters, or the error."""
    if isinstance(result, GraphError):
        return (type(result).__name__, result.code)
    try:
        rows = plain(result.rows())
    except GraphError as error:
        return (type(error).__name__, error.code)
    return (result.fields, sorted(rows, key=repr), result.statistics)


def _one_by_one(graph: Graph, requests: Requests) -> list[Any]:
    found: list[Any] = []
    for text, parameters in requests:
        root = graph.root.fork()
        try:
            found.append(_outcome(graph.result(text, parameters)))
        except GraphError as error:
            graph.root = root
            found.append(_outcome(error))
    return found


def _check(requests: Requests) -> None:
    """Run as a batch and one by one; everything must be equal."""
    single, batched = Graph(*_SCHEMA, *_DATA), Graph(*_SCHEMA, *_DATA)
    expected = _one_by_one(single, requests)
    outcome = batched.batch(requests)
    assert [_outcome(result) for result in outcome.results] == expected
    assert batched.run("MATCH (n) RETURN count(n)") == single.run("MATCH (n) RETURN count(n)")
    texts = "MATCH (n) RETURN labels(n), properties(n)", "MATCH (a)-[r]->(b) RETURN type(r), r.k"
    for text in texts:
        assert sorted(batched.run(text), key=repr) == sorted(single.run(text), key=repr)
    assert digest(batched.replayed()) == batched.digest()
    positions = [p for group, _ in outcome.writes for p in group]
    assert positions == sorted(set(positions)), "each request in one write set, in order"


@pytest.mark.parametrize("text", _READS + _WRITES)
def test_equal_plans_in_one_batch(text: str) -> None:
    values = [(1, 2), (2, 1), (2, 0), (9, 3), (1, 1), (7, 2), (1, 2)]
    _check([(text, {"id": i, "k": k, "name": "xyz"[k % 3]}) for i, k in values])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(_READS + _WRITES), st.lists(_parameters, min_size=2, max_size=8))
def test_random_parameters(text: str, parameters: list[dict[str, Any]]) -> None:
    _check([(text, values) for values in parameters])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_READS + _WRITES), _parameters), min_size=1, max_size=8))
def test_mixed_batches(requests: Requests) -> None:
    _check(requests)


def _shares(text: str) -> bool:
    graph = Graph(*_SCHEMA, *_DATA)
    return graph.engine.prepare(text).shape.executable(graph.root).batchable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_READS[0], True),
        (_READS[3], True),
        (_READS[5], True),
        ("MATCH (n:User) RETURN n.name", False),
        ("MATCH (n:User) RETURN count(n)", True),
        (_WRITES[0], True),
        (_WRITES[3], True),
        ("MATCH (a:User {id: $id}) CREATE (:User {id: $k})", False),
        ("MATCH (a:User {id: $id})-[:T]->(b) CREATE (b)-[:T]->(:Temp)", False),
        ("MATCH (a:User {id: $id})-->(b) CREATE (b)-[:T]->(:Temp)", False),
        ("MATCH (n:User {id: $id}) SET n.age = $k", True),
        ("MATCH (n:User {id: $id}) SET n.age = $k RETURN n", False),
        ("MATCH (n:User {id: $id}) SET n.id = $k", False),
        ("MATCH (n:User {id: $id}) SET n += $map", False),
        ("MATCH (n:User {id: $id}) SET n:Label", False),
        ("MATCH (n:User {id: $id}) DELETE n", False),
        ("MERGE (n:User {id: $id})", True),
        ("MERGE (n:User {id: $id}) RETURN n", False),
    ],
)
def test_which_plans_share_a_run(text: str, expected: bool) -> None:
    assert _shares(text) is expected


def test_a_shared_run_has_one_write_set() -> None:
    graph = Graph(*_SCHEMA)
    requests: Requests = [(_WRITES[0], {"id": i, "name": "n"}) for i in range(5)]
    outcome = graph.batch(requests)
    assert [positions for positions, _ in outcome.writes] == [(0, 1, 2, 3, 4)]
    for result in outcome.results:
        assert isinstance(result, Result)
        assert result.statistics["nodes-created"] == 1


def test_literals_share_a_run() -> None:
    graph = Graph(*_SCHEMA)
    requests: Requests = [(f"CREATE (:User {{id: {i}, name: 'n{i}'}})", {}) for i in range(3)]
    outcome = graph.batch(requests)
    assert len(outcome.writes) == 1
    assert graph.run("MATCH (n:User) RETURN n.id, n.name ORDER BY n.id") == [
        (0, "n0"),
        (1, "n1"),
        (2, "n2"),
    ]


def test_only_the_guilty_fail() -> None:
    graph = Graph(*_SCHEMA, "CREATE (:User {id: 2})")
    requests: Requests = [(_WRITES[0], {"id": i, "name": "n"}) for i in (1, 2, 3)]
    outcome = graph.batch([*requests, (_WRITES[0], {"id": 4})])
    kinds = [type(result) for result in outcome.results]
    assert kinds[:3] == [Result, ConstraintError, Result]
    error = outcome.results[3]
    assert isinstance(error, GraphError)
    assert error.code == "Neo.ClientError.Statement.ParameterMissing"
    assert graph.column("MATCH (n:User) RETURN n.id ORDER BY n.id") == [1, 2, 3]
    assert [positions for positions, _ in outcome.writes] == [(0,), (2,)]


@pytest.mark.parametrize("give_savepoint", [False, True])
def test_half_a_statement_leaves_nothing(give_savepoint: bool) -> None:
    graph = Graph(*_SCHEMA, "CREATE (:User {id: 1})")
    half = "CREATE (:Half) WITH 1 AS one CREATE (:User {id: $id})"
    requests: Requests = [(half, {"id": 5}), (half, {"id": 1}), (half, {"id": 6})]
    options: Mapping[str, Any] = {"savepoint": graph.root.fork()} if give_savepoint else {}
    outcome = graph.batch(requests, **options)
    assert [isinstance(result, Result) for result in outcome.results] == [True, False, True]
    assert graph.value("MATCH (n:Half) RETURN count(n)") == 2
    assert graph.column("MATCH (n:User) RETURN n.id ORDER BY n.id") == [1, 5, 6]
    assert digest(graph.replayed()) == graph.digest()


def test_schema_and_data_in_one_batch() -> None:
    graph = Graph()
    outcome = graph.batch(
        [
            ("CREATE (:User {id: 1})", {}),
            ("CREATE CONSTRAINT FOR (n:User) REQUIRE n.id IS UNIQUE", {}),
            ("CREATE (:User {id: 1})", {}),
            ("SHOW CONSTRAINTS YIELD name", {}),
        ]
    )
    assert isinstance(outcome.results[2], ConstraintError)
    shown = outcome.results[3]
    assert isinstance(shown, Result)
    assert shown.rows() == [("constraint_User_id",)]
    assert [positions for positions, _ in outcome.writes] == [(0,), (1,)]


def test_read_only_batches_refuse_writes_and_leave_the_root_alone() -> None:
    graph = Graph(*_SCHEMA, *_DATA)
    before = graph.digest()
    requests = [
        (_READS[0], {"id": 1}),
        (_WRITES[0], {"id": 77, "name": "n"}),
        (_READS[0], {"id": 2}),
    ]
    prepared = [(graph.engine.prepare(text), values) for text, values in requests]
    outcome = run_batch(
        graph.engine,
        graph.root,
        graph.allocator,
        prepared,
        now=NOW,
        random=Random(1),
        read_only=True,
    )
    assert outcome.root is graph.root
    error = outcome.results[1]
    assert isinstance(error, GraphError)
    assert error.code == "Neo.ClientError.Statement.AccessMode"
    assert _outcome(outcome.results[2])[1] == [["user 2"]]
    assert graph.digest() == before


@pytest.mark.parametrize(
    "text",
    [
        "CREATE (n:Temp {v: $k}) RETURN 1 / n.v",
        "CREATE (n:Temp {v: $k}) RETURN n.v.x",
        "CREATE (n:Temp {v: $k}) WITH n WHERE 1 / n.v > 0 RETURN n",
        "CREATE (n:Temp {v: $k}) RETURN $missing",
        "UNWIND range(1, 5000) AS i MATCH (u:User {id: 1}) SET u.x = 1 / ($k * (5000 - i) + $k)",
    ],
)
def test_failures_after_the_write_leave_nothing(text: str) -> None:
    graph = Graph(*_SCHEMA, *_DATA)
    before = graph.digest()
    outcome = graph.batch([(text, {"k": 0}), (text, {"k": 0})])
    assert all(isinstance(result, GraphError) for result in outcome.results)
    assert graph.digest() == before and not outcome.writes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE (n:A {x: $k}) RETURN n, n.x, id(n)", True),
        ("CREATE (n:A)-[r:T]->() RETURN r", True),
        ("MATCH (n:A) SET n.x = $k", True),
        ("MATCH (n:A) SET n.x = n.y", False),
        ("MATCH (n:A) SET n.x = 1, n.y = 2", False),
        ("CREATE (n:A) RETURN n.x + 1", False),
        ("CREATE (n:A) SET n.x = 1", False),
        ("MERGE (n:A {x: 1}) RETURN n", True),
        ("MERGE (n:A {x: 1}) ON MATCH SET n.y = 1", False),
        ("MATCH (n:A) DETACH DELETE n", True),
        ("MATCH (n:A) DETACH DELETE n RETURN n.x", False),
        ("UNWIND $rows AS r CREATE (n:A {x: r.x}) RETURN r.x", False),
    ],
)
def test_which_plans_write_in_one_step(text: str, expected: bool) -> None:
    graph = Graph()
    assert graph.engine.prepare(text).shape.executable(graph.root).one_step is expected


def test_a_statement_that_is_done_has_no_more_limits() -> None:
    graph = Graph()
    cancelled = False

    def now() -> bool:
        return cancelled

    prepared = graph.engine.prepare("UNWIND range(1, 3000) AS i CREATE (n:A {i: i}) RETURN n")
    transaction = graph.transaction(limits=QueryLimits(cancelled=now, memory_bytes_max=250_000))
    root_apply = type(graph.root).apply

    def apply(root: Any, write_set: Any) -> Any:
        nonlocal cancelled
        counters = root_apply(root, write_set)
        cancelled = True
        return counters

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(graph.root), "apply", apply)
        assert len(transaction.run(prepared).rows()) == 3000
