"""Statements that a gateway answers by asking servers, not by running Cypher.

    SHOW RAFT INFO                                   this gateway's own server
    SHOW STORAGE INFO                                all servers
    SHOW TRANSACTION OUTCOME 'id' [SINCE 'bookmark'] the leader
    SHOW SERVERS, ADD SERVER ... and their like      the leader (``administration.py``)
    RESTORE DATABASE ...                             the leader (``restore_statements.py``)

A client names a transaction with the key ``rayft.transaction_id`` of its transaction metadata, and
may ask at any time, over any connection, what became of it: ``committed`` (with a bookmark), ``not
committed`` (and then it never will be, however late it arrives), or ``unknown``: it is too long ago
to tell. With a bookmark from before the transaction was sent, "too long ago" is seldom said. Both
may be parameters.
"""

from __future__ import annotations

import re
from typing import Any

from actors.administration import is_statement
from actors.administration_gateway import AdministrationFailed, gather_administration
from actors.information import Table, gather_raft_info, gather_storage_info
from actors.outcomes import NAME_BYTES_MAX
from actors.protocol import Op, Reply, Request, Status, dialect_number
from actors.restore_statements import is_restore
from actors.router import Router
from bolt import status as codes
from bolt.limits import RESULTS
from bolt.messages import Success
from bolt.packstream import unpack
from bolt.records import decode_parameters, encode_message, encode_records
from bolt.versions import Dialect

__all__ = [
    "NAME_KEY",
    "RequestFailed",
    "administer",
    "answer_statement",
    "bookmark_index",
    "checked_name",
    "gather_outcome",
    "gather_restore",
    "transaction_name",
]

# Key of the transaction metadata.
NAME_KEY = "rayft.transaction_id"

_OUTCOMES = {
    Status.DONE: "committed",
    Status.ABSENT: "not committed",
    Status.FORGOTTEN: "unknown",
}
_INFORMATION = re.compile(rb"\s*SHOW\s+(RAFT|STORAGE)\s+INFO\s*;?\s*\Z", re.IGNORECASE)
_VALUE = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\$\w+"""
_OUTCOME = re.compile(
    rf"\s*SHOW\s+TRANSACTION\s+OUTCOME\s+({_VALUE})(?:\s+SINCE\s+({_VALUE}))?\s*;?\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_OUTCOME_BEGINS = re.compile(rb"\s*SHOW\s+TRANSACTION\s+OUTCOME\b", re.IGNORECASE)
_BOOKMARK = re.compile(r"rayft:v1:(\d{1,18})\Z")


class RequestFailed(Exception):
    """To be shown to the client as FAILURE; nothing was done."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def answer_statement(
    router: Router,
    query: bytes,
    parameters: bytes,
    dialect: Dialect,
    qid: int,
    *,
    read: bool = False,
) -> Reply | None:
    """The whole answer if ``query`` is one of these statements, else None.

    ``qid``: the result's number within an explicit transaction, else -1; ``read``: in read mode.

    Raises ``RequestFailed``, and what ``Router`` raises.
    """
    information = _INFORMATION.match(query)
    if information:
        gather = gather_raft_info if information[1].upper() == b"RAFT" else gather_storage_info
        return _reply(await gather(router), dialect, qid)
    if _OUTCOME_BEGINS.match(query):
        return _reply(await _outcome(router, query, parameters, dialect), dialect, qid)
    if is_restore(query):
        table = await gather_restore(router, query, parameters, dialect, inside=qid >= 0, read=read)
        return _reply(table, dialect, qid)
    if is_statement(query):
        return _reply(await administer(router, query, inside=qid >= 0, read=read), dialect, qid)
    return None


async def administer(
    router: Router, query: bytes, *, inside: bool = False, read: bool = False
) -> Table:
    """See ``gather_administration``. Raises ``RequestFailed`` where it raises a failure."""
    try:
        return await gather_administration(router, query, inside=inside, read=read)
    except AdministrationFailed as error:
        raise RequestFailed(error.code, error.message) from None


async def gather_outcome(router: Router, name: str, since: int) -> Table:
    """(transaction id, outcome, bookmark or null), one row."""
    reply = await router.settle(checked_name(name), since)
    if reply.status is Status.FAILED:
        raise RequestFailed(reply.head.decode(), reply.body.decode())
    bookmark = f"rayft:v1:{reply.index}" if reply.status is Status.DONE else None
    return ["transaction_id", "outcome", "bookmark"], [[name, _OUTCOMES[reply.status], bookmark]]


async def gather_restore(
    router: Router,
    query: bytes,
    parameters: bytes,
    dialect: Dialect,
    *,
    inside: bool = False,
    read: bool = False,
) -> Table:
    """A step of a restore: (restore) of BEGIN, else (result)."""
    if inside or read:
        raise RequestFailed(
            "Neo.ClientError.Transaction.ForbiddenDueToTransactionType",
            "A database is restored outside of transactions and with write access. Run the "
            "statement by itself (session.run). Nothing was done.",
        )
    identity = router.new_id()
    request = Request(
        identity,
        Op.RESTORE,
        dialect=dialect_number(dialect),
        acknowledged=router.acknowledged(),
        query=query,
        parameters=parameters,
    )
    try:
        reply, _ = await router.write(request)
    finally:
        router.finish(identity)
    if reply.status is Status.FAILED:
        raise RequestFailed(reply.head.decode(), reply.body.decode())
    if not reply.body:
        return ["result"], [["done"]]
    (fields, rows), _ = unpack(reply.body, 0, RESULTS)
    return fields, rows


def transaction_name(extra: dict[str, Any]) -> bytes:
    """What the client calls the transaction it begins; empty for nothing."""
    metadata = extra.get("tx_metadata")
    if not isinstance(metadata, dict) or NAME_KEY not in metadata:
        return b""
    return checked_name(metadata[NAME_KEY])


def checked_name(name: Any) -> bytes:
    """A transaction id as it is kept. Raises ``RequestFailed``."""
    if isinstance(name, str):
        encoded = name.encode("utf-8", "replace")
        if 1 <= len(encoded) <= NAME_BYTES_MAX:
            return encoded
    raise RequestFailed(
        codes.STATEMENT_ARGUMENT_ERROR,
        f"{NAME_KEY} must be a string of 1 to {NAME_BYTES_MAX} bytes. Nothing was done.",
    )


def bookmark_index(bookmark: Any) -> int:
    """The log index in a bookmark. Raises ``RequestFailed``."""
    match = _BOOKMARK.match(bookmark) if isinstance(bookmark, str) else None
    if match is None:
        raise RequestFailed(
            codes.INVALID_BOOKMARK, f"{bookmark!r} is not a bookmark of this database."
        )
    return int(match[1])


async def _outcome(router: Router, query: bytes, parameters: bytes, dialect: Dialect) -> Table:
    match = _OUTCOME.match(query.decode("utf-8", "replace"))
    if match is None:
        raise RequestFailed(
            codes.STATEMENT_SYNTAX_ERROR,
            "Write SHOW TRANSACTION OUTCOME 'id', or SHOW TRANSACTION OUTCOME 'id' SINCE "
            "'bookmark'; either may be a parameter.",
        )
    values = decode_parameters(parameters, dialect) if parameters else {}
    name, since = (_value(text, values) for text in match.groups())
    return await gather_outcome(router, name, 0 if since is None else bookmark_index(since))


def _value(text: str | None, parameters: dict[str, Any]) -> Any:
    if text is None:
        return None
    if text[0] != "$":
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    if text[1:] not in parameters:
        raise RequestFailed(
            "Neo.ClientError.Statement.ParameterMissing", f"Expected parameter(s): {text[1:]}"
        )
    return parameters[text[1:]]


def _reply(table: Table, dialect: Dialect, qid: int) -> Reply:
    fields, rows = table
    metadata: dict[str, Any] = {"fields": fields, "t_first": 0}
    if qid >= 0:
        metadata["qid"] = qid
    columns = [list(column) for column in zip(*rows, strict=True)]
    summary = {"type": "r", "t_last": 0, "db": "neo4j"}
    return Reply(
        0,
        Status.DONE,
        rows=len(rows),
        head=encode_message(Success(metadata), dialect),
        body=encode_records(columns, len(rows), dialect) if rows else b"",
        tail=encode_message(Success(summary), dialect),
    )
