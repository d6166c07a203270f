"""The Python API: a handle to the database for programs that run on Ray.

::

    import rayft

    db = rayft.connect()                     # in a Ray program, or address="host:port"
    for record in db.query("MATCH (n:User) WHERE n.age > $age RETURN n.name AS name", age=30):
        print(record["name"])
    with db.transaction() as tx:             # commits at the end, rolls back on an exception
        tx.query("CREATE (:User {name: $name})", name="Ada")

A handle talks to the gateways of the cluster by actor calls; they find the leader. It remembers the
newest log index that it has seen, so its reads always show its own writes, from whichever server.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.administration import (
    AddServer,
    DemoteServer,
    PromoteServer,
    RemoveServer,
    ReplaceServer,
    ShowServers,
    Statement,
    TransferTo,
)
from actors.backup_file import BackupHead
from actors.backup_transfer import receive_backup, send_backup
from actors.errors import RayftError
from actors.protocol import DIALECTS
from bolt.hydration import packer_for
from bolt.messages import Success
from bolt.records import decode_messages, decode_records
from bolt.status import retryable

__all__ = ["Database", "QueryError", "Record", "Result", "Transaction", "connect"]

# Rows fetched at a time by iteration.
FETCH_ROWS = 1_000
# A gateway that has answered so lately is taken to be alive.
FRESH_SECONDS = 1.0
CALL_SECONDS_MAX = 1_300.0
_DIALECT = DIALECTS[0]


class QueryError(RayftError):
    """A query failed. ``code`` is a Neo4j status code.

    ``retryable`` says that it was certainly not done and may succeed when it is run again;
    ``outcome`` is ``"not done"`` or ``"unknown"``.
    """

    def __init__(self, code: str, message: str, outcome: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.outcome = outcome
        self.retryable = outcome == "not done" and retryable(code)


class Record(Sequence[Any]):
    """One row: by position, by name (``record["name"]``), or ``dict(record.items())``."""

    __slots__ = ("_fields", "_values")

    def __init__(self, fields: Mapping[str, int], values: list[Any]) -> None:
        self._fields = fields
        self._values = values

    def __getitem__(self, key: Any) -> Any:
        return self._values[self._fields[key] if isinstance(key, str) else key]

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> list[str]:
        return list(self._fields)

    def items(self) -> list[tuple[str, Any]]:
        return list(zip(self._fields, self._values, strict=True))

    def data(self) -> dict[str, Any]:
        """The row as a dictionary."""
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Record):
            return self._values == other._values and self.keys() == other.keys()
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Record {' '.join(f'{k}={v!r}' for k, v in self.items())}>"


class Result:
    """Rows of a query, fetched as they are read. Iterate it, or use ``batches`` or ``all``."""

    def __init__(self, session: _Session, answer: dict[str, Any]) -> None:
        self._session = session
        (head,) = decode_messages(answer["head"], _DIALECT)
        assert isinstance(head, Success)
        self.fields: list[str] = head.metadata["fields"]
        self.summary: dict[str, Any] = {}
        self._index = {name: i for i, name in enumerate(self.fields)}
        self._answer: dict[str, Any] | None = answer

    def _take(self) -> tuple[list[Record], tuple[int, int] | None]:
        """Records that are here, and the cursor to fetch more with."""
        answer, self._answer = self._answer, None
        if answer is None:
            return [], None
        records = [Record(self._index, row) for row in decode_records(answer["body"], _DIALECT)]
        if answer["more"]:
            return records, answer["cursor"]
        if answer["tail"]:
            (tail,) = decode_messages(answer["tail"], _DIALECT)
            assert isinstance(tail, Success)
            self.summary = tail.metadata
        return records, None

    def batches(self) -> Iterator[list[Record]]:
        """Lists of records, of some thousand rows at the most."""
        while self._answer is not None:
            records, cursor = self._take()
            if cursor is not None:
                self._answer = self._session.fetch(cursor)
            if records:
                yield records

    def __iter__(self) -> Iterator[Record]:
        for batch in self.batches():
            yield from batch

    def all(self) -> list[Record]:
        """The rows that have not been read yet."""
        return list(self)

    def single(self) -> Record:
        """The only row. Raises ``ValueError`` if there is none or more than one."""
        rows = list(itertools.islice(self, 2))
        if len(rows) != 1:
            raise ValueError(f"one row was expected, there are {'none' if not rows else 'more'}")
        return rows[0]

    async def abatches(self) -> AsyncIterator[list[Record]]:
        """``batches`` without blocking the event loop."""
        while self._answer is not None:
            records, cursor = self._take()
            if cursor is not None:
                self._answer = await self._session.afetch(cursor)
            if records:
                yield records

    async def __aiter__(self) -> AsyncIterator[Record]:
        async for batch in self.abatches():
            for record in batch:
                yield record


class _Session:
    """One session number at one gateway, and the calls to it."""

    def __init__(self, database: Database, gateway: Any, number: int) -> None:
        self.database = database
        self.gateway = gateway
        self.number = number
        self.used_at = time.monotonic()

    def call(self, what: str, **arguments: Any) -> dict[str, Any]:
        """A request that belongs to this session."""
        return self.ask(what, session=self.number, **arguments)

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """A request to the gateway."""
        import ray

        self.database.check_open()
        reference = self.gateway.ask.remote(what, arguments)
        try:
            return self._checked(ray.get(reference, timeout=CALL_SECONDS_MAX))
        except ray.exceptions.RayError as error:
            raise _gateway_lost(error) from error

    async def acall(self, what: str, **arguments: Any) -> dict[str, Any]:
        import ray

        self.database.check_open()
        reference = self.gateway.ask.remote(what, {"session": self.number, **arguments})
        try:
            return self._checked(await asyncio.wait_for(reference, CALL_SECONDS_MAX))
        except ray.exceptions.RayError as error:
            raise _gateway_lost(error) from error

    def fetch(self, cursor: tuple[int, int]) -> dict[str, Any]:
        return self.call("fetch", cursor=cursor, count=FETCH_ROWS)

    async def afetch(self, cursor: tuple[int, int]) -> dict[str, Any]:
        return await self.acall("fetch", cursor=cursor, count=FETCH_ROWS)

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" in answer:
            raise QueryError(*answer["error"])
        self.used_at = time.monotonic()
        self.database.seen(answer.get("index", 0))
        return answer


class Transaction:
    """An explicit transaction; use it in ``with`` (or ``async with``).

    It commits at the end of the block and rolls back if the block raises. Its queries see its own
    writes; others see them when it is committed. A conflict with another transaction, or the loss
    of the leader, raises ``QueryError`` with ``retryable``: run the whole block again.
    """

    def __init__(
        self, session: _Session, *, read: bool, timeout: float | None, transaction_id: str | None
    ) -> None:
        self._session = session
        self._read = read
        self._name = transaction_id
        self._timeout_ms = int(timeout * 1000) if timeout else 0
        self._tx: tuple[int, int, int] | None = None

    def query(self, text: str, /, **parameters: Any) -> Result:
        """Run a statement of the transaction."""
        return Result(self._session, self._session.call("run", **self._run(text, parameters)))

    async def aquery(self, text: str, /, **parameters: Any) -> Result:
        """``query`` without blocking the event loop."""
        run = self._run(text, parameters)
        return Result(self._session, await self._session.acall("run", **run))

    def _run(self, text: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if self._tx is None:
            raise RayftError("the transaction is not open: use it inside its with block")
        return {**_query(text, parameters), "tx": self._tx, "count": FETCH_ROWS}

    def _begin(self) -> dict[str, Any]:
        return {
            "read": self._read,
            "bookmark": self._session.database.bookmark,
            "timeout_ms": self._timeout_ms,
            "name": self._name,
        }

    def __enter__(self) -> Transaction:
        self._tx = self._session.call("begin", **self._begin())["tx"]
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        tx, self._tx = self._tx, None
        self._session.call("rollback" if kind else "commit", tx=tx)

    async def __aenter__(self) -> Transaction:
        self._tx = (await self._session.acall("begin", **self._begin()))["tx"]
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        tx, self._tx = self._tx, None
        await self._session.acall("rollback" if kind else "commit", tx=tx)


class Database:
    """A handle to a running cluster; see ``connect``. Threads may share it."""

    def __init__(self, namespace: str, owned: Any = None) -> None:
        self._namespace = namespace
        self._owned = owned  # an embedded cluster to be stopped with the handle
        self._sessions: list[_Session] = []
        self._closed = False
        self.bookmark = 0

    def query(
        self,
        text: str,
        /,
        *,
        read: bool = False,
        timeout: float | None = None,
        transaction_id: str | None = None,
        **parameters: Any,
    ) -> Result:
        """Run a query in a transaction of its own.

        Args:
            text: Cypher.
            read: it only reads, and any server may answer (it shows all that this handle has seen
                or written); otherwise the leader does.
            timeout: seconds.
            transaction_id: your own name for this write, 1 to 128 bytes: a second one of the same
                name is not executed (its rows are not repeated), and ``outcome`` tells what became
                of it.
            parameters: the query's ``$`` parameters.

        Raises:
            QueryError: see its ``retryable`` and ``outcome``.
            RayftError: no gateway can be reached.
        """
        run = self._run(text, parameters, read, timeout, transaction_id)
        session = self._session()
        return Result(session, session.call("run", **run))

    async def aquery(
        self,
        text: str,
        /,
        *,
        read: bool = False,
        timeout: float | None = None,
        transaction_id: str | None = None,
        **parameters: Any,
    ) -> Result:
        """``query`` without blocking the event loop."""
        run = self._run(text, parameters, read, timeout, transaction_id)
        session = await asyncio.to_thread(self._session)
        return Result(session, await session.acall("run", **run))

    def transaction(
        self,
        *,
        read: bool = False,
        timeout: float | None = None,
        transaction_id: str | None = None,
    ) -> Transaction:
        """An explicit transaction, for ``with`` or ``async with``; arguments as for ``query``."""
        return Transaction(
            self._session(), read=read, timeout=timeout, transaction_id=transaction_id
        )

    def outcome(self, transaction_id: str, *, since: int | None = None) -> Record:
        """What became of the write with that ``transaction_id``: (id, outcome, bookmark).

        ``outcome`` is ``"committed"``; ``"not committed"``, and then it never will be, even if it
        is still on its way; or ``"unknown"``, if it is too long ago to tell. ``since``: the
        handle's ``bookmark`` from before the write, with which "unknown" is seldom the answer.
        Statement over Bolt: SHOW TRANSACTION OUTCOME. Raises ``QueryError`` if nobody answers.
        """
        bookmark = None if since is None else f"rayft:v1:{since}"
        return self._information("outcome", {"name": transaction_id, "since": bookmark})[0]

    def backup(self, path: str | Path) -> BackupHead:
        """Write the graph to a file, while everything goes on; what the file holds.

        It shows one moment, and all that this handle has seen or written; a file that is there is
        replaced once the new one is whole. Raises ``QueryError`` or ``BackupRefused``.
        """
        session = self._session()
        answer = session.call("backup", bookmark=self.bookmark, count=FETCH_ROWS)
        return receive_backup(Path(path), (row["part"] for row in Result(session, answer)))

    def restore(self, path: str | Path, *, replace: bool = False) -> BackupHead:
        """Make the graph in a backup file the database's, on all servers at once; all or nothing.

        ``replace``: there may be a graph already, which is lost. Raises ``BackupRefused``
        for a damaged file, or ``QueryError``: with ``outcome`` "not done" the graph is untouched.
        """
        session = self._session()

        def run(statement: str, parameters: dict[str, Any]) -> list[list[Any]]:
            rows: list[list[Any]] = session.ask("restore", **_query(statement, parameters))["rows"]
            return rows

        return send_backup(Path(path), run, replace=replace)

    def storage_info(self) -> list[Record]:
        """SHOW STORAGE INFO: (server id, item, value) of all servers."""
        return self._information("storage_info")

    def raft_info(self) -> list[dict[str, Any]]:
        """One dictionary for each server that answers: role, term, leader, indexes, pid."""
        import ray

        found: list[dict[str, Any]] = []
        for name in self._names("server-"):
            try:
                handle = ray.get_actor(name, namespace=self._namespace)
                status: Any = ray.get(handle.status.remote(), timeout=1.0)
                found.append(status)
            except (ray.exceptions.RayError, ValueError):
                continue
        return sorted(found, key=lambda s: s["server_id"])

    def servers(self) -> list[Record]:
        """SHOW SERVERS: one record for each server, as the leader sees it."""
        return self._statement(ShowServers())

    def add_server(self, server_id: int, address: str, *, learner: bool = False) -> str:
        """Add a server that runs and waits to be added, at host:rpc_port; what was done.

        It votes as soon as it has caught up (``servers`` shows how far it is); a ``learner`` never
        does. Like the five methods below it raises ``QueryError``: with ``outcome`` "not done" if
        the change was refused, with "unknown" if the leader was lost on the way.
        """
        return self._changed(AddServer(server_id, address, learner))

    def remove_server(self, server_id: int) -> str:
        """Remove a server for ever: its id is not used again."""
        return self._changed(RemoveServer(server_id))

    def replace_server(self, old_id: int, server_id: int, address: str) -> str:
        """Put a server that runs and waits to be added in the place of an old or dead one."""
        return self._changed(ReplaceServer(old_id, server_id, address))

    def promote_server(self, server_id: int) -> str:
        """Let a learner vote."""
        return self._changed(PromoteServer(server_id))

    def demote_server(self, server_id: int) -> str:
        """Make a learner of a server that votes."""
        return self._changed(DemoteServer(server_id))

    def transfer_leadership(self, server_id: int = 0) -> str:
        """Let another server lead; 0: the one that has come farthest."""
        return self._changed(TransferTo(server_id))

    def close(self) -> None:
        """Let go of what this handle has open; stop the cluster if ``connect`` started it."""
        import ray

        for session in self._sessions:
            try:
                session.call("close")
            except (RayftError, ray.exceptions.RayError):
                continue
        self._sessions.clear()
        self._closed = True
        if self._owned is not None:
            owned, self._owned = self._owned, None
            owned.stop()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.close()

    def seen(self, index: int) -> None:
        """A log index that was read or written: later reads are at least as new."""
        self.bookmark = max(self.bookmark, index)

    # ----------------------------------------------------------------- inside

    def _run(
        self,
        text: str,
        parameters: dict[str, Any],
        read: bool,
        timeout: float | None,
        transaction_id: str | None,
    ) -> dict[str, Any]:
        return {
            **_query(text, parameters),
            "read": read,
            "count": FETCH_ROWS,
            "bookmark": self.bookmark,
            "timeout_ms": int(timeout * 1000) if timeout else 0,
            "name": transaction_id,
        }

    def _information(self, what: str, arguments: dict[str, Any] | None = None) -> list[Record]:
        import ray

        session = self._session()
        answer = ray.get(session.gateway.ask.remote(what, arguments or {}), timeout=60.0)
        if "error" in answer:
            raise QueryError(*answer["error"])
        index = {name: i for i, name in enumerate(answer["fields"])}
        return [Record(index, row) for row in answer["rows"]]

    def _statement(self, statement: Statement) -> list[Record]:
        """The rows of a statement about the cluster."""
        text = "SHOW SERVERS" if isinstance(statement, ShowServers) else str(statement)
        answer = self._session().ask("administer", query=text)
        index = {name: i for i, name in enumerate(answer["fields"])}
        return [Record(index, row) for row in answer["rows"]]

    def _changed(self, statement: Statement) -> str:
        (record,) = self._statement(statement)
        return str(record["result"])

    def check_open(self) -> None:
        """Raise ``RayftError`` after ``close``: Ray would answer a call with a new, empty Ray."""
        if self._closed:
            raise RayftError("this handle is closed: connect again")

    def _names(self, prefix: str) -> list[str]:
        import ray

        self.check_open()
        actors = ray.util.list_named_actors(all_namespaces=True)
        return sorted(
            a["name"]
            for a in actors
            if a["namespace"] == self._namespace and a["name"].startswith(prefix)
        )

    def _session(self) -> _Session:
        """A session at a gateway that lives; the last one as long as it does."""
        import ray

        for session in list(self._sessions):
            if time.monotonic() - session.used_at < FRESH_SECONDS:
                return session
            try:
                ray.get(session.gateway.leadership.remote(), timeout=10.0)
                session.used_at = time.monotonic()
                return session
            except ray.exceptions.RayError:
                self._sessions.remove(session)
        for name in self._names("gateway-"):
            try:
                gateway = ray.get_actor(name, namespace=self._namespace)
                answer: Any = ray.get(gateway.ask.remote("open", {}), timeout=10.0)
            except (ray.exceptions.RayError, ValueError):
                continue
            session = _Session(self, gateway, answer["session"])
            self._sessions.append(session)
            return session
        raise RayftError(
            f"No gateway of a rayft cluster runs in Ray's namespace {self._namespace!r}. Start the "
            "database first: memgraph_ha, or ray up cluster.yaml."
        )


def connect(
    address: str | None = None,
    *,
    directory: str | None = None,
    port: int = 7687,
    namespace: str = "rayft",
) -> Database:
    """A handle to the database.

    Args:
        address: host:port of the Ray cluster the database runs on. Not needed inside a Ray
            program, which is connected already.
        directory: start three servers embedded in this program, with their data there; they are
            stopped by ``close``. Not together with ``address``.
        port: of the embedded servers: Bolt listens on 127.0.0.1 at this port and the next two.
        namespace: Ray's namespace of the database.

    Raises:
        RayftError: no Ray cluster, or no database on it.
        ConfigurationError: the directory cannot be used.
    """
    import ray

    from actors import cluster

    if directory is not None:
        from actors.embedded import EmbeddedCluster

        return Database(namespace, EmbeddedCluster(directory, port))
    if not ray.is_initialized():
        cluster.connect_ray(address)
    database = Database(namespace)
    database._session()
    return database


def _query(text: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"query": text.encode(), "parameters": packer_for(_DIALECT).pack(parameters)}


def _gateway_lost(error: Exception) -> QueryError:
    return QueryError(
        "Neo.DatabaseError.Transaction.TransactionCommitFailed",
        f"The gateway was lost before it answered ({type(error).__name__}). A write may or may not "
        "have been done; look before you run it again.",
        "unknown",
    )
