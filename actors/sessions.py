"""What a server remembers between two requests: cursors and explicit transactions.

A *cursor* is a result that its client has not read to the end. It holds the root it was made from,
so it can be read at any later time and shows one state of the graph. An *open transaction* runs on
a private root taken when it began; its writes become visible when the leader applies its write set
to the head, after checking that nobody changed the same entities since.

Both belong to a client connection of a gateway and go with it, and both are closed when they are
not used for a while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from actors import limits
from bolt.messages import Success
from bolt.records import encode_message, encode_records
from bolt.versions import Dialect
from graph.engine import Result, Transaction
from graph.errors import GraphError

__all__ = ["Cursor", "OpenTransaction", "Owner", "Sessions"]

# Rows encoded in one go: bounds what a reply can exceed its size by.
ENCODED_ROWS_MAX = 256

# (gateway, connection)
Owner = tuple[int, int]


class Cursor:
    """A result being read. Not for use by two threads at a time."""

    def __init__(self, result: Result, dialect: Dialect, started: float) -> None:
        self.result = result
        self.dialect = dialect
        self.started = started
        self.used_at = started
        self.transaction: OpenTransaction | None = None
        self.index = 0  # log index of the root it reads from, for the bookmark
        self._chunks: Iterator[tuple[int, list[list[Any]]]] = result.chunks()
        self._count = 0
        self._columns: list[list[Any]] = []
        self._position = 0
        self.finished = False

    def head(self, qid: int) -> bytes:
        """The answer to RUN."""
        return _head(tuple(self.result.fields), qid, self.dialect)

    def fetch(self, count: int) -> tuple[bytes, int]:
        """At most ``count`` rows (-1: all), and no more than fit one reply: (bytes, rows).

        Sets ``finished`` as soon as it is known that no row is left. Raises ``GraphError`` where
        the query does.
        """
        parts: list[bytes] = []
        rows = size = 0
        while not self.finished and size < limits.REPLY_BYTES_MAX:
            if self._position >= self._count and not self._advance():
                break
            if rows == count:
                break
            wanted = ENCODED_ROWS_MAX if count < 0 else min(count - rows, ENCODED_ROWS_MAX)
            piece, taken = self._encode(wanted)
            parts.append(piece)
            rows += taken
            size += len(piece)
        if not self.finished and self._position >= self._count and rows == count:
            self._advance()
        return b"".join(parts), rows

    def _encode(self, wanted: int) -> tuple[bytes, int]:
        stop = min(self._position + wanted, self._count)
        whole = self._position == 0 and stop == self._count
        columns = self._columns if whole else [c[self._position : stop] for c in self._columns]
        taken = stop - self._position
        data = encode_records(columns, taken, self.dialect)
        self._position = stop
        return data, taken

    def _advance(self) -> bool:
        """Take the next chunk that has rows; False, and ``finished``, if there is none."""
        for count, columns in self._chunks:
            if count:
                self._count, self._columns, self._position = count, columns, 0
                return True
        self.finished = True
        self._count = self._position = 0
        self._columns = []
        return False

    def close(self) -> None:
        self.finished = True
        self._columns = []
        self._count = self._position = 0

    def summary(self, milliseconds: int, bookmark: str | None) -> bytes:
        """The answer to the PULL or DISCARD that ended the result."""
        result = self.result
        plan = result.plan
        if plan is None:
            statistics = tuple(result.statistics.items())
            return _summary(result.query_type, milliseconds, bookmark, statistics, self.dialect)
        metadata = _summary_of(result.query_type, milliseconds, bookmark, result.statistics)
        metadata["profile" if result.profiled else "plan"] = plan
        return encode_message(Success(metadata), self.dialect)


# Many requests of one batch end in the same bytes.
@lru_cache(maxsize=1_024)
def _head(fields: tuple[str, ...], qid: int, dialect: Dialect) -> bytes:
    metadata: dict[str, Any] = {"fields": list(fields), "t_first": 0}
    if qid >= 0:
        metadata["qid"] = qid
    return encode_message(Success(metadata), dialect)


@lru_cache(maxsize=1_024)
def _summary(
    query_type: str,
    milliseconds: int,
    bookmark: str | None,
    statistics: tuple[tuple[str, Any], ...],
    dialect: Dialect,
) -> bytes:
    metadata = _summary_of(query_type, milliseconds, bookmark, dict(statistics))
    return encode_message(Success(metadata), dialect)


def _summary_of(
    query_type: str, milliseconds: int, bookmark: str | None, statistics: dict[str, Any]
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"type": query_type, "t_last": milliseconds, "db": "neo4j"}
    if bookmark is not None:
        metadata["bookmark"] = bookmark
    if statistics:
        metadata["stats"] = statistics
    return metadata


@dataclass(slots=True)
class OpenTransaction:
    """An explicit transaction. ``lock`` is held by the thread that runs a statement of it."""

    id: int
    owner: Owner
    transaction: Transaction
    read_only: bool
    version: int  # speculation that its root shows; later ones may conflict
    index: int  # log index of its root
    deadline: float
    used_at: float
    cancelled: bool = False
    name: bytes = b""  # what its client calls it
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """The tables of cursors and transactions; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursors: dict[tuple[int, int], tuple[Owner, Cursor]] = {}
        self._transactions: dict[tuple[int, int], OpenTransaction] = {}

    # Keys are (gateway, request id).

    def add_cursor(self, gateway: int, identity: int, owner: Owner, cursor: Cursor) -> None:
        with self._lock:
            if len(self._cursors) >= limits.CURSORS_MAX:
                raise GraphError(
                    f"This server holds {limits.CURSORS_MAX} open results. Read results to their "
                    "end, or close them.",
                    code="Neo.TransientError.General.MemoryPoolOutOfMemoryError",
                )
            self._cursors[(gateway, identity)] = (owner, cursor)

    def cursor(self, gateway: int, identity: int) -> Cursor | None:
        found = self._cursors.get((gateway, identity))
        return None if found is None else found[1]

    def remove_cursor(self, gateway: int, identity: int) -> None:
        with self._lock:
            self._cursors.pop((gateway, identity), None)

    def add_transaction(self, gateway: int, opened: OpenTransaction) -> None:
        with self._lock:
            if len(self._transactions) >= limits.TRANSACTIONS_MAX:
                raise GraphError(
                    f"This server has {limits.TRANSACTIONS_MAX} open transactions. Commit or roll "
                    "back some.",
                    code="Neo.TransientError.General.MemoryPoolOutOfMemoryError",
                )
            self._transactions[(gateway, opened.id)] = opened

    def transaction(self, gateway: int, identity: int) -> OpenTransaction | None:
        return self._transactions.get((gateway, identity))

    def remove_transaction(self, gateway: int, identity: int) -> OpenTransaction | None:
        with self._lock:
            opened = self._transactions.pop((gateway, identity), None)
            if opened is not None:
                self._drop_cursors(_belongs_to(opened))
            return opened

    def oldest_write_version(self) -> int | None:
        """The oldest root that an open writing transaction was taken from."""
        with self._lock:
            versions = [t.version for t in self._transactions.values() if not t.read_only]
        return min(versions, default=None)

    def drop_owner(self, owner: Owner) -> None:
        """The connection is gone."""
        with self._lock:
            self._drop_transactions(lambda t: t.owner == owner)
            self._drop_cursors(lambda who, _: who == owner)

    def drop_gateway(self, gateway: int) -> None:
        """The gateway is gone."""
        with self._lock:
            self._drop_transactions(lambda t: t.owner[0] == gateway)
            self._drop_cursors(lambda who, _: who[0] == gateway)

    def drop_writing_transactions(self) -> None:
        """Leadership is lost: none of them can be committed here."""
        with self._lock:
            self._drop_transactions(lambda t: not t.read_only)

    def sweep(self, now: float) -> None:
        """Close what has not been used for too long."""
        with self._lock:
            idle = now - limits.TRANSACTION_IDLE_SECONDS_MAX
            self._drop_transactions(lambda t: t.used_at < idle or t.deadline < now)
            idle_cursor = now - limits.CURSOR_IDLE_SECONDS_MAX
            self._drop_cursors(lambda _, cursor: cursor.used_at < idle_cursor)

    def _drop_transactions(self, doomed: Callable[[OpenTransaction], bool]) -> None:
        for key, opened in list(self._transactions.items()):
            if doomed(opened):
                opened.cancelled = True
                del self._transactions[key]
                self._drop_cursors(_belongs_to(opened))

    def _drop_cursors(self, doomed: Callable[[Owner, Cursor], bool]) -> None:
        for key, (owner, cursor) in list(self._cursors.items()):
            if doomed(owner, cursor):
                del self._cursors[key]


def _belongs_to(opened: OpenTransaction) -> Callable[[Owner, Cursor], bool]:
    return lambda _, cursor: cursor.transaction is opened
