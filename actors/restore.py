"""Restoring a backup: through the log, all or nothing.

A client uploads a backup file to the leader in parts (``RESTORE DATABASE ...``, see
``restore_statements.py``). Each part becomes entries of the log, and every server gathers them in
its ``Spool``; the graph is untouched. The last entry, ``RestoreEnded``, makes the gathered file the
graph, on every server at the same log index. Before the leader proposes it, it has loaded the file
and compared its digest, so what is in the log can be loaded everywhere. While parts are gathered no
snapshot is taken (it would have to hold them); that is bounded by ``limits.RESTORE_BYTES_MAX`` and
by time.

A restore belongs to one leadership: the first entry of another leader empties the spools, so that a
leader's death half-way leaves the old graph. So does ``RestoreDropped``, which a leader proposes
when a client gives up, or is silent for too long. The client of a lost restore is told, definitely,
that nothing was done, except for the last request: its outcome is decided, as that of any write,
by what the next leader finds in the log.

Outcomes, the cluster's id and its members are not part of a graph and stay as they are. Every
explicit transaction that was open before conflicts afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

import structlog

from actors import commands, limits
from actors.backup_file import load_backup
from actors.commands import RestoreDropped, RestoreEnded, RestorePart, TransactionId
from actors.conflicts import ConflictLog
from actors.protocol import Reply, Status
from actors.replica import Replica
from actors.restore_statements import (
    BeginRestore,
    CancelRestore,
    EndRestore,
    PartOfRestore,
    parse_restore,
)
from actors.service import Executed, Item, QueryService
from bolt import status as codes
from bolt.packer import Packer
from graph.errors import CorruptionError, GraphError
from graph.store import Root

__all__ = ["Restorer"]

log = structlog.get_logger()

_PACKER = Packer()

# What of a part goes into one entry, so that it needs no fragments.
ENTRY_BYTES = commands.FRAGMENT_BYTES - 256
# Requests that wait; one client has one under way.
WAITING_MAX = 16


class Propose(Protocol):
    """Proposes a command; ``executed`` is answered when it is committed."""

    def __call__(
        self, payload: bytes, ids: tuple[TransactionId, ...], executed: list[Executed]
    ) -> int: ...


@dataclass(slots=True)
class _Upload:
    """A restore under way."""

    name: str
    size: int
    replace: bool
    used_at: float
    received: int = 0
    loading: bool = False


class Restorer:
    """The leader's side. Belongs to the state machine's thread.

    Args:
        replica: its head is exchanged.
        conflicts: learns that all transactions before conflict.
        propose: puts a command into the log; the version of the speculation.
        room: whether anything may be proposed now.
        run_reads: runs a function in a reader thread.
        new_name: draws a name for a restore, 32 hexadecimal digits.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        replica: Replica,
        service: QueryService,
        conflicts: ConflictLog,
        *,
        propose: Propose,
        room: Callable[[], bool],
        run_reads: Callable[[Callable[[], None]], None],
        new_name: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._replica = replica
        self._service = service
        self._conflicts = conflicts
        self._propose = propose
        self._room = room
        self._run_reads = run_reads
        self._new_name = new_name
        self._clock = clock
        self._waiting: deque[Item] = deque()
        self._upload: _Upload | None = None
        self._loaded: SimpleQueue[tuple[Item, _Upload, Root | Exception]] = SimpleQueue()

    # ----------------------------------------------------------------- from the state machine

    def submit(self, items: Sequence[Item]) -> None:
        """Requests of clients, in their order."""
        room = WAITING_MAX - len(self._waiting)
        self._waiting.extend(items[:room])
        refused = [(i, Reply(i.request.id, Status.OVERLOADED)) for i in items[room:]]
        self._service.reply_all(refused)

    def turn(self) -> None:
        """After each batch of tasks: do what can be done."""
        for _ in range(len(self._waiting)):
            if not self._room():
                break
            item = self._waiting.popleft()
            try:
                self._take(item)
            except Exception as error:
                self._service.reply(item, self._service.failed(item, error))
        while True:
            try:
                loaded = self._loaded.get_nowait()
            except Empty:
                return
            self._exchange(*loaded)

    def sweep(self, now: float) -> None:
        """Time passes: give up what is not gone on with."""
        upload = self._upload
        idle = upload is not None and not upload.loading
        if upload is not None and idle and now - upload.used_at > limits.RESTORE_IDLE_SECONDS_MAX:
            log.warning("a restore was not gone on with", name=upload.name)
            self._upload = None
        if self._upload is None and self._replica.spool.name and self._room():
            self._drop(self._replica.spool.name)
        late = [item for item in self._waiting if item.deadline < now]
        if late:
            self._waiting = deque(item for item in self._waiting if item.deadline >= now)
            self._not_leader(late)
        self.turn()

    def lose(self) -> None:
        """The leadership is lost, or a proposal was: what was uploaded will not be used."""
        self._upload = None
        items, self._waiting = list(self._waiting), deque()
        self._not_leader(items)

    # ----------------------------------------------------------------- requests

    def _take(self, item: Item) -> None:
        if item.request.term != self._replica.leading_term:
            self._not_leader([item])
            return
        statement = parse_restore(item.request.query.decode("utf-8", "replace"), item.parameters)
        if isinstance(statement, BeginRestore):
            self._begin(item, statement)
            return
        upload = self._upload
        if upload is None or upload.name != statement.restore:
            raise GraphError(
                "This restore is not under way: its leader was lost, it was cancelled, or it was "
                "not gone on with for too long. Nothing of it was done; begin it again.",
                code=codes.LEADER_SWITCH,
            )
        upload.used_at = self._clock()
        if upload.loading:
            raise _refused("This restore is being completed", codes.REQUEST_INVALID)
        match statement:
            case PartOfRestore():
                self._part(item, upload, statement)
            case EndRestore():
                self._end(item, upload)
            case CancelRestore():
                self._cancel(item, upload)

    def _begin(self, item: Item, statement: BeginRestore) -> None:
        if self._upload is not None:
            raise _refused("Another restore is under way", codes.DATABASE_UNAVAILABLE)
        self._check_empty(statement.replace)
        upload = _Upload(self._new_name(), statement.size, statement.replace, self._clock())
        self._upload = upload
        log.info("restore begun", name=upload.name, size=upload.size, replace=upload.replace)
        body = _PACKER.pack([["restore"], [[upload.name]]])
        self._service.reply(item, Reply(item.request.id, Status.DONE, body=body))

    def _part(self, item: Item, upload: _Upload, part: PartOfRestore) -> None:
        """As many entries as it takes; the client hears of the last one."""
        end = part.offset + len(part.data)
        if part.offset != upload.received or end > upload.size:
            raise _refused(
                f"Bytes {part.offset} to {end} do not follow the {upload.received} of "
                f"{upload.size} that are here",
                codes.STATEMENT_ARGUMENT_ERROR,
            )
        for start in range(0, len(part.data), ENTRY_BYTES):
            data = part.data[start : start + ENTRY_BYTES]
            command = RestorePart(upload.name, part.offset + start, memoryview(data))
            last = start + len(data) == len(part.data)
            executed = [Executed(item, status=Status.DONE)] if last else []
            self._propose(commands.encode_restore(command), (), executed)
        upload.received = end

    def _end(self, item: Item, upload: _Upload) -> None:
        if upload.received != upload.size:
            raise _refused(
                f"{upload.received} of {upload.size} bytes are here", codes.STATEMENT_ARGUMENT_ERROR
            )
        if self._replica.spool.size != upload.size:  # the last parts are still on their way
            self._waiting.append(item)
            return
        upload.loading = True
        parts = self._replica.spool.parts

        def load() -> None:
            try:
                found: Root | Exception = load_backup(parts)
            except Exception as error:
                found = error
            self._loaded.put((item, upload, found))

        self._run_reads(load)

    def _exchange(self, item: Item, upload: _Upload, found: Root | Exception) -> None:
        """The backup is loaded, or cannot be: propose the end."""
        if self._upload is not upload:
            self._not_leader([item])
            return
        self._upload = None
        try:
            if isinstance(found, CorruptionError):
                raise _refused(f"The backup is damaged: {found.message}", codes.REQUEST_INVALID)
            if isinstance(found, Exception):
                raise found
            self._check_empty(upload.replace)
        except Exception as error:
            self._drop(upload.name)
            self._service.reply(item, self._service.failed(item, error))
            return
        request = item.request
        identity = TransactionId(item.gateway, request.id, request.acknowledged)
        command = RestoreEnded(upload.name, upload.size, identity)
        self._replica.exchange(found)
        done = Executed(item, status=Status.DONE)
        version = self._propose(commands.encode_restore(command), (), [done])
        self._conflicts.everything(version)
        log.info("restore proposed", name=upload.name, size=upload.size)

    def _cancel(self, item: Item, upload: _Upload) -> None:
        self._upload = None
        self._drop(upload.name)
        self._service.reply(item, Reply(item.request.id, Status.DONE))

    # ----------------------------------------------------------------- helpers

    def _drop(self, name: str) -> None:
        self._propose(commands.encode_restore(RestoreDropped(name)), (), [])

    def _check_empty(self, replace: bool) -> None:
        root = self._replica.head
        schema = len(root.indexes()) + len(root.constraints())
        if replace or not (root.node_count or schema):
            return
        raise _refused(
            f"The database is not empty ({root.node_count} nodes, {schema} indexes and "
            "constraints) and would be overwritten; to do that, restore with --replace",
            codes.REQUEST_INVALID,
        )

    def _not_leader(self, items: Sequence[Item]) -> None:
        term = self._replica.leading_term
        status = Status.NOT_LEADER
        self._service.reply_all([(i, Reply(i.request.id, status, term)) for i in items])


def _refused(what: str, code: str) -> GraphError:
    return GraphError(f"{what}. Nothing was done.", code=code)
