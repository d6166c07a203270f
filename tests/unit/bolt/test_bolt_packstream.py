"""PackStream: the specification's examples, round trips, and bytes nobody should send."""

from __future__ import annotations

import enum
import tracemalloc

import numpy as np
import pytest
from bolt_values import PLAIN, plain
from hypothesis import example, given
from hypothesis import strategies as st
from neo4j._codec.packstream.v1 import PackableBuffer, UnpackableBuffer
from neo4j._codec.packstream.v1 import Packer as DriverPacker
from neo4j._codec.packstream.v1 import Unpacker as DriverUnpacker

from bolt import EncodingError, Limits, PackStreamError, Structure
from bolt import packer as packer_module
from bolt.limits import AUTHENTICATED, PACK_DEPTH_MAX, RESULTS
from bolt.packer import Packer, pack
from bolt.packstream import skip, unpack, unpack_message

# https://neo4j.com/docs/bolt/current/packstream/, section by section.
SPECIFICATION = [
    (None, "C0"),
    (False, "C2"),
    (True, "C3"),
    (42, "2A"),
    (-16, "F0"),
    (127, "7F"),
    (-17, "C8 EF"),
    (-128, "C8 80"),
    (128, "C9 00 80"),
    (-129, "C9 FF 7F"),
    (32_767, "C9 7F FF"),
    (32_768, "CA 00 00 80 00"),
    (-32_769, "CA FF FF 7F FF"),
    (2_147_483_647, "CA 7F FF FF FF"),
    (2_147_483_648, "CB 00 00 00 00 80 00 00 00"),
    (-2_147_483_649, "CB FF FF FF FF 7F FF FF FF"),
    (-9223372036854775808, "CB 80 00 00 00 00 00 00 00"),
    (9223372036854775807, "CB 7F FF FF FF FF FF FF FF"),
    (1.23, "C1 3F F3 AE 14 7A E1 47 AE"),
    (b"", "CC 00"),
    (b"\x01\x02\x03", "CC 03 01 02 03"),
    ("", "80"),
    ("A", "81 41"),
    (
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "D0 1A 41 42 43 44 45 46 47 48 49 4A 4B 4C 4D 4E 4F 50 51 52 53 54 55 56 57 58 59 5A",
    ),
    ("Größenmaßstäbe", "D0 12 47 72 C3 B6 C3 9F 65 6E 6D 61 C3 9F 73 74 C3 A4 62 65"),
    ([], "90"),
    ([1, 2, 3], "93 01 02 03"),
    ([1, 2.0, "three"], "93 01 C1 40 00 00 00 00 00 00 00 85 74 68 72 65 65"),
    (list(range(1, 41)), "D4 28" + "".join(f"{i:02X}" for i in range(1, 41))),
    ({}, "A0"),
    ({"one": "eins"}, "A1 83 6F 6E 65 84 65 69 6E 73"),
    (
        Structure(0x4E, (3, ["Example", "Node"], {"name": "example"})),
        "B3 4E 03 92 87 45 78 61 6D 70 6C 65 84 4E 6F 64 65"
        "A1 84 6E 61 6D 65 87 65 78 61 6D 70 6C 65",
    ),
]


@pytest.mark.parametrize(("value", "hexadecimal"), SPECIFICATION)
def test_specification(value: object, hexadecimal: str) -> None:
    raw = bytes.fromhex(hexadecimal)
    assert pack(value) == raw
    assert unpack(raw) == (value, len(raw))
    assert skip(raw) == len(raw)


@pytest.mark.parametrize("hexadecimal", ["2A", "C8 2A", "C9 00 2A", "CA 0000002A", f"CB{42:016X}"])
def test_integer_in_any_width(hexadecimal: str) -> None:
    assert unpack(bytes.fromhex(hexadecimal))[0] == 42


@pytest.mark.parametrize("size", [15, 16, 255, 256, 65_535, 65_536])
def test_sizes(size: int) -> None:
    for value in ("x" * size, b"x" * size, [1] * size, {f"{i:x}": i for i in range(size)}):
        raw = pack(value)
        assert unpack(raw) == (value, len(raw))
        assert skip(raw) == len(raw)


@given(PLAIN)
def test_round_trip(value: object) -> None:
    raw = pack(value)
    back, end = unpack(b"\xff" + raw + b"\xff", 1)
    assert (plain(back), end) == (plain(value), len(raw) + 1)
    assert skip(b"\xff" + raw + b"\xff", 1) == len(raw) + 1


def driver_pack(value: object) -> bytes:
    buffer = PackableBuffer()
    DriverPacker(buffer).pack(value)
    return bytes(buffer.data)


@given(PLAIN)
def test_agrees_with_the_driver(value: object) -> None:
    assert pack(value) == driver_pack(value)
    assert plain(DriverUnpacker(UnpackableBuffer(pack(value))).unpack()) == plain(value)


@given(st.binary(max_size=60))
@example(bytes.fromhex("D6FFFFFFFF"))
@example(bytes.fromhex("DAFFFFFFFF"))
@example(bytes.fromhex("D2FFFFFFFF"))
@example(bytes.fromhex("CEFFFFFFFF"))
@example(bytes.fromhex("B3"))
@example(bytes.fromhex("81FF"))
@example(bytes.fromhex("91D0"))
@example(bytes.fromhex("91CB00"))
def test_any_bytes(raw: bytes) -> None:
    """Reading ends in a value or in the declared error, and skipping agrees with it."""
    try:
        _, end = unpack(raw)
    except PackStreamError:
        with pytest.raises(PackStreamError):
            skip(raw)
    else:
        assert end <= len(raw)
        assert skip(raw) == end
    try:
        unpack_message(raw)
    except PackStreamError:
        pass


@given(PLAIN, st.data())
def test_cut_short(value: object, data: st.DataObject) -> None:
    raw = pack(value)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    for read in (unpack, skip):
        with pytest.raises(PackStreamError):
            read(cut)


@pytest.mark.parametrize("marker", [0xC4, 0xC5, 0xC6, 0xC7, 0xCF, 0xD3, 0xD7, 0xDB, 0xDC, 0xE0])
def test_reserved_markers(marker: int) -> None:
    raw = bytes((marker,)) + bytes(20)
    for read in (unpack, skip):
        with pytest.raises(PackStreamError, match="reserved"):
            read(raw)


@pytest.mark.parametrize("raw", [b"\xa1\x01\x01", b"\xa1\xc0\x01", b"\xa1\x91\x81a\x01"])
def test_map_keys_are_strings(raw: bytes) -> None:
    for read in (unpack, skip):
        with pytest.raises(PackStreamError, match="map key"):
            read(raw)


def test_last_of_equal_keys_counts() -> None:
    assert unpack(bytes.fromhex("A2 8161 01 8161 02"))[0] == {"a": 2}


@pytest.mark.parametrize("raw", [b"\x82\xc3\x28", b"\xd0\x02\xc3\x28", b"\xa1\x81\xff\x01"])
def test_utf_8_is_strict(raw: bytes) -> None:
    for read in (unpack, skip):
        with pytest.raises(PackStreamError, match="UTF-8"):
            read(raw)


def test_depth() -> None:
    depth = AUTHENTICATED.depth_max
    for wrap in (b"\x91", b"\xa1\x81k", b"\xb1\x01"):
        assert skip(wrap * depth + b"\x01") == len(wrap) * depth + 1
        unpack(wrap * depth + b"\x01")
        for read in (unpack, skip):
            with pytest.raises(PackStreamError, match="deep"):
                read(wrap * (depth + 1) + b"\x01")
            with pytest.raises(PackStreamError, match="deep"):
                read(wrap * 100_000 + b"\x01")


def test_elements() -> None:
    limits = Limits(message_bytes_max=1000, depth_max=8, elements_max=10, queue_bytes_max=0)
    fits = pack([[1, 2, 3], [4, 5], {"a": 1, "b": 2}])
    assert skip(fits, 0, limits) == len(fits)
    unpack(fits, 0, limits)
    for read in (unpack, skip):
        with pytest.raises(PackStreamError, match="10 elements"):
            read(pack([[1, 2, 3], [4, 5], {"a": 1, "b": 2}, [6]]), 0, limits)


@pytest.mark.parametrize("hexadecimal", ["D6FFFFFFFF", "DAFFFFFFFF", "D2FFFFFFFF", "CEFFFFFFFF"])
def test_declared_size_allocates_nothing(hexadecimal: str) -> None:
    raw = bytes.fromhex(hexadecimal) + b"\x01" * 100
    tracemalloc.start()
    try:
        for read in (unpack, skip):
            # Refused by the bytes that follow, whatever the limits are.
            with pytest.raises(PackStreamError, match="declared"):
                read(raw, 0, RESULTS)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_message() -> None:
    body = bytes.fromhex("B2 10 81 61 A1 81 62 01")
    assert unpack_message(body) == (0x10, ["a", {"b": 1}])
    assert unpack_message(body, raw_field=1) == (0x10, ["a", bytes.fromhex("A1 81 62 01")])
    for bad in (b"", b"\x01", b"\xb1\x10", body + b"\x01", body[:-1], b"\xb1\x10\xc9\x00"):
        with pytest.raises(PackStreamError):
            unpack_message(bad)
        with pytest.raises(PackStreamError):
            unpack_message(bad, raw_field=0)


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_integers_too_large(value: int) -> None:
    with pytest.raises(EncodingError, match="64 bits"):
        pack([value])


def test_no_form() -> None:
    with pytest.raises(EncodingError, match="type object"):
        pack(object())
    with pytest.raises(EncodingError, match="type set"):
        pack({"a": {1}})
    with pytest.raises(EncodingError, match="key"):
        pack({1: 2})
    with pytest.raises(EncodingError, match="UTF-8"):
        pack("\ud800")
    with pytest.raises(EncodingError, match="UTF-8"):
        pack({"\ud800": 1})
    with pytest.raises(EncodingError, match="15 fields"):
        pack(Structure(1, tuple(range(16))))


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: Structure(1, (v,))]
)
def test_packing_depth(wrap: object) -> None:
    value: object = 1
    for _ in range(PACK_DEPTH_MAX):
        value = wrap(value)  # type: ignore[operator]
    pack(value)
    with pytest.raises(EncodingError, match="nested"):
        pack(wrap(value))  # type: ignore[operator]
    for _ in range(2_000):
        value = wrap(value)  # type: ignore[operator]
    with pytest.raises(EncodingError, match="nested"):
        pack(value)


class Colour(enum.IntEnum):
    RED = 300


def test_subclasses_and_numpy() -> None:
    assert pack(Colour.RED) == pack(300)
    assert pack(np.int64(7)) == pack(7)
    assert pack(np.int32(-7)) == pack(-7)
    assert pack(np.float64(1.5)) == pack(1.5)
    assert pack(np.float32(1.5)) == pack(1.5)
    assert pack(np.bool_(True)) == pack(True)
    assert pack(bytearray(b"ab")) == pack(b"ab")
    assert pack((1, 2)) == pack([1, 2])


def test_columns() -> None:
    packer = Packer()
    assert packer.pack_column([1, "a", None]) == [b"\x01", b"\x81a", b"\xc0"]
    assert packer.pack_column(np.array([1, 200])) == [b"\x01", b"\xc9\x00\xc8"]
    assert packer.pack_column(np.array([True, False])) == [b"\xc3", b"\xc2"]


def test_key_cache_is_bounded() -> None:
    for i in range(10_000):
        pack({f"key{i}": i, "x" * 100: i})
    assert len(packer_module._KEYS) <= packer_module._KEYS_MAX
    assert max(map(len, packer_module._KEYS)) <= packer_module._KEY_LENGTH_MAX
