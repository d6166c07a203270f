"""The official driver against a small server made of ``ServerConnection``, over real sockets.

The server runs no Cypher. It knows ``ECHO`` (one row: the values of the parameters), ``COUNT``
(the numbers below ``$n``), ``GRAPH`` (a node, a relationship, a path) and ``FAIL`` (``$code``).
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Any

import neo4j
import pytest
import pytz
from bolt_values import plain
from neo4j.exceptions import AuthError, ClientError, Neo4jError, TransientError
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time

from bolt import (
    NEED_DATA,
    PREFERENCE,
    Begin,
    ConnectionClosed,
    Discard,
    Failure,
    Goodbye,
    Handshake,
    HandshakeReply,
    Hello,
    Ignored,
    IgnoredRequest,
    Logon,
    Pull,
    RemoteProtocolError,
    Reset,
    Response,
    Route,
    Run,
    ServerConnection,
    Success,
    decode_parameters,
    encode_records,
)
from graph.values import Node, Path, Relationship

ADA = Node(1, ("Person",), {"name": "Ada"})
BOB = Node(2, ("Person", "Admin"), {"name": "Bob"})
KNOWS = Relationship(7, "KNOWS", 2, 1, {"since": Date(2020, 1, 2)})
PATH = Path((ADA, BOB), (KNOWS,))


class Client:
    """The server's side of one client."""

    def __init__(self, server: Server, peer: socket.socket) -> None:
        self.server = server
        self.peer = peer
        self.bolt = ServerConnection(preference=server.preference)
        self.rows: dict[int, list[list[Any]]] = {}

    def serve(self) -> None:
        with self.peer:
            while self.step():
                pass

    def step(self) -> bool:
        try:
            event = self.bolt.next_event()
        except RemoteProtocolError as error:
            self.server.violations.append(error)
            self.peer.sendall(error.farewell)
            return False
        if event is NEED_DATA:
            self.bolt.receive_data(self.peer.recv(65_536))
            return True
        if isinstance(event, Goodbye | ConnectionClosed):
            return False
        self.server.events.append(event)
        if isinstance(event, Pull):
            self.send_records(event)
        self.peer.sendall(self.bolt.send(self.answer(event)))
        return True

    def send_records(self, pull: Pull) -> None:
        rows = self.rows[pull.qid]
        count = len(rows) if pull.n == -1 else min(pull.n, len(rows))
        columns = list(zip(*rows[:count], strict=True))
        self.bolt.records_written()
        self.peer.sendall(encode_records(columns, count, self.bolt.dialect))
        del rows[:count]

    def answer(self, event: Any) -> Response:
        match event:
            case Handshake():
                return HandshakeReply()
            case IgnoredRequest():
                return Ignored()
            case Hello(auth=auth) | Logon(auth=auth) if auth and auth.get("credentials") == "no":
                return Failure("Neo.ClientError.Security.Unauthorized", "wrong password")
            case Hello():
                hints = {"telemetry.enabled": True}
                return Success({"server": "Neo4j/5.4.0", "connection_id": "bolt-1", "hints": hints})
            case Route():
                return Success({"rt": self.server.routing_table(event.db)})
            case Run():
                return self.run(event)
            case Pull() | Discard():
                if isinstance(event, Discard):
                    self.rows[event.qid].clear()
                if self.rows[event.qid]:
                    return Success({"has_more": True})
                return Success({"type": "r", "t_last": 0, "bookmark": "b:1", "db": "neo4j"})
            case Reset() | Begin():
                self.rows.clear()
        return Success({})

    def run(self, run: Run) -> Response:
        parameters = decode_parameters(run.parameters, self.bolt.dialect)
        match run.query:
            case "ECHO":
                fields, rows = list(parameters), [list(parameters.values())]
            case "COUNT":
                fields, rows = ["i"], [[i] for i in range(parameters["n"])]
            case "GRAPH":
                fields, rows = ["node", "rel", "path"], [[ADA, KNOWS, PATH]]
            case _:
                return Failure(parameters["code"], "as you wish")
        self.rows[run.qid] = rows
        return Success({"fields": fields, "t_first": 0})


class Server:
    """Listens, and serves each client in a thread of its own."""

    def __init__(self, preference: list[tuple[int, int]]) -> None:
        self.preference = preference
        self.events: list[Any] = []
        self.violations: list[RemoteProtocolError] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=Client(self, peer).serve, daemon=True).start()

    def routing_table(self, db: str | None) -> dict[str, Any]:
        roles = ("ROUTE", "READ", "WRITE")
        servers = [{"addresses": [self.address], "role": role} for role in roles]
        return {"ttl": 300, "db": db or "neo4j", "servers": servers}

    def close(self) -> None:
        self.listener.close()


def drivers(version: tuple[int, int], scheme: str) -> Iterator[tuple[neo4j.Driver, Server]]:
    server = Server([version])
    uri, auth = f"{scheme}://{server.address}", ("neo4j", "secret")
    try:
        with neo4j.GraphDatabase.driver(uri, auth=auth, max_transaction_retry_time=0) as driver:
            yield driver, server
        assert server.violations == []
    finally:
        server.close()


@pytest.fixture(params=itertools.product(PREFERENCE, ["bolt", "neo4j"]), ids=str)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[neo4j.Driver, Server]]:
    """A driver and its server, for each version and scheme."""
    yield from drivers(*request.param)


@pytest.fixture
def newest() -> Iterator[tuple[neo4j.Driver, Server]]:
    yield from drivers((5, 4), "neo4j")


PARIS = pytz.timezone("Europe/Paris")
VALUES = {
    "null": None,
    "int": -(2**63),
    "float": 0.1,
    "text": "Größe",
    "bytes": b"\0\xff",
    "nested": [1, {"a": [True, "b"]}],
    "date": Date(2024, 2, 29),
    "time": Time(1, 2, 3, 4, pytz.FixedOffset(90)),
    "local_time": Time(1, 2, 3, 4),
    "datetime": DateTime(2024, 7, 1, 12, 0, 0, 5, pytz.FixedOffset(-150)),
    "zoned": PARIS.localize(DateTime(2024, 7, 1, 12, 0, 0, 5)),
    "local_datetime": DateTime(1900, 1, 1),
    "duration": Duration(months=1, days=-2, seconds=3, nanoseconds=4),
    "point": CartesianPoint((1.0, 2.0)),
    "place": WGS84Point((1.0, 2.0, 3.0)),
}


def test_conversation(pair: tuple[neo4j.Driver, Server]) -> None:
    driver, _ = pair
    driver.verify_connectivity()
    [record] = driver.execute_query("ECHO", VALUES, database_="neo4j").records
    assert plain(record.data()) == plain(VALUES)

    [record] = driver.execute_query("GRAPH", database_="neo4j").records
    node, rel, path = record["node"], record["rel"], record["path"]
    assert (node.element_id, set(node.labels), dict(node)) == ("1", {"Person"}, ADA.properties)
    assert (rel.element_id, rel.type, dict(rel)) == ("7", "KNOWS", KNOWS.properties)
    assert [n["name"] for n in path.nodes] == ["Ada", "Bob"]
    assert path.relationships[0].start_node == path.nodes[1]

    with driver.session(database="neo4j", fetch_size=10) as session:
        assert [r["i"] for r in session.run("COUNT", n=35)] == list(range(35))
        with session.begin_transaction() as tx:
            first, second = tx.run("COUNT", n=25), tx.run("COUNT", n=15)
            pairs = zip(second, first, strict=False)
            assert [(a["i"], b["i"]) for a, b in pairs] == [(i, i) for i in range(15)]
            tx.commit()
        with pytest.raises(ClientError):
            session.run("FAIL", code="Neo.ClientError.Statement.SyntaxError").consume()
        assert session.run("ECHO", x=1).single(strict=True)["x"] == 1


def test_routing_is_asked_for(newest: tuple[neo4j.Driver, Server]) -> None:
    driver, server = newest
    driver.execute_query("ECHO", x=1, database_="movies")
    [route] = [event for event in server.events if isinstance(event, Route)]
    assert route.db == "movies"
    assert route.routing["address"] == server.address


def test_newest_version_is_chosen() -> None:
    server = Server(list(PREFERENCE))
    try:
        with neo4j.GraphDatabase.driver(f"bolt://{server.address}") as driver:
            driver.execute_query("ECHO", x=1)
        assert server.events[0] == Handshake((5, 4))
    finally:
        server.close()


def test_wrong_password(pair: tuple[neo4j.Driver, Server]) -> None:
    _, server = pair
    uri = f"bolt://{server.address}"
    with (
        neo4j.GraphDatabase.driver(uri, auth=("neo4j", "no")) as driver,
        pytest.raises(AuthError),
    ):
        driver.verify_connectivity()


@pytest.mark.parametrize(
    ("code", "kind", "retry"),
    [
        ("Neo.ClientError.Cluster.NotALeader", TransientError, True),
        ("Neo.TransientError.Transaction.LeaderSwitch", TransientError, True),
        ("Neo.DatabaseError.Transaction.TransactionCommitFailed", Neo4jError, False),
    ],
)
def test_failures(
    newest: tuple[neo4j.Driver, Server], code: str, kind: type[Neo4jError], retry: bool
) -> None:
    driver, _ = newest
    with driver.session(database="neo4j") as session:
        with pytest.raises(kind) as caught:
            session.run("FAIL", code=code).consume()
        assert (caught.value.code, caught.value.is_retryable()) == (code, retry)


def test_abandoned_results_are_discarded(newest: tuple[neo4j.Driver, Server]) -> None:
    driver, server = newest
    with driver.session(database="neo4j", fetch_size=5) as session:
        result = session.run("COUNT", n=100)
        next(result)
        summary = result.consume()
    assert summary.query_type == "r"
    assert any(isinstance(event, Discard) for event in server.events)


def test_large_parameters_and_records(newest: tuple[neo4j.Driver, Server]) -> None:
    driver, _ = newest
    value = {"text": "x" * 200_000, "list": list(range(50_000))}
    [record] = driver.execute_query("ECHO", x=value, database_="neo4j").records
    assert record["x"] == value


def test_offset_of_zero_is_not_the_zone_named_utc(newest: tuple[neo4j.Driver, Server]) -> None:
    driver, server = newest
    zero = DateTime(2024, 1, 1, tzinfo=timezone(timedelta(0)))
    named = DateTime(2024, 1, 1, tzinfo=pytz.UTC)
    driver.execute_query("ECHO", a=zero, b=named, database_="neo4j")
    [run] = [event for event in server.events if isinstance(event, Run)]
    assert b"\xb3\x49" in run.parameters
    assert b"\xb3\x69" in run.parameters
