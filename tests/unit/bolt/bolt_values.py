"""Strategies and small tools shared by the tests of this folder."""

from __future__ import annotations

import math
from datetime import UTC, timedelta, timezone
from typing import Any

import pytz
from hypothesis import strategies as st
from neo4j.spatial import CartesianPoint, Point, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time

from bolt import PROTOCOLS, Dialect, ServerConnection
from bolt.framing import frame
from bolt.messages import HandshakeReply, RequestTag, Success
from bolt.packer import list_header, pack
from graph.values import Node, Path, Relationship

DIALECTS = [Dialect(True, True), Dialect(False, False), Dialect(False, True)]
D5 = DIALECTS[0]

INTS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | INTS | st.floats() | TEXT | st.binary(max_size=20)


def containers(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
        max_leaves=20,
    )


PLAIN = containers(SCALARS)

_SECOND = 10**9
OFFSETS = st.integers(-18 * 60, 18 * 60).map(
    lambda minutes: timezone(timedelta(minutes=minutes)) if minutes else UTC
)
DATES = st.integers(1, 3_652_059).map(Date.from_ordinal)
TIMES = st.builds(Time.from_ticks, st.integers(0, 86_400 * _SECOND - 1), st.none() | OFFSETS)
# A day off both ends, so that the same instant in UTC still has a date.
INNER_DATES = st.integers(3, 3_652_057).map(Date.from_ordinal)
LOCAL_DATETIMES = st.builds(
    DateTime.combine, INNER_DATES, st.builds(Time.from_ticks, st.integers(0, 86_400 * _SECOND - 1))
)
OFFSET_DATETIMES = st.builds(lambda at, zone: at.replace(tzinfo=zone), LOCAL_DATETIMES, OFFSETS)
ZONES = st.sampled_from(["Europe/Paris", "America/St_Johns", "Asia/Kathmandu", "UTC"])


def _in_zone(days: int, ticks: int, name: str) -> DateTime:
    zone = pytz.timezone(name)
    at = DateTime.combine(Date.from_ordinal(719_163 + days), Time.from_ticks(ticks))
    # Through UTC, so that the local time exists.
    return at.replace(tzinfo=pytz.UTC).astimezone(zone)


ZONED_DATETIMES = st.builds(
    _in_zone, st.integers(0, 20_000), st.integers(0, 86_400 * _SECOND - 1), ZONES
)
DURATIONS = st.builds(
    Duration,
    months=st.integers(-(10**6), 10**6),
    days=st.integers(-(10**6), 10**6),
    seconds=st.integers(-(10**12), 10**12),
    nanoseconds=st.integers(-_SECOND + 1, _SECOND - 1),
)
_COORDINATES = st.floats(allow_nan=False)
POINTS = st.builds(
    lambda kind, xyz: kind(xyz),
    st.sampled_from([CartesianPoint, WGS84Point]),
    st.lists(_COORDINATES, min_size=2, max_size=3),
)
TEMPORAL = DATES | TIMES | LOCAL_DATETIMES | OFFSET_DATETIMES | DURATIONS
ENGINE_SCALARS = SCALARS | TEMPORAL | ZONED_DATETIMES | POINTS
PARAMETERS = st.dictionaries(TEXT, containers(ENGINE_SCALARS), max_size=5)
PROPERTIES = st.dictionaries(TEXT, ENGINE_SCALARS, max_size=3)
NODES = st.builds(Node, st.integers(0, 2**40), st.lists(TEXT, max_size=3).map(tuple), PROPERTIES)
RELATIONSHIPS = st.builds(
    Relationship,
    st.integers(0, 2**40),
    TEXT,
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    PROPERTIES,
)


@st.composite
def paths(draw: st.DrawFn) -> Path:
    """A walk over few nodes and relationships, so that both repeat and loops occur."""
    nodes = [Node(i, ("N",), {"i": i}) for i in range(draw(st.integers(1, 4)))]
    node = st.integers(0, len(nodes) - 1)
    ends = draw(st.lists(st.tuples(node, node), max_size=4))
    rels = [Relationship(100 + i, "R", a, b, {"w": i}) for i, (a, b) in enumerate(ends)]
    walked, steps = [nodes[draw(node)]], []
    for _ in range(draw(st.integers(0, 6))):
        at = walked[-1].id
        choices = [rel for rel in rels if at in (rel.start, rel.end)]
        if not choices:
            break
        rel = draw(st.sampled_from(choices))
        steps.append(rel)
        walked.append(nodes[rel.end if rel.start == at else rel.start])
    return Path(tuple(walked), tuple(steps))


VALUES = containers(ENGINE_SCALARS | NODES | RELATIONSHIPS | paths())


def plain(value: Any) -> Any:
    """``value`` in a form that ``==`` compares deeply: types, NaN, zones and entities included."""
    match value:
        case float():
            return ("float", "nan" if math.isnan(value) else (value, math.copysign(1, value)))
        case list():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case Node():
            return ("node", value.id, value.labels, plain(value.properties))
        case Relationship():
            ends = (value.start, value.end)
            return ("rel", value.id, value.type, ends, plain(value.properties))
        case Path():
            return (
                "path",
                [plain(n) for n in value.nodes],
                [plain(r) for r in value.relationships],
            )
        case DateTime() | Time():
            return (type(value), value.iso_format(), _zone(value.tzinfo))
        case Point():
            return (type(value), value.srid, tuple(value))
        case _:
            return (type(value), value)


def _zone(zone: Any) -> Any:
    return getattr(zone, "zone", None) or zone


# --- messages of a client, by hand ----------------------------------------------------------------


def message(tag: int, *fields: Any) -> bytes:
    """A framed message with plain fields."""
    body = bytes((0xB0 + len(fields), tag)) + b"".join(pack(field) for field in fields)
    return frame(body)


def record(*values: Any) -> bytes:
    return frame(b"\xb1\x71" + list_header(len(values)) + b"".join(map(pack, values)))


def run(query: str = "RETURN 1", parameters: Any = None, extra: Any = None) -> bytes:
    return message(RequestTag.RUN, query, parameters or {}, extra or {})


def pull(n: int = -1, **extra: int) -> bytes:
    return message(RequestTag.PULL, {"n": n, **extra})


def discard(n: int = -1, **extra: int) -> bytes:
    return message(RequestTag.DISCARD, {"n": n, **extra})


BEGIN = message(RequestTag.BEGIN, {})
COMMIT = message(RequestTag.COMMIT)
ROLLBACK = message(RequestTag.ROLLBACK)
RESET = message(RequestTag.RESET)
GOODBYE = message(RequestTag.GOODBYE)
LOGOFF = message(RequestTag.LOGOFF)
LOGON = message(RequestTag.LOGON, {"scheme": "none"})
HELLO = message(RequestTag.HELLO, {"user_agent": "test/1.0"})
TELEMETRY = message(RequestTag.TELEMETRY, 1)
ROUTE = message(RequestTag.ROUTE, {}, [], {})


def opening(*versions: tuple[int, int]) -> bytes:
    slots = b"".join(bytes((0, 0, minor, major)) for major, minor in versions)
    return b"\x60\x60\xb0\x17" + slots.ljust(16, b"\0")


def answer(connection: ServerConnection, **metadata: Any) -> bytes:
    """Take the next request and answer it with SUCCESS."""
    connection.next_event()
    return connection.send(Success(metadata))


def connected(version: tuple[int, int] = (5, 4)) -> ServerConnection:
    """A connection behind its handshake."""
    connection = ServerConnection()
    connection.receive_data(opening(version))
    connection.next_event()
    connection.send(HandshakeReply())
    return connection


def ready(version: tuple[int, int] = (5, 4)) -> ServerConnection:
    """A connection in READY."""
    connection = connected(version)
    connection.receive_data(HELLO + (LOGON if PROTOCOLS[version].logon else b""))
    answer(connection)
    if PROTOCOLS[version].logon:
        answer(connection)
    return connection
