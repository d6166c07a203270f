"""The benchmark client against a server of a few lines, byte by byte; and its arithmetic."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks")]

import bolt_client  # noqa: E402
import failover  # noqa: E402
import load  # noqa: E402
import local_cluster  # noqa: E402
from bolt_client import BoltError, BoltFailure, ClosedLoop, Connection, Statement  # noqa: E402
from local_cluster import RaftInfo  # noqa: E402

SUCCESS = bytes.fromhex("0003 b1 70 a0 0000")
IGNORED = bytes.fromhex("0003 b1 7e a0 0000")


def failure(code: str) -> bytes:
    metadata = bolt_client.pack({"code": code, "message": "as told"})
    return bolt_client.frame(b"\xb1\x7f" + metadata)


def record(*values: Any) -> bytes:
    return bolt_client.frame(b"\xb1\x71" + bolt_client.pack(list(values)))


def success(**metadata: Any) -> bytes:
    return bolt_client.frame(b"\xb1\x70" + bolt_client.pack(metadata))


Answer = Callable[[bytes], bytes | None]


class Server:
    """Speaks as much Bolt as the client asks; ``answer`` maps a message to bytes, None hangs up."""

    def __init__(self, answer: Answer, version: bytes = bolt_client.VERSION, piece: int = 0):
        self.answer = answer
        self.version = version
        self.piece = piece
        self.received: list[bytes] = []
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.readexactly(20) == bolt_client.HANDSHAKE
            writer.write(self.version)
            while True:
                message = await self.message(reader)
                self.received.append(message)
                answer = SUCCESS if message[1] in (0x01, 0x6A) else self.answer(message)
                if answer is None:
                    break
                size = self.piece or max(1, len(answer))
                for start in range(0, len(answer), size):
                    writer.write(answer[start : start + size])
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def message(self, reader: asyncio.StreamReader) -> bytes:
        parts = []
        while size := int.from_bytes(await reader.readexactly(2), "big"):
            parts.append(await reader.readexactly(size))
        return b"".join(parts)


def against(
    server: Server,
    client: Callable[[str], Coroutine[Any, Any, None]],
    run: Callable[[Coroutine[Any, Any, None]], None] = bolt_client.run_event_loop,
) -> None:
    async def main() -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(20):
                await client(f"127.0.0.1:{port}")
        finally:
            listener.close()

    run(main())


def row_server(message: bytes) -> bytes:
    """RUN: two rows; PULL and all else: success with a bookmark."""
    if message[1] == 0x10:
        return success(fields=["a", "b"]) + record(1, "x") + record(-1000, None)
    return success(bookmark="rayft:7", t_last=0)


def test_a_request_is_these_bytes() -> None:
    """By hand from the specification: RUN B3 10, PULL B1 3F, chunk headers, end markers."""
    statement = Statement("RETURN $x", ("x",), read=True)
    assert statement.request((5,)) == (
        bytes.fromhex("0018 b3 10 89") + b"RETURN $x"
        + bytes.fromhex("a1 81") + b"x" + b"\x05"
        + bytes.fromhex("a1 84") + b"mode" + b"\x81r" + bytes(2)
        + bytes.fromhex("0006 b1 3f a1 81") + b"n" + b"\xff" + bytes(2)
    )  # fmt: skip


def test_wrong_number_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Statement("RETURN $x", ("x",)).request(())


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -16, -17, 127, 128, 2**63 - 1, -(2**63), 1.5, "", "ä" * 10, "x" * 16,
        "x" * 300, "x" * 70_000, [], [1] * 20, [[]] * 70_000, {}, {"k": [1, {"l": "m"}]},
        {str(i): i for i in range(300)},
    ],
)  # fmt: skip
def test_values_come_back(value: Any) -> None:
    packed = bolt_client.pack(value)
    assert bolt_client.unpack(packed) == (value, len(packed))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xcb\x00", b"\x85ab", b"\xd6\xff\xff\xff\xff", b"\xc7", b"\xa1\x81", b"\x82\xff\xff"],
)  # fmt: skip
def test_what_is_no_packstream_is_refused(data: bytes) -> None:
    with pytest.raises(BoltError):
        bolt_client.unpack(data)


def test_a_value_unknown_to_the_client_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        bolt_client.pack({1})


def test_long_messages_are_cut_into_chunks() -> None:
    framed = bolt_client.frame(bytes(65_536))
    assert framed[:2] == b"\xff\xff"
    assert framed[2 + 65_535 :] == b"\x00\x01\x00\x00\x00"


@pytest.mark.parametrize("run", [asyncio.run, bolt_client.run_event_loop])
@pytest.mark.parametrize("piece", [0, 1, 3])
def test_run_decodes_rows_however_they_arrive(piece: int, run: Any) -> None:
    server = Server(row_server, piece=piece)

    async def client(address: str) -> None:
        connection = await Connection.connect(address)
        assert await connection.run(Statement("Q")) == [[1, "x"], [-1000, None]]
        assert connection.bookmark == "rayft:7"
        assert await connection.run(Statement("Q")) == [[1, "x"], [-1000, None]]
        connection.close()

    against(server, client, run)
    assert [message[1] for message in server.received[:6]] == [0x01, 0x6A, 0x10, 0x3F, 0x10, 0x3F]
    hello, _ = bolt_client.unpack(server.received[0], 2)
    assert hello["bolt_agent"]["product"] and hello["user_agent"]


def test_noops_and_chunked_messages_are_understood() -> None:
    body = b"\xb1\x71" + bolt_client.pack(["x" * 100])
    cut = b"".join(bytes((0, 1, byte)) for byte in body) + bytes(2)

    def answer(message: bytes) -> bytes:
        return bytes(2) + SUCCESS + bytes(4) + cut + bytes(2) if message[1] == 0x10 else SUCCESS

    async def client(address: str) -> None:
        connection = await Connection.connect(address)
        assert await connection.run(Statement("Q")) == [["x" * 100]]
        connection.close()

    against(Server(answer), client)


def test_after_a_failure_a_reset_goes_ahead_of_the_next_request() -> None:
    pending = ["Neo.TransientError.General.DatabaseUnavailable"]
    bad = False

    def answer(message: bytes) -> bytes:
        nonlocal bad
        if message[1] == 0x0F:
            bad = False
            return SUCCESS
        if bad:
            return IGNORED
        if message[1] == 0x10 and pending:
            bad = True
            return failure(pending.pop())
        return row_server(message)

    server = Server(answer)

    async def client(address: str) -> None:
        connection = await Connection.connect(address)
        with pytest.raises(BoltFailure) as caught:
            await connection.run(Statement("Q"))
        assert caught.value.code == "Neo.TransientError.General.DatabaseUnavailable"
        assert len(await connection.run(Statement("Q"))) == 2
        connection.close()

    against(server, client)
    tags = [message[1] for message in server.received]
    assert tags[2:7] == [0x10, 0x3F, 0x0F, 0x10, 0x3F]


@pytest.mark.parametrize("version", [bytes(4), b"HTTP", b"\x00\x00\x05\x05"])
def test_another_version_is_refused(version: bytes) -> None:
    async def client(address: str) -> None:
        with pytest.raises(BoltError, match=r"not Bolt 5\.4"):
            await Connection.connect(address)

    against(Server(row_server, version=version), client)


def test_a_lost_connection_is_an_unknown_outcome() -> None:
    async def client(address: str) -> None:
        connection = await Connection.connect(address)
        with pytest.raises(BoltError, match="unknown"):
            await connection.run(Statement("Q"))
        with pytest.raises(BoltError, match="closed"):
            await connection.run(Statement("Q"))

    against(Server(lambda _: None), client)


def test_an_answer_that_does_not_come_closes_the_connection() -> None:
    async def client(address: str) -> None:
        connection = await Connection.connect(address)
        with pytest.raises(TimeoutError):
            await connection.run(Statement("Q"), timeout=0.01)
        assert connection.closed

    against(Server(lambda _: b""), client)


def test_one_request_at_a_time() -> None:
    async def client(address: str) -> None:
        connection = await Connection.connect(address)
        connection.request(Statement("Q").request(), lambda _: None)
        with pytest.raises(BoltError, match="in flight"):
            connection.request(Statement("Q").request(), lambda _: None)
        connection.close()

    against(Server(row_server), client)


def test_endless_messages_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bolt_client, "MESSAGE_BYTES_MAX", 1000)

    def answer(message: bytes) -> bytes:
        return b"\x00\xff" + bytes(255) + b"\x03\xff" + bytes(1023)

    async def client(address: str) -> None:
        connection = await Connection.connect(address)
        with pytest.raises(BoltError, match="lost"):
            await connection.run(Statement("Q"))

    against(Server(answer), client)


def test_closed_loop_counts_successes_and_failures() -> None:
    number = 0

    def answer(message: bytes) -> bytes:
        nonlocal number
        if message[1] == 0x10:
            number += 1
            if number % 3 == 0:
                return failure("Neo.X")
            return SUCCESS
        return IGNORED if message[1] == 0x3F and number % 3 == 0 else SUCCESS

    async def client(address: str) -> None:
        connections = [await Connection.connect(address)]
        loop = ClosedLoop(connections, Statement("Q").request)
        measured = await loop.measure(seconds=0.1, warm_up=0.01)
        assert measured.latencies and measured.failures.keys() == {"Neo.X"}
        successes, failures = len(measured.latencies), measured.failures["Neo.X"]
        assert abs(successes - 2 * failures) <= 3
        assert measured.rate == successes / measured.seconds
        connections[0].close()

    against(Server(answer), client)


def test_closed_loop_ends_when_every_connection_is_lost() -> None:
    async def client(address: str) -> None:
        connections = [await Connection.connect(address) for _ in range(3)]
        with pytest.raises(BoltError, match="all 3 connections"):
            await ClosedLoop(connections, Statement("Q").request).measure(10, 10)

    against(Server(lambda _: None), client)


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(i) for i in range(30, 0, -1)]
    assert bolt_client.percentile(values, 50) == 15
    assert bolt_client.percentile(values, 99) == 30
    assert bolt_client.percentile([7.0], 1) == 7
    assert math.isnan(bolt_client.percentile([], 50))


# ------------------------------------------------------------------------- local cluster


@pytest.mark.parametrize(
    ("infos", "leader", "well"),
    [
        ([RaftInfo(True, 3), RaftInfo(False, 3), RaftInfo(False, 3)], 1, True),
        ([RaftInfo(True, 3), RaftInfo(True, 4), RaftInfo(False, 4)], 2, False),  # 1 was deposed
        ([RaftInfo(False, 3), RaftInfo(False, 3), RaftInfo(False, 3)], None, False),
        ([None, RaftInfo(True, 3), RaftInfo(False, 3)], 2, False),
        ([RaftInfo(True, 3), RaftInfo(False, 3), RaftInfo(False, 2)], 1, False),
        ([None, None, None], None, False),
    ],
)
def test_leader_and_health(infos: list[RaftInfo | None], leader: int | None, well: bool) -> None:
    assert local_cluster.leader_of(infos) == leader
    assert local_cluster.healthy(infos) is well


def test_raft_info_is_read_from_a_server_and_silence_is_none() -> None:
    def answer(message: bytes) -> bytes:
        return SUCCESS + record(True, 12) if message[1] == 0x10 else SUCCESS

    async def client(address: str) -> None:
        assert await local_cluster.raft_infos([address]) == [RaftInfo(True, 12)]

    against(Server(answer), client)

    async def refused(address: str) -> None:
        assert await local_cluster.raft_info(address) is None

    against(Server(lambda _: failure("Neo.X")), refused)


def test_gateways_follow_one_another() -> None:
    assert local_cluster.gateways("bolt://127.0.0.1:7687") == [
        "127.0.0.1:7687",
        "127.0.0.1:7688",
        "127.0.0.1:7689",
    ]
    assert local_cluster.gateways("neo4j://[::1]:7687/", 2) == ["[::1]:7687", "[::1]:7688"]
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:7687"):
        local_cluster.gateways("localhost")


def write_pid(directory: Path, server_id: int, text: str) -> None:
    (directory / f"server_{server_id}").mkdir()
    (directory / f"server_{server_id}" / "server.pid").write_text(text)


def test_process_ids_are_read(tmp_path: Path) -> None:
    write_pid(tmp_path, 1, "123\n")
    write_pid(tmp_path, 2, "")
    assert [local_cluster.server_pid(tmp_path, i) for i in (1, 2, 3)] == [123, None, None]


def test_a_process_that_is_no_server_is_not_killed(tmp_path: Path) -> None:
    """A stale file may name anybody: here, this very process."""
    words = Path("/proc/self/cmdline")
    if not words.exists() or b"ray" in words.read_bytes().lower():
        pytest.skip("needs /proc and a command line without the word")
    write_pid(tmp_path, 1, str(os.getpid()))
    with pytest.raises(local_cluster.ClusterError, match="no server of ours"):
        local_cluster.kill_server(tmp_path, 1)


def test_killing_needs_this_machine_and_process_ids(tmp_path: Path) -> None:
    with pytest.raises(local_cluster.ClusterError, match="not this machine"):
        local_cluster.check_can_kill(tmp_path, ["10.0.0.1:7687"])
    with pytest.raises(local_cluster.ClusterError, match=r"server_1/server\.pid"):
        local_cluster.check_can_kill(tmp_path, ["127.0.0.1:7687"])
    write_pid(tmp_path, 1, "1")
    local_cluster.check_can_kill(tmp_path, ["127.0.0.1:7687"])
    assert local_cluster.kill_server(tmp_path, 1) is None  # never init


# ------------------------------------------------------------------------------- scripts


def test_histogram_has_a_line_for_every_bucket() -> None:
    lines = failover.histogram([0.85, 0.899, 1.1]).splitlines()
    assert [line.split()[2:] for line in lines] == [["2", "##"], ["0"], ["0"], ["1", "#"]]


def test_the_writer_goes_on_after_failures_and_lost_connections() -> None:
    """Told "not now" twice, hung up on once; then served. It counts what it saw."""
    script = ["fail", "fail", "hang up"]
    state = {"bad": False}

    def answer(message: bytes) -> bytes | None:
        if message[1] == 0x0F:
            state["bad"] = False
        elif state["bad"]:
            return IGNORED
        elif message[1] == 0x10 and script:
            if script.pop(0) == "hang up":
                return None
            state["bad"] = True
            return failure("Neo.TransientError.General.DatabaseUnavailable")
        return success(bookmark="rayft:9") if message[1] == 0x3F else SUCCESS

    async def client(address: str) -> None:
        writer = failover.Writer(address, run=1)
        task = asyncio.create_task(writer.run())
        moment = failover.perf_counter()
        assert await writer.acknowledged_after(moment) > moment
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert writer.failures == {
            "Neo.TransientError.General.DatabaseUnavailable": 2,
            "BoltError": 1,
        }
        assert writer.acknowledged[0] == 3  # numbers are not used twice
        assert writer.bookmark == "rayft:9"

    against(Server(answer), client)


@pytest.mark.parametrize(
    ("found", "problem"),
    [([0, 1, 2], None), ([0, 1, 2, 3], None), ([0, 2], "1 acknowledged"), ([0, 1, 1, 2], "twice")],
)
def test_lost_and_doubled_writes_are_found(found: list[int], problem: str | None) -> None:
    """Writes 0 to 2 were acknowledged; 3 had no answer and may be there or not."""

    def answer(message: bytes) -> bytes:
        if message[1] == 0x10 and b"Probe" in message:
            return SUCCESS + b"".join(record(number) for number in found)
        if message[1] == 0x10:
            return SUCCESS + record(True, 1)
        return SUCCESS

    async def client(address: str) -> None:
        writer = failover.Writer(address, run=1)
        writer.acknowledged = [0, 1, 2]
        problems = await failover.check([address], writer)
        assert len(problems) == (problem is not None)
        assert problem is None or problem in problems[0]

    against(Server(answer), client)


def test_load_prints_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def client(address: str) -> None:
        options = load.parse(
            ["--address", address, "--seconds", "0.05", "--rounds", "1", "--connections", "1,2"]
        )
        results = await load.benchmark(options, options.address)
        assert [(row["connections"], row["failures"]) for row in results] == [(1, {}), (2, {})] * 2
        json.dumps(results)

    against(Server(row_server), client)
    printed = capsys.readouterr().out
    assert "| 1 | " in printed and "### Point read" in printed


@pytest.mark.parametrize(
    "arguments", [["--seconds", "0"], ["--connections", "1,x"], ["--rounds", "0"]]
)
def test_load_refuses_nonsense(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load.parse(arguments)
    assert caught.value.code == 2
