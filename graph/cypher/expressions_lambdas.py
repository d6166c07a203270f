"""Comprehensions, quantifiers and reduce: expressions that bind a variable to list elements.

The lists of a chunk are laid end to end and become the column of the bound variable; the other
columns that the body uses are repeated to match. So a body is evaluated for the elements of all
rows at once, in pieces of at most ``PIECE_ROWS``, and nested comprehensions are vectorised as well.
``reduce`` cannot be: it goes by element position, all rows together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graph.cypher import semantics
from graph.cypher.evaluation import REQUEST_COLUMN, Compiled, Context, bool_vector
from graph.cypher.expressions_logic import as_bools, true_rows
from graph.cypher.references import boxed, objects, tighten
from graph.errors import CypherTypeError
from graph.vector import CHUNK_ROWS, Chunk, IntArray, Vector

__all__ = ["ComprehensionNode", "QuantifierNode", "ReduceNode"]

PIECE_ROWS = 2 * CHUNK_ROWS


def _lists(vector: Vector, what: str) -> list[list[Any] | None]:
    values = boxed(vector)
    for value in values:
        if value is not None and not isinstance(value, list) and type(value) is not tuple:
            raise CypherTypeError(
                f"Type mismatch: {what} needs a List, not a {semantics.type_name(value)}."
            )
    return values


def _used_columns(chunk: Chunk, names: frozenset[str], bound: str) -> dict[str, Vector]:
    return {
        name: vector
        for name, vector in chunk.columns.items()
        if (name in names and name != bound) or name == REQUEST_COLUMN
    }


def _pieces(
    chunk: Chunk, lists: list[list[Any] | None], names: frozenset[str], bound: str, context: Context
) -> Iterator[tuple[IntArray, list[Any], Chunk]]:
    """(row of each element, elements, chunk with the bound variable) in pieces."""
    used = _used_columns(chunk, names, bound)
    counts = [0 if items is None else len(items) for items in lists]
    rows = np.repeat(np.arange(len(lists)), counts)
    elements = [item for items in lists if items is not None for item in items]
    for start in range(0, len(elements), PIECE_ROWS):
        if start:
            context.deadline_check()
        piece_rows = rows[start : start + PIECE_ROWS]
        piece = elements[start : start + PIECE_ROWS]
        columns = {name: vector.take(piece_rows) for name, vector in used.items()}
        columns[bound] = tighten(piece)
        yield piece_rows, piece, Chunk(columns, len(piece))


class ComprehensionNode(Compiled):
    """``[variable IN source WHERE predicate | projection]``."""

    __slots__ = ("names", "predicate", "projection", "source", "variable")

    def __init__(
        self,
        variable: str,
        source: Compiled,
        predicate: Compiled | None,
        projection: Compiled | None,
        names: frozenset[str],
    ) -> None:
        body = [node for node in (predicate, projection) if node is not None]
        super().__init__(source, *body)
        self.constant = False
        self.variable = variable
        self.source = source
        self.predicate = predicate
        self.projection = projection
        self.names = names

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        lists = _lists(self.source.evaluate(chunk, context), "a list comprehension")
        results: list[Any] = []
        counts = np.zeros(len(lists), dtype=np.int64)
        for rows, elements, piece in _pieces(chunk, lists, self.names, self.variable, context):
            if self.predicate is not None:
                keep = true_rows(self.predicate.evaluate(piece, context))
                kept = int(keep.sum())
                if not kept:
                    continue
                if kept < piece.length:
                    rows = rows[keep]
                    if self.projection is not None:
                        piece = piece.take(keep, kept)
                    else:
                        elements = [e for e, k in zip(elements, keep.tolist(), strict=True) if k]
            if self.projection is not None:
                elements = boxed(self.projection.evaluate(piece, context))
            results.extend(elements)
            counts += np.bincount(rows, minlength=len(lists))
        if len(results) > CHUNK_ROWS:
            context.budget.charge(8 * len(results))
        ends = np.cumsum(counts).tolist()
        starts = [0, *ends[:-1]]
        return objects(
            [
                None if items is None else results[start:end]
                for items, start, end in zip(lists, starts, ends, strict=True)
            ]
        )


class QuantifierNode(Compiled):
    """``all``, ``any``, ``none``, ``single`` over a list, three-valued."""

    __slots__ = ("names", "predicate", "quantifier", "source", "variable")

    def __init__(
        self,
        quantifier: str,
        variable: str,
        source: Compiled,
        predicate: Compiled,
        names: frozenset[str],
    ) -> None:
        super().__init__(source, predicate)
        self.constant = False
        self.quantifier = quantifier
        self.variable = variable
        self.source = source
        self.predicate = predicate
        self.names = names

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        lists = _lists(self.source.evaluate(chunk, context), f"{self.quantifier}()")
        length = len(lists)
        trues = np.zeros(length, dtype=np.int64)
        nulls = np.zeros(length, dtype=np.int64)
        falses = np.zeros(length, dtype=np.int64)
        for rows, _, piece in _pieces(chunk, lists, self.names, self.variable, context):
            true, valid = as_bools(self.predicate.evaluate(piece, context))
            trues += np.bincount(rows[true], minlength=length)
            if valid is None:
                falses += np.bincount(rows[~true], minlength=length)
            else:
                falses += np.bincount(rows[valid & ~true], minlength=length)
                nulls += np.bincount(rows[~valid], minlength=length)
        counts = zip(lists, trues.tolist(), falses.tolist(), nulls.tolist(), strict=True)
        return bool_vector(
            [None if items is None else self._decide(t, f, n) for items, t, f, n in counts]
        )

    def _decide(self, trues: int, falses: int, nulls: int) -> bool | None:
        if self.quantifier == "all":
            return False if falses else None if nulls else True
        if self.quantifier == "any":
            return True if trues else None if nulls else False
        if self.quantifier == "none":
            return False if trues else None if nulls else True
        if trues > 1:
            return False
        return None if nulls else trues == 1


class ReduceNode(Compiled):
    """``reduce(accumulator = initial, variable IN source | body)``."""

    __slots__ = ("accumulator", "body", "initial", "names", "source", "variable")

    def __init__(
        self,
        accumulator: str,
        initial: Compiled,
        variable: str,
        source: Compiled,
        body: Compiled,
        names: frozenset[str],
    ) -> None:
        super().__init__(initial, source, body)
        self.constant = False
        self.accumulator = accumulator
        self.initial = initial
        self.variable = variable
        self.source = source
        self.body = body
        self.names = names

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        lists = _lists(self.source.evaluate(chunk, context), "reduce()")
        totals = boxed(self.initial.evaluate(chunk, context))
        used = _used_columns(chunk, self.names, self.variable)
        used.pop(self.accumulator, None)
        totals = [None if items is None else t for items, t in zip(lists, totals, strict=True)]
        rows = [row for row, items in enumerate(lists) if items]
        part, position = used, 0
        whole = len(rows) == chunk.length
        while rows:
            if not whole:
                index = np.array(rows, dtype=np.int64)
                part = {name: vector.take(index) for name, vector in used.items()}
                whole = True
            step = Chunk(dict(part), len(rows))
            step.columns[self.variable] = tighten([lists[row][position] for row in rows])  # type: ignore[index]
            step.columns[self.accumulator] = tighten([totals[row] for row in rows])
            for row, total in zip(rows, boxed(self.body.evaluate(step, context)), strict=True):
                totals[row] = total
            position += 1
            left = [row for row in rows if len(lists[row]) > position]  # type: ignore[arg-type]
            whole = len(left) == len(rows)
            rows = left
            if position % 64 == 0:
                context.deadline_check()
        return tighten(totals)
