"""Statements about the cluster itself: their grammar, and what they ask for as a value.

::

    SHOW SERVERS                                     SHOW INSTANCES
    ADD SERVER 4 AT '10.0.0.4:7001' [AS LEARNER]     ADD COORDINATOR 4 WITH CONFIG {...}
                                                     REGISTER INSTANCE instance_4 WITH CONFIG {...}
    REMOVE SERVER 2                                  REMOVE COORDINATOR 2
                                                     UNREGISTER INSTANCE instance_2
    REPLACE SERVER 2 BY 4 AT '10.0.0.4:7001'
    PROMOTE SERVER 5
    DEMOTE SERVER 5
    SET SERVER 2 TO LEADER                           SET INSTANCE instance_2 TO MAIN
                                                     YIELD LEADERSHIP

On the right stand Memgraph's spellings that mean nearly the same here: an instance's number is the
one at the end of its name, and of its configuration ``coordinator_server`` or, without one,
``management_server`` is its address; the rest is not used. Keywords may be written in any case. No
Cypher statement begins with any of these pairs of words, so a gateway knows them by that.

Ids count from 1 and are never used twice: a new server's is larger than all before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from actors.addresses import join_host_port, parse_address
from actors.config import SERVER_ID_MAX

__all__ = [
    "SERVER_COLUMNS",
    "SERVER_ID_MAX",
    "AddServer",
    "DemoteServer",
    "PromoteServer",
    "RemoveServer",
    "ReplaceServer",
    "ShowServers",
    "Statement",
    "StatementError",
    "TransferTo",
    "is_statement",
    "parse_statement",
]

STATEMENT_BYTES_MAX = 4_096

# What SHOW SERVERS shows of each server; README.md explains them.
SERVER_COLUMNS = [
    "id",
    "address",
    "bolt_address",
    "role",
    "health",
    "match_index",
    "lag",
    "last_heard_ms",
    "note",
]


class StatementError(ValueError):
    """The statement cannot be read; the text says why and how it is written."""


@dataclass(frozen=True, slots=True)
class ShowServers:
    """SHOW SERVERS."""


@dataclass(frozen=True, slots=True)
class AddServer:
    """ADD SERVER ``server_id`` AT ``address`` [AS LEARNER]."""

    server_id: int
    address: str
    learner: bool = False

    def __str__(self) -> str:
        learner = " AS LEARNER" if self.learner else ""
        return f"ADD SERVER {self.server_id} AT '{self.address}'{learner}"


@dataclass(frozen=True, slots=True)
class RemoveServer:
    """REMOVE SERVER ``server_id``."""

    server_id: int

    def __str__(self) -> str:
        return f"REMOVE SERVER {self.server_id}"


@dataclass(frozen=True, slots=True)
class ReplaceServer:
    """REPLACE SERVER ``old_id`` BY ``server_id`` AT ``address``."""

    old_id: int
    server_id: int
    address: str

    def __str__(self) -> str:
        return f"REPLACE SERVER {self.old_id} BY {self.server_id} AT '{self.address}'"


@dataclass(frozen=True, slots=True)
class PromoteServer:
    """PROMOTE SERVER ``server_id``."""

    server_id: int

    def __str__(self) -> str:
        return f"PROMOTE SERVER {self.server_id}"


@dataclass(frozen=True, slots=True)
class DemoteServer:
    """DEMOTE SERVER ``server_id``."""

    server_id: int

    def __str__(self) -> str:
        return f"DEMOTE SERVER {self.server_id}"


@dataclass(frozen=True, slots=True)
class TransferTo:
    """SET SERVER ``server_id`` TO LEADER; 0: YIELD LEADERSHIP, to whoever is the best."""

    server_id: int

    def __str__(self) -> str:
        return f"SET SERVER {self.server_id} TO LEADER" if self.server_id else "YIELD LEADERSHIP"


Statement: TypeAlias = (
    ShowServers
    | AddServer
    | RemoveServer
    | ReplaceServer
    | PromoteServer
    | DemoteServer
    | TransferTo
)

_BEGINNING = re.compile(
    rb"\s*(?:SHOW\s+(?:SERVERS|INSTANCES)"
    rb"|(?:ADD|REMOVE|REPLACE|PROMOTE|DEMOTE|SET)\s+SERVER"
    rb"|(?:REGISTER|UNREGISTER|SET)\s+INSTANCE"
    rb"|(?:ADD|REMOVE)\s+COORDINATOR|YIELD\s+LEADERSHIP)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"""\s*(?:(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]+)
    |'(?P<single>[^'\\]*)'|"(?P<double>[^"\\]*)"|(?P<sign>[{}:,;]))""",
    re.VERBOSE,
)


def is_statement(query: bytes) -> bool:
    """Whether a query is one of these statements, rightly written or not, and no Cypher."""
    return _BEGINNING.match(query) is not None


def parse_statement(text: str) -> Statement:
    """Raises ``StatementError``."""
    if len(text) > STATEMENT_BYTES_MAX:
        raise StatementError(f"A statement has at most {STATEMENT_BYTES_MAX} characters.")
    return _Parser(text).statement()


class _Parser:
    """Recursive descent over the tokens; ``usage`` is the form that the statement should have."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._position = 0
        self._usage = "SHOW SERVERS"
        offset, end = 0, len(text.rstrip())
        while offset < end:
            match = _TOKEN.match(text, offset)
            if match is None:
                raise StatementError(f"This cannot be read: {text[offset : offset + 20].strip()!r}")
            kind = match.lastgroup
            assert kind is not None
            self._tokens.append((kind, match[kind]))
            offset = match.end()
        self._tokens.append(("end", "the end"))

    def statement(self) -> Statement:
        verb = self._word()
        noun = self._word()
        made = _FORMS.get((verb, noun))
        if made is None:
            self._fail(f"there is no statement {verb} {noun}")
        self._usage, make = made
        statement = make(self)
        self._take_sign(";")
        if self._peek()[0] != "end":
            self._fail(f"{self._peek()[1]!r} is too much")
        return statement

    # ----------------------------------------------------------------- forms

    def _show(self) -> Statement:
        return ShowServers()

    def _add(self) -> Statement:
        server_id = self._id()
        self._keyword("AT")
        return AddServer(server_id, self._address(), self._learner())

    def _learner(self) -> bool:
        if self._peek()[1].upper() != "AS":
            return False
        self._next()
        self._keyword("LEARNER")
        return True

    def _add_coordinator(self) -> Statement:
        server_id = self._id()
        return AddServer(server_id, self._configured_address())

    def _register(self) -> Statement:
        server_id = self._instance()
        return AddServer(server_id, self._configured_address())

    def _remove(self) -> Statement:
        return RemoveServer(self._id())

    def _unregister(self) -> Statement:
        return RemoveServer(self._instance())

    def _replace(self) -> Statement:
        old_id = self._id()
        self._keyword("BY")
        server_id = self._id()
        self._keyword("AT")
        if old_id == server_id:
            self._fail("the new server needs an id of its own, one that was never used")
        return ReplaceServer(old_id, server_id, self._address())

    def _promote(self) -> Statement:
        return PromoteServer(self._id())

    def _demote(self) -> Statement:
        return DemoteServer(self._id())

    def _set_leader(self) -> Statement:
        server_id = self._id()
        self._keyword("TO")
        self._keyword("LEADER")
        return TransferTo(server_id)

    def _set_main(self) -> Statement:
        server_id = self._instance()
        self._keyword("TO")
        self._keyword("MAIN")
        return TransferTo(server_id)

    def _yield(self) -> Statement:
        return TransferTo(0)

    # ----------------------------------------------------------------- parts

    def _id(self) -> int:
        kind, text = self._next()
        if kind != "number":
            self._fail(f"a server id is expected where {text!r} stands")
        return self._in_range(text)

    def _instance(self) -> int:
        kind, text = self._next()
        number = re.search(r"[0-9]+\Z", text)
        if kind not in ("word", "single", "double") or number is None:
            self._fail(f"{text!r} does not end in a number, which would be the server's id")
        return self._in_range(number[0])

    def _in_range(self, digits: str) -> int:
        if len(digits) > len(str(SERVER_ID_MAX)) or not 1 <= int(digits) <= SERVER_ID_MAX:
            self._fail(f"{digits} is not a server id from 1 to {SERVER_ID_MAX}")
        return int(digits)

    def _address(self) -> str:
        return self._checked(self._string())

    def _checked(self, text: str) -> str:
        try:
            return join_host_port(*parse_address(text))
        except ValueError as error:
            self._fail(str(error).rstrip("."))

    def _configured_address(self) -> str:
        """From WITH CONFIG {"key": "value", ...}."""
        self._keyword("WITH")
        self._keyword("CONFIG")
        values: dict[str, str] = {}
        self._sign("{")
        while True:
            key = self._string()
            self._sign(":")
            values[key] = self._string()
            if not self._take_sign(","):
                break
        self._sign("}")
        address = values.get("coordinator_server") or values.get("management_server")
        if address is None:
            self._fail("the configuration has neither coordinator_server nor management_server")
        return self._checked(address)

    def _string(self) -> str:
        kind, text = self._next()
        if kind not in ("single", "double"):
            self._fail(f"a text in quotes is expected where {text!r} stands")
        return text

    def _keyword(self, keyword: str) -> None:
        word = self._word()
        if word != keyword:
            self._fail(f"{keyword} is expected where {word!r} stands")

    def _word(self) -> str:
        kind, text = self._next()
        if kind != "word":
            self._fail(f"a word is expected where {text!r} stands")
        return text.upper()

    def _sign(self, sign: str) -> None:
        if not self._take_sign(sign):
            self._fail(f"{sign!r} is expected where {self._peek()[1]!r} stands")

    def _take_sign(self, sign: str) -> bool:
        if self._peek() != ("sign", sign):
            return False
        self._position += 1
        return True

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._position]

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._position]
        if token[0] != "end":
            self._position += 1
        return token

    def _fail(self, problem: str) -> NoReturn:
        raise StatementError(f"{problem[:1].upper()}{problem[1:]}. Write it as: {self._usage}")


_CONFIG = 'WITH CONFIG {"management_server": "10.0.0.4:7001"}'

_FORMS: dict[tuple[str, str], tuple[str, Callable[[_Parser], Statement]]] = {
    ("SHOW", "SERVERS"): ("SHOW SERVERS", _Parser._show),
    ("SHOW", "INSTANCES"): ("SHOW INSTANCES", _Parser._show),
    ("ADD", "SERVER"): ("ADD SERVER 4 AT '10.0.0.4:7001' [AS LEARNER]", _Parser._add),
    ("ADD", "COORDINATOR"): (
        'ADD COORDINATOR 4 WITH CONFIG {"coordinator_server": "10.0.0.4:7001"}',
        _Parser._add_coordinator,
    ),
    ("REGISTER", "INSTANCE"): (f"REGISTER INSTANCE instance_4 {_CONFIG}", _Parser._register),
    ("REMOVE", "SERVER"): ("REMOVE SERVER 2", _Parser._remove),
    ("REMOVE", "COORDINATOR"): ("REMOVE COORDINATOR 2", _Parser._remove),
    ("UNREGISTER", "INSTANCE"): ("UNREGISTER INSTANCE instance_2", _Parser._unregister),
    ("REPLACE", "SERVER"): ("REPLACE SERVER 2 BY 4 AT '10.0.0.4:7001'", _Parser._replace),
    ("PROMOTE", "SERVER"): ("PROMOTE SERVER 5", _Parser._promote),
    ("DEMOTE", "SERVER"): ("DEMOTE SERVER 5", _Parser._demote),
    ("SET", "SERVER"): ("SET SERVER 2 TO LEADER", _Parser._set_leader),
    ("SET", "INSTANCE"): ("SET INSTANCE instance_2 TO MAIN", _Parser._set_main),
    ("YIELD", "LEADERSHIP"): ("YIELD LEADERSHIP", _Parser._yield),
}
