"""Executing writes on the head: what goes into one batch, and under which conditions.

The state machine (``machine.py``) hands over the requests that wait, in their order, and proposes
the ``Batch`` that comes back as one log entry. Order of execution is order of the log.

A client may name its transaction. Of one name at most one transaction is ever executed: what is
committed or pending under it already is answered as done, and what has been settled as "never"
(``Op.SETTLE``) is refused. Names are looked up in what is committed, in what is pending, and in the
batch itself, so both are decided here, once, in the order of the log; followers only record it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from actors import commands, limits
from actors.commands import Named, TransactionId
from actors.conflicts import ConflictLog, overlap
from actors.protocol import Op, Reply, Request, Status
from actors.replica import Replica
from actors.service import Executed, Item, QueryService, transaction_gone
from actors.sessions import OpenTransaction
from graph.cypher.budget import TIMED_OUT
from graph.engine import run_batch
from graph.errors import ConflictError, ConstraintError, GraphError, LimitError
from graph.write_set import WriteSet
from graph.write_set_codec import encode as encode_write_set

__all__ = ["NEVER", "Batch", "Effect", "Writer"]

# A transaction whose outcome was asked for before it came: no driver runs it again by itself.
NEVER = "Neo.ClientError.Transaction.TransactionMarkedAsFailed"


@dataclass(frozen=True, slots=True)
class Effect:
    """What was done to the head, and its bytes for the log."""

    write_set: WriteSet
    encoded: bytes


@dataclass(slots=True)
class Batch:
    """Requests executed together: one log entry."""

    executed: list[Executed] = field(default_factory=list)
    ids: list[TransactionId] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    names: dict[bytes, bool] = field(default_factory=dict)  # settled here: done, or never
    waiting: list[Item] = field(default_factory=list)  # autocommit, to be run together

    def payload(self) -> bytes:
        names = [Named(name, done) for name, done in self.names.items()]
        encoded = [effect.encoded for effect in self.effects]
        return commands.encode_transactions(self.ids, encoded, names)


class Writer:
    """See the module. Called by the state machine's thread alone."""

    def __init__(self, replica: Replica, service: QueryService, clock: Callable[[], float]) -> None:
        self._replica = replica
        self._service = service
        self._clock = clock
        self.conflicts = ConflictLog()

    def execute(self, items: Iterable[Item]) -> tuple[Batch, list[tuple[Item, Reply]]]:
        """Execute on the head; what is to be proposed, and what can be answered at once."""
        batch = Batch()
        replies: list[tuple[Item, Reply]] = []
        for item in items:
            if item.request.op is Op.COMMIT:
                self._run(batch)
                self._commit(item, batch)
            else:
                reply = self._take(item, batch)
                if reply is not None:
                    replies.append((item, reply))
        self._run(batch)
        return batch, replies

    def note_conflicts(self, version: int, batch: Batch) -> None:
        """The batch is speculation ``version``: later commits must look at what it touched."""
        for effect in batch.effects:
            write_set = effect.write_set
            nodes, relationships = write_set.touched_nodes(), write_set.touched_relationships()
            self.conflicts.record(version, nodes, relationships)

    # ----------------------------------------------------------------- names

    def _take(self, item: Item, batch: Batch) -> Reply | None:
        """An autocommit write, or a question after a name."""
        name = item.request.name
        if not name:
            batch.waiting.append(item)
            return None
        if any(earlier.request.name == name for earlier in batch.waiting):
            self._run(batch)  # whether the earlier one of that name succeeds decides on this one
        if item.request.op is Op.SETTLE:
            return self._settle(item, batch)
        standing = self._standing(name, batch)
        if standing is None:
            batch.waiting.append(item)
            return None
        if standing is False:
            return self._service.failed(item, _never(name))
        committed = self._replica.outcomes.names.find(name)
        if committed is not None:
            return self._service.repeated(item, committed[0])
        self._repeat(item, batch)
        return None

    def _standing(self, name: bytes, batch: Batch) -> bool | None:
        """What is settled about a name, up to and with this batch."""
        standing = self._replica.standing(name)
        return batch.names.get(name) if standing is None else standing

    def _settle(self, item: Item, batch: Batch) -> Reply | None:
        """Answer what became of a name; if nothing has, make sure that nothing will."""
        request = item.request
        table = self._replica.outcomes.names
        committed = table.find(request.name)
        if committed is not None:
            index, done = committed
            return Reply(request.id, Status.DONE if done else Status.ABSENT, index)
        standing = self._standing(request.name, batch)
        if standing is None:
            if table.may_be_forgotten(request.cursor):
                return Reply(request.id, Status.FORGOTTEN)
            batch.names[request.name] = standing = False
        # It is final when it is committed, and so answered then.
        batch.executed.append(Executed(item, status=Status.DONE if standing else Status.ABSENT))
        return None

    def _repeat(self, item: Item, batch: Batch) -> None:
        """The first transaction of this name is pending: this one is done when that one is."""
        batch.executed.append(Executed(item, repeated=True))
        batch.ids.append(_transaction_id(item))

    # ----------------------------------------------------------------- autocommit

    def _run(self, batch: Batch) -> None:
        """Run what waits as one."""
        items, batch.waiting = batch.waiting, []
        if not items:
            return
        now = self._clock()
        results, effects = self._run_batch(items)
        for item, result in zip(items, results, strict=True):
            batch.executed.append(self._service.execute(item, result, now))
            if not isinstance(result, BaseException):
                batch.ids.append(_transaction_id(item))
                if item.request.name:
                    batch.names[item.request.name] = True
        batch.effects += effects

    def _run_batch(self, items: list[Item]) -> tuple[list[Any], list[Effect]]:
        """Results (or errors) and effects. The head moves on, or back if the engine fails."""
        savepoint = self._replica.head.fork()
        try:
            found = run_batch(
                self._service.engine,
                self._replica.head,
                self._replica.allocator,
                [item.prepared_request() for item in items],
                limits=self._service.write_limits(min(item.deadline for item in items)),
                **self._service.surroundings(),
            )
            effects = _effects([write_set for _, write_set in found.writes])
        except Exception as error:
            # Too much for one entry, or a defect of the engine, not of a query: leave no trace, and
            # find out whose it was.
            self._replica.head = savepoint
            if len(items) == 1:
                return [error], []
            parts = [self._run_batch([item]) for item in items]
            return [r for results, _ in parts for r in results], [e for _, es in parts for e in es]
        self._replica.head = found.root
        results: list[Any] = found.results
        if len(items) > 1:
            effects += self._run_again(items, results)
        return results, effects

    def _run_again(self, items: list[Item], results: list[Any]) -> list[Effect]:
        """A batch has its most impatient member's deadline: the others get their own."""
        effects: list[Effect] = []
        for position, (item, result) in enumerate(zip(items, results, strict=True)):
            if getattr(result, "code", "") == TIMED_OUT and self._clock() < item.deadline:
                (results[position],), more = self._run_batch([item])
                effects += more
        return effects

    # ----------------------------------------------------------------- explicit transactions

    def _commit(self, item: Item, batch: Batch) -> None:
        done = Executed(item)
        opened = self._service.sessions.remove_transaction(item.gateway, item.request.tx)
        if opened is not None and opened.name:
            standing = self._standing(opened.name, batch)
            if standing:
                self._repeat(item, batch)
                return
            if standing is False:
                done.error = _never(opened.name)
        batch.executed.append(done)
        if done.error is not None:
            return
        try:
            write_set = self._checked(opened, [effect.write_set for effect in batch.effects])
            if not write_set.empty:
                (effect,) = _effects([write_set])
                self._replica.head.apply(write_set)
                batch.effects.append(effect)
        except ConstraintError as error:
            # Its own statements kept the constraint on its snapshot, so somebody else was first.
            # Run again, MERGE finds what is there, and CREATE is told that it exists.
            done.error = ConflictError(
                f"{error}; it came after this transaction had begun. Nothing of it was done; run "
                "it again."
            )
            return
        except GraphError as error:
            done.error = error
            return
        batch.ids.append(_transaction_id(item))
        if opened is not None and opened.name:
            batch.names[opened.name] = True

    def _checked(self, opened: OpenTransaction | None, earlier: list[WriteSet]) -> WriteSet:
        """The write set of a transaction that may be committed now. Raises ``GraphError``."""
        if opened is None or opened.cancelled:
            raise transaction_gone()
        write_set = opened.transaction.write_set
        nodes, relationships = write_set.touched_nodes(), write_set.touched_relationships()
        conflict = self.conflicts.conflict(opened.version, nodes, relationships)
        for other in earlier:
            if conflict:
                break
            conflict = overlap(nodes, other.touched_nodes()) or overlap(
                relationships, other.touched_relationships()
            )
        if conflict:
            raise ConflictError(
                "Another transaction changed the same nodes or relationships since this one "
                "began. Nothing of it was done; run it again."
            )
        return write_set


def _effects(write_sets: list[WriteSet]) -> list[Effect]:
    """Raises ``LimitError`` if together they are more than one entry of the log may hold."""
    effects: list[Effect] = []
    size = 0
    for write_set in write_sets:
        encoded = encode_write_set(write_set)
        size += len(encoded)
        if size > limits.TRANSACTION_BYTES_MAX:
            raise LimitError(
                f"A transaction may write {limits.TRANSACTION_BYTES_MAX >> 20} MiB to the log, and "
                "this one writes more. Nothing of it was done; do it in several transactions.",
                code="Neo.ClientError.General.LimitReached",
            )
        effects.append(Effect(write_set, encoded))
    return effects


def _transaction_id(item: Item) -> TransactionId:
    request: Request = item.request
    return TransactionId(item.gateway, request.id, request.acknowledged)


def _never(name: bytes) -> GraphError:
    return GraphError(
        f"The outcome of transaction {name.decode('utf-8', 'replace')!r} was asked for before it "
        "came, and the answer was that it never will be committed. Nothing of it was done; give it "
        "another rayft.transaction_id.",
        code=NEVER,
    )
