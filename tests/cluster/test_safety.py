"""What must hold when things go wrong, on real processes: outcomes, divergence, disks, recovery."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import DriverError, Neo4jError, TransientError
from running import (
    Cluster,
    Place,
    connect,
    eventually,
    free_ports,
    values,
    write_configuration,
)

from actors.disk import FileDisk
from actors.limits import DISK_FREE_BYTES_MIN

pytestmark = pytest.mark.cluster

PROGRAM = Path(__file__).parent / "safety_program.py"
NAME = "rayft.transaction_id"
KILLS = 3
WRITES = 60


def outcome(session: Any, name: str) -> str:
    record = session.run("SHOW TRANSACTION OUTCOME $id", id=name).single(strict=True)
    return str(record["outcome"])


# --- Outcomes -------------------------------------------------------------------------------------


def named(name: str) -> neo4j.Query:
    return neo4j.Query("CREATE (:Named {name: $name}) RETURN 1 AS one", metadata={NAME: name})


def test_a_named_write_is_done_once(cluster: Cluster) -> None:
    with cluster.driver() as driver, driver.session() as session:
        first = session.run(named("a"), name="a")
        assert [r["one"] for r in first] == [1]
        again = session.run(named("a"), name="a")
        assert again.keys() == ["one"] and list(again) == []
        assert again.consume().metadata["repeated"] is True
        with session.begin_transaction(metadata={NAME: "t"}) as tx:
            tx.run("CREATE (:Named {name: 't'})")
        assert outcome(session, "a") == outcome(session, "t") == "committed"
        assert outcome(session, "never sent") == "not committed"
        with pytest.raises(Neo4jError, match="never will be committed"):
            session.run(named("never sent"), name="x").consume()
        rows = values(session, "MATCH (n:Named) RETURN n.name ORDER BY n.name")
        assert rows == [["a"], ["t"]]
        with pytest.raises(Neo4jError, match="1 to 128 bytes"):
            session.run(named("x" * 200), name="x").consume()


def test_named_writes_that_are_tried_until_they_are_done_are_done_once(cluster: Cluster) -> None:
    """The leader is killed again and again; whoever is told "unknown" asks, or tries again."""
    kills = 0
    told: dict[str, int] = {"committed": 0, "not committed": 0, "repeated": 0, "unknown": 0}
    with cluster.driver(scheme="neo4j") as driver:
        for number in range(WRITES):
            if number % (WRITES // KILLS) == 5:
                cluster.kill(cluster.wait_until_whole())
                kills += 1
            _write_once(driver, f"write {number}", told)
        with driver.session() as session:
            rows = values(
                session, "MATCH (n:Storm) RETURN n.name, count(*) AS times ORDER BY n.name"
            )
            assert all(
                outcome(session, f"write {number}") == "committed" for number in range(WRITES)
            )
    assert kills == KILLS
    assert sorted(rows) == sorted([f"write {number}", 1] for number in range(WRITES)), told
    cluster.wait_until_whole()


def _write_once(driver: neo4j.Driver, name: str, told: dict[str, int]) -> None:
    """Run one write to its end, whatever happens: each attempt carries the same name."""
    query = neo4j.Query("CREATE (:Storm {name: $name})", metadata={NAME: name})

    def attempt() -> bool:
        try:
            with driver.session() as session:
                summary = session.run(query, name=name).consume()
                told["repeated"] += bool(summary.metadata.get("repeated"))
                return True
        except TransientError:
            return False
        except (Neo4jError, DriverError):
            told["unknown"] += 1
            return False

    eventually(attempt, f"{name} is done")


# --- Divergence -----------------------------------------------------------------------------------


def test_a_server_whose_memory_went_bad_takes_the_others_state() -> None:
    with Place() as place:
        arguments = [str(place.data), str(free_ports(4))]
        program = place.run_program([sys.executable, str(PROGRAM), *arguments])
        status = program.wait(seconds=400)
        assert status == 0, program.output
        assert program.lines[-1] == "ok"


# --- Recovery -------------------------------------------------------------------------------------


def test_two_of_three_died_and_the_last_one_goes_on(place: Place) -> None:
    cluster = Cluster(place)
    cluster.start()
    with cluster.driver() as driver:
        driver.execute_query("UNWIND range(1, 100) AS x CREATE (:N {x: x})")
    eventually(
        lambda: cluster.read(2, "MATCH (n:N) RETURN count(n)") == [[100]], "server 2 has it all"
    )
    cluster.stop()
    place.wait_until_empty()
    survivor = place.data / "server_2"
    for server in (1, 3):
        shutil.rmtree(place.data / f"server_{server}")

    refused = _recover(place, survivor, "no")
    assert refused.returncode == 1 and "Nothing was changed" in refused.stderr
    assert "acknowledged and never reached this server are lost" in refused.stdout
    cluster_id = next(
        line.split()[1] for line in refused.stdout.splitlines() if line.startswith("cluster")
    )
    done = _recover(place, survivor, cluster_id)
    assert done.returncode == 0, done.stderr
    assert "Server 2 is the only member" in done.stdout
    assert list(survivor.glob("before-recovery-*/raft/*.wal"))

    port, rpc_port = free_ports(1), free_ports(4)
    flags = write_configuration(place, rpc_port)
    file = place.path / "coordination.json"
    members = json.loads(file.read_text())
    file.write_text(json.dumps([members[1]]))
    command = place.run(*flags, "--server_id=2", "--join", f"--port={port}")
    command.wait_for(r"^server 2 leads")
    with connect(f"bolt://127.0.0.1:{port}") as driver, driver.session() as session:
        assert values(session, "MATCH (n:N) RETURN count(n), sum(n.x)") == [[100, 5050]]
        session.run("CREATE (:After)").consume()
        servers = [r["id"] for r in session.run("SHOW SERVERS")]
    assert servers == [2]
    assert command.stop() == 0, command.output


def _recover(place: Place, directory: Path, answer: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "actors.cli", "recover", str(directory), "--yes-lose-data", answer],
        cwd=place.path,
        env=place.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# --- A disk that fills up -------------------------------------------------------------------------


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """A file system of its own, so small that it can be filled. Root only."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system of a few megabytes takes root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_fills_up_refuses_writes_and_recovers(place: Place) -> None:
    with small_disk(place.path / "data", DISK_FREE_BYTES_MIN + 128 * 2**20) as disk:
        cluster = Cluster(place)
        cluster.start()
        with cluster.driver(max_transaction_retry_time=0.0) as driver, driver.session() as session:
            session.run("CREATE (:N)").consume()
            ballast = disk / "ballast"
            with ballast.open("wb") as file:
                while FileDisk(disk).free_bytes() > DISK_FREE_BYTES_MIN - 4 * 2**20:
                    file.write(bytes(2**20))
                    file.flush()
            refused = eventually(lambda: _refusal(session), "writes are refused")
            assert "is nearly full" in refused and "Nothing was done" in refused
            count = values(session, "MATCH (n) RETURN count(n)")
            time.sleep(1.0)
            assert values(session, "MATCH (n) RETURN count(n)") == count
            ballast.unlink()
            eventually(lambda: not _refusal(session), "writes are taken again")
        cluster.wait_until_whole()
        cluster.stop()
        place.wait_until_empty()


def _refusal(session: Any) -> str:
    try:
        session.run("CREATE (:N)").consume()
    except TransientError as error:
        return str(error.message)
    return ""
