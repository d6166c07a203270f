"""Aggregation and DISTINCT: hash grouping over vectors.

Where outer rows are kept apart (``Execution.partition``), their numbers are further keys, so that
groups never mix them; and an aggregation without keys gives a row for each of them, rows or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graph.cypher.evaluation import Compiled
from graph.cypher.functions.aggregates import Aggregate
from graph.cypher.grouping import Grouper
from graph.cypher.operators.base import Execution, Operator, slices
from graph.vector import Chunk, Vector

__all__ = ["AggregateColumn", "AggregationOperator", "DistinctOperator"]


@dataclass(frozen=True, slots=True)
class AggregateColumn:
    name: str
    aggregate: Aggregate
    arguments: tuple[Compiled, ...]


class AggregationOperator(Operator):
    """One row for each group; without keys exactly one."""

    __slots__ = ("aggregates", "input", "keys")

    def __init__(
        self,
        input: Operator,
        keys: tuple[tuple[str, Compiled], ...],
        aggregates: tuple[AggregateColumn, ...],
    ) -> None:
        self.input = input
        self.keys = keys
        self.aggregates = aggregates

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context, carried = execution.context, execution.carried
        grouper = Grouper(len(self.keys) + len(carried), execution.budget)
        count = grouper.group_count
        if carried and not self.keys:
            outer = execution.argument
            _, count = grouper.assign([outer.columns[name] for name in carried], outer.length)
        states = [column.aggregate.create(execution.budget) for column in self.aggregates]
        for chunk in self.input.stream(execution):
            execution.budget.check()
            keys = [key.evaluate(chunk, context) for _, key in self.keys]
            keys.extend(chunk.columns[name] for name in carried)
            groups, count = grouper.assign(keys, chunk.length)
            for column, state in zip(self.aggregates, states, strict=True):
                arguments = [a.evaluate(chunk, context) for a in column.arguments]
                column.aggregate.update(state, groups, count, arguments)
        if not count:
            return
        columns: dict[str, Vector] = {}
        names = [name for name, _ in self.keys] + list(carried)
        if names:
            columns = dict(zip(names, grouper.key_columns(), strict=True))
        for column, state in zip(self.aggregates, states, strict=True):
            columns[column.name] = column.aggregate.finish(state, count)
        yield from slices(Chunk(columns, count), execution.chunk_rows)


class DistinctOperator(Operator):
    """The first of all rows that agree in some columns; gives these columns only."""

    __slots__ = ("input", "names")

    def __init__(self, input: Operator, names: tuple[str, ...]) -> None:
        self.input = input
        self.names = names

    def run(self, execution: Execution) -> Iterator[Chunk]:
        names = (*self.names, *execution.carried)
        if not names:
            yield from self._first(execution)
            return
        grouper = Grouper(len(names), execution.budget)
        for chunk in self.input.stream(execution):
            execution.budget.check()
            columns = {name: chunk.columns[name] for name in names}
            rows = grouper.new_rows(list(columns.values()), chunk.length)
            if len(rows) == chunk.length:
                yield Chunk(columns, chunk.length)
            elif len(rows):
                yield Chunk({n: v.take(rows) for n, v in columns.items()}, len(rows))

    def _first(self, execution: Execution) -> Iterator[Chunk]:
        """Without columns all rows are the same."""
        for _ in self.input.stream(execution):
            yield Chunk({}, 1)
            return
