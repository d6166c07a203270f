"""CPU time of one autocommit CREATE in the gateway's and in the leader's Python code.

No Ray, no sockets, no disk: a Bolt session is fed bytes and a router's replies, and a state machine
is fed batches of requests and its own proposals as committed entries. What is measured is what a
core has to do for each request on either side, in microseconds of process time, for batches of
1, 16, 64 and 256 requests.

    python benchmarks/request_path.py
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from actors.bolt_session import BoltSession
from actors.commands import split
from actors.dispatch import Dispatcher
from actors.machine import StateMachine
from actors.protocol import (
    Op,
    Reply,
    Request,
    Status,
    decode_replies,
    decode_requests,
    encode_replies,
    encode_requests,
)
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import Role, SoftState
from actors.replica import Replica
from actors.router import Router
from actors.server import Proposal
from actors.service import QueryService
from actors.transport import Introduction
from bolt.packer import Packer
from graph.engine import Engine

QUERY = b"CREATE (n:User {id: $id, name: $name})"
ROUNDS = 40


def leader(size: int) -> float:
    """Microseconds per request in dispatch, execution, encoding of answers."""
    posted: list[Any] = []
    sent: list[bytes] = []
    replica = Replica()
    service = QueryService(Engine(), lambda _, replies: sent.append(encode_replies(replies)))
    machine = StateMachine(
        replica,
        service,
        post=posted.append,
        applied=lambda _: None,
        run_reads=lambda task: task(),
        new_cluster_id=lambda: "0" * 32,
        on_cluster=lambda _: None,
        replication_timeout_ms=20_000,
    )
    dispatcher = Dispatcher(
        service,
        machine,
        run_machine=lambda task: task(),
        run_reads=lambda task: task(),
        administer=lambda event: None,
        inform=lambda request: Reply(request.id, Status.DONE),
        waiting_writes=machine.waiting,
    )
    machine.role_changed(SoftState(Role.LEADER, 1, 1))
    machine.apply([Entry(1, 1, EntryKind.NOOP, b"")])
    index = 1
    pack = Packer().pack
    times = []
    for number in range(ROUNDS):
        requests = [
            Request(
                number * size + i + 1,
                Op.RUN,
                term=1,
                query=QUERY,
                parameters=pack({"id": number * size + i, "name": f"user {i}"}),
            )
            for i in range(size)
        ]
        data = encode_requests(requests)
        began = time.process_time()
        dispatcher.submit(7, decode_requests(data))
        machine.turn()
        entries = []
        for event in posted:
            if isinstance(event, Proposal):
                for kind, payload in event.payloads:
                    index += 1
                    entries.append(Entry(index, 1, kind, payload))
        posted.clear()
        if entries:
            machine.apply(entries)
        times.append((time.process_time() - began) / size * 1e6)
    assert len(decode_replies(sent[-1])) == size
    assert split(b"x")
    return statistics.median(times)


class _Transport:
    """What a session needs of a socket."""

    def set_write_buffer_limits(self, high: int) -> None: ...

    def write(self, data: bytes) -> None: ...

    def is_reading(self) -> bool:
        return True

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


class _Server:
    """Answers every request at once with the bytes of a small result."""

    def __init__(self) -> None:
        self.router: Router | None = None
        self.head = b"\x00\x03\xb1\x70\xa0\x00\x00"

    def submit(self, data: bytes) -> None:
        replies = [
            Reply(r.id, Status.DONE, 1, 0, self.head, b"", self.head) for r in decode_requests(data)
        ]
        encoded = encode_replies(replies)
        assert self.router is not None
        asyncio.get_running_loop().call_soon(lambda: self.router.replied(decode_replies(encoded)))


async def gateway(size: int) -> float:
    """Microseconds per request in ``size`` sessions that run one request each at a time."""
    server = _Server()
    router = Router(1, lambda _, data: server.submit(data), replication_timeout_s=20.0)
    server.router = router
    router.meet(Introduction("server", 1, 1, None))
    router.announced(1, 1, 1)
    sessions = [BoltSession(i, router, lambda _: None) for i in range(size)]
    opening = bytes.fromhex("6060b017") + bytes.fromhex("00000405") + bytes(12)
    pack = Packer().pack

    def message(tag: int, *fields: Any) -> bytes:
        body = bytes((0xB0 + len(fields), tag)) + b"".join(map(pack, fields))
        return len(body).to_bytes(2, "big") + body + b"\0\0"

    for session in sessions:
        session.connection_made(_Transport())  # type: ignore[arg-type]
        session.data_received(opening)
        session.data_received(message(0x01, {"user_agent": "x/1"}) + message(0x6A, {}))
    await asyncio.sleep(0.05)
    times = []
    for number in range(ROUNDS):
        data = [
            message(0x10, QUERY.decode(), {"id": number, "name": "a user"}, {})
            + message(0x3F, {"n": -1})
            for _ in sessions
        ]
        began = time.process_time()
        for session, request in zip(sessions, data, strict=True):
            session.data_received(request)
        while any(session.busy for session in sessions) or router.waiting():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        times.append((time.process_time() - began) / size * 1e6)
        await asyncio.sleep(0.002)
    for session in sessions:
        session.connection_lost(None)
    return statistics.median(times)


def main() -> None:
    print("| requests in a batch | gateway us | leader us |")
    print("|---:|---:|---:|")
    for size in (1, 16, 64, 256):
        print(f"| {size} | {asyncio.run(gateway(size)):.0f} | {leader(size):.0f} |")


if __name__ == "__main__":
    main()
