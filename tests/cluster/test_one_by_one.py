"""Each server by a command of its own, as on three machines, with a Ray node of its own."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator

import neo4j
import pytest
from running import (
    SERVERS,
    Command,
    Place,
    Servers,
    eventually,
    free_ports,
    values,
    write_configuration,
)

pytestmark = pytest.mark.cluster

HEAD = 1  # server 1's host is the head of the Ray cluster
RAY_WORKER_PORTS = range(10002, 20000)  # Ray's default; an RPC port may be one of these


HANDLE = """
import sys, rayft
with rayft.connect(sys.argv[1]) as db:
    db.query("CREATE (:Noted {name: 'by handle'})")
    print("done:", db.query("MATCH (n:Noted {name: 'by handle'}) RETURN count(n)").single()[0])
"""


class Commands(Servers):
    """Three commands, each of which starts one server."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.rpc_port = free_ports(len(SERVERS), RAY_WORKER_PORTS)
        self._files = write_configuration(place, self.rpc_port)
        self.running: dict[int, Command] = {}

    def start(self, server: int) -> Command:
        port = f"--port={self.first_port + server - 1}"
        command = self.place.run(
            f"--server_id={server}", *self._files, port, folder=self.folder(server)
        )
        self.running[server] = command
        return command

    def folder(self, server: int) -> str:
        return f"host_{server}"

    def listens(self, server: int) -> bool:
        """Whether somebody takes connections at the Bolt port of a server."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.first_port + server - 1)) == 0


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    """Started in the order 2, 3, 1; the head is stopped last."""
    with Place() as place:
        commands = Commands(place)
        for server in (2, 3):
            waiting = commands.start(server)
            waiting.wait_for(rf"^waiting for server 1 at 127\.0\.0\.1:{commands.rpc_port}, ")
        commands.start(HEAD)
        for server in SERVERS:  # the head first: what it says explains why the others wait
            commands.running[server].wait_for("^ready: ")
        commands.wait_until_whole()
        yield commands
        for server, command in sorted(commands.running.items(), reverse=True):
            assert command.stop() == 0, command.output
            place.wait_until_empty(commands.folder(server))


def write(commands: Commands, server: int, name: str) -> neo4j.Bookmarks:
    """One node, through the gateway of ``server``; the bookmarks that show it."""
    with commands.driver(server) as driver, driver.session() as session:
        session.run("CREATE (:Noted {name: $name})", name=name).consume()
        bookmarks: neo4j.Bookmarks = session.last_bookmarks()
        return bookmarks


def names(commands: Commands, server: int, bookmarks: neo4j.Bookmarks) -> list[str]:
    rows = commands.read(server, "MATCH (n:Noted) RETURN n.name", bookmarks)
    return [row[0] for row in rows]


def test_they_find_one_another(commands: Commands) -> None:
    commands.wait_until_whole()
    for writer in SERVERS:
        bookmarks = write(commands, writer, f"from {writer}")
        for reader in SERVERS:
            assert f"from {writer}" in names(commands, reader, bookmarks)
    with commands.driver(3, "neo4j") as driver, driver.session() as session:
        assert values(session, "SHOW STORAGE INFO")
        assert len(values(session, "SHOW STORAGE INFO")) == 15


def test_a_program_joins_by_the_address_of_the_head(commands: Commands) -> None:
    address = f"127.0.0.1:{commands.rpc_port}"
    program = commands.place.run_program([sys.executable, "-c", HANDLE, address])
    assert program.wait() == 0, program.output
    assert program.lines[-1] == "done: 1"
    commands.wait_until_whole()


def test_the_others_go_on_without_the_head_and_it_catches_up(commands: Commands) -> None:
    commands.wait_until_whole()
    head = commands.running[HEAD]
    assert head.stop(signal.SIGINT) == 0, head.output
    commands.place.wait_until_empty(commands.folder(HEAD))

    for server in (2, 3):
        for x in range(5):
            bookmarks = write(commands, server, f"{server} without the head, {x}")

    commands.start(HEAD).wait_for("^ready: ")
    commands.wait_until_whole()
    found = names(commands, HEAD, bookmarks)
    assert len([name for name in found if "without the head" in name]) == 10
    bookmarks = write(commands, HEAD, "the head is back")
    for server in SERVERS:
        assert "the head is back" in names(commands, server, bookmarks)


@pytest.mark.parametrize("victim", [3, HEAD])
def test_what_a_killed_command_started_ends_with_it(commands: Commands, victim: int) -> None:
    commands.wait_until_whole()
    os.kill(commands.running[victim].process.pid, signal.SIGKILL)
    commands.running[victim].wait()
    commands.place.wait_until_empty(commands.folder(victim))
    assert not commands.listens(victim)

    other = 2
    bookmarks = write(commands, other, f"without {victim}")

    commands.start(victim).wait_for("^ready: ")
    commands.wait_until_whole()
    assert f"without {victim}" in names(commands, victim, bookmarks)


def test_a_killed_server_is_started_again_by_its_own_command(commands: Commands) -> None:
    leader = commands.wait_until_whole()
    before = commands.pid(leader)
    said = len(commands.running[leader].lines)
    assert commands.kill(leader) == before
    commands.running[leader].wait_for(f"^server {leader} has died", after=said)
    eventually(lambda: commands.pid(leader) != before, "another process runs the server")
    commands.wait_until_whole()
    bookmarks = write(commands, leader, "after a kill")
    assert all("after a kill" in names(commands, server, bookmarks) for server in SERVERS)
