"""Transactions: statements run one after another over one root.

A transaction changes its root as its writes run and gathers their write sets. It takes nothing
back: after a statement has failed, the transaction is ``failed`` and its root must be dropped by
the caller, unless ``untouched`` says that the statement changed nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from neo4j.time import DateTime

from graph.cypher.budget import Budget, QueryLimits, chunk_bytes
from graph.cypher.evaluation import Context
from graph.cypher.explain import describe
from graph.cypher.graves import Graves
from graph.cypher.operators.base import ONE_ROW, Execution
from graph.cypher.operators.writer import Writer
from graph.cypher.prepared import Executable, Prepared
from graph.cypher.references import materialise_column
from graph.cypher.schema import schema_write_set
from graph.cypher.syntax import Mode
from graph.errors import CypherArgumentError, GraphError
from graph.result import Batch, Result
from graph.store import IdAllocator, Root
from graph.vector import Chunk
from graph.write_set import Counters, WriteSet

if TYPE_CHECKING:
    from random import Random

__all__ = ["Transaction", "new_execution"]

ACCESS_MODE = "Neo.ClientError.Statement.AccessMode"
TRANSACTION_FAILED = "Neo.ClientError.Transaction.TransactionTerminated"
SCHEMA_AFTER_WRITE = "Neo.ClientError.Transaction.ForbiddenDueToTransactionType"
_DEFAULT_LIMITS = QueryLimits()
# Open cursors after which finished ones are looked for and forgotten.
_CURSORS_CHECKED = 64


class Transaction:
    """One transaction; used by one thread at a time."""

    __slots__ = (
        "_allocator",
        "_cursors",
        "_limits",
        "_now",
        "_random",
        "counters",
        "failed",
        "read_only",
        "root",
        "untouched",
        "write_set",
    )

    def __init__(
        self,
        engine: Any,
        root: Root,
        allocator: IdAllocator | None,
        *,
        now: DateTime,
        random: Random,
        read_only: bool = False,
        limits: QueryLimits = _DEFAULT_LIMITS,
    ) -> None:
        """
        Args:
            engine: the engine whose statements run here; it holds no state of a transaction.
            root: the state to read and, unless ``read_only``, to change.
            allocator: gives the ids of what is created; a transaction that only reads needs none.
            now: the transaction's clock, one instant for all its statements.
            limits: for each statement.
            random: source of rand() and randomUUID(); may be shared by transactions.
        """
        self.root = root
        self.read_only = read_only
        self.write_set = WriteSet()
        self.counters = Counters()
        self.failed = False
        # Whether the statement that failed changed nothing of the root.
        self.untouched = True
        self._allocator = allocator
        self._limits = limits
        self._now = now
        self._random = random
        self._cursors: list[weakref.ref[_Cursor]] = []

    def run(self, prepared: Prepared, parameters: Mapping[str, Any] | None = None) -> Result:
        """Run one statement.

        Raises:
            GraphError: the statement failed and so did the transaction. A read may fail later,
                while its result is pulled; that changes nothing of the transaction.
        """
        if self.failed:
            raise GraphError(
                "A statement of this transaction has failed; roll it back.",
                code=TRANSACTION_FAILED,
            )
        merged: Mapping[str, Any] = parameters or {}
        if prepared.literals:
            merged = {**merged, **prepared.literals}
        self.untouched = True
        self.failed = True  # until it has succeeded
        try:
            result = self._dispatch(prepared, merged)
        except OverflowError as error:
            raise CypherArgumentError("An integer is out of the range of 64 bits.") from error
        self.failed = False
        return result

    def _dispatch(self, prepared: Prepared, parameters: Mapping[str, Any]) -> Result:
        if prepared.kind in ("write", "schema") and self.read_only and prepared.mode is Mode.RUN:
            raise GraphError(
                "Writing in read access mode not allowed. Attempted write to the graph in a"
                " read-only transaction.",
                code=ACCESS_MODE,
            )
        if prepared.kind == "schema":
            return self._schema(prepared)
        if not prepared.local:
            raise GraphError(
                f"SHOW {str(prepared.show).upper()} is answered by a server, not by the engine."
            )
        executable = prepared.shape.executable(self.root)
        if prepared.mode is Mode.EXPLAIN:
            return Result(
                prepared.fields,
                iter(()),
                prepared.query_type,
                None,
                lambda: describe(executable.plan, executable.fields),
            )
        if prepared.kind == "write":
            return self._write(prepared, executable, parameters)
        return self._read(prepared, executable, parameters)

    def _execution(self, prepared: Prepared, parameters: Mapping[str, Any]) -> Execution:
        execution = new_execution(self.root, parameters, self._now, self._random, self._limits)
        if prepared.mode is Mode.PROFILE:
            execution.profile = {}
        return execution

    # ----------------------------------------------------------------- reads

    def _read(
        self, prepared: Prepared, executable: Executable, parameters: Mapping[str, Any]
    ) -> Result:
        execution = self._execution(prepared, parameters)
        cursor = _Cursor(executable, execution)
        if not self.read_only:
            # A write that comes while rows are left must not change this root.
            if len(self._cursors) >= _CURSORS_CHECKED:
                self._cursors = [ref for ref in self._cursors if _open(ref)]
            self._cursors.append(weakref.ref(cursor))
        batches = cursor if executable.fields else _drained(cursor)
        return _result(prepared, executable, execution, batches, None)

    def _leave_cursors(self) -> None:
        """Go on with a fork if somebody may still read this root."""
        if any(_open(ref) for ref in self._cursors):
            self.root = self.root.fork()
        self._cursors.clear()

    # ----------------------------------------------------------------- writes

    def _write(
        self, prepared: Prepared, executable: Executable, parameters: Mapping[str, Any]
    ) -> Result:
        if self._cursors:
            self._leave_cursors()
        assert self._allocator is not None, "a transaction that writes needs an allocator"
        execution = self._execution(prepared, parameters)
        last = execution.budget if executable.one_step else None
        writer = Writer(self.root, self._allocator, last)
        execution.writer = writer
        batches: list[Batch] = []
        try:
            for chunk in executable.operator.stream(execution):
                if executable.fields:
                    execution.budget.charge(chunk_bytes(chunk))
                    source = execution.context.graves or self.root
                    batches.append(_materialised(chunk, executable.fields, source))
        except BaseException:
            self.untouched = writer.write_set.empty
            raise
        self._add(writer.write_set, writer.counters)
        return _result(prepared, executable, execution, iter(batches), writer.counters)

    def _schema(self, prepared: Prepared) -> Result:
        if prepared.mode is not Mode.RUN:
            return Result((), iter(()), prepared.query_type, None, lambda: _schema_plan(prepared))
        if not self.write_set.empty and not self.write_set.has_schema:
            raise GraphError(
                "A transaction that has written data cannot change indexes or constraints; use"
                " a transaction of its own.",
                code=SCHEMA_AFTER_WRITE,
            )
        if self._cursors:
            self._leave_cursors()
        step = schema_write_set(prepared.schema_command, self.root)
        counters = self.root.apply(step) if not step.empty else Counters()
        self._add(step, counters)
        return Result((), iter(()), prepared.query_type, counters)

    def _add(self, write_set: WriteSet, counters: Counters) -> None:
        if write_set.empty:
            return
        if not write_set.has_schema and self.write_set.has_schema:
            self.untouched = False
            raise GraphError(
                "A transaction that has changed indexes or constraints cannot write data; use"
                " a transaction of its own.",
                code=SCHEMA_AFTER_WRITE,
            )
        self.write_set.extend(write_set)
        self.counters.add(counters)


class _Cursor:
    """The rows of a read, computed as they are pulled."""

    __slots__ = ("__weakref__", "_chunks", "_fields", "_root", "finished")

    def __init__(self, executable: Executable, execution: Execution) -> None:
        self._root = execution.context.root
        self._fields = executable.fields
        self._chunks = executable.operator.stream(execution)
        self.finished = False

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        try:
            return _materialised(next(self._chunks), self._fields, self._root)
        except BaseException:
            self.finished = True
            raise


def _open(reference: weakref.ref[_Cursor]) -> bool:
    cursor = reference()
    return cursor is not None and not cursor.finished


def new_execution(
    root: Root,
    parameters: Mapping[str, Any],
    now: DateTime,
    random: Random,
    limits: QueryLimits,
    argument: Chunk = ONE_ROW,
) -> Execution:
    """The state of one run."""
    budget = Budget(limits)
    context = Context(root, parameters, now, random, None, budget.check, budget)
    return Execution(context, budget, argument, limits.chunk_rows)


def _materialised(chunk: Chunk, fields: tuple[str, ...], root: Root | Graves) -> Batch:
    columns = chunk.columns
    return chunk.length, [materialise_column(columns[name], root) for name in fields]


def _drained(cursor: _Cursor) -> Iterator[Batch]:
    """Runs a read that gives no columns (a procedure without results) and gives no rows."""
    for _ in cursor:
        pass
    return
    yield


def _result(
    prepared: Prepared,
    executable: Executable,
    execution: Execution,
    batches: Iterator[Batch],
    counters: Counters | None,
) -> Result:
    if prepared.mode is not Mode.PROFILE:
        return Result(prepared.fields, batches, prepared.query_type, counters)
    return Result(
        prepared.fields,
        batches,
        prepared.query_type,
        counters,
        lambda: describe(executable.plan, executable.fields, execution.profile),
        profiled=True,
    )


def _schema_plan(prepared: Prepared) -> dict[str, Any]:
    command = prepared.schema_command
    name = f"{command.action.capitalize()}{command.target.capitalize()}"
    return {"operatorType": name, "args": {}, "identifiers": [], "children": []}
