"""What a gateway and a server say to each other: requests and replies, in batches.

A message between actors costs about 0.7 ms however small it is, so everything that waits travels
together: a message is a run of requests, or of replies, in a fixed binary form. Results travel as
finished Bolt bytes (``Reply.head``, ``body``, ``tail``), which the gateway only copies to its
client. Nothing is ever pickled.

Outcome of a request, in the words of ``actors.errors``: ``NOT_LEADER`` and ``OVERLOADED`` say that
it was not done and never will be; ``FAILED`` carries the error to show, and was not done either.
No reply at all means unknown; for a write the gateway then asks the next leader (``OUTCOME``),
which knows every transaction id that was committed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from bolt.versions import Dialect

__all__ = [
    "DIALECTS",
    "MESSAGE_BYTES_MAX",
    "Op",
    "Reply",
    "Request",
    "Status",
    "decode_replies",
    "decode_requests",
    "dialect_number",
    "encode_replies",
    "encode_requests",
]


DIALECTS: tuple[Dialect, ...] = (
    Dialect(element_ids=True, utc=True),
    Dialect(element_ids=False, utc=False),
    Dialect(element_ids=False, utc=True),
)


def dialect_number(dialect: Dialect) -> int:
    """The dialect's place in ``DIALECTS``: how a ``Request`` names it."""
    return DIALECTS.index(dialect)


class Op(IntEnum):
    """What is asked."""

    RUN = 1  # autocommit; with ``tx``, inside that explicit transaction
    PULL = 2  # ``count`` more rows of ``cursor``
    DISCARD = 3  # end of ``cursor`` without its rows
    BEGIN = 4  # the request's id becomes the transaction's id
    COMMIT = 5
    ROLLBACK = 6
    OUTCOME = 7  # was the write with id ``cursor`` committed? ``query`` as in RUN, or empty
    RAFT_INFO = 8
    STORAGE_INFO = 9
    CANCEL = 10  # drop whatever connection ``cursor`` has: cursors, transactions, running queries
    # A statement about the cluster (``administration.py``), for the leader; the reply's ``body`` is
    # a PackStream list of columns and rows. ``cursor`` 1: an earlier leader may have done it.
    ADMINISTER = 12
    # What became of the transaction that its client calls ``name``? If nothing yet, nothing will.
    # ``cursor``: log index before which it cannot have been sent.
    SETTLE = 11
    BACKUP = 13  # the graph of this server as rows of bytes (``backup.py``)
    RESTORE = 14  # a step of a restore (``restore_statements.py``), for the leader


class Status(IntEnum):
    """How it ended."""

    DONE = 0  # all rows are here, ``tail`` is the final summary
    MORE = 1  # ``count`` rows are here and there are more
    PARTIAL = 2  # fewer than ``count`` rows, only because the reply is full: ask for the rest
    FAILED = 3  # not done; ``head`` is a status code, ``body`` a message
    NOT_LEADER = 4  # not done; ``index`` is the term of the server that says so
    OVERLOADED = 5  # not done
    ABSENT = 6  # OUTCOME, SETTLE: certainly not committed, in the past and in the future
    FORGOTTEN = 7  # OUTCOME, SETTLE: too long ago to tell


@dataclass(slots=True)
class Request:
    """One request. ``id`` rises with every request of a gateway and is never used twice.

    Only the router changes one: it fills in ``term`` and ``attempt`` each time that it sends it.
    """

    id: int
    op: Op
    connection: int = 0  # which client connection of the gateway: owner of cursors
    read: bool = False  # access mode: may be answered by any server, must not write
    dialect: int = 0  # how values are written: a place in ``DIALECTS``
    tx: int = 0  # id of the explicit transaction, 0 for none
    cursor: int = 0
    count: int = -1  # rows wanted now; -1 all
    qid: int = -1  # Bolt's number of the result within its transaction; -1 outside
    bookmark: int = 0  # log index that must have been applied before
    term: int = 0  # write: the term in which the server asked is believed to lead
    acknowledged: int = 0  # all ids below this one have been answered to their clients
    timeout_ms: int = 0
    query: bytes = b""
    parameters: bytes = b""  # PackStream map
    name: bytes = b""  # what the client calls the transaction: RUN (autocommit), BEGIN, SETTLE
    # Each sending has a number of its own, and the reply says which one it answers: what a deposed
    # leader refuses late must not pass for the answer of its successor.
    attempt: int = 0


@dataclass(slots=True)
class Reply:
    id: int
    status: Status
    index: int = 0  # bookmark: log index of what was read or written
    rows: int = 0  # in ``body``
    head: bytes = b""
    body: bytes = b""
    tail: bytes = b""
    attempt: int = 0  # the request's


_REQUEST = struct.Struct("<QQBBBQQQqqQQQIII")
_REPLY = struct.Struct("<QQBQIIII")

# One message between actors; a batch larger than this is sent in several.
MESSAGE_BYTES_MAX = 8 * 2**20

# Added to an operation's number: behind the parameters stand a length, one byte, and the name. So
# requests without names look as they did before there were names.
_HAS_NAME = 0x80

_CUT_SHORT = "a message is shorter than the lengths in it say"


def encode_requests(requests: Iterable[Request]) -> bytes:
    parts: list[bytes] = []
    for r in requests:
        parts.append(
            _REQUEST.pack(
                r.id,
                r.attempt,
                r.op | _HAS_NAME if r.name else r.op,
                r.read,
                r.dialect,
                r.connection,
                r.tx,
                r.cursor,
                r.count,
                r.qid,
                r.bookmark,
                r.term,
                r.acknowledged,
                r.timeout_ms,
                len(r.query),
                len(r.parameters),
            )
        )
        parts += (r.query, r.parameters)
        if r.name:
            parts.append(bytes((len(r.name),)) + r.name)
    return b"".join(parts)


def decode_requests(data: bytes) -> list[Request]:
    """Raises ``ValueError`` for a message that is cut short or names no operation of ours."""
    try:
        return _decode_requests(data)
    except struct.error as error:
        raise ValueError(f"a message of requests is damaged: {error}") from error


def _decode_requests(data: bytes) -> list[Request]:
    requests: list[Request] = []
    offset = 0
    while offset < len(data):
        (
            identity,
            attempt,
            op,
            read,
            dialect,
            connection,
            tx,
            cursor,
            count,
            qid,
            bookmark,
            term,
            acknowledged,
            timeout_ms,
            query_bytes,
            parameter_bytes,
        ) = _REQUEST.unpack_from(data, offset)
        offset += _REQUEST.size
        query = data[offset : offset + query_bytes]
        offset += query_bytes
        parameters = data[offset : offset + parameter_bytes]
        offset += parameter_bytes
        name = b""
        if op & _HAS_NAME:
            name = data[offset + 1 : offset + 1 + data[offset]] if offset < len(data) else b""
            offset += 1 + len(name)
            if not name or len(name) != data[offset - len(name) - 1]:
                raise ValueError(_CUT_SHORT)
        if offset > len(data):
            raise ValueError(_CUT_SHORT)
        requests.append(
            Request(
                identity,
                Op(op & ~_HAS_NAME),
                connection,
                bool(read),
                dialect,
                tx,
                cursor,
                count,
                qid,
                bookmark,
                term,
                acknowledged,
                timeout_ms,
                query,
                parameters,
                name,
                attempt,
            )
        )
    return requests


def encode_replies(replies: Iterable[Reply]) -> bytes:
    parts: list[bytes] = []
    for r in replies:
        sizes = (len(r.head), len(r.body), len(r.tail))
        front = _REPLY.pack(r.id, r.attempt, r.status, r.index, r.rows, *sizes)
        parts += (front, r.head, r.body, r.tail)
    return b"".join(parts)


def decode_replies(data: bytes) -> list[Reply]:
    """Raises ``ValueError`` for a message that is cut short or names no status of ours."""
    try:
        return _decode_replies(data)
    except struct.error as error:
        raise ValueError(f"a message of replies is damaged: {error}") from error


def _decode_replies(data: bytes) -> list[Reply]:
    replies: list[Reply] = []
    offset = 0
    while offset < len(data):
        identity, attempt, status, index, rows, head, body, tail = _REPLY.unpack_from(data, offset)
        offset += _REPLY.size
        middle = offset + head
        end = middle + body
        last = end + tail
        if last > len(data):
            raise ValueError(_CUT_SHORT)
        replies.append(
            Reply(
                identity,
                Status(status),
                index,
                rows,
                data[offset:middle],
                data[middle:end],
                data[end:last],
                attempt,
            )
        )
        offset = last
    return replies
