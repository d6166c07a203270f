"""Operators that run an inner plan for each input chunk: OPTIONAL MATCH and pattern expressions.

The inner plan runs once for a whole chunk. Its argument is the chunk with a hidden column that
numbers the rows; every row that the inner plan gives back carries the number of the row it belongs
to, so that existence, counts and lists are scatter operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graph.cypher.budget import vector_bytes
from graph.cypher.operators.base import (
    Execution,
    Operator,
    arange,
    concat_chunks,
    pick,
)
from graph.cypher.references import boxed
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector

__all__ = ["OptionalOperator", "RollUpOperator", "SemiApplyOperator"]


def _inner(execution: Execution, inner: Operator, row: str, chunk: Chunk) -> Iterator[Chunk]:
    numbered = chunk.with_columns({row: Vector(Kind.INT, arange(chunk.length))})
    return inner.stream(execution.inner(numbered, row))


class OptionalOperator(Operator):
    """Rows of the inner plan; an input row without any comes out once, with nulls."""

    __slots__ = ("inner", "input", "nulls", "row")

    def __init__(
        self, input: Operator, inner: Operator, row: str, nulls: tuple[tuple[str, Kind], ...]
    ) -> None:
        self.input = input
        self.inner = inner
        self.row = row
        self.nulls = nulls

    def run(self, execution: Execution) -> Iterator[Chunk]:
        for chunk in self.input.stream(execution):
            execution.budget.check()
            found = np.zeros(chunk.length, dtype=np.bool_)
            last: Chunk | None = None
            for inner in _inner(execution, self.inner, self.row, chunk):
                if last is not None:
                    yield last
                rows = inner.columns[self.row].data
                found[rows] = True
                added = {name: inner.columns[name] for name, _ in self.nulls}
                last = pick(chunk, rows, added)
            yield from self._rest(chunk, found, last, execution.chunk_rows)

    def _rest(
        self, chunk: Chunk, found: BoolArray, last: Chunk | None, size: int
    ) -> Iterator[Chunk]:
        """The rows that found nothing, together with the last ones that did if both fit."""
        if found.all():
            if last is not None:
                yield last
            return
        missing = np.flatnonzero(~found)
        nulls = {name: Vector.nulls(kind, len(missing)) for name, kind in self.nulls}
        rest = pick(chunk, missing, nulls)
        if last is None:
            yield rest
        elif last.length + rest.length <= size:
            yield concat_chunks([last, rest])
        else:
            yield last
            yield rest


class SemiApplyOperator(Operator):
    """Input rows for which the inner plan gives a row, or (``negated``) none."""

    __slots__ = ("inner", "input", "negated", "row")

    def __init__(self, input: Operator, inner: Operator, row: str, negated: bool) -> None:
        self.input = input
        self.inner = inner
        self.row = row
        self.negated = negated

    def run(self, execution: Execution) -> Iterator[Chunk]:
        for chunk in self.input.stream(execution):
            execution.budget.check()
            found = exists(execution, self.inner, self.row, chunk)
            mask = ~found if self.negated else found
            count = int(np.count_nonzero(mask))
            if count:
                yield chunk.take(np.flatnonzero(mask), count)


def exists(execution: Execution, inner: Operator, row: str, chunk: Chunk) -> BoolArray:
    """For which rows the inner plan gives anything; stops as soon as it has for all."""
    found = np.zeros(chunk.length, dtype=np.bool_)
    for result in _inner(execution, inner, row, chunk):
        execution.budget.check()
        found[result.columns[row].data] = True
        if found.all():
            break
    return found


class RollUpOperator(Operator):
    """Adds a column: whether the inner plan gives rows, how many, or a list of their values."""

    __slots__ = ("inner", "input", "mode", "name", "row", "value")

    def __init__(
        self,
        input: Operator,
        inner: Operator,
        row: str,
        name: str,
        mode: str,
        value: str | None,
    ) -> None:
        self.input = input
        self.inner = inner
        self.row = row
        self.name = name
        self.mode = mode
        self.value = value

    def run(self, execution: Execution) -> Iterator[Chunk]:
        for chunk in self.input.stream(execution):
            execution.budget.check()
            yield chunk.with_columns({self.name: self._column(execution, chunk)})

    def _column(self, execution: Execution, chunk: Chunk) -> Vector:
        if self.mode == "exists":
            return Vector(Kind.BOOL, exists(execution, self.inner, self.row, chunk))
        if self.mode == "count":
            counts: IntArray = np.zeros(chunk.length, dtype=np.int64)
            for result in _inner(execution, self.inner, self.row, chunk):
                execution.budget.check()
                rows = result.columns[self.row].data
                counts += np.bincount(rows, minlength=chunk.length)
            return Vector(Kind.INT, counts)
        return self._lists(execution, chunk)

    def _lists(self, execution: Execution, chunk: Chunk) -> Vector:
        assert self.value is not None
        lists: list[list[Any]] = [[] for _ in range(chunk.length)]
        for result in _inner(execution, self.inner, self.row, chunk):
            execution.budget.check()
            column = result.columns[self.value]
            execution.budget.charge(vector_bytes(column))
            rows = result.columns[self.row].data.tolist()
            for row, value in zip(rows, boxed(column), strict=True):
                lists[row].append(value)
        return Vector.objects(lists)
