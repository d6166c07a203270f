"""The members of a cluster are changed while clients write, and nothing is lost.

The first half runs all servers by one command, as a newcomer does; the second gives each a command
of its own, as on several machines. In both, threads write all the time, through gateways of servers
that stay, and at the end every acknowledged write must be there once, on every server.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import ClientError, Neo4jError
from running import (
    Cluster,
    Command,
    Place,
    Servers,
    eventually,
    free_ports,
    values,
    write_configuration,
)
from test_failover import GRAPH, Writers, check

pytestmark = pytest.mark.cluster

IDS_MAX = 6  # as many servers as one of these clusters ever sees
HEAD = 1


class Changing(Servers):
    """Servers whose members change; ports for all that there will be."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.first_port = free_ports(IDS_MAX)

    def show(self, server: int = 1) -> dict[int, dict[str, Any]]:
        """SHOW SERVERS, by id; asked through the gateway of ``server``."""
        with self.driver(server) as driver, driver.session() as session:
            rows = [record.data() for record in session.run("SHOW SERVERS")]
        return {row["id"]: row for row in rows}

    def roles(self, server: int = 1) -> dict[int, str]:
        return {i: row["role"] for i, row in self.show(server).items()}

    def do(self, statement: str, server: int = 1) -> str:
        with self.driver(server) as driver, driver.session() as session:
            ((result,),) = values(session, statement)
            return str(result)

    def refusal(self, statement: str, server: int = 1) -> str:
        with self.driver(server) as driver, driver.session() as session:
            with pytest.raises(Neo4jError) as caught:
                session.run(statement).consume()
            return str(caught.value.message)

    def wait_for_voters(self, *voters: int, server: int = 1) -> int:
        """Until these vote, all of them up, and nobody else is there; the leader."""

        def probe() -> int:
            rows = self.show(server)
            up = all(row["health"] == "up" for row in rows.values())
            leaders = [i for i, row in rows.items() if row["role"] == "leader"]
            votes = {i for i, row in rows.items() if row["role"] in ("leader", "follower")}
            return leaders[0] if up and votes == set(rows) == set(voters) else 0

        return eventually(probe, f"servers {voters} vote, all of them up")

    def compare(self, writers: Writers, servers: tuple[int, ...]) -> None:
        """Every acknowledged write is on all of these, once, and the graphs are equal."""
        graphs = []
        for server in servers:
            for label in {writer.label for writer in writers.all}:
                query = f"MATCH (n:{label}) RETURN n.id"
                check(writers.of(label), self.read(server, query, writers.bookmarks()))
            graphs.append(self.read(server, GRAPH, writers.bookmarks()))
        assert all(graph == graphs[0] for graph in graphs)
        assert graphs[0]


def errors(writers: Writers) -> list[str]:
    """What clients were told that went wrong."""
    found = [error for writer in writers.all for error in writer.errors]
    return [f"{type(e).__name__} {getattr(e, 'code', '')}: {e}" for e in found]


def advance(writers: Writers) -> None:
    for writer in writers.all:
        writer.wait_for_progress()


# --- One command for all --------------------------------------------------------------------------


class OneCommand(Changing, Cluster):
    def __init__(self, place: Place) -> None:
        Cluster.__init__(self, place)
        self.first_port = free_ports(IDS_MAX)
        self._flags = [f"--port={self.first_port}"]

    def start_again(self) -> None:
        self.command = self.place.run(*self._flags)
        self.command.wait_for("^ready: ")


@pytest.fixture(scope="module")
def one() -> Iterator[OneCommand]:
    with Place() as place:
        running = OneCommand(place)
        running.start()
        yield running
        running.stop()
        place.wait_until_empty()


def test_members_change_while_clients_write(one: OneCommand) -> None:
    """Grow from three to five, hand over, remove the leader and another, replace one."""
    with Writers(one) as writers:
        writers.add(1, "bolt", "Changed", managed=False, threads=2)
        writers.add(1, "neo4j", "Routed", managed=True)
        advance(writers)
        for server in (4, 5):
            assert "joining" in one.do(f"ADD SERVER {server} AT '127.0.0.1:700{server}'")
        one.wait_for_voters(1, 2, 3, 4, 5)
        advance(writers)
        assert one.do("SET SERVER 4 TO LEADER") == "server 4 leads"
        advance(writers)
        assert "removed" in one.do("REMOVE SERVER 4")
        assert one.wait_for_voters(1, 2, 3, 5) != 4
        advance(writers)
        assert "removed" in one.do("REMOVE SERVER 3")
        assert "joining" in one.do("REPLACE SERVER 2 BY 6 AT '127.0.0.1:7006'")
        one.wait_for_voters(1, 5, 6)
        advance(writers)
    for server in (2, 3, 4):
        one.command.wait_for(f"^server {server} has ended: .* removed")
    one.command.wait_for("^server 6: Bolt on ")  # its gateway is started after the server
    assert errors(writers) == []
    one.compare(writers, (1, 5, 6))


def test_the_members_are_the_same_after_a_restart(one: OneCommand) -> None:
    before = one.read(1, GRAPH)
    one.stop()
    one.start_again()
    one.wait_for_voters(1, 5, 6)
    for server in (2, 3, 4):
        one.command.wait_for(f"(?i)^server {server} (has ended: server . )?was removed")
    assert one.read(6, GRAPH) == before
    assert one.refusal("ADD SERVER 4 AT '127.0.0.1:7004'").count("never used again") == 1


def test_a_server_whose_directory_was_deleted_stays_out(one: OneCommand) -> None:
    leader = one.wait_for_voters(1, 5, 6)
    victim = next(server for server in (5, 6) if server != leader)
    with Writers(one) as writers:
        writers.add(1, "bolt", "Deleted", managed=False)
        advance(writers)
        pid = _server_process(one.place, victim)
        shutil.rmtree(one.place.data / f"server_{victim}")
        # Its process still holds the deleted files; the next one finds nothing.
        os.kill(pid, signal.SIGKILL)
        said = one.command.wait_for(f"^server {victim} has ended: ")
        assert f"REPLACE SERVER {victim} BY N" in said
        advance(writers)
        eventually(lambda: one.show()[victim]["health"] == "down", "it is shown as down")
        assert "a server is refused" in one.show()[victim]["note"]
    one.compare(writers, tuple({1, 5, 6} - {victim}))


def test_an_administrator_types_commands(one: OneCommand) -> None:
    address = f"--address={one.address(1)}"
    shown = typed(one.place, "servers", address)
    assert shown.wait() == 0, shown.output
    assert shown.lines[0].split()[:2] == ["id", "address"]
    dead = str(next(i for i, row in one.show().items() if row["health"] == "down"))
    new = typed(one.place, "replace-server", dead, "7", "127.0.0.1:7007", "--wait", address)
    assert new.wait() == 0, new.output
    assert new.lines[-1] == "server 7 is a follower and has caught up"
    refused = typed(one.place, "remove-server", "9", address)
    assert refused.wait() == 1
    assert "Server 9 is not a member" in refused.output
    assert typed(one.place, "add-server", "8", "nowhere").wait() == 2


def test_servers_are_not_changed_inside_a_transaction(one: OneCommand) -> None:
    with one.driver(1) as driver, driver.session() as session:
        tx = session.begin_transaction()
        assert len(values(tx, "SHOW SERVERS")) == 3
        with pytest.raises(ClientError, match="outside of transactions"):
            tx.run("REMOVE SERVER 5").consume()
        tx.close()
        reading = driver.session(default_access_mode=neo4j.READ_ACCESS)
        with reading, pytest.raises(ClientError, match="read access mode"):
            reading.run("REMOVE SERVER 5").consume()


def typed(place: Place, *arguments: str) -> Command:
    """A subcommand of ``memgraph_ha``."""
    return place.run_program([sys.executable, "-m", "actors.cli", *arguments])


def _server_process(place: Place, server: int) -> int:
    """The process that has the lock of a server's directory open."""
    for process, words in place.processes().items():
        if "ServerActor" not in words:
            continue
        links = Path(f"/proc/{process}/fd").iterdir()
        if any(f"server_{server}/lock" in os.path.realpath(link) for link in links):
            return process
    raise AssertionError(f"no process runs server {server}")


# --- A command for each ---------------------------------------------------------------------------


class OwnCommands(Changing):
    """Servers 1 to 3 as the file lists them, and further ones that join."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.rpc_port = free_ports(IDS_MAX)
        self._files = write_configuration(place, self.rpc_port)
        self.running: dict[int, Command] = {}

    def rpc_address(self, server: int) -> str:
        return f"127.0.0.1:{self.rpc_port + server - 1}"

    def start(self, server: int) -> Command:
        flags = self._files if server <= 3 else self._joining(server)
        port = f"--port={self.first_port + server - 1}"
        folder = f"host_{server}"
        command = self.place.run(f"--server_id={server}", *flags, port, folder=folder)
        self.running[server] = command
        return command

    def _joining(self, server: int) -> list[str]:
        """Its file lists the head and itself, and nobody else."""
        file = self.place.path / f"coordination_{server}.json"
        members = [[s, "127.0.0.1", self.rpc_port + s - 1] for s in (HEAD, server)]
        file.write_text(json.dumps(members))
        return ["--join", f"--coordination_config_file={file}", self._files[1]]

    def term(self, server: int) -> int:
        with self.driver(server) as driver, driver.session() as session:
            ((_, term),) = values(session, "SHOW RAFT INFO")
            return int(term)

    def write(self, server: int, name: str, bookmarks: Any = None) -> neo4j.Bookmarks:
        with self.driver(server) as driver, driver.session(bookmarks=bookmarks) as session:
            session.run("CREATE (:Noted {name: $name})", name=name).consume()
            found: neo4j.Bookmarks = session.last_bookmarks()
            return found

    def names(self, server: int, bookmarks: Any = None) -> list[str]:
        rows = self.read(server, "MATCH (n:Noted) RETURN n.name", bookmarks)
        return [row[0] for row in rows]


@pytest.fixture(scope="module")
def own() -> Iterator[OwnCommands]:
    with Place() as place:
        running = OwnCommands(place)
        for server in (1, 2, 3):
            running.start(server)
        for server in (1, 2, 3):
            running.running[server].wait_for("^ready: ")
        running.wait_until_whole()
        yield running
        for _, command in sorted(running.running.items(), reverse=True):
            if command.process.poll() is None:
                assert command.stop() == 0, command.output


def test_a_leader_that_is_stopped_costs_one_election_and_no_error(own: OwnCommands) -> None:
    leader = own.wait_for_voters(1, 2, 3)
    if leader == HEAD:  # whose gateway the clients use
        own.do("SET SERVER 2 TO LEADER")
        leader = own.wait_for_voters(1, 2, 3)
    with Writers(own) as writers:  # type: ignore[arg-type]
        writers.add(1, "bolt", "Stopped", managed=False, threads=2)
        writers.add(1, "neo4j", "Stopping", managed=True)
        advance(writers)
        before = own.term(1)
        assert own.running[leader].stop(signal.SIGTERM) == 0, own.running[leader].output
        advance(writers)
        assert own.term(1) == before + 1
        own.start(leader).wait_for("^ready: ")
        own.wait_for_voters(1, 2, 3)
        advance(writers)
    assert errors(writers) == []
    own.compare(writers, (1, 2, 3))


def test_a_server_joins_as_a_learner_and_is_promoted(own: OwnCommands) -> None:
    bookmarks = own.write(1, "before")
    command = own.start(4)
    command.wait_for(rf"^server 4 waits until it is added: .* AT '{own.rpc_address(4)}'")
    command.wait_for("^ready: ")
    eventually(lambda: own.roles().get(4) == "waiting", "it is shown as waiting")
    assert own.names(4) == ["before"], "it has nothing, so its gateway reads elsewhere"
    assert "learner" in own.do(f"ADD SERVER 4 AT '{own.rpc_address(4)}' AS LEARNER", 4)
    eventually(lambda: own.show(4)[4]["lag"] == 0, "the learner has caught up")
    eventually(lambda: own.address(4) in _readers(own), "the learner is listed as a reader")
    bookmarks = own.write(4, "through the learner", bookmarks)
    for server in (1, 2, 3, 4):
        assert own.names(server, bookmarks) == ["before", "through the learner"]
    assert "does not vote" in own.refusal("SET SERVER 4 TO LEADER")
    assert "votes" in own.do("PROMOTE SERVER 4")
    own.wait_for_voters(1, 2, 3, 4)


def test_a_removed_servers_command_ends_and_cannot_be_started_again(own: OwnCommands) -> None:
    assert "removed" in own.do("REMOVE SERVER 3")
    removed = own.running.pop(3)
    assert removed.wait() == 0, removed.output
    assert "Server 3 was removed from the cluster" in removed.output
    again = own.start(3)
    assert again.wait() == 2, again.output
    assert "give it an id that was never used" in again.output
    own.running.pop(3)
    own.wait_for_voters(1, 2, 4)


def test_a_server_that_lost_its_directory_is_replaced(own: OwnCommands) -> None:
    own.wait_for_voters(1, 2, 4)
    with Writers(own) as writers:  # type: ignore[arg-type]
        writers.add(1, "bolt", "Replaced", managed=False)
        advance(writers)
        os.kill(own.running[2].process.pid, signal.SIGKILL)
        own.running[2].wait()
        own.place.wait_until_empty("host_2")
        shutil.rmtree(own.place.data / "server_2")
        emptied = own.start(2)
        assert emptied.wait() == 1, emptied.output
        assert "REPLACE SERVER 2 BY N" in emptied.output
        own.running.pop(2)
        advance(writers)
        own.start(5).wait_for("^ready: ")
        own.do(f"REPLACE SERVER 2 BY 5 AT '{own.rpc_address(5)}'")
        own.wait_for_voters(1, 4, 5)
        advance(writers)
    assert errors(writers) == []
    own.compare(writers, (1, 4, 5))


def test_the_first_server_can_be_removed_and_its_host_stays_rays_head(own: OwnCommands) -> None:
    own.do("REMOVE SERVER 1", 4)
    own.running[HEAD].wait_for("^server 1 is not part of the cluster any more")
    own.wait_for_voters(4, 5, server=4)
    bookmarks = own.write(5, "without the first")
    assert "without the first" in own.names(4, bookmarks)
    # Stopped and started again it is still the head, and nothing else.
    assert own.running[HEAD].stop() == 0
    own.start(HEAD).wait_for("^server 1 is not part of the cluster any more")
    own.write(4, "the head is back")


def _readers(own: OwnCommands) -> set[str]:
    """Where reads go that a driver routes by a new table."""
    found = set()
    with own.driver(1, "neo4j") as driver:
        for _ in range(8):
            _, summary, _ = driver.execute_query("RETURN 1", routing_="r")
            host, port = summary.server.address[:2]
            found.add(f"{host}:{port}")
    return found
