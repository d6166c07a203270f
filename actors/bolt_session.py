"""One client's Bolt connection: requests of the driver in, answers out, in order.

``bolt.ServerConnection`` knows the protocol, the ``Router`` knows the cluster; a session is the
loop between them. It keeps no result: a PULL fetches rows in pieces from their server, and the
next piece is asked for when the client has taken the last one, so a slow client holds memory
nowhere. RUN and the PULL behind it travel to the server as one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import structlog

from actors import limits, wording
from actors.errors import NotDone, NotLeader, OutcomeUnknown, Overloaded, RayftError
from actors.protocol import Op, Reply, Request, Status, dialect_number
from actors.restore_statements import is_backup
from actors.router import Router, ServerLost
from actors.routing import routing_table
from actors.statements import RequestFailed, answer_statement, bookmark_index, transaction_name
from bolt import status as codes
from bolt.connection import ServerConnection
from bolt.errors import BoltError, RemoteProtocolError
from bolt.messages import (
    NEED_DATA,
    Begin,
    Commit,
    ConnectionClosed,
    Discard,
    Failure,
    Goodbye,
    Handshake,
    HandshakeReply,
    Hello,
    Ignored,
    IgnoredRequest,
    Logoff,
    Logon,
    Pull,
    Reset,
    Rollback,
    Route,
    Run,
    Success,
    Telemetry,
)

__all__ = ["AGENT", "BoltSession"]

log = structlog.get_logger()

# Drivers refuse an agent that does not begin with "Neo4j/".
AGENT = "Neo4j/5.26.0 (Rayft)"
DATABASES = ("neo4j", "memgraph")

_SUCCESSES = (Status.DONE, Status.MORE, Status.PARTIAL)


class Interrupted(Exception):
    """The client sent RESET while its request was under way."""


@dataclass(slots=True)
class _Open:
    """The explicit transaction of a connection."""

    id: int
    server: int
    term: int
    read: bool


@dataclass(slots=True)
class _Stream:
    """A result that has rows left: which request made it, and where."""

    cursor: int
    server: int


class _Finished(_Stream):
    """A result that is here whole, and that the client has not asked for yet."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(0, 0)
        self.reply = reply


class BoltSession(asyncio.Protocol):
    """See the module. ``number`` names the connection in requests to servers."""

    def __init__(self, number: int, router: Router, closed: Callable[[BoltSession], None]) -> None:
        self.number = number
        self._router = router
        self._closed = closed
        self._connection = ServerConnection()
        self._transport: asyncio.Transport | None = None
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.busy = False  # a request is under way and may be interrupted
        self._tx: _Open | None = None
        self._streams: dict[int, _Stream] = {}  # by qid
        self._task: asyncio.Task[None] | None = None
        self._ready_to_close = False
        self.authenticated = False
        self.last_used = 0.0

    # ----------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES_MAX)
        self.last_used = asyncio.get_running_loop().time()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        self._connection.receive_data(data)
        if self._connection.queue_full and self._transport is not None:
            self._transport.pause_reading()
        if self._connection.interrupt_pending:
            self._interrupt()
        self._arrived.set()

    def eof_received(self) -> bool:
        self._connection.receive_data(b"")
        self._arrived.set()
        self._interrupt()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _interrupt(self) -> None:
        if self.busy and self._task is not None:
            self.busy = False
            self._task.cancel()

    @property
    def idle(self) -> bool:
        """Nothing is under way: no request, no open transaction, no result that is being read."""
        return not self.busy and self._tx is None and not self._streams

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # ----------------------------------------------------------------- the loop

    async def _run(self) -> None:
        try:
            while not self._ready_to_close:
                await self._next()
        except RemoteProtocolError as error:
            self._write(error.farewell)
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("a Bolt session failed")
        finally:
            self._forget()
            self.close()
            self._closed(self)

    async def _next(self) -> None:
        event = self._connection.next_event()
        if event is NEED_DATA:
            self._arrived.clear()
            if self._transport is not None and not self._transport.is_reading():
                self._transport.resume_reading()
            await self._arrived.wait()
            return
        self.last_used = asyncio.get_running_loop().time()
        if isinstance(event, (ConnectionClosed, Goodbye)):
            self._ready_to_close = True
            return
        if isinstance(event, Handshake):
            self._write(self._connection.send(HandshakeReply()))
            return
        if isinstance(event, IgnoredRequest):
            self._write(self._connection.send(Ignored()))
            return
        await self._answer(event)

    async def _answer(self, event: Any) -> None:
        """Handle one request; whatever goes wrong becomes a FAILURE."""
        self.busy = True
        try:
            await _HANDLERS[type(event)](self, event)
        except asyncio.CancelledError:
            if not self._connection.interrupt_pending or self._task is None:
                raise
            self._task.uncancel()
            self._forget(even_if_nothing_is_open=True)
            self._write(self._connection.send(Ignored()))
        except RemoteProtocolError:
            raise
        except Exception as error:
            self._fail(error)
        finally:
            self.busy = False
        if self._transport is not None and not self._connection.queue_full:
            self._transport.resume_reading()

    def _fail(self, error: Exception) -> None:
        code, message = _failure_of(error)
        self._forget()
        self._write(self._connection.send(Failure(code, message)))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def _succeed(self, metadata: dict[str, Any] | None = None) -> None:
        self._write(self._connection.send(Success(metadata or {})))

    def _forget(self, *, even_if_nothing_is_open: bool = False) -> None:
        """Drop everything this connection has on servers."""
        if self._tx is not None or self._streams or even_if_nothing_is_open:
            self._tx = None
            self._streams.clear()
            self._tell_all_to_forget()

    def _tell_all_to_forget(self) -> None:
        try:
            identity = self._router.new_id()
        except Overloaded:
            return  # the servers' own time-outs will do it
        self._router.notify(Request(identity, Op.CANCEL, cursor=self.number))
        self._router.finish(identity)

    # ----------------------------------------------------------------- session requests

    async def _hello(self, event: Hello) -> None:
        hints = {"telemetry.enabled": False}
        metadata = {"server": AGENT, "connection_id": f"bolt-{self.number}", "hints": hints}
        self.authenticated = True
        self._succeed(metadata)

    async def _logon(self, event: Logon) -> None:
        self.authenticated = True
        self._succeed()

    async def _acknowledge(self, event: Logoff | Telemetry) -> None:
        self._succeed()

    async def _reset(self, event: Reset) -> None:
        self._forget()
        self._succeed()

    async def _route(self, event: Route) -> None:
        _check_database({"db": event.db, "imp_user": event.imp_user})
        self._succeed({"rt": routing_table(self._router, event.db or DATABASES[0])})

    # ----------------------------------------------------------------- queries

    async def _run_query(self, event: Run) -> None:
        if self._tx is None:
            await self._autocommit(event)
        else:
            await self._inside(event, self._tx)

    async def _autocommit(self, event: Run) -> None:
        extra = event.extra
        _check_database(extra)
        query = event.query.encode()
        read = extra.get("mode") == "r"
        if await self._answered(query, event.parameters, qid=-1, read=read):
            return
        backup = is_backup(query)
        request = self._request(Op.BACKUP if backup else Op.RUN, extra, query, event.parameters)
        try:
            if request.read or backup:
                reply, server = await self._router.read(request)
            else:
                reply, server = await self._router.write(request)
            self._check(reply)
            await self._give(request.count, reply, _Stream(request.id, server), qid=-1)
        finally:
            self._router.finish(request.id)

    async def _inside(self, event: Run, tx: _Open) -> None:
        query = event.query.encode()
        if await self._answered(query, event.parameters, qid=event.qid):
            return
        request = self._request(Op.RUN, {}, query, event.parameters, tx=tx.id, qid=event.qid)
        try:
            reply = await self._tell(request, tx.server)
            self._check(reply)
            await self._give(request.count, reply, _Stream(request.id, tx.server), qid=event.qid)
        finally:
            self._router.finish(request.id)

    async def _give(self, wanted: int, reply: Reply, stream: _Stream, qid: int) -> None:
        """Answer RUN; and the PULL behind it, if its ``wanted`` rows came along (0: it did not)."""
        self._write(self._connection.send_encoded(reply.head))
        if not wanted:
            self._streams[qid] = _Finished(reply) if reply.status is Status.DONE else stream
            return
        if reply.status is not Status.DONE:
            self._streams[qid] = stream
        pull = self._connection.next_event()
        if isinstance(pull, IgnoredRequest):  # a RESET overtook it
            self._write(self._connection.send(Ignored()))
            return
        assert isinstance(pull, Pull)
        await self._records(pull.n, reply, stream, qid)

    async def _records(self, wanted: int, reply: Reply, stream: _Stream, qid: int) -> None:
        """Write rows to the client until it has what it asked for."""
        while True:
            if reply.body:
                self._connection.records_written()
                self._write(reply.body)
            if reply.status is not Status.PARTIAL:
                break
            if wanted >= 0:
                wanted -= reply.rows
            await self._writable.wait()
            reply = await self._fetch(Op.PULL, stream, wanted)
        if reply.status is Status.DONE:
            self._streams.pop(qid, None)
            self._write(self._connection.send_encoded(reply.tail))
        else:
            self._succeed({"has_more": True})

    async def _fetch(self, op: Op, stream: _Stream, count: int) -> Reply:
        identity = self._router.new_id()
        request = Request(
            identity,
            op,
            connection=self.number,
            dialect=dialect_number(self._connection.dialect),
            cursor=stream.cursor,
            count=count,
        )
        try:
            reply = await self._tell(request, stream.server)
            self._check(reply)
            return reply
        finally:
            self._router.finish(identity)

    async def _pull(self, event: Pull) -> None:
        stream = self._stream(event.qid)
        if isinstance(stream, _Finished):
            reply = stream.reply
        else:
            reply = await self._fetch(Op.PULL, stream, event.n)
        await self._records(event.n, reply, stream, event.qid)

    async def _discard(self, event: Discard) -> None:
        """The rest of a result is not wanted; with a number, that many rows are skipped."""
        stream = self._stream(event.qid)
        if isinstance(stream, _Finished):
            del self._streams[event.qid]
            self._write(self._connection.send_encoded(stream.reply.tail))
            return
        wanted = event.n
        while True:
            op = Op.DISCARD if event.n < 0 else Op.PULL
            reply = await self._fetch(op, stream, wanted)
            if reply.status is not Status.PARTIAL:
                break
            wanted -= reply.rows
        if reply.status is Status.DONE:
            self._streams.pop(event.qid, None)
            self._write(self._connection.send_encoded(reply.tail))
        else:
            self._succeed({"has_more": True})

    def _stream(self, qid: int) -> _Stream:
        stream = self._streams.get(qid)
        if stream is None:
            raise RequestFailed(
                codes.REQUEST_INVALID, "There is no open result to read from. Run a query first."
            )
        return stream

    # ----------------------------------------------------------------- explicit transactions

    async def _begin(self, event: Begin) -> None:
        _check_database(event.extra)
        request = self._request(Op.BEGIN, event.extra)
        try:
            reply, server, term = await self._router.begin(request)
            self._check(reply)
            self._tx = _Open(request.id, server, term, request.read)
            self._succeed()
        finally:
            self._router.finish(request.id)

    async def _commit(self, event: Commit) -> None:
        tx, self._tx = self._tx, None
        assert tx is not None
        self._streams.clear()
        request = self._request(Op.COMMIT, {}, tx=tx.id)
        try:
            reply = await self._router.commit(request, tx.server, tx.term)
        finally:
            self._router.finish(request.id)
        if reply.status in (Status.ABSENT, Status.NOT_LEADER):
            raise _leader_switched()
        self._check(reply)
        self._succeed({"bookmark": f"rayft:v1:{reply.index}", "db": DATABASES[0]})

    async def _rollback(self, event: Rollback) -> None:
        tx, self._tx = self._tx, None
        assert tx is not None
        self._streams.clear()
        request = self._request(Op.ROLLBACK, {}, tx=tx.id)
        try:
            await self._router.tell(request, tx.server, timeout=5.0)
        except (ServerLost, TimeoutError):
            pass  # gone with its server, or swept there: either way nothing of it is done
        finally:
            self._router.finish(request.id)
        self._succeed()

    # ----------------------------------------------------------------- helpers

    def _request(
        self,
        op: Op,
        extra: dict[str, Any],
        query: bytes = b"",
        parameters: bytes = b"",
        *,
        tx: int = 0,
        qid: int = -1,
    ) -> Request:
        bookmark, name = _bookmark(extra.get("bookmarks")), transaction_name(extra)
        timeout = extra.get("tx_timeout")
        timeout_ms = timeout if isinstance(timeout, int) and timeout > 0 else 0
        following = self._connection.peek() if op in (Op.RUN, Op.BACKUP) else None
        identity = self._router.new_id()
        return Request(
            identity,
            op,
            connection=self.number,
            read=extra.get("mode") == "r" or op is Op.BACKUP,
            dialect=dialect_number(self._connection.dialect),
            tx=tx,
            count=following.n if isinstance(following, Pull) and following.qid in (-1, qid) else 0,
            qid=qid,
            bookmark=bookmark,
            acknowledged=self._router.acknowledged(),
            timeout_ms=min(timeout_ms, 2**32 - 1),
            query=query,
            parameters=parameters,
            name=name,
        )

    async def _tell(self, request: Request, server: int) -> Reply:
        try:
            return await self._router.tell(request, server)
        except ServerLost:
            raise _leader_switched() from None
        except TimeoutError:
            raise RequestFailed(
                "Neo.ClientError.Transaction.TransactionTimedOut",
                "The server did not answer in time. Nothing of the transaction was done.",
            ) from None

    @staticmethod
    def _check(reply: Reply) -> None:
        if reply.status is Status.FAILED:
            raise RequestFailed(reply.head.decode(), reply.body.decode())
        if reply.status not in _SUCCESSES:
            raise NotLeader(wording.NO_LEADER)

    async def _answered(
        self, query: bytes, parameters: bytes, qid: int, *, read: bool = False
    ) -> bool:
        """Answer a statement that is asked of servers, not of the graph; False if it is none."""
        dialect = self._connection.dialect
        reply = await answer_statement(self._router, query, parameters, dialect, qid, read=read)
        if reply is None:
            return False
        wanted = -1 if isinstance(self._connection.peek(), Pull) else 0
        await self._give(wanted, reply, _Stream(0, 0), qid)
        return True


def _leader_switched() -> RequestFailed:
    return RequestFailed(
        codes.LEADER_SWITCH,
        "The server that had this transaction was lost or no longer leads. Nothing of the "
        "transaction was done; run it again.",
    )


def _failure_of(error: Exception) -> tuple[str, str]:
    match error:
        case RequestFailed():
            return error.code, error.message
        case Overloaded():
            return codes.NO_THREADS_AVAILABLE, str(error)
        case NotDone():
            return codes.DATABASE_UNAVAILABLE, str(error)
        case OutcomeUnknown():
            return codes.COMMIT_OUTCOME_UNKNOWN, str(error)
        case BoltError():
            return error.code, error.message
        case RayftError():
            return codes.UNKNOWN_ERROR, str(error)
    log.error("internal error in a Bolt session", exc_info=error)
    return codes.UNKNOWN_ERROR, "An internal error occurred; the gateway's log has the details."


def _check_database(extra: dict[str, Any]) -> None:
    name = extra.get("db")
    if name and str(name).lower() not in DATABASES:
        raise RequestFailed(
            codes.DATABASE_NOT_FOUND,
            f"There is no database '{name}' here: one database, called 'neo4j' or 'memgraph'.",
        )
    if extra.get("imp_user"):
        raise RequestFailed(
            "Neo.ClientError.Security.Forbidden", "Impersonation is not supported here."
        )


def _bookmark(bookmarks: Any) -> int:
    """The newest log index among the bookmarks; 0 for none."""
    return max((bookmark_index(bookmark) for bookmark in bookmarks or ()), default=0)


_HANDLERS: dict[type, Callable[[BoltSession, Any], Awaitable[None]]] = {
    Hello: BoltSession._hello,
    Logon: BoltSession._logon,
    Logoff: BoltSession._acknowledge,
    Telemetry: BoltSession._acknowledge,
    Reset: BoltSession._reset,
    Route: BoltSession._route,
    Run: BoltSession._run_query,
    Pull: BoltSession._pull,
    Discard: BoltSession._discard,
    Begin: BoltSession._begin,
    Commit: BoltSession._commit,
    Rollback: BoltSession._rollback,
}
