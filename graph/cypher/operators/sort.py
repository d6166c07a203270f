"""ORDER BY, SKIP and LIMIT.

Sorting gathers its input and computes one permutation. A column of one typed kind becomes NumPy
keys; any other is ranked through ``order_key``, Cypher's total order over all types. Keys are
combined with ``lexsort``, which is stable. Where outer rows are kept apart
(``Execution.partition``), their number is the first key, and SKIP and LIMIT count within each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.cypher.budget import chunk_bytes
from graph.cypher.evaluation import Compiled, one_row
from graph.cypher.operators.base import Execution, Operator, concat_chunks, slices
from graph.cypher.references import boxed
from graph.cypher.semantics import order_key
from graph.errors import CypherArgumentError
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector

__all__ = ["LimitOperator", "SortOperator", "TopOperator", "permutation"]

SortItems = tuple[tuple[str, bool], ...]
Keys = list[npt.NDArray[Any]]
# Rows that Top holds before it sorts and cuts, unless LIMIT itself is larger.
_TOP_ROWS_HELD = 8192


def permutation(chunk: Chunk, items: SortItems, partition: str | None) -> IntArray:
    """The order of the rows by ``items`` (column, descending), within each partition."""
    keys: Keys = [] if partition is None else [chunk.columns[partition].data]
    for name, descending in items:
        keys.extend(_keys(chunk.columns[name], descending))
    # lexsort takes the most important key last.
    return np.lexsort(keys[::-1])


def _keys(vector: Vector, descending: bool) -> Keys:
    """NumPy keys, the most important first, that sort as the values do."""
    kind, data = vector.kind, vector.data
    if kind in (Kind.INT, Kind.BOOL) or (kind is Kind.FLOAT and not np.isnan(data).any()):
        if kind is Kind.FLOAT:
            key = -data if descending else data
        else:
            # ~x is -x - 1: it reverses the order without overflow at the smallest integer.
            key = ~data if descending else data
        if vector.valid is None:
            return [key]
        # null is larger than any value: last ascending, first descending.
        absent = vector.valid if descending else ~vector.valid
        return [absent, np.where(vector.valid, key, np.zeros_like(key))]
    ranked = [order_key(value) for value in boxed(vector)]
    place = {key: number for number, key in enumerate(sorted(set(ranked)))}
    ranks = np.array([place[key] for key in ranked], dtype=np.int64)
    return [-ranks if descending else ranks]


class SortOperator(Operator):
    """All rows in order."""

    __slots__ = ("input", "items")

    def __init__(self, input: Operator, items: SortItems) -> None:
        self.input = input
        self.items = items

    def run(self, execution: Execution) -> Iterator[Chunk]:
        chunks: list[Chunk] = []
        for chunk in self.input.stream(execution):
            execution.budget.check()
            execution.budget.charge(chunk_bytes(chunk))
            chunks.append(chunk)
        if not chunks:
            return
        everything = concat_chunks(chunks)
        order = permutation(everything, self.items, execution.partition)
        for start in range(0, everything.length, execution.chunk_rows):
            execution.budget.check()
            rows = order[start : start + execution.chunk_rows]
            yield everything.take(rows, len(rows))


class TopOperator(Operator):
    """The first rows in order. Holds a few times as many rows as it gives."""

    __slots__ = ("input", "items", "limit", "skip")

    def __init__(
        self, input: Operator, items: SortItems, limit: Compiled, skip: Compiled | None
    ) -> None:
        self.input = input
        self.items = items
        self.limit = limit
        self.skip = skip

    def run(self, execution: Execution) -> Iterator[Chunk]:
        partition = execution.partition
        skips = row_counts(self.skip, execution, "SKIP")
        limits = row_counts(self.limit, execution, "LIMIT")
        assert limits is not None
        wanted = int(limits.max(initial=0)) + (0 if skips is None else int(skips.max(initial=0)))
        held: Chunk | None = None
        charged = 0
        for chunk in self.input.stream(execution):
            execution.budget.check()
            held = chunk if held is None else concat_chunks([held, chunk])
            if held.length > max(4 * wanted, _TOP_ROWS_HELD) and partition is None:
                held = self._cut(held, wanted)
            size = chunk_bytes(held)
            execution.budget.charge(size - charged)
            charged = size
        if held is None:
            return
        order = permutation(held, self.items, partition)
        ordered = held.take(order, len(order))
        window = Window(skips, limits)
        cut = window.apply(ordered, partition)
        if cut is not None:
            yield from slices(cut, execution.chunk_rows)

    def _cut(self, held: Chunk, wanted: int) -> Chunk:
        order = permutation(held, self.items, None)[:wanted]
        return held.take(order, len(order))


class Window:
    """SKIP and LIMIT over a stream of chunks; one for each number in a partition."""

    def __init__(self, skips: IntArray | None, limits: IntArray | None) -> None:
        self.skips = None if skips is None else skips.copy()
        self.limits = None if limits is None else limits.copy()

    def finished(self) -> bool:
        return self.limits is not None and not self.limits.any()

    def apply(self, chunk: Chunk, partition: str | None) -> Chunk | None:
        """The part of the next chunk that is inside, or ``None``."""
        if partition is not None:
            return self._apply_each(chunk, chunk.columns[partition].data)
        start, stop = 0, chunk.length
        if self.skips is not None:
            start = min(int(self.skips[0]), chunk.length)
            self.skips[0] -= start
        if self.limits is not None:
            stop = min(start + int(self.limits[0]), chunk.length)
            self.limits[0] -= stop - start
        if start >= stop:
            return None
        return chunk if stop - start == chunk.length else chunk.slice(start, stop)

    def _apply_each(self, chunk: Chunk, numbers: IntArray) -> Chunk | None:
        inside: BoolArray = np.ones(chunk.length, dtype=np.bool_)
        for row, number in enumerate(numbers.tolist()):
            if self.skips is not None and self.skips[number]:
                self.skips[number] -= 1
                inside[row] = False
            elif self.limits is not None:
                if self.limits[number]:
                    self.limits[number] -= 1
                else:
                    inside[row] = False
        count = int(np.count_nonzero(inside))
        return chunk.take(np.flatnonzero(inside), count) if count else None


def row_counts(expression: Compiled | None, execution: Execution, clause: str) -> IntArray | None:
    """The value of SKIP or LIMIT: one number, or one for each outer row."""
    if expression is None:
        return None
    chunk = one_row() if execution.partition is None else execution.argument
    vector = expression.evaluate(chunk, execution.context)
    counts = []
    for value in boxed(vector, chunk.length):
        if isinstance(value, bool) or not isinstance(value, int):
            raise CypherArgumentError(
                f"{clause} needs an integer, but got {value!r}.",
            )
        if value < 0:
            raise CypherArgumentError(f"{clause} must not be negative, but got {value}.")
        counts.append(value)
    return np.array(counts, dtype=np.int64)


class LimitOperator(Operator):
    """SKIP and LIMIT. Stops pulling as soon as it has enough, unless something below writes."""

    __slots__ = ("exhaust", "input", "limit", "skip")

    def __init__(
        self, input: Operator, limit: Compiled | None, skip: Compiled | None, exhaust: bool
    ) -> None:
        self.input = input
        self.limit = limit
        self.skip = skip
        self.exhaust = exhaust

    def run(self, execution: Execution) -> Iterator[Chunk]:
        window = Window(
            row_counts(self.skip, execution, "SKIP"), row_counts(self.limit, execution, "LIMIT")
        )
        if window.finished() and not self.exhaust:
            return
        for chunk in self.input.stream(execution):
            execution.budget.check()
            cut = window.apply(chunk, execution.partition)
            if cut is not None:
                yield cut
            if window.finished() and not self.exhaust:
                return
