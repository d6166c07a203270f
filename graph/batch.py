"""Same plan, one run: many requests that wait together, run together.

Requests with one plan become the rows of one input table; the hidden column ``@request`` says which
request a row belongs to and parameters are columns (``Context.parameter_columns``). Rows are handed
back by that column. Which plans allow it is decided in ``cypher/rules/batching.py``; the result is
that of running the requests one after the other, and a differential test holds us to that.

When anything in a shared run fails, its members run one by one, so that only the guilty fail. A
shared run writes in one step or is given a fork to fall back to, so a failure leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from neo4j.time import DateTime

from graph.cypher.budget import QueryLimits, chunk_bytes
from graph.cypher.operators.base import Execution
from graph.cypher.operators.writer import SharedWrites, Writer
from graph.cypher.plan import REQUEST
from graph.cypher.prepared import Executable, Prepared
from graph.cypher.references import materialise_column, tighten
from graph.cypher.syntax import Mode
from graph.errors import CypherArgumentError, GraphError
from graph.result import Batch, Result
from graph.store import IdAllocator, Root
from graph.transaction import Transaction, new_execution
from graph.vector import Chunk, IntArray, Kind, Vector
from graph.write_set import Counters, CreateNodes, CreateRelationships, WriteSet

if TYPE_CHECKING:
    from random import Random

__all__ = ["BatchOutcome", "Request", "run_batch"]

Request = tuple[Prepared, Mapping[str, Any]]
_DEFAULT_LIMITS = QueryLimits()
# Requests in one run: more gain nothing, and a failure repeats all of them.
_REQUESTS_MAX = 1024


@dataclass
class BatchOutcome:
    """What became of a batch.

    ``root`` is the state after it: the root that was given, or a fork of it where a statement
    failed half-way. ``results[i]`` belongs to request ``i``. ``writes`` are the write sets in the
    order in which they were applied, each with the requests that it belongs to; requests that wrote
    nothing are in none.
    """

    root: Root
    results: list[Result | GraphError]
    writes: list[tuple[tuple[int, ...], WriteSet]] = field(default_factory=list)


def run_batch(
    engine: Any,
    root: Root,
    allocator: IdAllocator | None,
    requests: Sequence[Request],
    *,
    now: DateTime,
    random: Random,
    limits: QueryLimits = _DEFAULT_LIMITS,
    savepoint: Root | None = None,
    read_only: bool = False,
) -> BatchOutcome:
    """Run requests, each a transaction of its own, as if one after the other.

    Args:
        root: the head; changed in place by writes unless ``BatchOutcome.root`` says otherwise.
        limits: for each request; a shared run has the deadline of one and the memory of one.
        savepoint: a fork of ``root`` as it is now, if the caller has one anyway.
        read_only: refuse writes; results of reads are then lazy and ``root`` is not touched.
    """
    run = _Run(engine, allocator, now, limits, random, read_only, root, savepoint)
    run.results = [None] * len(requests)
    for positions in _groups(requests):
        if len(positions) > 1 and run.together(requests, positions):
            continue
        for position in positions:
            run.alone(requests[position], position)
    results = [result for result in run.results if result is not None]
    assert len(results) == len(requests), "every request has an outcome"
    return BatchOutcome(run.root, results, run.writes)


def _groups(requests: Sequence[Request]) -> Iterator[list[int]]:
    """Positions that may run together, in an order that keeps every write in its place."""
    if all(prepared.kind == "read" for prepared, _ in requests):
        # Reads see one state whatever their order, so equal plans need not stand side by side.
        by_plan: dict[Any, list[int]] = {}
        for position, (prepared, _) in enumerate(requests):
            key = prepared.plan_key if prepared.batchable else position
            by_plan.setdefault(key, []).append(position)
        for positions in by_plan.values():
            for start in range(0, len(positions), _REQUESTS_MAX):
                yield positions[start : start + _REQUESTS_MAX]
        return
    group: list[int] = []
    for position, (prepared, _) in enumerate(requests):
        if group:
            before = requests[group[0]][0]
            same = prepared.batchable and before.batchable
            if not same or prepared.plan_key != before.plan_key or len(group) >= _REQUESTS_MAX:
                yield group
                group = []
        group.append(position)
    if group:
        yield group


class _Run:
    """The state of one call of ``run_batch``."""

    def __init__(
        self,
        engine: Any,
        allocator: IdAllocator | None,
        now: DateTime,
        limits: QueryLimits,
        random: Random,
        read_only: bool,
        root: Root,
        savepoint: Root | None,
    ) -> None:
        self.engine = engine
        self.allocator = allocator
        self.now = now
        self.limits = limits
        self.random = random
        self.read_only = read_only
        self.root = root
        self.savepoint = savepoint
        self.results: list[Result | GraphError | None] = []
        self.writes: list[tuple[tuple[int, ...], WriteSet]] = []

    # ----------------------------------------------------------------- one by one

    def alone(self, request: Request, position: int) -> None:
        """Run one request by itself; its error, if any, is its result."""
        prepared, parameters = request
        try:
            fallback = self._fallback(prepared)
        except GraphError as error:  # it cannot be planned
            self.results[position] = error
            return
        transaction = Transaction(
            self.engine,
            self.root,
            self.allocator,
            now=self.now,
            # Nobody holds a cursor over this root from before: reads need no watching.
            read_only=self.read_only or prepared.kind in ("read", "show"),
            limits=self.limits,
            random=self.random,
        )
        try:
            result = transaction.run(prepared, parameters)
            if prepared.kind in ("read", "show") and not self.read_only:
                result = self._held(result)
        except GraphError as error:
            self.results[position] = error
            self._undo(transaction.untouched, fallback)
            return
        except Exception as error:  # a bug of ours must not take the other requests with it
            self._undo(transaction.untouched, fallback)
            self.results[position] = GraphError(
                f"Internal error of the engine: {type(error).__name__}: {error}."
                " Nothing was done. Please report it with the query."
            )
            return
        self.results[position] = result
        self._wrote((position,), transaction.write_set)

    def _held(self, result: Result) -> Result:
        """All rows of a read now, since writes that follow will change the root."""
        batches = list(result.chunks())
        plan = result.plan
        describe = None if plan is None else lambda: plan
        return Result(
            result.fields,
            iter(batches),
            result.query_type,
            result.counters,
            describe,
            result.profiled,
        )

    def _fallback(self, prepared: Prepared) -> Root | None:
        """A fork to return to, where a failure might leave half a statement behind."""
        if prepared.kind != "write" or self.read_only or prepared.mode is Mode.EXPLAIN:
            return None
        if prepared.shape.executable(self.root).one_step:
            return None
        return self._fork()

    def _undo(self, untouched: bool, fallback: Root | None) -> None:
        if not untouched:
            assert fallback is not None, "a statement of one step leaves nothing behind"
            self.root = fallback

    def _fork(self) -> Root:
        if self.savepoint is not None:
            savepoint, self.savepoint = self.savepoint, None
            return savepoint
        return self.root.fork()

    def _wrote(self, positions: tuple[int, ...], write_set: WriteSet) -> None:
        if not write_set.empty:
            self.savepoint = None  # it is older than the root now
            self.writes.append((positions, write_set))

    # ----------------------------------------------------------------- together

    def together(self, requests: Sequence[Request], positions: list[int]) -> bool:
        """Run requests with one plan in one run; False if they have to run one by one."""
        prepared = requests[positions[0]][0]
        if prepared.kind == "write" and self.read_only:
            return False
        try:
            executable = prepared.shape.executable(self.root)
            if not executable.batchable:
                return False
            columns = self._parameter_columns(prepared, requests, positions)
        except Exception:  # a parameter is missing or cannot be a column
            return False
        fallback = None
        if prepared.kind == "write" and not executable.one_step:
            fallback = self._fork()
        numbers = Vector(Kind.INT, np.arange(len(positions), dtype=np.int64))
        argument = Chunk({REQUEST: numbers}, len(positions))
        execution = new_execution(self.root, {}, self.now, self.random, self.limits, argument)
        writer = Writer(
            self.root, self.allocator, execution.budget if executable.one_step else None
        )
        writer.shared = SharedWrites()
        try:
            chunks = self._run(executable, columns, execution, writer)
            rows = _split(chunks, executable.fields, len(positions), self.root)
        except Exception:  # whatever it was, the requests run one by one and each tells
            self._undo(writer.write_set.empty, fallback)
            return False
        counters: Sequence[Counters | None] = [None] * len(positions)
        if prepared.kind == "write":
            assert writer.shared is not None
            counters = _counters(writer.shared, len(positions))
        for place, position in enumerate(positions):
            one = requests[position][0]
            batches = iter(rows[place])
            self.results[position] = Result(one.fields, batches, one.query_type, counters[place])
        self._wrote(tuple(positions), writer.write_set)
        return True

    def _parameter_columns(
        self, prepared: Prepared, requests: Sequence[Request], positions: list[int]
    ) -> dict[str, Vector]:
        """name -> one value for each request."""
        columns: dict[str, Vector] = {}
        for name in prepared.shape.analysed.parameters:
            values: list[Any] = []
            for position in positions:
                one, parameters = requests[position]
                source = one.literals if name in one.literals else parameters
                if name not in source:
                    raise CypherArgumentError(f"Expected parameter(s): {name}")
                values.append(source[name])
            columns[name] = tighten(values)
        return columns

    def _run(
        self,
        executable: Executable,
        columns: dict[str, Vector],
        execution: Execution,
        writer: Writer,
    ) -> list[Chunk]:
        execution.context.parameter_columns = columns
        execution.writer = writer
        execution.partition = REQUEST
        execution.carried = (REQUEST,)
        chunks: list[Chunk] = []
        for chunk in executable.operator.stream(execution):
            execution.budget.charge(chunk_bytes(chunk))
            chunks.append(chunk)
        return chunks


def _counters(shared: SharedWrites, count: int) -> list[Counters]:
    """What each request changed, from the rows that its operations came from."""
    columns: dict[str, IntArray] = {}

    def add(name: str, owners: IntArray, times: int = 1) -> None:
        found = np.bincount(owners, minlength=count) * times
        columns[name] = columns[name] + found if name in columns else found

    for operation, owners in shared.noted:
        if isinstance(operation, CreateNodes):
            add("nodes_created", owners)
            if operation.labels:
                add("labels_added", owners, len(operation.labels))
        elif isinstance(operation, CreateRelationships):
            add("relationships_created", owners)
        vectors = (
            operation.properties.values()
            if isinstance(operation, (CreateNodes, CreateRelationships))
            else (operation.values,)
        )
        for vector in vectors:
            if vector.typed and vector.valid is None:
                add("properties_set", owners)
            else:
                add("properties_set", owners[~vector.null_mask()])
    if not columns:
        return [Counters()] * count
    first = {name: int(values[0]) for name, values in columns.items()}
    if all((values == values[0]).all() for values in columns.values()):
        return [Counters(**first)] * count
    lists = {name: values.tolist() for name, values in columns.items()}
    return [
        Counters(**{name: values[request] for name, values in lists.items()})
        for request in range(count)
    ]


def _split(
    chunks: list[Chunk], fields: tuple[str, ...], count: int, root: Root
) -> list[list[Batch]]:
    """Rows by request, as batches of materialised columns."""
    found: list[list[Batch]] = [[] for _ in range(count)]
    if not fields:
        return found
    for chunk in chunks:
        requests = chunk.columns[REQUEST].data
        if (requests[1:] < requests[:-1]).any():
            order = np.argsort(requests, kind="stable")
            chunk = chunk.take(order, chunk.length)
            requests = requests[order]
        columns = [materialise_column(chunk.columns[name], root) for name in fields]
        starts = np.flatnonzero(np.concatenate(((True,), requests[1:] != requests[:-1]))).tolist()
        stops = [*starts[1:], chunk.length]
        for start, stop in zip(starts, stops, strict=True):
            batch = (stop - start, [column[start:stop] for column in columns])
            found[int(requests[start])].append(batch)
    return found
