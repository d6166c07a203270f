"""Operators with two inputs: product, hash join, union."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from graph.cypher.budget import chunk_bytes
from graph.cypher.evaluation import Compiled
from graph.cypher.operators.base import Execution, Operator, concat_chunks, pick, slices
from graph.cypher.operators.scans import cross
from graph.cypher.references import boxed
from graph.cypher.semantics import equals, group_key
from graph.vector import Chunk, IntArray, Kind, Vector

__all__ = ["CartesianOperator", "HashJoinOperator", "UnionOperator"]

# An entry of the join table: a dict slot, a list and its members.
_ENTRY_BYTES = 120


def _held(right: Operator, execution: Execution) -> Chunk | None:
    """All rows of an input that depends on no row, as one chunk."""
    chunks: list[Chunk] = []
    for chunk in right.stream(execution.alone()):
        execution.budget.charge(chunk_bytes(chunk))
        chunks.append(chunk)
    return concat_chunks(chunks) if chunks else None


class CartesianOperator(Operator):
    """Every input row with every row of ``right``; the right side is held."""

    __slots__ = ("input", "right")

    def __init__(self, input: Operator, right: Operator) -> None:
        self.input = input
        self.right = right

    def run(self, execution: Execution) -> Iterator[Chunk]:
        held: Chunk | None = None
        ready = False
        for chunk in self.input.stream(execution):
            if not ready:
                held, ready = _held(self.right, execution), True
            if held is None:
                return
            for found in cross(chunk, held, execution.chunk_rows):
                execution.budget.check()
                yield found


class HashJoinOperator(Operator):
    """Input rows with the rows of ``right`` whose keys are equal; null equals nothing."""

    __slots__ = ("input", "left_keys", "right", "right_keys")

    def __init__(
        self,
        input: Operator,
        right: Operator,
        left_keys: tuple[Compiled, ...],
        right_keys: tuple[Compiled, ...],
    ) -> None:
        self.input = input
        self.right = right
        self.left_keys = left_keys
        self.right_keys = right_keys

    def run(self, execution: Execution) -> Iterator[Chunk]:
        held: Chunk | None = None
        table: dict[Any, list[int]] | None = None
        for chunk in self.input.stream(execution):
            execution.budget.check()
            if table is None:
                held = _held(self.right, execution)
                if held is None:
                    return
                table = self._table(held, execution)
            assert held is not None
            yield from self._matches(chunk, held, table, execution)

    def _table(self, held: Chunk, execution: Execution) -> dict[Any, list[int]]:
        execution.budget.charge(held.length * _ENTRY_BYTES)
        table: dict[Any, list[int]] = defaultdict(list)
        for row, key in enumerate(_keys(self.right_keys, held, execution)):
            if key is not None:
                table[key].append(row)
        return dict(table)

    def _matches(
        self, chunk: Chunk, held: Chunk, table: dict[Any, list[int]], execution: Execution
    ) -> Iterator[Chunk]:
        left: list[int] = []
        right: list[int] = []
        for row, key in enumerate(_keys(self.left_keys, chunk, execution)):
            if key is None:
                continue
            places = table.get(key)
            if places is not None:
                if len(places) == 1:
                    left.append(row)
                    right.append(places[0])
                else:
                    left.extend([row] * len(places))
                    right.extend(places)
            if len(left) >= execution.chunk_rows:
                yield from self._rows(chunk, held, left, right, execution)
                left, right = [], []
        if left:
            yield from self._rows(chunk, held, left, right, execution)

    def _rows(
        self, chunk: Chunk, held: Chunk, left: list[int], right: list[int], execution: Execution
    ) -> Iterator[Chunk]:
        places: IntArray = np.array(right, dtype=np.int64)
        added = {name: vector.take(places) for name, vector in held.columns.items()}
        found = pick(chunk, np.array(left, dtype=np.int64), added)
        yield from slices(found, execution.chunk_rows)


def _keys(keys: tuple[Compiled, ...], chunk: Chunk, execution: Execution) -> list[Any]:
    """A hashable key for each row; ``None`` where it can equal nothing.

    Keys are equal exactly where Cypher's ``=`` is true: ``group_key`` agrees with it on values
    that equal themselves, and values that do not (null, NaN, lists with nulls) get no key.
    """
    columns = [_key_column(key.evaluate(chunk, execution.context)) for key in keys]
    if len(columns) == 1:
        return columns[0]
    return [None if None in row else row for row in zip(*columns, strict=True)]


def _key_column(vector: Vector) -> list[Any]:
    if vector.kind is Kind.STRING:
        return vector.to_list()
    return [group_key(v) if equals(v, v) is True else None for v in boxed(vector)]


class UnionOperator(Operator):
    """The rows of one part after those of another, by column name."""

    __slots__ = ("names", "parts")

    def __init__(self, parts: tuple[Operator, ...], names: tuple[str, ...]) -> None:
        self.parts = parts
        self.names = names

    def run(self, execution: Execution) -> Iterator[Chunk]:
        names = (*self.names, *execution.carried)
        for part in self.parts:
            for chunk in part.stream(execution):
                columns = {name: chunk.columns[name] for name in names}
                yield Chunk(columns, chunk.length)
