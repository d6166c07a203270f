"""Running requests against roots: the part of a server that knows queries and results.

It is given a root to read, or the head to write on, by the state machine (``machine.py``) and gives
replies back; it knows nothing of Raft, threads or Ray. Reads and statements of explicit
transactions run in reader threads; batches of writes run in the state machine's thread.
"""

from __future__ import annotations

import random
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from neo4j.time import DateTime

from actors import limits
from actors.protocol import DIALECTS, Op, Reply, Request, Status
from actors.sessions import Cursor, OpenTransaction, Sessions
from bolt.errors import BoltError
from bolt.messages import Success
from bolt.records import decode_parameters, encode_message
from bolt.status import COMMIT_OUTCOME_UNKNOWN
from bolt.versions import Dialect
from graph.cypher.budget import TERMINATED, QueryLimits
from graph.engine import Engine, Prepared, Result, Transaction, run_batch
from graph.errors import GraphError
from graph.store import IdAllocator, Root

__all__ = ["Executed", "Item", "QueryService", "bookmark_of"]

log = structlog.get_logger()

ACCESS_MODE = "Neo.ClientError.Statement.AccessMode"


def bookmark_of(index: int) -> str:
    """A log index as clients see it."""
    return f"rayft:v1:{index}"


@dataclass(slots=True)
class Item:
    """A request on its way through a server."""

    gateway: int
    request: Request
    deadline: float  # monotonic seconds
    received: float
    prepared: Prepared | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def owner(self) -> tuple[int, int]:
        return self.gateway, self.request.connection

    def prepared_request(self) -> tuple[Prepared, dict[str, Any]]:
        """What ``run_batch`` takes; the query has been prepared."""
        assert self.prepared is not None
        return self.prepared, self.parameters

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.request.dialect]


@dataclass(slots=True)
class Executed:
    """A write that was executed on the head, or failed there, and waits for its entry."""

    item: Item
    cursor: Cursor | None = None
    error: GraphError | None = None
    head: bytes = b""
    body: bytes = b""
    rows: int = 0
    repeated: bool = False  # a transaction of this name was executed before: this one was not
    status: Status | None = None  # SETTLE: the answer


class QueryService:
    """See the module.

    Args:
        engine: prepares queries.
        send: takes replies to a gateway.
        clock: seconds that only grow.
        now: what a statement sees as the time of day.
        chance: what a statement sees as chance.
    """

    def __init__(
        self,
        engine: Engine,
        send: Callable[[int, list[Reply]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], DateTime] = DateTime.utc_now,
        chance: random.Random | None = None,
    ) -> None:
        self.engine = engine
        self.sessions = Sessions()
        self._clock = clock
        self._now = now
        self._chance = chance or random.Random()  # noqa: S311  # for rand(): no secret
        self._send = send  # (gateway, replies)

    # ----------------------------------------------------------------- replies

    def reply(self, item: Item, reply: Reply) -> None:
        self.reply_all([(item, reply)])

    def reply_all(self, pairs: Sequence[tuple[Item, Reply]]) -> None:
        """Replies to one gateway travel together."""
        by_gateway: dict[int, list[Reply]] = {}
        for item, reply in pairs:
            reply.attempt = item.request.attempt
            by_gateway.setdefault(item.gateway, []).append(reply)
        for gateway, replies in by_gateway.items():
            self._send(gateway, replies)

    def failed(self, item: Item, error: BaseException) -> Reply:
        """The reply that shows ``error``; an internal one is logged and shown as a number."""
        code, message = describe(error)
        return Reply(item.request.id, Status.FAILED, head=code.encode(), body=message.encode())

    # ----------------------------------------------------------------- preparing

    def prepare(self, item: Item) -> None:
        """Parse the query and decode its parameters. Raises ``GraphError`` or ``BoltError``."""
        request = item.request
        try:
            text = request.query.decode("utf-8")
        except UnicodeDecodeError as error:
            raise GraphError(
                "The query is not valid UTF-8.", code="Neo.ClientError.Request.Invalid"
            ) from error
        item.prepared = self.engine.prepare(text)
        self.decode(item)

    @staticmethod
    def decode(item: Item) -> None:
        """Decode a request's parameters. Raises ``BoltError``."""
        if item.request.parameters:
            item.parameters = decode_parameters(item.request.parameters, item.dialect)

    # ----------------------------------------------------------------- reading

    def read(self, item: Item, root: Root, index: int) -> Reply:
        """An autocommit read on ``root``, which is the graph as of log index ``index``."""
        try:
            assert item.prepared is not None
            transaction = Transaction(
                self.engine,
                root,
                None,
                read_only=True,
                limits=self._limits(item.deadline, None),
                **self.surroundings(),
            )
            result = transaction.run(item.prepared, item.parameters)
            cursor = self._cursor(result, item, index)
            return self._first_reply(item, cursor, bookmark_of(index))
        except Exception as error:
            return self.failed(item, error)

    def read_batch(self, items: Sequence[Item], root: Root, index: int) -> list[Reply]:
        """Reads that wait together on one root: those with the same plan run once."""
        if len(items) == 1:
            return [self.read(items[0], root, index)]
        try:
            requests = [item.prepared_request() for item in items]
            deadline = min(i.deadline for i in items)
            batch = run_batch(
                self.engine,
                root,
                None,
                requests,
                limits=self._limits(deadline, None),
                **self.surroundings(),
                read_only=True,
            )
        except Exception:
            log.exception("a batch of reads failed; running them one by one")
            return [self.read(item, root, index) for item in items]
        replies = []
        for item, result in zip(items, batch.results, strict=True):
            try:
                if isinstance(result, BaseException):
                    raise result
                cursor = self._cursor(result, item, index)
                replies.append(self._first_reply(item, cursor, bookmark_of(index)))
            except Exception as error:
                replies.append(self.failed(item, error))
        return replies

    def first_rows(self, item: Item, result: Any, index: int) -> Reply:
        """Answer RUN, and the PULL behind it, from what is not a query's result but like one."""
        cursor = self._cursor(result, item, index)
        return self._first_reply(item, cursor, bookmark_of(index))

    def time_of_day(self) -> str:
        """As statements see it, in ISO 8601."""
        return self._now().iso_format()

    def pull(self, item: Item) -> Reply:
        """More rows of an open cursor, or none of them (DISCARD)."""
        request = item.request
        cursor = self.sessions.cursor(item.gateway, request.cursor)
        if cursor is None:
            return self.failed(
                item,
                GraphError(
                    "The result is not open any more: it was not read for too long, or its "
                    "transaction ended. Run the query again.",
                    code="Neo.TransientError.Transaction.LeaderSwitch",
                ),
            )
        opened = cursor.transaction
        if opened is not None:
            with opened.lock:
                return self._pull(item, cursor)
        return self._pull(item, cursor)

    def _pull(self, item: Item, cursor: Cursor) -> Reply:
        request = item.request
        try:
            if request.op is Op.DISCARD:
                cursor.close()
                body, rows = b"", 0
            else:
                body, rows = cursor.fetch(request.count)
            cursor.used_at = self._clock()
            inside = cursor.transaction is not None
            bookmark = None if inside else bookmark_of(cursor.index)
            if cursor.finished:
                self.sessions.remove_cursor(item.gateway, request.cursor)
                tail = cursor.summary(self._milliseconds(cursor.started), bookmark)
                return Reply(request.id, Status.DONE, cursor.index, rows, b"", body, tail)
            full = request.count < 0 or rows < request.count
            status = Status.PARTIAL if full else Status.MORE
            return Reply(request.id, status, cursor.index, rows, b"", body)
        except Exception as error:
            self.sessions.remove_cursor(item.gateway, request.cursor)
            if cursor.transaction is not None:
                error = _end(cursor.transaction, error)
            return self.failed(item, error)

    # ----------------------------------------------------------------- explicit transactions

    def begin(
        self, item: Item, root: Root, allocator: IdAllocator | None, version: int, index: int
    ) -> Reply:
        """Open a transaction on ``root``, which is its own unless it only reads."""
        request = item.request
        now = self._clock()
        seconds = request.timeout_ms / 1000 if request.timeout_ms else limits.QUERY_SECONDS_MAX
        try:
            opened = OpenTransaction(
                request.id,
                item.owner,
                None,  # type: ignore[arg-type]  # set on the next line: its limits refer to it
                request.read,
                version,
                index,
                now + seconds,
                now,
                name=request.name,
            )
            opened.transaction = Transaction(
                self.engine,
                root,
                allocator,
                read_only=request.read,
                limits=self._limits(opened.deadline, lambda: opened.cancelled),
                **self.surroundings(),
            )
            self.sessions.add_transaction(item.gateway, opened)
        except Exception as error:
            return self.failed(item, error)
        return Reply(request.id, Status.DONE, index)

    def run_inside(self, item: Item) -> Reply:
        """A statement of an explicit transaction."""
        request = item.request
        opened = self.sessions.transaction(item.gateway, request.tx)
        if opened is None or opened.cancelled:
            return self.failed(item, transaction_gone())
        with opened.lock:
            try:
                self.prepare(item)
                assert item.prepared is not None
                if item.prepared.kind == "schema":
                    raise GraphError(
                        "Indexes and constraints cannot be changed inside an explicit transaction. "
                        "Run the command by itself, as an autocommit query.",
                        code="Neo.ClientError.Transaction.ForbiddenDueToTransactionType",
                    )
                result = opened.transaction.run(item.prepared, item.parameters)
                opened.used_at = self._clock()
                cursor = self._cursor(result, item, opened.index)
                cursor.transaction = opened
                return self._first_reply(item, cursor, None)
            except Exception as error:
                return self.failed(item, _end(opened, error))

    def rollback(self, item: Item) -> Reply:
        opened = self.sessions.remove_transaction(item.gateway, item.request.tx)
        if opened is not None:
            opened.cancelled = True
        return Reply(item.request.id, Status.DONE)

    # ----------------------------------------------------------------- writing

    def execute(self, item: Item, result: Result | BaseException, executed_at: float) -> Executed:
        """Wrap the outcome of one write; its rows are encoded already now, while it replicates."""
        executed = Executed(item)
        if isinstance(result, BaseException):
            executed.error = result if isinstance(result, GraphError) else _internal(result)
            return executed
        try:
            cursor = executed.cursor = Cursor(result, item.dialect, executed_at)
            executed.head = cursor.head(item.request.qid)
            if item.request.count:
                executed.body, executed.rows = cursor.fetch(item.request.count)
        except Exception as error:  # the write is in the log all the same: only its rows are lost
            executed.error = _done_without_rows(_internal(error).message)
        return executed

    def committed(self, executed: Executed, index: int) -> Reply:
        """The reply to a write whose entry is committed."""
        item, cursor = executed.item, executed.cursor
        request = item.request
        if executed.error is not None:
            return self.failed(item, executed.error)
        if executed.status is not None:
            return Reply(request.id, executed.status, index)
        if executed.repeated:
            return self.repeated(item, index)
        if cursor is None:  # COMMIT
            return Reply(request.id, Status.DONE, index)
        cursor.index = index
        if cursor.finished:
            tail = cursor.summary(self._milliseconds(cursor.started), bookmark_of(index))
            return Reply(request.id, Status.DONE, index, 0, executed.head, executed.body, tail)
        try:
            self.sessions.add_cursor(item.gateway, request.id, item.owner, cursor)
        except GraphError as error:
            return self.failed(item, _done_without_rows(error.message))
        rows, wanted = executed.rows, request.count
        full = wanted < 0 or rows < wanted
        status = Status.PARTIAL if full else Status.MORE
        return Reply(request.id, status, index, rows, executed.head, executed.body)

    def repeated(self, item: Item, index: int) -> Reply:
        """The reply to a transaction that was committed before under the same name.

        Its rows are gone, so there are none; the summary says so (``repeated``).
        """
        request = item.request
        if item.prepared is None:  # COMMIT
            return Reply(request.id, Status.DONE, index)
        metadata = {"fields": list(item.prepared.fields), "t_first": 0}
        summary = {
            "type": "w",
            "t_last": 0,
            "db": "neo4j",
            "bookmark": bookmark_of(index),
            "repeated": True,
        }
        head = empty_success(item.dialect, metadata)
        tail = empty_success(item.dialect, summary)
        return Reply(request.id, Status.DONE, index, head=head, tail=tail)

    # ----------------------------------------------------------------- helpers

    def _cursor(self, result: Result, item: Item, index: int) -> Cursor:
        cursor = Cursor(result, item.dialect, item.received)
        cursor.index = index
        return cursor

    def _first_reply(self, item: Item, cursor: Cursor, bookmark: str | None) -> Reply:
        """Answer RUN and, if rows are wanted already, the PULL behind it."""
        request = item.request
        head = cursor.head(request.qid)
        body, rows = cursor.fetch(request.count) if request.count else (b"", 0)
        if cursor.finished:
            tail = cursor.summary(self._milliseconds(cursor.started), bookmark)
            return Reply(request.id, Status.DONE, cursor.index, rows, head, body, tail)
        self.sessions.add_cursor(item.gateway, request.id, item.owner, cursor)
        full = request.count < 0 or rows < request.count
        status = Status.PARTIAL if full else Status.MORE
        return Reply(request.id, status, cursor.index, rows, head, body)

    def _limits(self, deadline: float, cancelled: Callable[[], bool] | None) -> QueryLimits:
        return QueryLimits(
            clock=self._clock,
            deadline_s=deadline,
            cancelled=cancelled,
            memory_bytes_max=limits.QUERY_BYTES_MAX,
        )

    def surroundings(self) -> dict[str, Any]:
        """What a statement sees of the world: the time, and chance."""
        return {"now": self._now(), "random": self._chance}

    def _milliseconds(self, since: float) -> int:
        return int((self._clock() - since) * 1000)

    def write_limits(self, deadline: float) -> QueryLimits:
        return self._limits(deadline, None)


def empty_success(dialect: Dialect, metadata: dict[str, Any]) -> bytes:
    """A SUCCESS message in Bolt bytes."""
    return encode_message(Success(metadata), dialect)


def _end(opened: OpenTransaction, error: Exception) -> Exception:
    """A statement of the transaction failed; what its client is told."""
    gone = opened.cancelled and isinstance(error, GraphError) and error.code == TERMINATED
    opened.cancelled = True
    # Drivers take "terminated" for somebody's will and do not retry; here a leader was deposed.
    return transaction_gone() if gone else error


def transaction_gone() -> GraphError:
    return GraphError(
        "The transaction is not open on this server: its server lost the leadership, or it was "
        "terminated, timed out or failed before. Nothing of it was done; begin it again.",
        code="Neo.TransientError.Transaction.LeaderSwitch",
    )


def describe(error: BaseException) -> tuple[str, str]:
    """Status code and message for a client; internals stay in the server's log."""
    if isinstance(error, GraphError):
        return error.code, error.message
    if isinstance(error, BoltError):
        return error.code, error.message
    internal = _internal(error)
    return internal.code, internal.message


def _done_without_rows(why: str) -> GraphError:
    """A code that nobody retries: the write is committed."""
    return GraphError(
        f"The write was committed, but its rows cannot be given: {why} Do not run it again; read "
        "what you need.",
        code=COMMIT_OUTCOME_UNKNOWN,
    )


def _internal(error: BaseException) -> GraphError:
    identity = uuid.uuid4().hex[:12]
    trace = "".join(traceback.format_exception(error))
    log.error("internal error", id=identity, trace=trace)
    return GraphError(
        f"An internal error occurred. The server's log has the details under {identity}.",
        code="Neo.DatabaseError.General.UnknownError",
    )
