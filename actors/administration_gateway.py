"""Statements about the cluster as a gateway, and the Python handle behind it, ask for them."""

from __future__ import annotations

from typing import Any

from actors.administration import ShowServers, StatementError, parse_statement
from actors.errors import RayftError
from actors.protocol import Op, Request, Status
from actors.router import Router
from bolt import status as codes
from bolt.limits import RESULTS
from bolt.packstream import unpack

__all__ = ["AdministrationFailed", "gather_administration"]

Table = tuple[list[str], list[list[Any]]]


class AdministrationFailed(RayftError):
    """The statement was certainly not done; ``code`` is a Neo4j status code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def gather_administration(
    router: Router, query: bytes, *, inside: bool = False, read: bool = False
) -> Table:
    """(columns, rows) of a statement for which ``administration.is_statement`` holds.

    Args:
        inside: it was sent inside an explicit transaction.
        read: it was sent in read mode.

    Raises:
        AdministrationFailed: it is wrong, or was refused.
        NotLeader, Overloaded, OutcomeUnknown: see ``Router.administer``.
    """
    try:
        statement = parse_statement(query.decode("utf-8", "replace"))
    except StatementError as error:
        raise AdministrationFailed(codes.STATEMENT_SYNTAX_ERROR, str(error)) from None
    if not isinstance(statement, ShowServers):
        _check_mode(inside, read)
    identity = router.new_id()
    try:
        reply = await router.administer(Request(identity, Op.ADMINISTER, query=query))
    finally:
        router.finish(identity)
    if reply.status is Status.FAILED:
        raise AdministrationFailed(reply.head.decode(), reply.body.decode())
    (fields, rows), _ = unpack(reply.body, 0, RESULTS)
    return fields, rows


def _check_mode(inside: bool, read: bool) -> None:
    if inside:
        raise AdministrationFailed(
            "Neo.ClientError.Transaction.ForbiddenDueToTransactionType",
            "Servers are added, removed and changed outside of transactions. Run the statement by "
            "itself, as an autocommit query (session.run). Nothing was changed.",
        )
    if read:
        raise AdministrationFailed(
            "Neo.ClientError.Statement.AccessMode",
            "Servers cannot be changed in read access mode. Use a session with write access. "
            "Nothing was changed.",
        )
