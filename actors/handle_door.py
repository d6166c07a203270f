"""Requests of the Python handle inside a gateway: the same way as a Bolt client's, without Bolt.

A handle's session has a number, as a Bolt connection has; its cursors and transactions on servers
belong to that number and go when it is closed, or when they are not used for a while.

Answers are plain dictionaries: ``{"error": (code, message, outcome)}``, with outcome ``"not done"``
or ``"unknown"``, or what the method says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from actors.errors import NotDone, OutcomeUnknown, Overloaded
from actors.information import gather_raft_info, gather_storage_info
from actors.protocol import DIALECTS, Op, Reply, Request, Status
from actors.router import Router, ServerLost
from actors.statements import (
    RequestFailed,
    administer,
    bookmark_index,
    checked_name,
    gather_outcome,
    gather_restore,
)
from bolt import status as codes

__all__ = ["HandleDoor"]

Answer = dict[str, Any]

LOST = (
    "The server that had this transaction or result was lost or no longer leads. Nothing of the "
    "transaction was done; run it again."
)


class HandleDoor:
    """See the module."""

    def __init__(self, router: Router, new_number: Callable[[], int]) -> None:
        self._router = router
        self._new_number = new_number

    async def ask(self, what: str, arguments: dict[str, Any]) -> Answer:
        """Do ``what`` ("run", "fetch", "begin", ...) with its arguments."""
        return await _answering(lambda: _ACTIONS[what](self, **arguments))

    async def _open(self) -> Answer:
        return {"session": self._new_number()}

    async def _close(self, session: int) -> Answer:
        identity = self._router.new_id()
        self._router.notify(Request(identity, Op.CANCEL, cursor=session))
        self._router.finish(identity)
        return {}

    async def _run(
        self,
        session: int,
        query: bytes,
        parameters: bytes,
        *,
        read: bool = False,
        count: int = -1,
        bookmark: int = 0,
        timeout_ms: int = 0,
        tx: tuple[int, int, int] | None = None,
        name: str | None = None,
    ) -> Answer:
        """``{"head", "body", "tail", "more", "cursor", "index"}``; ``tx`` as from "begin"."""
        encoded = checked_name(name) if name is not None else b""
        identity = self._router.new_id()
        request = Request(
            identity,
            Op.RUN,
            connection=session,
            read=read,
            tx=tx[0] if tx else 0,
            count=count,
            bookmark=bookmark,
            acknowledged=self._router.acknowledged(),
            timeout_ms=timeout_ms,
            query=query,
            parameters=parameters,
            name=encoded,
        )
        try:
            if tx:
                reply, server = await self._router.tell(request, tx[1]), tx[1]
            elif read:
                reply, server = await self._router.read(request)
            else:
                reply, server = await self._router.write(request)
        finally:
            self._router.finish(identity)
        return _result(reply, (identity, server))

    async def _fetch(self, session: int, cursor: tuple[int, int], count: int) -> Answer:
        identity = self._router.new_id()
        request = Request(identity, Op.PULL, connection=session, cursor=cursor[0], count=count)
        try:
            reply = await self._router.tell(request, cursor[1])
        finally:
            self._router.finish(identity)
        return _result(reply, cursor)

    async def _begin(
        self,
        session: int,
        *,
        read: bool = False,
        bookmark: int = 0,
        timeout_ms: int = 0,
        name: str | None = None,
    ) -> Answer:
        """``{"tx": (id, server, term)}``."""
        encoded = checked_name(name) if name is not None else b""
        identity = self._router.new_id()
        request = Request(
            identity,
            Op.BEGIN,
            connection=session,
            read=read,
            bookmark=bookmark,
            timeout_ms=timeout_ms,
            name=encoded,
        )
        try:
            reply, server, term = await self._router.begin(request)
        finally:
            self._router.finish(identity)
        return _failure(reply) or {"tx": (identity, server, term)}

    async def _commit(self, session: int, tx: tuple[int, int, int]) -> Answer:
        """``{"index"}``: the log index of the commit."""
        identity = self._router.new_id()
        request = Request(
            identity,
            Op.COMMIT,
            connection=session,
            tx=tx[0],
            acknowledged=self._router.acknowledged(),
        )
        try:
            reply = await self._router.commit(request, tx[1], tx[2])
        finally:
            self._router.finish(identity)
        if reply.status in (Status.ABSENT, Status.NOT_LEADER):
            return _error(codes.LEADER_SWITCH, LOST)
        return _failure(reply) or {"index": reply.index}

    async def _rollback(self, session: int, tx: tuple[int, int, int]) -> Answer:
        identity = self._router.new_id()
        request = Request(identity, Op.ROLLBACK, connection=session, tx=tx[0])
        try:
            await self._router.tell(request, tx[1], timeout=5.0)
        except (ServerLost, TimeoutError):
            pass  # gone with its server: nothing of it is done
        finally:
            self._router.finish(identity)
        return {}

    async def _outcome(self, name: str, since: str | None = None) -> Answer:
        """``{"fields", "rows"}``: one row."""
        index = bookmark_index(since) if since is not None else 0
        fields, rows = await gather_outcome(self._router, name, index)
        return {"fields": fields, "rows": rows}

    async def _administer(self, query: str) -> Answer:
        """``{"fields", "rows"}`` of a statement about the cluster."""
        fields, rows = await administer(self._router, query.encode())
        return {"fields": fields, "rows": rows}

    async def _backup(self, session: int, bookmark: int, count: int) -> Answer:
        """As "run": rows of the bytes of a backup file."""
        identity = self._router.new_id()
        request = Request(
            identity, Op.BACKUP, connection=session, read=True, bookmark=bookmark, count=count
        )
        try:
            reply, server = await self._router.read(request)
        finally:
            self._router.finish(identity)
        return _result(reply, (identity, server))

    async def _restore(self, query: bytes, parameters: bytes) -> Answer:
        """``{"fields", "rows"}`` of a step of a restore."""
        fields, rows = await gather_restore(self._router, query, parameters, DIALECTS[0])
        return {"fields": fields, "rows": rows}

    async def _storage_info(self) -> Answer:
        fields, rows = await gather_storage_info(self._router)
        return {"fields": fields, "rows": rows}

    async def _raft_info(self) -> Answer:
        fields, rows = await gather_raft_info(self._router)
        return {"fields": fields, "rows": rows}


_ACTIONS: dict[str, Callable[..., Awaitable[Answer]]] = {
    "open": HandleDoor._open,
    "close": HandleDoor._close,
    "run": HandleDoor._run,
    "fetch": HandleDoor._fetch,
    "begin": HandleDoor._begin,
    "commit": HandleDoor._commit,
    "rollback": HandleDoor._rollback,
    "administer": HandleDoor._administer,
    "backup": HandleDoor._backup,
    "restore": HandleDoor._restore,
    "storage_info": HandleDoor._storage_info,
    "raft_info": HandleDoor._raft_info,
    "outcome": HandleDoor._outcome,
}


async def _answering(work: Callable[[], Awaitable[Answer]]) -> Answer:
    try:
        return await work()
    except RequestFailed as error:
        return _error(error.code, error.message)
    except Overloaded as error:
        return _error(codes.NO_THREADS_AVAILABLE, str(error))
    except NotDone as error:
        return _error(codes.DATABASE_UNAVAILABLE, str(error))
    except OutcomeUnknown as error:
        return _error(codes.COMMIT_OUTCOME_UNKNOWN, str(error))
    except ServerLost:
        return _error(codes.LEADER_SWITCH, LOST)
    except TimeoutError:
        return _error(codes.TRANSACTION_TIMED_OUT, "The server did not answer in time.")


def _result(reply: Reply, cursor: tuple[int, int]) -> Answer:
    return _failure(reply) or {
        "head": reply.head,
        "body": reply.body,
        "tail": reply.tail,
        "more": reply.status is not Status.DONE,
        "cursor": cursor,
        "index": reply.index,
    }


def _failure(reply: Reply) -> Answer | None:
    if reply.status is Status.FAILED:
        return _error(reply.head.decode(), reply.body.decode())
    return None


def _error(code: str, message: str) -> Answer:
    """One code says that the thing may have been done, or was done though its rows are lost."""
    outcome = "unknown" if code == codes.COMMIT_OUTCOME_UNKNOWN else "not done"
    return {"error": (code, message, outcome)}
