"""What the official Python driver is told: transactions, results, errors, bookmarks, servers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import Neo4jError, TransactionError, TransientError
from running import SERVERS, Cluster, connect, values

pytestmark = pytest.mark.cluster

FOR_EVER = "UNWIND range(1, 1000000000000) AS x WITH x WHERE x < 0 RETURN count(x)"


@pytest.fixture(scope="module")
def driver(cluster: Cluster) -> Iterator[neo4j.Driver]:
    with cluster.driver(1, "neo4j") as driver:
        yield driver


@pytest.fixture
def session(driver: neo4j.Driver) -> Iterator[neo4j.Session]:
    with driver.session() as session:
        yield session


@pytest.fixture(scope="module", params=["bolt", "neo4j"])
def either(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[neo4j.Driver]:
    """A driver of each scheme, on the gateway of a server that does not lead."""
    follower = next(s for s in SERVERS if s != cluster.leader())
    with cluster.driver(follower, request.param) as driver:
        driver.verify_connectivity()
        yield driver


def code_of(run: Any, *arguments: Any, **keywords: Any) -> str | None:
    """The status code of the error that a call ends with."""
    with pytest.raises(Neo4jError) as caught:
        run(*arguments, **keywords)
    return caught.value.code


def count(session: neo4j.Session, label: str) -> int:
    return int(session.run(f"MATCH (n:{label}) RETURN count(n)").single(strict=True)[0])


# --- Transactions ---------------------------------------------------------------------------------


def test_autocommit(either: neo4j.Driver) -> None:
    with either.session() as session:
        before = count(session, "Auto")
        session.run("CREATE (:Auto)").consume()
        assert count(session, "Auto") == before + 1


def test_an_explicit_transaction_is_seen_by_others_when_it_is_committed(
    either: neo4j.Driver,
) -> None:
    with either.session() as writer, either.session() as other:
        before = count(other, "Explicit")
        with writer.begin_transaction() as tx:
            tx.run("CREATE (:Explicit)")
            tx.run("CREATE (:Explicit)")
            assert tx.run("MATCH (n:Explicit) RETURN count(n)").single(strict=True)[0] == before + 2
            assert count(other, "Explicit") == before
            tx.commit()
        assert count(other, "Explicit") == before + 2


def test_a_transaction_that_is_rolled_back_leaves_nothing(either: neo4j.Driver) -> None:
    with either.session() as session:
        before = count(session, "Undone")
        with session.begin_transaction() as tx:
            tx.run("CREATE (:Undone)").consume()
            tx.rollback()
        with pytest.raises(ZeroDivisionError), session.begin_transaction() as tx:
            tx.run("CREATE (:Undone)").consume()
            raise ZeroDivisionError
        assert count(session, "Undone") == before


def test_managed_transactions(either: neo4j.Driver) -> None:
    def write(tx: neo4j.ManagedTransaction) -> int:
        record = tx.run("MERGE (n:Managed) SET n.x = coalesce(n.x, 0) + 1 RETURN n.x").single(True)
        return int(record[0])

    def read(tx: neo4j.ManagedTransaction) -> int:
        return int(tx.run("MATCH (n:Managed) RETURN n.x").single(strict=True)[0])

    with either.session() as session:
        written = session.execute_write(write)
        assert session.execute_read(read) == written


def test_a_statement_that_fails_ends_its_transaction(session: neo4j.Session) -> None:
    tx = session.begin_transaction()
    tx.run("CREATE (:Spoilt)").consume()
    assert code_of(tx.run, "RETURN nonsense(") == "Neo.ClientError.Statement.SyntaxError"
    with pytest.raises(TransactionError):
        tx.commit()
    assert count(session, "Spoilt") == 0


def test_of_two_conflicting_transactions_the_second_is_told_to_try_again(
    driver: neo4j.Driver,
) -> None:
    with driver.session() as one, driver.session() as two:
        one.run("CREATE (:Contended {x: 0})").consume()
        first, second = one.begin_transaction(), two.begin_transaction()
        for tx in (first, second):
            tx.run("MATCH (n:Contended) SET n.x = n.x + 1").consume()
        first.commit()
        with pytest.raises(TransientError) as caught:
            second.commit()
        assert caught.value.is_retryable()
        assert values(one, "MATCH (n:Contended) RETURN n.x") == [[1]]


def test_managed_transactions_that_conflict_are_all_done_in_the_end(driver: neo4j.Driver) -> None:
    def increment(tx: neo4j.ManagedTransaction) -> None:
        (x,) = tx.run("MATCH (n:Counter) RETURN n.x").single(strict=True)
        tx.run("MATCH (n:Counter) SET n.x = $x", x=x + 1)

    def work(_: int) -> None:
        with driver.session() as session:
            for _ in range(5):
                session.execute_write(increment)

    with driver.session() as session:
        session.run("CREATE (:Counter {x: 0})").consume()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, range(3)))
        assert values(session, "MATCH (n:Counter) RETURN n.x") == [[15]]


# --- Results --------------------------------------------------------------------------------------


def test_a_hundred_thousand_rows_in_small_pieces(driver: neo4j.Driver) -> None:
    with driver.session(fetch_size=500) as session:
        result = session.run("UNWIND range(1, 100000) AS x RETURN x, toString(x) AS s")
        expected = 0
        for x, s in result:
            expected += 1
            assert x == expected and s == str(expected)
        assert expected == 100_000


def test_several_results_open_in_one_transaction(driver: neo4j.Driver) -> None:
    with driver.session(fetch_size=2) as session, session.begin_transaction() as tx:
        results = [tx.run("UNWIND range(1, 9) AS x RETURN x * $k", k=k) for k in (1, 10, 100)]
        rows = [[record[0] for record in row] for row in zip(*results, strict=True)]
        assert rows == [[x, 10 * x, 100 * x] for x in range(1, 10)]
        tx.commit()


def test_a_result_abandoned_in_mid_stream_does_not_disturb_the_next(cluster: Cluster) -> None:
    with cluster.driver(max_connection_pool_size=1) as driver:
        for _ in range(3):
            with driver.session(fetch_size=10) as session:
                result = session.run("UNWIND range(1, 1000000) AS x RETURN x")
                assert next(iter(result))[0] == 1
            with driver.session() as session:
                assert values(session, "RETURN 'next'") == [["next"]]


def test_a_transaction_closed_in_mid_stream_is_rolled_back(cluster: Cluster) -> None:
    with cluster.driver(max_connection_pool_size=1) as driver:
        with driver.session(fetch_size=10) as session:
            tx = session.begin_transaction()
            tx.run("CREATE (:Abandoned)").consume()
            next(iter(tx.run("UNWIND range(1, 1000000) AS x RETURN x")))
        with driver.session() as session:
            assert count(session, "Abandoned") == 0


def test_a_result_is_discarded(driver: neo4j.Driver) -> None:
    with driver.session(fetch_size=10) as session:
        result = session.run("UNWIND range(1, 100000) AS x RETURN x")
        assert next(iter(result))[0] == 1
        assert result.consume().query_type == "r"
        assert values(session, "RETURN 1") == [[1]]


def test_an_error_in_mid_stream_comes_after_the_rows_before_it(driver: neo4j.Driver) -> None:
    with driver.session(fetch_size=100) as session:
        result = session.run("UNWIND range(1, 30000) AS x RETURN 1 / (20000 - x)")
        seen = 0

        def read() -> None:
            nonlocal seen
            for _ in result:
                seen += 1

        assert code_of(read) == "Neo.ClientError.Statement.ArithmeticError"
        assert 0 < seen < 20_000
        assert values(session, "RETURN 1") == [[1]]


def test_counters_of_a_summary(session: neo4j.Session) -> None:
    summary = session.run(
        "CREATE (a:S1:S2 {x: 1, y: 2})-[:R {z: 3}]->(b:S1) SET b.x = 4 RETURN a"
    ).consume()
    made = summary.counters
    assert made.contains_updates
    assert (made.nodes_created, made.relationships_created) == (2, 1)
    assert (made.properties_set, made.labels_added) == (4, 3)
    assert summary.query_type == "rw"

    gone = session.run("MATCH (n:S1) REMOVE n:S2 DETACH DELETE n").consume().counters
    assert (gone.nodes_deleted, gone.relationships_deleted, gone.labels_removed) == (2, 1, 1)
    read = session.run("RETURN 1").consume()
    assert not read.counters.contains_updates
    assert read.query_type == "r"


def test_counters_of_the_schema(session: neo4j.Session) -> None:
    added = session.run("CREATE CONSTRAINT FOR (n:Schema) REQUIRE n.x IS UNIQUE").consume()
    assert added.counters.constraints_added == 1
    assert added.query_type == "s"
    assert session.run("CREATE INDEX FOR (n:Schema) ON (n.y)").consume().counters.indexes_added == 1


def test_explain_shows_the_plan_and_does_nothing(session: neo4j.Session) -> None:
    summary = session.run("EXPLAIN CREATE (:Explained) RETURN 1").consume()
    assert summary.plan is not None
    assert summary.plan["operatorType"]
    assert summary.profile is None
    assert count(session, "Explained") == 0


def test_profile_does_it_and_counts_the_rows(session: neo4j.Session) -> None:
    result = session.run("PROFILE UNWIND range(1, 10) AS x CREATE (n:Profiled {x: x}) RETURN n.x")
    assert [record[0] for record in result] == list(range(1, 11))
    profile = result.consume().profile
    assert profile is not None
    assert profile["operatorType"]
    assert profile["rows"] == 10
    assert count(session, "Profiled") == 10


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("MATCH (n RETURN n", "Neo.ClientError.Statement.SyntaxError"),
        ("RETURN undefined", "Neo.ClientError.Statement.SyntaxError"),
        ("RETURN $missing", "Neo.ClientError.Statement.ParameterMissing"),
        ("UNWIND [2, 'a'] AS x RETURN x - 1", "Neo.ClientError.Statement.TypeError"),
        ("WITH 0 AS x RETURN 1 / x", "Neo.ClientError.Statement.ArithmeticError"),
        ("CALL no.such()", "Neo.ClientError.Procedure.ProcedureNotFound"),
    ],
)
def test_what_is_wrong_with_a_statement(session: neo4j.Session, query: str, code: str) -> None:
    assert code_of(lambda: session.run(query).consume()) == code
    assert values(session, "RETURN 1") == [[1]]


def test_a_constraint_is_kept(session: neo4j.Session) -> None:
    session.run("CREATE CONSTRAINT FOR (n:Unique) REQUIRE n.x IS UNIQUE").consume()
    session.run("CREATE (:Unique {x: 1})").consume()
    again = session.run
    code = "Neo.ClientError.Schema.ConstraintValidationFailed"
    assert code_of(lambda: again("CREATE (:Unique {x: 1})").consume()) == code
    assert count(session, "Unique") == 1


def test_a_connected_node_is_not_deleted(session: neo4j.Session) -> None:
    session.run("CREATE (:Tied)-[:TO]->(:Tied)").consume()
    code = "Neo.ClientError.Schema.ConstraintValidationFailed"
    assert code_of(lambda: session.run("MATCH (n:Tied) DELETE n").consume()) == code
    assert count(session, "Tied") == 2


def test_read_mode_does_not_write(driver: neo4j.Driver) -> None:
    with driver.session(default_access_mode=neo4j.READ_ACCESS) as session:
        code = "Neo.ClientError.Statement.AccessMode"
        assert code_of(lambda: session.run("CREATE (:Forbidden)").consume()) == code
        tx = session.begin_transaction()
        assert code_of(lambda: tx.run("CREATE (:Forbidden)").consume()) == code
        tx.close()
        assert count(session, "Forbidden") == 0


def test_databases_by_name(either: neo4j.Driver) -> None:
    for name in ("neo4j", "memgraph", "Neo4j"):
        with either.session(database=name) as session:
            assert values(session, "RETURN 1") == [[1]]
    with either.session(database="nowhere") as session:
        code = "Neo.ClientError.Database.DatabaseNotFound"
        assert code_of(lambda: session.run("RETURN 1").consume()) == code


# --- Time -----------------------------------------------------------------------------------------


def test_a_query_without_end_is_stopped_while_others_go_on(driver: neo4j.Driver) -> None:
    def endless() -> str | None:
        with driver.session() as session:
            return code_of(lambda: session.run(neo4j.Query(FOR_EVER, timeout=3)).consume())

    with ThreadPoolExecutor(1) as pool, driver.session() as session:
        stopped = pool.submit(endless)
        for x in range(5):
            session.run("CREATE (:Meanwhile {x: $x})", x=x).consume()
        assert count(session, "Meanwhile") == 5
        assert not stopped.done()
        assert stopped.result(30) == "Neo.ClientError.Transaction.TransactionTimedOut"


def test_a_transaction_has_a_time_limit(driver: neo4j.Driver) -> None:
    with driver.session() as session:
        tx = session.begin_transaction(timeout=1)
        tx.run("CREATE (:Late)").consume()
        code = "Neo.ClientError.Transaction.TransactionTimedOut"
        assert code_of(lambda: tx.run(FOR_EVER).consume()) == code
        tx.close()
        assert count(session, "Late") == 0


def test_a_write_without_end_is_stopped_and_leaves_nothing(driver: neo4j.Driver) -> None:
    query = "UNWIND range(1, 1000000000000) AS x WITH x WHERE x < 0 CREATE (:Never)"
    with driver.session() as session:
        code = "Neo.ClientError.Transaction.TransactionTimedOut"
        assert code_of(lambda: session.run(neo4j.Query(query, timeout=1)).consume()) == code
        session.run("CREATE (:Afterwards)").consume()
        assert (count(session, "Never"), count(session, "Afterwards")) == (0, 1)


# --- Bookmarks, and information about the servers -------------------------------------------------


@pytest.mark.parametrize("writer", SERVERS)
def test_a_bookmark_shows_the_write_at_every_gateway(cluster: Cluster, writer: int) -> None:
    for turn in range(3):
        with cluster.driver(writer) as driver, driver.session() as session:
            session.run("CREATE (:Marked {by: $by})", by=writer).consume()
            bookmarks = session.last_bookmarks()
        for reader in SERVERS:
            query = f"MATCH (n:Marked {{by: {writer}}}) RETURN count(n)"
            assert cluster.read(reader, query, bookmarks) == [[turn + 1]]


def test_sessions_follow_one_another_through_a_cluster(driver: neo4j.Driver) -> None:
    bookmarks: Any = None
    for x in range(10):
        with driver.session(bookmarks=bookmarks) as session:
            with session.begin_transaction() as tx:
                tx.run("CREATE (:Chained {x: $x})", x=x)
                tx.commit()
            bookmarks = session.last_bookmarks()
        with driver.session(bookmarks=bookmarks) as session:
            query = "MATCH (n:Chained) RETURN count(n)"
            read = session.execute_read(lambda tx: tx.run(query).single(strict=True)[0])  # noqa: B023
            assert read == x + 1


def test_a_bookmark_of_somebody_else_is_refused(driver: neo4j.Driver) -> None:
    bookmarks = neo4j.Bookmarks.from_raw_values(["FB:kcwQnonsense"])
    with driver.session(bookmarks=bookmarks) as session:
        code = "Neo.ClientError.Transaction.InvalidBookmark"
        assert code_of(lambda: session.run("RETURN 1").consume()) == code


def test_raft_info_at_every_gateway(cluster: Cluster) -> None:
    cluster.wait_until_whole()
    rows = []
    for server in SERVERS:
        with cluster.driver(server) as driver:
            records, _, keys = driver.execute_query("SHOW RAFT INFO")
            assert keys == ["is_leader", "term_id"]
            rows += [record.values() for record in records]
    assert sorted(row[0] for row in rows) == [False, False, True]
    assert len({row[1] for row in rows}) == 1


def test_storage_info_of_all_servers(cluster: Cluster) -> None:
    cluster.wait_until_whole()
    with connect(f"bolt://{cluster.address(2)}") as driver:
        records, _, keys = driver.execute_query("SHOW STORAGE INFO")
    assert keys == ["server id", "item", "value"]
    items = {"vertex_count", "edge_count", "average_degree", "memory_usage", "disk_usage"}
    assert {(r["server id"], r["item"]) for r in records} == {
        (s, i) for s in SERVERS for i in items
    }
    assert len(records) == 15
    assert all(r["value"] > 0 for r in records if r["item"] in ("memory_usage", "disk_usage"))


def test_the_routing_table_names_the_leader_as_its_only_writer(cluster: Cluster) -> None:
    leader = cluster.wait_until_whole()
    for server in SERVERS:
        with cluster.driver(server, "neo4j") as driver:
            _, summary, _ = driver.execute_query("CREATE (:Routed)")
            assert summary.server.address[1] == cluster.first_port + leader - 1
            _, summary, _ = driver.execute_query("MATCH (n) RETURN 1 LIMIT 1", routing_="r")
            assert summary.server.address[1] != cluster.first_port + leader - 1
