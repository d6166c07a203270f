"""CALL of a procedure for each input row."""

from __future__ import annotations

from collections.abc import Iterator

from graph.cypher.evaluation import Compiled
from graph.cypher.operators.base import Execution, Operator
from graph.cypher.operators.scans import cross
from graph.cypher.procedures import Procedure
from graph.cypher.references import boxed, tighten
from graph.vector import Chunk

__all__ = ["ProcedureCallOperator"]


class ProcedureCallOperator(Operator):
    """Input rows with the procedure's rows; without columns the input rows go on unchanged."""

    __slots__ = ("arguments", "input", "procedure", "yields")

    def __init__(
        self,
        input: Operator,
        procedure: Procedure,
        arguments: tuple[Compiled, ...],
        yields: tuple[tuple[str, str], ...],
    ) -> None:
        self.input = input
        self.procedure = procedure
        self.arguments = arguments
        self.yields = yields

    def run(self, execution: Execution) -> Iterator[Chunk]:
        context, procedure = execution.context, self.procedure
        places = {name: place for place, name in enumerate(procedure.columns)}
        for chunk in self.input.stream(execution):
            columns = [boxed(a.evaluate(chunk, context)) for a in self.arguments]
            for number in range(chunk.length):
                execution.budget.check()
                values = tuple(column[number] for column in columns)
                found = list(procedure.run(context.root, values))
                row = chunk.slice(number, number + 1)
                if not procedure.columns:
                    yield row
                elif found:
                    right = {
                        variable: tighten([r[places[name]] for r in found])
                        for name, variable in self.yields
                    }
                    yield from cross(row, Chunk(right, len(found)), execution.chunk_rows)
