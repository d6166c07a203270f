"""What the Bolt codec costs, alone: no socket, no query.

    python benchmarks/bolt_codec.py [--rounds 9]

prints, for each case, the median over the rounds of the mean time per unit (a row, a message, an
exchange), and the best round. The codec is pure Python; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from neo4j.time import Date, DateTime

from bolt import (
    PROTOCOLS,
    Dialect,
    HandshakeReply,
    ServerConnection,
    Success,
    decode_parameters,
    decode_records,
    encode_records,
)
from bolt.framing import frame
from bolt.limits import AUTHENTICATED
from bolt.messages import decode_request
from bolt.packer import pack
from bolt.packstream import skip, unpack
from graph.values import Node

ROWS = 1000
DIALECT = Dialect(element_ids=True, utc=True)
QUERY = "MATCH (n:User {id: $id}) WHERE n.name = $name RETURN n.name"
PARAMETERS = pack({"id": 123_456, "name": "Alice"})
RUN = b"\xb3\x10" + pack(QUERY) + PARAMETERS + pack({"db": "neo4j", "mode": "r"})
PULL = b"\xb1\x3f" + pack({"n": 1000})
FIELDS = {"fields": ["n.name"], "t_first": 0}
SUMMARY = {"type": "r", "t_last": 0, "db": "neo4j", "bookmark": "rayft:1:123456"}

COLUMNS: dict[str, list[Any]] = {
    "int": list(range(ROWS)),
    "str": [f"name {i}" for i in range(ROWS)],
    "float": [i * 1.5 for i in range(ROWS)],
    "node": [Node(i, ("User",), {"id": i, "name": f"name {i}"}) for i in range(ROWS)],
    "list of 10": [list(range(i, i + 10)) for i in range(ROWS)],
    "date": [Date(2024, 1, 1)] * ROWS,
    "datetime": [DateTime(2024, 1, 1, 12)] * ROWS,
}
SCALARS = [COLUMNS["int"], COLUMNS["str"], COLUMNS["float"]]
ONE_ROW = encode_records([["Alice"]], 1, DIALECT)


def ready() -> ServerConnection:
    """A connection behind handshake, HELLO and LOGON."""
    connection = ServerConnection()
    connection.receive_data(b"\x60\x60\xb0\x17" + b"\x00\x00\x04\x05" + bytes(12))
    connection.next_event()
    connection.send(HandshakeReply())
    for tag in (b"\xb1\x01", b"\xb1\x6a"):
        connection.receive_data(frame(tag + pack({})))
        connection.next_event()
        connection.send(Success({}))
    return connection


def exchange() -> Callable[[], object]:
    """A gateway's share of one query: RUN and PULL in, one record and two summaries out."""
    connection = ready()
    request = frame(RUN) + frame(PULL)

    def once() -> bytes:
        connection.receive_data(request)
        connection.next_event()
        connection.peek()
        answer = connection.send(Success(FIELDS))
        connection.next_event()
        connection.records_written()
        return answer + ONE_ROW + connection.send(Success(SUMMARY))

    return once


def cases() -> list[tuple[str, str, int, Callable[[], object]]]:
    """(what, unit, units in one call, call)."""
    protocol = PROTOCOLS[5, 4]
    rows = encode_records(SCALARS, ROWS, DIALECT)
    batch = pack([{"id": i, "name": f"name {i}"} for i in range(ROWS)])
    table: list[tuple[str, str, int, Callable[[], object]]] = [
        (
            "encode rows of int, str, float",
            "row",
            ROWS,
            lambda: encode_records(SCALARS, ROWS, DIALECT),
        ),
        ("decode rows of int, str, float", "row", ROWS, lambda: decode_records(rows, DIALECT)),
        (
            "decode RUN, two parameters",
            "message",
            1,
            lambda: decode_request(RUN, protocol, AUTHENTICATED),
        ),
        ("decode its parameters", "map", 1, lambda: decode_parameters(PARAMETERS, DIALECT)),
        ("check a batch of two-entry maps", "map", ROWS, lambda: skip(batch)),
        ("decode a batch of two-entry maps", "map", ROWS, lambda: unpack(batch)),
        ("RUN + PULL through a connection", "exchange", 1, exchange()),
    ]
    for name, column in COLUMNS.items():
        table.append((f"encode a column of {name}", "value", ROWS, encoder(column)))
    return table


def encoder(column: list[Any]) -> Callable[[], object]:
    return lambda: encode_records([column], ROWS, DIALECT)


def measure(call: Callable[[], object], rounds: int) -> list[float]:
    """Seconds per call in each round; a round lasts some 20 ms."""
    start = perf_counter()
    call()
    calls = max(1, int(0.02 / max(perf_counter() - start, 1e-7)))
    times = []
    for _ in range(rounds):
        start = perf_counter()
        for _ in range(calls):
            call()
        times.append((perf_counter() - start) / calls)
    return times


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="rounds per case (default 9)")
    options = parser.parse_args(arguments)
    print("| what | unit | median, µs | best, µs |\n|---|---|---:|---:|")
    for what, unit, units, call in cases():
        times = [seconds / units * 1e6 for seconds in measure(call, options.rounds)]
        print(f"| {what} | {unit} | {statistics.median(times):.2f} | {min(times):.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
