"""The life of ``memgraph_ha`` as its operator sees it: start, stop, start again, and refusals."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from running import SERVERS, START_SECONDS, Cluster, Place, free_ports

from actors.identity import DataDirectory

pytestmark = pytest.mark.cluster


def test_a_start_says_where_bolt_listens_who_leads_and_where_the_data_lies(
    cluster: Cluster,
) -> None:
    said = cluster.command.output
    for server in SERVERS:
        directory = cluster.place.data / f"server_{server}"
        line = f"server {server}: Bolt on {cluster.address(server)}, data in {directory}"
        assert line in said
        assert (directory / "identity.json").is_file()
    assert f"ready: bolt://{cluster.address(1)}" in said
    leader = cluster.wait_until_whole()
    cluster.command.wait_for(rf"^server {leader} leads \(term \d+\)")


def test_after_a_stop_nothing_runs_and_a_restart_has_the_data(cluster: Cluster) -> None:
    with cluster.driver() as driver, driver.session() as session:
        session.run("CREATE (:Kept {name: 'Ada'})-[:KNOWS {since: 1833}]->(:Kept {name: 'Bob'})")
        session.run("CREATE INDEX FOR (n:Kept) ON (n.name)").consume()

    assert cluster.command.stop(signal.SIGINT) == 0
    cluster.place.wait_until_empty()
    assert cluster.command.lines[-1] == "stopped"
    cluster.start()

    query = "MATCH (a:Kept)-[r:KNOWS]->(b:Kept) RETURN a.name, r.since, b.name"
    for server in SERVERS:
        assert cluster.read(server, query) == [["Ada", 1833, "Bob"]]
        assert len(cluster.read(server, "SHOW INDEXES")) == 1


def test_a_second_command_on_the_same_directory_is_refused(cluster: Cluster) -> None:
    second = cluster.place.run(f"--port={free_ports(3)}")

    assert second.wait(START_SECONDS) == 1
    assert "is in use by another running server. Stop that one first" in second.output
    assert "Traceback" not in second.output
    with cluster.driver() as driver:
        driver.execute_query("CREATE (:Unharmed)")
    assert cluster.wait_until_whole()


def test_a_busy_bolt_port_is_named(cluster: Cluster) -> None:
    other = cluster.place.run(f"--port={cluster.first_port}", data=cluster.place.path / "elsewhere")

    assert other.wait(START_SECONDS) == 1
    assert "Bolt cannot listen on 127.0.0.1:" in other.output
    assert "Stop what uses it, or choose another --port." in other.output
    assert "Traceback" not in other.output
    assert cluster.wait_until_whole()


def test_a_signal_in_the_middle_of_the_start_is_obeyed(place: Place) -> None:
    command = place.run(f"--port={free_ports(3)}")
    command.wait_for("^starting")

    assert command.stop(signal.SIGTERM) == 0
    assert "ready" not in command.output
    place.wait_until_empty()


def _give_directories(data: Path) -> None:
    """Data directories of three servers, as a first start leaves them."""
    for server in SERVERS:
        DataDirectory.open(data / f"server_{server}", server).close()


def _refused(place: Place, message: str) -> None:
    before = sorted(place.data.rglob("*"))

    command = place.run(f"--port={free_ports(3)}")

    assert command.wait() == 2, command.output
    assert message in command.output
    assert "starting" not in command.output
    assert "Traceback" not in command.output
    assert not place.processes()
    assert sorted(place.data.rglob("*")) == before


def test_directories_of_other_servers_are_refused(place: Place) -> None:
    _give_directories(place.data)
    one, two, aside = (place.data / name for name in ("server_1", "server_2", "aside"))
    one.rename(aside)
    two.rename(one)
    aside.rename(two)

    _refused(place, f"{one} belongs to server 2, not to server 1")


def test_a_foreign_directory_is_refused(place: Place) -> None:
    _give_directories(place.data)
    foreign = place.data / "server_3"
    for file in foreign.iterdir():
        file.unlink()
    (foreign / "holiday.jpg").write_bytes(b"\xff\xd8")

    _refused(place, f"{foreign} is not empty and has no identity.json")


def test_a_damaged_identity_is_refused(place: Place) -> None:
    _give_directories(place.data)
    (place.data / "server_2" / "identity.json").write_text('{"format": 1, "server_id"')

    _refused(place, "The data directory is damaged. Keep it for inspection")
