"""A log compacted after every 50 entries, and what depends on it: followers and restarts."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neo4j
import pytest
from running import SERVERS, Cluster, Place, eventually, values, write_configuration

pytestmark = pytest.mark.cluster

THRESHOLD = 50
CHUNK_BYTES = 256 * 1024
NODES = 6_000
FIRST_SEGMENT = "0000000000000001.wal"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three servers of two configuration files, in one command."""
    with Place() as place:
        files = write_configuration(place, log_size_snapshot_threshold=THRESHOLD)
        running = Cluster(place, *files)
        running.start()
        yield running
        running.stop()


@pytest.fixture(scope="module", autouse=True)
def _written(cluster: Cluster) -> None:
    """A graph of some megabytes and a log of some hundred entries."""
    with cluster.driver(1, "neo4j") as driver, driver.session() as session:
        session.run("CREATE INDEX FOR (n:Word) ON (n.id)").consume()
        create_words(session, 0)
        query = (
            "MATCH (a:Word) WHERE a.id < 2000 MATCH (b:Word {id: 2 * a.id}) CREATE (a)-[:HALF]->(b)"
        )
        session.run(query).consume()
        write_some(session, 6 * THRESHOLD)


def create_words(session: neo4j.Session, first: int) -> None:
    """``NODES`` nodes with ids from ``first`` on and some text that does not compress well."""
    chance = random.Random(first)
    for start in range(first, first + NODES, 2_000):
        rows = [{"id": i, "text": chance.randbytes(100).hex()} for i in range(start, start + 2_000)]
        session.run("UNWIND $rows AS row CREATE (n:Word) SET n = row", rows=rows).consume()


def write_some(session: neo4j.Session, count: int) -> None:
    for x in range(count):
        session.run("CREATE (:Single {x: $x})", x=x).consume()


def digest(cluster: Cluster, server: int, bookmarks: Any = None) -> str:
    """A checksum of the whole graph as one server has it, at least as of the bookmarks."""
    found = hashlib.sha256()
    for query in (
        "MATCH (n) RETURN id(n), labels(n), properties(n) ORDER BY id(n)",
        "MATCH (a)-[r]->(b) RETURN id(r), type(r), id(a), id(b) ORDER BY id(r)",
    ):
        for row in cluster.read(server, query, bookmarks):
            found.update(repr(row).encode())
    return found.hexdigest()


def snapshots(cluster: Cluster, server: int) -> list[Path]:
    return sorted((cluster.place.data / f"server_{server}" / "snapshots").glob("*.snapshot"))


def server_log(cluster: Cluster, server: int) -> str:
    return (cluster.place.data / f"server_{server}" / "log" / "server.log").read_text()


@pytest.mark.parametrize("server", SERVERS)
def test_a_snapshot_takes_the_place_of_the_log_before_it(cluster: Cluster, server: int) -> None:
    first = cluster.place.data / f"server_{server}" / "raft" / FIRST_SEGMENT
    eventually(lambda: snapshots(cluster, server), "there is a snapshot")
    eventually(lambda: not first.exists(), "the first segment of the log is gone")
    assert len(snapshots(cluster, server)) <= 2


def test_a_server_that_fell_far_behind_is_filled_by_a_snapshot(cluster: Cluster) -> None:
    leader = cluster.wait_until_whole()
    asleep, other = (s for s in SERVERS if s != leader)
    process = cluster.pid(asleep)
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    try:
        with cluster.driver(leader) as driver, driver.session() as session:
            create_words(session, NODES)
            write_some(session, 3 * THRESHOLD)
            bookmarks = session.last_bookmarks()
    finally:
        os.kill(process, signal.SIGCONT)

    def installed() -> bool:
        return "snapshot installed" in server_log(cluster, asleep)

    eventually(installed, "the snapshot has arrived and is installed")
    assert snapshots(cluster, asleep)[-1].stat().st_size > 3 * CHUNK_BYTES
    assert digest(cluster, asleep, bookmarks) == digest(cluster, other, bookmarks)
    assert cluster.pid(asleep) == process

    cluster.wait_until_whole()
    with cluster.driver(asleep, "neo4j") as driver, driver.session() as session:
        write_some(session, 2 * THRESHOLD)
        bookmarks = session.last_bookmarks()
    assert len({digest(cluster, server, bookmarks) for server in SERVERS}) == 1


def test_a_restart_from_snapshot_and_log_has_everything(cluster: Cluster) -> None:
    with cluster.driver(1, "neo4j") as driver, driver.session() as session:
        write_some(session, THRESHOLD // 2)
        bookmarks = session.last_bookmarks()
    before = digest(cluster, 1, bookmarks)

    cluster.stop()
    assert all(snapshots(cluster, server) for server in SERVERS)
    cluster.start()

    assert [digest(cluster, server) for server in SERVERS] == [before] * 3
    with cluster.driver(3, "neo4j") as driver, driver.session() as session:
        assert values(session, "MATCH (n:Word {id: 1234}) RETURN count(n)") == [[1]]
        assert len(values(session, "SHOW INDEXES")) == 1
        write_some(session, THRESHOLD)
