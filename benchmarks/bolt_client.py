"""A lean Bolt client for measuring: raw bytes out, message tags in, many connections.

A driver spends more time on a small query than the server does. This client does only what the
protocol demands, so that the server is measured:

* Bolt 5.4 alone, no authentication, one request in flight on a connection.
* A ``Statement`` holds its RUN message encoded up to the parameters, and the PULL after it.
* Of what comes back only the framing and the tags are looked at (SUCCESS 70, RECORD 71,
  IGNORED 7E, FAILURE 7F). Values are decoded where somebody asks: for the error code of a
  failure, and by ``Connection.run`` for the few queries whose rows matter.
* After a failure the RESET travels in front of the next request: no round trip of its own.

``Connection`` is an asyncio protocol with a callback per request (``request``) for the hot path
and a coroutine (``run``) for all else; ``ClosedLoop`` keeps many connections busy and measures.
Format: Bolt specification 5.4 and PackStream 1, https://neo4j.com/docs/bolt/current/.
Standard library only; uvloop is used where it is installed (``run_event_loop``).
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Any, TypeVar, cast

T = TypeVar("T")

HANDSHAKE = b"\x60\x60\xb0\x17" + b"\x00\x00\x04\x05" + bytes(12)  # 5.4 and nothing else
VERSION = b"\x00\x00\x04\x05"

SUCCESS, RECORD, IGNORED, FAILURE = 0x70, 0x71, 0x7E, 0x7F

# No benchmark asks for more in one message; a peer that sends more is not our server.
MESSAGE_BYTES_MAX = 16 << 20
CHUNK_BYTES_MAX = 0xFFFF
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0


class BoltError(Exception):
    """The peer broke the protocol, or the connection was lost: the outcome is unknown."""


class BoltFailure(BoltError):
    """The server answered FAILURE. ``code`` is its status code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


# ------------------------------------------------------------------------------- PackStream


def pack(value: Any) -> bytes:
    """``None``, bool, int, float, str, list or dict as PackStream. TypeError for others."""
    if value is None:
        return b"\xc0"
    if value is True:
        return b"\xc3"
    if value is False:
        return b"\xc2"
    if isinstance(value, int):
        if -16 <= value <= 127:
            return struct.pack(">b", value)
        return b"\xcb" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xc1" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return _header(len(text), 0x80, b"\xd0\xd1\xd2") + text
    if isinstance(value, list):
        return _header(len(value), 0x90, b"\xd4\xd5\xd6") + b"".join(map(pack, value))
    if isinstance(value, dict):
        items = (pack(key) + pack(item) for key, item in value.items())
        return _header(len(value), 0xA0, b"\xd8\xd9\xda") + b"".join(items)
    raise TypeError(f"the benchmark client cannot send a {type(value).__name__}")


def _header(size: int, tiny: int, markers: bytes) -> bytes:
    if size < 16:
        return bytes((tiny | size,))
    if size < 1 << 8:
        return bytes((markers[0], size))
    if size < 1 << 16:
        return markers[1:2] + struct.pack(">H", size)
    return markers[2:3] + struct.pack(">I", size)


_SCALARS = {0xC1: ">d", 0xC8: ">b", 0xC9: ">h", 0xCA: ">i", 0xCB: ">q"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
# The three markers of a kind differ in the bytes of the size that follows: 1, 2, 4.
_SIZED = {
    first + power: (kind, 1 << power)
    for kind, first in (("str", 0xD0), ("list", 0xD4), ("map", 0xD8), ("bytes", 0xCC))
    for power in range(3)
}
_TINY = {0x80: "str", 0x90: "list", 0xA0: "map", 0xB0: "structure"}


def unpack(data: bytes, start: int = 0) -> tuple[Any, int]:
    """One value and where it ends; a structure comes as (tag, fields). Off the hot path.

    Raises ``BoltError`` when the bytes are no PackStream.
    """
    try:
        return _unpack(data, start)
    except (IndexError, struct.error, UnicodeDecodeError, RecursionError) as error:
        raise BoltError(f"not PackStream: {data[start : start + 40]!r}") from error


def _unpack(data: bytes, start: int) -> tuple[Any, int]:
    marker = data[start]
    start += 1
    if marker < 0x80:
        return marker, start
    if marker >= 0xF0:
        return marker - 0x100, start
    if marker in _CONSTANTS:
        return _CONSTANTS[marker], start
    if marker in _SCALARS:
        layout = _SCALARS[marker]
        (value,) = struct.unpack_from(layout, data, start)
        return value, start + struct.calcsize(layout)
    if marker in _SIZED:
        kind, width = _SIZED[marker]
        size = int.from_bytes(data[start : start + width], "big")
        start += width
    elif marker & 0xF0 in _TINY:
        kind, size = _TINY[marker & 0xF0], marker & 0x0F
    else:
        raise BoltError(f"unknown PackStream marker {marker:02X}")
    return _unpack_sized(data, start, kind, size)


def _unpack_sized(data: bytes, start: int, kind: str, size: int) -> tuple[Any, int]:
    if start + size > len(data):
        raise BoltError(f"a {kind} of {size} goes beyond the end of its message")
    if kind in ("str", "bytes"):
        raw = data[start : start + size]
        return (raw.decode() if kind == "str" else bytes(raw)), start + size
    if kind == "structure":
        tag = data[start]
        fields, end = _unpack_sized(data, start + 1, "list", size)
        return (tag, fields), end
    values = []
    for _ in range(2 * size if kind == "map" else size):
        value, start = _unpack(data, start)
        values.append(value)
    if kind == "map":
        return dict(zip(values[::2], values[1::2], strict=True)), start
    return values, start


def frame(message: bytes) -> bytes:
    """A message in chunks, with the end marker."""
    if len(message) <= CHUNK_BYTES_MAX:
        return len(message).to_bytes(2, "big") + message + b"\x00\x00"
    chunks = []
    for start in range(0, len(message), CHUNK_BYTES_MAX):
        piece = message[start : start + CHUNK_BYTES_MAX]
        chunks.append(len(piece).to_bytes(2, "big") + piece)
    return b"".join(chunks) + b"\x00\x00"


_AGENT = "rayft-benchmark/1.0"
_HELLO = frame(b"\xb1\x01" + pack({"user_agent": _AGENT, "bolt_agent": {"product": _AGENT}}))
_LOGON = frame(b"\xb1\x6a" + pack({"scheme": "none"}))
_GOODBYE = frame(b"\xb0\x02")
_RESET = frame(b"\xb0\x0f")
_PULL = frame(b"\xb1\x3f" + pack({"n": -1}))


class Statement:
    """A query, encoded but for its parameters: ``request(values)`` is RUN and PULL, ready to go.

    ``read`` marks it as a read, which any server may answer; ``bookmarks`` are those to wait for.
    """

    __slots__ = ("_keys", "_prefix", "_suffix")

    def __init__(
        self,
        query: str,
        names: Sequence[str] = (),
        *,
        read: bool = False,
        bookmarks: Sequence[str] = (),
    ) -> None:
        extra: dict[str, Any] = {"mode": "r"} if read else {}
        if bookmarks:
            extra["bookmarks"] = list(bookmarks)
        self._prefix = b"\xb3\x10" + pack(query) + _header(len(names), 0xA0, b"\xd8\xd9\xda")
        self._keys = [pack(name) for name in names]
        self._suffix = pack(extra)

    def request(self, values: Sequence[Any] = ()) -> bytes:
        """The bytes of one execution; ``values`` in the order of the names."""
        parts = [self._prefix]
        for key, value in zip(self._keys, values, strict=True):
            parts += (key, pack(value))
        parts.append(self._suffix)
        return frame(b"".join(parts)) + _PULL


# ------------------------------------------------------------------------------- connection


@dataclass(slots=True)
class Reply:
    """What came back for one request. Messages are raw; ``rows`` only if they were asked for."""

    records: int = 0
    rows: list[bytes] = field(default_factory=list)
    summary: bytes | None = None
    failure: bytes | None = None
    lost: bool = False

    def error(self) -> BoltError | None:
        """Why the request failed, ``None`` if it did not."""
        if self.lost:
            return BoltError("the connection was lost; the outcome is unknown")
        if self.failure is None:
            return None
        metadata, _ = unpack(self.failure, 2)
        if not isinstance(metadata, dict):
            raise BoltError(f"a FAILURE without metadata: {self.failure[:40]!r}")
        return BoltFailure(str(metadata.get("code")), str(metadata.get("message")))


Handler = Callable[[Reply], None]


class Connection(asyncio.Protocol):
    """One connection, one request in flight. Made by ``connect``; not for several threads."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._shaken = False
        self._rest = b""
        self._parts: list[bytes] = []
        self._part_bytes = 0
        self._reply = Reply()
        self._outstanding = 0
        self._handler: Handler | None = None
        self._keep_rows = False
        self._failed = False
        self.closed = False
        self.bookmark: str | None = None

    @classmethod
    async def connect(cls, address: str, timeout: float = CONNECT_SECONDS) -> Connection:
        """Connect to ``host:port``, shake hands, HELLO and LOGON; all within ``timeout`` seconds.

        Raises ``OSError`` (nobody there), ``TimeoutError``, ``BoltError`` (not Bolt 5.4).
        """
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        connection = cls()
        try:
            async with asyncio.timeout(timeout):
                await loop.create_connection(lambda: connection, host, port)
                await connection._handshake
                hello = await connection._exchange(_HELLO + _LOGON, answers=2, keep_rows=False)
            if (error := hello.error()) is not None:
                raise error
        except BaseException:
            connection.close()
            raise
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(HANDSHAKE)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self._handshake.done():
            self._handshake.set_exception(BoltError("the server closed during the handshake"))
        self._reply.lost = True
        self._finish()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        start = 0
        if not self._shaken:
            if len(data) < 4:
                self._rest = data
                return
            self._shake(data[:4])
            start = 4
        end = len(data)
        while end - start >= 2 and not self.closed:
            size = data[start] << 8 | data[start + 1]
            if size == 0:  # the end of a message, or a NOOP between two of them
                start += 2
                if self._parts:
                    self._message_received()
                continue
            stop = start + 2 + size
            if stop > end:
                break
            self._parts.append(data[start + 2 : stop])
            self._part_bytes += size
            if self._part_bytes > MESSAGE_BYTES_MAX:
                self.close()
                return
            start = stop
        self._rest = data[start:]

    def _shake(self, version: bytes) -> None:
        self._shaken = True
        if self._handshake.done():
            return
        if version == VERSION:
            self._handshake.set_result(None)
        else:
            self._handshake.set_exception(
                BoltError(f"the server answers {version.hex(' ')}, not Bolt 5.4")
            )

    def _message_received(self) -> None:
        message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._part_bytes = 0
        tag = message[1] if len(message) > 1 else 0
        reply = self._reply
        if tag == RECORD:
            reply.records += 1
            if self._keep_rows:
                reply.rows.append(message)
            return
        if tag == SUCCESS:
            reply.summary = message
        elif tag == FAILURE:
            reply.failure = message
            self._failed = True
        elif tag != IGNORED:
            self.close()
            return
        self._outstanding -= 1
        if self._outstanding == 0:
            self._finish()

    def _finish(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler(self._reply)

    def request(
        self, payload: bytes, handler: Handler, *, answers: int = 2, keep_rows: bool = False
    ) -> None:
        """Send; ``handler`` gets the reply once ``answers`` messages other than RECORD are in.

        ``BoltError`` if the connection is closed or busy. The handler may send the next request.
        """
        if self.closed or self._transport is None:
            raise BoltError("the connection is closed; connect again")
        if self._handler is not None:
            raise BoltError("one request is in flight already on this connection")
        if self._failed:
            payload = _RESET + payload
            answers += 1
            self._failed = False
        self._reply = Reply()
        self._outstanding = answers
        self._handler = handler
        self._keep_rows = keep_rows
        self._transport.write(payload)

    async def _exchange(self, payload: bytes, *, answers: int, keep_rows: bool) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        self.request(payload, done, answers=answers, keep_rows=keep_rows)
        return await future

    async def run(
        self, statement: Statement, values: Sequence[Any] = (), timeout: float = ANSWER_SECONDS
    ) -> list[list[Any]]:
        """Run and decode the rows; ``bookmark`` is that of this statement afterwards.

        Raises ``BoltFailure`` (answered), ``BoltError`` or ``TimeoutError`` (outcome unknown;
        the connection is closed, because an answer might still come).
        """
        try:
            async with asyncio.timeout(timeout):
                payload = statement.request(values)
                reply = await self._exchange(payload, answers=2, keep_rows=True)
        except BaseException:
            self.close()
            raise
        if (error := reply.error()) is not None:
            raise error
        assert reply.summary is not None
        self.bookmark = unpack(reply.summary, 2)[0].get("bookmark")
        return [unpack(row, 2)[0] for row in reply.rows]

    def close(self) -> None:
        """Say goodbye and close; a request in flight is answered as lost."""
        if self._transport is not None and not self.closed:
            self.closed = True
            self._transport.write(_GOODBYE)
            self._transport.abort() if self._handler is not None else self._transport.close()


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port``, a scheme in front allowed. ValueError if it is neither."""
    host, colon, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"{address!r} is no address; write it as 127.0.0.1:7687")
    return host.strip("[]"), int(port)


# ---------------------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Measurement:
    """One round. Latencies in seconds, of requests that succeeded within the window."""

    seconds: float
    latencies: list[float]
    failures: dict[str, int]
    client_cpu: float

    @property
    def rate(self) -> float:
        """Successful requests a second."""
        return len(self.latencies) / self.seconds


def percentile(values: Iterable[float], percent: float) -> float:
    """By nearest rank; NaN for no values."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


class _Lane:
    """One connection of a closed loop: the next request leaves when the answer is there."""

    __slots__ = ("_connection", "_loop", "_sent")

    def __init__(self, loop: ClosedLoop, connection: Connection) -> None:
        self._loop = loop
        self._connection = connection
        self._sent = 0.0

    def send(self) -> None:
        payload = self._loop.make_request()
        self._sent = perf_counter()
        self._connection.request(payload, self.answered)

    def answered(self, reply: Reply) -> None:
        now = perf_counter()
        loop = self._loop
        if loop.recording:
            if reply.failure is None and not reply.lost:
                loop.latencies.append(now - self._sent)
            else:
                error = reply.error()
                code = error.code if isinstance(error, BoltFailure) else "connection lost"
                loop.failures[code] += 1
        if loop.stopping or reply.lost or self._connection.closed:
            loop.lane_ended()
        else:
            self.send()


class ClosedLoop:
    """Keeps every connection busy with ``make_request`` and measures a window of time."""

    def __init__(
        self, connections: Sequence[Connection], make_request: Callable[[], bytes]
    ) -> None:
        self.make_request = make_request
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()
        self.recording = False
        self.stopping = False
        self._lanes = [_Lane(self, connection) for connection in connections]
        self._running = 0
        self._idle = asyncio.Event()

    async def measure(self, seconds: float, warm_up: float) -> Measurement:
        """Run ``warm_up`` seconds unmeasured and ``seconds`` measured, then let requests finish.

        Raises ``BoltError`` when every connection was lost, ``TimeoutError`` when requests in
        flight are not answered.
        """
        self._running = len(self._lanes)
        for lane in self._lanes:
            lane.send()
        await self._wait(warm_up)
        self.recording = True
        began, cpu = perf_counter(), process_time()
        await self._wait(seconds)
        self.recording = False
        elapsed, cpu = perf_counter() - began, process_time() - cpu
        self.stopping = True
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._idle.wait()
        return Measurement(elapsed, self.latencies, dict(self.failures), cpu)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return
        raise BoltError(f"all {len(self._lanes)} connections were lost: {dict(self.failures)}")

    def lane_ended(self) -> None:
        """Called by a lane that sends no more."""
        self._running -= 1
        if self._running == 0:
            self._idle.set()


def run_event_loop(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, on uvloop where it is installed."""
    if sys.platform != "win32":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(main)
    return asyncio.run(main)
