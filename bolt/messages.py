"""Requests and responses, and requests from bytes.

A request is decoded into one shape for all versions; what differs on the wire (where credentials
travel, what ROUTE's third field is) ends here. A query's parameters are the exception to
decoding: they stay bytes, checked against the limits, because only the server that runs the query
needs the values.

Source: https://neo4j.com/docs/bolt/current/bolt/message/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from bolt.errors import PackStreamError, RemoteProtocolError
from bolt.limits import Limits
from bolt.packstream import unpack_message
from bolt.versions import Protocol

__all__ = [
    "NEED_DATA",
    "PAUSED",
    "RESET_BYTES",
    "Begin",
    "Commit",
    "ConnectionClosed",
    "Discard",
    "Event",
    "Failure",
    "Goodbye",
    "Handshake",
    "HandshakeReply",
    "Hello",
    "Ignored",
    "IgnoredRequest",
    "Logoff",
    "Logon",
    "Pull",
    "Record",
    "Request",
    "RequestTag",
    "Reset",
    "Response",
    "ResponseTag",
    "Rollback",
    "Route",
    "Run",
    "Success",
    "Telemetry",
    "decode_request",
    "request_tag",
]


class RequestTag(IntEnum):
    """Tag byte of each request."""

    HELLO = 0x01
    GOODBYE = 0x02
    RESET = 0x0F
    RUN = 0x10
    BEGIN = 0x11
    COMMIT = 0x12
    ROLLBACK = 0x13
    DISCARD = 0x2F
    PULL = 0x3F
    TELEMETRY = 0x54
    ROUTE = 0x66
    LOGON = 0x6A
    LOGOFF = 0x6B


class ResponseTag(IntEnum):
    """Tag byte of each response."""

    SUCCESS = 0x70
    RECORD = 0x71
    IGNORED = 0x7E
    FAILURE = 0x7F


# A RESET has one encoding only, so it is recognised without being decoded.
RESET_BYTES = bytes((0xB0, RequestTag.RESET))


# --- requests ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """Greeting. ``extra`` holds user_agent, bolt_agent, routing, ... without any credentials.

    ``auth`` is the authentication token where the version sends it here (5.0 and before), else
    None: a LOGON follows. ``routing`` in ``extra`` is None or absent for a client that wants no
    routing.
    """

    tag: ClassVar[RequestTag] = RequestTag.HELLO
    extra: dict[str, Any]
    auth: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Logon:
    """Authentication token: scheme, principal, credentials, and what else the scheme needs."""

    tag: ClassVar[RequestTag] = RequestTag.LOGON
    auth: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Logoff:
    """Forget the user; a LOGON follows."""

    tag: ClassVar[RequestTag] = RequestTag.LOGOFF


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The client leaves. Not answered."""

    tag: ClassVar[RequestTag] = RequestTag.GOODBYE


@dataclass(frozen=True, slots=True)
class Reset:
    """Roll back and forget everything but the user; then answer Success."""

    tag: ClassVar[RequestTag] = RequestTag.RESET


@dataclass(frozen=True, slots=True)
class Run:
    """Run a query. ``parameters`` is a PackStream map, checked but not decoded.

    ``qid`` numbers the result inside an explicit transaction, from 0; it is -1 for an
    auto-commit query, and always in a request that was only peeked at.
    """

    tag: ClassVar[RequestTag] = RequestTag.RUN
    query: str
    parameters: bytes = field(repr=False)
    extra: dict[str, Any]
    qid: int = -1


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin an explicit transaction."""

    tag: ClassVar[RequestTag] = RequestTag.BEGIN
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit the explicit transaction."""

    tag: ClassVar[RequestTag] = RequestTag.COMMIT


@dataclass(frozen=True, slots=True)
class Rollback:
    """Roll the explicit transaction back."""

    tag: ClassVar[RequestTag] = RequestTag.ROLLBACK


@dataclass(frozen=True, slots=True)
class Pull:
    """Send ``n`` records (-1: all) of result ``qid`` (-1: the auto-commit query's; in an explicit
    transaction the connection has put the last result's number for -1, unless only peeked at)."""

    tag: ClassVar[RequestTag] = RequestTag.PULL
    n: int
    qid: int = -1


@dataclass(frozen=True, slots=True)
class Discard:
    """Throw ``n`` records away; fields as in :class:`Pull`."""

    tag: ClassVar[RequestTag] = RequestTag.DISCARD
    n: int
    qid: int = -1


@dataclass(frozen=True, slots=True)
class Route:
    """Ask for the routing table of ``db`` (None: the default database)."""

    tag: ClassVar[RequestTag] = RequestTag.ROUTE
    routing: dict[str, Any]
    bookmarks: list[str]
    db: str | None = None
    imp_user: str | None = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Which interface of the driver is in use; ``api`` is a small integer."""

    tag: ClassVar[RequestTag] = RequestTag.TELEMETRY
    api: int


Request = (
    Hello
    | Logon
    | Logoff
    | Goodbye
    | Reset
    | Run
    | Begin
    | Commit
    | Rollback
    | Pull
    | Discard
    | Route
    | Telemetry
)


# --- other events ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Handshake:
    """The client speaks Bolt and ``version`` is chosen. Answer with :class:`HandshakeReply`."""

    version: tuple[int, int]


@dataclass(frozen=True, slots=True)
class IgnoredRequest:
    """A request after a failure, or before a RESET that waits. Answer with :class:`Ignored`."""

    tag: RequestTag


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """No more requests will come. ``clean`` is false if the peer left in mid-message."""

    clean: bool


class Signal(IntEnum):
    """Not an event: why there is none."""

    NEED_DATA = 0
    PAUSED = 1


# More bytes are needed before the next event.
NEED_DATA = Signal.NEED_DATA
# The last event has not been answered yet.
PAUSED = Signal.PAUSED

Event = Handshake | Request | IgnoredRequest | ConnectionClosed


# --- responses ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HandshakeReply:
    """Tell the client the version chosen."""


@dataclass(frozen=True, slots=True)
class Success:
    """The request was carried out."""

    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The request failed with a Neo4j status code (:mod:`bolt.status`)."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """The request was not looked at."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row, as read; servers write records by the batch (:mod:`bolt.records`)."""

    values: list[Any]


Response = HandshakeReply | Success | Failure | Ignored


# --- decoding ----------------------------------------------------------------------------------

# The keys of HELLO's extra that are an authentication token where there is no LOGON.
_AUTH_KEYS = ("scheme", "principal", "credentials", "realm", "parameters")
_TAGS = {tag.value: tag for tag in RequestTag}
# A driver sends the same PULL after every query; it is the same in all versions.
_SMALL: dict[bytes, Pull | Discard] = {}
_SMALL_COUNT_MAX, _SMALL_BYTES = 256, 32
# Which of RUN's fields holds the parameters.
_PARAMETERS = 1


def request_tag(body: bytes, protocol: Protocol) -> RequestTag:
    """The kind of request in a message. ``RemoteProtocolError`` if the version has none such."""
    if len(body) < 2 or not 0xB0 <= body[0] < 0xC0:
        raise PackStreamError(f"a message must be a structure, but begins with {body[:2].hex(' ')}")
    tag = _TAGS.get(body[1])
    if tag is None or not _exists(tag, protocol):
        major, minor = protocol.version
        raise RemoteProtocolError(
            f"there is no request with tag {body[1]:02x} in Bolt {major}.{minor}"
        )
    return tag


def _exists(tag: RequestTag, protocol: Protocol) -> bool:
    if tag is RequestTag.LOGON or tag is RequestTag.LOGOFF:
        return protocol.logon
    return tag is not RequestTag.TELEMETRY or protocol.telemetry


def decode_request(body: bytes, protocol: Protocol, limits: Limits) -> Request:
    """Read one message. Raises ``RemoteProtocolError``, of which ``PackStreamError`` is one."""
    small = len(body) <= _SMALL_BYTES
    if small and body in _SMALL:
        return _SMALL[body]
    tag = request_tag(body, protocol)
    raw_field = _PARAMETERS if tag is RequestTag.RUN else -1
    _, fields = unpack_message(body, limits, raw_field)
    request = _DECODERS[tag](fields, protocol)
    if small and isinstance(request, Pull | Discard):
        if len(_SMALL) >= _SMALL_COUNT_MAX:
            _SMALL.clear()
        _SMALL[body] = request
    return request


def _run(fields: list[Any], _protocol: Protocol) -> Run:
    tag = RequestTag.RUN
    _arity(fields, 3, tag)
    query, parameters, extra = fields
    if type(query) is not str:
        raise _fields(tag, "a query that is a string")
    if not _is_map(parameters[0]):
        raise _fields(tag, "parameters that are a map")
    return Run(query, parameters, _map(extra, tag))


def _is_map(marker: int) -> bool:
    return 0xA0 <= marker < 0xB0 or 0xD8 <= marker <= 0xDA


def _fields(tag: RequestTag, expected: str) -> RemoteProtocolError:
    return PackStreamError(f"a {tag.name} message needs {expected}")


def _arity(fields: list[Any], count: int, tag: RequestTag) -> None:
    if len(fields) != count:
        raise _fields(tag, f"{count} fields, not {len(fields)}")


def _map(value: Any, tag: RequestTag) -> dict[str, Any]:
    if type(value) is not dict:
        raise _fields(tag, "a map of extra fields")
    return value


def _hello(fields: list[Any], protocol: Protocol) -> Hello:
    _arity(fields, 1, RequestTag.HELLO)
    extra = dict(_map(fields[0], RequestTag.HELLO))
    credentials = {key: extra.pop(key) for key in _AUTH_KEYS if key in extra}
    return Hello(extra, None if protocol.logon else credentials)


def _logon(fields: list[Any], _protocol: Protocol) -> Logon:
    _arity(fields, 1, RequestTag.LOGON)
    return Logon(_map(fields[0], RequestTag.LOGON))


def _begin(fields: list[Any], _protocol: Protocol) -> Begin:
    _arity(fields, 1, RequestTag.BEGIN)
    return Begin(_map(fields[0], RequestTag.BEGIN))


def _counts(fields: list[Any], tag: RequestTag) -> tuple[int, int]:
    _arity(fields, 1, tag)
    extra = _map(fields[0], tag)
    n, qid = extra.get("n"), extra.get("qid", -1)
    if type(n) is not int or not (n == -1 or n > 0):
        raise _fields(tag, "n, the number of records: -1 for all, or more than 0")
    if type(qid) is not int or qid < -1:
        raise _fields(tag, "a qid that is -1 for the last result, or a result's number")
    return n, qid


def _pull(fields: list[Any], _protocol: Protocol) -> Pull:
    return Pull(*_counts(fields, RequestTag.PULL))


def _discard(fields: list[Any], _protocol: Protocol) -> Discard:
    return Discard(*_counts(fields, RequestTag.DISCARD))


def _optional_str(value: Any, name: str) -> str | None:
    if value is not None and type(value) is not str:
        raise _fields(RequestTag.ROUTE, f"{name} to be a string or null")
    return value


def _route(fields: list[Any], protocol: Protocol) -> Route:
    tag = RequestTag.ROUTE
    _arity(fields, 3, tag)
    routing, bookmarks, last = fields
    if type(bookmarks) is not list or any(type(bookmark) is not str for bookmark in bookmarks):
        raise _fields(tag, "a list of bookmarks")
    if protocol.route_extra:
        extra = {} if last is None else _map(last, tag)
        db, imp_user = extra.get("db"), extra.get("imp_user")
    else:
        db, imp_user = last, None
    return Route(
        _map(routing, tag),
        bookmarks,
        _optional_str(db, "db"),
        _optional_str(imp_user, "imp_user"),
    )


def _telemetry(fields: list[Any], _protocol: Protocol) -> Telemetry:
    _arity(fields, 1, RequestTag.TELEMETRY)
    if type(fields[0]) is not int:
        raise _fields(RequestTag.TELEMETRY, "an integer")
    return Telemetry(fields[0])


def _bare(request: Request) -> Callable[[list[Any], Protocol], Request]:
    def decode(fields: list[Any], _protocol: Protocol) -> Request:
        _arity(fields, 0, request.tag)
        return request

    return decode


_DECODERS: dict[RequestTag, Callable[[list[Any], Protocol], Request]] = {
    RequestTag.HELLO: _hello,
    RequestTag.LOGON: _logon,
    RequestTag.LOGOFF: _bare(Logoff()),
    RequestTag.GOODBYE: _bare(Goodbye()),
    RequestTag.RESET: _bare(Reset()),
    RequestTag.RUN: _run,
    RequestTag.BEGIN: _begin,
    RequestTag.COMMIT: _bare(Commit()),
    RequestTag.ROLLBACK: _bare(Rollback()),
    RequestTag.PULL: _pull,
    RequestTag.DISCARD: _discard,
    RequestTag.ROUTE: _route,
    RequestTag.TELEMETRY: _telemetry,
}
