"""Backups of a running cluster, and what becomes of one in another cluster.

A backup names the digest of its graph. So "the same graph" is tested by making a backup of each
server afterwards and comparing what they say of themselves.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import DriverError, Neo4jError, TransientError
from running import SERVERS, Cluster, Place, eventually, values

from actors import limits
from actors.backup_file import BackupHead
from actors.backup_transfer import inspect_backup, receive_backup, send_backup, verify_backup

pytestmark = pytest.mark.cluster

NODES = 12_000  # several megabytes that do not compress
SMALL = "RETURN 1"


@dataclass
class Saved:
    """A backup that was made under load, and a place for files."""

    file: Path
    head: BackupHead
    folder: Path
    acknowledged_before: int  # writes that were acknowledged before the backup was begun
    attempted: int


class Load:
    """A thread that writes numbered nodes until it is stopped."""

    def __init__(self, cluster: Cluster, server: int) -> None:
        self.acknowledged = 0
        self.attempted = 0
        self.errors: list[Exception] = []
        self._cluster, self._server = cluster, server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with self._cluster.driver(self._server) as driver, driver.session() as session:
            while not self._stopped.is_set():
                self.attempted += 1
                try:
                    session.run("CREATE (:Load {number: $n})", n=self.attempted).consume()
                    self.acknowledged = self.attempted
                except (Neo4jError, DriverError) as error:
                    self.errors.append(error)

    def wait_for(self, count: int) -> None:
        eventually(lambda: self.acknowledged >= count, "writes are acknowledged")

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def fill(session: neo4j.Session) -> None:
    chance = random.Random(1)
    session.run("CREATE CONSTRAINT FOR (n:Word) REQUIRE n.id IS UNIQUE").consume()
    session.run("CREATE INDEX FOR (n:Word) ON (n.text)").consume()
    for start in range(0, NODES, 2_000):
        rows = [
            {"id": i, "text": chance.randbytes(350).hex(), "list": [i, 2 * i]}
            for i in range(start, start + 2_000)
        ]
        session.run("UNWIND $rows AS row CREATE (n:Word) SET n = row", rows=rows).consume()
    session.run(
        "MATCH (a:Word) WHERE a.id % 2 = 0 MATCH (b:Word {id: a.id + 1}) "
        "CREATE (a)-[:NEXT {since: date('2024-02-29'), at: point({x: a.id, y: 1})}]->(b)"
    ).consume()


def run_command(cluster: Cluster, *arguments: str) -> tuple[int, str]:
    """``memgraph_ha`` with a subcommand: its exit status, and what it said."""
    script = Path(sys.executable).parent / "memgraph_ha"
    program = [str(script)] if script.exists() else [sys.executable, "-m", "actors.cli"]
    command = cluster.place.run_program([*program, *arguments])
    return command.wait(180), command.output


def digests(cluster: Cluster, folder: Path) -> list[str]:
    """The digest of each server's graph, all of them as of the same moment or later."""
    with cluster.driver(1, "neo4j") as driver, driver.session() as session:
        session.run(SMALL).consume()  # a read on the leader: its bookmark is of this moment
        bookmarks = session.last_bookmarks()
    found = []
    for server in SERVERS:
        with (
            cluster.driver(server) as driver,
            driver.session(bookmarks=bookmarks, fetch_size=32) as session,
        ):
            rows = (record["part"] for record in session.run("BACKUP DATABASE"))
            found.append(receive_backup(folder / f"of_{server}", rows).digest)
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A backup from a follower of a first cluster, made while clients write to it."""
    folder = tmp_path_factory.mktemp("backups")
    file = folder / "graph.backup"
    with Place() as place:
        cluster = Cluster(place)
        cluster.start()
        with cluster.driver(1, "neo4j") as driver, driver.session() as session:
            fill(session)
        leader = cluster.wait_until_whole()
        follower = next(server for server in SERVERS if server != leader)
        load = Load(cluster, leader)
        load.wait_for(20)
        with cluster.driver(leader) as driver, driver.session() as session:
            before = load.acknowledged
            session.run("CREATE (:Marker)").consume()
            bookmarks = session.last_bookmarks()
        cluster.read(follower, SMALL, bookmarks)  # it has applied the marker, and what was before
        status, output = run_command(
            cluster, "backup", str(file), f"--address={cluster.address(follower)}"
        )
        assert status == 0, output
        attempted = load.attempted
        load.wait_for(load.acknowledged + 5)
        load.stop()
        assert load.errors == []
        cluster.stop()
    return Saved(file, inspect_backup(file), folder, before, attempted)


@pytest.fixture(scope="module")
def cluster(saved: Saved) -> Iterator[Cluster]:
    """A second cluster, empty at first. The first one is gone."""
    with Place() as place:
        running = Cluster(place)
        running.start()
        yield running
        running.stop()


def restore(cluster: Cluster, file: Path, *flags: str, server: int = 1) -> tuple[int, str]:
    return run_command(
        cluster, "restore", str(file), f"--address={cluster.address(server)}", *flags
    )


def test_a_backup_shows_one_moment(saved: Saved) -> None:
    head = verify_backup(saved.file)
    assert head == saved.head
    assert NODES + saved.acknowledged_before < head.nodes <= NODES + 1 + saved.attempted
    assert head.relationships == NODES // 2
    assert saved.file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in saved.folder.iterdir() if "part" in path.name] == []


def test_a_damaged_file_is_refused_before_anything_is_sent(saved: Saved, cluster: Cluster) -> None:
    data = bytearray(saved.file.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = saved.folder / "damaged"
    damaged.write_bytes(data)
    status, output = restore(cluster, damaged)
    assert status == 1
    assert "does not check" in output
    assert cluster.read(1, "MATCH (n) RETURN count(n)") == [[0]]


def test_into_an_empty_cluster(saved: Saved, cluster: Cluster) -> None:
    leader = cluster.wait_until_whole()
    follower = next(server for server in SERVERS if server != leader)
    status, output = restore(cluster, saved.file, server=follower)
    assert status == 0, output
    assert digests(cluster, saved.folder) == [saved.head.digest] * 3
    with cluster.driver(follower, "neo4j") as driver, driver.session() as session:
        assert values(session, "MATCH (n:Word {id: 77}) RETURN count(n)") == [[1]]
        assert len(values(session, "SHOW CONSTRAINTS")) == 1
        with pytest.raises(Neo4jError, match="id"):
            session.run("CREATE (:Word {id: 77})").consume()
        session.run("CREATE (:Word {id: -1})-[:NEXT]->(:Word {id: -2})").consume()
        assert values(session, "MATCH (n:Word) WHERE n.id < 0 RETURN count(n)") == [[2]]


def test_nothing_is_overwritten_without_a_word(saved: Saved, cluster: Cluster) -> None:
    before = digests(cluster, saved.folder)
    status, output = restore(cluster, saved.file)
    assert status == 1
    assert "--replace" in output
    assert digests(cluster, saved.folder) == before


def test_into_a_running_cluster_while_clients_write(saved: Saved, cluster: Cluster) -> None:
    leader = cluster.wait_until_whole()
    with cluster.driver(leader) as driver, driver.session() as session:
        opened = session.begin_transaction()
        opened.run("MATCH (n:Word {id: 77}) SET n.id = -77").consume()
        load = Load(cluster, leader)
        load.wait_for(3)
        status, output = restore(cluster, saved.file, "--replace")
        assert status == 0, output
        with pytest.raises(TransientError, match="run it again"):
            opened.commit()
    load.wait_for(load.acknowledged + 3)
    load.stop()
    assert load.errors == []
    found = digests(cluster, saved.folder)
    assert len(set(found)) == 1
    loads = cluster.read(1, "MATCH (n:Load) RETURN count(n)")[0][0]
    assert loads < saved.attempted + load.attempted, "the old graph is still there"


def steps(session: neo4j.Session, after: int, do: Any) -> Any:
    """Runs the steps of a restore, and ``do`` once so many were done."""
    done = 0

    def run(statement: str, parameters: dict[str, Any]) -> list[list[Any]]:
        nonlocal done
        done += 1
        if done == after + 1:
            do()
        return [record.values() for record in session.run(statement, parameters)]

    return run


def test_the_leader_dies_half_way(saved: Saved, cluster: Cluster) -> None:
    leader = cluster.wait_until_whole()
    follower = next(server for server in SERVERS if server != leader)
    before = digests(cluster, saved.folder)
    assert saved.file.stat().st_size > 3 * limits.RESTORE_PART_BYTES_MAX
    with cluster.driver(follower) as driver, driver.session() as session:
        run = steps(session, 3, lambda: cluster.kill(leader))
        with pytest.raises(TransientError, match="Nothing of it was done"):
            send_backup(saved.file, run, replace=True)
    cluster.wait_until_whole()
    assert digests(cluster, saved.folder) == before
    status, output = restore(cluster, saved.file, "--replace")
    assert status == 0, output
    assert digests(cluster, saved.folder) == [saved.head.digest] * 3


def test_one_at_a_time_and_who_gives_up_makes_room(saved: Saved, cluster: Cluster) -> None:
    class Interrupted(Exception):
        pass

    def interrupt() -> None:
        status, output = restore(cluster, saved.file, "--replace")
        assert status == 1
        assert "Another restore is under way" in output
        raise Interrupted

    leader = cluster.wait_until_whole()
    before = digests(cluster, saved.folder)
    with (
        cluster.driver(leader) as driver,
        driver.session() as session,
        pytest.raises(Interrupted),
    ):
        send_backup(saved.file, steps(session, 2, interrupt), replace=True)
    assert digests(cluster, saved.folder) == before
    status, output = restore(cluster, saved.file, "--replace")
    assert status == 0, output


def test_no_more_backups_at_once_than_a_few(saved: Saved, cluster: Cluster) -> None:
    with cluster.driver(1) as driver:
        sessions = [driver.session(fetch_size=1) for _ in range(limits.BACKUPS_MAX + 1)]
        for session in sessions[:-1]:
            assert session.run("BACKUP DATABASE").peek() is not None
        with pytest.raises(TransientError, match="backups"):
            sessions[-1].run("BACKUP DATABASE").peek()
        for session in sessions[:-1]:
            session.close()
        result = sessions[-1].run("BACKUP DATABASE")
        head = receive_backup(saved.folder / "last", (row["part"] for row in result))
        assert head.digest == saved.head.digest
        sessions[-1].close()


def test_a_restored_graph_survives_a_restart(saved: Saved, cluster: Cluster) -> None:
    before = digests(cluster, saved.folder)
    cluster.stop()
    cluster.start()
    assert digests(cluster, saved.folder) == before
