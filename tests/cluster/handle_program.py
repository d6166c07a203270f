"""A user's program: embeds the database, goes through the Python handle, and reports on itself.

    python handle_program.py DIRECTORY PORT

It runs in a process of its own, so that Ray never lives inside the process of the tests. Each
function named ``check_...`` is one test; for each a line of JSON is printed, with the traceback of
what went wrong or null. ``test_handle.py`` reads the lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
from neo4j import Driver, GraphDatabase
from neo4j.exceptions import ServiceUnavailable
from neo4j.time import Date

import rayft
from rayft import Database, QueryError

ROWS = 10_000
TRIES_SECONDS = 40.0
LATE_CALLS_SECONDS = 7.0  # longer than a gateway waits for its clients


def expect_error(code: str, work: Callable[[], Any]) -> QueryError:
    try:
        work()
    except QueryError as error:
        assert error.code == code, error.code
        return error
    raise AssertionError(f"expected {code}")


def expect_closed(work: Callable[[], Any]) -> None:
    try:
        work()
    except rayft.RayftError as error:
        assert "handle is closed" in str(error), error
        return
    raise AssertionError("a closed handle answers")


def count(db: Database, label: str, **options: Any) -> int:
    return int(db.query(f"MATCH (n:{label}) RETURN count(n)", **options).single()[0])


def check_records(db: Database) -> None:
    result = db.query(
        "CREATE (n:Person {name: $name}) RETURN n.name AS name, 36 AS age", name="Ada"
    )
    assert result.fields == ["name", "age"]
    record = result.single()
    assert record["name"] == record[0] == "Ada"
    assert record.data() == {"name": "Ada", "age": 36}
    assert record.keys() == ["name", "age"]
    name, age = record
    assert (name, age) == ("Ada", 36)
    assert db.query("MATCH (n:Person) RETURN n.name AS name, 36 AS age").all() == [record]


def check_summary(db: Database) -> None:
    result = db.query("CREATE (:Summed {x: 1}) CREATE (:Summed)")
    assert result.all() == []
    assert result.summary["stats"]["nodes-created"] == 2
    assert result.summary["stats"]["properties-set"] == 1


def check_batches_over_many_rows(db: Database) -> None:
    result = db.query(f"UNWIND range(1, {ROWS}) AS x RETURN x, toString(x)")
    sizes, expected = [], 0
    for batch in result.batches():
        sizes.append(len(batch))
        for x, text in batch:
            expected += 1
            assert (x, text) == (expected, str(expected))
    assert expected == ROWS
    assert len(sizes) > 1
    assert max(sizes) <= 5_000


def check_iteration_that_stops_early(db: Database) -> None:
    for record in db.query(f"UNWIND range(1, {ROWS}) AS x RETURN x"):
        if record[0] == 3:
            break
    assert db.query("RETURN 1").single()[0] == 1


def check_one_row_is_one_row(db: Database) -> None:
    for query in ("UNWIND [] AS x RETURN x", "UNWIND [1, 2] AS x RETURN x"):
        try:
            db.query(query).single()
        except ValueError:
            continue
        raise AssertionError(query)


def check_transactions_commit(db: Database) -> None:
    with db.transaction() as tx:
        tx.query("CREATE (:Committed {x: $x})", x=1)
        tx.query("MATCH (n:Committed) CREATE (:Committed {x: n.x + 1})")
        assert tx.query("MATCH (n:Committed) RETURN count(n)").single()[0] == 2
        assert count(db, "Committed") == 0
    assert count(db, "Committed") == 2


def check_transactions_roll_back(db: Database) -> None:
    try:
        with db.transaction() as tx:
            tx.query("CREATE (:RolledBack)")
            raise KeyError("a reason of the program's own")
    except KeyError:
        pass
    assert count(db, "RolledBack") == 0


def check_a_conflict_can_be_retried(db: Database) -> None:
    db.query("CREATE (:Contended {x: 0})")
    second = db.transaction()
    second.__enter__()
    second.query("MATCH (n:Contended) SET n.x = 2")
    with db.transaction() as first:
        first.query("MATCH (n:Contended) SET n.x = 1")
    try:
        second.__exit__(None, None, None)
    except QueryError as error:
        assert error.retryable
        assert error.outcome == "not done"
    else:
        raise AssertionError("both were committed")
    assert db.query("MATCH (n:Contended) RETURN n.x").single()[0] == 1


def check_errors(db: Database) -> None:
    error = expect_error("Neo.ClientError.Statement.SyntaxError", lambda: db.query("RETURN ("))
    assert not error.retryable
    assert error.outcome == "not done"
    assert "RETURN (" in str(error)
    read = "Neo.ClientError.Statement.AccessMode"
    expect_error(read, lambda: db.query("CREATE (:No)", read=True))
    assert count(db, "No") == 0


def check_a_query_has_a_time_limit(db: Database) -> None:
    endless = "UNWIND range(1, 1000000000000) AS x WITH x WHERE x < 0 RETURN count(x)"
    code = "Neo.ClientError.Transaction.TransactionTimedOut"
    expect_error(code, lambda: db.query(endless, timeout=0.5).all())


def check_reads_show_own_writes(db: Database) -> None:
    for x in range(1, 51):
        db.query("CREATE (:Own {x: $x})", x=x)
        assert count(db, "Own", read=True) == x


def check_values(db: Database) -> None:
    db.query("CREATE (:A:B {x: 1, on: $on})-[:R {y: 2}]->(:B {x: 3})", on=Date(2024, 2, 29))
    a, r, b, path = db.query("MATCH p = (a:A)-[r:R]->(b) RETURN a, r, b, p").single()
    assert isinstance(a, rayft.Node) and isinstance(b, rayft.Node)
    assert isinstance(r, rayft.Relationship) and isinstance(path, rayft.Path)
    assert set(a.labels) == {"A", "B"}
    assert a.properties == {"x": 1, "on": Date(2024, 2, 29)}
    assert (r.type, r.properties) == ("R", {"y": 2})
    assert list(path.nodes) == [a, b]
    assert list(path.relationships) == [r]
    nested = {"list": [1, None, [b"\x00"]], "map": {"k": 1.5}}
    assert db.query("RETURN $nested", nested=nested).single()[0] == nested


def check_async_twins(db: Database) -> None:
    async def work() -> None:
        await db.aquery("CREATE (:Async {x: 1})")
        result = await db.aquery(f"UNWIND range(1, {ROWS}) AS x RETURN x")
        rows = [record[0] async for record in result]
        assert rows == list(range(1, ROWS + 1))
        result = await db.aquery(f"UNWIND range(1, {ROWS}) AS x RETURN x")
        sizes = [len(batch) async for batch in result.abatches()]
        assert sum(sizes) == ROWS and len(sizes) > 1
        async with db.transaction() as tx:
            await tx.aquery("CREATE (:Async {x: 2})")
        try:
            async with db.transaction() as tx:
                await tx.aquery("CREATE (:Async {x: 3})")
                raise KeyError
        except KeyError:
            pass
        counts = await asyncio.gather(
            *(db.aquery("MATCH (n:Async) RETURN count(n)") for _ in "1234")
        )
        assert [result.all()[0][0] for result in counts] == [2] * 4

    asyncio.run(work())


def check_threads_share_a_handle(db: Database) -> None:
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for x in range(20):
                db.query("CREATE (:Threaded {by: $by, x: $x})", by=thread, x=x)
                query = "MATCH (n:Threaded {by: $by}) RETURN count(n)"
                assert db.query(query, by=thread).single()[0] == x + 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert count(db, "Threaded") == 80


def check_information(db: Database) -> None:
    servers = whole(db)
    assert [s["server_id"] for s in servers] == [1, 2, 3]
    assert sorted(s["role"] for s in servers) == ["FOLLOWER", "FOLLOWER", "LEADER"]
    storage = db.storage_info()
    assert len(storage) == 15
    assert {record["server id"] for record in storage} == {1, 2, 3}


def check_an_embedded_ray_is_for_this_machine_alone(db: Database) -> None:
    # This program imported Ray before the database could set its environment.
    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}


def check_backup_and_restore(db: Database) -> None:
    path = Path("graph.backup")
    before = db.query("MATCH (n) RETURN count(n)").single()[0]
    head = db.backup(path)
    assert head.nodes == before
    db.query("CREATE (:AfterBackup)")
    expect_error("Neo.ClientError.Request.Invalid", lambda: db.restore(path))
    assert count(db, "AfterBackup") == 1
    assert db.restore(path, replace=True) == head
    assert count(db, "AfterBackup") == 0
    assert db.query("MATCH (n) RETURN count(n)").single()[0] == before
    assert db.backup(path).digest == head.digest
    path.write_bytes(path.read_bytes()[:-1])
    try:
        db.restore(path, replace=True)
    except rayft.RayftError as error:
        assert "no sound backup" in str(error)
    else:
        raise AssertionError("a damaged file was taken")


def check_another_handle(db: Database) -> None:
    with rayft.connect() as other:
        other.query("CREATE (:Other)")
        assert count(other, "Other") == 1
    assert count(db, "Other") == 1


def check_the_leader_may_die(db: Database) -> None:
    leader = next(s for s in whole(db) if s["role"] == "LEADER")
    db.query("CREATE (:Before)")
    os.kill(leader["pid"], signal.SIGKILL)
    for x in range(10):
        db.query("CREATE (:During {x: $x})", x=x)
    assert (count(db, "Before"), count(db, "During")) == (1, 10)
    whole(db)


def check_a_transaction_on_a_dead_leader_can_be_retried(db: Database) -> None:
    leader = next(s for s in whole(db) if s["role"] == "LEADER")
    tx = db.transaction()
    tx.__enter__()
    tx.query("CREATE (:Lost)")
    os.kill(leader["pid"], signal.SIGKILL)
    code = "Neo.TransientError.Transaction.LeaderSwitch"
    error = expect_error(code, lambda: tx.__exit__(None, None, None))
    assert error.retryable
    assert count(db, "Lost") == 0
    whole(db)


def check_servers_come_and_go(db: Database) -> None:
    whole(db)
    assert [record["id"] for record in db.servers()] == [1, 2, 3]
    leader = next(record["id"] for record in db.servers() if record["role"] == "leader")
    target = leader % 3 + 1
    assert db.transfer_leadership(target) == f"server {target} leads"
    assert "learner" in db.add_server(4, "127.0.0.1:7004", learner=True)
    db.query("CREATE (:WithFour)")
    roles = {record["id"]: record["role"] for record in db.servers()}
    assert roles[4] == "learner"
    assert "removed" in db.remove_server(4)
    error = expect_error(
        "Neo.ClientError.Statement.ArgumentError", lambda: db.add_server(4, "127.0.0.1:7004")
    )
    assert error.outcome == "not done"
    assert not error.retryable
    expect_error("Neo.ClientError.Statement.SyntaxError", lambda: db.add_server(5, "nowhere"))
    assert count(db, "WithFour") == 1


def whole(db: Database) -> list[dict[str, Any]]:
    """What all three servers say, once one of them leads."""
    deadline = time.monotonic() + TRIES_SECONDS
    while True:
        servers = db.raft_info()
        if len(servers) == 3 and [s["role"] for s in servers].count("LEADER") == 1:
            return servers
        assert time.monotonic() < deadline, servers
        time.sleep(0.05)


def driver_to(port: int) -> Driver:
    """Connected to a gateway that comes up after its server has been added."""
    deadline = time.monotonic() + TRIES_SECONDS
    while True:
        driver = GraphDatabase.driver(f"bolt://127.0.0.1:{port}")
        try:
            driver.verify_connectivity()
            return driver
        except ServiceUnavailable:
            driver.close()
            assert time.monotonic() < deadline
            time.sleep(0.05)


def report(name: str, work: Callable[[], None]) -> None:
    try:
        work()
        error = None
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps({"name": name, "error": error}), flush=True)


def main(directory: str, port: int) -> None:
    checks = {name: work for name, work in globals().items() if name.startswith("check_")}
    with rayft.connect(directory=directory, port=port) as db:
        for name, work in checks.items():
            report(name, partial(work, db))

    def again() -> None:
        assert not ray.is_initialized()
        with rayft.connect(directory=directory, port=port) as db:
            assert count(db, "Own") == 50
            db.add_server(5, "127.0.0.1:7005", learner=True)
            driver = driver_to(port + 4)
            client = driver.session().begin_transaction()
            client.run("RETURN 1").consume()
            db.remove_server(5)
            deadline = time.monotonic() + TRIES_SECONDS
            while any(server["server_id"] == 5 for server in db.raft_info()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            # Its gateway waits for the client, and is to be ended after that, while all is closed.
        driver.close()
        for call in (lambda: db.query("RETURN 1"), db.raft_info, db.servers):
            expect_closed(call)
        time.sleep(LATE_CALLS_SECONDS)
        assert not ray.is_initialized(), "something called Ray after the end, and started it anew"

    report("closed_and_opened_again", again)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
