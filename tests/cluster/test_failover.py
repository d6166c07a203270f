"""Servers are killed while clients write: what was acknowledged is there, once, and nowhere else.

The *storm* is run once for several tests: threads write through both schemes, with managed and with
autocommit transactions, while the leader gets SIGKILL again and again. Each write carries an id of
its own, and what its client was told is noted beside it; the tests compare these notes with the
graph, at every server. The later tests kill more than the leader.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import DriverError, Neo4jError, TransientError
from running import SERVERS, Cluster, eventually, values

pytestmark = pytest.mark.cluster

KILLS = 4
OUTCOME_UNKNOWN = "Neo.DatabaseError.Transaction.TransactionCommitFailed"
LEADER_SWITCH = "Neo.TransientError.Transaction.LeaderSwitch"
GRAPH = "MATCH (n) RETURN id(n), labels(n), properties(n) ORDER BY id(n)"


@dataclass
class Writer:
    """A thread that writes one id after the other, and what became of each."""

    driver: neo4j.Driver
    label: str
    managed: bool
    number: int
    ids: Iterator[int]
    acknowledged: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)  # told: not done, try again
    unknown: list[int] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    bookmarks: Any = None

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with self.driver.session() as session:
            while not self._stopped.is_set():
                self._write(session, next(self.ids))
            self.bookmarks = session.last_bookmarks()

    def _write(self, session: neo4j.Session, number: int) -> None:
        try:
            if self.managed:
                session.execute_write(self._transaction, number)
            else:
                session.run(f"CREATE (:{self.label} {{id: $id}})", id=number).consume()
        except (Neo4jError, DriverError) as error:
            self.errors.append(error)
            told = isinstance(error, Neo4jError) and error.is_retryable()
            (self.refused if told else self.unknown).append(number)
        else:
            self.acknowledged.append(number)

    def _transaction(self, tx: neo4j.ManagedTransaction, number: int) -> None:
        tx.run(f"CREATE (:{self.label} {{id: $id}})", id=number)
        # Its own counter: on a shared one, conflicts would hide how the driver rides out the kills.
        query = "MERGE (c:Counter {of: $label, by: $by}) SET c.x = coalesce(c.x, 0) + 1"
        tx.run(query, label=self.label, by=self.number)

    def wait_for_progress(self, writes: int = 5) -> None:
        """Until some more writes were acknowledged, or it became clear that none will be."""
        before = len(self.acknowledged)
        eventually(
            lambda: len(self.acknowledged) >= before + writes or not self._thread.is_alive(),
            f"writes of {self.label} are acknowledged again",
        )

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"a write of {self.label} does not end"


class Writers:
    """Several writers with their drivers; a context manager that stops them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._drivers: list[neo4j.Driver] = []
        self.all: list[Writer] = []

    def add(self, server: int, scheme: str, label: str, *, managed: bool, threads: int = 1) -> None:
        url = f"{scheme}://{self._cluster.address(server)}"
        driver = neo4j.GraphDatabase.driver(url)  # as a user has it: the driver's own defaults
        self._drivers.append(driver)
        ids = itertools.count()
        self.all += [Writer(driver, label, managed, number, ids) for number in range(threads)]

    def stop(self) -> None:
        for writer in self.all:
            writer.stop()
        for driver in self._drivers:
            driver.close()

    def bookmarks(self) -> neo4j.Bookmarks:
        sets = [w.bookmarks.raw_values for w in self.all if w.bookmarks]
        return neo4j.Bookmarks.from_raw_values(b for bookmarks in sets for b in bookmarks)

    def of(self, label: str) -> list[Writer]:
        return [writer for writer in self.all if writer.label == label]

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def check(writers: list[Writer], rows: list[Any]) -> None:
    """Each acknowledged id is there once, no other twice, and none that was refused."""
    found = Counter(row[0] for row in rows)
    acknowledged = {i for w in writers for i in w.acknowledged}
    refused = {i for w in writers for i in w.refused}
    unknown = {i for w in writers for i in w.unknown}
    assert not [i for i, times in found.items() if times > 1], "done twice"
    assert not acknowledged - set(found), "acknowledged and lost"
    assert not refused & set(found), "called undone and done"
    assert not set(found) - acknowledged - unknown, "done without a word"


# --- The leader is killed again and again ---------------------------------------------------------

MANAGED = ("ManagedBolt", "ManagedNeo4j")
SINGLE = ("SingleBolt", "SingleNeo4j")


@pytest.fixture(scope="module")
def storm(cluster: Cluster) -> Writers:
    """The history of clients that wrote while the leader was killed ``KILLS`` times."""
    with Writers(cluster) as writers:
        writers.add(1, "bolt", "ManagedBolt", managed=True, threads=2)
        writers.add(2, "neo4j", "ManagedNeo4j", managed=True, threads=2)
        writers.add(3, "bolt", "SingleBolt", managed=False)
        writers.add(1, "neo4j", "SingleNeo4j", managed=False)
        for _ in range(KILLS):
            leader = cluster.wait_until_whole()
            for writer in writers.all:
                writer.wait_for_progress()
            assert cluster.kill(leader)
            for writer in writers.all:
                writer.wait_for_progress()
    cluster.wait_until_whole()
    return writers


@pytest.mark.parametrize("label", MANAGED)
def test_managed_transactions_never_hear_of_it(storm: Writers, label: str) -> None:
    assert [error for writer in storm.of(label) for error in writer.errors] == []


@pytest.mark.parametrize("label", [*MANAGED, *SINGLE])
@pytest.mark.parametrize("server", SERVERS)
def test_what_was_acknowledged_is_there_once(
    cluster: Cluster, storm: Writers, label: str, server: int
) -> None:
    rows = cluster.read(server, f"MATCH (n:{label}) RETURN n.id", storm.bookmarks())
    check(storm.of(label), rows)
    assert len(rows) >= 2 * 5 * KILLS


@pytest.mark.parametrize("label", MANAGED)
def test_counters_count_what_was_committed(cluster: Cluster, storm: Writers, label: str) -> None:
    query = f"MATCH (c:Counter {{of: '{label}'}}) RETURN c.by, c.x ORDER BY c.by"
    done = [[writer.number, len(writer.acknowledged)] for writer in storm.of(label)]
    assert cluster.read(1, query, storm.bookmarks()) == done


@pytest.mark.parametrize("label", SINGLE)
def test_an_autocommit_write_is_retried_by_the_gateway(storm: Writers, label: str) -> None:
    (writer,) = storm.of(label)
    assert writer.errors == []


def test_all_servers_have_the_same_graph(cluster: Cluster, storm: Writers) -> None:
    graphs = [cluster.read(server, GRAPH, storm.bookmarks()) for server in SERVERS]
    assert graphs[0] == graphs[1] == graphs[2]
    assert graphs[0]


# --- More than the leader -------------------------------------------------------------------------


def test_a_transaction_open_on_a_killed_leader_can_be_tried_again(cluster: Cluster) -> None:
    leader = cluster.wait_until_whole()
    follower = next(s for s in SERVERS if s != leader)
    with cluster.driver(follower) as driver, driver.session() as one, driver.session() as two:
        running, committing = one.begin_transaction(), two.begin_transaction()
        for tx in (running, committing):
            tx.run("CREATE (:Interrupted)").consume()
        before = cluster.pid(leader)
        assert cluster.kill(leader) == before
        with pytest.raises(TransientError) as caught:
            running.run("RETURN 1").consume()
        assert caught.value.code == LEADER_SWITCH
        with pytest.raises(TransientError) as caught:
            committing.commit()
        assert caught.value.code == LEADER_SWITCH
        running.close()
        assert values(one, "MATCH (n:Interrupted) RETURN count(n)") == [[0]]
    cluster.wait_until_whole()
    assert cluster.pid(leader) != before


def test_a_killed_gateway_comes_back(cluster: Cluster) -> None:
    cluster.wait_until_whole()
    gateways = {p for p, words in cluster.place.processes().items() if "GatewayActor" in words}
    assert len(gateways) == 3
    for process in gateways:
        os.kill(process, signal.SIGKILL)
    eventually(lambda: gateways.isdisjoint(cluster.place.processes()), "the gateways are gone")
    cluster.wait_until_whole()
    with cluster.driver(2, "neo4j") as driver:
        driver.execute_query("CREATE (:AfterGateways)")


def test_all_servers_are_killed_at_once(cluster: Cluster) -> None:
    cluster.wait_until_whole()
    with Writers(cluster) as writers:
        writers.add(1, "bolt", "AllKilled", managed=False, threads=3)
        for writer in writers.all:
            writer.wait_for_progress(50)
        before = [cluster.pid(server) for server in SERVERS]
        for server in SERVERS:
            assert cluster.kill(server)
        for writer in writers.all:
            writer.wait_for_progress()
    cluster.wait_until_whole()
    assert not set(before) & {cluster.pid(server) for server in SERVERS}
    for server in SERVERS:
        rows = cluster.read(server, "MATCH (n:AllKilled) RETURN n.id", writers.bookmarks())
        check(writers.all, rows)


def test_everything_is_killed_at_once_and_started_again(cluster: Cluster) -> None:
    cluster.wait_until_whole()
    with Writers(cluster) as writers:
        writers.add(2, "bolt", "PowerCut", managed=False, threads=3)
        for writer in writers.all:
            writer.wait_for_progress(50)
        cluster.place.kill_everything()
    cluster.start()
    for server in SERVERS:
        check(writers.all, cluster.read(server, "MATCH (n:PowerCut) RETURN n.id"))
    graphs = [cluster.read(server, GRAPH) for server in SERVERS]
    assert graphs[0] == graphs[1] == graphs[2]
