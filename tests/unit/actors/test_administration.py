"""Statements about the cluster: how they are written, and what is said of wrong ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.addresses import Place, directories_of, join_host_port, parse_address
from actors.administration import (
    AddServer,
    DemoteServer,
    PromoteServer,
    RemoveServer,
    ReplaceServer,
    ShowServers,
    Statement,
    StatementError,
    TransferTo,
    is_statement,
    parse_statement,
)
from actors.raft.membership import MemberEntry, MemberRole, Membership

CONFIG = '{"bolt_server": "10.0.0.4:7687", "management_server": "10.0.0.4:7001"}'

GOOD: list[tuple[str, Statement]] = [
    ("SHOW SERVERS", ShowServers()),
    ("  show\n servers ; ", ShowServers()),
    ("SHOW INSTANCES;", ShowServers()),
    ("ADD SERVER 4 AT '10.0.0.4:7001'", AddServer(4, "10.0.0.4:7001")),
    ('add server 4 at "10.0.0.4:7001" as learner', AddServer(4, "10.0.0.4:7001", True)),
    ("ADD SERVER 9999 AT 'db-4.example:1'", AddServer(9999, "db-4.example:1")),
    ("ADD SERVER 4 AT '[FD00::4]:7001'", AddServer(4, "[fd00::4]:7001")),
    ("REMOVE SERVER 2", RemoveServer(2)),
    ("REPLACE SERVER 2 BY 4 AT 'localhost:7004'", ReplaceServer(2, 4, "127.0.0.1:7004")),
    ("PROMOTE SERVER 5", PromoteServer(5)),
    ("DEMOTE SERVER 5;", DemoteServer(5)),
    ("SET SERVER 2 TO LEADER", TransferTo(2)),
    ("YIELD LEADERSHIP", TransferTo(0)),
    (f"REGISTER INSTANCE instance_4 WITH CONFIG {CONFIG};", AddServer(4, "10.0.0.4:7001")),
    (
        "ADD COORDINATOR 4 WITH CONFIG {'coordinator_server': 'h:7001', 'x': 'y'}",
        AddServer(4, "h:7001"),
    ),
    ("UNREGISTER INSTANCE instance_12", RemoveServer(12)),
    ("REMOVE COORDINATOR 2", RemoveServer(2)),
    ("SET INSTANCE instance_2 TO MAIN", TransferTo(2)),
]


@pytest.mark.parametrize(("text", "statement"), GOOD)
def test_what_is_written_is_read(text: str, statement: Statement) -> None:
    assert is_statement(text.encode())
    assert parse_statement(text) == statement


@pytest.mark.parametrize("statement", [s for _, s in GOOD if not isinstance(s, ShowServers)])
def test_a_statement_as_text_is_the_statement(statement: Statement) -> None:
    assert parse_statement(str(statement)) == statement


BAD = [
    ("ADD SERVER", "the end.*ADD SERVER 4 AT"),
    ("ADD SERVER four AT 'h:1'", "server id is expected where 'four'"),
    ("ADD SERVER 0 AT 'h:1'", "0 is not a server id from 1 to 9999"),
    ("ADD SERVER 10000 AT 'h:1'", "10000 is not a server id"),
    (f"ADD SERVER {'9' * 4000} AT 'h:1'", "is not a server id"),
    ("ADD SERVER 4", "AT"),
    ("ADD SERVER 4 AT h:1", "quotes"),
    ("ADD SERVER 4 AT 'h'", "host:rpc_port"),
    ("ADD SERVER 4 AT 'h:0'", "0 is not a port"),
    ("ADD SERVER 4 AT 'h:70000'", "70000 is not a port"),
    ("ADD SERVER 4 AT '0.0.0.0:7001'", "means every address"),
    ("ADD SERVER 4 AT 'h:7001#0123456789abcdef'", "host:rpc_port"),
    ("ADD SERVER 4 AT 'h:7001' AS MASTER", "LEARNER is expected where 'MASTER'"),
    ("ADD SERVER 4 AT 'h:7001' 5", "'5' is too much"),
    ("REPLACE SERVER 2 BY 2 AT 'h:7001'", "never used"),
    ("REPLACE SERVER 2 AT 'h:7001'", "BY is expected"),
    ("SET SERVER 2 TO FOLLOWER", "LEADER is expected"),
    ("SET INSTANCE main TO MAIN", "does not end in a number"),
    ("REGISTER INSTANCE instance_4 WITH CONFIG {}", "quotes"),
    ('REGISTER INSTANCE instance_4 WITH CONFIG {"bolt_server": "h:1"}', "neither"),
    ('REGISTER INSTANCE instance_4 WITH CONFIG {"management_server": "h:1"', "'}' is expected"),
    ("REMOVE SERVER 2 $x", r"\$x"),
    ("SHOW SERVERS YIELD id", "too much"),
    ("SHOW SERVERS " + " " * 5000, "at most"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_wrong_statement_is_explained(text: str, message: str) -> None:
    assert is_statement(text.encode())
    with pytest.raises(StatementError, match=message):
        parse_statement(text)


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (n) SET n.server = 1",
        "SHOW INDEXES",
        "SHOW SERVERSIDE",
        "CREATE (:SERVER)",
        "RETURN 'ADD SERVER 4'",
        "SHOW RAFT INFO",
        "",
    ],
)
def test_cypher_is_none_of_them(query: str) -> None:
    assert not is_statement(query.encode())


@given(st.sampled_from([text for text, _ in GOOD]), st.data())
def test_noise_is_refused_or_read_and_never_fails_otherwise(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    noise = data.draw(st.text(max_size=5))
    try:
        parse_statement(text[:at] + noise + text[at:])
    except StatementError as error:
        assert str(error)


# --- Addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("10.0.0.4:7001", "10.0.0.4", 7001), ("[::1]:1", "::1", 1), ("a.b:65535", "a.b", 65535)],
)
def test_addresses_there_and_back(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)
    assert join_host_port(host, port) == text


@given(st.sampled_from(["", "10.0.0.4:7001", "[fd00::4]:7001"]), st.sampled_from(["", "ab" * 8]))
def test_places_there_and_back(address: str, directory: str) -> None:
    place = Place(address, directory)
    assert Place.of(place.text()) == place


def test_what_is_no_directory_is_none() -> None:
    assert Place.of("h:1#") == Place.of("h:1#xyz") == Place.of("h:1") == Place("h:1")


def test_directories_of_a_membership() -> None:
    members = (
        MemberEntry(1, MemberRole.VOTER),
        MemberEntry(4, MemberRole.JOINING, "h:1#" + "ab" * 8),
    )
    assert directories_of(Membership(members, 4)) == {1: "", 4: "ab" * 8}
