"""Values as structures: the specification's examples, every dialect there and back, refusals."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import pytz
from bolt_values import (
    D5,
    DIALECTS,
    PARAMETERS,
    TEMPORAL,
    VALUES,
    ZONED_DATETIMES,
    message,
    plain,
    record,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from neo4j._codec.hydration.bolt import v1, v2
from neo4j._codec.packstream.v1 import PackableBuffer, UnpackableBuffer
from neo4j._codec.packstream.v1 import Packer as DriverPacker
from neo4j._codec.packstream.v1 import Unpacker as DriverUnpacker
from neo4j.spatial import CartesianPoint, Point, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time

from bolt import (
    Dialect,
    EncodingError,
    Failure,
    Ignored,
    LocalProtocolError,
    PackStreamError,
    ParameterError,
    Record,
    Structure,
    Success,
    decode_messages,
    decode_parameters,
    decode_records,
    encode_message,
    encode_records,
    unpack_message,
)
from bolt.framing import frame
from bolt.hydration import packer_for
from bolt.packer import pack
from bolt.packstream import unpack
from graph.values import Node, Path, Relationship

LEGACY = DIALECTS[1]
HOUR = timezone(timedelta(hours=1))


def structure(value: Any, dialect: Dialect = D5) -> Any:
    return unpack(packer_for(dialect).pack(value))[0]


def fields(value: Any, dialect: Dialect = D5) -> tuple[int, tuple[Any, ...]]:
    got = structure(value, dialect)
    return got.tag, got.fields


ALICE = Node(3, ("Example", "Node"), {"name": "example"})
KNOWS = Relationship(11, "KNOWS", 2, 3, {"name": "example"})

# Examples of https://neo4j.com/docs/bolt/current/bolt/structure-semantics/ and others worked out.
EXAMPLES: list[tuple[Any, int, list[Any]]] = [
    (Date(1970, 1, 1), 0x44, [0]),
    (Date(1969, 12, 31), 0x44, [-1]),
    (Date(1, 1, 1), 0x44, [-719_162]),
    (Date(9999, 12, 31), 0x44, [2_932_896]),
    (Time(0, 0, 1, 5), 0x74, [1_000_000_005]),
    (Time(0, 0, 1, 5, HOUR), 0x54, [1_000_000_005, 3600]),
    (Time(0, 0, 1, 5, timezone(timedelta(hours=-2))), 0x54, [1_000_000_005, -7200]),
    (DateTime(1970, 1, 1, 2, 15, 0, 42), 0x64, [8100, 42]),
    (DateTime(1970, 1, 1, 2, 15, 0, 42, HOUR), 0x49, [4500, 42, 3600]),
    (DateTime(1970, 1, 1, 0, 0, 0, 0, UTC), 0x49, [0, 0, 0]),
    (Duration(months=1, days=2, seconds=3, nanoseconds=4), 0x45, [1, 2, 3, 4]),
    (Duration(seconds=-1, nanoseconds=-5), 0x45, [0, 0, -1, -5]),
    (CartesianPoint((1.0, 2.0)), 0x58, [7203, 1.0, 2.0]),
    (CartesianPoint((1.0, 2.0, 3.0)), 0x59, [9157, 1.0, 2.0, 3.0]),
    (WGS84Point((1.0, 2.0)), 0x58, [4326, 1.0, 2.0]),
    (WGS84Point((1.0, 2.0, 3.0)), 0x59, [4979, 1.0, 2.0, 3.0]),
    (ALICE, 0x4E, [3, ["Example", "Node"], {"name": "example"}, "3"]),
    (KNOWS, 0x52, [11, 2, 3, "KNOWS", {"name": "example"}, "11", "2", "3"]),
]


@pytest.mark.parametrize(("value", "tag", "expected"), EXAMPLES)
def test_examples(value: Any, tag: int, expected: list[Any]) -> None:
    assert fields(value) == (tag, tuple(expected))


def test_legacy_examples() -> None:
    assert fields(ALICE, LEGACY) == (0x4E, (3, ["Example", "Node"], {"name": "example"}))
    assert fields(KNOWS, LEGACY) == (0x52, (11, 2, 3, "KNOWS", {"name": "example"}))
    paris = pytz.timezone("Europe/Paris").localize(DateTime(1970, 1, 1, 2, 15, 0, 42))
    assert fields(DateTime(1970, 1, 1, 2, 15, 0, 42, HOUR), LEGACY) == (0x46, (8100, 42, 3600))
    assert fields(paris, LEGACY) == (0x66, (8100, 42, "Europe/Paris"))
    assert fields(paris, D5) == (0x69, (4500, 42, "Europe/Paris"))


def test_offsets_with_seconds() -> None:
    """Stockholm before 1879 was 53 minutes and 28 seconds ahead of Greenwich."""
    lmt = timezone(timedelta(seconds=3208))
    for value in (DateTime(1818, 7, 21, 21, 40, 32, 142, lmt), Time(1, 2, 3, 4, lmt)):
        raw = packer_for(D5).pack({"at": value})
        assert plain_zone(decode_parameters(raw, D5)["at"]) == plain_zone(value)


def plain_zone(value: Any) -> Any:
    return value.replace(tzinfo=None).iso_format(), value.tzinfo


def test_zoneinfo_is_written() -> None:
    at = DateTime(2024, 7, 1, 12, 0, 0, 0, ZoneInfo("Europe/Paris"))
    assert fields(at) == (0x69, (1_719_828_000, 0, "Europe/Paris"))


def test_both_passes_of_a_repeated_hour() -> None:
    """Clocks in Paris went back at 2024-10-27T01:00Z: 02:30 came twice."""
    for instant in (1_729_989_000, 1_729_992_600):
        raw = pack({"at": Structure(0x69, (instant, 7, "Europe/Paris"))})
        at = decode_parameters(raw, D5)["at"]
        assert at.hour_minute_second_nanosecond == (2, 30, 0, 7)
        assert fields(at) == (0x69, (instant, 7, "Europe/Paris"))


def test_path_of_the_specification() -> None:
    """(42)-[1000]->(69)<-[1000]-(42)<-[1001]-(1)."""
    nodes = {i: Node(i, (), {}) for i in (42, 69, 1)}
    there = Relationship(1000, "A", 42, 69, {})
    last = Relationship(1001, "B", 1, 42, {})
    path = Path((nodes[42], nodes[69], nodes[42], nodes[1]), (there, there, last))
    tag, (got_nodes, got_rels, indices) = fields(path)
    assert tag == 0x50
    assert [node.fields[0] for node in got_nodes] == [42, 69, 1]
    assert [(rel.tag, rel.fields) for rel in got_rels] == [
        (0x72, (1000, "A", {}, "1000")),
        (0x72, (1001, "B", {}, "1001")),
    ]
    assert indices == [1, 1, -1, 0, -2, 2]
    short = fields(path, LEGACY)[1][1]
    assert [rel.fields for rel in short] == [(1000, "A", {}), (1001, "B", {})]


def test_impossible_paths() -> None:
    a, b = Node(1, (), {}), Node(2, (), {})
    with pytest.raises(EncodingError, match="does not join"):
        structure(Path((a, b), (Relationship(5, "R", 1, 3, {}),)))
    with pytest.raises(EncodingError, match="one node more"):
        structure(Path((a, b), ()))


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=40)
@given(columns=st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=4))
def test_records_there_and_back(dialect: Dialect, columns: list[list[Any]]) -> None:
    if not dialect.utc:
        # Local seconds cannot tell the passes of a repeated hour apart; tested by itself.
        columns = [[_without_ambiguity(value) for value in column] for column in columns]
    data = encode_records(columns, 3, dialect)
    rows = decode_records(data, dialect)
    assert plain(rows) == plain([list(row) for row in zip(*columns, strict=True)] or [[], [], []])


def _without_ambiguity(value: Any) -> Any:
    match value:
        case DateTime() if value.tzinfo is not None and getattr(value.tzinfo, "zone", None):
            local = value.replace(tzinfo=None)
            return pytz.timezone(value.tzinfo.zone).localize(local, is_dst=False)
        case list():
            return [_without_ambiguity(item) for item in value]
        case dict():
            return {key: _without_ambiguity(item) for key, item in value.items()}
        case Node():
            return Node(value.id, value.labels, _without_ambiguity(value.properties))
        case Relationship():
            properties = _without_ambiguity(value.properties)
            return Relationship(value.id, value.type, value.start, value.end, properties)
    return value


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=40)
@given(parameters=PARAMETERS)
def test_parameters_there_and_back(dialect: Dialect, parameters: dict[str, Any]) -> None:
    if not dialect.utc:
        parameters = _without_ambiguity(parameters)
    raw = packer_for(dialect).pack(parameters)
    assert plain(decode_parameters(raw, dialect)) == plain(parameters)


HANDLERS = {True: v2.HydrationHandler, False: v1.HydrationHandler}


@pytest.mark.parametrize("utc", [True, False])
@given(value=TEMPORAL | ZONED_DATETIMES)
def test_agrees_with_the_driver(utc: bool, value: Any) -> None:
    """Our bytes are the driver's for every temporal value."""
    if isinstance(value, Time) and value.tzinfo is not None:
        # The driver cannot write a Time with datetime.timezone.
        value = value.replace(
            tzinfo=pytz.FixedOffset(value.tzinfo.utcoffset(None).total_seconds() // 60)
        )
    dialect = Dialect(utc, utc)
    handler = HANDLERS[utc]()
    buffer = PackableBuffer()
    DriverPacker(buffer).pack(value, handler.new_hydration_scope().dehydration_hooks)
    raw = packer_for(dialect).pack(value)
    assert raw == bytes(buffer.data)


def driver_reads(value: Any) -> Any:
    raw = packer_for(D5).pack(value)
    scope = v2.HydrationHandler().new_hydration_scope()
    return DriverUnpacker(UnpackableBuffer(raw)).unpack(scope.hydration_hooks)


def test_driver_reads_our_graph() -> None:
    path = Path((Node(2, ("A",), {}), Node(3, ("B",), {"x": 1})), (Relationship(7, "R", 3, 2, {}),))
    node, rel, walked = driver_reads(ALICE), driver_reads(KNOWS), driver_reads(path)
    assert (node.element_id, set(node.labels)) == ("3", {"Example", "Node"})
    assert dict(node) == ALICE.properties
    assert (rel.element_id, rel.type, rel.start_node.element_id) == ("11", "KNOWS", "2")
    assert [n.element_id for n in walked.nodes] == ["2", "3"]
    assert walked.relationships[0].start_node.element_id == "3"


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "values", "match"),
    [
        (0x4E, [1, [], {}, "1"], "cannot be parameters"),
        (0x52, [1, 2, 3, "R", {}, "1", "2", "3"], "cannot be parameters"),
        (0x50, [[], [], []], "cannot be parameters"),
        (0x72, [1, "R", {}, "1"], "cannot be parameters"),
        (0x46, [0, 0, 0], "another protocol version"),
        (0x01, [], "not known"),
        (0x56, [b"\xc8", b"\x01"], "not known"),
        (0x44, [], "needs the fields"),
        (0x44, ["1"], "needs the fields"),
        (0x44, [True], "needs the fields"),
        (0x44, [-719_163], "years 1 and 9999"),
        (0x44, [2_932_897], "out of range"),
        (0x44, [2**63 - 1], "out of range"),
        (0x74, [-1], "out of range"),
        (0x74, [86_400 * 10**9], "out of range"),
        (0x54, [0, 64_801], "18 hours"),
        (0x54, [0, -64_801], "18 hours"),
        (0x49, [0, 0, 64_801], "18 hours"),
        (0x54, [0, 2**62], "out of range"),
        (0x64, [0, 10**9], "nanoseconds"),
        (0x64, [0, -1], "nanoseconds"),
        (0x64, [2**63 - 1, 0], "out of range"),
        (0x49, [-(2**63), 0, 0], "out of range"),
        (0x49, [0, 0, "Europe/Paris"], "needs the fields"),
        (0x69, [0, 0, "Europe/Atlantis"], "time zone 'Europe/Atlantis' is not known"),
        (0x69, [0, 0, "../../../etc/passwd"], "not known"),
        (0x69, [0, 0, "zone.tab"], "not known"),
        (0x69, [0, 0, ""], "not known"),
        (0x69, [2**63 - 1, 0, "UTC"], "out of range"),
        (0x69, [-62_135_596_800, 0, "America/New_York"], "out of range"),
        (0x45, [2**63 - 1, 2**63 - 1, 0, 0], "out of range"),
        (0x58, [7203, 1, 2], "needs the fields"),
        (0x58, [1234, 1.0, 2.0], "SRID 1234"),
        (0x58, [9157, 1.0, 2.0], "takes 3 coordinates"),
        (0x59, [7203, 1.0, 2.0, 3.0], "takes 2 coordinates"),
    ],
)
def test_refused_parameters(tag: int, values: list[Any], match: str) -> None:
    raw = pack({"p": [Structure(tag, tuple(values))]})
    with pytest.raises(ParameterError, match=match):
        decode_parameters(raw, D5)


def test_utc_structures_need_the_utc_dialect() -> None:
    with pytest.raises(ParameterError, match="another protocol version"):
        decode_parameters(pack({"p": Structure(0x49, (0, 0, 0))}), LEGACY)


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\x90", b"\xa0\x01", b"\xa1\x81a"])
def test_parameters_are_one_map(raw: bytes) -> None:
    with pytest.raises(PackStreamError):
        decode_parameters(raw, D5)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(raw=st.binary(max_size=60))
def test_any_parameter_bytes(dialect: Dialect, raw: bytes) -> None:
    for data in (raw, b"\xa1\x81a" + raw, b"\xb3\x69" + raw, b"\xa1\x81a\xb3\x49" + raw):
        try:
            decode_parameters(data, dialect)
        except (ParameterError, PackStreamError):
            pass


GRAPH_TAGS = st.sampled_from([0x4E, 0x52, 0x72, 0x50, 0x70, 0x71, 0x7E, 0x7F, 0x44, 0x69])
STRUCTURES = st.recursive(
    st.integers(-2, 4) | st.just("x") | st.just({}),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(Structure, GRAPH_TAGS, st.lists(inner, max_size=8).map(tuple))
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(value=STRUCTURES)
def test_any_structure_from_a_server(dialect: Dialect, value: Any) -> None:
    raw = pack(value)
    for read, data in (
        (unpack_message, raw),
        (unpack_message, b"\xb1\x71\x91" + raw),
        (decode_records, frame(b"\xb1\x71\x91" + raw)),
    ):
        try:
            read(data, dialect)
        except (ParameterError, PackStreamError):
            pass


def test_what_cannot_be_written() -> None:
    odd = timezone(timedelta(microseconds=90))
    with pytest.raises(EncodingError, match="fraction"):
        structure(DateTime(2024, 1, 1, tzinfo=odd))
    with pytest.raises(EncodingError, match="no offset"):
        structure(Time(1, tzinfo=ZoneInfo("Europe/Paris")))
    with pytest.raises(EncodingError, match="point of 1 coordinates"):
        structure(CartesianPoint((1.0,)))
    stray = Point((1.0, 2.0))
    stray.srid = None
    with pytest.raises(EncodingError, match="SRID None"):
        structure(stray)


# --- messages in bulk -----------------------------------------------------------------------------


def test_record_bytes() -> None:
    data = encode_records([[1, 2], ["a", "b"]], 2, D5)
    assert data.hex(" ") == "00 06 b1 71 92 01 81 61 00 00 00 06 b1 71 92 02 81 62 00 00"
    assert data == record(1, "a") + record(2, "b")


def test_arrays_are_columns() -> None:
    columns = [np.array([1, 2]), np.array([0.5, 1.5]), np.array(["a", None], dtype=object)]
    assert decode_records(encode_records(columns, 2, D5), D5) == [[1, 0.5, "a"], [2, 1.5, None]]


def test_no_columns_and_no_rows() -> None:
    assert decode_records(encode_records([], 2, D5), D5) == [[], []]
    assert encode_records([[], []], 0, D5) == b""


def test_many_columns() -> None:
    columns = [[i] for i in range(300)]
    assert decode_records(encode_records(columns, 1, D5), D5) == [list(range(300))]


@pytest.mark.parametrize("size", [65_526, 65_527, 65_528, 65_529, 65_530, 65_531, 200_000])
def test_long_records_are_split(size: int) -> None:
    rows = decode_records(encode_records([["x" * size, "y"]], 2, D5), D5)
    assert rows == [["x" * size], ["y"]]


def test_columns_of_unequal_length() -> None:
    with pytest.raises(LocalProtocolError, match=r"\[2, 1\]"):
        encode_records([[1, 2], [1]], 2, D5)
    with pytest.raises(LocalProtocolError):
        encode_records([[1, 2]], 3, D5)


def test_summaries() -> None:
    assert encode_message(Ignored(), D5).hex(" ") == "00 02 b0 7e 00 00"
    assert encode_message(Success({"a": 1}), D5) == message(0x70, {"a": 1})
    failure = Failure("Neo.ClientError.Statement.SyntaxError", "no")
    expected = {"code": "Neo.ClientError.Statement.SyntaxError", "message": "no"}
    assert encode_message(failure, D5) == message(0x7F, expected)
    data = b"".join(encode_message(m, D5) for m in (Success({}), failure, Ignored()))
    assert decode_messages(data + record(1), D5) == [Success({}), failure, Ignored(), Record([1])]


@pytest.mark.parametrize(
    "data", [b"\x00", record(1)[:-1], record(1)[:-3], message(0x70, {}), frame(b"\xb1\x71\x01")]
)
def test_not_records(data: bytes) -> None:
    with pytest.raises(PackStreamError):
        decode_records(data, D5)


def test_bad_column_leaves_nothing() -> None:
    with pytest.raises(EncodingError):
        encode_records([[1, object()]], 2, D5)
